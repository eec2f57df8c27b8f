//! The epoll backend, for Linux, Android, illumos and Redox: epoll(7).
//!
//! Each descriptor has one registration, edge-triggered by default, with the token in `data`. The kernel tracks
//! registrations: a second `EPOLL_CTL_ADD` fails with `EEXIST`, an unknown descriptor with `ENOENT`, and a file that cannot be
//! waited for with `EPERM`. See <https://man7.org/linux/man-pages/man7/epoll.7.html>.

#[cfg(has_timerfd)]
mod alarm;
mod borrowed;
#[cfg(has_busy_poll)]
mod busy_poll;
mod control;
mod event;
mod instances;
mod mask;
mod notifier;
mod wait;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::OnceLock;
use std::time::Duration;

use crate::backend::Backend;
#[cfg(has_busy_poll)]
use crate::busy_poll::BusyPoll;
use crate::interest::Interest;
use crate::sys::error::not_found;
use crate::sys::selector::{FdRegistration, InternalEvents, Selector, SourceKind};
use crate::sys::unix::epoll::borrowed::Borrowed;
use crate::sys::unix::epoll::control::epoll_ctl;
use crate::sys::unix::epoll::event::{EpollEvent, Internal};
use crate::sys::unix::epoll::instances::Instances;
use crate::sys::unix::epoll::mask::mask;
use crate::sys::unix::epoll::notifier::{check_registered, Notifier};
#[cfg(has_timerfd)]
use crate::sys::unix::timerfd::TimerFd;
use crate::token::Token;

#[derive(Debug)]
pub(crate) struct EpollSelector {
    instances: Instances,
    borrowed: Borrowed,
    /// Created for the first waker.
    notifier: OnceLock<Notifier>,
    /// Created for the first timer.
    #[cfg(has_timerfd)]
    alarm: OnceLock<TimerFd>,
    /// The queue of file changes, registered for the first watch.
    changes: OnceLock<RawFd>,
}

impl Selector for EpollSelector {
    const BACKEND: Backend = Backend::Epoll;

    type Event = EpollEvent;
    type Registration = FdRegistration;

    fn new() -> io::Result<EpollSelector> {
        Ok(EpollSelector {
            instances: Instances::new()?,
            borrowed: Borrowed::default(),
            notifier: OnceLock::new(),
            #[cfg(has_timerfd)]
            alarm: OnceLock::new(),
            changes: OnceLock::new(),
        })
    }

    #[inline]
    fn select(&self, events: &mut Vec<EpollEvent>, max: usize, timeout: Option<Duration>) -> io::Result<()> {
        self.instances.wait(events, max, timeout)
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

    fn create_notifier(&self) -> io::Result<()> {
        if self.notifier.get().is_none() {
            // If two threads race, `set` keeps one notifier and the other is closed.
            let notifier = Notifier::new(self.instances.main())?;
            self.check_number(notifier.as_raw_fd())?;
            let _ = self.notifier.set(notifier);
        }
        Ok(())
    }

    fn check_notifier(&self) -> io::Result<()> {
        self.notifier.get().map_or(Ok(()), |notifier| notifier.check(self.instances.main()))
    }

    #[inline]
    fn notify(&self) -> io::Result<()> {
        let notifier = self.notifier.get().ok_or_else(not_found)?;
        notifier.notify(self.instances.main())
    }

    #[cfg(has_timerfd)]
    fn create_alarm(&self) -> io::Result<()> {
        if self.alarm.get().is_none() {
            // As for the notifier.
            let alarm = alarm::new(self.instances.main())?;
            self.check_number(alarm.as_raw_fd())?;
            let _ = self.alarm.set(alarm);
        }
        Ok(())
    }

    #[cfg(has_timerfd)]
    fn set_alarm(&self, delay: Duration) -> io::Result<()> {
        self.alarm.get().ok_or_else(not_found)?.set(Some(delay))
    }

    #[cfg(has_timerfd)]
    fn clear_alarm(&self) {
        if let Some(alarm) = self.alarm.get() {
            let _ = alarm.set(None);
        }
    }

    fn register_internal(&self, fd: RawFd) -> io::Result<()> {
        self.check_number(fd)?;
        epoll_ctl(self.instances.main(), libc::EPOLL_CTL_ADD, fd, libc::EPOLLIN as u32, Internal::Changes.data())?;
        let _ = self.changes.set(fd);
        Ok(())
    }

    fn check_internal(&self, fd: RawFd) -> io::Result<()> {
        check_registered(self.instances.main(), fd, Internal::Changes)
    }

    #[cfg(has_busy_poll)]
    fn set_busy_poll(&self, parameters: BusyPoll) -> io::Result<()> {
        busy_poll::set(self.instances.main(), parameters)
    }

    #[cfg(has_busy_poll)]
    fn busy_poll(&self) -> io::Result<BusyPoll> {
        busy_poll::get(self.instances.main())
    }

    #[inline]
    fn take_internal(&self, events: &mut Vec<EpollEvent>) -> InternalEvents {
        event::take_internal(events)
    }
}

impl EpollSelector {
    /// Fails with `EBADF` if another descriptor of the crate has the number: other code has closed that descriptor.
    /// `EPOLL_CTL_MOD` would change the wrong registration.
    fn check_number(&self, fd: RawFd) -> io::Result<()> {
        #[cfg(has_timerfd)]
        let alarm = self.alarm.get().map(TimerFd::as_raw_fd);
        #[cfg(not(has_timerfd))]
        let alarm = None;
        let notifier = self.notifier.get().map(Notifier::as_raw_fd);
        match [notifier, alarm, self.changes.get().copied()].contains(&Some(fd)) {
            true => Err(io::Error::from_raw_os_error(libc::EBADF)),
            false => Ok(()),
        }
    }
}

impl AsFd for EpollSelector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.instances.main().as_fd()
    }
}
