//! The judge of the differential test: poll(2). Also the sources, as far as they depend on the system.

use std::fs::File;
use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use libc::{c_short, POLLIN, POLLOUT};
pub(crate) use libc::{EMFILE as SHORTAGE, POLLERR, POLLHUP};
use socket2::SockRef;

use crate::interest::Interest;
use crate::sys::conformance::differential::union;
use crate::sys::conformance::support::readiness::{ReadinessSet, E, R, RC, W, WC};
use crate::sys::selector::IoDirection;
pub(crate) use crate::sys::unix::fstat::bytes_readable;
use crate::sys::unix::{fstat, pipe, syscall};

#[cfg(not(has_pollrdhup))]
pub(crate) const POLLRDHUP: c_short = 0;
#[cfg(has_pollrdhup)]
pub(crate) use libc::POLLRDHUP;

/// An end of a source.
pub(crate) type Stream = File;

/// The kind of a source: a stream, or our end of a pipe.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Unix,
    Tcp,
    Reader,
    Writer,
}

/// The kinds of the first sources.
pub(crate) const KINDS: [Kind; 4] = [Kind::Unix, Kind::Tcp, Kind::Reader, Kind::Writer];

impl Kind {
    /// Returns `true` if the state depends on packets, which take time.
    pub(crate) fn takes_time(self) -> bool {
        self == Kind::Tcp
    }

    /// Returns `true` for a stream of a Unix socket.
    pub(crate) fn is_unix_stream(self) -> bool {
        self == Kind::Unix
    }

    /// Returns the direction of our end of a pipe, which is its only one.
    pub(crate) fn only_direction(self) -> Option<IoDirection> {
        match self {
            Kind::Reader => Some(IoDirection::Read),
            Kind::Writer => Some(IoDirection::Write),
            Kind::Unix | Kind::Tcp => None,
        }
    }
}

/// Returns both ends, non-blocking. Of a pipe, our end is the end of that kind.
pub(crate) fn open(kind: Kind) -> io::Result<(Stream, Stream)> {
    let (ours, theirs): (OwnedFd, OwnedFd) = match kind {
        Kind::Unix => UnixStream::pair().map(|(ours, theirs)| (ours.into(), theirs.into()))?,
        Kind::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let ours = TcpStream::connect(listener.local_addr()?)?;
            let theirs = listener.accept()?.0;
            ours.set_nodelay(true)?;
            theirs.set_nodelay(true)?;
            // Closing with a reset leaves no port in TIME_WAIT.
            SockRef::from(&ours).set_linger(Some(Duration::ZERO))?;
            (ours.into(), theirs.into())
        }
        Kind::Reader => pipe::pipe().map(|[reader, writer]| (reader, writer))?,
        Kind::Writer => pipe::pipe().map(|[reader, writer]| (writer, reader))?,
    };
    syscall::set_nonblocking(ours.as_raw_fd(), true)?;
    syscall::set_nonblocking(theirs.as_raw_fd(), true)?;
    Ok((ours.into(), theirs.into()))
}

/// Returns the result of poll(2) for a descriptor.
pub(crate) fn raw(fd: RawFd) -> c_short {
    let mut one = libc::pollfd { fd, events: POLLIN | POLLOUT | POLLRDHUP, revents: 0 };
    // SAFETY: one record is read and written.
    syscall::cvt(unsafe { libc::poll(&mut one, 1, 0) }).unwrap();
    one.revents
}

/// Returns the readiness that a registration for `interest` reports if poll(2) returns `raw`.
pub(crate) fn readiness_for(raw: c_short, interest: Interest) -> ReadinessSet {
    let has = |bits| raw & bits != 0;
    let is_broken_pipe = raw & (POLLERR | POLLIN) == POLLERR;
    // An error has no direction: an error is readable unless writable is reported too.
    let is_error_of_reading = has(POLLERR) && !(interest.is_writable() && has(POLLOUT));
    union([
        (R, interest.is_readable() && (has(POLLIN | POLLRDHUP | POLLHUP) || is_error_of_reading)),
        (W, interest.is_writable() && has(POLLOUT | POLLHUP | POLLERR)),
        (RC, interest.is_readable() && has(POLLHUP | POLLRDHUP)),
        (WC, interest.is_writable() && (has(POLLHUP) || is_broken_pipe)),
        (E, has(POLLERR)),
    ])
}

/// Returns `true` if the open file has an inode of its own, by which poll(2) identifies the file.
pub(crate) fn has_inode(fd: RawFd) -> bool {
    fstat::pollable_file_id(fd).unwrap().is_some_and(|file| file.is_unique)
}
