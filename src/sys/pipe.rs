//! Pipes.
#![allow(dead_code)] // Not every build needs one.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use super::call::check;

/// The reading and the writing end of a new pipe, non-blocking and close-on-exec.
pub(crate) fn pipe() -> io::Result<[OwnedFd; 2]> {
    let mut fds = [-1; 2];
    with_flags!({
        // SAFETY: the kernel writes two numbers, and there is room for two.
        check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
        // SAFETY: the kernel has just made these descriptors, and nobody else has them.
        Ok(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
    } else {
        // SAFETY: as above.
        check(unsafe { libc::pipe(fds.as_mut_ptr()) })?;
        // SAFETY: as above.
        let ends = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        for fd in fds {
            super::call::set_cloexec(fd)?;
            super::call::set_nonblocking(fd, true)?;
        }
        Ok(ends)
    })
}
