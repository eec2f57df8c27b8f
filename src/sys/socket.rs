//! Non-blocking, close-on-exec sockets in as few system calls as the system allows.

use std::ffi::OsStr;
use std::io;
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
use std::os::fd::{BorrowedFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

pub(crate) fn new(domain: Domain, kind: Type) -> io::Result<Socket> {
    with_flags!({ Socket::new(domain, kind.nonblocking(), None) } else {
        let socket = Socket::new(domain, kind, None)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
}

pub(crate) fn pair(kind: Type) -> io::Result<(OwnedFd, OwnedFd)> {
    let (a, b) = with_flags!({ Socket::pair(Domain::UNIX, kind.nonblocking(), None)? } else {
        let (a, b) = Socket::pair(Domain::UNIX, kind, None)?;
        a.set_nonblocking(true)?;
        b.set_nonblocking(true)?;
        (a, b)
    });
    Ok((a.into(), b.into()))
}

pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SockAddr)> {
    let listener = SockRef::from(&listener);
    let (socket, address) = with_flags!({ listener.accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK)? } else {
        let (socket, address) = listener.accept()?;
        socket.set_nonblocking(true)?;
        (socket, address)
    });
    Ok((socket.into(), address))
}

/// Starts to connect; that it is under way is success.
pub(crate) fn connect(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    match socket.connect(address) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

/// How many TCP connections wait to be accepted: the standard library's number.
pub(crate) const TCP_BACKLOG: i32 = if cfg!(target_os = "haiku") { 32 } else { 128 };

/// The same for Unix sockets: the system's limit, which these systems write -1.
pub(crate) const UNIX_BACKLOG: i32 =
    if cfg!(any(target_os = "linux", target_os = "freebsd", target_os = "openbsd", target_vendor = "apple")) {
        -1
    } else {
        libc::SOMAXCONN
    };

/// The address, whatever its kind: a path, nothing, or an abstract name, which begins with a zero byte.
pub(crate) fn unix_address(address: &SocketAddr) -> io::Result<SockAddr> {
    if let Some(path) = address.as_pathname() {
        return SockAddr::unix(path);
    }
    let name = with_abstract_names!({
        address.as_abstract_name().map_or_else(Vec::new, |name| [b"\0", name].concat())
    } else {
        Vec::new()
    });
    SockAddr::unix(OsStr::from_bytes(&name))
}

/// The reverse of `unix_address`.
pub(crate) fn std_unix_address(address: &SockAddr) -> io::Result<SocketAddr> {
    if let Some(path) = address.as_pathname() {
        return SocketAddr::from_pathname(path);
    }
    match address.as_abstract_namespace() {
        Some(name) => with_abstract_names!({ SocketAddr::from_abstract_name(name) } else {
            unreachable!("socket2 knows such names on Linux and Android only: {name:?}")
        }),
        None => SocketAddr::from_pathname(""),
    }
}
