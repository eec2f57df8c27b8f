//! The judge of the differential test: WSAPoll(). Also the sources, as far as they depend on the system.

use std::io;
use std::time::Duration;

use socket2::Socket;
use windows_sys::Win32::Networking::WinSock::{
    ioctlsocket, WSAPoll, FIONREAD, POLLRDNORM, POLLWRNORM, SOCKET_ERROR, WSAPOLLFD,
};
pub(crate) use windows_sys::Win32::Networking::WinSock::{POLLERR, POLLHUP, WSAEMFILE as SHORTAGE};

use crate::interest::Interest;
use crate::sys::conformance::differential::union;
use crate::sys::conformance::support::net::stream_pair;
use crate::sys::conformance::support::readiness::{ReadinessSet, E, R, RC, W, WC};
use crate::sys::raw_source::RawSource;
use crate::sys::selector::IoDirection;

/// The bit for a peer that has shut down writing.
pub(crate) const POLLRDHUP: i16 = POLLHUP;

/// An end of a source.
pub(crate) type Stream = Socket;

/// The kind of a source.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Tcp,
}

/// The kinds of the first sources.
pub(crate) const KINDS: [Kind; 4] = [Kind::Tcp; 4];

impl Kind {
    /// Returns `true` if the state depends on packets, which take time.
    pub(crate) fn takes_time(self) -> bool {
        true
    }

    /// Returns `true` for a stream of a Unix socket.
    pub(crate) fn is_unix_stream(self) -> bool {
        false
    }

    /// Returns `None`: every source has both directions.
    pub(crate) fn only_direction(self) -> Option<IoDirection> {
        None
    }
}

/// Returns both ends, non-blocking.
pub(crate) fn open(kind: Kind) -> io::Result<(Stream, Stream)> {
    let (ours, theirs): (Socket, Socket) = match kind {
        Kind::Tcp => {
            let (ours, theirs) = stream_pair();
            (ours.into(), theirs.into())
        }
    };
    // Closing with a reset leaves no port in TIME_WAIT.
    ours.set_linger(Some(Duration::ZERO))?;
    Ok((ours, theirs))
}

/// Returns the result of WSAPoll() for a socket.
pub(crate) fn raw(socket: RawSource) -> i16 {
    let mut one = WSAPOLLFD { fd: socket as _, events: POLLRDNORM | POLLWRNORM, revents: 0 };
    // SAFETY: one record is read and written.
    assert_ne!(unsafe { WSAPoll(&mut one, 1, 0) }, SOCKET_ERROR, "{}", io::Error::last_os_error());
    one.revents
}

/// Returns the number of bytes that can be read, or `None` for an error.
pub(crate) fn bytes_readable(socket: RawSource) -> Option<i32> {
    let mut unread = 0;
    // SAFETY: the pointer is to the number that the call writes.
    let result = unsafe { ioctlsocket(socket as _, FIONREAD, &mut unread) };
    (result == 0).then_some(unread as i32)
}

/// Returns the readiness that a registration for `interest` reports if WSAPoll() returns `raw`. A reset or failed connection is
/// reported for every interest, in both directions.
pub(crate) fn readiness_for(raw: i16, interest: Interest) -> ReadinessSet {
    let has = |bits| raw & bits != 0;
    let has_failed = has(POLLERR) && !interest.is_none();
    union([
        (R, has_failed || (interest.is_readable() && has(POLLRDNORM | POLLHUP))),
        (W, has_failed || (interest.is_writable() && has(POLLWRNORM))),
        (RC, has_failed || (interest.is_readable() && has(POLLHUP))),
        (WC | E, has_failed),
    ])
}

/// Returns `true`, because the backend detects closed sockets with a request.
pub(crate) fn has_inode(_: RawSource) -> bool {
    true
}
