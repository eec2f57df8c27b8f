//! Streams and raw sources, under one name on every system: Unix streams and descriptors, or TCP streams and sockets of Windows.

#[cfg(unix)]
pub use std::os::fd::{
    AsFd as AsSource, AsRawFd as AsRawSource, BorrowedFd as BorrowedSource, FromRawFd as FromRawSource,
    IntoRawFd as IntoRawSource, OwnedFd as OwnedSource, RawFd as RawSource,
};
#[cfg(unix)]
pub use std::os::unix::net::UnixStream as StdStream;

#[cfg(windows)]
pub use std::net::TcpStream as StdStream;
#[cfg(windows)]
pub use std::os::windows::io::{
    AsRawSocket as AsRawSource, AsSocket as AsSource, BorrowedSocket as BorrowedSource, FromRawSocket as FromRawSource,
    IntoRawSocket as IntoRawSource, OwnedSocket as OwnedSource, RawSocket as RawSource,
};

#[cfg(all(unix, feature = "net"))]
pub use kevio::net::UnixStream as Stream;
#[cfg(all(windows, feature = "net"))]
pub use kevio::net::{TcpStream as Stream, TcpStream as Receiver, TcpStream as Sender};
#[cfg(all(unix, feature = "os-ext"))]
pub use kevio::unix::{
    pipe::{Receiver, Sender},
    IoSource, SourceFd,
};
#[cfg(all(windows, feature = "os-ext"))]
pub use kevio::windows::{IoSource, SourceSocket as SourceFd};

/// The error of a number that stands for no source: `EBADF`, or `WSAENOTSOCK`.
#[cfg(unix)]
pub const NO_SOURCE: Option<i32> = Some(libc::EBADF);
#[cfg(windows)]
pub const NO_SOURCE: Option<i32> = Some(10038);

/// The result of a non-blocking connect that goes on: `EINPROGRESS`, or `WSAEWOULDBLOCK`.
#[cfg(unix)]
pub const IN_PROGRESS: Option<i32> = Some(libc::EINPROGRESS);
#[cfg(windows)]
pub const IN_PROGRESS: Option<i32> = Some(10035);

/// A number that is no source on any system.
#[cfg(unix)]
pub const NEGATIVE: RawSource = -1;
/// `INVALID_SOCKET`.
#[cfg(windows)]
pub const NEGATIVE: RawSource = RawSource::MAX;

/// A number that no source of the tests has.
#[cfg(unix)]
pub const NO_NUMBER: RawSource = RawSource::MAX;
#[cfg(windows)]
pub const NO_NUMBER: RawSource = RawSource::MAX - 7;

/// Returns two connected streams of kevio: Unix streams, or TCP streams on Windows.
#[cfg(feature = "net")]
pub fn kevio_pair() -> (Stream, Stream) {
    #[cfg(unix)]
    let pair = Stream::pair().unwrap();
    #[cfg(windows)]
    let pair = {
        let (ours, theirs) = super::net::tcp_stream_pair();
        ours.set_nodelay(true).unwrap();
        theirs.set_nodelay(true).unwrap();
        (ours, theirs)
    };
    pair
}

/// Returns the writer and the reader of a pipe, or two connected streams on Windows.
#[cfg(all(feature = "net", feature = "os-ext"))]
pub fn one_way() -> (Sender, Receiver) {
    #[cfg(unix)]
    let pair = kevio::unix::pipe::new().unwrap();
    #[cfg(windows)]
    let pair = kevio_pair();
    pair
}

/// Returns two connected streams of the standard library, which block.
pub fn std_pair() -> (StdStream, StdStream) {
    #[cfg(unix)]
    let pair = StdStream::pair().unwrap();
    #[cfg(windows)]
    let pair = {
        let (ours, theirs) = super::net::blocking_tcp_pair();
        ours.set_nodelay(true).unwrap();
        theirs.set_nodelay(true).unwrap();
        (ours, theirs)
    };
    pair
}

/// Returns the number of a source.
#[cfg(unix)]
pub fn raw(source: &impl AsRawSource) -> RawSource {
    source.as_raw_fd()
}

/// Returns the number of a source.
#[cfg(windows)]
pub fn raw(source: &impl AsRawSource) -> RawSource {
    source.as_raw_socket()
}

/// Returns the number of a source, which stays open.
#[cfg(unix)]
pub fn into_raw(source: impl IntoRawSource) -> RawSource {
    source.into_raw_fd()
}

/// Returns the number of a source, which stays open.
#[cfg(windows)]
pub fn into_raw(source: impl IntoRawSource) -> RawSource {
    source.into_raw_socket()
}

/// Returns the source with a number.
///
/// # Safety
///
/// The source is the only owner of the number. If no file has the number, the source must not be dropped.
#[cfg(unix)]
pub unsafe fn from_raw<S: FromRawSource>(number: RawSource) -> S {
    // SAFETY: guaranteed by the caller.
    unsafe { S::from_raw_fd(number) }
}

/// Returns the source with a number.
///
/// # Safety
///
/// As on Unix.
#[cfg(windows)]
pub unsafe fn from_raw<S: FromRawSource>(number: RawSource) -> S {
    // SAFETY: guaranteed by the caller.
    unsafe { S::from_raw_socket(number) }
}

/// Returns the number of an open file, and the error of registering the file.
#[cfg(unix)]
pub fn number_of_file(file: &std::fs::File) -> (RawSource, Option<i32>) {
    (raw(file), Some(libc::EPERM))
}

/// Returns the number of an open file, and the error of registering the file as a socket.
#[cfg(windows)]
pub fn number_of_file(file: &std::fs::File) -> (RawSource, Option<i32>) {
    (std::os::windows::io::AsRawHandle::as_raw_handle(file) as RawSource, NO_SOURCE)
}

/// Borrows a source.
#[cfg(unix)]
pub fn borrow(source: &impl AsSource) -> BorrowedSource<'_> {
    source.as_fd()
}

/// Borrows a source.
#[cfg(windows)]
pub fn borrow(source: &impl AsSource) -> BorrowedSource<'_> {
    source.as_socket()
}

/// Returns the number of a closed source. No other test of the process receives this number.
#[cfg(unix)]
pub fn closed_source() -> RawSource {
    super::limits::closed_descriptor()
}

/// Returns a number that stands for no socket.
#[cfg(windows)]
pub fn closed_source() -> RawSource {
    0xFFFF_0000
}
