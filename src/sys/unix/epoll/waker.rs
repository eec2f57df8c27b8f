//! The waker of epoll: a descriptor that stays readable, registered edge-triggered.
//!
//! On Linux the descriptor is readable from the start, and its registration has an empty interest. `EPOLL_CTL_MOD` with
//! `EPOLLIN` makes the kernel evaluate the descriptor again, and so makes one event. ep_modify() in Linux's fs/eventpoll.c
//! holds the lock that a wait holds while it collects events. Therefore the current wait returns the event of a change before
//! its collection, and the next wait returns the event of a later change. Several wakes before a wait are coalesced.
//!
//! On other systems a wake writes to the descriptor, and each write is an edge.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::sys::unix::epoll::control::epoll_ctl;
use crate::sys::unix::wake_fd::WakeFd;
use crate::token::Token;

#[derive(Debug)]
pub(crate) struct WakeHandle {
    wake_fd: WakeFd,
    #[allow(dead_code)] // Unused on systems without `epoll_mod_requeues`, where a wake is a write.
    token: Token,
}

impl WakeHandle {
    pub(super) fn new(epoll: &OwnedFd, token: Token) -> io::Result<WakeHandle> {
        let wake_fd = WakeFd::new()?;
        #[cfg(epoll_mod_requeues)]
        let events = {
            wake_fd.notify()?;
            0
        };
        #[cfg(not(epoll_mod_requeues))]
        let events = libc::EPOLLIN as u32;
        let events = events | libc::EPOLLET as u32;
        epoll_ctl(epoll, libc::EPOLL_CTL_ADD, wake_fd.as_raw_fd(), events, token.0 as u64)?;
        Ok(WakeHandle { wake_fd, token })
    }

    #[inline(always)]
    pub(super) fn wake(&self, epoll: &OwnedFd) -> io::Result<()> {
        #[cfg(epoll_mod_requeues)]
        {
            let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
            epoll_ctl(epoll, libc::EPOLL_CTL_MOD, self.wake_fd.as_raw_fd(), events, self.token.0 as u64)
        }
        #[cfg(not(epoll_mod_requeues))]
        {
            let _ = epoll;
            self.wake_fd.notify()
        }
    }
}
