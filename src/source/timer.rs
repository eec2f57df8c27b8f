use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::event::Event;
use crate::interest::Interest;
use crate::poll_id::PollId;
use crate::poll_shared::{self, PollShared};
use crate::registry::{not_found_error, Registry, Source};
use crate::source::notification::supported_interest;
use crate::source::timer_queue::{Deadline, Mode, Slot, NEVER};
use crate::sys::{error, fork};
use crate::token::Token;

/// A timer as a source: fires once after a duration, once at a time, or periodically.
///
/// Register the timer for [`READABLE`](Interest::READABLE), and call [`expirations`](Timer::expirations) for each event. A
/// timer is never early. How late the timer is depends on the system and its load. A duration of zero expires at once. A
/// duration beyond the range of [`Instant`] (`Duration::MAX`) never expires, and is no error.
///
/// A timer that fires once measures its time with or without a registration. If the time passes before the registration, the
/// expiration is reported after the registration. Periods are counted only while the timer is registered. They start again when
/// the timer is registered, reregistered or set. Setting or cancelling a timer discards expirations that were not reported, and
/// events that the program has not handled yet have no expirations any more.
///
/// Each expiration is reported once, also for [`Interest::level`]. Every poll that finds an ended period reports an event with
/// the number of all expirations that `expirations` has not returned. Periods do not drift. After an event of
/// [`Interest::oneshot`] no other event is reported until the timer is reregistered.
///
/// Any thread may register the timer, set it and call its methods, also while another thread polls. A forked child cannot use
/// an inherited timer, but can create its own ([forks](crate::guide::forks)).
///
/// # Costs
///
/// A timer is an entry in a heap of the [`Poll`](crate::Poll), and holds no descriptor: a timer for each connection is cheap.
/// Setting, resetting and cancelling make no system call, with two exceptions: a timer that becomes the earliest while another
/// thread is blocked in a poll, or after other code has got the descriptor of the poll. Each `Poll` has at most one timer of the
/// kernel. The page
/// [many timeouts](crate::guide::many_timeouts) explains how to use timers for timeouts, and has the numbers.
///
/// # Clock
///
/// The clock is that of [`Instant`], which setting the time of day does not change. While the system is suspended, the clock
/// stands still on Linux, macOS, iOS and OpenBSD, so that a timer fires later by the time of the suspension.
///
/// # Platform notes
///
/// * kqueue uses an `EVFILT_TIMER` for the earliest timer. epoll and poll(2) use a timerfd, if the system has the call and does
///   not refuse it. Otherwise the timeout of the wait keeps the time.
/// * DragonFly, NetBSD and OpenBSD count ticks of the clock, usually 10 ms, so that a timer is up to two ticks late.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kevio::{Events, Interest, Poll, Timer, Token};
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// let mut timer = Timer::every(Duration::from_millis(5))?;
/// poll.registry().register(&mut timer, Token(1), Interest::READABLE)?;
///
/// let mut ticks = 0;
/// while ticks < 3 {
///     poll.poll(&mut events, None)?;
///     for event in &events {
///         assert_eq!(event.token(), Token(1));
///         ticks += timer.expirations(event)?;
///     }
/// }
/// timer.cancel()?;
/// # std::io::Result::Ok(())
/// ```
pub struct Timer {
    schedule: Schedule,
    /// The start of the first period.
    period_start: Instant,
    /// `true` if the timer fires once, and `expirations` has returned its expiration.
    has_expired: AtomicBool,
    registration: Option<Registration>,
    /// The tokens of earlier registrations, whose events the program may still have: a set of their numbers modulo 64.
    past_tokens: u64,
    /// The generation of the process that created the timer (`sys::fork`). A thread of the parent may have held the lock of the
    /// queue during a fork.
    generation: u32,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Schedule {
    Disarmed,
    Once(Instant),
    Every(Duration),
    /// The duration is longer than the clock can count.
    Never,
}

/// The entry of a registered timer in the queue of a poll.
#[derive(Debug)]
struct Registration {
    poll: Weak<PollShared>,
    poll_id: PollId,
    slot: Slot,
    token: Token,
}

impl Registration {
    /// Runs `f` on the state of the poll. Returns `None` if the poll was dropped.
    #[inline]
    fn with_poll<T>(&self, f: impl FnOnce(&PollShared) -> T) -> Option<T> {
        self.poll.upgrade().map(|shared| f(&shared))
    }
}

impl Timer {
    /// Creates a timer that is not set.
    ///
    /// # Errors
    ///
    /// None. The functions that create and set timers return a `Result`, so that a timer of another implementation could fail.
    pub fn new() -> io::Result<Timer> {
        Ok(Timer::with_schedule(Schedule::Disarmed))
    }

    /// Creates a timer that fires once, `delay` from now.
    ///
    /// # Errors
    ///
    /// None.
    pub fn after(delay: Duration) -> io::Result<Timer> {
        Ok(Timer::with_schedule(Schedule::once_after(delay)))
    }

    /// Creates a timer that fires once, at `time`. If the time has passed, the timer fires at once.
    ///
    /// # Errors
    ///
    /// None.
    pub fn at(time: Instant) -> io::Result<Timer> {
        Ok(Timer::with_schedule(Schedule::Once(time)))
    }

    /// Creates a timer that fires every `period`, first one period after the registration.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the period is zero.
    pub fn every(period: Duration) -> io::Result<Timer> {
        Schedule::every(period).map(Timer::with_schedule)
    }

    fn with_schedule(schedule: Schedule) -> Timer {
        Timer {
            schedule,
            period_start: Instant::now(),
            has_expired: AtomicBool::new(false),
            registration: None,
            past_tokens: 0,
            generation: fork::generation(),
        }
    }

    /// Sets the timer to fire once, `delay` from now.
    ///
    /// # Errors
    ///
    /// `Unsupported`: the caller is a forked child ([forks](crate::guide::forks)).
    pub fn set_after(&mut self, delay: Duration) -> io::Result<()> {
        self.set(Schedule::once_after(delay))
    }

    /// Sets the timer to fire once, at `time`. If the time has passed, the timer fires at once.
    ///
    /// # Errors
    ///
    /// `Unsupported`: the caller is a forked child ([forks](crate::guide::forks)).
    pub fn set_at(&mut self, time: Instant) -> io::Result<()> {
        self.set(Schedule::Once(time))
    }

    /// Sets the timer to fire every `period`, first one period from now.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the period is zero.
    /// * `Unsupported`: the caller is a forked child ([forks](crate::guide::forks)).
    pub fn set_every(&mut self, period: Duration) -> io::Result<()> {
        Schedule::every(period).and_then(|schedule| self.set(schedule))
    }

    /// Stops the timer. The timer stays registered.
    ///
    /// # Errors
    ///
    /// `Unsupported`: the caller is a forked child ([forks](crate::guide::forks)).
    pub fn cancel(&mut self) -> io::Result<()> {
        self.set(Schedule::Disarmed)
    }

    /// Returns `true` if the timer is registered with a poll that exists.
    ///
    /// ```
    /// use kevio::{Interest, Poll, Timer, Token};
    ///
    /// let poll = Poll::new()?;
    /// let mut timer = Timer::new()?;
    /// assert!(!timer.is_registered());
    /// poll.registry().register(&mut timer, Token(1), Interest::READABLE)?;
    /// assert!(timer.is_registered());
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub fn is_registered(&self) -> bool {
        poll_shared::is_live(self.poll_id())
    }

    /// Returns the duration until the next expiration. `None` if the timer is not set, or if it was set once and `expirations`
    /// has returned its expiration.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use kevio::Timer;
    ///
    /// let mut timer = Timer::after(Duration::from_secs(60))?;
    /// assert!(timer.remaining().unwrap() <= Duration::from_secs(60));
    /// timer.cancel()?;
    /// assert_eq!(timer.remaining(), None);
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        match self.schedule {
            Schedule::Disarmed => None,
            Schedule::Once(_) if self.has_expired.load(Ordering::Relaxed) => None,
            Schedule::Once(time) => Some(time.saturating_duration_since(Instant::now())),
            Schedule::Every(period) if self.registration.is_none() => Some(period),
            Schedule::Every(period) => {
                let elapsed = self.period_start.elapsed().as_nanos() % period.as_nanos();
                Some(period - Duration::new((elapsed / 1_000_000_000) as u64, (elapsed % 1_000_000_000) as u32))
            }
            Schedule::Never => Some(Duration::MAX),
        }
    }

    /// Returns the number of expirations that the event reports. `event` is an event of this timer.
    ///
    /// Call this function once for each event. The result is 0 if the timer was set, cancelled, reregistered or deregistered
    /// after the event, or if the expirations were returned already. After the poll was dropped, the result is 0 too.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the event belongs to another source. An event of another timer cannot always be distinguished from an
    ///   old event of this timer. Then the result is 0.
    /// * `Unsupported`: the caller is a forked child ([forks](crate::guide::forks)).
    pub fn expirations(&self, event: &Event) -> io::Result<u64> {
        self.check_process()?;
        let setting = event.timer_setting().ok_or_else(|| error::other_source("Timer::expirations"))?;
        let registration = self.registration.as_ref().filter(|registration| registration.token == event.token());
        if registration.is_none() && self.past_tokens & token_bit(event.token()) == 0 {
            return Err(error::other_source("Timer::expirations"));
        }
        let count = self.registration.as_ref().and_then(|registration| {
            registration.with_poll(|shared| match shared.wake_state().is_closed() {
                true => 0,
                false => shared.timers().take_expirations(registration.slot, setting),
            })
        });
        let count = count.unwrap_or(0);
        if count > 0 && matches!(self.schedule, Schedule::Once(_)) {
            self.has_expired.store(true, Ordering::Relaxed);
        }
        Ok(count)
    }

    /// Fails in a forked child of the process that created the timer.
    #[inline]
    fn check_process(&self) -> io::Result<()> {
        if !fork::is_current(self.generation) {
            return Err(error::inherited("Timer"));
        }
        Ok(())
    }

    #[inline]
    fn set(&mut self, schedule: Schedule) -> io::Result<()> {
        self.check_process()?;
        self.schedule = schedule;
        *self.has_expired.get_mut() = false;
        if let Schedule::Every(_) = schedule {
            self.period_start = Instant::now();
        }
        if let Some(registration) = &self.registration {
            registration.with_poll(|shared| shared.timers().set(registration.slot, self.next_deadline(shared), shared));
        }
        Ok(())
    }

    /// Returns the next deadline on the clock of the poll.
    #[inline]
    fn next_deadline(&self, shared: &PollShared) -> Deadline {
        let (at, period) = match self.schedule {
            Schedule::Once(time) if !self.has_expired.load(Ordering::Relaxed) => (shared.time_of(time), 0),
            Schedule::Every(period) => {
                let nanoseconds = u64::try_from(period.as_nanos()).unwrap_or(NEVER);
                (shared.time_of(self.period_start).saturating_add(nanoseconds), nanoseconds)
            }
            Schedule::Once(_) | Schedule::Disarmed | Schedule::Never => (NEVER, 0),
        };
        Deadline { at, period }
    }

    /// Starts the first period, for a registration. Returns the start before, to be restored after an error.
    fn start_periods(&mut self) -> Instant {
        std::mem::replace(&mut self.period_start, Instant::now())
    }

    /// Removes the timer from the queue of its poll.
    fn remove(&mut self) {
        if let Some(registration) = self.registration.take() {
            self.past_tokens |= token_bit(registration.token);
            registration.with_poll(|shared| shared.timers().remove(registration.slot, shared));
        }
    }

    /// Returns the id of the poll with which the timer is registered.
    fn poll_id(&self) -> PollId {
        self.registration.as_ref().map_or(PollId::NONE, |registration| registration.poll_id)
    }
}

impl Schedule {
    #[inline]
    fn once_after(delay: Duration) -> Schedule {
        Instant::now().checked_add(delay).map_or(Schedule::Never, Schedule::Once)
    }

    fn every(period: Duration) -> io::Result<Schedule> {
        if period.is_zero() {
            return Err(error::invalid_input(
                "a `Timer` cannot be set to a period of zero (`every`, `set_every`), because it would fire without \
                 end: pass a longer period, or set it once with `after` or `set_after`",
            ));
        }
        Ok(match Instant::now().checked_add(period) {
            Some(_) => Schedule::Every(period),
            None => Schedule::Never,
        })
    }
}

/// Returns the member of a token in the set of past tokens.
fn token_bit(token: Token) -> u64 {
    1 << (token.0 % 64)
}

/// Returns how a timer with this interest reports, or `Unsupported`.
fn mode(interests: Interest) -> io::Result<Mode> {
    let interest = supported_interest("Timer", interests)?;
    Ok(match (interest.is_none(), interest.is_oneshot()) {
        (true, _) => Mode::Disabled,
        (false, true) => Mode::OneShot,
        (false, false) => Mode::Every,
    })
}

/// Writes the remaining duration, the period, and if the timer is registered.
impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut timer = f.debug_struct("Timer");
        let period = match self.schedule {
            Schedule::Every(period) => Some(period),
            Schedule::Disarmed | Schedule::Once(_) | Schedule::Never => None,
        };
        timer
            .field("remaining", &self.remaining())
            .field("period", &period)
            .field("is_registered", &self.is_registered())
            .finish()
    }
}

impl Source for Timer {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.check_process()?;
        let mode = mode(interests)?;
        registry.check_process()?;
        registry.check_not_registered(self.poll_id())?;
        let start_before = self.start_periods();
        match registry.register_timer(token, mode, self.next_deadline(registry.shared())) {
            Ok(slot) => {
                let (poll, poll_id) = (Arc::downgrade(registry.shared()), registry.id());
                // The poll before was dropped. The program may still have an event with its token.
                self.remove();
                self.registration = Some(Registration { poll, poll_id, slot, token });
                Ok(())
            }
            Err(error) => {
                self.period_start = start_before;
                Err(error)
            }
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.check_process()?;
        let mode = mode(interests)?;
        registry.check_process()?;
        if !registry.is_registered_here(self.poll_id())? {
            return Err(error::not_found());
        }
        self.start_periods();
        let deadline = self.next_deadline(registry.shared());
        let Some(registration) = &mut self.registration else { return Err(error::not_found()) };
        registry.shared().timers().reregister(registration.slot, token, mode, deadline, &**registry.shared());
        self.past_tokens |= token_bit(std::mem::replace(&mut registration.token, token));
        Ok(())
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.check_process()?;
        registry.check_process()?;
        if self.poll_id() != registry.id() {
            return Err(not_found_error(self.poll_id()));
        }
        self.remove();
        Ok(())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // In a forked child, a thread of the parent may have held the lock of the queue during the fork.
        if fork::is_current(self.generation) {
            self.remove();
        }
    }
}
