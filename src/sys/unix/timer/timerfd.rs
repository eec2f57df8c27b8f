//! A timer as a descriptor: timerfd_create(2).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::sync::Arc;
use std::time::Duration;

use crate::sys::unix::syscall::{cvt, unless_refused};
use crate::sys::unix::timeout::timespec;

/// A descriptor that is readable from an expiration until [`take_expirations`](TimerFd::take_expirations).
#[derive(Debug)]
pub(crate) struct TimerFd(File);

impl TimerFd {
    pub(crate) fn new() -> io::Result<TimerFd> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: no pointers.
        let fd = cvt(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) }).map_err(unless_refused)?;
        // SAFETY: the kernel has just made this descriptor, and it has no other owner.
        Ok(TimerFd(unsafe { File::from_raw_fd(fd) }))
    }

    /// Sets the timer, or disarms it if `wait` is `None`. Expirations that were not taken are discarded.
    pub(crate) fn set(&self, wait: Option<Duration>, period: Option<Duration>) -> io::Result<()> {
        // Zero disarms a timerfd.
        let first = wait.map_or(Duration::ZERO, |wait| wait.max(Duration::from_nanos(1)));
        let time = libc::itimerspec { it_interval: timespec(period.unwrap_or_default()), it_value: timespec(first) };
        // SAFETY: the kernel reads one `itimerspec`, and writes none through a null pointer.
        cvt(unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &time, std::ptr::null_mut()) }).map(drop)
    }

    /// Returns the number of expirations since the last call, or since the timer was set. `WouldBlock` if there is none.
    pub(crate) fn take_expirations(&self) -> io::Result<u64> {
        let mut count = [0; 8];
        (&self.0).read_exact(&mut count)?;
        Ok(u64::from_ne_bytes(count))
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The timers of one poll. A wait has nothing to do for a timerfd.
#[derive(Debug, Default)]
pub(crate) struct TimerQueue {}

impl TimerQueue {
    /// Waits are not limited to the next deadline.
    pub(crate) const LIMIT_WAITS: bool = false;

    pub(crate) fn begin_wait(&self, step: Option<Duration>) -> Option<Duration> {
        step
    }

    pub(crate) fn end_wait(&self) {}

    pub(crate) fn insert(&self, _: &Arc<TimerFd>) {}

    pub(crate) fn remove(&self, _: &Arc<TimerFd>) {}

    pub(crate) fn reschedule(&self, _: &TimerFd) {}
}
