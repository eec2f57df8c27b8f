//! Pipes.
#![allow(dead_code)] // Not every build needs one.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::call::{check, set_cloexec, set_nonblocking};

/// The reading and the writing end of a new pipe, non-blocking and close-on-exec.
pub(crate) fn pipe() -> io::Result<[OwnedFd; 2]> {
    let mut fds = [-1; 2];

    #[cfg(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "illumos",
        target_os = "redox",
        target_os = "hurd",
        target_os = "cygwin"
    ))]
    let flagged = {
        // SAFETY: the kernel writes two numbers, and there is room for two.
        check(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
        true
    };
    #[cfg(not(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "illumos",
        target_os = "redox",
        target_os = "hurd",
        target_os = "cygwin"
    )))]
    let flagged = {
        // SAFETY: the kernel writes two numbers, and there is room for two.
        check(unsafe { libc::pipe(fds.as_mut_ptr()) })?;
        false
    };

    // SAFETY: the kernel has just made these descriptors, and nobody else has them.
    let ends = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    if !flagged {
        for end in &ends {
            set_cloexec(end.as_raw_fd())?;
            set_nonblocking(end.as_raw_fd(), true)?;
        }
    }
    Ok(ends)
}
