use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::batch::{Batch, Entry};
use crate::event::{Events, Source};
use crate::sys::timer::Deadlines;
use crate::sys::{self, queue_has_descriptor, Change, Engine, Operation, Origin};
use crate::waker::Wakers;
use crate::watched::Filters;
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
        let selector = sys::Selector::new()?;
        let shared = Arc::new(Shared {
            id: live::number(),
            pid: std::process::id(),
            selector,
            wakers: Wakers::default(),
            deadlines: Deadlines::default(),
            filters: Filters::default(),
        });
        live::enter(&shared);
        Ok(Poll { registry: Registry { shared, batch: None } })
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
    /// `ErrorKind::Interrupted` if a signal came that has a handler (on Linux also `SIGCONT`); poll again. Others are
    /// the kernel's, and none is known to occur.
    #[inline]
    pub fn poll(&mut self, events: &mut Events, timeout: Option<Duration>) -> io::Result<()> {
        let shared = &*self.registry.shared;
        let mut left = timeout;
        loop {
            let step = shared.deadlines.limit(left.map(|left| left.min(sys::LONGEST_WAIT)));
            let result = shared.selector.select(events.records(), step);
            shared.wakers.rest();
            shared.deadlines.rest();
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
    /// The kernel's, of which none is known to occur; never `ErrorKind::Interrupted`.
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
struct Collected {
    /// What was put off; nothing where each change is a call of its own.
    changes: Mutex<Vec<Change>>,
    /// How many registrations, put off or not, were no error.
    registered: AtomicUsize,
}

impl Collected {
    fn changes(&self) -> MutexGuard<'_, Vec<Change>> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many were put off.
    fn len(&self) -> usize {
        if DEFERS {
            self.changes().len()
        } else {
            0
        }
    }

    #[inline]
    fn count(&self) {
        self.registered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Whether a batch is more than its changes one by one.
const DEFERS: bool = <sys::Selector as Engine>::DEFERS;

/// The registry that entries of a batch are given. If one of them panics, those before it have been told that their
/// changes are made, and so they are.
struct Collecting(Registry);

impl Collecting {
    fn collected(&self) -> &Collected {
        self.0.batch.as_ref().expect("a registry that collects a batch")
    }

    fn begin(&self, entry: &mut Entry<'_>) -> io::Result<()> {
        let collected = self.collected();
        let (start, registered) = (collected.len(), collected.registered.load(Ordering::Relaxed));
        let result = entry.begin(&self.0);
        if result.is_err() && collected.registered.load(Ordering::Relaxed) > registered {
            // A part of it was registered, and does not stay so.
            entry.undo(&self.0);
            collected.changes().truncate(start);
        }
        result
    }

    fn apply(&self) -> (Vec<Change>, Vec<io::Result<()>>) {
        let changes = std::mem::take(&mut *self.collected().changes());
        let outcomes = self.0.selector().apply(&changes);
        (changes, outcomes)
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.apply();
    }
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

    /// Makes all the changes of a batch, in their order, and returns the result of each.
    ///
    /// On kqueue they are one kevent(2) call for each 512 of them (and one fstat(2) for each bare descriptor); elsewhere
    /// as many calls as changes. An entry that fails stops no other, and leaves nothing of itself registered. Nothing is
    /// put off beyond the return. An empty batch makes no call.
    ///
    /// Sources are asked one after the other, with a registry of their own, and must not use a clone of it. One that looks
    /// at what the registry answers may be asked a second time, after the others.
    ///
    /// # Errors
    ///
    /// In the results: for each entry those of [`register`](Registry::register), [`reregister`](Registry::reregister)
    /// or [`deregister`](Registry::deregister).
    ///
    /// # Examples
    ///
    /// See [`Batch`].
    pub fn submit(&self, batch: Batch<'_>) -> Vec<io::Result<()>> {
        let mut entries = batch.into_entries();
        let collecting = Collecting(Registry { shared: Arc::clone(&self.shared), batch: Some(Collected::default()) });
        let mut ends = Vec::with_capacity(entries.len());
        let mut results = Vec::with_capacity(entries.len());
        for entry in &mut entries {
            results.push(collecting.begin(entry));
            ends.push(collecting.collected().len());
        }
        let (changes, mut outcomes) = collecting.apply();
        let mut start = 0;
        for ((entry, result), end) in entries.iter_mut().zip(&mut results).zip(ends) {
            // A source may be several descriptors.
            let (own, of) = (&changes[start..end], &mut outcomes[start..end]);
            start = end;
            if let Some(failed) = of.iter().position(Result::is_err) {
                self.take_back(own, of);
                let error = std::mem::replace(&mut of[failed], Ok(())).unwrap_err();
                *result = entry.again(self, error);
            }
        }
        results
    }

    /// Ends what was registered, of changes that have not all succeeded.
    fn take_back(&self, changes: &[Change], outcomes: &[io::Result<()>]) {
        for (change, outcome) in changes.iter().zip(outcomes) {
            if change.operation == Operation::Register && outcome.is_ok() {
                let _ = self.selector().deregister(change.fd, change.origin);
            }
        }
    }

    #[inline]
    pub(crate) fn add(&self, fd: RawFd, token: Token, interest: Interest, origin: Origin) -> io::Result<Tie> {
        if DEFERS && self.batch.is_some() {
            return self.defer(Change { operation: Operation::Register, fd, token, interest, origin });
        }
        let tie = self.selector().register(fd, token, interest, origin)?;
        self.batch.as_ref().map(Collected::count);
        Ok(tie)
    }

    #[inline]
    pub(crate) fn change(&self, fd: RawFd, token: Token, interest: Interest, origin: Origin) -> io::Result<()> {
        if DEFERS && self.batch.is_some() {
            return self.defer(Change { operation: Operation::Reregister, fd, token, interest, origin }).map(drop);
        }
        self.selector().reregister(fd, token, interest, origin)
    }

    #[inline]
    pub(crate) fn remove(&self, fd: RawFd, origin: Origin) -> io::Result<()> {
        if DEFERS && self.batch.is_some() {
            return self.defer(Change::deregister(fd, origin)).map(drop);
        }
        self.selector().deregister(fd, origin)
    }

    #[cold]
    fn defer(&self, change: Change) -> io::Result<Tie> {
        let collected = self.batch.as_ref().expect("a registry that collects a batch");
        let tie = self.selector().defer(&mut collected.changes(), change)?;
        if change.operation == Operation::Register {
            collected.count();
        }
        Ok(tie)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    #[inline]
    pub(crate) fn selector(&self) -> &sys::Selector {
        &self.shared.selector
    }

    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.shared.id
    }

    /// Whether `poll` is this one; false if it is none, or one that is no more.
    #[inline]
    pub(crate) fn knows(&self, poll: u32) -> io::Result<bool> {
        match poll {
            live::NONE => Ok(false),
            _ if poll == self.id() => Ok(true),
            _ => self.is_live(poll),
        }
    }

    #[cold]
    fn is_live(&self, poll: u32) -> io::Result<bool> {
        if !live::contains(poll) {
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
    /// Who made the poll: what a forked child drops is not its own.
    pid: u32,
    selector: sys::Selector,
    wakers: Wakers,
    deadlines: Deadlines,
    filters: Filters,
}

impl Shared {
    #[inline]
    pub(crate) fn selector(&self) -> &sys::Selector {
        &self.selector
    }

    #[inline]
    pub(crate) fn wakers(&self) -> &Wakers {
        &self.wakers
    }

    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    pub(crate) fn filters(&self) -> &Filters {
        &self.filters
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        live::leave(self.id);
    }
}

/// What a source that is not at hand of a registry has to do with the poll with the number `poll`: nothing if that no longer
/// exists, or another process made it.
pub(crate) fn with<T>(poll: u32, f: impl FnOnce(&Shared) -> T) -> Option<T> {
    let pid = std::process::id();
    // In a forked child another thread of the parent may have left the list locked.
    if poll == live::NONE || !live::was_made_by(pid) {
        return None;
    }
    live::find(poll).filter(|shared| shared.pid == pid).map(|shared| f(&shared))
}

/// What dropping its source does not close leaves the poll with the number `poll`.
pub(crate) fn forget(poll: u32, fd: RawFd, origin: Origin) {
    // It may be closed already.
    with(poll, |shared| drop(shared.selector.deregister(fd, origin)));
}

/// The polls that exist, by number: a source that outlived its poll can be registered with another. Only asked when a
/// source is registered that was registered before, when one is dropped whose descriptor lives on, and when a timer is
/// set again.
mod live {
    use super::*;

    pub(super) const NONE: u32 = 0;

    static NEXT: AtomicU32 = AtomicU32::new(1);
    static LIVE: Mutex<BTreeMap<u32, Weak<Shared>>> = Mutex::new(BTreeMap::new());
    /// Who has made the last.
    static PID: AtomicU32 = AtomicU32::new(0);

    fn with<T>(f: impl FnOnce(&mut BTreeMap<u32, Weak<Shared>>) -> T) -> T {
        f(&mut LIVE.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn was_made_by(pid: u32) -> bool {
        PID.load(Ordering::Relaxed) == pid
    }

    /// Takes a number.
    pub(super) fn number() -> u32 {
        PID.store(std::process::id(), Ordering::Relaxed);
        loop {
            let id = NEXT.fetch_add(1, Ordering::Relaxed);
            // After four billion polls, numbers come round again.
            let take = |live: &mut BTreeMap<_, _>| !live.contains_key(&id) && live.insert(id, Weak::new()).is_none();
            if id != NONE && with(take) {
                return id;
            }
        }
    }

    pub(super) fn enter(shared: &Arc<Shared>) {
        with(|live| live.insert(shared.id, Arc::downgrade(shared)));
    }

    pub(super) fn contains(id: u32) -> bool {
        with(|live| live.contains_key(&id))
    }

    pub(super) fn find(id: u32) -> Option<Arc<Shared>> {
        with(|live| live.get(&id).and_then(Weak::upgrade))
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
