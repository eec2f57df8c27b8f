//! A timer on a system without a timer that can be waited for: the wait keeps the time.
//!
//! Each timer has a wake-up descriptor. Before a wait, the timers that have expired are notified, and the wait is limited to the
//! next deadline. Therefore trigger modes and batches work as for any descriptor. If a timer is set to an earlier time during a
//! wait, its descriptor is notified at once. The notification produces an event without an expiration, and the next wait gets the
//! new limit.
//!
//! Each wait checks all timers, as poll(2) checks all descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::sys::unix::syscall::lock_ignoring_poison;
use crate::sys::unix::wake_fd::WakeFd;

/// A descriptor that is readable from an expiration until [`take_expirations`](TimerFd::take_expirations).
#[derive(Debug)]
pub(crate) struct TimerFd {
    wake_fd: WakeFd,
    state: Mutex<TimerState>,
}

#[derive(Debug, Default)]
struct TimerState {
    next: Option<Instant>,
    period: Option<Duration>,
    /// The number of expirations that were not taken.
    expired: u64,
}

impl TimerState {
    /// Counts the expirations until `now`. Returns `true` if there was none before that was not taken.
    fn count_expirations(&mut self, now: Instant) -> bool {
        let Some(next) = self.next.filter(|next| *next <= now) else {
            return false;
        };
        let is_first = self.expired == 0;
        let count = match self.period {
            None => 1,
            Some(period) => 1 + ((now - next).as_nanos() / period.as_nanos()) as u64,
        };
        self.next = self.period.and_then(|period| {
            let passed = period.as_nanos() * u128::from(count);
            next.checked_add(Duration::new((passed / 1_000_000_000) as u64, (passed % 1_000_000_000) as u32))
        });
        self.expired += count;
        is_first
    }
}

impl TimerFd {
    pub(crate) fn new() -> io::Result<TimerFd> {
        Ok(TimerFd { wake_fd: WakeFd::new()?, state: Mutex::default() })
    }

    /// Sets the timer, or disarms it if `wait` is `None`. Expirations that were not taken are discarded.
    pub(crate) fn set(&self, wait: Option<Duration>, period: Option<Duration>) -> io::Result<()> {
        let mut state = lock_ignoring_poison(&self.state);
        let next = wait.and_then(|wait| Instant::now().checked_add(wait));
        *state = TimerState { next, period, expired: 0 };
        self.wake_fd.drain();
        Ok(())
    }

    /// Returns the number of expirations since the last call, or since the timer was set. `WouldBlock` if there is none.
    pub(crate) fn take_expirations(&self) -> io::Result<u64> {
        let mut state = lock_ignoring_poison(&self.state);
        state.count_expirations(Instant::now());
        self.wake_fd.drain();
        match std::mem::take(&mut state.expired) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            expired => Ok(expired),
        }
    }

    /// Makes the descriptor readable if the timer has expired. Returns the next deadline, and `None` while an expiration was not
    /// taken.
    fn notify_if_expired(&self, now: Instant) -> Option<Instant> {
        let mut state = lock_ignoring_poison(&self.state);
        if state.count_expirations(now) {
            // Fails only if the program has closed the descriptor.
            let _ = self.wake_fd.notify();
        }
        state.next.filter(|_| state.expired == 0)
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake_fd.as_fd()
    }
}

/// The timers of one poll.
#[derive(Debug, Default)]
pub(crate) struct TimerQueue {
    /// `true` since the first timer. A poll without timers reads nothing else.
    ever_used: AtomicBool,
    is_waiting: AtomicBool,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    timers: Vec<Weak<TimerFd>>,
}

impl TimerQueue {
    /// Waits are limited to the next deadline.
    pub(crate) const LIMIT_WAITS: bool = true;

    /// Begins a wait of at most `step`: notifies the expired timers, and returns the limit of the wait.
    pub(crate) fn begin_wait(&self, step: Option<Duration>) -> Option<Duration> {
        // Stored before `ever_used` is read, because another thread may set the first timer during the wait.
        self.is_waiting.store(true, Ordering::SeqCst);
        if !self.ever_used.load(Ordering::SeqCst) {
            return step;
        }
        let mut table = lock_ignoring_poison(&self.table);
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        table.timers.retain(|timer| match timer.upgrade() {
            None => false,
            Some(timer) => {
                next = timer.notify_if_expired(now).into_iter().chain(next).min();
                true
            }
        });
        step.into_iter().chain(next.map(|next| next - now)).min()
    }

    /// Ends a wait.
    pub(crate) fn end_wait(&self) {
        self.is_waiting.store(false, Ordering::SeqCst);
    }

    pub(crate) fn insert(&self, timer: &Arc<TimerFd>) {
        self.ever_used.store(true, Ordering::SeqCst);
        lock_ignoring_poison(&self.table).timers.push(Arc::downgrade(timer));
        self.reschedule(timer);
    }

    pub(crate) fn remove(&self, timer: &Arc<TimerFd>) {
        lock_ignoring_poison(&self.table).timers.retain(|other| other.as_ptr() != Arc::as_ptr(timer));
    }

    /// Ends a blocked wait, so that the next wait gets a new limit. Called after a timer was set.
    pub(crate) fn reschedule(&self, timer: &TimerFd) {
        if self.is_waiting.load(Ordering::SeqCst) && lock_ignoring_poison(&timer.state).next.is_some() {
            // Fails only if the program has closed the descriptor.
            let _ = timer.wake_fd.notify();
        }
    }
}
