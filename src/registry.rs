use std::os::fd::RawFd;
use std::sync::Arc;
use std::{fmt, io};

use crate::change_list::QueuedChanges;
use crate::interest::Interest;
use crate::poll_id::PollId;
use crate::poll_shared;
use crate::poll_shared::PollShared;
use crate::sys;
use crate::sys::error;
use crate::sys::selector::{Change, Operation, Selector, SourceKind};
use crate::token::Token;

type Registration = <sys::ActiveSelector as Selector>::Registration;

/// Something that can be registered with a [`Registry`].
///
/// The types in [`net`](crate::net) and [`unix`](crate::unix) are sources, and so is a `Box` of any source. A type
/// that owns a descriptor implements this by handing the call on: to the source inside it, to an
/// [`IoSource`](crate::unix::IoSource), or to a [`SourceFd`](crate::unix::SourceFd).
///
/// Programs call [`Registry::register`] and its siblings; these methods are for implementors.
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
pub trait Source {
    /// Starts the registration; see [`Registry::register`] for the errors.
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()>;

    /// Replaces token and interests; see [`Registry::reregister`].
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()>;

    /// Ends the registration; see [`Registry::deregister`].
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

/// Registers sources with a [`Poll`].
///
/// Any thread may use it, also while another polls; what it does takes effect at once, in the wait under way too. One
/// source should be changed by one thread at a time; its methods take `&mut` for that.
pub struct Registry {
    shared: Arc<PollShared>,
    /// Where changes are put off to, while a batch is collected.
    batch: Option<QueuedChanges>,
}

/// Whether a batch is more than its changes one by one.
const BATCHES_CHANGES: bool = <sys::ActiveSelector as Selector>::BATCHES_CHANGES;

impl Registry {
    pub(crate) fn new(shared: Arc<PollShared>) -> Registry {
        Registry { shared, batch: None }
    }

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
    #[inline(always)] // Returning is dear: see `epoll_ctl` of epoll.
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
    #[inline(always)] // Returning is dear: see `epoll_ctl` of epoll.
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
    #[inline(always)] // Returning is dear: see `epoll_ctl` of epoll.
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

    #[inline(always)] // Returning is dear: see `epoll_ctl` of epoll.
    pub(crate) fn register_fd(
        &self,
        fd: RawFd,
        token: Token,
        interest: Interest,
        kind: SourceKind,
    ) -> io::Result<Registration> {
        self.check_process()?;
        if self.queues() {
            return self.queue_change(Change { operation: Operation::Register, fd, token, interest, kind });
        }
        let registration = self.selector().register(fd, token, interest, kind)?;
        self.batch.as_ref().map(QueuedChanges::count_registration);
        Ok(registration)
    }

    #[inline(always)] // Returning is dear: see `epoll_ctl` of epoll.
    pub(crate) fn reregister_fd(
        &self,
        fd: RawFd,
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

    /// The caller has checked the process, before it changed its own state.
    #[inline(always)] // Returning is dear: see `epoll_ctl` of epoll.
    pub(crate) fn deregister_fd(&self, fd: RawFd, kind: SourceKind) -> io::Result<()> {
        if self.queues() {
            return self.queue_change(Change::deregister(fd, kind)).map(drop);
        }
        self.selector().deregister(fd, kind)
    }

    #[cold]
    fn queue_change(&self, change: Change) -> io::Result<Registration> {
        let collected = self.queued_changes();
        let registration = collected.with_changes(|changes| self.selector().queue_change(changes, change))?;
        if change.operation == Operation::Register {
            collected.count_registration();
        }
        Ok(registration)
    }

    /// Whether changes are queued, for a batch.
    #[inline]
    fn queues(&self) -> bool {
        BATCHES_CHANGES && self.batch.as_ref().is_some_and(QueuedChanges::queues)
    }

    /// A registry of the same `Poll` that queues changes, where several are cheaper together.
    pub(crate) fn queueing_clone(&self) -> Registry {
        let batch = QueuedChanges::queueing();
        Registry { shared: Arc::clone(&self.shared), batch: Some(batch) }
    }

    /// A registry of the same `Poll` that makes each change at once, and counts registrations.
    pub(crate) fn counting_clone(&self) -> Registry {
        Registry { shared: Arc::clone(&self.shared), batch: Some(QueuedChanges::default()) }
    }

    /// What was put off.
    pub(crate) fn queued_changes(&self) -> &QueuedChanges {
        self.batch.as_ref().expect("a registry that collects a batch")
    }

    pub(crate) fn shared(&self) -> &Arc<PollShared> {
        &self.shared
    }

    /// As [`PollShared::check_process`].
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

    /// Returns `true` if `id` is that of this poll, and `false` if it is that of none, or of a dropped poll. The identifier of
    /// another poll that exists is `AlreadyExists`.
    #[inline]
    pub(crate) fn is_registered_here(&self, id: PollId) -> io::Result<bool> {
        match id {
            PollId::NONE => Ok(false),
            _ if id == self.id() => Ok(true),
            _ => reject_other_poll(id),
        }
    }

    /// Fails with `AlreadyExists` if a source is registered, here or with another poll.
    #[inline]
    pub(crate) fn check_not_registered(&self, id: PollId) -> io::Result<()> {
        match self.is_registered_here(id) {
            Ok(false) => Ok(()),
            _ => Err(error::already_exists()),
        }
    }
}

#[cold]
fn reject_other_poll(id: PollId) -> io::Result<bool> {
    if !poll_shared::is_live(id) {
        return Ok(false);
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, "I/O source already registered with a different `Registry`"))
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").finish()
    }
}

/// The queue's own descriptor, which is readable when there are events.
#[cfg(selector_has_fd)]
impl std::os::fd::AsFd for Registry {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.shared.selector().as_fd()
    }
}

/// The queue's own descriptor, which is readable when there are events.
#[cfg(selector_has_fd)]
impl std::os::fd::AsRawFd for Registry {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        std::os::fd::AsFd::as_fd(self).as_raw_fd()
    }
}

/// Tells the log, if somebody listens.
#[inline]
fn trace(what: &str, of: Option<(Token, Interest)>) {
    #[cfg(feature = "log")]
    {
        #[cold]
        fn write_record(what: &str, of: Option<(Token, Interest)>) {
            match of {
                Some((token, interests)) => log::trace!("{what}: {token:?} for {interests:?}"),
                None => log::trace!("{what}"),
            }
        }
        if log::LevelFilter::Trace <= log::STATIC_MAX_LEVEL && log::LevelFilter::Trace <= log::max_level() {
            write_record(what, of);
        }
    }
    let _ = (what, of);
}
