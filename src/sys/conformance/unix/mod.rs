//! Sources that only Unix has, and the names of Unix that the portable cases use.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};

use super::support::files::{make_fifo, open_to_read, open_to_write, terminal};
use super::support::handler;
use super::support::system::{freebsd_release, reports_read_shutdown_of_peer};
use super::*;
use crate::sys::unix::{fstat, pipe};

mod descriptors;
mod interruptions;
#[allow(dead_code)] // As `differential`.
pub(crate) mod judge;
mod pipes;
mod readiness_table;
mod sockets;

/// Numbers that no descriptor has, and the error of registering one.
pub(crate) const CLOSED: [RawSource; 2] = [-1, RawFd::MAX];
pub(crate) const CLOSED_ERROR: i32 = libc::EBADF;
/// The error of registering one of [`files`].
pub(crate) const FILE_ERROR: i32 = libc::EPERM;
/// The error of a connect that is not complete.
pub(crate) const CONNECT_ERROR: i32 = libc::EINPROGRESS;

/// The error of a datagram to a closed port.
pub(crate) const DATAGRAM_ERROR: ErrorKind = ErrorKind::ConnectionRefused;

/// Returns a file and a directory, with their numbers.
pub(crate) fn files() -> [(File, RawSource); 2] {
    [tempfile::tempfile(), File::open("/")].map(|file| {
        let file = file.unwrap();
        let fd = file.as_raw_fd();
        (file, fd)
    })
}

/// Returns sources of other kinds than [`pair`].
pub(crate) fn other_sources() -> [OwnedSource; 2] {
    pipe::pipe().unwrap()
}

/// Returns the reading end and the writing end of a pipe, both non-blocking.
fn pipe_ends() -> (File, File) {
    let [reader, writer] = pipe::pipe().unwrap();
    (reader.into(), writer.into())
}

/// Returns `true` if registering `fd` twice fails. poll(2) detects that by the inode of the open file, which sockets and
/// pipes have on some systems.
pub(crate) fn rejects_duplicates<T: Selector>(fd: RawFd) -> bool {
    let has_inode = || fstat::pollable_file_id(fd).unwrap().is_some_and(|file| file.is_unique);
    T::BACKEND == Backend::Epoll || (T::BACKEND == Backend::Poll && has_inode())
}
