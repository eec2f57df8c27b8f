//! Non-blocking sockets that child processes do not inherit.

use std::io;
use std::net::{self, Ipv4Addr, TcpStream};
use std::os::windows::io::{BorrowedSocket, OwnedSocket};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};
use windows_sys::Win32::Networking::WinSock::{WSAEAFNOSUPPORT, WSAEWOULDBLOCK};

/// Returns a new socket. socket2 creates the socket with `WSA_FLAG_NO_HANDLE_INHERIT`.
pub(crate) fn new(domain: Domain, kind: Type) -> io::Result<Socket> {
    let socket = Socket::new(domain, kind, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Accepts a connection.
pub(crate) fn accept(listener: BorrowedSocket<'_>) -> io::Result<(OwnedSocket, SockAddr)> {
    let (socket, address) = SockRef::from(&listener).accept()?;
    socket.set_nonblocking(true)?;
    Ok((socket.into(), address))
}

/// Does nothing. The address of a listener that was closed can be bound at once, and `SO_REUSEADDR` of Windows would allow two
/// listeners for one address.
pub(crate) fn reuse_address(_: &Socket) -> io::Result<()> {
    Ok(())
}

/// Starts to connect. `WSAEWOULDBLOCK` is success.
pub(crate) fn connect(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    match socket.connect(address) {
        Err(error) if error.raw_os_error() != Some(WSAEWOULDBLOCK) => Err(error),
        _ => Ok(()),
    }
}

/// Returns `true` if the system has no sockets of a family.
pub(crate) fn is_unsupported_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(WSAEAFNOSUPPORT)
}

/// The number of TCP connections that can wait to be accepted, as in the standard library.
pub(crate) const TCP_BACKLOG: i32 = 128;

/// Returns the address of an accepted connection.
pub(crate) fn std_address(address: &SockAddr, stream: &TcpStream) -> net::SocketAddr {
    let unspecified = || (Ipv4Addr::UNSPECIFIED, 0).into();
    address.as_socket().or_else(|| stream.peer_addr().ok()).unwrap_or_else(unspecified)
}
