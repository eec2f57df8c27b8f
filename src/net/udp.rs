use std::io;
use std::net::{self, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;

use socket2::{Domain, SockRef, Type};

use crate::io_source::{forward, io_source_std, IoSource};
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
/// let (n, from) = receiver.recv_from(&mut buffer)?;
/// assert_eq!((&buffer[..n], from), (&b"hello"[..], sender.local_addr()?));
/// # std::io::Result::Ok(())
/// ```
pub struct UdpSocket {
    inner: IoSource<net::UdpSocket>,
}

io_source_std!(UdpSocket, net::UdpSocket);

impl UdpSocket {
    /// Binds to `addr`. Port 0 lets the system choose.
    ///
    /// # Errors
    ///
    /// `AddrInUse`, `AddrNotAvailable`, `PermissionDenied`; those of socket(2) and bind(2).
    pub fn bind(addr: SocketAddr) -> io::Result<UdpSocket> {
        let socket = socket::new(Domain::for_address(addr), Type::DGRAM)?;
        socket.bind(&addr.into())?;
        Ok(OwnedFd::from(socket).into())
    }

    /// Sends a datagram to `target`.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is no room (the BSDs and Apple systems may say `ENOBUFS`); those of sendto(2).
    pub fn send_to(&self, buf: &[u8], target: SocketAddr) -> io::Result<usize> {
        self.inner.write_io(|inner| inner.send_to(buf, target))
    }

    /// Receives a datagram, and who sent it. What does not fit into `buf` is lost.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; those of recvfrom(2).
    pub fn recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.inner.read_io(|inner| inner.recv_from(buf))
    }

    /// As [`recv_from`](UdpSocket::recv_from), and leaves the datagram there.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; those of recvfrom(2).
    pub fn peek_from(&self, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.inner.read_io(|inner| inner.peek_from(buf))
    }

    /// Sends a datagram to the peer.
    ///
    /// # Errors
    ///
    /// As [`send_to`](UdpSocket::send_to); `ConnectionRefused` if nobody received an earlier one.
    pub fn send(&self, buf: &[u8]) -> io::Result<usize> {
        self.inner.write_io(|inner| inner.send(buf))
    }

    /// Receives a datagram from the peer. What does not fit into `buf` is lost.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; `ConnectionRefused` if nobody received what was sent; those of recv(2).
    pub fn recv(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_io(|inner| inner.recv(buf))
    }

    /// As [`recv`](UdpSocket::recv), and leaves the datagram there.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if there is none; those of recv(2).
    pub fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
        self.inner.read_io(|inner| inner.peek(buf))
    }

    forward! {
        /// The address of this end.
        local_addr() -> SocketAddr, "getsockname(2)";
        /// The address of the peer; `NotConnected` if there is none.
        peer_addr() -> SocketAddr, "getpeername(2)";
        /// Sets the peer: whom [`send`](UdpSocket::send) sends to, and whose datagrams are received.
        connect(addr: SocketAddr) -> (), "connect(2)";
        /// Allows to send to a broadcast address (`SO_BROADCAST`), or forbids it.
        set_broadcast(on: bool) -> (), "setsockopt(2)";
        /// Whether sending to a broadcast address is allowed.
        broadcast() -> bool, "getsockopt(2)";
        /// Returns multicast datagrams to this host too (`IP_MULTICAST_LOOP`), or does not.
        set_multicast_loop_v4(on: bool) -> (), "setsockopt(2)";
        /// Whether multicast datagrams return to this host.
        multicast_loop_v4() -> bool, "getsockopt(2)";
        /// Sets how many hops a multicast datagram may take (`IP_MULTICAST_TTL`).
        set_multicast_ttl_v4(ttl: u32) -> (), "setsockopt(2)";
        /// How many hops a multicast datagram may take.
        multicast_ttl_v4() -> u32, "getsockopt(2)";
        /// Returns IPv6 multicast datagrams to this host too (`IPV6_MULTICAST_LOOP`), or does not.
        set_multicast_loop_v6(on: bool) -> (), "setsockopt(2)";
        /// Whether IPv6 multicast datagrams return to this host.
        multicast_loop_v6() -> bool, "getsockopt(2)";
        /// Sets how many hops a packet may take (`IP_TTL`).
        set_ttl(ttl: u32) -> (), "setsockopt(2)";
        /// How many hops a packet may take.
        ttl() -> u32, "getsockopt(2)";
        /// Joins a multicast group (`IP_ADD_MEMBERSHIP`); the interface may be unspecified.
        join_multicast_v4(multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> (), "setsockopt(2)";
        /// Joins an IPv6 multicast group (`IPV6_ADD_MEMBERSHIP`); interface 0 is any.
        join_multicast_v6(multiaddr: &Ipv6Addr, interface: u32) -> (), "setsockopt(2)";
        /// Leaves a multicast group.
        leave_multicast_v4(multiaddr: &Ipv4Addr, interface: &Ipv4Addr) -> (), "setsockopt(2)";
        /// Leaves an IPv6 multicast group.
        leave_multicast_v6(multiaddr: &Ipv6Addr, interface: u32) -> (), "setsockopt(2)";
        /// Fetches the pending error (`SO_ERROR`), and clears it.
        take_error() -> Option<io::Error>, "getsockopt(2)";
    }

    /// Whether an IPv6 socket takes IPv6 only (`IPV6_V6ONLY`).
    ///
    /// # Errors
    ///
    /// Those of getsockopt(2).
    pub fn only_v6(&self) -> io::Result<bool> {
        SockRef::from(&*self.inner).only_v6()
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
