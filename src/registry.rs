use std::sync::Arc;
use std::{fmt, io};

use crate::change_list::QueuedChanges;
use crate::interest::Interest;
use crate::poll_id::PollId;
use crate::poll_shared::{self, LivePoll, PollShared};
use crate::source::timer_queue::{Deadline, Mode, Slot};
use crate::sys;
use crate::sys::error;
use crate::sys::raw_source::RawSource;
use crate::sys::selector::{Change, Operation, Selector, SourceKind};
use crate::token::Token;

type Registration = <sys::ActiveSelector as Selector>::Registration;

/// A value that a program registers with a [`Registry`].
///
/// These types are sources: the types in [`net`](crate::net), in [`unix`][unix] and on Windows in [`windows`][windows],
/// [`Timer`](crate::Timer), [`Signals`](crate::Signals), [`Process`](crate::Process), [`Watch`](crate::Watch), and a `Box` of
/// any source. Another type that owns a descriptor implements the trait by delegation: to a source that is its field, to an
/// [`IoSource`][unix::IoSource], or to a [`SourceFd`][unix::SourceFd] (on Windows a [`SourceSocket`][windows::SourceSocket]).
///
/// Programs call the methods of [`Registry`]. The methods of this trait are for implementors.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "net")] {
/// use kevio::{event, net::UdpSocket, Interest, Registry, Token};
/// use std::io;
///
/// struct Discovery {
///     socket: UdpSocket,
/// }
///
/// impl event::Source for Discovery {
///     fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
///         self.socket.register(registry, token, interests)
///     }
///
///     fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
///         self.socket.reregister(registry, token, interests)
///     }
///
///     fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
///         self.socket.deregister(registry)
///     }
/// }
/// # }
/// ```
#[cfg_attr(unix, doc = include_str!("doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("doc_links/windows.md"))]
pub trait Source {
    /// Registers the source. The errors are those of [`Registry::register`].
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()>;

    /// Replaces the token and the interest. The errors are those of [`Registry::reregister`].
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()>;

    /// Deregisters the source. The errors are those of [`Registry::deregister`].
    fn deregister(&mut self, registry: &Registry) -> io::Result<()>;
}

impl<T: Source + ?Sized> Source for Box<T> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        (**self).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        (**self).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        (**self).deregister(registry)
    }
}

/// The registrations of a [`Poll`](crate::Poll).
///
/// Any thread may use a registry, also while another thread polls. A change takes effect at once, in a blocked wait too. Only
/// one thread at a time can change one source, because the methods take the source by `&mut`.
pub struct Registry {
    shared: Arc<PollShared>,
    /// Dropped with the last registry of the poll.
    live: Arc<LivePoll>,
    /// The queued changes and the count of registrations. `None` except in the registry of a batch.
    queued: Option<QueuedChanges>,
    /// The registry belongs to the `Poll` itself. A borrow of it proves that no thread polls.
    excludes_polling: bool,
}

/// `true` if several changes are cheaper in one call.
const BATCHES_CHANGES: bool = <sys::ActiveSelector as Selector>::BATCHES_CHANGES;

impl Registry {
    /// Creates the registry of a `Poll`, which is borrowed from the `Poll` whenever it is used.
    pub(crate) fn new(shared: Arc<PollShared>) -> Registry {
        Registry { live: LivePoll::new(&shared), shared, queued: None, excludes_polling: true }
    }

    /// Registers a source: from now on, polls report its readiness under `token`.
    ///
    /// Readiness that exists already is reported too. Keep the source: dropping the source ends the registration.
    ///
    /// # Errors
    ///
    /// * `AlreadyExists`: the source is registered, with this `Poll` or with another one.
    /// * `Unsupported`: the backend does not support this interest, or the caller is a forked child
    ///   ([forks](crate::guide::forks)).
    /// * `PermissionDenied` (`EPERM`): the descriptor is a regular file or a directory, which is always ready. Read and write
    ///   such a file without registering it.
    /// * Errors of the kernel: `EBADF` for a closed descriptor (on Windows `WSAENOTSOCK`), `EINVAL` for the descriptor of the
    ///   poll itself. On Apple's systems, `EINVAL` also for devices that a kqueue cannot wait for
    ///   ([portability](crate::guide::portability)).
    ///
    /// After an error nothing is registered. The error of a kernel has an error number (`raw_os_error`). The other errors have a
    /// message that names the source and the remedy.
    ///
    /// # Platform notes
    ///
    /// If a raw descriptor ([`SourceFd`][unix::SourceFd]) is registered twice, kqueue replaces the registration. The
    /// other backends return `AlreadyExists`.
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
    #[inline(always)] // Measured: a return after a system call is expensive. See `epoll_ctl` in sys/unix/epoll.
    #[cfg_attr(unix, doc = include_str!("doc_links/unix.md"))]
    #[cfg_attr(windows, doc = include_str!("doc_links/windows.md"))]
    pub fn register<S>(&self, source: &mut S, token: Token, interests: Interest) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        trace("register", Some((token, interests)));
        source.register(self, token, interests)
    }

    /// Replaces the token and the interest of a registered source. Existing readiness is reported again.
    ///
    /// # Errors
    ///
    /// * `NotFound`: the source is not registered.
    /// * `AlreadyExists`: the source is registered with another `Poll`.
    /// * The other errors of [`register`](Registry::register).
    ///
    /// After an error the registration is as before, unless the kernel refuses to restore it: then nothing is registered.
    #[inline(always)] // Measured: a return after a system call is expensive. See `epoll_ctl` in sys/unix/epoll.
    pub fn reregister<S>(&self, source: &mut S, token: Token, interests: Interest) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        trace("reregister", Some((token, interests)));
        source.reregister(self, token, interests)
    }

    /// Deregisters a source.
    ///
    /// After `deregister` returns, no later poll reports the token. The `Events` buffer of the previous poll may still contain
    /// the token.
    ///
    /// # Errors
    ///
    /// * `NotFound`: the source is not registered, or is registered with another `Poll`.
    /// * `Unsupported`: the caller is a forked child ([forks](crate::guide::forks)).
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
    #[inline(always)] // Measured: a return after a system call is expensive. See `epoll_ctl` in sys/unix/epoll.
    pub fn deregister<S>(&self, source: &mut S) -> io::Result<()>
    where
        S: Source + ?Sized,
    {
        trace("deregister", None);
        source.deregister(self)
    }

    /// Returns another registry of the same `Poll`, for another thread.
    ///
    /// # Errors
    ///
    /// None. The signature is that of mio, which duplicates a descriptor.
    pub fn try_clone(&self) -> io::Result<Registry> {
        Ok(self.clone_with(None, false))
    }

    #[inline(always)] // Measured: a return after a system call is expensive. See `epoll_ctl` in sys/unix/epoll.
    pub(crate) fn register_fd(
        &self,
        fd: RawSource,
        token: Token,
        interest: Interest,
        kind: SourceKind,
    ) -> io::Result<Registration> {
        self.check_process()?;
        if self.queues() {
            return self.queue_change(Change { operation: Operation::Register, fd, token, interest, kind });
        }
        let registration = self.selector().register(fd, token, interest, kind)?;
        self.count_registration();
        Ok(registration)
    }

    /// Inserts a timer into the queue of the poll.
    pub(crate) fn register_timer(&self, token: Token, mode: Mode, deadline: Deadline) -> io::Result<Slot> {
        let timers = self.shared.timers();
        if self.excludes_polling {
            timers.mark_no_wait();
        }
        let prepare = || self.shared.prepare_timers(self.excludes_polling);
        let slot = timers.insert(token, mode, deadline, &*self.shared, prepare)?;
        self.count_registration();
        Ok(slot)
    }

    /// Counts a registration for the batch.
    #[inline]
    pub(crate) fn count_registration(&self) {
        if let Some(queued) = &self.queued {
            queued.count_registration();
        }
    }

    #[inline(always)] // Measured: a return after a system call is expensive. See `epoll_ctl` in sys/unix/epoll.
    pub(crate) fn reregister_fd(
        &self,
        fd: RawSource,
        token: Token,
        interest: Interest,
        kind: SourceKind,
    ) -> io::Result<()> {
        self.check_process()?;
        if self.queues() {
            return self.queue_change(Change { operation: Operation::Reregister, fd, token, interest, kind }).map(drop);
        }
        self.selector().reregister(fd, token, interest, kind)
    }

    /// Deregisters a descriptor. The caller has called `check_process`, before it changed its own state.
    #[inline(always)] // Measured: a return after a system call is expensive. See `epoll_ctl` in sys/unix/epoll.
    pub(crate) fn deregister_fd(&self, fd: RawSource, kind: SourceKind) -> io::Result<()> {
        if self.queues() {
            return self.queue_change(Change::deregister(fd, kind)).map(drop);
        }
        self.selector().deregister(fd, kind)
    }

    /// Queues a change for the batch.
    #[cold]
    fn queue_change(&self, change: Change) -> io::Result<Registration> {
        let queued = self.queued_changes();
        let registration = queued.with_changes(|changes| self.selector().queue_change(changes, change))?;
        if change.operation == Operation::Register {
            queued.count_registration();
        }
        Ok(registration)
    }

    /// Returns `true` if changes are queued for a batch.
    #[inline]
    fn queues(&self) -> bool {
        BATCHES_CHANGES && self.queued.as_ref().is_some_and(QueuedChanges::queues)
    }

    /// Returns a registry of the same `Poll` that queues changes, on backends where several changes are cheaper together.
    pub(crate) fn queueing_clone(&self) -> Registry {
        self.clone_with(Some(QueuedChanges::queueing()), self.excludes_polling)
    }

    /// Returns a registry of the same `Poll` that makes each change at once, and counts the registrations.
    pub(crate) fn counting_clone(&self) -> Registry {
        self.clone_with(Some(QueuedChanges::default()), self.excludes_polling)
    }

    fn clone_with(&self, queued: Option<QueuedChanges>, excludes_polling: bool) -> Registry {
        Registry { shared: Arc::clone(&self.shared), live: Arc::clone(&self.live), queued, excludes_polling }
    }

    /// Returns the queued changes. Only the registry of a batch has them.
    pub(crate) fn queued_changes(&self) -> &QueuedChanges {
        self.queued.as_ref().expect("the registry of a batch")
    }

    #[inline]
    pub(crate) fn shared(&self) -> &Arc<PollShared> {
        &self.shared
    }

    /// Fails in a forked child: see [`PollShared::check_process`].
    #[inline]
    pub(crate) fn check_process(&self) -> io::Result<()> {
        self.shared.check_process()
    }

    #[inline]
    pub(crate) fn selector(&self) -> &sys::ActiveSelector {
        self.shared.selector()
    }

    #[inline]
    pub(crate) fn id(&self) -> PollId {
        self.shared.id()
    }

    /// Returns `true` if `id` is the id of this poll, and `false` if it is [`PollId::NONE`] or the id of a dropped poll.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if `id` is the id of another poll that exists.
    #[inline]
    pub(crate) fn is_registered_here(&self, id: PollId) -> io::Result<bool> {
        match id {
            PollId::NONE => Ok(false),
            _ if id == self.id() => Ok(true),
            _ => reject_other_poll(id),
        }
    }

    /// Fails with `AlreadyExists` if `id` is the id of a poll that exists: this poll or another one.
    #[inline]
    pub(crate) fn check_not_registered(&self, id: PollId) -> io::Result<()> {
        match self.is_registered_here(id) {
            Ok(false) => Ok(()),
            _ => Err(error::already_exists()),
        }
    }
}

/// Returns the error for a source that is to be deregistered from another poll than that with the id `id`, or from a poll
/// although the source has no registration.
#[cold]
pub(crate) fn not_found_error(id: PollId) -> io::Error {
    if poll_shared::is_live(id) {
        error::not_found_here()
    } else {
        error::not_found()
    }
}

/// Fails with `AlreadyExists` if the other poll exists. Returns `false` if that poll was dropped.
#[cold]
fn reject_other_poll(id: PollId) -> io::Result<bool> {
    if !poll_shared::is_live(id) {
        return Ok(false);
    }
    Err(error::already_exists_elsewhere())
}

/// Writes the number of the poll, the backend, its descriptor, and how many sources are registered, as far as kevio counts them.
///
/// Wakers of the poll have the same number. No system call is made, and no lock is waited for: if another thread changes a number
/// at the moment, the number is left out.
impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.debug("Registry", f)
    }
}

/// The descriptor of the kernel's queue, which is readable while there are events, also of wakers and timers.
///
/// From the first call on, every wake and every timer that becomes the earliest makes a system call, so that other code can wait
/// for the descriptor: epoll(7), kqueue(2), poll(2) or select(2). If no descriptor is left for the timer of the kernel, the first
/// timer cannot be registered.
#[cfg(selector_has_fd)]
impl std::os::fd::AsFd for Registry {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.shared.share();
        self.shared.selector().as_fd()
    }
}

/// The descriptor of the kernel's queue: see [`AsFd`](#impl-AsFd-for-Registry).
#[cfg(selector_has_fd)]
impl std::os::fd::AsRawFd for Registry {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(self).as_raw_fd()
    }
}

/// Writes a `log::trace!` record, if the program has enabled that level.
#[inline]
fn trace(operation: &str, registration: Option<(Token, Interest)>) {
    #[cfg(feature = "log")]
    {
        #[cold]
        fn write_record(operation: &str, registration: Option<(Token, Interest)>) {
            match registration {
                Some((token, interests)) => log::trace!("{operation}: {token:?} for {interests:?}"),
                None => log::trace!("{operation}"),
            }
        }
        if log::LevelFilter::Trace <= log::STATIC_MAX_LEVEL && log::LevelFilter::Trace <= log::max_level() {
            write_record(operation, registration);
        }
    }
    let _ = (operation, registration);
}
