//! The epoll backend, for Linux, Android, illumos and Redox: epoll(7).
//!
//! Each descriptor has one registration, edge-triggered by default, with the token in `data`. The kernel tracks
//! registrations: a second `EPOLL_CTL_ADD` fails with `EEXIST`, an unknown descriptor with `ENOENT`, and a file that cannot be
//! waited for with `EPERM`. See <https://man7.org/linux/man-pages/man7/epoll.7.html>.

mod borrowed;
mod control;
mod disabled;
mod event;
mod wait;
mod waker;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::OnceLock;
use std::time::Duration;

use crate::backend::Backend;
use crate::interest::Interest;
use crate::interest::TriggerMode;
use crate::sys::error::unsupported;
use crate::sys::selector::{FdRegistration, Selector, SourceKind};
use crate::sys::unix::epoll::borrowed::Borrowed;
use crate::sys::unix::epoll::control::{epoll_create, epoll_ctl};
use crate::sys::unix::epoll::disabled::{drop_trial_events, DisabledInstance};
use crate::sys::unix::epoll::event::EpollEvent;
use crate::sys::unix::epoll::wait::wait;
use crate::sys::unix::epoll::waker::WakeHandle;
use crate::token::Token;

#[derive(Debug)]
pub(crate) struct EpollSelector {
    /// The main instance, which waits use.
    epoll: OwnedFd,
    /// The instance of the disabled registrations, made for the first of them.
    disabled: OnceLock<DisabledInstance>,
    /// A [trial registration](disabled) was made, so that a wait may return its event.
    has_trials: AtomicBool,
    borrowed: Borrowed,
}

/// `EPOLLEXCLUSIVE`, or `None` on systems without the flag.
#[cfg(has_epollexclusive)]
const EXCLUSIVE: Option<i32> = Some(libc::EPOLLEXCLUSIVE);
#[cfg(not(has_epollexclusive))]
const EXCLUSIVE: Option<i32> = None;

/// Returns the bits of an interest, or `Unsupported`.
#[inline]
fn mask(interest: Interest) -> io::Result<u32> {
    if interest.is_aio() || interest.is_lio() {
        return Err(unsupported());
    }
    let mut mask = match interest.mode() {
        TriggerMode::Edge => libc::EPOLLET,
        TriggerMode::OneShot => libc::EPOLLONESHOT,
        TriggerMode::Level | TriggerMode::Disabled => 0,
    };
    if interest.is_readable() {
        mask |= libc::EPOLLIN | libc::EPOLLRDHUP;
    }
    if interest.is_writable() {
        mask |= libc::EPOLLOUT;
    }
    if interest.is_priority() {
        mask |= libc::EPOLLPRI;
    }
    if interest.is_exclusive() {
        // The kernel rejects other flags beside `EPOLLEXCLUSIVE`, see epoll_ctl(2).
        mask = mask & !libc::EPOLLRDHUP | EXCLUSIVE.ok_or_else(unsupported)?;
        if interest.is_priority() || interest.is_oneshot() {
            return Err(unsupported());
        }
    }
    Ok(mask as u32)
}

impl EpollSelector {
    /// Changes the main instance.
    #[inline(always)]
    fn epoll_ctl(&self, operation: libc::c_int, fd: RawFd, events: u32, token: Token) -> io::Result<()> {
        epoll_ctl(&self.epoll, operation, fd, events, token.0 as u64)
    }

    /// Registers a descriptor, if neither instance contains it.
    #[inline]
    fn add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let mask = mask(interest)?;
        if interest.is_none() {
            return self.register_disabled(fd);
        }
        if self.disabled.get().is_some() {
            return self.register_beside_disabled(fd, mask, token);
        }
        self.epoll_ctl(libc::EPOLL_CTL_ADD, fd, mask, token)?;
        match self.disabled.get() {
            Some(_) => self.check_not_disabled(fd),
            None => Ok(()),
        }
    }

    /// Ends the registration in the instance that contains it.
    #[inline]
    fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, Token(0)).or_else(|error| self.delete_disabled(fd, error))
    }
}

impl Selector for EpollSelector {
    const BACKEND: Backend = Backend::Epoll;

    type Event = EpollEvent;
    type Registration = FdRegistration;
    type WakeHandle = WakeHandle;

    fn new() -> io::Result<EpollSelector> {
        Ok(EpollSelector {
            epoll: epoll_create()?,
            disabled: OnceLock::new(),
            has_trials: AtomicBool::new(false),
            borrowed: Borrowed::default(),
        })
    }

    #[inline]
    fn select(&self, events: &mut Vec<EpollEvent>, timeout: Option<Duration>) -> io::Result<()> {
        if self.has_trials.load(Ordering::SeqCst) {
            return self.select_without_trials(events, timeout);
        }
        wait(&self.epoll, events, timeout)?;
        if self.has_trials.load(Ordering::SeqCst) && drop_trial_events(events) {
            // The first trial was made during this wait, whose start was not recorded. So the rest of the timeout is unknown.
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    #[inline(always)]
    fn register(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind) -> io::Result<FdRegistration> {
        self.add(fd, token, interest)?;
        self.borrowed.set(fd, kind == SourceKind::Borrowed);
        Ok(FdRegistration::new(fd, interest, kind))
    }

    #[inline(always)]
    fn reregister(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind) -> io::Result<()> {
        let mask = mask(interest)?;
        self.borrowed.check_owner(fd, kind)?;
        if interest.is_none() || interest.is_exclusive() {
            return self.delete_and_add(fd, token, interest);
        }
        self.epoll_ctl(libc::EPOLL_CTL_MOD, fd, mask, token).or_else(|error| {
            // The registration is disabled, or missing (`ENOENT`); or it is exclusive and cannot be changed (`EINVAL`).
            let is_exclusive = EXCLUSIVE.is_some() && error.raw_os_error() == Some(libc::EINVAL);
            match error.kind() == io::ErrorKind::NotFound || is_exclusive {
                true => self.delete_and_add(fd, token, interest),
                false => Err(error),
            }
        })
    }

    #[inline(always)]
    fn deregister(&self, fd: RawFd, kind: SourceKind) -> io::Result<()> {
        self.borrowed.check_owner(fd, kind)?;
        self.delete(fd)?;
        self.borrowed.set(fd, false);
        Ok(())
    }

    fn detach(&self, fd: RawFd, _: Interest) {
        self.borrowed.set(fd, false);
    }

    fn add_waker(&self, token: Token) -> io::Result<WakeHandle> {
        WakeHandle::new(&self.epoll, token)
    }

    #[inline]
    fn wake(&self, waker: &WakeHandle) -> io::Result<()> {
        waker.wake(&self.epoll)
    }

    // Closing the descriptor is enough. An `EPOLL_CTL_DEL` would be wrong after a fork: parent and child share the epoll
    // instance, so that the child would remove the waker of the parent.
    fn remove_waker(&self, _: &WakeHandle) {}
}

impl AsFd for EpollSelector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
