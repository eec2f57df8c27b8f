//! Helpers around system calls: results, descriptor flags, and fallbacks for refused calls.
#![allow(dead_code)] // Each backend, and each set of features, leaves some of the helpers unused.

use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// Converts the result of a system call: -1 becomes the error in `errno`.
#[inline]
pub(crate) fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Calls fcntl(2) with a command that takes a number.
pub(crate) fn fcntl(fd: RawFd, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: every caller passes a command whose argument is a number.
    cvt(unsafe { libc::fcntl(fd, command, argument) })
}

/// Sets the close-on-exec flag of a descriptor.
pub(crate) fn set_cloexec(fd: RawFd) -> io::Result<()> {
    fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC).map(drop)
}

/// Sets or clears the non-blocking flag of an open file.
pub(crate) fn set_nonblocking(fd: RawFd, nonblocking: bool) -> io::Result<()> {
    let flags = fcntl(fd, libc::F_GETFL, 0)?;
    let flags = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    fcntl(fd, libc::F_SETFL, flags).map(drop)
}

/// Returns `true` if the system lacks a resource. The call fails again until the resource is freed.
pub(crate) fn is_resource_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Returns `true` if the number stands for no descriptor, or for one that the call does not accept.
pub(crate) fn is_closed_descriptor(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EBADF)
}

/// Returns `true` if the kernel lacks a system call, or a sandbox refuses the call.
///
/// Seccomp filters use each of these errors. The test is valid only for a call whose arguments cannot cause one of them.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EOPNOTSUPP))
}

/// A flag that is set when a system call is refused. Later calls use the fallback at once.
pub(crate) struct Refusal(AtomicBool);

impl Refusal {
    pub(crate) const fn new() -> Refusal {
        Refusal(AtomicBool::new(false))
    }

    /// Makes the call, or its fallback if the call is refused.
    ///
    /// If the fallback is refused too, the flag is not set, and the next use makes the call again. A firewall, for
    /// example, rejects both accept4(2) and accept(2) with `EPERM`.
    #[inline]
    pub(crate) fn call<T>(
        &self,
        call: impl FnOnce() -> io::Result<T>,
        fallback: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if self.has_happened() {
            return fallback();
        }
        match call() {
            Err(error) if is_refused(&error) => self.fall_back(fallback),
            result => result,
        }
    }

    #[inline]
    pub(crate) fn has_happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Calls the fallback, and sets the flag unless the fallback is refused.
    #[cold]
    pub(crate) fn fall_back<T>(&self, fallback: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let result = fallback();
        if !result.as_ref().is_err_and(is_refused) {
            self.0.store(true, Ordering::Relaxed);
        }
        result
    }
}
