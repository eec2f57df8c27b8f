use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::event::{Events, Source};
use crate::shared::{self, Shared};
use crate::sys::timer::Deadlines;
use crate::sys::{self, queue_has_descriptor, Change, Engine, Operation, Origin};
use crate::{Interest, Token};

type Tie = <sys::Selector as Engine>::Tie;

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
        Ok(Poll { registry: Registry { shared: Shared::new()?, batch: None } })
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
        let shared = &*self.registry.shared;
        if let Err(error) = shared.check_process() {
            events.clear();
            return Err(error);
        }
        if KEEPS_DEADLINES || timeout.is_some_and(|timeout| timeout > sys::LONGEST_WAIT) {
            return self.poll_in_steps(events, timeout);
        }
        let result = shared.selector().select(events.records(), timeout);
        shared.wakers().rest();
        result
    }

    /// Polls where one wait of the kernel may not be the whole wait.
    #[cold]
    fn poll_in_steps(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let shared = &*self.registry.shared;
        let mut left = timeout;
        loop {
            let step = shared.deadlines().limit(left.map(|left| left.min(sys::LONGEST_WAIT)));
            let result = shared.selector().select(events.records(), step);
            shared.wakers().rest();
            shared.deadlines().rest();
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

/// Tells the log, if somebody listens.
#[inline]
fn trace(what: &str, of: Option<(Token, Interest)>) {
    #[cfg(feature = "log")]
    {
        #[cold]
        fn tell(what: &str, of: Option<(Token, Interest)>) {
            match of {
                Some((token, interests)) => log::trace!("{what}: {token:?} for {interests:?}"),
                None => log::trace!("{what}"),
            }
        }
        if log::LevelFilter::Trace <= log::STATIC_MAX_LEVEL && log::LevelFilter::Trace <= log::max_level() {
            tell(what, of);
        }
    }
    let _ = (what, of);
}

/// Registers sources with a [`Poll`].
///
/// Any thread may use it, also while another polls; what it does takes effect at once, in the wait under way too. One
/// source should be changed by one thread at a time; its methods take `&mut` for that.
pub struct Registry {
    shared: Arc<Shared>,
    /// Where changes are put off to, while a batch is collected.
    batch: Option<Collected>,
}

/// What the entries of a batch have asked for.
#[derive(Default)]
pub(crate) struct Collected {
    /// Whether changes are queued; else each is made at once, and counted.
    queues: bool,
    changes: Mutex<Vec<Change>>,
    /// The length of `changes`, readable without the lock, because each entry of a batch reads it.
    len: AtomicUsize,
    registered: AtomicUsize,
}

impl Collected {
    fn with_changes<T>(&self, f: impl FnOnce(&mut Vec<Change>) -> T) -> T {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let result = f(&mut changes);
        self.len.store(changes.len(), Ordering::Relaxed);
        result
    }

    /// The number of queued changes.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Drops the queued changes from the number `len` on.
    pub(crate) fn truncate(&self, len: usize) {
        self.with_changes(|changes| changes.truncate(len));
    }

    /// Returns the queued changes, and leaves none.
    pub(crate) fn take(&self) -> Vec<Change> {
        self.with_changes(std::mem::take)
    }

    /// How many registrations, put off or not, were no error.
    pub(crate) fn registered(&self) -> usize {
        self.registered.load(Ordering::Relaxed)
    }

    #[inline]
    fn count(&self) {
        self.registered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether the wait itself makes timers readable when their time has come.
const KEEPS_DEADLINES: bool = !<sys::Selector as Engine>::FILTERS && Deadlines::LIMIT_WAITS;

/// Whether a batch is more than its changes one by one.
const DEFERS: bool = <sys::Selector as Engine>::DEFERS;

impl Registry {
    /// Starts to report the events of `source`, under `token`.
    ///
    /// A readiness that is there already is reported. The source must be kept: dropping it ends the registration.
    ///
    /// # Errors
    ///
    /// * `AlreadyExists`: it is registered, here or with another `Poll`.
    /// * `Unsupported`: the backend cannot wait for this interest; or a forked child calls it ([forks](crate#forks)).
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
    #[inline(always)] // Returning is dear: see `control` of epoll.
    pub fn register<S>(&self, source: &mut S, token: Token, interests: Interest) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        trace("register", Some((token, interests)));
        source.register(self, token, interests)
    }

    /// Replaces token and interests of a registered source, and reports again what is ready.
    ///
    /// # Errors
    ///
    /// `NotFound` if it is not registered, `AlreadyExists` if it is with another `Poll`; else as
    /// [`register`](Registry::register).
    #[inline(always)] // Returning is dear: see `control` of epoll.
    pub fn reregister<S>(&self, source: &mut S, token: Token, interests: Interest) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        trace("reregister", Some((token, interests)));
        source.reregister(self, token, interests)
    }

    /// Ends the registration. Once this has returned, no later poll reports its token; the events of the last poll may
    /// still hold it.
    ///
    /// # Errors
    ///
    /// * `NotFound`: it is not registered, or with another `Poll`.
    /// * `Unsupported`: a forked child calls it ([forks](crate#forks)).
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
    #[inline(always)] // Returning is dear: see `control` of epoll.
    pub fn deregister<S>(&self, source: &mut S) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        trace("deregister", None);
        source.deregister(self)
    }

    /// Another handle to the same `Poll`, for another thread.
    ///
    /// # Errors
    ///
    /// None; the signature is that of other pollers, which need a new descriptor.
    pub fn try_clone(&self) -> io::Result<Registry> {
        Ok(Registry { shared: Arc::clone(&self.shared), batch: None })
    }

    #[inline(always)] // Returning is dear: see `control` of epoll.
    pub(crate) fn add(&self, fd: RawFd, token: Token, interest: Interest, origin: Origin) -> io::Result<Tie> {
        self.check_process()?;
        if self.queues() {
            return self.defer(Change { operation: Operation::Register, fd, token, interest, origin });
        }
        let tie = self.selector().register(fd, token, interest, origin)?;
        self.batch.as_ref().map(Collected::count);
        Ok(tie)
    }

    #[inline(always)] // Returning is dear: see `control` of epoll.
    pub(crate) fn change(&self, fd: RawFd, token: Token, interest: Interest, origin: Origin) -> io::Result<()> {
        self.check_process()?;
        if self.queues() {
            return self.defer(Change { operation: Operation::Reregister, fd, token, interest, origin }).map(drop);
        }
        self.selector().reregister(fd, token, interest, origin)
    }

    /// The caller has checked the process, before it changed its own state.
    #[inline(always)] // Returning is dear: see `control` of epoll.
    pub(crate) fn remove(&self, fd: RawFd, origin: Origin) -> io::Result<()> {
        if self.queues() {
            return self.defer(Change::deregister(fd, origin)).map(drop);
        }
        self.selector().deregister(fd, origin)
    }

    #[cold]
    fn defer(&self, change: Change) -> io::Result<Tie> {
        let collected = self.collected();
        let tie = collected.with_changes(|changes| self.selector().defer(changes, change))?;
        if change.operation == Operation::Register {
            collected.count();
        }
        Ok(tie)
    }

    /// Whether changes are queued, for a batch.
    #[inline]
    fn queues(&self) -> bool {
        DEFERS && self.batch.as_ref().is_some_and(|batch| batch.queues)
    }

    /// A registry of the same `Poll` that queues changes, where several are cheaper together.
    pub(crate) fn collecting(&self) -> Registry {
        let batch = Collected { queues: true, ..Collected::default() };
        Registry { shared: Arc::clone(&self.shared), batch: Some(batch) }
    }

    /// A registry of the same `Poll` that makes each change at once, and counts registrations.
    pub(crate) fn counting(&self) -> Registry {
        Registry { shared: Arc::clone(&self.shared), batch: Some(Collected::default()) }
    }

    /// What was put off.
    pub(crate) fn collected(&self) -> &Collected {
        self.batch.as_ref().expect("a registry that collects a batch")
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// As [`Shared::check_process`].
    #[inline]
    pub(crate) fn check_process(&self) -> io::Result<()> {
        self.shared.check_process()
    }

    #[inline]
    pub(crate) fn selector(&self) -> &sys::Selector {
        self.shared.selector()
    }

    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.shared.id()
    }

    /// Whether `poll` is this one; false if it is none, or one that is no more.
    #[inline]
    pub(crate) fn knows(&self, poll: u32) -> io::Result<bool> {
        match poll {
            shared::NO_POLL => Ok(false),
            _ if poll == self.id() => Ok(true),
            _ => self.is_live(poll),
        }
    }

    #[cold]
    fn is_live(&self, poll: u32) -> io::Result<bool> {
        if !shared::is_live(poll) {
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

queue_has_descriptor! {
    /// The queue's own descriptor, which is readable when there are events.
    impl std::os::fd::AsFd for Registry {
        fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
            self.shared.selector().as_fd()
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
