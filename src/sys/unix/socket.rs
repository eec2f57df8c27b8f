//! Non-blocking, close-on-exec sockets with as few system calls as possible, and addresses of Unix sockets.

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
use std::path::Path;

use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use crate::sys::error::invalid_input;
use crate::sys::unix::syscall::set_cloexec;
#[allow(unused_imports)] // Unused on systems without accept4(2).
use crate::sys::unix::syscall::Refusal;

/// Set if socket(2) or socketpair(2) was refused with the flags for non-blocking and close-on-exec.
#[allow(dead_code)] // Unused on systems without accept4(2).
static FLAGS: Refusal = Refusal::new();

/// Returns a new socket.
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

/// Returns two connected Unix sockets.
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

/// Accepts a connection. A connection that the kernel returns is never dropped because of its address.
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
    // XNU rejects options of a connection that was reset already (`sosetoptlock`).
    #[cfg(has_so_nosigpipe)]
    let _ = socket.set_nosigpipe(true);
    Ok((socket, address))
}

/// Prepares a listener to bind: the address of a listener that was closed can be bound at once.
pub(crate) fn reuse_address(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)
}

/// Starts to connect. `EINPROGRESS` is success.
pub(crate) fn connect(socket: &Socket, address: &SockAddr) -> io::Result<()> {
    match socket.connect(address) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

/// The number of TCP connections that can wait to be accepted, as in the standard library.
pub(crate) const TCP_BACKLOG: i32 = if cfg!(has_short_backlog) { 32 } else { 128 };

/// The same for Unix sockets: the limit of the system, which is -1 on some systems.
pub(crate) const UNIX_BACKLOG: i32 = if cfg!(has_negative_backlog) { -1 } else { libc::SOMAXCONN };

/// Returns the address of a socket in the file system.
pub(crate) fn unix_path(path: &Path) -> io::Result<SocketAddr> {
    SocketAddr::from_pathname(path).map_err(|error| {
        // SAFETY: the fields are integers and arrays of them. Zeroes are a value of each.
        let max = unsafe { std::mem::zeroed::<libc::sockaddr_un>() }.sun_path.len() - 1;
        let len = path.as_os_str().len();
        match error.kind() {
            io::ErrorKind::InvalidInput if len > max => invalid_input(format!(
                "a Unix socket cannot be bound or connected to a path of {len} bytes, because the address has space \
                 for {max}: pass a shorter path, such as one relative to the current directory"
            )),
            _ => error,
        }
    })
}

/// Converts an address of std to one of socket2: a path, an unnamed address, or an abstract name, which begins with a zero
/// byte.
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

/// Converts an address of socket2 to one of std.
///
/// std accepts a name that fills all of `sun_path` only from a system call of its own, which `std_call` makes. If the
/// address of that call has another name, the result is an unnamed address.
///
/// The name ends at its first zero, or fills `sun_path`. The length in the kernel's record cannot be used. The number of zeroes
/// that the length counts depends on the system, and on how the socket was bound. See unp_bindat() in FreeBSD's
/// uipc_usrreq.c and unix_bind() in Linux's af_unix.c.
pub(crate) fn std_unix_address(address: &SockAddr, std_call: impl FnOnce() -> io::Result<SocketAddr>) -> SocketAddr {
    let path = path_of(address);
    let found = match path.is_empty() {
        true => abstract_address(address),
        false => SocketAddr::from_pathname(OsStr::from_bytes(path)).ok().or_else(|| std_call().ok()),
    };
    let has_path = |found: &SocketAddr| found.as_pathname().is_some_and(|found| found.as_os_str().as_bytes() == path);
    let found = found.filter(|found| path.is_empty() || has_path(found));
    found.or_else(|| SocketAddr::from_pathname("").ok()).expect("std accepts an unnamed address")
}

/// Returns the path of the address, or an empty slice if the socket has no name in the file system.
fn path_of(address: &SockAddr) -> &[u8] {
    if !address.is_unix() {
        return &[];
    }
    // SAFETY: the storage has space for each kind of address, and is zero where the kernel did not write.
    let path = unsafe { &(*address.as_ptr().cast::<libc::sockaddr_un>()).sun_path };
    // SAFETY: `c_char` and `u8` have the same layout, and the array is borrowed from `address`.
    let path = unsafe { std::slice::from_raw_parts(path.as_ptr().cast::<u8>(), path.len()) };
    let end = path.iter().position(|&byte| byte == 0).unwrap_or(path.len());
    &path[..end]
}

/// Returns the address if the name is abstract, else `None`.
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

/// Returns the address of a Unix socket. `std_call` gets the same address with std.
pub(crate) fn unix_local(
    socket: BorrowedFd<'_>,
    std_call: impl Fn() -> io::Result<SocketAddr>,
) -> io::Result<SocketAddr> {
    unix_or_other(SockRef::from(&socket).local_addr()?, std_call)
}

/// Returns the address of the peer of a Unix socket. `std_call` gets the same address with std.
pub(crate) fn unix_peer(
    socket: BorrowedFd<'_>,
    std_call: impl Fn() -> io::Result<SocketAddr>,
) -> io::Result<SocketAddr> {
    unix_or_other(SockRef::from(&socket).peer_addr()?, std_call)
}

/// Converts the address. If the socket is no Unix socket, returns the error of std.
fn unix_or_other(address: SockAddr, std_call: impl Fn() -> io::Result<SocketAddr>) -> io::Result<SocketAddr> {
    if address.is_unix() {
        Ok(std_unix_address(&address, std_call))
    } else {
        std_call()
    }
}

/// Receives a datagram, and returns its length and the address of its sender.
pub(crate) fn unix_recv_from(socket: &UnixDatagram, buf: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    #[cfg(terminates_unix_names)]
    {
        socket.recv_from(buf)
    }
    #[cfg(not(terminates_unix_names))]
    {
        // SAFETY: initialized bytes are a value of `MaybeUninit`, and socket2 writes only initialized bytes.
        let buf = unsafe { &mut *(buf as *mut [u8] as *mut [std::mem::MaybeUninit<u8>]) };
        let (len, address) = SockRef::from(socket).recv_from(buf)?;
        Ok((len, std_unix_address(&address, || Err(io::ErrorKind::InvalidInput.into()))))
    }
}

/// Returns the address of an accepted connection. If the peer has reset the connection, XNU returns no address, and the result
/// is the unspecified address.
pub(crate) fn std_address(address: &SockAddr, stream: &TcpStream) -> net::SocketAddr {
    let unspecified = || (Ipv4Addr::UNSPECIFIED, 0).into();
    address.as_socket().or_else(|| stream.peer_addr().ok()).unwrap_or_else(unspecified)
}
