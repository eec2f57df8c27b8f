//! The backend of Linux: epoll(7).
//!
//! One entry for each descriptor, edge-triggered; the token in `data`. The kernel keeps score: a descriptor added
//! twice is `EEXIST`, an unknown one `ENOENT`, a file that cannot be waited for `EPERM`.
//! See <https://man7.org/linux/man-pages/man7/epoll.7.html>.

use std::collections::HashSet;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};
use std::{fmt, io, mem};

use crate::backend::Backend;
use crate::interest::Interest;
use crate::interest::TriggerMode;
use crate::sys::error::{already_exists, not_found, unsupported};
use crate::sys::selector::{FdRegistration, Selector, SourceKind};
use crate::sys::unix::poll_bits;
use crate::sys::unix::poll_bits::PollBits;
#[allow(unused_imports)] // Of `pwait2`, too.
use crate::sys::unix::syscall::is_refused;
use crate::sys::unix::syscall::{cvt, lock_ignoring_poison};
use crate::sys::unix::timeout::to_millis_ceil;
use crate::sys::unix::wake_fd::WakeFd;
use crate::token::Token;

#[derive(Debug)]
pub(crate) struct EpollSelector {
    epoll: OwnedFd,
    /// The disabled registrations; made for the first of them.
    disabled: OnceLock<Parking>,
    /// Whether an event of a [probe](EpollSelector::probe) may be reported.
    has_probed: AtomicBool,
    borrowed: Borrowed,
}

/// The numbers whose registrations belong to sources that borrow their descriptors. Closing ends the registration of any
/// other source, so that what such a source removes is its own.
#[derive(Debug, Default)]
struct Borrowed {
    /// Whether there ever was one.
    any: AtomicBool,
    numbers: Mutex<HashSet<RawFd>>,
}

impl Borrowed {
    /// A registration was added, or one that did not borrow was changed.
    #[inline]
    fn set(&self, fd: RawFd, is_borrowed: bool) {
        if is_borrowed || self.any.load(Ordering::SeqCst) {
            self.set_slowly(fd, is_borrowed);
        }
    }

    #[cold]
    fn set_slowly(&self, fd: RawFd, is_borrowed: bool) {
        self.any.store(true, Ordering::SeqCst);
        let mut numbers = lock_ignoring_poison(&self.numbers);
        match is_borrowed {
            true => numbers.insert(fd),
            false => numbers.remove(&fd),
        };
    }

    /// Fails if a source that borrows has another source's registration before it.
    #[inline]
    fn cvt(&self, fd: RawFd, kind: SourceKind) -> io::Result<()> {
        let is_borrowed = matches!(kind, SourceKind::Borrowed | SourceKind::Registered { is_borrowed: true, .. });
        if is_borrowed && !lock_ignoring_poison(&self.numbers).contains(&fd) {
            return Err(not_found());
        }
        Ok(())
    }
}

/// A second queue, whose events are not fetched. The first reports hang-ups and errors also of what has no interest. The
/// kernel removes what is closed from this one too.
#[derive(Debug)]
struct Parking {
    queue: OwnedFd,
    lock: Mutex<()>,
}

fn create() -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let epoll = cvt(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(epoll) })
}

// What a system call returns to is worth inlining: each return after it costs more than all else that is done here, for
// the kernel leaves the processor's prediction of returns spoilt.
#[inline(always)]
fn epoll_ctl(epoll: &OwnedFd, operation: libc::c_int, fd: RawFd, events: u32, token: u64) -> io::Result<()> {
    // SAFETY: integers, and on Redox padding. Zeroes are a value of each.
    let mut event: libc::epoll_event = unsafe { mem::zeroed() };
    (event.events, event.u64) = (events, token);
    // SAFETY: the kernel reads one record, which lives until the call returns.
    match unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd, &mut event) } {
        -1 => Err(control_error()),
        _ => Ok(()),
    }
}

#[cold]
fn control_error() -> io::Error {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EEXIST) => already_exists(),
        Some(libc::ENOENT) => not_found(),
        _ => error,
    }
}

// `revents` speaks for both.
const _: () = {
    assert!(libc::EPOLLIN as u32 == poll_bits::IN && libc::EPOLLPRI as u32 == poll_bits::PRI);
    assert!(libc::EPOLLOUT as u32 == poll_bits::OUT);
    assert!(libc::EPOLLERR as u32 == poll_bits::ERR && libc::EPOLLHUP as u32 == poll_bits::HUP);
};

/// epoll_wait(2) refuses more: INT_MAX over the size of a record, which is 12 or 16 bytes.
const MAX_EVENTS: usize = i32::MAX as usize / 16;

/// `EPOLLEXCLUSIVE`, where there is one.
#[cfg(has_epollexclusive)]
const EXCLUSIVE: Option<i32> = Some(libc::EPOLLEXCLUSIVE);
#[cfg(not(has_epollexclusive))]
const EXCLUSIVE: Option<i32> = None;

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
        // The kernel allows it with nothing else than these (epoll_ctl(2)).
        mask = mask & !libc::EPOLLRDHUP | EXCLUSIVE.ok_or_else(unsupported)?;
        if interest.is_priority() || interest.is_oneshot() {
            return Err(unsupported());
        }
    }
    Ok(mask as u32)
}

impl EpollSelector {
    #[inline(always)]
    fn epoll_ctl(&self, operation: libc::c_int, fd: RawFd, events: u32, token: Token) -> io::Result<()> {
        epoll_ctl(&self.epoll, operation, fd, events, token.0 as u64)
    }

    /// Changes the queue of the disabled registrations; it holds none while it does not exist.
    fn control_parked(&self, operation: libc::c_int, fd: RawFd) -> io::Result<()> {
        let disabled = self.disabled.get().ok_or_else(not_found)?;
        epoll_ctl(&disabled.queue, operation, fd, 0, 0)
    }

    /// Excludes other threads from moving a registration from one queue to the other, or from adding one of the same
    /// number to the other. `None` while there is one queue.
    fn lock_queues(&self) -> Option<MutexGuard<'_, ()>> {
        self.disabled.get().map(|disabled| lock_ignoring_poison(&disabled.lock))
    }

    #[cold]
    fn create_parking(&self) -> io::Result<()> {
        if self.disabled.get().is_none() {
            let _ = self.disabled.set(Parking { queue: create()?, lock: Mutex::new(()) });
        }
        Ok(())
    }

    fn add_disabled(&self, fd: RawFd) -> io::Result<()> {
        if fd == self.epoll.as_raw_fd() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        self.control_parked(libc::EPOLL_CTL_ADD, fd)
    }

    /// Registers a disabled descriptor, if it is in neither queue.
    #[cold]
    fn register_parked(&self, fd: RawFd) -> io::Result<()> {
        self.create_parking()?;
        let _guard = self.lock_queues();
        self.add_disabled(fd)?;
        self.probe(fd, libc::EPOLLONESHOT).map_err(|error| {
            let _ = self.control_parked(libc::EPOLL_CTL_DEL, fd);
            error
        })
    }

    /// Whether the first queue would accept a registration: an addition, which reports hang-ups and errors until it is
    /// deleted. `select` drops what bears the mark.
    fn probe(&self, fd: RawFd, flags: libc::c_int) -> io::Result<()> {
        self.has_probed.store(true, Ordering::SeqCst);
        epoll_ctl(&self.epoll, libc::EPOLL_CTL_ADD, fd, flags as u32, mark())?;
        self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, Token(0))
    }

    /// Registers a descriptor where there are two queues.
    #[cold]
    fn register_beside_parked(&self, fd: RawFd, mask: u32, token: Token) -> io::Result<()> {
        let _guard = self.lock_queues();
        if self.control_parked(libc::EPOLL_CTL_MOD, fd).is_ok() {
            return Err(already_exists());
        }
        self.epoll_ctl(libc::EPOLL_CTL_ADD, fd, mask, token)
    }

    /// The second queue was made, by another thread, while a descriptor was added to the first.
    #[cold]
    fn check_not_parked(&self, fd: RawFd) -> io::Result<()> {
        let _guard = self.lock_queues();
        if self.control_parked(libc::EPOLL_CTL_MOD, fd).is_err() {
            return Ok(());
        }
        self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, Token(0))?;
        Err(already_exists())
    }

    /// Registers a descriptor that is in neither queue.
    #[inline]
    fn add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let mask = mask(interest)?;
        if interest.is_none() {
            return self.register_parked(fd);
        }
        if self.disabled.get().is_some() {
            return self.register_beside_parked(fd, mask, token);
        }
        self.epoll_ctl(libc::EPOLL_CTL_ADD, fd, mask, token)?;
        match self.disabled.get() {
            Some(_) => self.check_not_parked(fd),
            None => Ok(()),
        }
    }

    /// Ends the registration, whichever queue it is in.
    #[inline]
    fn delete(&self, fd: RawFd) -> io::Result<()> {
        self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, Token(0)).or_else(|error| self.delete_disabled(fd, error))
    }

    #[cold]
    fn delete_disabled(&self, fd: RawFd, error: io::Error) -> io::Result<()> {
        match error.kind() {
            io::ErrorKind::NotFound => self.control_parked(libc::EPOLL_CTL_DEL, fd),
            _ => Err(error),
        }
    }

    /// Changes a registration as the kernel cannot. A registration that moves from one queue to the other is added before
    /// it is deleted, so that a refused addition (`EMFILE`, `ENOMEM`, `ENOSPC`) leaves it as it was.
    #[cold]
    fn delete_and_add(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let mask = mask(interest)?;
        if interest.is_none() {
            self.create_parking()?;
        }
        let _guard = self.lock_queues();
        let was_parked = self.control_parked(libc::EPOLL_CTL_MOD, fd).is_ok();
        match (was_parked, interest.is_none()) {
            (true, true) => Ok(()),
            (true, false) => {
                self.epoll_ctl(libc::EPOLL_CTL_ADD, fd, mask, token)?;
                self.control_parked(libc::EPOLL_CTL_DEL, fd)
            }
            (false, true) => {
                self.add_disabled(fd)?;
                self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, Token(0)).map_err(|error| {
                    let _ = self.control_parked(libc::EPOLL_CTL_DEL, fd);
                    error
                })
            }
            (false, false) => {
                if let (true, Some(exclusive)) = (interest.is_exclusive(), EXCLUSIVE) {
                    // The kernel refuses it for another epoll: before it finds that the descriptor is registered.
                    match self.probe(fd, exclusive) {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                        result => return result.and_then(|()| Err(not_found())),
                    }
                }
                self.epoll_ctl(libc::EPOLL_CTL_DEL, fd, 0, Token(0))?;
                self.epoll_ctl(libc::EPOLL_CTL_ADD, fd, mask, token)
            }
        }
    }

    #[inline]
    fn wait(&self, events: &mut Vec<EpollEvent>, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        let max_events = events.capacity().min(MAX_EVENTS);
        let records = events.as_mut_ptr().cast::<libc::epoll_event>();
        // SAFETY: `EpollEvent` is transparent over `epoll_event`, and there is max_events for that many.
        let n = unsafe { wait(self.epoll.as_raw_fd(), records, max_events, timeout) }?;
        // SAFETY: the kernel has written the first `n` records, and `n` is at most the capacity.
        unsafe { events.set_len(n) };
        Ok(())
    }

    /// Waits where there were probes: an event of a probe is dropped, and the wait goes on.
    #[cold]
    fn select_unmarked(&self, events: &mut Vec<EpollEvent>, timeout: Option<Duration>) -> io::Result<()> {
        let deadline = timeout.filter(|timeout| !timeout.is_zero()).map(|timeout| Instant::now() + timeout);
        let mut left = timeout;
        loop {
            self.wait(events, left)?;
            if !drop_marked(events) {
                return Ok(());
            }
            left = timeout.map(|_| {
                deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()))
            });
        }
    }
}

/// The token of a probe for a registration. The address of this variable is no address of the program's, and where an
/// address has 32 bits the kernel's token has more than any [`Token`].
fn mark() -> u64 {
    static MARK: u8 = 0;
    std::ptr::addr_of!(MARK) as u64 | u64::from(usize::BITS < u64::BITS) << 63
}

/// Drops the events of probes; `true` if there were no others.
fn drop_marked(events: &mut Vec<EpollEvent>) -> bool {
    let (count, unmaskable) = (events.len(), poll_bits::ERR | poll_bits::HUP);
    events.retain(|event| event.0.u64 != mark() || event.bits() & !unmaskable != 0);
    count > 0 && events.is_empty()
}

impl Selector for EpollSelector {
    const BACKEND: Backend = Backend::Epoll;

    type Event = EpollEvent;
    type Registration = FdRegistration;
    type WakeHandle = WakeHandle;

    fn new() -> io::Result<EpollSelector> {
        Ok(EpollSelector {
            epoll: create()?,
            disabled: OnceLock::new(),
            has_probed: AtomicBool::new(false),
            borrowed: Borrowed::default(),
        })
    }

    #[inline]
    fn select(&self, events: &mut Vec<EpollEvent>, timeout: Option<Duration>) -> io::Result<()> {
        if self.has_probed.load(Ordering::SeqCst) {
            return self.select_unmarked(events, timeout);
        }
        self.wait(events, timeout)?;
        if self.has_probed.load(Ordering::SeqCst) && drop_marked(events) {
            // How long this wait has lasted is not known.
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(())
    }

    #[inline(always)]
    fn register(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind) -> io::Result<FdRegistration> {
        self.add(fd, token, interest)?;
        self.borrowed.set(fd, kind == SourceKind::Borrowed);
        Ok(FdRegistration::of(fd, interest, kind))
    }

    #[inline(always)]
    fn reregister(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind) -> io::Result<()> {
        let mask = mask(interest)?;
        self.borrowed.cvt(fd, kind)?;
        if interest.is_none() || interest.is_exclusive() {
            return self.delete_and_add(fd, token, interest);
        }
        self.epoll_ctl(libc::EPOLL_CTL_MOD, fd, mask, token).or_else(|error| {
            // It is parked, or not registered; or it is exclusive, which cannot be changed.
            let is_exclusive = EXCLUSIVE.is_some() && error.raw_os_error() == Some(libc::EINVAL);
            match error.kind() == io::ErrorKind::NotFound || is_exclusive {
                true => self.delete_and_add(fd, token, interest),
                false => Err(error),
            }
        })
    }

    #[inline(always)]
    fn deregister(&self, fd: RawFd, kind: SourceKind) -> io::Result<()> {
        self.borrowed.cvt(fd, kind)?;
        self.delete(fd)?;
        self.borrowed.set(fd, false);
        Ok(())
    }

    fn detach(&self, fd: RawFd, _: Interest) {
        self.borrowed.set(fd, false);
    }

    fn add_waker(&self, token: Token) -> io::Result<WakeHandle> {
        let notify = WakeFd::new()?;
        #[cfg(epoll_mod_requeues)]
        let events = {
            notify.notify()?;
            0
        };
        #[cfg(not(epoll_mod_requeues))]
        let events = libc::EPOLLIN as u32;
        self.epoll_ctl(libc::EPOLL_CTL_ADD, notify.as_raw_fd(), events | libc::EPOLLET as u32, token)?;
        Ok(WakeHandle { notify, token })
    }

    #[inline]
    fn wake(&self, waker: &WakeHandle) -> io::Result<()> {
        #[cfg(epoll_mod_requeues)]
        {
            let events = (libc::EPOLLIN | libc::EPOLLET) as u32;
            self.epoll_ctl(libc::EPOLL_CTL_MOD, waker.notify.as_raw_fd(), events, waker.token)
        }
        #[cfg(not(epoll_mod_requeues))]
        {
            waker.notify.notify()
        }
    }

    // Closing it is all. A forked child shares the queue: were it to deregister its copy, the parent's would be gone.
    fn remove_waker(&self, _: &WakeHandle) {}
}

/// A descriptor that nobody drains, edge-triggered.
///
/// Where the kernel reports again what is changed it is readable from the start, and nothing is asked of it; a wake asks
/// for reading, each time anew. The change is made under the lock that the waiter holds while it takes events: before,
/// and the event is among them, or after, and it is one of the next wait. Several are one event. (ep_modify() in Linux's
/// fs/eventpoll.c.) Elsewhere a wake is a write, and each is an edge.
#[derive(Debug)]
pub(crate) struct WakeHandle {
    notify: WakeFd,
    #[allow(dead_code)] // Where a wake is a write.
    token: Token,
}

impl AsFd for EpollSelector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

/// One `struct epoll_event`. Packed on x86-64: fields are copied out, never borrowed.
#[derive(Copy, Clone)]
#[repr(transparent)]
pub struct EpollEvent(libc::epoll_event);

impl PollBits for EpollEvent {
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
/// There must be max_events for `max_events` records at `records`.
#[inline]
unsafe fn wait(
    epoll: RawFd,
    records: *mut libc::epoll_event,
    max_events: usize,
    timeout: Option<Duration>,
) -> io::Result<usize> {
    if let Some(timeout) = timeout.filter(|timeout| timeout.subsec_nanos() % 1_000_000 != 0) {
        // SAFETY: the caller's promise.
        if let Some(result) = unsafe { pwait2(epoll, records, max_events, timeout) } {
            return result;
        }
    }
    let timeout = timeout.map_or(-1, to_millis_ceil);
    // SAFETY: the caller's promise.
    cvt(unsafe { libc::epoll_wait(epoll, records, max_events as libc::c_int, timeout) }).map(|n| n as usize)
}

/// epoll_pwait2(2), where the kernel has it: a timeout in nanoseconds. Called by number, for musl and older Androids
/// lack it.
///
/// # Safety
///
/// There must be max_events for `max_events` records at `records`.
#[cold]
unsafe fn pwait2(
    epoll: RawFd,
    records: *mut libc::epoll_event,
    max_events: usize,
    timeout: Duration,
) -> Option<io::Result<usize>> {
    #[cfg(has_epoll_pwait2)]
    {
        /// `struct __kernel_timespec`: 64 bits on every architecture, whatever `time_t` has.
        #[repr(C)]
        struct KernelTimespec(i64, i64);

        /// Whether the kernel (before Linux 5.11), or a seccomp filter that is older than the call, has refused it.
        static UNSUPPORTED: AtomicBool = AtomicBool::new(false);

        if UNSUPPORTED.load(Ordering::Relaxed) {
            return None;
        }
        let timeout = KernelTimespec(timeout.as_secs() as i64, i64::from(timeout.subsec_nanos()));
        let no_mask = std::ptr::null::<libc::sigset_t>();
        // SAFETY: the caller's promise; `timeout` outlives the call; a null signal mask changes none.
        let n = unsafe {
            libc::syscall(libc::SYS_epoll_pwait2, epoll, records, max_events as libc::c_int, &timeout, no_mask, 0_usize)
        };
        match cvt(n as libc::c_int) {
            Err(error) if is_refused(&error) => {
                UNSUPPORTED.store(true, Ordering::Relaxed);
                None
            }
            result => Some(result.map(|n| n as usize)),
        }
    }
    #[cfg(not(has_epoll_pwait2))]
    {
        let _ = (epoll, records, max_events, timeout);
        None
    }
}
