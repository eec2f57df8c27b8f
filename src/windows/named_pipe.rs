use std::ffi::OsStr;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle, RawHandle};

use crate::interest::Interest;
use crate::poll_id::PollId;
use crate::registry::{Registry, Source};
use crate::sys::error;
use crate::sys::windows::named_pipe::Pipe;
use crate::token::Token;

/// One end of a named pipe: a server, or a client.
///
/// Reads and writes do not block. The end reads ahead into a buffer of its own, and a write copies its bytes into another buffer,
/// which the kernel sends. Before the first registration, and while the pipe is not registered, reads and writes return
/// `ErrorKind::WouldBlock`. Any thread may read, write, connect and disconnect.
///
/// A pipe belongs to the first [`Poll`](crate::Poll) that it is registered with, for as long as the pipe exists.
///
/// Dropping the pipe cancels a read and a connect. Bytes that were written are sent, unless the `Poll` was dropped before. A `Poll`
/// that is dropped later waits up to a second for bytes that the peer does not read.
///
/// Create a server with [`new`](NamedPipe::new), or with
/// [`CreateNamedPipeW`](https://learn.microsoft.com/en-us/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew) and
/// `From<OwnedHandle>`. Create a client with `OpenOptions`, as in the example. Both need the flag `FILE_FLAG_OVERLAPPED`.
///
/// # Examples
///
/// ```
/// use std::fs::OpenOptions;
/// use std::io::{self, ErrorKind, Read, Write};
/// use std::os::windows::fs::OpenOptionsExt;
/// use std::os::windows::io::OwnedHandle;
///
/// use kevio::windows::NamedPipe;
/// use kevio::{Events, Interest, Poll, Token};
///
/// const FILE_FLAG_OVERLAPPED: u32 = 0x4000_0000;
/// const SERVER: Token = Token(0);
/// const CLIENT: Token = Token(1);
///
/// let name = format!(r"\\.\pipe\kevio-example-{}", std::process::id());
/// let mut server = NamedPipe::new(&name)?;
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// let both = Interest::READABLE | Interest::WRITABLE;
/// poll.registry().register(&mut server, SERVER, both)?;
/// // No client is connected yet. The server becomes writable when one is.
/// assert_eq!(server.connect().unwrap_err().kind(), ErrorKind::WouldBlock);
///
/// let file = OpenOptions::new().read(true).write(true).custom_flags(FILE_FLAG_OVERLAPPED).open(&name)?;
/// let mut client = NamedPipe::from(OwnedHandle::from(file));
/// poll.registry().register(&mut client, CLIENT, both)?;
///
/// let mut buffer = [0; 16];
/// loop {
///     poll.poll_until(&mut events, None)?;
///     for event in &events {
///         if event.token() == SERVER && event.is_writable() {
///             assert!(server.take_error()?.is_none());
///             server.write(b"hello")?;
///         }
///         if event.token() == CLIENT && event.is_readable() {
///             let len = client.read(&mut buffer)?;
///             assert_eq!(&buffer[..len], b"hello");
///             return Ok(());
///         }
///     }
/// }
/// # #[allow(unreachable_code)]
/// # io::Result::Ok(())
/// ```
pub struct NamedPipe {
    inner: Pipe,
    /// The poll with which the pipe is registered.
    poll_id: PollId,
    /// The poll that the pipe belongs to.
    owner: PollId,
}

impl NamedPipe {
    /// Creates a server: an instance of the pipe with this name, such as `\\.\pipe\name`. The pipe is a stream of bytes in both
    /// directions.
    ///
    /// # Errors
    ///
    /// * `PermissionDenied`: another instance of the name exists.
    /// * Errors of
    ///   [`CreateNamedPipeW`](https://learn.microsoft.com/en-us/windows/win32/api/namedpipeapi/nf-namedpipeapi-createnamedpipew).
    pub fn new<A: AsRef<OsStr>>(addr: A) -> io::Result<NamedPipe> {
        Pipe::create(addr.as_ref()).map(NamedPipe::of)
    }

    fn of(inner: Pipe) -> NamedPipe {
        NamedPipe { inner, poll_id: PollId::NONE, owner: PollId::NONE }
    }

    /// Connects a server to a client.
    ///
    /// `Ok` means that a client is connected. After the error `WouldBlock`, the server becomes writable when a client has connected
    /// or the connect has failed. Then [`take_error`](NamedPipe::take_error) returns the difference.
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: the connect has not ended, or the pipe was never registered.
    /// * Errors of
    ///   [`ConnectNamedPipe`](https://learn.microsoft.com/en-us/windows/win32/api/namedpipeapi/nf-namedpipeapi-connectnamedpipe).
    pub fn connect(&self) -> io::Result<()> {
        self.inner.connect()
    }

    /// Returns the error of a connect that has ended, and clears it. `None` if a client is connected.
    ///
    /// # Errors
    ///
    /// None. The signature is that of mio.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.inner.take_error())
    }

    /// Disconnects a server from its client. Data that was not read is lost. Afterwards the server can [connect](Self::connect)
    /// again.
    ///
    /// # Errors
    ///
    /// Errors of
    /// [`DisconnectNamedPipe`](https://learn.microsoft.com/en-us/windows/win32/api/namedpipeapi/nf-namedpipeapi-disconnectnamedpipe).
    pub fn disconnect(&self) -> io::Result<()> {
        self.inner.disconnect()
    }

    /// Fails if the pipe is registered with another poll, or not registered.
    fn check_registered(&self, registry: &Registry) -> io::Result<()> {
        match self.poll_id {
            PollId::NONE => Err(error::not_found()),
            id if id == registry.id() => Ok(()),
            _ => Err(error::already_exists_elsewhere()),
        }
    }
}

/// Returns the data that a finished read has brought.
///
/// At the end of the stream, reads return 0 bytes. A message that is longer than 16 KiB is returned in several parts.
///
/// # Errors
///
/// * `WouldBlock`: a read is in progress, or the pipe is not connected or not registered.
/// * The error of the finished read.
impl Read for NamedPipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf)
    }
}

/// As for [`NamedPipe`].
impl Read for &NamedPipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read(buf)
    }
}

/// Copies the bytes, and starts to write all of them.
///
/// # Errors
///
/// * `WouldBlock`: a write is in progress, or the pipe is not registered.
/// * The error of the previous write, or of the start of this one.
impl Write for NamedPipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// As for [`NamedPipe`].
impl Write for &NamedPipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for NamedPipe {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        registry.check_not_registered(self.poll_id)?;
        if !self.owner.is_none() && self.owner != registry.id() {
            return Err(error::already_exists_elsewhere());
        }
        self.inner.register(registry.selector(), token, interests)?;
        registry.count_registration();
        (self.poll_id, self.owner) = (registry.id(), registry.id());
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.check_registered(registry)?;
        self.inner.reregister(token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.check_registered(registry)?;
        self.inner.deregister();
        self.poll_id = PollId::NONE;
        Ok(())
    }
}

impl AsHandle for NamedPipe {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.inner.as_handle()
    }
}

impl AsRawHandle for NamedPipe {
    fn as_raw_handle(&self) -> RawHandle {
        self.inner.as_handle().as_raw_handle()
    }
}

impl FromRawHandle for NamedPipe {
    /// # Safety
    ///
    /// The handle must be open, be one end of a named pipe, have the flag `FILE_FLAG_OVERLAPPED`, and have no other owner.
    unsafe fn from_raw_handle(handle: RawHandle) -> NamedPipe {
        // SAFETY: the caller fulfils the same conditions.
        unsafe { OwnedHandle::from_raw_handle(handle) }.into()
    }
}

/// The handle must be one end of a named pipe, with the flag `FILE_FLAG_OVERLAPPED`. Without the flag, operations block.
impl From<OwnedHandle> for NamedPipe {
    fn from(handle: OwnedHandle) -> NamedPipe {
        NamedPipe::of(Pipe::new(handle))
    }
}

/// Writes the handle.
impl fmt::Debug for NamedPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
