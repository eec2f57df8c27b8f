use std::io;
use std::net::Shutdown;
use std::os::windows::io::AsSocket;
use std::path::Path;
use std::{fmt, str};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::delegate::{delegate, impl_read, impl_source, impl_write};
use crate::io_source::IoSource;
use crate::sys::error::invalid_input;
use crate::sys::socket;

/// The address of a Unix socket: a path, or unnamed.
///
/// The type has the methods of `std::os::unix::net::SocketAddr`, which std does not have on Windows.
#[derive(Clone)]
pub struct UnixSocketAddr {
    path: String,
}

impl UnixSocketAddr {
    /// Returns the address of a socket in the file system.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the path is longer than 107 bytes in UTF-8, contains a zero, or is not Unicode.
    ///
    /// # Examples
    ///
    /// ```
    /// use kevio::net::UnixSocketAddr;
    ///
    /// let address = UnixSocketAddr::from_pathname("socket")?;
    /// assert_eq!(address.as_pathname(), Some("socket".as_ref()));
    /// assert!(!address.is_unnamed());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn from_pathname<P: AsRef<Path>>(path: P) -> io::Result<UnixSocketAddr> {
        let path = path.as_ref().to_str().ok_or_else(|| invalid("is not Unicode"))?;
        if path.contains('\0') {
            return Err(invalid("contains a zero"));
        }
        // The limit of the address is checked here too.
        SockAddr::unix(path).map_err(|_| invalid("is longer than the 107 bytes for which the address has space"))?;
        Ok(UnixSocketAddr { path: path.to_owned() })
    }

    /// Returns the path. `None` if the address is unnamed.
    #[must_use]
    pub fn as_pathname(&self) -> Option<&Path> {
        (!self.is_unnamed()).then(|| Path::new(&self.path))
    }

    /// Returns `true` if the address is unnamed, as that of a stream that has connected.
    #[must_use]
    pub fn is_unnamed(&self) -> bool {
        self.path.is_empty()
    }

    fn to_socket2(&self) -> io::Result<SockAddr> {
        SockAddr::unix(&self.path)
    }

    /// Converts an address of the system. The name ends at its first zero.
    fn of(address: &SockAddr) -> UnixSocketAddr {
        const FAMILY_LEN: usize = std::mem::size_of::<u16>();
        let len = address.len() as usize;
        if !address.is_unix() || len <= FAMILY_LEN {
            return UnixSocketAddr { path: String::new() };
        }
        // SAFETY: the storage of the address has at least `len` bytes, and the system has initialized all of it.
        let bytes = unsafe { std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), len) };
        let name = &bytes[FAMILY_LEN..];
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        UnixSocketAddr { path: String::from_utf8_lossy(&name[..end]).into_owned() }
    }
}

/// Writes the path, or that the address is unnamed.
impl fmt::Debug for UnixSocketAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_pathname() {
            Some(path) => write!(f, "{path:?} (pathname)"),
            None => f.write_str("(unnamed)"),
        }
    }
}

#[cold]
fn invalid(reason: &str) -> io::Error {
    invalid_input(format!("a Unix socket cannot be bound or connected to a path that {reason}: pass another path"))
}

/// A Unix stream, on Windows 10 1803, Windows Server 2019 and later.
///
/// The methods are those of the `UnixStream` of other systems, except `pair`, which Windows does not have. wine has no Unix
/// sockets. See [AF_UNIX comes to Windows](https://devblogs.microsoft.com/commandline/af_unix-comes-to-windows/).
///
/// # Examples
///
/// ```
/// use std::io::ErrorKind;
///
/// use kevio::net::{UnixListener, UnixStream};
/// use kevio::{Events, Interest, Poll, Token};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("socket");
/// let mut listener = match UnixListener::bind(&path) {
///     Ok(listener) => listener,
///     // This Windows has no Unix sockets.
///     Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
///     Err(error) => return Err(error),
/// };
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
///
/// let client = UnixStream::connect(&path)?;
/// poll.poll(&mut events, None)?;
/// let (stream, _address) = listener.accept()?;
/// # drop((stream, client));
/// # std::io::Result::Ok(())
/// ```
pub struct UnixStream {
    inner: IoSource<Socket>,
}

impl_source!(UnixStream, Socket);
impl_read!(UnixStream, &UnixStream);
impl_write!(UnixStream, &UnixStream);

impl UnixStream {
    /// Connects to the listener at `path`.
    ///
    /// # Errors
    ///
    /// * `Unsupported`: this Windows has no Unix sockets.
    /// * `InvalidInput`: the path is longer than 107 bytes in UTF-8, contains a zero, or is not Unicode.
    /// * `ConnectionRefused`: there is no listener at `path`.
    /// * Other errors of
    ///   [connect()](https://learn.microsoft.com/en-us/windows/win32/api/winsock2/nf-winsock2-connect).
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&UnixSocketAddr::from_pathname(path)?)
    }

    /// Connects to the listener at `address`.
    ///
    /// # Errors
    ///
    /// The errors of [`connect`](UnixStream::connect).
    pub fn connect_addr(address: &UnixSocketAddr) -> io::Result<UnixStream> {
        let socket = new_socket()?;
        socket::connect(&socket, &address.to_socket2()?)?;
        Ok(UnixStream { inner: IoSource::new(socket) })
    }

    /// Returns the address of this socket.
    ///
    /// # Errors
    ///
    /// Errors of getsockname().
    pub fn local_addr(&self) -> io::Result<UnixSocketAddr> {
        self.inner.local_addr().map(|address| UnixSocketAddr::of(&address))
    }

    /// Returns the address of the peer. Without a peer the error is `NotConnected`.
    ///
    /// # Errors
    ///
    /// Errors of getpeername().
    pub fn peer_addr(&self) -> io::Result<UnixSocketAddr> {
        self.inner.peer_addr().map(|address| UnixSocketAddr::of(&address))
    }

    delegate! {
        /// Returns the pending error (`SO_ERROR`), and clears it.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> = "getsockopt()";
        /// Shuts down one direction or both. Without a peer the error is `NotConnected`.
        pub fn shutdown(&self, how: Shutdown) -> io::Result<()> = "shutdown()";
    }

    /// Performs an operation for which this type has no method, and returns the result.
    ///
    /// # Errors
    ///
    /// Errors of the operation. The operation must return `ErrorKind::WouldBlock` if its system call would block.
    pub fn try_io<F, T>(&self, operation: F) -> io::Result<T>
    where
        F: FnOnce() -> io::Result<T>,
    {
        self.inner.try_io(operation)
    }
}

/// A Unix socket that accepts connections, on Windows 10 1803, Windows Server 2019 and later.
///
/// Dropping the listener does not remove the file that the listener is bound to. [`UnixStream`] has an example.
pub struct UnixListener {
    inner: IoSource<Socket>,
}

impl_source!(UnixListener, Socket);

impl UnixListener {
    /// Creates a listener that is bound to `path`, which must not exist.
    ///
    /// # Errors
    ///
    /// * `Unsupported`: this Windows has no Unix sockets.
    /// * `InvalidInput`: the path is longer than 107 bytes in UTF-8, contains a zero, or is not Unicode.
    /// * `AddrInUse`: a file exists at `path`.
    /// * Other errors of bind() and listen().
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        UnixListener::bind_addr(&UnixSocketAddr::from_pathname(path)?)
    }

    /// Creates a listener that is bound to `address`.
    ///
    /// # Errors
    ///
    /// The errors of [`bind`](UnixListener::bind).
    pub fn bind_addr(address: &UnixSocketAddr) -> io::Result<UnixListener> {
        let socket = new_socket()?;
        socket.bind(&address.to_socket2()?)?;
        socket.listen(socket::TCP_BACKLOG)?;
        Ok(UnixListener { inner: IoSource::new(socket) })
    }

    /// Accepts a connection. The stream is non-blocking, and child processes do not inherit it.
    ///
    /// # Errors
    ///
    /// The errors of [`TcpListener::accept`](crate::net::TcpListener::accept).
    pub fn accept(&self) -> io::Result<(UnixStream, UnixSocketAddr)> {
        self.inner.read_io(|inner| {
            let (socket, address) = socket::accept(inner.as_socket())?;
            Ok((UnixStream { inner: IoSource::new(socket.into()) }, UnixSocketAddr::of(&address)))
        })
    }

    /// Returns the address of this socket.
    ///
    /// # Errors
    ///
    /// Errors of getsockname().
    pub fn local_addr(&self) -> io::Result<UnixSocketAddr> {
        self.inner.local_addr().map(|address| UnixSocketAddr::of(&address))
    }

    delegate! {
        /// Returns the pending error (`SO_ERROR`), and clears it.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> = "getsockopt()";
    }
}

/// Writes the addresses and the socket, as the types of std do.
macro_rules! impl_debug {
    ($name:ident) => {
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut value = f.debug_struct(stringify!($name));
                if let Ok(address) = self.local_addr() {
                    value.field("local", &address);
                }
                value.field("socket", &self.inner.as_socket()).finish()
            }
        }
    };
}

impl_debug!(UnixStream);
impl_debug!(UnixListener);

/// Returns a new socket. A Windows without Unix sockets is `Unsupported`.
fn new_socket() -> io::Result<Socket> {
    socket::new(Domain::UNIX, Type::STREAM).map_err(|error| match socket::is_unsupported_family(&error) {
        true => crate::sys::error::unsupported(
            "a Unix socket cannot be created, because this Windows has none (Windows 10 1803 and Windows Server 2019 do): \
             use a `TcpStream` over the loopback, or a `NamedPipe`",
        ),
        false => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_has_the_path_that_it_was_made_of() {
        let address = UnixSocketAddr::from_pathname(r"C:\temp\ä").unwrap();
        assert_eq!(address.as_pathname(), Some(Path::new(r"C:\temp\ä")));
        let converted = UnixSocketAddr::of(&address.to_socket2().unwrap());
        assert_eq!(converted.as_pathname(), address.as_pathname());
        let unnamed = UnixSocketAddr { path: String::new() };
        assert!(unnamed.is_unnamed() && unnamed.as_pathname().is_none());
        assert_eq!(format!("{unnamed:?}"), "(unnamed)");
    }

    #[test]
    fn path_that_the_address_cannot_hold_is_rejected() {
        for path in ["a\0b".to_owned(), "x".repeat(108)] {
            let error = UnixSocketAddr::from_pathname(&path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{error}");
        }
        assert!(UnixSocketAddr::from_pathname("x".repeat(107)).is_ok());
    }
}
