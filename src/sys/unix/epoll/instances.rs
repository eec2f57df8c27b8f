//! The two epoll instances of a selector: the main instance, and the instance of the disabled registrations.
//!
//! A disabled registration (`Interest::NONE`) reports nothing, and keeps the descriptor registered.
//!
//! `EPOLLHUP` and `EPOLLERR` cannot be masked, so that a registration with an empty interest would still report them.
//! Therefore disabled registrations are in a second epoll instance, which is never waited on. The kernel removes closed
//! descriptors from both instances. The second instance is made for the first disabled registration.
//!
//! `EPOLL_CTL_ADD` rejects a descriptor that is registered in the same instance only. Therefore an addition to one instance
//! must check the other. While both instances exist, a lock excludes other threads that add or move a descriptor.
//!
//! # Trial registrations
//!
//! To test whether the main instance would accept a descriptor, the descriptor is added and deleted again. Between the two
//! calls a wait may return an event of the *trial registration*. Its token is unique, and its events are dropped.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use crate::interest::Interest;
use crate::sys::error::{already_exists, not_found};
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::unix::epoll::control::{epoll_create, epoll_ctl};
use crate::sys::unix::epoll::event::{EpollEvent, Internal};
use crate::sys::unix::epoll::mask::{mask, EXCLUSIVE};
use crate::sys::unix::epoll::wait::wait;
use crate::sys::unix::poll_bits;
use crate::sys::unix::poll_bits::PollBits;
use crate::token::Token;

/// The epoll instances of a selector.
#[derive(Debug)]
pub(super) struct Instances {
    /// The main instance, which waits use.
    main: OwnedFd,
    /// The instance of the disabled registrations, made for the first of them.
    disabled: OnceLock<DisabledInstance>,
    /// A trial registration was made, so that a wait may return its event.
    has_trials: AtomicBool,
}

/// The second epoll instance, with the lock for changes of both.
#[derive(Debug)]
struct DisabledInstance {
    epoll: OwnedFd,
    lock: Mutex<()>,
}

impl Instances {
    pub(super) fn new() -> io::Result<Instances> {
        Ok(Instances { main: epoll_create()?, disabled: OnceLock::new(), has_trials: AtomicBool::new(false) })
    }

    #[inline]
    pub(super) fn main(&self) -> &OwnedFd {
        &self.main
    }

    /// Changes the main instance.
    #[inline(always)]
    fn epoll_ctl(&self, operation: libc::c_int, fd: RawFd, events: u32, token: Token) -> io::Result<()> {
        epoll_ctl(&self.main, operation, fd, events, token.0 as u64)
    }

    /// Registers a descriptor, if neither instance contains it.
    #[inline]
    pub(super) fn add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
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
    pub(super) fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, Token(0)).or_else(|error| self.delete_disabled(fd, error))
    }

    /// Changes the registration in the instance that contains it, and moves it to the other instance if necessary.
    #[inline(always)]
    pub(super) fn change(&self, fd: RawFd, mask: u32, token: Token, interest: Interest) -> io::Result<()> {
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

    /// Waits on the main instance. Events of trial registrations are dropped.
    #[inline]
    pub(super) fn wait(&self, events: &mut Vec<EpollEvent>, max: usize, timeout: Option<Duration>) -> io::Result<()> {
        if self.has_trials.load(Ordering::SeqCst) {
            return self.wait_without_trials(events, max, timeout);
        }
        wait(&self.main, events, max, timeout)?;
        if self.has_trials.load(Ordering::SeqCst) && drop_trial_events(events) {
            // The first trial was made during this wait, whose start was not recorded. The rest of the timeout is therefore
            // unknown.
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    /// Changes the disabled instance. Without the instance there is no disabled registration.
    fn ctl_disabled(&self, operation: libc::c_int, fd: RawFd) -> io::Result<()> {
        let disabled = self.disabled.get().ok_or_else(not_found)?;
        epoll_ctl(&disabled.epoll, operation, fd, 0, 0)
    }

    /// Excludes other threads that add a descriptor, or move it between the two instances. Returns `None` while there is one
    /// instance.
    fn lock_instances(&self) -> Option<MutexGuard<'_, ()>> {
        self.disabled.get().map(|disabled| lock_ignoring_poison(&disabled.lock))
    }

    #[cold]
    fn create_disabled(&self) -> io::Result<()> {
        if self.disabled.get().is_none() {
            // If two threads race, `set` keeps one instance and the other is closed.
            let _ = self.disabled.set(DisabledInstance { epoll: epoll_create()?, lock: Mutex::new(()) });
        }
        Ok(())
    }

    fn add_disabled(&self, fd: RawFd) -> io::Result<()> {
        if fd == self.main.as_raw_fd() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.ctl_disabled(libc::EPOLL_CTL_ADD, fd)
    }

    /// Registers a disabled descriptor, if neither instance contains it.
    #[cold]
    fn register_disabled(&self, fd: RawFd) -> io::Result<()> {
        self.create_disabled()?;
        let _guard = self.lock_instances();
        self.add_disabled(fd)?;
        self.try_registration(fd, libc::EPOLLONESHOT).map_err(|error| {
            let _ = self.ctl_disabled(libc::EPOLL_CTL_DEL, fd);
            error
        })
    }

    /// Makes a trial registration in the main instance, and fails with the error of the addition.
    fn try_registration(&self, fd: RawFd, flags: libc::c_int) -> io::Result<()> {
        self.has_trials.store(true, Ordering::SeqCst);
        epoll_ctl(&self.main, libc::EPOLL_CTL_ADD, fd, flags as u32, Internal::Trial.data())?;
        self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, Token(0))
    }

    /// Adds a descriptor to the main instance, if the disabled instance does not contain it.
    #[cold]
    fn register_beside_disabled(&self, fd: RawFd, mask: u32, token: Token) -> io::Result<()> {
        let _guard = self.lock_instances();
        if self.ctl_disabled(libc::EPOLL_CTL_MOD, fd).is_ok() {
            return Err(already_exists());
        }
        self.epoll_ctl(libc::EPOLL_CTL_ADD, fd, mask, token)
    }

    /// Checks a descriptor after its addition to the main instance. Another thread may have made the disabled instance
    /// meanwhile, and added the same descriptor.
    #[cold]
    fn check_not_disabled(&self, fd: RawFd) -> io::Result<()> {
        let _guard = self.lock_instances();
        if self.ctl_disabled(libc::EPOLL_CTL_MOD, fd).is_err() {
            return Ok(());
        }
        self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, Token(0))?;
        Err(already_exists())
    }

    /// Deletes a registration that the main instance does not contain. `error` is the error of the main instance.
    #[cold]
    fn delete_disabled(&self, fd: RawFd, error: io::Error) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::NotFound => self.ctl_disabled(libc::EPOLL_CTL_DEL, fd),
            _ => Err(error),
        }
    }

    /// Changes a registration by deleting and adding it: to disable it, to enable it, or to make it exclusive or not.
    ///
    /// A registration that moves between the instances is added before it is deleted. If the addition fails (`EMFILE`,
    /// `ENOMEM`, `ENOSPC`), the registration is unchanged.
    #[cold]
    fn delete_and_add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let mask = mask(interest)?;
        if interest.is_none() {
            self.create_disabled()?;
        }
        let _guard = self.lock_instances();
        let was_disabled = self.ctl_disabled(libc::EPOLL_CTL_MOD, fd).is_ok();
        match (was_disabled, interest.is_none()) {
            (true, true) => Ok(()),
            (true, false) => {
                self.epoll_ctl(libc::EPOLL_CTL_ADD, fd, mask, token)?;
                self.ctl_disabled(libc::EPOLL_CTL_DEL, fd)
            }
            (false, true) => {
                self.add_disabled(fd)?;
                self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, Token(0)).map_err(|error| {
                    let _ = self.ctl_disabled(libc::EPOLL_CTL_DEL, fd);
                    error
                })
            }
            (false, false) => {
                if let (true, Some(exclusive)) = (interest.is_exclusive(), EXCLUSIVE) {
                    // The kernel rejects `EPOLLEXCLUSIVE` for an epoll descriptor before it finds the registration. For every
                    // other registered descriptor the trial fails with `EEXIST`, and deletes nothing.
                    match self.try_registration(fd, exclusive) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        result => return result.and_then(|()| Err(not_found())),
                    }
                }
                self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, Token(0))?;
                self.epoll_ctl(libc::EPOLL_CTL_ADD, fd, mask, token)
            }
        }
    }

    /// Waits after trial registrations were made. If a wait returns only events of trials, the wait continues.
    #[cold]
    fn wait_without_trials(
        &self,
        events: &mut Vec<EpollEvent>,
        max: usize,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let deadline = timeout.filter(|timeout| !timeout.is_zero()).map(|timeout| Instant::now() + timeout);
        let mut left = timeout;
        loop {
            wait(&self.main, events, max, left)?;
            if !drop_trial_events(events) {
                return Ok(());
            }
            left = timeout.map(|_| {
                deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()))
            });
        }
    }
}

/// Drops the events of trial registrations. Returns `true` if there were events, and none is left.
fn drop_trial_events(events: &mut Vec<EpollEvent>) -> bool {
    // A trial registers no readiness, so that its events have the unmaskable bits only.
    let (count, unmaskable) = (events.len(), poll_bits::ERR | poll_bits::HUP);
    events.retain(|event| event.data() != Internal::Trial.data() || event.bits() & !unmaskable != 0);
    count > 0 && events.is_empty()
}
