use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
#[cfg(unix)]
use std::os::fd::AsFd;
#[cfg(windows)]
use std::os::windows::io::AsSocket;

use crate::interest::Interest;
use crate::poll_id::PollId;
use crate::poll_shared;
use crate::registry::{not_found_error, Registry, Source};
use crate::sys;
use crate::sys::error;
use crate::sys::raw_source::{raw_source, AsSource, RawSource};
use crate::sys::selector::{IoDirection, Registration, Selector, SourceKind};
use crate::token::Token;

type ActiveRegistration = <sys::ActiveSelector as Selector>::Registration;

/// Any value with a descriptor as a [`Source`], with the state of its registration.
///
/// The wrapped value has a descriptor for its whole life: a `std` socket, a `socket2::Socket`, an `OwnedFd`, a `BorrowedFd<'_>`.
/// On Windows the value has a socket in place of a descriptor. The sockets and pipes of this crate are built on this type. Unlike
/// a [`SourceFd`][unix::SourceFd], an `IoSource` records the poll that it is registered with, and reports each operation
/// to the backend.
///
/// Perform all I/O through [`do_io`](IoSource::do_io), because on poll(2) and Windows the operation arms the next event. The
/// wrapped value should be non-blocking.
///
/// Dropping an `IoSource` ends its registration. If the wrapped value owns its descriptor, the descriptor is closed. If the
/// value borrows its descriptor (a `BorrowedFd<'_>`, a reference, any type without a destructor), the descriptor is
/// deregistered. If a value has a destructor but does not close its descriptor, such as an `Arc` with other owners, deregister
/// the source before you drop it.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "os-ext")] {
/// use std::io::{Read, Write};
/// use std::net::{TcpListener, TcpStream};
///
/// # #[cfg(unix)]
/// use kevio::unix::IoSource; // On Windows: `kevio::windows::IoSource`.
/// # #[cfg(windows)]
/// # use kevio::windows::IoSource;
/// use kevio::{Events, Interest, Poll, Token};
///
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let mut theirs = TcpStream::connect(listener.local_addr()?)?;
/// let (ours, _) = listener.accept()?;
/// ours.set_nonblocking(true)?;
/// let mut source = IoSource::new(ours);
///
/// let mut poll = Poll::new()?;
/// poll.registry().register(&mut source, Token(1), Interest::READABLE)?;
/// theirs.write_all(b"hello")?;
///
/// let mut events = Events::with_capacity(8);
/// poll.poll(&mut events, None)?;
/// assert!(events.iter().any(|event| event.token() == Token(1) && event.is_readable()));
///
/// let mut buffer = [0; 16];
/// assert_eq!(source.do_io(|mut stream| stream.read(&mut buffer))?, 5);
/// # }
/// # std::io::Result::Ok(())
/// ```
#[cfg_attr(unix, doc = include_str!("doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("doc_links/windows.md"))]
pub struct IoSource<T> {
    registration: Option<ActiveRegistration>,
    poll_id: PollId,
    inner: T,
}

/// Ends the registration before `inner` is dropped, while the descriptor is still open.
impl<T> Drop for IoSource<T> {
    fn drop(&mut self) {
        if let Some(registration) = self.registration.take() {
            if let Some(fd) = registration.fd_to_deregister() {
                poll_shared::deregister_dropped(self.poll_id, fd, SourceKind::Borrowed);
            }
        }
    }
}

impl<T> IoSource<T> {
    /// Wraps `inner`. The source is not registered yet.
    pub fn new(inner: T) -> IoSource<T> {
        IoSource { registration: None, poll_id: PollId::NONE, inner }
    }

    /// Performs an operation on the wrapped value, and returns the result.
    ///
    /// The operation may read, write, or do both. Operate until `ErrorKind::WouldBlock`: then the next event is guaranteed.
    ///
    /// # Platform notes
    ///
    /// On poll(2) and Windows the direction of the operation is not known. Suppose that the source is registered for both
    /// directions, and that writability ends and begins again before the next poll. The event is then reported up to 1 s later,
    /// as for a [`SourceFd`][unix::SourceFd]. The methods of the streams have no such delay.
    ///
    /// # Errors
    ///
    /// The errors of the operation, unchanged.
    #[cfg_attr(unix, doc = include_str!("doc_links/unix.md"))]
    #[cfg_attr(windows, doc = include_str!("doc_links/windows.md"))]
    #[inline]
    pub fn do_io<F, R>(&self, operation: F) -> io::Result<R>
    where
        F: FnOnce(&T) -> io::Result<R>,
    {
        self.operate(IoDirection::Unknown, operation)
    }

    /// Performs an operation like [`do_io`](IoSource::do_io), for a closure that already has access to the descriptor.
    ///
    /// # Errors
    ///
    /// The errors of the operation, unchanged.
    #[inline]
    pub fn try_io<F, R>(&self, operation: F) -> io::Result<R>
    where
        F: FnOnce() -> io::Result<R>,
    {
        self.do_io(|_| operation())
    }

    #[inline]
    pub(crate) fn read_io<R>(&self, operation: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        self.operate(IoDirection::Read, operation)
    }

    /// Performs a read of a stream into a buffer of `capacity` bytes. If the read returns 0 bytes, the backend decides whether
    /// the end is final.
    #[inline]
    pub(crate) fn read_stream(&self, capacity: usize, read: impl FnOnce(&T) -> io::Result<usize>) -> io::Result<usize> {
        let rearm = Rearm { registration: self.registration.as_ref(), direction: IoDirection::Read };
        match read(&self.inner) {
            Ok(0) if capacity > 0 => {
                if let Some(registration) = rearm.dismiss() {
                    registration.rearm_ended();
                }
                Ok(0)
            }
            result => rearm.after(result),
        }
    }

    #[inline]
    pub(crate) fn write_io<R>(&self, operation: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        self.operate(IoDirection::Write, operation)
    }

    #[inline]
    fn operate<R>(&self, direction: IoDirection, operation: impl FnOnce(&T) -> io::Result<R>) -> io::Result<R> {
        let rearm = Rearm { registration: self.registration.as_ref(), direction };
        let result = operation(&self.inner);
        rearm.after(result)
    }

    /// Returns the id of the poll with which the source is registered, or was registered before the poll was dropped.
    pub(crate) fn poll_id(&self) -> PollId {
        self.poll_id
    }

    /// Returns `true` if the source is registered, or was registered with a dropped poll.
    pub(crate) fn is_registered(&self) -> bool {
        !self.poll_id.is_none()
    }

    /// Returns the wrapped value. The descriptor stays registered, but as a raw descriptor, because its operations are
    /// unobserved from now on.
    pub fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        if let Some(registration) = this.registration.take() {
            if let Some((fd, interest)) = registration.detach() {
                poll_shared::with_poll(this.poll_id, |shared| shared.selector().detach(fd, interest));
            }
        }
        // SAFETY: `this` is not dropped, so that the value is moved out once. The other fields own nothing now.
        unsafe { std::ptr::read(&this.inner) }
    }
}

/// Re-arms a registration when an operation ends. If the operation panics, the guard re-arms too, because the operation may
/// have read or written before.
struct Rearm<'a> {
    registration: Option<&'a ActiveRegistration>,
    direction: IoDirection,
}

impl<'a> Rearm<'a> {
    /// Ends the guard without re-arming.
    #[inline]
    fn dismiss(mut self) -> Option<&'a ActiveRegistration> {
        self.registration.take()
    }

    /// Re-arms according to the result of the operation. After a success, dropping the guard re-arms.
    #[inline]
    fn after<R>(self, result: io::Result<R>) -> io::Result<R> {
        let direction = self.direction;
        if let (Err(error), Some(_)) = (&result, self.registration) {
            if let Some(registration) = self.dismiss() {
                match error.kind() {
                    _ if sys::is_resource_exhausted(error) => registration.probe_instead(),
                    io::ErrorKind::WouldBlock => registration.rearm_blocked(direction),
                    _ => registration.rearm(direction),
                }
            }
        }
        result
    }
}

impl Drop for Rearm<'_> {
    #[inline]
    fn drop(&mut self) {
        if let Some(registration) = self.registration {
            registration.rearm(self.direction);
        }
    }
}

impl<T: AsSource> IoSource<T> {
    #[inline]
    fn fd(&self) -> RawSource {
        raw_source(&self.inner)
    }

    #[inline(always)]
    pub(crate) fn register_as(
        &mut self,
        kind: SourceKind,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        registry.check_not_registered(self.poll_id)?;
        self.registration = Some(registry.register_fd(self.fd(), token, interests, kind)?);
        self.poll_id = registry.id();
        Ok(())
    }

    /// Returns `false` if the registration of this source has ended, for example because its descriptor was closed and reused.
    #[inline(always)]
    fn has_registration(&self) -> bool {
        self.registration.as_ref().map_or(true, Registration::is_current)
    }

    /// Returns the kind of this source, for a change or the end of its registration.
    #[inline(always)]
    fn source_kind(&self) -> SourceKind {
        self.registration.as_ref().map_or(Self::KIND, |registration| registration.source_kind(Self::KIND))
    }

    /// Ends the registration of a descriptor that is closed next, although copies of the descriptor may stay open. Errors are
    /// ignored, because other code may have closed the descriptor.
    pub(crate) fn deregister_before_close(&mut self) {
        let kind = self.source_kind();
        if self.registration.take().is_some() {
            poll_shared::deregister_dropped(self.poll_id, self.fd(), kind);
        }
    }

    /// The kind of this source at its registration. A type without a destructor does not close its descriptor.
    const KIND: SourceKind = if std::mem::needs_drop::<T>() { SourceKind::Owned } else { SourceKind::Borrowed };
}

// The documentation shows the trait of the system, and not the alias.
impl<#[cfg(unix)] T: AsFd, #[cfg(windows)] T: AsSocket> Source for IoSource<T> {
    #[inline(always)]
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.register_as(Self::KIND, registry, token, interests)
    }

    #[inline(always)]
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        if !registry.is_registered_here(self.poll_id)? || !self.has_registration() {
            return Err(error::not_found());
        }
        registry.reregister_fd(self.fd(), token, interests, self.source_kind())?;
        if let Some(registration) = &mut self.registration {
            registration.set_interest(interests);
        }
        Ok(())
    }

    #[inline(always)]
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.check_process()?;
        if self.poll_id != registry.id() {
            return Err(not_found_error(self.poll_id));
        }
        let result = match self.has_registration() {
            true => registry.deregister_fd(self.fd(), self.source_kind()),
            false => Err(error::not_found()),
        };
        (self.registration, self.poll_id) = (None, PollId::NONE);
        result
    }
}

/// Gives access to the wrapped value. Perform reads, writes and other operations that can return `WouldBlock` through
/// [`do_io`](IoSource::do_io) instead.
impl<T> Deref for IoSource<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// Gives mutable access to the wrapped value. The note of [`Deref`] applies.
impl<T> DerefMut for IoSource<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// Writes the wrapped value.
impl<T: std::fmt::Debug> std::fmt::Debug for IoSource<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}
