//! Non-blocking sockets as sources.
//!
//! Each type holds the type of the standard library with the same name, and a registration. If a function of this module
//! creates a socket, the socket is non-blocking and close-on-exec. A socket that is converted with `From` should be
//! non-blocking, because the conversion does not change the mode.
//!
//! Options without a method here are reached through the descriptor, for example with [`socket2::SockRef`]. If such an
//! operation reads or writes, call it in `try_io`.
//!
//! Several threads can use one socket at the same time.
//!
//! [`socket2::SockRef`]: https://docs.rs/socket2/latest/socket2/struct.SockRef.html

mod tcp;
mod udp;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod unix_winsock;

pub use self::tcp::{TcpListener, TcpStream};
pub use self::udp::UdpSocket;
#[cfg(unix)]
pub use self::unix::{UnixDatagram, UnixListener, UnixStream};
#[cfg(windows)]
pub use self::unix_winsock::{UnixListener, UnixSocketAddr, UnixStream};
/// The address of a Unix socket, under a name that each system has.
#[cfg(unix)]
#[doc(no_inline)]
pub use std::os::unix::net::SocketAddr as UnixSocketAddr;
