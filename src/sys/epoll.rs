//! The backend of Linux: epoll(7).
//!
//! One entry for each descriptor, edge-triggered; the token in `data`. The kernel keeps score: a descriptor added
//! twice is `EEXIST`, an unknown one `ENOENT`, a file that cannot be waited for `EPERM`.
//! See <https://man7.org/linux/man-pages/man7/epoll.7.html>.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
#[allow(unused_imports)] // Of `pwait2`, which not every system has.
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{fmt, io, mem};

use super::call::{check, whole_milliseconds};
use super::revents::{self, Revents};
use super::{already_exists, not_found, unsupported, Backend, Engine, Notify, Origin};
use crate::{Interest, Token};

#[derive(Debug)]
pub(crate) struct Epoll {
    epoll: OwnedFd,
}

// `revents` speaks for both.
const _: () = {
    assert!(libc::EPOLLIN as u32 == revents::IN && libc::EPOLLPRI as u32 == revents::PRI);
    assert!(libc::EPOLLOUT as u32 == revents::OUT);
    assert!(libc::EPOLLERR as u32 == revents::ERR && libc::EPOLLHUP as u32 == revents::HUP);
};

/// epoll_wait(2) refuses more: INT_MAX over the size of a record, which is 12 or 16 bytes.
const MOST_EVENTS: usize = i32::MAX as usize / 16;

fn mask(interest: Interest) -> io::Result<u32> {
    if interest.is_aio() || interest.is_lio() {
        return Err(unsupported());
    }
    let mut mask = libc::EPOLLET;
    if interest.is_readable() {
        mask |= libc::EPOLLIN | libc::EPOLLRDHUP;
    }
    if interest.is_writable() {
        mask |= libc::EPOLLOUT;
    }
    if interest.is_priority() {
        mask |= libc::EPOLLPRI;
    }
    Ok(mask as u32)
}

impl Epoll {
    fn control(&self, operation: libc::c_int, fd: RawFd, events: u32, token: Token) -> io::Result<()> {
        // SAFETY: integers, and on Redox padding. Zeroes are a value of each.
        let mut event: libc::epoll_event = unsafe { mem::zeroed() };
        (event.events, event.u64) = (events, token.0 as u64);
        // SAFETY: the kernel reads one record, which lives until the call returns.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) })
            .map(drop)
            .map_err(|error| match error.raw_os_error() {
                Some(libc::EEXIST) => already_exists(),
                Some(libc::ENOENT) => not_found(),
                _ => error,
            })
    }
}

impl Engine for Epoll {
    const BACKEND: Backend = Backend::Epoll;

    type Event = EpollEvent;
    type Tie = ();
    type Waker = Notify;

    fn new() -> io::Result<Epoll> {
        // SAFETY: no pointers.
        let epoll = check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        Ok(Epoll { epoll: unsafe { OwnedFd::from_raw_fd(epoll) } })
    }

    fn select(&self, events: &mut Vec<EpollEvent>, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        let room = events.capacity().min(MOST_EVENTS);
        let records = events.as_mut_ptr().cast::<libc::epoll_event>();
        // SAFETY: `EpollEvent` is transparent over `epoll_event`, and there is room for that many.
        let n = unsafe { wait(self.epoll.as_raw_fd(), records, room, timeout) }?;
        // SAFETY: the kernel has written the first `n` records, and `n` is at most the capacity.
        unsafe { events.set_len(n) };
        Ok(())
    }

    fn register(&self, fd: RawFd, token: Token, interest: Interest, _: Origin) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_ADD, fd, mask(interest)?, token)
    }

    fn reregister(&self, fd: RawFd, token: Token, interest: Interest, _: Origin) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_MOD, fd, mask(interest)?, token)
    }

    fn deregister(&self, fd: RawFd, _: Origin) -> io::Result<()> {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, Token(0))
    }

    fn add_waker(&self, token: Token) -> io::Result<Notify> {
        let notify = Notify::new()?;
        self.register(notify.as_raw_fd(), token, Interest::READABLE, Origin::Own)?;
        Ok(notify)
    }

    // Edge-triggered: each signal makes a new event, and nobody needs to drain it.
    fn wake(&self, waker: &Notify) -> io::Result<()> {
        waker.signal()
    }

    // Closing it is all. A forked child shares the queue: were it to deregister its copy, the parent's would be gone.
    fn remove_waker(&self, _: &Notify) {}
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// One `struct epoll_event`. Packed on x86-64: fields are copied out, never borrowed.
#[derive(Copy, Clone)]
#[repr(transparent)]
pub struct EpollEvent(libc::epoll_event);

impl Revents for EpollEvent {
    const RDHUP: u32 = libc::EPOLLRDHUP as u32;
    const NAME: &'static str = "epoll_event";

    fn token(&self) -> Token {
        Token(self.0.u64 as usize)
    }

    fn bits(&self) -> u32 {
        self.0.events
    }
}

impl fmt::Debug for EpollEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug(f)
    }
}

/// # Safety
///
/// There must be room for `room` records at `records`.
unsafe fn wait(epoll: RawFd, records: *mut libc::epoll_event, room: usize, timeout: Option<Duration>) -> io::Result<usize> {
    if let Some(timeout) = timeout.filter(|timeout| timeout.subsec_nanos() % 1_000_000 != 0) {
        // SAFETY: the caller's promise.
        if let Some(result) = unsafe { pwait2(epoll, records, room, timeout) } {
            return result;
        }
    }
    let timeout = timeout.map_or(-1, whole_milliseconds);
    // SAFETY: the caller's promise.
    check(unsafe { libc::epoll_wait(epoll, records, room as libc::c_int, timeout) }).map(|n| n as usize)
}

/// epoll_pwait2(2), where the kernel has it: a timeout in nanoseconds. Called by number, for musl and older Androids
/// lack it.
///
/// # Safety
///
/// There must be room for `room` records at `records`.
unsafe fn pwait2(
    epoll: RawFd,
    records: *mut libc::epoll_event,
    room: usize,
    timeout: Duration,
) -> Option<io::Result<usize>> {
    with_pwait2!({
        /// `struct __kernel_timespec`: 64 bits on every architecture, whatever `time_t` has.
        #[repr(C)]
        struct KernelTimespec(i64, i64);

        /// Whether the kernel (before Linux 5.11), or a seccomp filter that is older than the call, has refused it.
        static MISSING: AtomicBool = AtomicBool::new(false);

        if MISSING.load(Ordering::Relaxed) {
            return None;
        }
        let timeout = KernelTimespec(timeout.as_secs() as i64, i64::from(timeout.subsec_nanos()));
        let no_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: the caller's promise; `timeout` outlives the call; a null signal mask changes none.
        let n = unsafe {
            libc::syscall(libc::SYS_epoll_pwait2, epoll, records, room as libc::c_int, &timeout, no_mask, 0_usize)
        };
        match check(n as libc::c_int) {
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                MISSING.store(true, Ordering::Relaxed);
                None
            }
            result => Some(result.map(|n| n as usize)),
        }
    } else {
        let _ = (epoll, records, room, timeout);
        None
    })
}
