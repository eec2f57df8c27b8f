//! The alarm of epoll: a timerfd.
//!
//! The registration is edge-triggered. An expiration is an edge, also if the earlier expirations were not read, and a new
//! setting discards an expiration whose event was not returned yet (fs/timerfd.c: `timerfd_setup`).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::sys::unix::epoll::control::epoll_ctl;
use crate::sys::unix::epoll::event::Internal;
use crate::sys::unix::timerfd::TimerFd;

/// Returns a timer that is registered with the instance.
pub(super) fn new(epoll: &OwnedFd) -> io::Result<TimerFd> {
    let timer = TimerFd::new()?;
    let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
    epoll_ctl(epoll, libc::EPOLL_CTL_ADD, timer.as_raw_fd(), events, Internal::Alarm.data())?;
    Ok(timer)
}
