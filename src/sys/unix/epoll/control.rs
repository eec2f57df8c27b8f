//! epoll_create1(2) and epoll_ctl(2).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::{io, mem};

use crate::sys::error::{already_exists, not_found};
use crate::sys::unix::syscall::cvt;

/// Returns a new epoll instance, close-on-exec.
pub(super) fn epoll_create() -> io::Result<OwnedFd> {
    // SAFETY: the call has no pointers.
    let epoll = cvt(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor, which has no other owner.
    Ok(unsafe { OwnedFd::from_raw_fd(epoll) })
}

/// Adds, changes or deletes the registration of a descriptor. `data` comes back with each event.
// Inlined up to the caller of the backend. After a system call the processor mispredicts function returns, because the kernel
// leaves its return prediction unusable. Each return then costs more than all other work around the call (about 30 ns on the
// AMD machine of benches/README.md).
#[inline(always)]
pub(super) fn epoll_ctl(epoll: &OwnedFd, operation: libc::c_int, fd: RawFd, events: u32, data: u64) -> io::Result<()> {
    epoll_ctl_for_handler(epoll, operation, fd, events, data).map_err(control_error)
}

/// The same with the error of the kernel. Async-signal-safe, because making that error allocates nothing.
#[inline(always)]
pub(super) fn epoll_ctl_for_handler(
    epoll: &OwnedFd,
    operation: libc::c_int,
    fd: RawFd,
    events: u32,
    data: u64,
) -> io::Result<()> {
    // SAFETY: the fields are integers, and on Redox padding. Zeroes are a value of each.
    let mut event: libc::epoll_event = unsafe { mem::zeroed() };
    (event.events, event.u64) = (events, data);
    // SAFETY: the kernel reads one record, which lives until the call returns.
    match unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd, &mut event) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cold]
fn control_error(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::EEXIST) => already_exists(),
        Some(libc::ENOENT) => not_found(),
        _ => error,
    }
}
