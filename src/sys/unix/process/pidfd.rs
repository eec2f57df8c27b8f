//! pidfd_open(2): a descriptor that becomes readable when a process exits.

use std::io;
use std::os::fd::OwnedFd;

/// Returns a close-on-exec pidfd. `None` if there is no such call: before Linux 5.3, or in a sandbox that is older than the call.
pub(crate) fn pidfd_open(pid: libc::pid_t) -> io::Result<Option<OwnedFd>> {
    #[cfg(has_pidfd)]
    {
        use crate::sys::unix::syscall::{cvt, is_refused};

        // SAFETY: no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match cvt(fd as libc::c_int) {
            // SAFETY: the kernel has just made this descriptor, and it has no other owner.
            Ok(fd) => Ok(Some(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) })),
            Err(error) if is_refused(&error) => Ok(None),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(super::no_such_process()),
            Err(error) => Err(error),
        }
    }
    #[cfg(not(has_pidfd))]
    {
        let _ = pid;
        Ok(None)
    }
}
