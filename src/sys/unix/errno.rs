//! The error number that a failed system call leaves in `errno`, which is a variable of the calling thread.

use std::io;
use std::mem::ManuallyDrop;

/// Returns the error number of a system call that has just failed.
#[inline]
#[allow(dead_code)] // Unused with the epoll backend.
pub(crate) fn last_errno() -> libc::c_int {
    // An `io::Error` of a number owns nothing, so that its drop, a function call, is not needed.
    ManuallyDrop::new(io::Error::last_os_error()).raw_os_error().unwrap_or(libc::EIO)
}

/// Returns the address of the calling thread's `errno`.
///
/// # Safety
///
/// Only the calling thread may use the address.
#[allow(dead_code)] // Unused on systems without sigaction(2).
pub(crate) unsafe fn location() -> *mut libc::c_int {
    #[cfg(errno_location = "___errno")]
    use libc::___errno as location;
    #[cfg(errno_location = "__errno")]
    use libc::__errno as location;
    #[cfg(errno_location = "__errno_location")]
    use libc::__errno_location as location;
    #[cfg(errno_location = "__error")]
    use libc::__error as location;
    #[cfg(errno_location = "__get_errno_ptr")]
    use libc::__get_errno_ptr as location;
    #[cfg(errno_location = "_errnop")]
    use libc::_errnop as location;
    // SAFETY: the function has no arguments.
    unsafe { location() }
}
