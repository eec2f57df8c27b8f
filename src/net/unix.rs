use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use socket2::{Domain, Type};

use crate::delegate::{delegate, impl_read, impl_std_conversions, impl_write};
use crate::io_source::IoSource;
use crate::sys::unix::socket;

/// A Unix stream.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write};
///
/// use kevio::net::UnixStream;
///
/// let (mut a, mut b) = UnixStream::pair()?;
/// a.write_all(b"hello")?;
/// let mut buffer = [0; 8];
/// assert_eq!(b.read(&mut buffer)?, 5);
/// # std::io::Result::Ok(())
/// ```
pub struct UnixStream {
    inner: IoSource<net::UnixStream>,
}

impl_std_conversions!(UnixStream, net::UnixStream);
impl_read!(UnixStream, &UnixStream);
impl_write!(UnixStream, &UnixStream);

impl UnixStream {
    /// Connects to the listener at `path`.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the path is longer than an address can hold (about 100 bytes), or contains a zero byte.
    /// * `NotFound`: there is no socket at `path`.
    /// * `ConnectionRefused`: there is no listener at `path`.
    /// * `WouldBlock`: the queue of the listener is full (Linux).
    /// * Other errors of connect(2).
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&socket::unix_path(path.as_ref())?)
    }

    /// Connects to the listener at `address`. On Linux the address may be an abstract name.
    ///
    /// # Errors
    ///
    /// The errors of [`connect`](UnixStream::connect).
    pub fn connect_addr(address: &SocketAddr) -> io::Result<UnixStream> {
        let socket = socket::new(Domain::UNIX, Type::STREAM)?;
        socket::connect(&socket, &socket::unix_address(address)?)?;
        Ok(OwnedFd::from(socket).into())
    }

    /// Creates two streams that are connected with each other.
    ///
    /// # Errors
    ///
    /// Errors of socketpair(2).
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (a, b) = socket::pair(Type::STREAM)?;
        Ok((a.into(), b.into()))
    }

    /// Returns the address of this socket. The address is unnamed if the socket has no name, or if its name is longer than a
    /// [`SocketAddr`] holds.
    ///
    /// # Errors
    ///
    /// Errors of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::unix_local(self.inner.as_fd(), || self.inner.local_addr())
    }

    /// Returns the address of the peer, like [`local_addr`](Self::local_addr). Without a peer the error is `NotConnected`.
    ///
    /// # Errors
    ///
    /// Errors of getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        socket::unix_peer(self.inner.as_fd(), || self.inner.peer_addr())
    }

    delegate! {
        /// Returns the pending error (`SO_ERROR`), and clears it.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> = "getsockopt(2)";
        /// Shuts down one direction or both. Without a peer the error is `NotConnected`.
        pub fn shutdown(&self, how: Shutdown) -> io::Result<()> = "shutdown(2)";
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

/// A Unix socket that accepts connections.
///
/// Dropping the listener does not remove the file that the listener is bound to.
///
/// # Examples
///
/// ```
/// use kevio::net::{UnixListener, UnixStream};
/// use kevio::{Events, Interest, Poll, Token};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("socket");
/// let mut listener = UnixListener::bind(&path)?;
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
pub struct UnixListener {
    inner: IoSource<net::UnixListener>,
}

impl_std_conversions!(UnixListener, net::UnixListener);

impl UnixListener {
    /// Creates a listener that is bound to `path`, which must not exist.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the path is longer than an address can hold (about 100 bytes), or contains a zero byte.
    /// * `AddrInUse`: a file exists at `path`.
    /// * Other errors of bind(2) and listen(2).
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        UnixListener::bind_addr(&socket::unix_path(path.as_ref())?)
    }

    /// Creates a listener that is bound to `address`. On Linux the address may be an abstract name.
    ///
    /// # Errors
    ///
    /// The errors of [`bind`](UnixListener::bind).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixListener> {
        let socket = socket::new(Domain::UNIX, Type::STREAM)?;
        socket.bind(&socket::unix_address(address)?)?;
        socket.listen(socket::UNIX_BACKLOG)?;
        Ok(OwnedFd::from(socket).into())
    }

    /// Accepts a connection. The stream is non-blocking and close-on-exec.
    ///
    /// The returned address is unnamed if the name of the peer is longer than a [`SocketAddr`] holds. No name is too long on
    /// Linux. On other systems a name is too long if it fills all of `sun_path`.
    ///
    /// # Errors
    ///
    /// The errors of [`TcpListener::accept`](crate::net::TcpListener::accept).
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.inner.read_io(|inner| {
            let (socket, address) = socket::accept(inner.as_fd())?;
            let stream = net::UnixStream::from(socket);
            let address = socket::std_unix_address(&address, || stream.peer_addr());
            Ok((UnixStream::from_std(stream), address))
        })
    }

    /// Returns the address of this socket. The address is unnamed if the socket has no name, or if its name is longer than a
    /// [`SocketAddr`] holds.
    ///
    /// # Errors
    ///
    /// Errors of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::unix_local(self.inner.as_fd(), || self.inner.local_addr())
    }

    delegate! {
        /// Returns the pending error (`SO_ERROR`), and clears it.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> = "getsockopt(2)";
    }
}

/// A Unix datagram socket.
///
/// # Examples
///
/// ```
/// use kevio::net::UnixDatagram;
///
/// let (a, b) = UnixDatagram::pair()?;
/// a.send(b"hello")?;
/// let mut buffer = [0; 8];
/// assert_eq!(b.recv(&mut buffer)?, 5);
/// # std::io::Result::Ok(())
/// ```
pub struct UnixDatagram {
    inner: IoSource<net::UnixDatagram>,
}

impl_std_conversions!(UnixDatagram, net::UnixDatagram);

impl UnixDatagram {
    /// Creates a socket that is bound to `path`, which must not exist.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the path is longer than an address can hold (about 100 bytes), or contains a zero byte.
    /// * `AddrInUse`: a file exists at `path`.
    /// * Other errors of bind(2).
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_addr(&socket::unix_path(path.as_ref())?)
    }

    /// Creates a socket that is bound to `address`. On Linux the address may be an abstract name.
    ///
    /// # Errors
    ///
    /// The errors of [`bind`](UnixDatagram::bind).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixDatagram> {
        let socket = socket::new(Domain::UNIX, Type::DGRAM)?;
        socket.bind(&socket::unix_address(address)?)?;
        Ok(OwnedFd::from(socket).into())
    }

    /// Creates a socket without a name, which can send.
    ///
    /// # Errors
    ///
    /// Errors of socket(2).
    pub fn unbound() -> io::Result<UnixDatagram> {
        Ok(OwnedFd::from(socket::new(Domain::UNIX, Type::DGRAM)?).into())
    }

    /// Creates two sockets that are connected with each other.
    ///
    /// # Errors
    ///
    /// Errors of socketpair(2).
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (a, b) = socket::pair(Type::DGRAM)?;
        Ok((a.into(), b.into()))
    }

    /// Sets the peer that [`send`](UnixDatagram::send) sends to.
    ///
    /// # Errors
    ///
    /// Errors of connect(2).
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.inner.connect(path)
    }

    /// Receives a datagram, and returns its length and the address of the sender. Bytes that do not fit into `buf` are lost.
    ///
    /// The returned address is unnamed if the name of the sender is longer than a [`SocketAddr`] holds: see
    /// [`UnixListener::accept`].
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: there is no datagram.
    /// * Errors of recvfrom(2).
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.inner.read_io(|inner| socket::unix_recv_from(inner, buf))
    }

    /// Receives a datagram. Bytes that do not fit into `buf` are lost.
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: there is no datagram.
    /// * Errors of recv(2).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_io(|inner| inner.recv(buf))
    }

    /// Sends a datagram to the socket at `path`.
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: the queue of the receiver is full. The BSDs and Apple systems return `ENOBUFS`.
    /// * Other errors of sendto(2).
    pub fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        self.inner.write_io(|inner| inner.send_to(buf, path))
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    ///
    /// * `NotConnected`: the socket has no peer.
    /// * The errors of [`send_to`](UnixDatagram::send_to).
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write_io(|inner| inner.send(buf))
    }

    /// Returns the address of this socket. The address is unnamed if the socket has no name, or if its name is longer than a
    /// [`SocketAddr`] holds.
    ///
    /// # Errors
    ///
    /// Errors of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::unix_local(self.inner.as_fd(), || self.inner.local_addr())
    }

    /// Returns the address of the peer, like [`local_addr`](Self::local_addr). Without a peer the error is `NotConnected`.
    ///
    /// # Errors
    ///
    /// Errors of getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        socket::unix_peer(self.inner.as_fd(), || self.inner.peer_addr())
    }

    delegate! {
        /// Returns the pending error (`SO_ERROR`), and clears it.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> = "getsockopt(2)";
        /// Shuts down one direction or both. Without a peer the error is `NotConnected`.
        pub fn shutdown(&self, how: Shutdown) -> io::Result<()> = "shutdown(2)";
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
