//! Changes of files: ReadDirectoryChangesW for the directory of a file, and the state of the file.
//!
//! * `pending`: the changes that a source has not returned yet;
//! * `reader`: the changes of one directory;
//! * `state`: the properties of an open file, and its path;
//! * `watcher`: which changes of a directory are those of a watched file.

mod pending;
mod reader;
mod state;
mod watcher;

use std::io;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::path::Path;
use std::sync::Arc;

use windows_sys::Win32::Storage::FileSystem::FILE_READ_ATTRIBUTES;

use crate::source::file_changes::FileChanges;
use crate::sys::notify::Notify;
use crate::sys::raw_source::RawSource;

pub(crate) use self::pending::PendingChanges;
pub(crate) use self::state::{watched_state, WatchedState};
pub(crate) use self::watcher::ActiveWatch;

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

/// Opens a file or a directory only to watch it. The handle cannot read the file, and other programs may do anything with it.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFile> {
    state::open_path(path, FILE_READ_ATTRIBUTES, 0)
}

/// Does nothing. The registration fails if the file has no path.
pub(crate) fn reject_unreported_file(_: BorrowedHandle<'_>) -> io::Result<()> {
    Ok(())
}

/// Returns the changes of a file that is not registered yet.
pub(crate) fn pending_changes(interest: FileChanges, _: WatchedState) -> io::Result<PendingChanges> {
    Ok(PendingChanges::new(interest))
}

/// The watches of a poll. On Windows each watch reads its changes itself, on threads of the pool.
#[derive(Debug)]
pub(crate) struct ChangeQueue(());

impl ChangeQueue {
    pub(crate) fn new() -> io::Result<ChangeQueue> {
        Ok(ChangeQueue(()))
    }

    /// Watches an open file for a source. From now on its changes notify `registration`.
    pub(crate) fn watch(
        self: &Arc<ChangeQueue>,
        file: BorrowedHandle<'_>,
        changes: &Arc<PendingChanges>,
        registration: &Arc<dyn Notify>,
    ) -> io::Result<ActiveWatch> {
        ActiveWatch::start(file, changes, registration)
    }

    /// Returns `None`: the backend has nothing to wait for.
    pub(crate) fn raw_source(&self) -> Option<RawSource> {
        None
    }

    pub(crate) fn read(&self) -> io::Result<()> {
        Ok(())
    }
}
