use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::busy_poll::BusyPoll;
use crate::event::Events;
use crate::poll_shared::PollShared;
use crate::registry::Registry;
use crate::sys::selector::{self, Selector};
use crate::user_events::UserEvents;

/// A queue of events, and the wait for them.
///
/// One thread polls. Any thread registers sources through the [`Registry`], also while the polling thread is blocked.
///
/// A registration is edge-triggered, unless its [`Interest`](crate::Interest) has another trigger mode. An event is reported
/// when readiness begins, and again when more data or space arrives. After an event, operate until `ErrorKind::WouldBlock`:
/// then the next event is guaranteed. Readiness that exists at registration is reported.
///
/// # Examples
///
/// A server that sends a greeting to each client:
///
/// ```
/// # #[cfg(feature = "net")] {
/// use std::io::{self, Read, Write};
///
/// use kevio::net::TcpListener;
/// use kevio::{Events, Interest, Poll, Token};
///
/// const LISTENER: Token = Token(0);
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(128);
/// let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
/// poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
///
/// let client = std::net::TcpStream::connect(listener.local_addr()?)?;
/// 'serve: loop {
///     poll.poll(&mut events, None)?;
///     for event in &events {
///         assert_eq!(event.token(), LISTENER);
///         loop {
///             match listener.accept() {
///                 Ok((mut stream, _address)) => {
///                     stream.write_all(b"hello")?;
///                     break 'serve;
///                 }
///                 Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
///                 Err(error) => return Err(error),
///             }
///         }
///     }
/// }
/// let mut greeting = String::new();
/// (&client).read_to_string(&mut greeting)?;
/// assert_eq!(greeting, "hello");
/// # }
/// # std::io::Result::Ok(())
/// ```
pub struct Poll {
    registry: Registry,
    user_events: UserEvents,
}

impl Poll {
    /// Creates a poll without registrations. Its descriptors are close-on-exec.
    ///
    /// # Errors
    ///
    /// * Errors of kqueue(2), epoll_create1(2), or eventfd(2) and pipe(2): too many descriptors, or no memory.
    /// * On Windows, a sandbox may refuse the driver of sockets (`\Device\Afd`).
    /// * `Unsupported`: the system is a Windows before Windows 10 and Windows Server 2016.
    pub fn new() -> io::Result<Poll> {
        Ok(Poll { registry: Registry::new(PollShared::new()?), user_events: UserEvents::default() })
    }

    /// Returns the registry, which registers sources.
    #[must_use]
    #[inline]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Sets the time for which a poll repeats waits of zero before it blocks. Zero, the default, blocks at once.
    ///
    /// A thread that blocks gives up its processor, and the kernel must wake the thread when an event comes. A poll that spins
    /// finds the event in the time of one system call. The price is a processor that is busy for up to `duration` in each poll.
    /// Choose a duration of a few times the expected distance between events, and spin only if the thread has a processor of its
    /// own: on one processor the spin delays the thread that makes the event. On Linux, with two processors, a UDP round trip
    /// took 9 µs instead of 53 µs at the median, and kept both processors busy. `benches/README.md` has the measurements.
    ///
    /// * A poll does not spin beyond its timeout, and a poll with a timeout of zero does not spin.
    /// * A wake during the spin makes no system call, unless other code has the descriptor of the poll.
    /// * A signal that arrives during the spin does not end the poll with `Interrupted`. A handler that must end the poll wakes a
    ///   [`Waker`](crate::Waker).
    /// * [`poll_until`](Poll::poll_until) spins again after a signal has interrupted its wait.
    ///
    /// See [poll(2)](https://man7.org/linux/man-pages/man2/poll.2.html) for waits with a timeout of zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use kevio::{Events, Poll, Token, Waker};
    ///
    /// let mut poll = Poll::new()?;
    /// poll.set_spin(Duration::from_micros(50));
    /// let waker = Waker::new(poll.registry(), Token(1))?;
    /// let mut events = Events::with_capacity(8);
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| waker.wake().unwrap());
    ///     poll.poll(&mut events, None)
    /// })?;
    /// assert_eq!(events.iter().next().unwrap().token(), Token(1));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_spin(&mut self, duration: Duration) {
        self.user_events.set_spin(duration);
    }

    /// Sets the time by which timers may be late, so that one poll reports several. Zero by default.
    ///
    /// No poll reports a timer before the earliest deadline and `slack` have passed. Then a poll reports every timer whose
    /// deadline has passed. Timers that lie within the slack of each other are therefore reported together, with one wakeup of
    /// the thread. Timers that did not fit into the buffer are left for the next poll, without the slack.
    ///
    /// Each wait costs CPU time, and a short one nearly as much as a long one. On Linux, 50 timers of 20 µs to 1 ms took 651 ms
    /// of CPU time a second, and 30 ms with a slack of a millisecond.
    ///
    /// In a forked child the function does nothing ([forks](crate::guide::forks)).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use kevio::{Events, Interest, Poll, Timer, Token};
    ///
    /// let mut poll = Poll::new()?;
    /// poll.set_timer_slack(Duration::from_millis(2));
    /// let mut timers = [1000, 1500, 2000].map(|micros| Timer::after(Duration::from_micros(micros)).unwrap());
    /// for (token, timer) in timers.iter_mut().enumerate() {
    ///     poll.registry().register(timer, Token(token), Interest::READABLE)?;
    /// }
    /// let mut events = Events::with_capacity(8);
    /// poll.poll(&mut events, None)?;
    /// assert_eq!(events.iter().count(), 3);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_timer_slack(&mut self, slack: Duration) {
        let shared = self.registry.shared();
        // In a forked child a thread of the parent may hold the lock, and the alarm belongs to the parent.
        if shared.is_of_this_process() {
            shared.timers().set_slack(slack, &**shared);
        }
    }

    /// Sets the parameters of busy polling of the network card: a wait that would block first polls the receive queue of the card
    /// from which the last reported socket has received, so that packets can arrive without an interrupt.
    ///
    /// Busy polling has an effect only if the driver of the card supports it. Loopback connections do not. A wait with a timeout
    /// of zero does not poll the card, so that [`set_spin`](Poll::set_spin) delays busy polling: use one of the two. See
    /// [ioctl_eventpoll(2)](https://man7.org/linux/man-pages/man2/ioctl_eventpoll.2.html) and
    /// [NAPI](https://docs.kernel.org/networking/napi.html) for the settings of the card.
    ///
    /// # Errors
    ///
    /// * `Unsupported`: the system is not Linux, Linux is older than 6.9 or was built without `CONFIG_NET_RX_BUSY_POLL`, or the
    ///   backend is not epoll.
    /// * `InvalidInput`: `microseconds` is above `i32::MAX`.
    /// * `PermissionDenied`: `budget` is above 64, and the process lacks `CAP_NET_ADMIN`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::ErrorKind;
    ///
    /// use kevio::{BusyPoll, Poll};
    ///
    /// let poll = Poll::new()?;
    /// let parameters = BusyPoll { microseconds: 64, budget: 16, prefer: true };
    /// match poll.set_busy_poll(parameters) {
    ///     Ok(()) => assert_eq!(poll.busy_poll()?, parameters),
    ///     Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
    /// }
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_busy_poll(&self, parameters: BusyPoll) -> io::Result<()> {
        let shared = self.registry.shared();
        shared.check_process()?;
        shared.selector().set_busy_poll(parameters)
    }

    /// Returns the parameters of busy polling.
    ///
    /// # Errors
    ///
    /// `Unsupported`, as [`set_busy_poll`](Poll::set_busy_poll).
    pub fn busy_poll(&self) -> io::Result<BusyPoll> {
        let shared = self.registry.shared();
        shared.check_process()?;
        shared.selector().busy_poll()
    }

    /// Waits until there are events, or until `timeout` has passed, and replaces the events in the buffer.
    ///
    /// `None` waits without limit, and `Some(Duration::ZERO)` does not wait. Every `Duration` is valid. A timeout is rounded
    /// up to the resolution of the kernel, which is nanoseconds on most systems. If the timeout passes, the buffer is empty,
    /// and the result is `Ok`.
    ///
    /// Events that do not fit into the buffer are left for the next poll. Descriptors, wakers and timers take turns then.
    ///
    /// # Errors
    ///
    /// * `Interrupted`, except on Windows: a signal with a handler arrived (on Linux also `SIGCONT`). Rarely also without a
    ///   signal: during a wait with a timeout, another thread woke a waker and dropped it, set the first timer, or registered the
    ///   first watch. Poll again.
    /// * `Unsupported`: the caller is a forked child ([forks](crate::guide::forks)).
    /// * `EBADF` or another error of the kernel: other code has closed the descriptor of the poll or its wake-up descriptor, also
    ///   if another file has the number since. poll(2) detects such a file only if the file has an inode of its own, and detects
    ///   nothing in a poll with a timeout of zero that needs no wake-up descriptor. epoll does
    ///   not detect that other code has closed the timerfd of the poll. Then timers may never be reported.
    /// * Other errors of the kernel, of which one is known: poll(2) of Linux fails with `EINVAL` while the limit of descriptors
    ///   (`RLIMIT_NOFILE`) is below the number of registrations. poll(2) of FreeBSD has no such error.
    #[inline(always)] // Measured: a return after a system call is expensive. See `epoll_ctl` in sys/unix/epoll.
    pub fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let shared = &**self.registry.shared();
        if let Err(error) = shared.check_process() {
            events.clear();
            return Err(error);
        }
        let is_long = timeout.is_some_and(|timeout| timeout > selector::MAX_WAIT);
        if !shared.wake_state().is_quiet() || is_long || self.user_events.spins(timeout) {
            return self.user_events.poll(shared, events.records(), timeout);
        }
        let records = events.records();
        let result = shared.selector().select(records, records.capacity(), timeout);
        if shared.wake_state().is_quiet() {
            return result;
        }
        self.user_events.finish_poll(shared, records, timeout, result)
    }

    /// Waits until there are events, or until `deadline`, and replaces the events in the buffer.
    ///
    /// If a signal interrupts the wait, the function waits again for the remaining time. Without events, the function does not
    /// return before the deadline. The clock of the kernel and the load of the machine decide how long after the deadline it
    /// returns. If the deadline is in the past, the function reports existing readiness and returns at once. `None` waits
    /// without limit.
    ///
    /// # Errors
    ///
    /// * `Unsupported`: the caller is a forked child ([forks](crate::guide::forks)).
    /// * The other errors of [`poll`](Poll::poll), except `Interrupted`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    ///
    /// use kevio::{Events, Poll};
    ///
    /// let mut poll = Poll::new()?;
    /// let mut events = Events::with_capacity(8);
    /// let deadline = Instant::now() + Duration::from_micros(200);
    /// poll.poll_until(&mut events, Some(deadline))?;
    /// assert!(events.is_empty() && Instant::now() >= deadline);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn poll_until(&mut self, events: &mut Events, deadline: Option<Instant>) -> io::Result<()> {
        let time_until = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        loop {
            match self.poll(events, deadline.map(time_until)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(()) if events.is_empty() && deadline.map_or(true, |deadline| !time_until(deadline).is_zero()) => {}
                result => return result,
            }
        }
    }
}

impl Drop for Poll {
    fn drop(&mut self) {
        let shared = self.registry.shared();
        // In a forked child, a thread of the parent may have been about to change the list of the woken wakers during the fork.
        if shared.is_of_this_process() {
            shared.wake_state().close();
        }
    }
}

/// Writes the same as for the [`Registry`] of the poll.
impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.registry.shared().debug("Poll", f)
    }
}

/// The descriptor of the kernel's queue, as [`Registry`] returns it: readable while there are events, also of wakers and timers.
#[cfg(selector_has_fd)]
impl std::os::fd::AsRawFd for Poll {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.registry.as_raw_fd()
    }
}

#[cfg(all(test, feature = "net"))]
mod tests {
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;

    use super::*;
    use crate::interest::Interest;
    use crate::token::Token;
    use crate::waker::Waker;

    /// While a waker is woken, and the kernel may hold memory for the stream. On Windows, the drop of the port fails if the kernel
    /// does not return it.
    #[test]
    fn poll_registry_waker_and_source_are_dropped_in_every_order() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let orders = (0..256).map(|n| [n & 3, n >> 2 & 3, n >> 4 & 3, n >> 6]);
        for order in orders.filter(|order| (0..4).all(|value| order.contains(&value))) {
            let mut poll = Poll::new().unwrap();
            let waker = Waker::new(poll.registry(), Token(1)).unwrap();
            let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let _theirs = listener.accept().unwrap();
            ours.set_nonblocking(true).unwrap();
            let mut stream = crate::net::TcpStream::from_std(ours);
            let registry = poll.registry().try_clone().unwrap();
            registry.register(&mut stream, Token(2), Interest::READABLE).unwrap();
            let mut events = Events::with_capacity(1);
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
            assert!(events.is_empty());
            waker.wake().unwrap();
            let shared = Arc::downgrade(registry.shared());
            let (mut poll, mut registry, mut waker, mut stream) =
                (Some(poll), Some(registry), Some(waker), Some(stream));
            for value in order {
                match value {
                    0 => drop(poll.take()),
                    1 => drop(registry.take()),
                    2 => drop(waker.take()),
                    _ => drop(stream.take()),
                }
            }
            assert!(shared.upgrade().is_none(), "{order:?}: the state of the poll was not freed");
        }
    }
}
