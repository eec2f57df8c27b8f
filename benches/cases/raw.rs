//! The names of the raw types on each system, and the calls whose types differ.

use super::subject::Subject;

#[cfg(unix)]
pub use std::os::fd::{AsRawFd, BorrowedFd as BorrowedSource, OwnedFd as OwnedSource, RawFd as RawSource};
#[cfg(unix)]
pub use std::os::unix::net::UnixStream as Stream;
#[cfg(windows)]
pub use std::{
    net::TcpStream as Stream,
    os::windows::io::{
        AsRawSocket, BorrowedSocket as BorrowedSource, OwnedSocket as OwnedSource, RawSocket as RawSource,
    },
};

/// Returns a connected pair: Unix sockets, or TCP sockets on a system without them.
#[cfg(unix)]
pub fn streams() -> (Stream, Stream) {
    Stream::pair().unwrap()
}

/// Returns a connected pair: Unix sockets, or TCP sockets on a system without them.
#[cfg(windows)]
pub fn streams() -> (Stream, Stream) {
    static LISTENER: std::sync::OnceLock<std::net::TcpListener> = std::sync::OnceLock::new();
    let (server, client) = super::connection(LISTENER.get_or_init(super::listener));
    (server.into(), client)
}

#[cfg(unix)]
pub fn raw(source: &impl AsRawFd) -> RawSource {
    source.as_raw_fd()
}

#[cfg(windows)]
pub fn raw(source: &impl AsRawSocket) -> RawSource {
    source.as_raw_socket()
}

pub fn borrow<'a>(source: RawSource) -> BorrowedSource<'a> {
    // SAFETY: the cases keep the source open during the call.
    unsafe { BorrowedSource::borrow_raw(source) }
}

/// A subject that registers streams that never become ready. The subjects share the streams.
pub trait Idle: Subject {
    /// Registers a stream. The returned socket, if any, keeps the registration.
    fn add_idle(registry: &Self::Registry, stream: &Stream, token: usize) -> Option<Self::Socket>;
}

#[cfg(unix)]
impl<S: super::subject::RawSubject> Idle for S {
    fn add_idle(registry: &S::Registry, stream: &Stream, token: usize) -> Option<S::Socket> {
        S::add(registry, raw(stream), token);
        None
    }
}

/// Not every subject registers raw sockets of Windows, so that each subject has a duplicate.
#[cfg(windows)]
impl<S: Subject> Idle for S {
    fn add_idle(registry: &S::Registry, stream: &Stream, token: usize) -> Option<S::Socket> {
        let mut socket = S::socket(stream.try_clone().unwrap().into());
        S::register(registry, &mut socket, token);
        Some(socket)
    }
}
