use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, SockRef, Type};

use crate::delegate::{delegate, impl_std_conversions};
use crate::io_source::IoSource;
use crate::sys::raw_source::OwnedSource;
use crate::sys::socket;

/// A UDP socket.
///
/// # Examples
///
/// ```
/// use kevio::net::UdpSocket;
/// use kevio::{Events, Interest, Poll, Token};
///
/// let mut receiver = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
/// let sender = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// poll.registry().register(&mut receiver, Token(0), Interest::READABLE)?;
/// sender.send_to(b"hello", receiver.local_addr()?)?;
///
/// poll.poll(&mut events, None)?;
/// let mut buffer = [0; 1500];
/// let (len, sender_address) = receiver.recv_from(&mut buffer)?;
/// assert_eq!((&buffer[..len], sender_address), (&b"hello"[..], sender.local_addr()?));
/// # std::io::Result::Ok(())
/// ```
pub struct UdpSocket {
    inner: IoSource<net::UdpSocket>,
}

impl_std_conversions!(UdpSocket, net::UdpSocket);

impl UdpSocket {
    /// Creates a socket that is bound to `addr`. For port 0 the system chooses a port.
    ///
    /// # Errors
    ///
    /// * `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`.
    /// * Other errors of socket(2) and bind(2).
    pub fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
        let socket = socket::new(Domain::for_address(addr), Type::DGRAM)?;
        socket.bind(&addr.into())?;
        Ok(OwnedSource::from(socket).into())
    }

    /// Sends a datagram to `target`.
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: the send buffer is full. The BSDs and Apple systems may return `ENOBUFS`.
    /// * Errors of sendto(2).
    pub fn send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.inner.write_io(|inner| inner.send_to(buf, target))
    }

    /// Receives a datagram, and returns its length and the address of the sender. Bytes that do not fit into `buf` are lost.
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: there is no datagram.
    /// * On Windows `ConnectionReset`: an earlier datagram was sent to a port without a socket.
    /// * On Windows `WSAEMSGSIZE` (10040): the datagram does not fit into `buf`. The next call receives the next datagram.
    /// * Errors of recvfrom(2).
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.inner.read_io(|inner| inner.recv_from(buf))
    }

    /// Receives a datagram like [`recv_from`](UdpSocket::recv_from), and leaves the datagram in the socket.
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: there is no datagram.
    /// * Errors of recvfrom(2).
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.inner.read_io(|inner| inner.peek_from(buf))
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    ///
    /// * `ConnectionRefused`, on Windows `ConnectionReset`: an earlier datagram was sent to a port without a socket.
    /// * The errors of [`send_to`](UdpSocket::send_to).
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write_io(|inner| inner.send(buf))
    }

    /// Receives a datagram from the peer. Bytes that do not fit into `buf` are lost.
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: there is no datagram.
    /// * `ConnectionRefused`, on Windows `ConnectionReset`: an earlier datagram was sent to a port without a socket.
    /// * On Windows `WSAEMSGSIZE` (10040): the datagram does not fit into `buf`. The next call receives the next datagram.
    /// * Errors of recv(2).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_io(|inner| inner.recv(buf))
    }

    /// Receives a datagram like [`recv`](UdpSocket::recv), and leaves the datagram in the socket.
    ///
    /// # Errors
    ///
    /// * `WouldBlock`: there is no datagram.
    /// * Errors of recv(2).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_io(|inner| inner.peek(buf))
    }

    delegate! {
        /// Returns the address of this socket.
        pub fn local_addr(&self) -> io::Result<SocketAddr> = "getsockname(2)";
        /// Returns the address of the peer. Without a peer the error is `NotConnected`.
        pub fn peer_addr(&self) -> io::Result<SocketAddr> = "getpeername(2)";
        /// Sets the peer. [`send`](UdpSocket::send) sends to the peer, and only datagrams of the peer are received.
        pub fn connect(&self, addr: SocketAddr) -> io::Result<()> = "connect(2)";
        /// Allows or forbids sending to a broadcast address (`SO_BROADCAST`).
        pub fn set_broadcast(&self, on: bool) -> io::Result<()> = "setsockopt(2)";
        /// Returns `true` if sending to a broadcast address is allowed.
        pub fn broadcast(&self) -> io::Result<bool> = "getsockopt(2)";
        /// Enables or disables that multicast datagrams are also delivered to this host (`IP_MULTICAST_LOOP`).
        pub fn set_multicast_loop_v4(&self, on: bool) -> io::Result<()> = "setsockopt(2)";
        /// Returns `true` if multicast datagrams are also delivered to this host.
        pub fn multicast_loop_v4(&self) -> io::Result<bool> = "getsockopt(2)";
        /// Sets the maximum number of hops of a multicast datagram (`IP_MULTICAST_TTL`).
        pub fn set_multicast_ttl_v4(&self, ttl: u32) -> io::Result<()> = "setsockopt(2)";
        /// Returns the maximum number of hops of a multicast datagram.
        pub fn multicast_ttl_v4(&self) -> io::Result<u32> = "getsockopt(2)";
        /// Enables or disables that IPv6 multicast datagrams are also delivered to this host (`IPV6_MULTICAST_LOOP`).
        pub fn set_multicast_loop_v6(&self, on: bool) -> io::Result<()> = "setsockopt(2)";
        /// Returns `true` if IPv6 multicast datagrams are also delivered to this host.
        pub fn multicast_loop_v6(&self) -> io::Result<bool> = "getsockopt(2)";
        /// Sets the maximum number of hops of a packet (`IP_TTL`).
        pub fn set_ttl(&self, ttl: u32) -> io::Result<()> = "setsockopt(2)";
        /// Returns the maximum number of hops of a packet.
        pub fn ttl(&self) -> io::Result<u32> = "getsockopt(2)";
        /// Joins a multicast group (`IP_ADD_MEMBERSHIP`). The interface may be unspecified.
        pub fn join_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> = "setsockopt(2)";
        /// Joins an IPv6 multicast group (`IPV6_ADD_MEMBERSHIP`). Interface 0 is any interface.
        pub fn join_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> = "setsockopt(2)";
        /// Leaves a multicast group.
        pub fn leave_multicast_v4(&self, multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> io::Result<()> = "setsockopt(2)";
        /// Leaves an IPv6 multicast group.
        pub fn leave_multicast_v6(&self, multiaddr: &Ipv6Addr, interface: u32) -> io::Result<()> = "setsockopt(2)";
        /// Returns the pending error (`SO_ERROR`), and clears it.
        pub fn take_error(&self) -> io::Result<Option<io::Error>> = "getsockopt(2)";
    }

    /// Returns `true` if an IPv6 socket accepts IPv6 only (`IPV6_V6ONLY`).
    ///
    /// # Errors
    ///
    /// Errors of getsockopt(2).
    pub fn only_v6(&self) -> io::Result<bool> {
        SockRef::from(&*self.inner).only_v6()
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
