//! Changes of files: the state of a file, and inotify where the system has it.
//!
//! The kqueue backend has a filter for file changes, and uses [`open`] and [`watched_state`] only.

#[cfg(uses_inotify)]
mod changes;
#[cfg(uses_inotify)]
mod inotify;
mod state;
#[cfg(not(uses_inotify))]
mod unsupported;

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

#[cfg(uses_inotify)]
pub(crate) use self::changes::{pending_changes, PendingChanges};
#[cfg(uses_inotify)]
pub(crate) use self::inotify::{reject_unreported_file, ActiveWatch, ChangeQueue};
pub(crate) use self::state::watched_state;
#[cfg(not(uses_inotify))]
pub(crate) use self::unsupported::{pending_changes, reject_unreported_file, ActiveWatch, ChangeQueue, PendingChanges};
use crate::sys::unix::syscall::cvt;

/// What a watch owns if it has opened the file.
pub(crate) type OwnedFile = OwnedFd;

/// Borrows the descriptor of a file.
pub(crate) fn borrow_file(file: &impl AsFd) -> BorrowedFd<'_> {
    file.as_fd()
}

/// Returns the ident of the filter of an open file.
pub(crate) fn filter_ident(file: BorrowedFd<'_>) -> i32 {
    file.as_raw_fd()
}

/// The flags that open a file only to watch it.
///
/// With `O_EVTONLY` (Apple) the open file does not keep its file system from being unmounted. `O_PATH` (Linux) needs no read
/// permission, and calls no driver.
#[cfg(has_o_evtonly)]
const WATCH_ONLY_FLAGS: libc::c_int = libc::O_EVTONLY;
#[cfg(has_inotify)]
const WATCH_ONLY_FLAGS: libc::c_int = libc::O_PATH;
#[cfg(not(any(has_o_evtonly, has_inotify)))]
const WATCH_ONLY_FLAGS: libc::c_int = 0;

/// Opens a file or a directory only to watch it.
///
/// `OpenOptions` cannot make this call: it removes the bits of `O_ACCMODE` from `custom_flags`, and musl counts `O_PATH` among
/// them.
pub(crate) fn open(path: &Path) -> io::Result<OwnedFile> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    // Without O_NONBLOCK the open of a FIFO without a writer would block.
    let flags = WATCH_ONLY_FLAGS | libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC;
    loop {
        // SAFETY: the path ends with a zero and outlives the call. Without O_CREAT the call reads no third argument.
        match cvt(unsafe { libc::open(path.as_ptr(), flags) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // SAFETY: the kernel has just made this descriptor, and it has no other owner.
            result => return result.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
        }
    }
}
