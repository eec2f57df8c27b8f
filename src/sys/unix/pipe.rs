//! Pipes.
#![allow(dead_code)] // Not every build needs one.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

use crate::sys::unix::syscall::cvt;
#[allow(unused_imports)] // Where there are no flags to refuse.
use crate::sys::unix::syscall::Refusal;

/// The reading and the writing end of a new pipe, non-blocking and close-on-exec.
pub(crate) fn pipe() -> io::Result<[OwnedFd; 2]> {
    #[cfg(has_accept4)]
    {
        static PIPE2: Refusal = Refusal::new();
        PIPE2.call(with_flags, without_flags)
    }
    #[cfg(not(has_accept4))]
    {
        without_flags()
    }
}

#[cfg(has_accept4)]
fn with_flags() -> io::Result<[OwnedFd; 2]> {
    let mut fds = [-1; 2];
    // SAFETY: the kernel writes two numbers, and there is room for two.
    cvt(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: the kernel has just made these descriptors, and they have no other owner.
    Ok(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[cold]
fn without_flags() -> io::Result<[OwnedFd; 2]> {
    let mut fds = [-1; 2];
    // SAFETY: the kernel writes two numbers, and there is room for two.
    cvt(unsafe { plain_pipe(fds.as_mut_ptr()) })?;
    // SAFETY: the kernel has just made these descriptors, and they have no other owner.
    let ends = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    for fd in fds {
        crate::sys::unix::syscall::set_cloexec(fd)?;
        crate::sys::unix::syscall::set_nonblocking(fd, true)?;
    }
    Ok(ends)
}

/// pipe(2). glibc's function calls pipe2(2), which is refused.
///
/// # Safety
///
/// There is room for two numbers.
unsafe fn plain_pipe(fds: *mut libc::c_int) -> libc::c_int {
    #[cfg(has_pipe_syscall)]
    {
        // SAFETY: the caller's promise.
        unsafe { libc::syscall(libc::SYS_pipe, fds) as libc::c_int }
    }
    #[cfg(not(has_pipe_syscall))]
    {
        // SAFETY: the caller's promise.
        unsafe { libc::pipe(fds) }
    }
}
