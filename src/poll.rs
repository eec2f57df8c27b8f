use crate::sys::selector;
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::event::Events;
use crate::poll_shared::PollShared;
use crate::registry::Registry;
use crate::sys;
use crate::sys::selector::Selector;
use crate::sys::timer::TimerQueue;

/// Waits for events.
///
/// One thread polls. Sources are registered through the [`Registry`], by any thread, also while this one waits.
///
/// Registrations are edge-triggered unless their [`Interest`] says otherwise: an event tells that a readiness began, and
/// comes again when there is more of it. After an event, operate until `ErrorKind::WouldBlock`; only then is the next one
/// certain. Readiness that is there at registration is reported.
///
/// # Examples
///
/// A server that greets whoever connects:
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
}

impl Poll {
    /// A poll with nothing registered. Its descriptors are close-on-exec.
    ///
    /// # Errors
    ///
    /// Those of kqueue(2), epoll_create1(2), or eventfd(2) and pipe(2): too many descriptors, or no memory.
    pub fn new() -> io::Result<Poll> {
        Ok(Poll { registry: Registry::new(PollShared::new()?) })
    }

    /// Through which sources are registered.
    #[must_use]
    #[inline]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Waits until there are events or `timeout` is over, and puts the events in place of the old ones.
    ///
    /// `None` waits for ever, `Some(Duration::ZERO)` not at all. Timeouts count nanoseconds as far as the kernel does
    /// and are rounded up; any `Duration` is legal. When the time is over there are no events and that is no error.
    ///
    /// # Errors
    ///
    /// * `ErrorKind::Interrupted` if a signal came that has a handler (on Linux also `SIGCONT`); poll again.
    /// * `Unsupported`: a forked child calls it ([forks](crate#forks)).
    /// * Others are the kernel's. One is known: poll(2) of Linux fails with `EINVAL` while the limit of descriptors
    ///   (`RLIMIT_NOFILE`) is below the number of registrations. FreeBSD does not.
    #[inline]
    pub fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let shared = &**self.registry.shared();
        if let Err(error) = shared.check_process() {
            events.clear();
            return Err(error);
        }
        if WAITS_KEEP_TIMERS || timeout.is_some_and(|timeout| timeout > selector::MAX_WAIT) {
            return self.poll_in_steps(events, timeout);
        }
        let result = shared.selector().select(events.records(), timeout);
        shared.wake_flags().clear();
        result
    }

    /// Polls where one wait of the kernel may not be the whole wait.
    #[cold]
    fn poll_in_steps(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let shared = &**self.registry.shared();
        let mut left = timeout;
        loop {
            let step = shared.timer_queue().begin_wait(left.map(|left| left.min(selector::MAX_WAIT)));
            let result = shared.selector().select(events.records(), step);
            shared.wake_flags().clear();
            shared.timer_queue().end_wait();
            result?;
            if !events.is_empty() || left == step {
                return Ok(());
            }
            // A whole step has passed without events.
            left = left.map(|left| left - step.unwrap_or(left));
        }
    }

    /// Waits until there are events or `deadline` has come, and puts the events in place of the old ones.
    ///
    /// As [`poll`](Poll::poll), but signals do not end it: it waits on, for what is left of the time. It does not
    /// return without events before the deadline, nor later than the kernel's clock and the machine's load make it.
    /// A deadline in the past looks once and returns at once; `None` waits for ever.
    ///
    /// # Errors
    ///
    /// * `Unsupported`: a forked child calls it ([forks](crate#forks)).
    /// * The kernel's, of which none is known to occur; never `ErrorKind::Interrupted`.
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
        let left = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
        loop {
            match self.poll(events, deadline.map(left)) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(()) if events.is_empty() && deadline.map_or(true, |deadline| !left(deadline).is_zero()) => {}
                result => return result,
            }
        }
    }
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poll").finish()
    }
}

/// Whether the wait itself makes timers readable when their time has come.
const WAITS_KEEP_TIMERS: bool = !<sys::ActiveSelector as Selector>::HAS_FILTERS && TimerQueue::LIMIT_WAITS;

/// The queue's own descriptor, which is readable when there are events.
#[cfg(selector_has_fd)]
impl std::os::fd::AsRawFd for Poll {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.registry.as_raw_fd()
    }
}
