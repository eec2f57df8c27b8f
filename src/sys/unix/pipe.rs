//! pipe2(2), or pipe(2) as its fallback.
#![allow(dead_code)] // Unused with the kqueue backend without `os-ext`.

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

#[allow(unused_imports)] // Unused on systems without pipe2(2).
use crate::sys::unix::syscall::Refusal;
use crate::sys::unix::syscall::{cvt, set_cloexec, set_nonblocking};

/// Returns the reading and the writing end of a new pipe, non-blocking and close-on-exec.
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
    // SAFETY: the kernel writes two numbers, and the array has space for two.
    cvt(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) })?;
    // SAFETY: the kernel has just made these descriptors, which have no other owner.
    Ok(fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }))
}

#[cold]
fn without_flags() -> io::Result<[OwnedFd; 2]> {
    let mut fds = [-1; 2];
    // SAFETY: the kernel writes two numbers, and the array has space for two.
    cvt(unsafe { call_pipe(fds.as_mut_ptr()) })?;
    // SAFETY: the kernel has just made these descriptors, which have no other owner.
    let ends = fds.map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
    for fd in fds {
        set_cloexec(fd)?;
        set_nonblocking(fd, true)?;
    }
    Ok(ends)
}

/// Calls pipe(2). If pipe(2) is a system call of its own, the call is made by its number. The function of glibc would call
/// pipe2(2), which was refused.
///
/// # Safety
///
/// `fds` has space for two numbers.
unsafe fn call_pipe(fds: *mut libc::c_int) -> libc::c_int {
    #[cfg(has_pipe_syscall)]
    {
        // SAFETY: the caller has promised the space.
        unsafe { libc::syscall(libc::SYS_pipe, fds) as libc::c_int }
    }
    #[cfg(not(has_pipe_syscall))]
    {
        // SAFETY: the caller has promised the space.
        unsafe { libc::pipe(fds) }
    }
}
