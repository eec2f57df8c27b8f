//! The timers of one poll: a heap of deadlines, and the limit that they set to the waits.
//!
//! Times are nanoseconds since the poll was created, on the clock of [`std::time::Instant`].
//!
//! # How a timer ends a wait
//!
//! Three times are readable without the lock of the heap:
//!
//! * `earliest`: the earliest deadline and the slack, or [`NEVER`];
//! * `bound`: the end of the present wait. 0 means that the polling thread runs the program. [`NEVER`] means a wait without
//!   limit, and also that the poll has had no timer yet, so that a wait with an unknown end may be in progress;
//! * `alarm`: the time of the alarm, the one timer of the kernel that the poll has, or [`NEVER`].
//!
//! The thread that sets a timer stores `earliest` and then loads `bound`. The polling thread stores `bound` and then loads
//! `earliest`. All four operations are sequentially consistent, so that at least one thread sees the store of the other:
//!
//! * If the polling thread sees the new deadline, the thread arms the alarm before it waits.
//! * If the setting thread sees a wait that ends after the deadline, the setting thread arms the alarm. The waiting thread is not
//!   woken before the deadline.
//!
//! The alarm is armed only if the earliest deadline is before the time of the alarm, and under the lock, so that the times in
//! `alarm` and in the kernel are the same. A cancelled timer leaves the alarm armed: the alarm fires, and is armed for the next
//! deadline. Therefore most waits and most settings make no system call for timers, and read no clock.
//!
//! A backend without an alarm (poll(2) on a system without timerfd, and any backend whose alarm cannot be made) limits the
//! timeout of the wait to the earliest deadline. `bound` is that deadline then, and a setting thread ends the wait with a
//! notification. If no descriptor is left for a notifier, waits are short.
//!
//! # Settings
//!
//! Each change of a timer draws a new *setting*, a number that is part of the event. An event of an older setting has no
//! expirations, so that a stale event cannot be taken for an event of the new setting.

use std::io;
use std::time::Duration;

use crate::source::timer_heap::Heap;
use crate::sync::{AtomicBool, AtomicUsize, Mutex, MutexGuard, Ordering};
use crate::sys::selector::{MAX_WAIT, TIMER_SETTINGS};
use crate::time_cell::TimeCell;
use crate::token::Token;

/// A time that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

/// The longest time of the alarm and of a bounded wait.
const MAX_DELAY: u64 = MAX_WAIT.as_nanos() as u64;

/// A wait of poll(2) on Linux may be late by 0.1 % (select(2): `estimate_accuracy`). A long wait therefore ends early by this
/// fraction, and another wait follows.
const EARLY_END: u64 = 512;

/// A poll that does not block reads the clock for a deadline that is nearer. For a later one it sets the alarm, so that the next
/// polls need no clock.
const MIN_ALARM_WITHOUT_WAIT: u64 = 1_000_000;

/// Shorter waits are not split, because their lateness is below that of a second wait.
const MIN_SPLIT_WAIT: u64 = 100_000_000;

/// The poll of the queue, as the queue uses it.
pub(crate) trait Driver {
    /// Returns the current time.
    fn now(&self) -> u64;
    fn set_alarm(&self, delay: Duration) -> io::Result<()>;
    /// Stops the alarm, and discards a record of the alarm that no wait has returned yet.
    fn clear_alarm(&self);
    /// Creates the alarm, unless there is one. Returns `false` if that fails.
    fn create_alarm(&self) -> bool;
    /// Creates the notifier, unless there is one. Returns `false` if that fails.
    fn create_notifier(&self) -> bool;
    /// Ends the present wait.
    fn notify(&self);
    /// Returns `true` if other code waits for the descriptor of the queue, so that every deadline needs the alarm.
    fn is_shared(&self) -> bool;
}

/// How a registered timer reports.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Each expiration is an event.
    Every,
    /// The next expiration is an event, and then none until the timer is reregistered.
    OneShot,
    /// No event.
    Disabled,
}

/// A deadline, and the period of the deadlines that follow, or 0.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Deadline {
    pub(crate) at: u64,
    pub(crate) period: u64,
}

/// The number of a registered timer.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) struct Slot(u32);

#[derive(Debug)]
struct Entry {
    token: Token,
    mode: Mode,
    deadline: Deadline,
    setting: u32,
    /// The expirations that were reported, and not taken yet.
    expirations: u64,
}

#[derive(Debug, Default)]
struct Timers {
    entries: Vec<Option<Entry>>,
    vacant: Vec<u32>,
    heap: Heap,
    last_setting: u32,
    /// The time by which timers may be late.
    slack: u64,
    /// The time of the last collection, if it has left due timers, or 0. They are due without the slack.
    left_until: u64,
    /// A wait may return a record of the alarm.
    alarm_may_fire: bool,
}

#[derive(Debug)]
pub(crate) struct TimerQueue {
    timers: Mutex<Timers>,
    earliest: TimeCell,
    bound: TimeCell,
    alarm: TimeCell,
    /// A timer is registered.
    has_timers: AtomicBool,
    /// The mechanism that ends a wait for a timer: one of the constants below.
    means: AtomicUsize,
}

/// The alarm ends the wait.
const ALARM: usize = 0;
/// There is no alarm. The timeout of the wait keeps the time, and a thread that sets an earlier timer notifies.
const TIMEOUT: usize = 1;
/// There is neither an alarm nor a notifier, because no descriptor is left. Waits are short.
const SHORT_TIMEOUT: usize = 2;

/// The longest time between reading the clock and setting the alarm. After a longer time the alarm is set again.
const MAX_SETTING_TIME: u64 = 1_000_000;
/// The number of attempts, because a slow machine may always take longer.
const MAX_SETTINGS: usize = 3;

/// The longest wait if no other thread can end it.
const MAX_SHORT_TIMEOUT: u64 = 10_000_000;

/// The wait that the timers allow.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Plan {
    /// A timer is due: the wait must not block.
    Due,
    /// The wait ends at this time at the latest, or at [`NEVER`].
    Until(u64),
}

impl Timers {
    fn next_setting(&mut self) -> u32 {
        self.last_setting = self.last_setting.wrapping_add(1) % TIMER_SETTINGS;
        self.last_setting
    }

    fn is_empty(&self) -> bool {
        self.entries.len() == self.vacant.len()
    }

    fn entry(&mut self, slot: Slot) -> &mut Entry {
        self.entries[slot.0 as usize].as_mut().expect("the slot of a registered timer")
    }

    /// Returns the time at which a wait ends for the earliest deadline: after the slack, or [`NEVER`].
    #[inline]
    fn earliest_end(&self) -> u64 {
        self.heap.earliest().map_or(NEVER, |(at, _)| match at <= self.left_until {
            true => at,
            false => at.saturating_add(self.slack).min(NEVER - 1),
        })
    }

    /// Puts the deadline of an entry into the heap, replaces it there, or removes it.
    #[inline]
    fn update_heap(&mut self, slot: Slot) {
        let entry = self.entry(slot);
        match (entry.mode, entry.deadline.at) {
            (Mode::Disabled, _) | (_, NEVER) => self.heap.remove(slot.0),
            (_, at) => self.heap.set(slot.0, at),
        }
    }

    /// Advances the earliest timer past `now`, and returns its event: token, setting and expirations.
    fn expire_earliest(&mut self, now: u64) -> Option<(Token, u32, u64)> {
        let (at, slot) = self.heap.earliest().filter(|&(at, _)| at <= now)?;
        let entry = self.entry(Slot(slot));
        let (new, next) = match entry.deadline.period {
            0 => (1, NEVER),
            period => {
                let new = (now - at) / period + 1;
                (new, at.checked_add(new.saturating_mul(period)).unwrap_or(NEVER))
            }
        };
        entry.expirations = entry.expirations.saturating_add(new);
        entry.deadline.at = next;
        if entry.mode == Mode::OneShot {
            entry.mode = Mode::Disabled;
        }
        let event = (entry.token, entry.setting, entry.expirations);
        self.update_heap(Slot(slot));
        Some(event)
    }
}

impl TimerQueue {
    /// Creates the queue of a poll. `number` is the number of the poll.
    ///
    /// The settings of two polls begin at different numbers, because a timer may be deregistered from one poll and registered
    /// with another while the program still has an event of the first. The distance is that of Fibonacci hashing.
    pub(crate) fn new(number: u32) -> TimerQueue {
        let last_setting = number.wrapping_mul(0x9e37_79b1) % TIMER_SETTINGS;
        TimerQueue {
            timers: Mutex::new(Timers { last_setting, ..Timers::default() }),
            earliest: TimeCell::new(NEVER),
            bound: TimeCell::new(NEVER),
            alarm: TimeCell::new(NEVER),
            has_timers: AtomicBool::new(false),
            means: AtomicUsize::new(ALARM),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Returns the number of registered timers. `None` if another thread holds the lock.
    pub(crate) fn count(&self) -> Option<usize> {
        self.timers.try_lock().ok().map(|timers| timers.entries.len() - timers.vacant.len())
    }

    /// Records that there is no alarm.
    pub(crate) fn set_no_alarm(&self, has_notifier: bool) {
        self.means.store(if has_notifier { TIMEOUT } else { SHORT_TIMEOUT }, Ordering::SeqCst);
    }

    /// Records that there is an alarm.
    pub(crate) fn set_alarm_available(&self) {
        self.means.store(ALARM, Ordering::SeqCst);
    }

    /// Creates an alarm that could not be created before. Returns `false` if that fails again.
    #[cold]
    fn recover_alarm(&self, driver: &impl Driver) -> bool {
        let is_created = driver.create_alarm();
        if is_created {
            self.set_alarm_available();
        }
        is_created
    }

    #[inline]
    fn has_alarm(&self) -> bool {
        self.means.load(Ordering::SeqCst) == ALARM
    }

    /// Sets the time by which timers may be late.
    pub(crate) fn set_slack(&self, slack: Duration, driver: &impl Driver) {
        let mut timers = self.lock();
        timers.slack = u64::try_from(slack.as_nanos()).unwrap_or(NEVER);
        self.publish(timers, driver);
    }

    /// Records that no wait is in progress: the caller borrows the poll.
    pub(crate) fn mark_no_wait(&self) {
        self.bound.store(0);
    }

    /// Arms the alarm for the earliest deadline, after the driver has become shared. Returns `false` if a deadline needs the
    /// alarm, and there is none.
    #[cfg_attr(not(selector_has_fd), allow(dead_code))]
    pub(crate) fn arm_for_other_code(&self, driver: &impl Driver) -> bool {
        let mut timers = self.lock();
        match self.earliest.load() {
            NEVER => true,
            earliest => self.end_wait_before(&mut timers, earliest, driver),
        }
    }

    /// Inserts a timer. `prepare` is called under the lock if there was no timer before. If `prepare` fails, nothing is inserted.
    pub(crate) fn insert(
        &self,
        token: Token,
        mode: Mode,
        deadline: Deadline,
        driver: &impl Driver,
        prepare: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<Slot> {
        let mut timers = self.lock();
        if timers.is_empty() {
            prepare()?;
            self.has_timers.store(true, Ordering::Relaxed);
        }
        let setting = timers.next_setting();
        let entry = Some(Entry { token, mode, deadline, setting, expirations: 0 });
        let slot = match timers.vacant.pop() {
            Some(slot) => {
                timers.entries[slot as usize] = entry;
                Slot(slot)
            }
            None => {
                timers.entries.push(entry);
                Slot(u32::try_from(timers.entries.len() - 1).expect("fewer than 2^32 timers"))
            }
        };
        timers.update_heap(slot);
        self.publish(timers, driver);
        Ok(slot)
    }

    /// Changes the registration and the deadline of a timer.
    pub(crate) fn reregister(&self, slot: Slot, token: Token, mode: Mode, deadline: Deadline, driver: &impl Driver) {
        let mut timers = self.lock();
        let setting = timers.next_setting();
        *timers.entry(slot) = Entry { token, mode, deadline, setting, expirations: 0 };
        timers.update_heap(slot);
        self.publish(timers, driver);
    }

    /// Sets the deadline of a timer.
    #[inline]
    pub(crate) fn set(&self, slot: Slot, deadline: Deadline, driver: &impl Driver) {
        let mut timers = self.lock();
        let setting = timers.next_setting();
        let entry = timers.entry(slot);
        (entry.deadline, entry.setting, entry.expirations) = (deadline, setting, 0);
        timers.update_heap(slot);
        self.publish(timers, driver);
    }

    pub(crate) fn remove(&self, slot: Slot, driver: &impl Driver) {
        let mut timers = self.lock();
        timers.heap.remove(slot.0);
        timers.entries[slot.0 as usize] = None;
        timers.vacant.push(slot.0);
        self.has_timers.store(!timers.is_empty(), Ordering::Relaxed);
        self.publish(timers, driver);
    }

    /// Takes the expirations that an event of this setting has reported.
    pub(crate) fn take_expirations(&self, slot: Slot, setting: u32) -> u64 {
        let mut timers = self.lock();
        let entry = timers.entry(slot);
        if entry.setting == setting {
            std::mem::take(&mut entry.expirations)
        } else {
            0
        }
    }

    /// Publishes the earliest deadline after a change, and ends a wait that would end after the deadline.
    #[inline]
    fn publish(&self, mut timers: MutexGuard<'_, Timers>, driver: &impl Driver) {
        let earliest = timers.earliest_end();
        let before = self.earliest.load_relaxed();
        if earliest == before {
            return;
        }
        self.earliest.store(earliest);
        if earliest < before && (earliest < self.bound.load() || driver.is_shared()) {
            let must_notify = !self.end_wait_before(&mut timers, earliest, driver);
            drop(timers);
            if must_notify {
                driver.notify();
            }
        }
    }

    /// Arms the alarm for a deadline, and creates the alarm again for a shared driver. Returns `false` if there is no alarm.
    #[cold]
    fn end_wait_before(&self, timers: &mut MutexGuard<'_, Timers>, deadline: u64, driver: &impl Driver) -> bool {
        // Only the alarm makes the descriptor of the queue readable for other code.
        let has_alarm = self.has_alarm() || (driver.is_shared() && self.recover_alarm(driver));
        if !has_alarm {
            return false;
        }
        deadline >= self.alarm.load() || self.arm(timers, deadline, driver)
    }

    /// Arms the alarm, under the lock. Returns `false` if the kernel rejects that: from then on the queue has no alarm.
    fn arm(&self, timers: &mut MutexGuard<'_, Timers>, deadline: u64, driver: &impl Driver) -> bool {
        timers.alarm_may_fire = true;
        for _ in 0..MAX_SETTINGS {
            let now = driver.now();
            let delay = deadline.saturating_sub(now).clamp(1, MAX_DELAY);
            self.alarm.store(now.saturating_add(delay));
            if driver.set_alarm(Duration::from_nanos(delay)).is_err() {
                self.alarm.store(NEVER);
                self.set_no_alarm(driver.create_notifier());
                return false;
            }
            // If the process was stopped between the two calls, the alarm would be late by the time of the stop.
            if driver.now().saturating_sub(now) <= MAX_SETTING_TIME {
                break;
            }
        }
        true
    }

    /// Begins a wait that ends at `end`. 0 is a wait that does not block.
    #[inline]
    pub(crate) fn begin_wait(&self, end: u64, driver: &impl Driver) -> Plan {
        let means = self.means.load(Ordering::Relaxed);
        if end != 0 && means == SHORT_TIMEOUT {
            return self.begin_short_wait(end, driver);
        }
        if end != 0 {
            self.bound.store(end);
        }
        let earliest = self.earliest.load();
        let is_alarm_set = means == ALARM && earliest >= self.alarm.load_relaxed();
        if earliest == NEVER || is_alarm_set || (earliest >= end && end != 0) {
            return Plan::Until(end);
        }
        self.begin_wait_before_deadline(end, driver)
    }

    /// Begins a wait that no other thread can end, unless the alarm or the notifier can be created now.
    #[cold]
    fn begin_short_wait(&self, end: u64, driver: &impl Driver) -> Plan {
        if !self.recover_alarm(driver) {
            self.set_no_alarm(driver.create_notifier());
        }
        self.begin_wait_before_deadline(end, driver)
    }

    /// Begins a wait, as the earliest deadline may come before its end, and the alarm is not set for it.
    #[cold]
    fn begin_wait_before_deadline(&self, end: u64, driver: &impl Driver) -> Plan {
        let mut timers = self.lock();
        let (earliest, now) = (self.earliest.load(), driver.now());
        if earliest <= now {
            return Plan::Due;
        }
        // Other code may wait for the queue after a wait that does not block, so that a shared queue needs the alarm.
        let needs_alarm = end != 0 || earliest - now >= MIN_ALARM_WITHOUT_WAIT || driver.is_shared();
        if needs_alarm && self.end_wait_before(&mut timers, earliest, driver) {
            return Plan::Until(end);
        }
        if end == 0 {
            return Plan::Until(0);
        }
        // Under the lock `earliest` does not change, so that the bound is that of every deadline.
        let is_short = self.means.load(Ordering::SeqCst) == SHORT_TIMEOUT;
        let end = if is_short { end.min(now.saturating_add(MAX_SHORT_TIMEOUT)) } else { end };
        let bound = earliest.min(end);
        self.bound.store(bound);
        let delay = bound.saturating_sub(now).min(MAX_DELAY);
        let early = if bound == earliest && delay > MIN_SPLIT_WAIT { delay / EARLY_END } else { 0 };
        Plan::Until(now + delay - early)
    }

    /// Ends a wait. `has_alarm` is `true` if the alarm has fired. Returns `true` if timers may be due.
    #[inline]
    pub(crate) fn end_wait(&self, has_alarm: bool, driver: &impl Driver) -> bool {
        self.bound.store_relaxed(0);
        has_alarm
            || (!self.has_alarm()
                && self.earliest.load_relaxed() != NEVER
                && self.earliest.load_relaxed() <= driver.now())
    }

    /// Reports at most `space` due timers, if the slack of the earliest has passed. Returns `true` if due timers are left.
    #[inline(never)]
    pub(crate) fn collect(
        &self,
        has_alarm: bool,
        space: usize,
        driver: &impl Driver,
        mut report: impl FnMut(Token, u32, u64),
    ) -> bool {
        let mut timers = self.lock();
        if has_alarm {
            self.alarm.store(NEVER);
        }
        let now = driver.now();
        // The alarm may have been set before the slack.
        let space = if now < self.earliest.load_relaxed() { 0 } else { space };
        for _ in 0..space {
            let Some((token, setting, expirations)) = timers.expire_earliest(now) else { break };
            report(token, setting, expirations);
        }
        let are_left = now >= self.earliest.load_relaxed() && timers.heap.earliest().is_some_and(|(at, _)| at <= now);
        timers.left_until = if are_left { now } else { 0 };
        let earliest = timers.earliest_end();
        self.earliest.store(earliest);
        if driver.is_shared() && earliest != NEVER && !are_left {
            self.end_wait_before(&mut timers, earliest, driver);
        }
        are_left
    }

    /// Stops the alarm and calls `none`, if there is no timer any more. From then on a wait with an unknown end may be in
    /// progress, and a wait returns no record of the alarm.
    #[inline]
    pub(crate) fn retire_if_empty(&self, driver: &impl Driver, none: impl FnOnce()) {
        if !self.has_timers.load(Ordering::Relaxed) {
            self.retire(driver, none);
        }
    }

    #[cold]
    fn retire(&self, driver: &impl Driver, none: impl FnOnce()) {
        let mut timers = self.lock();
        if timers.is_empty() {
            if std::mem::take(&mut timers.alarm_may_fire) {
                self.alarm.store(NEVER);
                driver.clear_alarm();
            }
            self.bound.store(NEVER);
            none();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// A poll with a clock that the test sets.
    struct TestDriver {
        now: Cell<u64>,
        /// The time for which each of the next settings of the alarm stops the process.
        stops: RefCell<Vec<u64>>,
        can_set_alarm: bool,
        has_notifier: bool,
        is_shared: bool,
        /// The times of the alarm, by the clock of the kernel.
        alarms: RefCell<Vec<u64>>,
    }

    impl TestDriver {
        fn new() -> TestDriver {
            let (now, stops, alarms) = (Cell::new(SECOND), RefCell::default(), RefCell::default());
            TestDriver { now, stops, can_set_alarm: true, has_notifier: true, is_shared: false, alarms }
        }
    }

    impl Driver for TestDriver {
        fn now(&self) -> u64 {
            self.now.get()
        }

        fn set_alarm(&self, delay: Duration) -> io::Result<()> {
            self.now.set(self.now.get() + self.stops.borrow_mut().pop().unwrap_or(0));
            if !self.can_set_alarm {
                return Err(io::ErrorKind::Other.into());
            }
            self.alarms.borrow_mut().push(self.now.get() + delay.as_nanos() as u64);
            Ok(())
        }

        fn create_alarm(&self) -> bool {
            self.can_set_alarm
        }

        fn clear_alarm(&self) {}

        fn create_notifier(&self) -> bool {
            self.has_notifier
        }

        fn notify(&self) {}

        fn is_shared(&self) -> bool {
            self.is_shared
        }
    }

    fn insert(queue: &TimerQueue, at: u64, driver: &TestDriver) -> Slot {
        queue.insert(Token(1), Mode::Every, Deadline { at, period: 0 }, driver, || Ok(())).unwrap()
    }

    /// `Debug` of a poll may run in any place, also in a forked child.
    #[test]
    fn count_waits_for_no_lock() {
        let (queue, driver) = (TimerQueue::new(1), TestDriver::new());
        let deadline = Deadline { at: 2 * SECOND, period: 0 };
        let slot = queue.insert(Token(1), Mode::Every, deadline, &driver, || Ok(())).unwrap();
        assert_eq!(queue.count(), Some(1));
        let guard = queue.lock();
        assert_eq!(queue.count(), None);
        drop(guard);
        queue.remove(slot, &driver);
        assert_eq!(queue.count(), Some(0));
    }

    #[test]
    fn alarm_is_set_again_after_a_stop_between_clock_and_call() {
        let (queue, driver) = (TimerQueue::new(1), TestDriver::new());
        *driver.stops.borrow_mut() = vec![50 * SECOND];
        insert(&queue, 100 * SECOND, &driver);
        assert_eq!(*driver.alarms.borrow(), [150 * SECOND, 100 * SECOND]);
        // A stop beyond the deadline.
        *driver.stops.borrow_mut() = vec![90 * SECOND];
        driver.alarms.borrow_mut().clear();
        insert(&queue, 60 * SECOND, &driver);
        assert_eq!(driver.alarms.borrow().last(), Some(&(141 * SECOND + 1)), "at once");
    }

    #[test]
    fn alarm_of_a_slow_machine_is_set_a_few_times() {
        let (queue, driver) = (TimerQueue::new(1), TestDriver::new());
        *driver.stops.borrow_mut() = vec![2_000_000; 100];
        insert(&queue, 100 * SECOND, &driver);
        assert_eq!(driver.alarms.borrow().len(), MAX_SETTINGS);
    }

    #[test]
    fn waits_are_short_without_alarm_and_notifier() {
        let queue = TimerQueue::new(1);
        let mut driver = TestDriver { can_set_alarm: false, has_notifier: false, ..TestDriver::new() };
        insert(&queue, 100 * SECOND, &driver);
        for end in [NEVER, 50 * SECOND] {
            assert_eq!(queue.begin_wait(end, &driver), Plan::Until(SECOND + MAX_SHORT_TIMEOUT));
            assert!(!queue.end_wait(false, &driver));
        }
        assert_eq!(queue.begin_wait(SECOND + 1, &driver), Plan::Until(SECOND + 1));
        // A notifier can be created now, and then an alarm.
        driver.has_notifier = true;
        assert_eq!(queue.begin_wait(50 * SECOND, &driver), Plan::Until(50 * SECOND));
        driver.can_set_alarm = true;
        queue.set_no_alarm(false);
        assert_eq!(queue.begin_wait(NEVER, &driver), Plan::Until(NEVER));
        assert_eq!(driver.alarms.borrow().last(), Some(&(100 * SECOND)));
    }

    /// Other code waits for the queue, so that a wait that does not block sets the alarm for every deadline.
    #[test]
    fn wait_that_does_not_block_sets_the_alarm_of_a_shared_queue() {
        for delay in [1, MIN_ALARM_WITHOUT_WAIT - 1, 100 * SECOND] {
            let queue = TimerQueue::new(1);
            let mut driver = TestDriver { can_set_alarm: false, has_notifier: false, ..TestDriver::new() };
            queue.set_no_alarm(false);
            insert(&queue, SECOND + delay, &driver);
            assert!(!queue.arm_for_other_code(&driver));
            driver.is_shared = true;
            assert!(!queue.arm_for_other_code(&driver));
            assert_eq!(queue.begin_wait(0, &driver), Plan::Until(0));
            driver.can_set_alarm = true;
            assert_eq!(queue.begin_wait(0, &driver), Plan::Until(0));
            assert_eq!(*driver.alarms.borrow(), [SECOND + delay]);
        }
    }

    #[test]
    fn wait_whose_end_has_passed_does_not_block() {
        let (queue, driver) = (TimerQueue::new(1), TestDriver::new());
        queue.set_no_alarm(true);
        insert(&queue, 100 * SECOND, &driver);
        assert_eq!(queue.begin_wait(SECOND - 5, &driver), Plan::Until(SECOND - 5));
        // The end passes between two readings of the clock.
        insert(&queue, SECOND + 7, &driver);
        driver.now.set(SECOND + 6);
        assert_eq!(queue.begin_wait_before_deadline(SECOND + 1, &driver), Plan::Until(SECOND + 6));
    }

    #[test]
    fn settings_of_many_polls_begin_at_different_numbers() {
        let first = |number| TimerQueue::new(number).lock().last_setting;
        let mut firsts: Vec<_> = (1..1000).map(first).collect();
        firsts.sort_unstable();
        assert!(firsts.windows(2).all(|pair| pair[1] - pair[0] > 100_000), "too close");
    }
}
