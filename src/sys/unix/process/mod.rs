//! The exit of a process: a pidfd, or SIGCHLD and waitid(2).
//!
//! The kqueue backend has a filter for processes, and uses [`check_exists`] only.

mod pidfd;
#[cfg(has_waitid)]
mod sigchld;
#[cfg(not(has_waitid))]
mod unsupported;

use std::io;

pub(crate) use self::pidfd::pidfd_open;
#[cfg(has_waitid)]
pub(crate) use self::sigchld::ChildExit;
#[cfg(not(has_waitid))]
pub(crate) use self::unsupported::ChildExit;
use crate::sys::unix::syscall::cvt;

/// Fails with `NotFound` if there is no process with this identifier, and with `InvalidInput` if there can be none.
///
/// A process that has exited exists until its parent has waited for it.
pub(crate) fn check_exists(pid: libc::pid_t) -> io::Result<()> {
    // For kill(2), zero and negative numbers are groups of processes.
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: no pointers; no signal is sent.
    match cvt(unsafe { libc::kill(pid, 0) }) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(no_such_process()),
        // Another error means that the process belongs to another user.
        _ => Ok(()),
    }
}

fn no_such_process() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such process")
}
