//! What only Windows has, and the names of Windows that the portable cases use.

use std::fs::File;
use std::os::windows::io::AsRawHandle;

use windows_sys::Win32::Networking::WinSock::{WSAENOTSOCK, WSAEWOULDBLOCK};

use super::*;

pub(crate) mod judge;

/// Numbers that no socket has, and the error of registering one.
pub(crate) const CLOSED: [RawSource; 2] = [RawSource::MAX, 0x7fff_fff0];
pub(crate) const CLOSED_ERROR: i32 = WSAENOTSOCK;
/// The error of registering one of [`files`].
pub(crate) const FILE_ERROR: i32 = WSAENOTSOCK;
/// The error of a connect that is not complete.
pub(crate) const CONNECT_ERROR: i32 = WSAEWOULDBLOCK;

/// The error of a datagram to a closed port.
pub(crate) const DATAGRAM_ERROR: ErrorKind = ErrorKind::ConnectionReset;

/// Returns a file with its number.
pub(crate) fn files() -> [(File, RawSource); 1] {
    let file = tempfile::tempfile().unwrap();
    let handle = file.as_raw_handle();
    [(file, handle as RawSource)]
}

/// Returns sources of other kinds than [`pair`].
pub(crate) fn other_sources() -> [OwnedSource; 2] {
    [TcpListener::bind(loopback()).unwrap().into(), UdpSocket::bind(loopback()).unwrap().into()]
}

/// Returns `true`, because the backend has a table of its registrations.
pub(crate) fn rejects_duplicates<T: Selector>(_: RawSource) -> bool {
    true
}
