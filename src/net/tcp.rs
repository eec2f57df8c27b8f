use std::io;
use std::net::{self, Shutdown, SocketAddr};

use socket2::{Domain, Type};

use crate::delegate::{delegate, impl_read, impl_std_conversions, impl_write};
use crate::io_source::IoSource;
use crate::sys::raw_source::{borrow_source, OwnedSource};
use crate::sys::socket;

/// A TCP stream.
///
/// # Examples
///
/// ```
/// use kevio::net::TcpStream;
/// use kevio::{Events, Interest, Poll, Token};
///
/// let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
/// let mut stream = TcpStream::connect(listener.local_addr()?)?;
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// poll.registry().register(&mut stream, Token(0), Interest::WRITABLE)?;
/// poll.poll(&mut events, None)?;
///
/// assert!(events.iter().any(|event| event.is_writable()));
/// match stream.take_error()? {
///     Some(error) => panic!("not connected: {error}"),
///     None => assert_eq!(stream.peer_addr()?, listener.local_addr()?),
/// }
/// # std::io::Result::Ok(())
/// ```
pub struct TcpStream {
    inner: IoSource<net::TcpStream>,
}

impl_std_conversions!(TcpStream, net::TcpStream);
impl_read!(TcpStream, &TcpStream);
impl_write!(TcpStream, &TcpStream);

impl TcpStream {
    /// Starts to connect, and returns before the connect has ended.
    ///
    /// The connect has ended when the stream becomes writable. The connect has succeeded if
    /// [`take_error`](TcpStream::take_error) returns `None` and [`peer_addr`](TcpStream::peer_addr) succeeds. If `peer_addr`
    /// returns `ErrorKind::NotConnected`, the event was spurious: reregister the stream, and wait for the next event. The page
    /// [connecting](crate::guide::connecting) has a program.
    ///
    /// # Errors
    ///
    /// Errors of socket(2), and of connect(2) if connect(2) fails at once.
    pub fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
        let socket = socket::new(Domain::for_address(addr), Type::STREAM)?;
        socket::connect(&socket, &addr.into())?;
        Ok(OwnedSource::from(socket).into())
    }

    delegate! {
        /// Returns the address of the peer. The error is `NotConnected` before the connect has ended.
        pub fn peer_addr(&self) -> io::Result<SocketAddr> = "getpeername(2)";
        /// Returns the address of this socket.
        pub fn local_addr(&self) -> io::Result<SocketAddr> = "getsockname(2)";
        /// Shuts down one direction or both. The error is `NotConnected` if the stream is not connected.
        pub fn shutdown(&self, how: Shutdown) -> io::Result<()> = "shutdown(2)";
        /// Enables `TCP_NODELAY` (small writes are sent at once), or disables it (small writes are collected).
        pub fn set_nodelay(&self, nodelay: bool) -> io::Result<()> = "setsockopt(2)";
        /// Returns `true` if small writes are sent at once.
        pub fn nodelay(&self) -> io::Result<bool> = "getsockopt(2)";
        /// Sets the maximum number of hops of a packet (`IP_TTL`).
        pub fn set_ttl(&self, ttl: u32) -> io::Result<()> = "setsockopt(2)";
        /// Returns the maximum number of hops of a packet.
        pub fn ttl(&self) -> io::Result<u32> = "getsockopt(2)";
        /// Returns the pending error (`SO_ERROR`), and clears it.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> = "getsockopt(2)";
    }

    /// Reads data, and leaves the data in the socket.
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: there is no data.
    /// * Errors of recv(2).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_io(|inner| inner.peek(buf))
    }

    /// Performs an operation for which this type has no method, and returns the result.
    ///
    /// # Errors
    ///
    /// Errors of the operation. The operation must return `ErrorKind::WouldBlock` if its system call would block.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    ///
    /// use kevio::net::TcpStream;
    /// use socket2::SockRef;
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// let stream = TcpStream::connect(listener.local_addr()?)?;
    /// # let _peer = listener.accept()?;
    /// let mut buffer = [std::mem::MaybeUninit::uninit(); 64];
    /// let result = stream.try_io(|| SockRef::from(&stream).recv_out_of_band(&mut buffer));
    /// assert!(result.is_err(), "nothing urgent was sent");
    /// # io::Result::Ok(())
    /// ```
    pub fn try_io<F, T>(&self, operation: F) -> io::Result<T>
    where
        F: FnOnce() -> io::Result<T>,
    {
        self.inner.try_io(operation)
    }
}

/// A TCP socket that accepts connections.
///
/// # Examples
///
/// ```
/// use kevio::net::TcpListener;
/// use kevio::{Events, Interest, Poll, Token};
///
/// let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// poll.registry().register(&mut listener, Token(0), Interest::READABLE)?;
///
/// let client = std::net::TcpStream::connect(listener.local_addr()?)?;
/// poll.poll(&mut events, None)?;
/// let (stream, address) = listener.accept()?;
/// assert_eq!(address, client.local_addr()?);
/// assert_eq!(stream.peer_addr()?, address);
/// # std::io::Result::Ok(())
/// ```
pub struct TcpListener {
    inner: IoSource<net::TcpListener>,
}

impl_std_conversions!(TcpListener, net::TcpListener);

impl TcpListener {
    /// Creates a listener that is bound to `addr`, with `SO_REUSEADDR` except on Windows. For port 0 the system
    /// chooses a port.
    ///
    /// # Errors
    ///
    /// * `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`.
    /// * Other errors of socket(2), bind(2) and listen(2).
    pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
        let socket = socket::new(Domain::for_address(addr), Type::STREAM)?;
        socket::reuse_address(&socket)?;
        socket.bind(&addr.into())?;
        socket.listen(socket::TCP_BACKLOG)?;
        Ok(OwnedSource::from(socket).into())
    }

    /// Accepts a connection. The stream is non-blocking and close-on-exec.
    ///
    /// After an event, accept until `WouldBlock`, because one event may be reported for several connections.
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: there is no connection.
    /// * `ConnectionAborted`, on Windows `ConnectionReset`: the peer has closed the connection. Accept the next connection.
    /// * `EMFILE`, on Windows `WSAEMFILE`: no descriptor is left. The connection stays in the queue, and no new event is guaranteed. Accept again when
    ///   descriptors are free.
    /// * Other errors of accept(2).
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.inner.read_io(|inner| {
            let (socket, address) = socket::accept(borrow_source(inner))?;
            let stream = net::TcpStream::from(socket);
            let address = socket::std_address(&address, &stream);
            Ok((TcpStream::from_std(stream), address))
        })
    }

    delegate! {
        /// Returns the address that the listener is bound to.
        pub fn local_addr(&self) -> io::Result<SocketAddr> = "getsockname(2)";
        /// Sets the maximum number of hops of a packet (`IP_TTL`).
        pub fn set_ttl(&self, ttl: u32) -> io::Result<()> = "setsockopt(2)";
        /// Returns the maximum number of hops of a packet.
        pub fn ttl(&self) -> io::Result<u32> = "getsockopt(2)";
        /// Returns the pending error (`SO_ERROR`), and clears it.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> = "getsockopt(2)";
    }
}
