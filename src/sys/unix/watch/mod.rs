//! Watches: what a [`Watch`](crate::Watch) has to know of an open file. A kqueue has a filter for each; elsewhere inotify
//! makes a descriptor for each, or there is nothing.

#[cfg_attr(not(has_inotify), path = "unsupported.rs")]
mod inotify;

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::sys::unix::fstat;

pub(crate) use crate::sys::unix::fstat::WatchedState;
pub(crate) use crate::sys::unix::watch::inotify::Inotify;

/// What opens a file for nothing but to know of it: it keeps no file system from being unmounted (Apple), needs no leave to
/// read and wakes no driver (Linux).
#[cfg(has_o_evtonly)]
const WATCH_ONLY_FLAGS: libc::c_int = libc::O_EVTONLY;
#[cfg(has_inotify)]
const WATCH_ONLY_FLAGS: libc::c_int = libc::O_PATH;
#[cfg(not(any(has_o_evtonly, has_inotify)))]
const WATCH_ONLY_FLAGS: libc::c_int = 0;

pub(crate) fn open(path: &Path) -> io::Result<OwnedFd> {
    // A FIFO without a writer would block.
    let flags = WATCH_ONLY_FLAGS | libc::O_NONBLOCK;
    OpenOptions::new().read(true).custom_flags(flags).open(path).map(OwnedFd::from)
}

/// How large it is and how many names it has; refused if it is neither a file nor a directory.
pub(crate) fn watched_state(file: BorrowedFd<'_>) -> io::Result<WatchedState> {
    let state = fstat::watched_state(file.as_raw_fd())?;
    state.ok_or_else(|| crate::sys::unix::syscall::invalid_input("neither a file nor a directory"))
}
