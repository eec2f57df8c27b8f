use std::ffi::OsStr;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle, RawHandle};
use std::{fmt, iter};

use crate::interest::Interest;
use crate::registry::{Registry, Source};
use crate::sys::windows::named_pipe::Pipe;
use crate::token::Token;

/// One end of a named pipe: a server's instance, or a client.
///
/// Windows has no readiness of pipes. Therefore the crate reads ahead into a buffer of its own while the pipe is registered, and
/// copies the bytes of a write:
///
/// * [`read`](Read::read) returns bytes that have arrived. If there are none, the error is `WouldBlock`. At the end of the pipe,
///   `read` returns 0 until [`disconnect`](NamedPipe::disconnect). The buffer has 4 KiB, and grows to 64 KiB while reads fill it.
/// * [`write`](Write::write) accepts all bytes, if no write is in progress. Else the error is `WouldBlock`. The error of a write
///   that was accepted is returned by the next write. In a message-type pipe one write is one message.
/// * While a server waits for a client, `read` fails with `WouldBlock`, and `write` with `ERROR_PIPE_LISTENING` (536).
/// * An event is readable when bytes, the end or an error has arrived. An event is writable when a client is connected and no
///   write is in progress.
///
/// Reading, writing, connecting and disconnecting need a registration. Without one the error is `NotFound`, except for bytes and
/// errors that have arrived before. Any thread may call the methods, also several threads at the same time, and while another
/// thread polls. Operations end in [`Poll::poll`](crate::Poll::poll), so that the program must poll to make progress.
///
/// # Servers
///
/// [`new`](NamedPipe::new) creates the first instance of a pipe, and [`new_instance`](NamedPipe::new_instance) each further one:
/// see [a pipe for several clients](crate::guide::windows#a-pipe-for-several-clients). [`connect`](NamedPipe::connect) waits for
/// a client. The event is writable, and [`take_error`](NamedPipe::take_error) returns whether the connection failed.
///
/// Create other kinds of pipes by `CreateNamedPipeW` with `FILE_FLAG_OVERLAPPED`, and convert their handles.
///
/// # Clients
///
/// A client is a file that is opened with the flag `FILE_FLAG_OVERLAPPED`, and then converted: see the example. While every
/// instance of the pipe has a client, opening fails with `ERROR_PIPE_BUSY` (231). Open the file again after a pause.
///
/// # Registering
///
/// Windows binds a handle to one completion port in its life. Therefore a pipe can be registered again only with its first
/// `Poll`. With another one the error is `AlreadyExists`, also after `deregister`, and after the first `Poll` was dropped.
///
/// [`Event::is_read_closed`](crate::event::Event::is_read_closed) and the other details of events are not set, because a server
/// can connect to the next client.
///
/// # Dropping
///
/// Dropping a pipe cancels its connect and its read. A write that is in progress continues until the last registry of the `Poll`
/// is dropped, so that accepted bytes arrive if the peer reads them and the program polls. No order of dropping pipes, polls and
/// registries is wrong.
///
/// # Examples
///
/// A server and a client in one program:
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
/// const SERVER: Token = Token(0);
/// const CLIENT: Token = Token(1);
/// const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
/// const FILE_FLAG_OVERLAPPED: u32 = 0x4000_0000;
///
/// let name = format!(r"\\.\pipe\kevio-example-{}", std::process::id());
/// let mut poll = Poll::new()?;
/// let mut server = NamedPipe::new(&name)?;
/// poll.registry().register(&mut server, SERVER, BOTH)?;
/// assert_eq!(server.connect().unwrap_err().kind(), ErrorKind::WouldBlock);
///
/// let file = OpenOptions::new().read(true).write(true).custom_flags(FILE_FLAG_OVERLAPPED).open(&name)?;
/// let mut client = NamedPipe::from(OwnedHandle::from(file));
/// poll.registry().register(&mut client, CLIENT, BOTH)?;
///
/// let mut events = Events::with_capacity(8);
/// let (mut request, mut response) = (Vec::new(), Vec::new());
/// let mut buffer = [0; 64];
/// while response.is_empty() {
///     poll.poll_until(&mut events, None)?;
///     for event in &events {
///         match event.token() {
///             CLIENT if event.is_writable() && request.is_empty() => match client.write(b"hello") {
///                 Ok(n) => request.extend_from_slice(&b"hello"[..n]),
///                 Err(error) if error.kind() == ErrorKind::WouldBlock => {}
///                 Err(error) => return Err(error),
///             },
///             // Operate until `WouldBlock`.
///             SERVER => loop {
///                 match server.read(&mut buffer) {
///                     Ok(0) => break,
///                     // The answer is accepted, because no other write is in progress.
///                     Ok(n) => drop(server.write(&buffer[..n])?),
///                     Err(error) if error.kind() == ErrorKind::WouldBlock => break,
///                     Err(error) => return Err(error),
///                 }
///             },
///             _ => match client.read(&mut buffer) {
///                 Ok(n) => response.extend_from_slice(&buffer[..n]),
///                 Err(error) if error.kind() == ErrorKind::WouldBlock => {}
///                 Err(error) => return Err(error),
///             },
///         }
///     }
/// }
/// assert_eq!(response, b"hello");
/// # io::Result::Ok(())
/// ```
pub struct NamedPipe {
    pipe: Pipe,
}

impl NamedPipe {
    /// Creates the first instance of a pipe with this name, such as `\\.\pipe\name`.
    ///
    /// The pipe transfers bytes in both directions. Other instances are permitted, and programs on other machines too.
    ///
    /// # Errors
    ///
    /// * `PermissionDenied`: the pipe exists already.
    /// * `InvalidInput`: the name contains a zero.
    /// * Other errors of `CreateNamedPipeW`.
    pub fn new<A: AsRef<OsStr>>(addr: A) -> io::Result<NamedPipe> {
        Pipe::create(addr.as_ref(), true).map(|pipe| NamedPipe { pipe })
    }

    /// Creates a further instance of a pipe that [`new`](NamedPipe::new) has created, for one more client at the same time.
    ///
    /// If the pipe has no instance, the call creates the first one. Only `new` ensures that the pipe is not one of another
    /// program.
    ///
    /// # Errors
    ///
    /// * `PermissionDenied`: the pipe has no right for this program, or other directions.
    /// * `InvalidInput`: the name contains a zero.
    /// * Other errors of [`CreateNamedPipeW`], such as `ERROR_PIPE_BUSY` (231): the pipe has as many instances as its creator
    ///   allows.
    ///
    /// # Examples
    ///
    /// The program of [a pipe for several clients](crate::guide::windows#a-pipe-for-several-clients).
    ///
    /// [`CreateNamedPipeW`]: https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-createnamedpipew
    pub fn new_instance<A: AsRef<OsStr>>(addr: A) -> io::Result<NamedPipe> {
        Pipe::create(addr.as_ref(), false).map(|pipe| NamedPipe { pipe })
    }

    /// Waits for a client, without blocking. `Ok` means that a client is connected already.
    ///
    /// An event is writable when the wait is over, also after `Ok`. Then call [`take_error`](NamedPipe::take_error). A program may
    /// therefore handle `Ok` and `WouldBlock` in the same way.
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: the pipe waits for a client from now on, or waits already.
    /// * `NotFound`: the pipe is not registered.
    /// * Other errors of `ConnectNamedPipe`. The end of a client cannot wait for a client.
    ///
    /// A client that has connected and left already is no error: the result is `Ok`. `read` returns the bytes that the client has
    /// written, and then the end.
    pub fn connect(&self) -> io::Result<()> {
        self.pipe.connect()
    }

    /// Returns the error of the last connect, if the connect has failed, and clears the error.
    ///
    /// # Errors
    ///
    /// None. The signature is that of mio.
    pub fn take_error(&self) -> io::Result<Option<io::Error>> {
        Ok(self.pipe.take_error())
    }

    /// Disconnects the client. The next client can be waited for with [`connect`](NamedPipe::connect).
    ///
    /// All operations in progress are canceled, and bytes and errors that were not returned yet are discarded. Bytes that the
    /// client has not read are lost, also after the event that the write is over. So that a last answer arrives, wait until
    /// `read` returns 0, which means that the client has closed its end. Or drop the pipe instead.
    ///
    /// # Errors
    ///
    /// Errors of `DisconnectNamedPipe`, for example because this is the end of a client. Then nothing is canceled.
    pub fn disconnect(&self) -> io::Result<()> {
        self.pipe.disconnect()
    }
}

impl Read for &NamedPipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.pipe.read(buf.len(), |bytes| bytes.read(buf))
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let capacity = bufs.iter().map(|buf| buf.len()).fold(0, usize::saturating_add);
        self.pipe.read(capacity, |bytes| bytes.read_vectored(bufs))
    }
}

/// Flushing has no effect.
impl Write for &NamedPipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.pipe.write(iter::once(buf))
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        self.pipe.write(bufs.iter().map(|buf| &**buf))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for NamedPipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buf)
    }

    fn read_vectored(&mut self, bufs: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&*self).read_vectored(bufs)
    }
}

/// Flushing has no effect.
impl Write for NamedPipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&*self).write(buf)
    }

    fn write_vectored(&mut self, bufs: &[IoSlice<'_>]) -> io::Result<usize> {
        (&*self).write_vectored(bufs)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Source for NamedPipe {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        registry.check_process()?;
        self.pipe.register(registry.selector(), token, interests)?;
        registry.count_registration();
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        registry.check_process()?;
        self.pipe.reregister(registry.selector(), token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.check_process()?;
        self.pipe.deregister(registry.selector())
    }
}

/// Wraps a handle that was opened with `FILE_FLAG_OVERLAPPED`, is bound to no completion port, and does not have the mode
/// `FILE_SKIP_COMPLETION_PORT_ON_SUCCESS`.
///
/// If the handle is bound already, registering fails. In that mode, or without the flag, operations would end without a packet,
/// and their buffers would never return.
impl From<OwnedHandle> for NamedPipe {
    fn from(handle: OwnedHandle) -> NamedPipe {
        NamedPipe { pipe: Pipe::new(handle) }
    }
}

/// The conditions are those of `From<OwnedHandle>`.
impl FromRawHandle for NamedPipe {
    unsafe fn from_raw_handle(handle: RawHandle) -> NamedPipe {
        // SAFETY: the caller guarantees that the handle is open and has no other owner.
        NamedPipe::from(unsafe { OwnedHandle::from_raw_handle(handle) })
    }
}

/// Do not start overlapped operations with the handle: their packets would come to the `Poll`, which would take their records for
/// its own.
impl AsRawHandle for NamedPipe {
    fn as_raw_handle(&self) -> RawHandle {
        self.pipe.handle().as_raw_handle()
    }
}

/// The note of [`AsRawHandle`](#impl-AsRawHandle-for-NamedPipe) applies.
impl AsHandle for NamedPipe {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.pipe.handle()
    }
}

/// Writes the handle.
impl fmt::Debug for NamedPipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedPipe").field("handle", &self.as_raw_handle()).finish()
    }
}
