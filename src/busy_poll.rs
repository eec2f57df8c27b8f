/// The parameters of busy polling: [`Poll::set_busy_poll`](crate::Poll::set_busy_poll).
///
/// The default is that of a new [`Poll`](crate::Poll): the kernel decides, by its setting `net.core.busy_poll`.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct BusyPoll {
    /// The longest time, in microseconds, for which a wait polls the receive queue of the network card before it blocks. With 0
    /// the kernel uses its setting `net.core.busy_poll`, which is 0 unless an administrator changes it.
    pub microseconds: u32,
    /// The greatest number of packets that the kernel takes from the queue at once. Above 64 the process needs the capability
    /// `CAP_NET_ADMIN`. The kernel replaces 0 by 8.
    pub budget: u16,
    /// The kernel defers the interrupts of the queue while the program polls often enough.
    pub prefer: bool,
}
