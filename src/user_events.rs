//! The events of wakers and timers, which the polling thread adds to the events of the kernel.
//!
//! A poll that has neither never comes here: see `Poll::poll` and
//! [`WakeState::is_quiet`](crate::wake_state::WakeState::is_quiet).

use std::io;
use std::time::Duration;

use crate::poll_shared::PollShared;
use crate::source::timer_queue::{Driver, Plan, NEVER};
use crate::sys::selector::{EventRecord, InternalEvents, Selector};
use crate::sys::RawEvent;
use crate::wake_state::WokenNodes;

/// The number of records that are not for the program: of the notifier, the alarm and the queue of file changes.
const INTERNAL_RECORDS: usize = 3;

/// The woken wakers that no poll has returned yet, and the order of the next events.
#[derive(Debug, Default)]
pub(crate) struct UserEvents {
    woken: WokenNodes,
    turn: Turn,
    /// The longest time for which a poll repeats waits of zero before it blocks, in nanoseconds.
    spin: u64,
}

/// The events that come first, if the buffer has no space for all.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
enum Turn {
    #[default]
    Kernel,
    Wakers,
    Timers,
}

impl Turn {
    fn next(self) -> Turn {
        match self {
            Turn::Kernel => Turn::Wakers,
            Turn::Wakers => Turn::Timers,
            Turn::Timers => Turn::Kernel,
        }
    }
}

/// Returns the space of a buffer that events of the kernel may take, while other events are pending.
fn max_kernel_events(capacity: usize) -> usize {
    capacity - capacity / 2
}

impl UserEvents {
    pub(crate) fn set_spin(&mut self, duration: Duration) {
        self.spin = u64::try_from(duration.as_nanos()).unwrap_or(NEVER);
    }

    /// Returns `true` if a poll with this timeout spins.
    #[inline]
    pub(crate) fn spins(&self, timeout: Option<Duration>) -> bool {
        self.spin != 0 && timeout != Some(Duration::ZERO)
    }

    /// Polls, and adds the events of wakers and timers.
    #[inline(never)] // So that a poll without them saves no registers.
    pub(crate) fn poll(
        &mut self,
        shared: &PollShared,
        records: &mut Vec<RawEvent>,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let end = match timeout {
            None => NEVER,
            Some(Duration::ZERO) => 0,
            Some(timeout) => {
                let timeout = u64::try_from(timeout.as_nanos()).unwrap_or(NEVER);
                shared.now().saturating_add(timeout).min(NEVER - 1)
            }
        };
        // The first wait of a spin needs no clock.
        let (mut spins, mut spin_end) = (self.spins(timeout), None);
        let mut repeats = if max_kernel_events(records.capacity()) > INTERNAL_RECORDS { 0 } else { INTERNAL_RECORDS };
        loop {
            let internal = self.wait(shared, records, if spins { 0 } else { end }, spins)?;
            if !records.is_empty() {
                return Ok(());
            }
            if spins {
                let now = shared.now();
                spins = now < *spin_end.get_or_insert(now.saturating_add(self.spin).min(end));
                std::hint::spin_loop();
                continue;
            }
            if internal.any() && repeats > 0 {
                // The internal records may have taken the place of other events. The number of repeated waits is limited, because
                // another thread may notify again and again. The kernel appends such a record to its list, so that the events
                // that were ready before come first.
                repeats -= 1;
                continue;
            }
            if end == 0 || (end != NEVER && shared.now() >= end) {
                return Ok(());
            }
        }
    }

    /// Completes a poll during which a waker was woken, or the first timer registered.
    #[cold]
    pub(crate) fn finish_poll(
        &mut self,
        shared: &PollShared,
        records: &mut Vec<RawEvent>,
        timeout: Option<Duration>,
        result: io::Result<()>,
    ) -> io::Result<()> {
        let internal = self.end_wait(shared, records, false, result)?;
        match timeout {
            _ if !records.is_empty() => Ok(()),
            None => self.poll(shared, records, None),
            // The internal records may have taken the place of other events.
            Some(Duration::ZERO) if internal.any() => self.poll(shared, records, timeout),
            // The wait was not measured, so that the rest of the timeout is unknown.
            Some(_) if internal.any() => Err(io::ErrorKind::Interrupted.into()),
            Some(_) => Ok(()),
        }
    }

    /// Waits once, until `end` at the latest: 0 is a wait that does not block, and [`NEVER`] a wait without limit. Returns the
    /// records that ended the wait.
    ///
    /// With `spins` another wait follows, so that wakes need no notifier.
    fn wait(
        &mut self,
        shared: &PollShared,
        records: &mut Vec<RawEvent>,
        end: u64,
        spins: bool,
    ) -> io::Result<InternalEvents> {
        let is_woken = if spins { shared.wake_state().begin_spin() } else { shared.wake_state().begin_wait() };
        let is_woken = is_woken || !self.woken.is_empty();
        if !is_woken && end != 0 && shared.wake_state().is_notified() {
            // If other code has closed the notifier, the notification never arrives, and no wake uses the notifier again.
            records.clear();
            shared.selector().check_notifier()?;
        }
        let plan = match shared.wake_state().has_sources() {
            true => shared.timers().begin_wait(end, shared),
            false => Plan::Until(end),
        };
        let (is_pending, capacity) = (is_woken || plan == Plan::Due, records.capacity());
        if is_pending {
            self.turn = self.turn.next();
        }
        if is_pending && capacity == 1 && self.turn != Turn::Kernel {
            records.clear();
            let internal = self.end_wait(shared, records, plan == Plan::Due, Ok(()))?;
            if !records.is_empty() {
                return Ok(internal);
            }
        }
        let max = if is_pending { max_kernel_events(capacity) } else { capacity };
        let timeout = match plan {
            Plan::Until(end) if !is_pending => shared.timeout_until(end),
            _ => Some(Duration::ZERO),
        };
        let result = match shared.selector().select(records, max, timeout) {
            // Some kernels return `EINTR` from a wait of zero, and others do not.
            Err(error) if spins && error.kind() == io::ErrorKind::Interrupted => Ok(()),
            result => result,
        };
        self.end_wait(shared, records, plan == Plan::Due, result)
    }

    /// Ends a wait, and adds the events of wakers and timers to those of the kernel. Returns the records that ended the wait.
    fn end_wait(
        &mut self,
        shared: &PollShared,
        records: &mut Vec<RawEvent>,
        is_due: bool,
        result: io::Result<()>,
    ) -> io::Result<InternalEvents> {
        let (state, has_sources) = (shared.wake_state(), shared.wake_state().has_sources());
        let internal = match result {
            Ok(()) => shared.selector().take_internal(records),
            Err(_) => InternalEvents::default(),
        };
        let may_be_due = has_sources && shared.timers().end_wait(internal.has_alarm, shared);
        result?;
        let is_read = if internal.has_changes { shared.read_changes() } else { Ok(()) };
        state.take(internal.is_notified, &mut self.woken);
        let is_left = (is_due || may_be_due || !self.woken.is_empty())
            && self.add_events(shared, records, internal.has_alarm, is_due || may_be_due);
        state.set_left(is_left);
        if is_left && state.is_shared() && !shared.notify() {
            // The alarm takes the place of the notifier.
            let _ = shared.timers().arm_for_other_code(shared);
        }
        if has_sources && !shared.has_user_sources() {
            shared.timers().retire_if_empty(shared, || shared.set_no_timers());
        }
        match is_read {
            // The queue stays readable, so that a later poll fails again.
            Err(error) if records.is_empty() => Err(error),
            _ => Ok(internal),
        }
    }

    /// Adds the events of wakers and timers, as many as the buffer has space for. Returns `true` if events are left.
    fn add_events(&mut self, shared: &PollShared, records: &mut Vec<RawEvent>, has_alarm: bool, is_due: bool) -> bool {
        let mut are_timers_left = false;
        if self.turn != Turn::Timers {
            self.add_wakers(records);
        }
        if is_due {
            let space = records.capacity() - records.len();
            are_timers_left = shared.timers().collect(has_alarm, space, shared, |token, setting, expirations| {
                records.push(RawEvent::of_timer(token, setting, expirations));
            });
        }
        if self.turn == Turn::Timers {
            self.add_wakers(records);
        }
        are_timers_left || !self.woken.is_empty()
    }

    fn add_wakers(&mut self, records: &mut Vec<RawEvent>) {
        while records.len() < records.capacity() {
            let Some(token) = self.woken.pop() else { return };
            records.push(RawEvent::of_waker(token));
        }
    }
}
