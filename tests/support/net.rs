//! Connected sockets.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::Duration;

#[cfg(feature = "net")]
use kevio::net::{TcpListener, TcpStream};

/// A stream of [`stream_pair`].
#[cfg(unix)]
pub type Stream = std::os::unix::net::UnixStream;
#[cfg(windows)]
pub type Stream = std::net::TcpStream;

/// Returns an address of this machine with a port that the kernel chooses.
pub fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// Returns two connected streams, which block.
pub fn blocking_tcp_pair() -> (std::net::TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    (ours, theirs)
}

/// `true` if a write to a stream of [`stream_pair`] fails as soon as the peer has closed. A TCP stream accepts a write, and the
/// answer of the peer is a reset.
pub const WRITE_FAILS_AT_ONCE: bool = cfg!(unix);

/// Returns two streams, connected and non-blocking: Unix streams, or TCP streams on Windows, which has no pair of Unix streams.
pub fn stream_pair() -> (Stream, Stream) {
    #[cfg(unix)]
    let (ours, theirs) = Stream::pair().unwrap();
    #[cfg(windows)]
    let (ours, theirs) = blocking_tcp_pair();
    for stream in [&ours, &theirs] {
        stream.set_nonblocking(true).unwrap();
        #[cfg(windows)]
        stream.set_nodelay(true).unwrap();
    }
    (ours, theirs)
}

/// Returns a connected stream and its peer, which blocks.
#[cfg(feature = "net")]
pub fn tcp_pair() -> (TcpStream, std::net::TcpStream) {
    let (ours, theirs) = blocking_tcp_pair();
    ours.set_nonblocking(true).unwrap();
    (TcpStream::from_std(ours), theirs)
}

/// Returns two connected streams of kevio.
#[cfg(feature = "net")]
pub fn tcp_stream_pair() -> (TcpStream, TcpStream) {
    let (ours, theirs) = tcp_pair();
    theirs.set_nonblocking(true).unwrap();
    (ours, TcpStream::from_std(theirs))
}

/// Returns a listener and its address.
#[cfg(feature = "net")]
pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Sets SO_LINGER so that closing the stream sends a reset instead of the end of file.
pub fn reset_on_close<'a, S>(stream: &'a S)
where
    socket2::SockRef<'a>: From<&'a S>,
{
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reads until `WouldBlock` or the end of file. Returns the number of bytes, and `true` if the end of file came.
pub fn drain(reader: &mut impl Read) -> (usize, bool) {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return (total, true),
            Ok(n) => total += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (total, false),
            Err(error) => panic!("after {total} bytes: {error}"),
        }
    }
}

/// Writes until `WouldBlock`. Returns the number of bytes.
pub fn fill(writer: &mut impl Write) -> usize {
    let buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match writer.write(&buffer) {
            Ok(n) => total += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return total,
            Err(error) => panic!("after {total} bytes: {error}"),
        }
    }
}
