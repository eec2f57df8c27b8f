//! The types of a build that has filters of kqueue in place of inotify, or neither of them. No value of these types exists.

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::Arc;

use crate::source::file_changes::FileChanges;
use crate::sys::error::unsupported;
use crate::sys::notify::Notify;
use crate::sys::unix::watch::state::WatchedState;

#[derive(Debug)]
pub(crate) enum PendingChanges {}

impl PendingChanges {
    pub(crate) fn decode(&self) -> bool {
        match *self {}
    }

    pub(crate) fn rearm(&self) -> bool {
        match *self {}
    }

    pub(crate) fn take(&self) -> FileChanges {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum ChangeQueue {}

#[derive(Debug)]
pub(crate) enum ActiveWatch {}

/// Fails: without filters, this system does not report changes of files.
pub(crate) fn pending_changes(_: FileChanges, _: WatchedState) -> io::Result<PendingChanges> {
    Err(unsupported(
        "a `Watch` cannot be created, because this backend has no filter of file changes, and the system has no \
         inotify(7): compare the file at intervals, with a `Timer`",
    ))
}

/// Does nothing: the filter of the kernel decides, or the system reports no changes at all.
pub(crate) fn reject_unreported_file(_: BorrowedFd<'_>) -> io::Result<()> {
    Ok(())
}

impl ChangeQueue {
    pub(crate) fn new() -> io::Result<ChangeQueue> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) fn watch(
        self: &Arc<ChangeQueue>,
        _: BorrowedFd<'_>,
        _: &Arc<PendingChanges>,
        _: &Arc<dyn Notify>,
    ) -> io::Result<ActiveWatch> {
        match **self {}
    }

    pub(crate) fn raw_source(&self) -> Option<RawFd> {
        match *self {}
    }

    pub(crate) fn read(&self) -> io::Result<()> {
        match *self {}
    }
}
