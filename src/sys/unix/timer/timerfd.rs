//! A timer that is a descriptor: timerfd_create(2).

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::sync::Arc;
use std::time::Duration;

use crate::sys::unix::syscall::{cvt, unless_refused};
use crate::sys::unix::timeout::timespec;

/// Readable when the time is up, until that is taken.
#[derive(Debug)]
pub(crate) struct TimerFd(File);

impl TimerFd {
    pub(crate) fn new() -> io::Result<TimerFd> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: no pointers.
        let fd = cvt(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) }).map_err(unless_refused)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        Ok(TimerFd(unsafe { File::from_raw_fd(fd) }))
    }

    /// Sets it, or with `None` stops it, and forgets what was not taken.
    pub(crate) fn set(&self, wait: Option<Duration>, period: Option<Duration>) -> io::Result<()> {
        // A zero stops it.
        let first = wait.map_or(Duration::ZERO, |wait| wait.max(Duration::from_nanos(1)));
        let time = libc::itimerspec { it_interval: timespec(period.unwrap_or_default()), it_value: timespec(first) };
        // SAFETY: the kernel reads one `itimerspec`, and is asked to write none.
        cvt(unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &time, std::ptr::null_mut()) }).map(drop)
    }

    /// How often the time was up since this was asked, or it was set.
    pub(crate) fn take(&self) -> io::Result<u64> {
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

/// What a wait has to do for its timers: nothing.
#[derive(Debug, Default)]
pub(crate) struct TimerQueue {}

impl TimerQueue {
    /// Whether waits have to be limited to the next deadline.
    pub(crate) const LIMIT_WAITS: bool = false;

    pub(crate) fn begin_wait(&self, step: Option<Duration>) -> Option<Duration> {
        step
    }

    pub(crate) fn end_wait(&self) {}

    pub(crate) fn enter(&self, _: &Arc<TimerFd>) {}

    pub(crate) fn leave(&self, _: &Arc<TimerFd>) {}

    pub(crate) fn changed(&self, _: &TimerFd) {}
}
