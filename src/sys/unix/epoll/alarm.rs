//! The alarm of epoll: a timerfd.
//!
//! The registration is edge-triggered. An expiration is an edge, also if the earlier expirations were not read, and a new
//! setting discards an expiration whose event was not returned yet (fs/timerfd.c: `timerfd_setup`).

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use crate::sys::unix::epoll::control::epoll_ctl;
use crate::sys::unix::epoll::event::Internal;
use crate::sys::unix::syscall::cvt;
use crate::sys::unix::timeout::timespec;

#[derive(Debug)]
pub(super) struct Alarm(OwnedFd);

impl Alarm {
    pub(super) fn new(epoll: &OwnedFd) -> io::Result<Alarm> {
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: the call has no pointers.
        let fd = cvt(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?;
        // SAFETY: the kernel has just made this descriptor, which has no other owner.
        let alarm = Alarm(unsafe { OwnedFd::from_raw_fd(fd) });
        let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
        epoll_ctl(epoll, libc::EPOLL_CTL_ADD, alarm.0.as_raw_fd(), events, Internal::Alarm.data())?;
        Ok(alarm)
    }

    /// Sets the time of the alarm, or disarms the alarm. Either discards an expiration that no wait has returned yet.
    pub(super) fn set(&self, delay: Option<Duration>) -> io::Result<()> {
        // Zero disarms a timerfd.
        let value = delay.map_or(Duration::ZERO, |delay| delay.max(Duration::from_nanos(1)));
        let time = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(value) };
        // SAFETY: the kernel reads one `itimerspec`, and writes none through a null pointer.
        cvt(unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &time, std::ptr::null_mut()) }).map(drop)
    }
}
