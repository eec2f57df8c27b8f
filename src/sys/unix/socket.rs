//! Non-blocking, close-on-exec sockets in as few system calls as the system allows.

use std::ffi::OsStr;
use std::io;
use std::net::{self, Ipv4Addr, TcpStream};
#[cfg(target_os = "android")]
use std::os::android::net::SocketAddrExt;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
#[cfg(target_os = "linux")]
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::sys::unix::syscall::set_cloexec;
#[allow(unused_imports)] // Where there are no flags to refuse.
use crate::sys::unix::syscall::Refusal;

#[allow(dead_code)] // Where there are no flags.
static FLAGS: Refusal = Refusal::new();

pub(crate) fn new(domain: Domain, kind: Type) -> io::Result<Socket> {
    let without_flags = || -> io::Result<Socket> {
        let socket = Socket::new_raw(domain, kind, None)?;
        set_cloexec(socket.as_raw_fd())?;
        socket.set_nonblocking(true)?;
        #[cfg(has_so_nosigpipe)]
        socket.set_nosigpipe(true)?;
        Ok(socket)
    };
    #[cfg(has_accept4)]
    {
        FLAGS.call(|| Socket::new(domain, kind.nonblocking(), None), without_flags)
    }
    #[cfg(not(has_accept4))]
    {
        without_flags()
    }
}

pub(crate) fn pair(kind: Type) -> io::Result<(OwnedFd, OwnedFd)> {
    let without_flags = || -> io::Result<(Socket, Socket)> {
        let (a, b) = Socket::pair_raw(Domain::UNIX, kind, None)?;
        for socket in [&a, &b] {
            set_cloexec(socket.as_raw_fd())?;
            socket.set_nonblocking(true)?;
            #[cfg(has_so_nosigpipe)]
            socket.set_nosigpipe(true)?;
        }
        Ok((a, b))
    };
    #[cfg(has_accept4)]
    let (a, b) = FLAGS.call(|| Socket::pair(Domain::UNIX, kind.nonblocking(), None), without_flags)?;
    #[cfg(not(has_accept4))]
    let (a, b) = without_flags()?;
    Ok((a.into(), b.into()))
}

/// Accepts a connection. What the kernel has handed over is returned, whatever its address.
pub(crate) fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, SockAddr)> {
    let listener = SockRef::from(&listener);
    #[cfg(has_accept4)]
    let (socket, address) = {
        static ACCEPT4: Refusal = Refusal::new();
        let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        ACCEPT4.call(|| listener.accept4(flags), || accept_without_flags(&listener))?
    };
    #[cfg(not(has_accept4))]
    let (socket, address) = accept_without_flags(&listener)?;
    Ok((socket.into(), address))
}

#[cold]
fn accept_without_flags(listener: &Socket) -> io::Result<(Socket, SockAddr)> {
    let (socket, address) = listener.accept_raw()?;
    set_cloexec(socket.as_raw_fd())?;
    socket.set_nonblocking(true)?;
    // XNU refuses options of a connection that has been reset already (`sosetoptlock`).
    #[cfg(has_so_nosigpipe)]
    let _ = socket.set_nosigpipe(true);
    Ok((socket, address))
}

/// Starts to connect; that it is under way is success.
pub(crate) fn connect(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    match socket.connect(address) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

/// How many TCP connections wait to be accepted: the standard library's number.
pub(crate) const TCP_BACKLOG: i32 = if cfg!(has_short_backlog) { 32 } else { 128 };

/// The same for Unix sockets: the system's limit, which some systems write -1.
pub(crate) const UNIX_BACKLOG: i32 = if cfg!(has_negative_backlog) { -1 } else { libc::SOMAXCONN };

/// The address, whatever its kind: a path, nothing, or an abstract name, which begins with a zero byte.
pub(crate) fn unix_address(address: &SocketAddr) -> io::Result<SockAddr> {
    if let Some(path) = address.as_pathname() {
        return SockAddr::unix(path);
    }
    #[cfg(has_abstract_unix_addr)]
    let name = address.as_abstract_name().map_or_else(Vec::new, |name| [b"\0", name].concat());
    #[cfg(not(has_abstract_unix_addr))]
    let name = Vec::new();
    SockAddr::unix(OsStr::from_bytes(&name))
}

/// The reverse of `unix_address`. std holds no name that fills all of `sun_path`, unless it has called the kernel
/// itself: `ask` does that. The address is unnamed if std's has another name.
///
/// The name ends at its first zero, or fills `sun_path`. The length in the kernel's record depends on the system and on
/// how the socket was bound: with a zero, without, or with many (unp_bindat() in FreeBSD's uipc_usrreq.c, unix_bind() in
/// Linux's af_unix.c).
pub(crate) fn std_unix_address(address: &SockAddr, ask: impl FnOnce() -> io::Result<SocketAddr>) -> SocketAddr {
    let path = path_of(address);
    let found = match path.is_empty() {
        true => abstract_address(address),
        false => SocketAddr::from_pathname(OsStr::from_bytes(path)).ok().or_else(|| ask().ok()),
    };
    let has_it = |found: &SocketAddr| found.as_pathname().is_some_and(|found| found.as_os_str().as_bytes() == path);
    let found = found.filter(|found| path.is_empty() || has_it(found));
    found.or_else(|| SocketAddr::from_pathname("").ok()).expect("std has an unnamed address")
}

/// Empty if the socket has no name in the file system.
fn path_of(address: &SockAddr) -> &[u8] {
    if !address.is_unix() {
        return &[];
    }
    // SAFETY: the storage has room for each kind of address, and is zero where the kernel did not write.
    let path = unsafe { &(*address.as_ptr().cast::<libc::sockaddr_un>()).sun_path };
    // SAFETY: `c_char` and `u8` have the same layout, and the array is borrowed from `address`.
    let path = unsafe { std::slice::from_raw_parts(path.as_ptr().cast::<u8>(), path.len()) };
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
    &path[..end]
}

fn abstract_address(address: &SockAddr) -> Option<SocketAddr> {
    #[cfg(has_abstract_unix_addr)]
    {
        address.as_abstract_namespace().and_then(|name| SocketAddr::from_abstract_name(name).ok())
    }
    #[cfg(not(has_abstract_unix_addr))]
    {
        let _ = address;
        None
    }
}

/// The address of a Unix socket; `ask` has std ask for it.
pub(crate) fn unix_local(socket: BorrowedFd<'_>, ask: impl Fn() -> io::Result<SocketAddr>) -> io::Result<SocketAddr> {
    unix_or_other(SockRef::from(&socket).local_addr()?, ask)
}

/// As `unix_local`, of its peer.
pub(crate) fn unix_peer(socket: BorrowedFd<'_>, ask: impl Fn() -> io::Result<SocketAddr>) -> io::Result<SocketAddr> {
    unix_or_other(SockRef::from(&socket).peer_addr()?, ask)
}

/// std has the error for what is no Unix socket.
fn unix_or_other(address: SockAddr, ask: impl Fn() -> io::Result<SocketAddr>) -> io::Result<SocketAddr> {
    if address.is_unix() {
        Ok(std_unix_address(&address, ask))
    } else {
        ask()
    }
}

/// Receives a datagram, and its sender.
pub(crate) fn unix_recv_from(socket: &UnixDatagram, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    #[cfg(terminates_unix_names)]
    {
        socket.recv_from(buf)
    }
    #[cfg(not(terminates_unix_names))]
    {
        // SAFETY: initialized bytes are a value of `MaybeUninit`, and socket2 writes no others into it.
        let buf = unsafe { &mut *(buf as *mut [u8] as *mut [std::mem::MaybeUninit<u8>]) };
        let (n, address) = SockRef::from(socket).recv_from(buf)?;
        Ok((n, std_unix_address(&address, || Err(io::ErrorKind::InvalidInput.into()))))
    }
}

/// The address of an accepted connection, also of one that the peer has reset: XNU then gives none.
pub(crate) fn std_address(address: &SockAddr, stream: &TcpStream) -> net::SocketAddr {
    let unspecified = || (Ipv4Addr::UNSPECIFIED, 0).into();
    address.as_socket().or_else(|| stream.peer_addr().ok()).unwrap_or_else(unspecified)
}
