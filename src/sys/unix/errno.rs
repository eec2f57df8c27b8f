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
    // Older versions of `libc` lack the function on some systems.
    extern "C" {
        #[cfg_attr(errno_location = "___errno", link_name = "___errno")]
        #[cfg_attr(errno_location = "__errno", link_name = "__errno")]
        #[cfg_attr(errno_location = "__errno_location", link_name = "__errno_location")]
        #[cfg_attr(errno_location = "__error", link_name = "__error")]
        #[cfg_attr(errno_location = "__get_errno_ptr", link_name = "__get_errno_ptr")]
        #[cfg_attr(errno_location = "_errnop", link_name = "_errnop")]
        fn location() -> *mut libc::c_int;
    }
    // SAFETY: the function has no arguments.
    unsafe { location() }
}
