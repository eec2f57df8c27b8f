//! The state of a watched file, which is compared to find changes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use crate::sys::error::invalid_input;
use crate::sys::unix::fstat;

/// The fields of fstat(2) that a watch compares.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[allow(dead_code)] // The kqueue backend and systems without inotify read no field.
pub(crate) struct WatchedState {
    pub(crate) size: i64,
    pub(crate) links: u64,
    pub(crate) is_directory: bool,
    /// The device and the inode.
    pub(super) file: (u64, u64),
}

impl WatchedState {
    /// Returns the present state of the file. `None` if the number stands for another file, in this thread or since the program
    /// has closed the descriptor.
    #[cfg_attr(not(uses_inotify), allow(dead_code))]
    pub(super) fn renewed(&self, fd: RawFd) -> Option<WatchedState> {
        state_of(fd).ok().filter(|state| state.file == self.file)
    }
}

/// Returns the state of an open regular file or directory. Fails with `InvalidInput` for any other kind of file.
pub(crate) fn watched_state(file: BorrowedFd<'_>) -> io::Result<WatchedState> {
    state_of(file.as_raw_fd())
}

#[allow(clippy::unnecessary_cast)] // The types of the fields differ from system to system.
fn state_of(fd: RawFd) -> io::Result<WatchedState> {
    let stat = fstat::stat(fd)?;
    let kind = fstat::kind(&stat);
    let is_directory = kind == libc::S_IFDIR;
    if !is_directory && kind != libc::S_IFREG {
        let kind = match kind {
            libc::S_IFSOCK => "a socket",
            libc::S_IFIFO => "a pipe",
            libc::S_IFCHR | libc::S_IFBLK => "a device",
            _ => "no file of a file system",
        };
        return Err(invalid_input(format!(
            "a `Watch` needs a regular file or a directory, and the descriptor is {kind}: register the descriptor with \
             an `IoSource` or a `SourceFd` to wait for its data"
        )));
    }
    let file = (stat.st_dev as u64, stat.st_ino as u64);
    Ok(WatchedState { size: stat.st_size as i64, links: stat.st_nlink as u64, is_directory, file })
}
