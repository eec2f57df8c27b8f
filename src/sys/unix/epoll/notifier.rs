//! The notifier of epoll: a descriptor that stays readable, registered edge-triggered.
//!
//! On Linux the descriptor is readable from the start, and its registration has an empty interest. `EPOLL_CTL_MOD` with
//! `EPOLLIN` makes the kernel evaluate the descriptor again, and so makes one event. ep_modify() in Linux's fs/eventpoll.c
//! makes the change under the lock under which a wait takes its events. Therefore the current wait returns an event whose
//! change comes before, and the next wait returns an event whose change comes after. Several notifications before a wait are
//! coalesced.
//!
//! On other systems a notification writes to the descriptor, and each write is an edge.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::sys::unix::epoll::control::{epoll_ctl, epoll_ctl_for_handler};
use crate::sys::unix::epoll::event::Internal;
use crate::sys::unix::wake_fd::WakeFd;

#[derive(Debug)]
pub(super) struct Notifier(WakeFd);

impl Notifier {
    pub(super) fn new(epoll: &OwnedFd) -> io::Result<Notifier> {
        let wake_fd = WakeFd::new()?;
        #[cfg(epoll_mod_requeues)]
        let events = {
            wake_fd.notify()?;
            0
        };
        #[cfg(not(epoll_mod_requeues))]
        let events = libc::EPOLLIN as u32;
        let events = events | libc::EPOLLET as u32;
        epoll_ctl(epoll, libc::EPOLL_CTL_ADD, wake_fd.as_raw_fd(), events, Internal::Notifier.data())?;
        Ok(Notifier(wake_fd))
    }

    /// As [`check_registered`].
    pub(super) fn check(&self, epoll: &OwnedFd) -> io::Result<()> {
        check_registered(epoll, self.0.as_raw_fd(), Internal::Notifier)
    }

    #[inline(always)]
    pub(super) fn notify(&self, epoll: &OwnedFd) -> io::Result<()> {
        #[cfg(epoll_mod_requeues)]
        {
            let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
            epoll_ctl_for_handler(epoll, libc::EPOLL_CTL_MOD, self.0.as_raw_fd(), events, Internal::Notifier.data())
        }
        #[cfg(not(epoll_mod_requeues))]
        {
            let _ = epoll;
            self.0.notify()
        }
    }
}

/// Fails with `EBADF` if other code has closed a registered descriptor. Another file may have the number since. The kernel
/// compares the number and the file with those of the registrations.
pub(super) fn check_registered(epoll: &OwnedFd, fd: RawFd, internal: Internal) -> io::Result<()> {
    match epoll_ctl_for_handler(epoll, libc::EPOLL_CTL_ADD, fd, 0, internal.data()) {
        Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
        Err(error) => Err(error),
        Ok(()) => {
            let _ = epoll_ctl_for_handler(epoll, libc::EPOLL_CTL_DEL, fd, 0, 0);
            Err(io::Error::from_raw_os_error(libc::EBADF))
        }
    }
}

impl AsRawFd for Notifier {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
