//! Non-blocking sockets as sources.
//!
//! Each is the standard library's type of the same name with a registration. A socket made here is non-blocking and
//! close-on-exec from the start; one that comes `From` elsewhere should be non-blocking, and is not made so. What has
//! no method here is reached through the descriptor, with [`socket2::SockRef`] for instance; an operation that reads
//! or writes then belongs into `try_io`.
//!
//! [`socket2::SockRef`]: https://docs.rs/socket2/latest/socket2/struct.SockRef.html
//!
//! All of them can be used from several threads at once.

mod tcp;
mod udp;
mod unix;

pub use self::tcp::{TcpListener, TcpStream};
pub use self::udp::UdpSocket;
pub use self::unix::{UnixDatagram, UnixListener, UnixStream};
