//! Changes of files. Not supported yet.

use std::io;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::path::Path;
use std::sync::Arc;

use crate::source::file_changes::FileChanges;
use crate::sys::error::unsupported;
use crate::sys::notify::Notify;
use crate::sys::raw_source::RawSource;

/// What a watch owns if it has opened the file.
pub(crate) type OwnedFile = OwnedHandle;

/// Borrows the handle of a file.
pub(crate) fn borrow_file(file: &impl AsHandle) -> BorrowedHandle<'_> {
    file.as_handle()
}

/// Returns a number without a meaning: the backend has no filters.
pub(crate) fn filter_ident(_: BorrowedHandle<'_>) -> i32 {
    0
}

#[cold]
fn no_watches() -> io::Error {
    unsupported("a `Watch` cannot be created on this system: compare the file at intervals, with a `Timer`")
}

/// Opens a file or a directory only to watch it.
pub(crate) fn open(_: &Path) -> io::Result<OwnedFile> {
    Err(no_watches())
}

/// The state of a watched file. A type without values.
#[derive(Copy, Clone, Debug)]
pub(crate) enum WatchedState {}

/// Returns the state of an open regular file or directory. Fails with `InvalidInput` for any other kind of file.
pub(crate) fn watched_state(_: BorrowedHandle<'_>) -> io::Result<WatchedState> {
    Err(no_watches())
}

/// Does nothing.
pub(crate) fn reject_unreported_file(_: BorrowedHandle<'_>) -> io::Result<()> {
    Ok(())
}

/// Returns the changes of a file that is not registered yet, and has this state.
pub(crate) fn pending_changes(_: FileChanges, state: WatchedState) -> io::Result<PendingChanges> {
    match state {}
}

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

impl ChangeQueue {
    pub(crate) fn new() -> io::Result<ChangeQueue> {
        Err(no_watches())
    }

    pub(crate) fn watch(
        self: &Arc<ChangeQueue>,
        _: BorrowedHandle<'_>,
        _: &Arc<PendingChanges>,
        _: &Arc<dyn Notify>,
    ) -> io::Result<ActiveWatch> {
        match **self {}
    }

    /// Returns the socket of the queue, if the backend has to wait for one.
    pub(crate) fn raw_source(&self) -> Option<RawSource> {
        match *self {}
    }

    pub(crate) fn read(&self) -> io::Result<()> {
        match *self {}
    }
}
