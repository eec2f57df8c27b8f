use std::io;
use std::net::{self, Shutdown, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use socket2::{Domain, Type};

use crate::io_source::{forward, io_source_read, io_source_std, io_source_write, IoSource};
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

io_source_std!(TcpStream, net::TcpStream);
io_source_read!(TcpStream, &TcpStream);
io_source_write!(TcpStream, &TcpStream);

impl TcpStream {
    /// Starts to connect, and returns before it is done.
    ///
    /// It has ended when the stream becomes writable: well if [`take_error`](TcpStream::take_error) is `None` and
    /// [`peer_addr`](TcpStream::peer_addr) succeeds. If that is `ErrorKind::NotConnected`, the event was spurious.
    ///
    /// # Errors
    ///
    /// Those of socket(2), and of connect(2) where it fails at once.
    pub fn connect(addr: SocketAddr) -> io::Result<TcpStream> {
        let socket = socket::new(Domain::for_address(addr), Type::STREAM)?;
        socket::connect(&socket, &addr.into())?;
        Ok(OwnedFd::from(socket).into())
    }

    forward! {
        /// The address of the peer; `NotConnected` before the connect has ended.
        peer_addr() -> SocketAddr, "getpeername(2)";
        /// The address of this end.
        local_addr() -> SocketAddr, "getsockname(2)";
        /// Shuts down one direction or both; `NotConnected` if the stream is not connected.
        shutdown(how: Shutdown) -> (), "shutdown(2)";
        /// Sends small writes at once (`TCP_NODELAY`), or collects them.
        set_nodelay(nodelay: bool) -> (), "setsockopt(2)";
        /// Whether small writes are sent at once.
        nodelay() -> bool, "getsockopt(2)";
        /// Sets how many hops a packet may take (`IP_TTL`).
        set_ttl(ttl: u32) -> (), "setsockopt(2)";
        /// How many hops a packet may take.
        ttl() -> u32, "getsockopt(2)";
        /// Fetches the pending error (`SO_ERROR`), and clears it.
        take_error() -> Option<io::Error>, "getsockopt(2)";
    }

    /// Reads without taking what was read.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is nothing; those of recv(2).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_io(|inner| inner.peek(buf))
    }

    /// Does an operation on the descriptor that this type has no method for, and returns its result.
    ///
    /// # Errors
    ///
    /// Those of the operation; it returns `ErrorKind::WouldBlock` when the kernel does.
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

io_source_std!(TcpListener, net::TcpListener);

impl TcpListener {
    /// Binds to `addr`, with `SO_REUSEADDR`, and listens. Port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`; those of socket(2), bind(2) and listen(2).
    pub fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
        let socket = socket::new(Domain::for_address(addr), Type::STREAM)?;
        socket.set_reuse_address(true)?;
        socket.bind(&addr.into())?;
        socket.listen(socket::TCP_BACKLOG)?;
        Ok(OwnedFd::from(socket).into())
    }

    /// Accepts a connection; the stream is non-blocking and close-on-exec.
    ///
    /// After an event, accept until `WouldBlock`: one event may stand for several connections.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; `ConnectionAborted` if one has left already: accept the next; those of accept(2).
    /// When there are no descriptors left (`EMFILE`) the connection stays in the queue, and need not make a new event:
    /// accept again when descriptors are free.
    pub fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.inner.read_io(|inner| {
            let (socket, address) = socket::accept(inner.as_fd())?;
            let stream = net::TcpStream::from(socket);
            let address = socket::std_address(&address, &stream);
            Ok((TcpStream::from_std(stream), address))
        })
    }

    forward! {
        /// The address that the listener is bound to.
        local_addr() -> SocketAddr, "getsockname(2)";
        /// Sets how many hops a packet may take (`IP_TTL`).
        set_ttl(ttl: u32) -> (), "setsockopt(2)";
        /// How many hops a packet may take.
        ttl() -> u32, "getsockopt(2)";
        /// Fetches the pending error (`SO_ERROR`), and clears it.
        take_error() -> Option<io::Error>, "getsockopt(2)";
    }
}
