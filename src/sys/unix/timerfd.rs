//! timerfd_create(2): the alarm of epoll(7) and poll(2), on systems that have the call.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use crate::sys::unix::syscall::cvt;
use crate::sys::unix::timeout::timespec;

/// A descriptor that is readable after its time has passed.
#[derive(Debug)]
pub(crate) struct TimerFd(OwnedFd);

impl TimerFd {
    pub(crate) fn new() -> io::Result<TimerFd> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: the call has no pointers.
        let fd = cvt(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the kernel has just made this descriptor, which has no other owner.
        Ok(TimerFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sets the time, or disarms the timer. Either discards an expiration, so that the descriptor is not readable.
    pub(crate) fn set(&self, delay: Option<Duration>) -> io::Result<()> {
        // Zero disarms a timerfd.
        let value = delay.map_or(Duration::ZERO, |delay| delay.max(Duration::from_nanos(1)));
        let time = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(value) };
        // SAFETY: the kernel reads one `itimerspec`, and writes none through a null pointer.
        cvt(unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &time, std::ptr::null_mut()) }).map(drop)
    }

    /// Discards an expiration.
    pub(crate) fn drain(&self) {
        let mut count = 0_u64;
        // The read fails only if the timer was set again meanwhile.
        // SAFETY: the kernel writes eight bytes.
        let _ = unsafe { libc::read(self.0.as_raw_fd(), std::ptr::addr_of_mut!(count).cast(), 8) };
    }
}

impl AsRawFd for TimerFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
