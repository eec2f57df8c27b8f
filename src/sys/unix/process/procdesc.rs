//! pdfork(2): a descriptor of a process. poll(2) reports a hang-up when the process exits, and kqueue has a filter for it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::sys::unix::process::child_state::ChildState;
use crate::sys::unix::process::errors::no_process_descriptor;
use crate::sys::unix::syscall::cvt;

/// Returns the process of a process descriptor. Fails with `InvalidInput` for another descriptor.
pub(crate) fn pid_of_descriptor(fd: BorrowedFd<'_>) -> io::Result<libc::pid_t> {
    let mut pid = 0;
    // SAFETY: the kernel writes one integer.
    match cvt(unsafe { libc::pdgetpid(fd.as_raw_fd(), &mut pid) }) {
        Ok(_) => Ok(pid),
        Err(error) if error.raw_os_error() == Some(libc::EBADF) => {
            Err(no_process_descriptor("a descriptor of pdfork(2)"))
        }
        Err(error) => Err(error),
    }
}

/// Returns the wait status of an exited child. The kernel has no call for other processes.
pub(crate) fn exit_status(_: BorrowedFd<'_>, pid: libc::pid_t) -> Option<libc::c_int> {
    match ChildState::of(pid) {
        Ok(ChildState::Exited(status)) => Some(status),
        _ => None,
    }
}
