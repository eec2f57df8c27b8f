use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{self, SocketAddr};
use std::path::Path;

use socket2::{Domain, Type};

use crate::io_source::{forward, io_source_read, io_source_std, io_source_write, IoSource};
use crate::sys::socket;

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

io_source_std!(UnixStream, net::UnixStream);
io_source_read!(UnixStream, &UnixStream);
io_source_write!(UnixStream, &UnixStream);

impl UnixStream {
    /// Connects to the listener at `path`.
    ///
    /// # Errors
    ///
    /// `NotFound`, `ConnectionRefused`; `WouldBlock` if the listener's queue is full (Linux); those of connect(2).
    pub fn connect<P: AsRef<Path>>(path: P) -> io::Result<UnixStream> {
        UnixStream::connect_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Connects to the listener at `address`, which may be an abstract name on Linux.
    ///
    /// # Errors
    ///
    /// As [`connect`](UnixStream::connect).
    pub fn connect_addr(address: &SocketAddr) -> io::Result<UnixStream> {
        let socket = socket::new(Domain::UNIX, Type::STREAM)?;
        socket::connect(&socket, &socket::unix_address(address)?)?;
        Ok(OwnedFd::from(socket).into())
    }

    /// Two streams, connected with each other.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2).
    pub fn pair() -> io::Result<(UnixStream, UnixStream)> {
        let (a, b) = socket::pair(Type::STREAM)?;
        Ok((a.into(), b.into()))
    }

    /// The address of this end; unnamed if it has none, or one that is longer than a [`SocketAddr`] holds.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::unix_local(self.inner.as_fd(), || self.inner.local_addr())
    }

    /// The address of the peer, as [`local_addr`](Self::local_addr); `NotConnected` if there is none.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        socket::unix_peer(self.inner.as_fd(), || self.inner.peer_addr())
    }

    forward! {
        /// Fetches the pending error (`SO_ERROR`), and clears it.
        take_error() -> Option<io::Error>, "getsockopt(2)";
        /// Shuts down one direction or both; `NotConnected` if there is no peer.
        shutdown(how: Shutdown) -> (), "shutdown(2)";
    }

    /// Does an operation on the descriptor that this type has no method for, and returns its result.
    ///
    /// # Errors
    ///
    /// Those of the operation; it returns `ErrorKind::WouldBlock` when the kernel does.
    pub fn try_io<F, T>(&self, operation: F) -> io::Result<T>
    where
        F: FnOnce() -> io::Result<T>,
    {
        self.inner.try_io(operation)
    }
}

/// A Unix socket that accepts connections.
///
/// The file that it is bound to stays when it is dropped.
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

io_source_std!(UnixListener, net::UnixListener);

impl UnixListener {
    /// Binds to `path`, which must not exist, and listens.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if there is something at `path`; those of bind(2) and listen(2).
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixListener> {
        UnixListener::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Binds to `address`, which may be an abstract name on Linux, and listens.
    ///
    /// # Errors
    ///
    /// As [`bind`](UnixListener::bind).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixListener> {
        let socket = socket::new(Domain::UNIX, Type::STREAM)?;
        socket.bind(&socket::unix_address(address)?)?;
        socket.listen(socket::UNIX_BACKLOG)?;
        Ok(OwnedFd::from(socket).into())
    }

    /// Accepts a connection; the stream is non-blocking and close-on-exec.
    ///
    /// The address is unnamed if the peer's name is longer than a [`SocketAddr`] holds: on Linux none is, on other
    /// systems one that fills all of `sun_path`, or more.
    ///
    /// # Errors
    ///
    /// As [`TcpListener::accept`](crate::net::TcpListener::accept).
    pub fn accept(&self) -> io::Result<(UnixStream, SocketAddr)> {
        self.inner.read_io(|inner| {
            let (socket, address) = socket::accept(inner.as_fd())?;
            let stream = net::UnixStream::from(socket);
            let address = socket::std_unix_address(&address, || stream.peer_addr());
            Ok((UnixStream::from_std(stream), address))
        })
    }

    /// The address of this end; unnamed if it has none, or one that is longer than a [`SocketAddr`] holds.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::unix_local(self.inner.as_fd(), || self.inner.local_addr())
    }

    forward! {
        /// Fetches the pending error (`SO_ERROR`), and clears it.
        take_error() -> Option<io::Error>, "getsockopt(2)";
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

io_source_std!(UnixDatagram, net::UnixDatagram);

impl UnixDatagram {
    /// Binds to `path`, which must not exist.
    ///
    /// # Errors
    ///
    /// `AddrInUse` if there is something at `path`; those of bind(2).
    pub fn bind<P: AsRef<Path>>(path: P) -> io::Result<UnixDatagram> {
        UnixDatagram::bind_addr(&SocketAddr::from_pathname(path)?)
    }

    /// Binds to `address`, which may be an abstract name on Linux.
    ///
    /// # Errors
    ///
    /// As [`bind`](UnixDatagram::bind).
    pub fn bind_addr(address: &SocketAddr) -> io::Result<UnixDatagram> {
        let socket = socket::new(Domain::UNIX, Type::DGRAM)?;
        socket.bind(&socket::unix_address(address)?)?;
        Ok(OwnedFd::from(socket).into())
    }

    /// A socket without a name, which can send.
    ///
    /// # Errors
    ///
    /// Those of socket(2).
    pub fn unbound() -> io::Result<UnixDatagram> {
        Ok(OwnedFd::from(socket::new(Domain::UNIX, Type::DGRAM)?).into())
    }

    /// Two sockets, connected with each other.
    ///
    /// # Errors
    ///
    /// Those of socketpair(2).
    pub fn pair() -> io::Result<(UnixDatagram, UnixDatagram)> {
        let (a, b) = socket::pair(Type::DGRAM)?;
        Ok((a.into(), b.into()))
    }

    /// Sets the peer that [`send`](UnixDatagram::send) sends to.
    ///
    /// # Errors
    ///
    /// Those of connect(2).
    pub fn connect<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.inner.connect(path)
    }

    /// Receives a datagram, and the address of its sender. What does not fit into `buf` is lost.
    ///
    /// The address is unnamed if the name is longer than a [`SocketAddr`] holds, as in
    /// [`UnixListener::accept`](UnixListener::accept).
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; those of recvfrom(2).
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.inner.read_io(|inner| socket::unix_recv_from(inner, buf))
    }

    /// Receives a datagram. What does not fit into `buf` is lost.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; those of recv(2).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_io(|inner| inner.recv(buf))
    }

    /// Sends a datagram to the socket at `path`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if the receiver's queue is full (the BSDs and Apple systems say `ENOBUFS`); those of sendto(2).
    pub fn send_to<P: AsRef<Path>>(&self, buf: &[u8], path: P) -> io::Result<usize> {
        self.inner.write_io(|inner| inner.send_to(buf, path))
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    ///
    /// As [`send_to`](UnixDatagram::send_to); `NotConnected` without a peer.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write_io(|inner| inner.send(buf))
    }

    /// The address of this end; unnamed if it has none, or one that is longer than a [`SocketAddr`] holds.
    ///
    /// # Errors
    ///
    /// Those of getsockname(2).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        socket::unix_local(self.inner.as_fd(), || self.inner.local_addr())
    }

    /// The address of the peer, as [`local_addr`](Self::local_addr); `NotConnected` if there is none.
    ///
    /// # Errors
    ///
    /// Those of getpeername(2).
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
        socket::unix_peer(self.inner.as_fd(), || self.inner.peer_addr())
    }

    forward! {
        /// Fetches the pending error (`SO_ERROR`), and clears it.
        take_error() -> Option<io::Error>, "getsockopt(2)";
        /// Shuts down one direction or both; `NotConnected` if there is no peer.
        shutdown(how: Shutdown) -> (), "shutdown(2)";
    }

    /// Does an operation on the descriptor that this type has no method for, and returns its result.
    ///
    /// # Errors
    ///
    /// Those of the operation; it returns `ErrorKind::WouldBlock` when the kernel does.
    pub fn try_io<F, T>(&self, operation: F) -> io::Result<T>
    where
        F: FnOnce() -> io::Result<T>,
    {
        self.inner.try_io(operation)
    }
}
