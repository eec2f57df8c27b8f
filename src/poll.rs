use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use std::{fmt, io};

use crate::event::{Events, Source};
use crate::sys::{self, queue_has_descriptor, Engine};
use crate::waker::Wakers;
use crate::{Interest, Token};

/// Waits for events.
///
/// One thread polls. Sources are registered through the [`Registry`], by any thread, also while this one waits.
///
/// Registrations are edge-triggered: an event tells that a readiness began, and comes again when there is more of it.
/// After an event, operate until `ErrorKind::WouldBlock`; only then is the next one certain. Readiness that is there
/// at registration is reported.
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
        let selector = sys::Selector::new()?;
        let shared = Shared { id: live::enter(), selector, wakers: Wakers::default() };
        Ok(Poll { registry: Registry { shared: Arc::new(shared) } })
    }

    /// Through which sources are registered.
    #[must_use]
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
    /// `ErrorKind::Interrupted` if a signal came that has a handler (on Linux also `SIGCONT`); poll again. Others are
    /// the kernel's, and none is known to occur.
    pub fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let shared = &*self.registry.shared;
        let mut left = timeout;
        loop {
            let step = left.map(|left| left.min(sys::LONGEST_WAIT));
            let result = shared.selector.select(events.records(), step);
            shared.wakers.rest();
            result?;
            if !events.is_empty() || left == step {
                return Ok(());
            }
            // A whole step has passed without events.
            left = left.zip(step).map(|(left, step)| left - step);
        }
    }
}

impl fmt::Debug for Poll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poll").finish()
    }
}

/// Registers sources with a [`Poll`].
///
/// Any thread may use it, also while another polls; what it does takes effect at once.
pub struct Registry {
    shared: Arc<Shared>,
}

impl Registry {
    /// Starts to report the events of `source`, under `token`.
    ///
    /// A readiness that is there already is reported. The source must be kept: dropping it ends the registration.
    ///
    /// # Errors
    ///
    /// * `AlreadyExists`: it is registered, here or with another `Poll`.
    /// * `Unsupported`: the backend cannot wait for this interest.
    /// * `PermissionDenied` (`EPERM`): a regular file or a directory, which is always ready.
    /// * The kernel's: a closed descriptor is `EBADF`, the poll's own `EINVAL`.
    ///
    /// After an error nothing is registered.
    ///
    /// # Platform notes
    ///
    /// kqueue replaces the registration of a bare [`SourceFd`](crate::unix::SourceFd) that is registered twice, where
    /// the others say `AlreadyExists`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "net")] {
    /// use kevio::net::UdpSocket;
    /// use kevio::{Interest, Poll, Token};
    ///
    /// let poll = Poll::new()?;
    /// let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
    /// poll.registry().register(&mut socket, Token(0), Interest::READABLE | Interest::WRITABLE)?;
    ///
    /// let again = poll.registry().register(&mut socket, Token(0), Interest::READABLE);
    /// assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
    /// # }
    /// # std::io::Result::Ok(())
    /// ```
    pub fn register<S>(&self, source: &mut S, token: Token, interests: Interest) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        trace!("register: {token:?} for {interests:?}");
        source.register(self, token, interests)
    }

    /// Replaces token and interests of a registered source, and reports again what is ready.
    ///
    /// # Errors
    ///
    /// `NotFound` if it is not registered, `AlreadyExists` if it is with another `Poll`; else as
    /// [`register`](Registry::register).
    pub fn reregister<S>(&self, source: &mut S, token: Token, interests: Interest) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        trace!("reregister: {token:?} for {interests:?}");
        source.reregister(self, token, interests)
    }

    /// Ends the registration. Once this has returned, no later poll reports its token; the events of the last poll may
    /// still hold it.
    ///
    /// # Errors
    ///
    /// `NotFound` if it is not registered, or with another `Poll`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "net")] {
    /// use kevio::net::UdpSocket;
    /// use kevio::{Interest, Poll, Token};
    ///
    /// let poll = Poll::new()?;
    /// let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
    /// let registry = poll.registry();
    /// registry.register(&mut socket, Token(0), Interest::READABLE)?;
    /// registry.reregister(&mut socket, Token(1), Interest::READABLE | Interest::WRITABLE)?;
    /// registry.deregister(&mut socket)?;
    /// assert_eq!(registry.deregister(&mut socket).unwrap_err().kind(), std::io::ErrorKind::NotFound);
    /// # }
    /// # std::io::Result::Ok(())
    /// ```
    pub fn deregister<S>(&self, source: &mut S) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        trace!("deregister");
        source.deregister(self)
    }

    /// Another handle to the same `Poll`, for another thread.
    ///
    /// # Errors
    ///
    /// None; the signature is that of other pollers, which need a new descriptor.
    pub fn try_clone(&self) -> io::Result<Registry> {
        Ok(Registry { shared: Arc::clone(&self.shared) })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn selector(&self) -> &sys::Selector {
        &self.shared.selector
    }

    pub(crate) fn id(&self) -> u32 {
        self.shared.id
    }

    /// Whether `poll` is this one; false if it is none, or one that is no more.
    pub(crate) fn knows(&self, poll: u32) -> io::Result<bool> {
        if poll == self.id() {
            return Ok(true);
        }
        if poll == live::NONE || !live::contains(poll) {
            return Ok(false);
        }
        Err(io::Error::new(io::ErrorKind::AlreadyExists, "I/O source already registered with a different `Registry`"))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish()
    }
}

/// What a `Poll`, its registries and its wakers have in common.
pub(crate) struct Shared {
    id: u32,
    selector: sys::Selector,
    wakers: Wakers,
}

impl Shared {
    pub(crate) fn selector(&self) -> &sys::Selector {
        &self.selector
    }

    pub(crate) fn wakers(&self) -> &Wakers {
        &self.wakers
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        live::leave(self.id);
    }
}

/// The polls that exist, by number: a source that outlived its poll can be registered with another. Only asked when a
/// source is registered that was registered before.
mod live {
    use super::*;

    pub(super) const NONE: u32 = 0;

    static NEXT: AtomicU32 = AtomicU32::new(1);
    static LIVE: Mutex<BTreeSet<u32>> = Mutex::new(BTreeSet::new());

    fn with<T>(f: impl FnOnce(&mut BTreeSet<u32>) -> T) -> T {
        f(&mut LIVE.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn enter() -> u32 {
        loop {
            let id = NEXT.fetch_add(1, Ordering::Relaxed);
            // After four billion polls, numbers come round again.
            if id != NONE && with(|live| live.insert(id)) {
                return id;
            }
        }
    }

    pub(super) fn contains(id: u32) -> bool {
        with(|live| live.contains(&id))
    }

    pub(super) fn leave(id: u32) {
        with(|live| live.remove(&id));
    }
}

queue_has_descriptor! {
    /// The queue's own descriptor, which is readable when there are events.
    impl std::os::fd::AsFd for Registry {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.shared.selector.as_fd()
        }
    }
}

queue_has_descriptor! {
    /// The queue's own descriptor, which is readable when there are events.
    impl std::os::fd::AsRawFd for Registry {
        fn as_raw_fd(&self) -> std::os::fd::RawFd {
            std::os::fd::AsFd::as_fd(self).as_raw_fd()
        }
    }
}

queue_has_descriptor! {
    /// The queue's own descriptor, which is readable when there are events.
    impl std::os::fd::AsRawFd for Poll {
        fn as_raw_fd(&self) -> std::os::fd::RawFd {
            self.registry.as_raw_fd()
        }
    }
}
