use crate::sys::error;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, RawFd};

use crate::interest::Interest;
use crate::poll_id::PollId;
use crate::poll_shared;
use crate::registry::Registry;
use crate::registry::Source;
use crate::sys;
use crate::sys::selector::{IoDirection, Registration, Selector, SourceKind};
use crate::sys::syscall;
use crate::token::Token;

/// Any descriptor as a [`Source`], with a memory of its registration.
///
/// It wraps a value that has a descriptor for as long as it lives (a `std` socket, a `socket2::Socket`, an `OwnedFd`, a
/// `BorrowedFd<'_>`), and the sockets and pipes of this crate are made of it. Unlike a [`SourceFd`](crate::unix::SourceFd) it knows whether, and with whom,
/// it is registered, and tells the backend of each operation.
///
/// All I/O goes through [`do_io`](IoSource::do_io): on poll(2) that is what makes the next event come. The wrapped
/// value should be non-blocking.
///
/// Dropping it ends its registration: a value that owns its descriptor closes it, and of one that only borrows it (a
/// `BorrowedFd<'_>`, a reference: what has no destructor) it is deregistered. Deregister a value that has a destructor and
/// does not close its descriptor with it, such as an `Arc` that others hold too.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "os-ext")] {
/// use std::io::{Read, Write};
/// use std::os::unix::net::UnixStream;
///
/// use kevio::unix::IoSource;
/// use kevio::{Events, Interest, Poll, Token};
///
/// let (mut ours, mut theirs) = UnixStream::pair()?;
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
pub struct IoSource<T> {
    registration: Option<<sys::ActiveSelector as Selector>::Registration>,
    poll_id: PollId,
    inner: T,
}

/// Before the fields are dropped: the registration lets go of a descriptor that is still open.
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
    /// Wraps `inner`, which is not registered yet.
    pub fn new(inner: T) -> IoSource<T> {
        IoSource { registration: None, poll_id: PollId::NONE, inner }
    }

    /// Does an operation on the wrapped value and returns its result.
    ///
    /// The operation may read or write or do both. Operate until `ErrorKind::WouldBlock`; then the next event is
    /// certain.
    ///
    /// # Platform notes
    ///
    /// poll(2) cannot see which of the two it was. On a source that is registered for both, writability that was used up
    /// and came back before the next poll is reported up to 1 s later, as for a
    /// [`SourceFd`](crate::unix::SourceFd); the streams' own methods have no such delay.
    ///
    /// # Errors
    ///
    /// Those of the operation, untouched.
    #[inline]
    pub fn do_io<F, R>(&self, operation: F) -> io::Result<R>
    where
        F: FnOnce(&T) -> io::Result<R>,
    {
        self.operate(IoDirection::Unknown, operation)
    }

    /// As [`do_io`](IoSource::do_io), for an operation that has the descriptor already.
    ///
    /// # Errors
    ///
    /// Those of the operation, untouched.
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

    /// As `read_io`, for a stream, and into `room` bytes: 0 bytes are the end of file, which the backend judges.
    #[inline]
    pub(crate) fn read_stream(&self, room: usize, read: impl FnOnce(&T) -> io::Result<usize>) -> io::Result<usize> {
        let rearm = Rearm(self.registration.as_ref(), IoDirection::Read);
        match read(&self.inner) {
            Ok(0) if room > 0 => {
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
        let rearm = Rearm(self.registration.as_ref(), direction);
        let result = operation(&self.inner);
        rearm.after(result)
    }

    /// Returns `true` if it is registered, or was with a poll that is no more.
    pub(crate) fn is_registered(&self) -> bool {
        !self.poll_id.is_none()
    }

    /// The wrapped value. It stays registered, as a descriptor whose operations cannot be seen.
    pub fn into_inner(self) -> T {
        let mut this = ManuallyDrop::new(self);
        if let Some(registration) = this.registration.take() {
            if let Some((fd, interest)) = registration.detach() {
                poll_shared::with_poll(this.poll_id, |shared| shared.selector().detach(fd, interest));
            }
        }
        // SAFETY: `this` is not dropped, so the value is moved out once; of the other fields none owns anything now.
        unsafe { std::ptr::read(&this.inner) }
    }
}

/// Re-arms a registration when an operation ends, also when the operation panics: it may have read or written before.
struct Rearm<'a>(Option<&'a ActiveRegistration>, IoDirection);

type ActiveRegistration = <sys::ActiveSelector as Selector>::Registration;

impl<'a> Rearm<'a> {
    /// Re-arms nothing.
    #[inline]
    fn dismiss(mut self) -> Option<&'a ActiveRegistration> {
        self.0.take()
    }

    /// Re-arms what the result of the operation asks for.
    #[inline]
    fn after<R>(self, result: io::Result<R>) -> io::Result<R> {
        let direction = self.1;
        if let (Err(error), Some(_)) = (&result, self.0) {
            if let Some(registration) = self.dismiss() {
                match error.kind() {
                    _ if syscall::is_resource_exhausted(error) => registration.probe_instead(),
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
        if let Some(registration) = self.0 {
            registration.rearm(self.1);
        }
    }
}

impl<T: AsFd> IoSource<T> {
    #[inline]
    fn fd(&self) -> RawFd {
        self.inner.as_fd().as_raw_fd()
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

    /// Whether the registration under this number is still the one that this source made.
    #[inline(always)]
    fn has_registration(&self) -> bool {
        self.registration.as_ref().map_or(true, Registration::is_current)
    }

    /// What this source says of itself when it changes or ends its registration.
    #[inline(always)]
    fn source_kind(&self) -> SourceKind {
        self.registration.as_ref().map_or(Self::KIND, |registration| registration.source_kind(Self::KIND))
    }

    /// A type without a destructor does not close what it has.
    const KIND: SourceKind = if std::mem::needs_drop::<T>() { SourceKind::Owned } else { SourceKind::Borrowed };
}

impl<T: AsFd> Source for IoSource<T> {
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
            return Err(error::not_found());
        }
        let result = match self.has_registration() {
            true => registry.deregister_fd(self.fd(), self.source_kind()),
            false => Err(error::not_found()),
        };
        (self.registration, self.poll_id) = (None, PollId::NONE);
        result
    }
}

/// Operations that may block, or that end what was ready, go through [`do_io`](IoSource::do_io) instead.
impl<T> Deref for IoSource<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// As [`Deref`].
impl<T> DerefMut for IoSource<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.inner
    }
}

/// As the wrapped value.
impl<T: std::fmt::Debug> std::fmt::Debug for IoSource<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.inner.fmt(f)
    }
}

/// Writes, for a type that is an `IoSource` named `inner`, what holds no decision: `Source`, and the ways from and to
/// descriptors.
#[cfg(any(feature = "net", feature = "os-ext"))]
macro_rules! io_source {
    ($name:ident, $inner:ty) => {
        impl crate::event::Source for $name {
            #[inline(always)]
            fn register(
                &mut self,
                registry: &crate::registry::Registry,
                token: crate::token::Token,
                interests: crate::interest::Interest,
            ) -> std::io::Result<()> {
                self.inner.register_as(crate::sys::selector::SourceKind::Builtin, registry, token, interests)
            }

            #[inline(always)]
            fn reregister(
                &mut self,
                registry: &crate::registry::Registry,
                token: crate::token::Token,
                interests: crate::interest::Interest,
            ) -> std::io::Result<()> {
                self.inner.reregister(registry, token, interests)
            }

            #[inline(always)]
            fn deregister(&mut self, registry: &crate::registry::Registry) -> std::io::Result<()> {
                self.inner.deregister(registry)
            }
        }

        impl std::os::fd::AsFd for $name {
            fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
                std::os::fd::AsFd::as_fd(&*self.inner)
            }
        }

        impl std::os::fd::AsRawFd for $name {
            fn as_raw_fd(&self) -> std::os::fd::RawFd {
                std::os::fd::AsRawFd::as_raw_fd(&*self.inner)
            }
        }

        impl std::os::fd::IntoRawFd for $name {
            fn into_raw_fd(self) -> std::os::fd::RawFd {
                std::os::fd::IntoRawFd::into_raw_fd(self.inner.into_inner())
            }
        }

        impl std::os::fd::FromRawFd for $name {
            /// # Safety
            ///
            /// The descriptor must be open, of this kind, and owned by nobody else.
            unsafe fn from_raw_fd(fd: std::os::fd::RawFd) -> $name {
                // SAFETY: the caller's promise.
                unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd) }.into()
            }
        }

        impl From<$name> for std::os::fd::OwnedFd {
            fn from(source: $name) -> std::os::fd::OwnedFd {
                source.inner.into_inner().into()
            }
        }

        /// The descriptor should be non-blocking, and is not made so.
        impl From<std::os::fd::OwnedFd> for $name {
            fn from(fd: std::os::fd::OwnedFd) -> $name {
                $name { inner: crate::io_source::IoSource::new(fd.into()) }
            }
        }
    };
}

/// As `io_source`, for a type of the standard library's.
#[cfg(feature = "net")]
macro_rules! io_source_std {
    ($name:ident, $inner:ty) => {
        crate::io_source::io_source!($name, $inner);

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.inner.fmt(f)
            }
        }

        impl $name {
            #[doc = concat!("Takes over a [`", stringify!($inner), "`], which should be non-blocking, and is not made so.")]
            pub fn from_std(inner: $inner) -> $name {
                $name { inner: crate::io_source::IoSource::new(inner) }
            }
        }

        /// It stays non-blocking.
        impl From<$name> for $inner {
            fn from(source: $name) -> $inner {
                source.inner.into_inner()
            }
        }
    };
}

/// Writes `Read` for a type that is an `IoSource` named `inner`, and for references to it.
#[cfg(any(feature = "net", feature = "os-ext"))]
macro_rules! io_source_read {
    ($($reader:ty),+) => {$(
        impl std::io::Read for $reader {
            #[inline]
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                self.inner.read_stream(buf.len(), |mut inner| inner.read(buf))
            }

            #[inline]
            fn read_vectored(&mut self, bufs: &mut [std::io::IoSliceMut<'_>]) -> std::io::Result<usize> {
                let room = bufs.iter().map(|buf| buf.len()).sum();
                self.inner.read_stream(room, |mut inner| inner.read_vectored(bufs))
            }
        }
    )+};
}

/// Writes `Write` for a type that is an `IoSource` named `inner`, and for references to it.
#[cfg(any(feature = "net", feature = "os-ext"))]
macro_rules! io_source_write {
    ($($writer:ty),+) => {$(
        impl std::io::Write for $writer {
            #[inline]
            fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
                self.inner.write_io(|mut inner| inner.write(buf))
            }

            #[inline]
            fn write_vectored(&mut self, bufs: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
                self.inner.write_io(|mut inner| inner.write_vectored(bufs))
            }

            fn flush(&mut self) -> std::io::Result<()> {
                self.inner.write_io(|mut inner| inner.flush())
            }
        }
    )+};
}

/// Writes methods that only call the wrapped value's of the same name, which is one system call.
#[cfg(feature = "net")]
macro_rules! forward {
    ($($(#[$doc:meta])+ $method:ident($($argument:ident: $type:ty),*) -> $result:ty, $call:literal;)+) => {$(
        $(#[$doc])+
        ///
        /// # Errors
        ///
        #[doc = concat!("Those of ", $call, ".")]
        pub fn $method(&self, $($argument: $type),*) -> std::io::Result<$result> {
            self.inner.$method($($argument),*)
        }
    )+};
}

#[cfg(feature = "net")]
pub(crate) use {forward, io_source_std};
#[cfg(any(feature = "net", feature = "os-ext"))]
pub(crate) use {io_source, io_source_read, io_source_write};
