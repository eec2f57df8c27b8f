//! epoll_wait(2) and epoll_pwait2(2).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
#[cfg(has_epoll_pwait2)]
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::sys::unix::epoll::event::EpollEvent;
use crate::sys::unix::syscall::cvt;
#[cfg(has_epoll_pwait2)]
use crate::sys::unix::syscall::is_refused;
use crate::sys::unix::timeout::to_millis_ceil;

/// The greatest number of events that epoll_wait(2) accepts: `INT_MAX` over the size of a record, which is 12 or 16 bytes.
const MAX_EVENTS: usize = i32::MAX as usize / 16;

/// Waits once. At most `max` events replace those in `events`.
#[inline]
pub(super) fn wait(
    epoll: &OwnedFd,
    events: &mut Vec<EpollEvent>,
    max: usize,
    timeout: Option<Duration>,
) -> io::Result<()> {
    events.clear();
    let max_events = max.min(events.capacity()).min(MAX_EVENTS);
    let records = events.as_mut_ptr().cast::<libc::epoll_event>();
    // SAFETY: `EpollEvent` is transparent over `epoll_event`, and the vector has space for `max_events`.
    let n = unsafe { wait_raw(epoll.as_raw_fd(), records, max_events, timeout) }?;
    // SAFETY: the kernel has written the first `n` records, and `n` is at most the capacity.
    unsafe { events.set_len(n) };
    Ok(())
}

/// # Safety
///
/// `records` must have space for `max_events` records.
#[inline]
unsafe fn wait_raw(
    epoll: RawFd,
    records: *mut libc::epoll_event,
    max_events: usize,
    timeout: Option<Duration>,
) -> io::Result<usize> {
    if let Some(timeout) = timeout.filter(|timeout| timeout.subsec_nanos() % 1_000_000 != 0) {
        // SAFETY: the caller has promised the space.
        if let Some(result) = unsafe { pwait2(epoll, records, max_events, timeout) } {
            return result;
        }
    }
    let timeout = timeout.map_or(-1, to_millis_ceil);
    // SAFETY: the caller has promised the space.
    cvt(unsafe { libc::epoll_wait(epoll, records, max_events as libc::c_int, timeout) }).map(|n| n as usize)
}

/// Calls epoll_pwait2(2), which has a timeout in nanoseconds. Returns `None` if the system lacks or refuses the call.
///
/// The call is made by its number, because musl and older Androids have no function for it.
///
/// # Safety
///
/// `records` must have space for `max_events` records.
#[cold]
unsafe fn pwait2(
    epoll: RawFd,
    records: *mut libc::epoll_event,
    max_events: usize,
    timeout: Duration,
) -> Option<io::Result<usize>> {
    #[cfg(has_epoll_pwait2)]
    {
        /// `struct __kernel_timespec`: two fields of 64 bits on every architecture, whatever the size of `time_t`.
        #[repr(C)]
        struct KernelTimespec(i64, i64);

        /// The call was refused: by a kernel before Linux 5.11, or by a seccomp filter that is older than the call.
        static UNSUPPORTED: AtomicBool = AtomicBool::new(false);

        if UNSUPPORTED.load(Ordering::Relaxed) {
            return None;
        }
        let timeout = KernelTimespec(timeout.as_secs() as i64, i64::from(timeout.subsec_nanos()));
        let no_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: the caller has promised the space. `timeout` outlives the call, and a null signal mask changes no mask.
        let n = unsafe {
            libc::syscall(libc::SYS_epoll_pwait2, epoll, records, max_events as libc::c_int, &timeout, no_mask, 0_usize)
        };
        match cvt(n as libc::c_int) {
            Err(error) if is_refused(&error) => {
                UNSUPPORTED.store(true, Ordering::Relaxed);
                None
            }
            result => Some(result.map(|n| n as usize)),
        }
    }
    #[cfg(not(has_epoll_pwait2))]
    {
        let _ = (epoll, records, max_events, timeout);
        None
    }
}
