//! A timer where the system has none to wait for: the wait keeps the time.
//!
//! Each is a descriptor that can be waited for, and the waiter makes it readable: it never waits beyond the next deadline,
//! and before it waits it signals those that have passed. So modes, batches and the rest are what they are for any
//! descriptor. A timer that is set for an earlier time while the waiter waits signals at once, which makes an event
//! without an expiration, and the waiter looks again.
//!
//! The waiter looks at all of them each time, as poll(2) does at all descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use crate::sys::unix::syscall::lock_ignoring_poison;
use crate::sys::unix::wake_fd::WakeFd;

/// Readable when the time is up, until that is taken.
#[derive(Debug)]
pub(crate) struct TimerFd {
    notify: WakeFd,
    time: Mutex<Time>,
}

#[derive(Debug, Default)]
struct Time {
    next: Option<Instant>,
    period: Option<Duration>,
    /// How often it was up and nobody took it.
    expired: u64,
}

impl Time {
    /// Counts what has passed by now. True if it is the first that nobody has taken.
    fn pass(&mut self, now: Instant) -> bool {
        let Some(next) = self.next.filter(|next| *next <= now) else {
            return false;
        };
        let is_first = self.expired == 0;
        let times = match self.period {
            None => 1,
            Some(period) => 1 + ((now - next).as_nanos() / period.as_nanos()) as u64,
        };
        self.next = self.period.and_then(|period| {
            let passed = period.as_nanos() * u128::from(times);
            next.checked_add(Duration::new((passed / 1_000_000_000) as u64, (passed % 1_000_000_000) as u32))
        });
        self.expired += times;
        is_first
    }
}

impl TimerFd {
    pub(crate) fn new() -> io::Result<TimerFd> {
        Ok(TimerFd { notify: WakeFd::new()?, time: Mutex::default() })
    }

    /// Sets it, or with `None` stops it, and forgets what was not taken.
    pub(crate) fn set(&self, wait: Option<Duration>, period: Option<Duration>) -> io::Result<()> {
        let mut time = lock_ignoring_poison(&self.time);
        let next = wait.and_then(|wait| Instant::now().checked_add(wait));
        *time = Time { next, period, expired: 0 };
        self.notify.drain();
        Ok(())
    }

    /// How often the time was up since this was asked, or it was set.
    pub(crate) fn take(&self) -> io::Result<u64> {
        let mut time = lock_ignoring_poison(&self.time);
        time.pass(Instant::now());
        self.notify.drain();
        match std::mem::take(&mut time.expired) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            expired => Ok(expired),
        }
    }

    /// Signals if the time is up. When to look again: not before what is up has been taken.
    fn look(&self, now: Instant) -> Option<Instant> {
        let mut time = lock_ignoring_poison(&self.time);
        if time.pass(now) {
            // It fails only if somebody else has closed the descriptor.
            let _ = self.notify.notify();
        }
        time.next.filter(|_| time.expired == 0)
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }
}

/// The timers of one poll.
#[derive(Debug, Default)]
pub(crate) struct TimerQueue {
    /// Whether there ever was one. All that a poll without them looks at.
    any: AtomicBool,
    waiting: AtomicBool,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    clocks: Vec<Weak<TimerFd>>,
}

impl TimerQueue {
    /// Whether waits have to be limited to the next deadline.
    pub(crate) const LIMIT_WAITS: bool = true;

    /// A wait begins, for `step` at most. Signals what is up; how long to wait.
    pub(crate) fn begin_wait(&self, step: Option<Duration>) -> Option<Duration> {
        // Before the look for timers: the first one may be set during the wait, by another thread.
        self.waiting.store(true, Ordering::SeqCst);
        if !self.any.load(Ordering::SeqCst) {
            return step;
        }
        let mut table = lock_ignoring_poison(&self.table);
        let now = Instant::now();
        let mut next: Option<Instant> = None;
        table.clocks.retain(|clock| match clock.upgrade() {
            None => false,
            Some(clock) => {
                next = clock.look(now).into_iter().chain(next).min();
                true
            }
        });
        step.into_iter().chain(next.map(|next| next - now)).min()
    }

    /// The wait is over.
    pub(crate) fn end_wait(&self) {
        self.waiting.store(false, Ordering::SeqCst);
    }

    pub(crate) fn enter(&self, clock: &Arc<TimerFd>) {
        self.any.store(true, Ordering::SeqCst);
        lock_ignoring_poison(&self.table).clocks.push(Arc::downgrade(clock));
        self.changed(clock);
    }

    pub(crate) fn leave(&self, clock: &Arc<TimerFd>) {
        lock_ignoring_poison(&self.table).clocks.retain(|other| other.as_ptr() != Arc::as_ptr(clock));
    }

    /// The waiter has to look at it.
    pub(crate) fn changed(&self, clock: &TimerFd) {
        if self.waiting.load(Ordering::SeqCst) && lock_ignoring_poison(&clock.time).next.is_some() {
            // As above.
            let _ = clock.notify.notify();
        }
    }
}
