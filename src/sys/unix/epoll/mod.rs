//! The epoll backend, for Linux, Android, illumos and Redox: epoll(7).
//!
//! Each descriptor has one registration, edge-triggered by default, with the token in `data`. The kernel tracks
//! registrations: a second `EPOLL_CTL_ADD` fails with `EEXIST`, an unknown descriptor with `ENOENT`, and a file that cannot be
//! waited for with `EPERM`. See <https://man7.org/linux/man-pages/man7/epoll.7.html>.

mod borrowed;
mod control;
mod event;
mod instances;
mod mask;
mod wait;
mod waker;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::time::Duration;

use crate::backend::Backend;
use crate::interest::Interest;
use crate::sys::selector::{FdRegistration, Selector, SourceKind};
use crate::sys::unix::epoll::borrowed::Borrowed;
use crate::sys::unix::epoll::event::EpollEvent;
use crate::sys::unix::epoll::instances::Instances;
use crate::sys::unix::epoll::mask::mask;
use crate::sys::unix::epoll::waker::WakeHandle;
use crate::token::Token;

#[derive(Debug)]
pub(crate) struct EpollSelector {
    instances: Instances,
    borrowed: Borrowed,
}

impl Selector for EpollSelector {
    const BACKEND: Backend = Backend::Epoll;

    type Event = EpollEvent;
    type Registration = FdRegistration;
    type WakeHandle = WakeHandle;

    fn new() -> io::Result<EpollSelector> {
        Ok(EpollSelector { instances: Instances::new()?, borrowed: Borrowed::default() })
    }

    #[inline]
    fn select(&self, events: &mut Vec<EpollEvent>, timeout: Option<Duration>) -> io::Result<()> {
        self.instances.wait(events, timeout)
    }

    #[inline(always)]
    fn register(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind) -> io::Result<FdRegistration> {
        self.instances.add(fd, token, interest)?;
        self.borrowed.set(fd, kind == SourceKind::Borrowed);
        Ok(FdRegistration::new(fd, interest, kind))
    }

    #[inline(always)]
    fn reregister(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind) -> io::Result<()> {
        let mask = mask(interest)?;
        self.borrowed.check_owner(fd, kind)?;
        self.instances.change(fd, mask, token, interest)
    }

    #[inline(always)]
    fn deregister(&self, fd: RawFd, kind: SourceKind) -> io::Result<()> {
        self.borrowed.check_owner(fd, kind)?;
        self.instances.delete(fd)?;
        self.borrowed.set(fd, false);
        Ok(())
    }

    fn detach(&self, fd: RawFd, _: Interest) {
        self.borrowed.set(fd, false);
    }

    fn add_waker(&self, token: Token) -> io::Result<WakeHandle> {
        WakeHandle::new(self.instances.main(), token)
    }

    #[inline]
    fn wake(&self, waker: &WakeHandle) -> io::Result<()> {
        waker.wake(self.instances.main())
    }

    // Closing the descriptor is enough. An `EPOLL_CTL_DEL` would be wrong after a fork: parent and child share the epoll
    // instance, so that the child would remove the waker of the parent.
    fn remove_waker(&self, _: &WakeHandle) {}
}

impl AsFd for EpollSelector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.instances.main().as_fd()
    }
}
