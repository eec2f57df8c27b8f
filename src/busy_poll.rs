/// The parameters of busy polling: [`Poll::set_busy_poll`](crate::Poll::set_busy_poll).
///
/// The default turns busy polling off.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct BusyPoll {
    /// The longest time, in microseconds, for which a wait looks at the receive queues of the network card before it blocks.
    pub microseconds: u32,
    /// The greatest number of packets that one look takes from a queue. Above 64 the process needs the capability
    /// `CAP_NET_ADMIN`. The kernel replaces 0 by 8.
    pub budget: u16,
    /// The kernel leaves the interrupts of the queue off while the program polls often enough.
    pub prefer: bool,
}
