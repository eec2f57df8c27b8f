use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, iter};

use crate::event::Event;
use crate::interest::Interest;
use crate::io_source::IoSource;
use crate::poll_id::PollId;
use crate::poll_shared;
use crate::registry::{Registry, Source};
use crate::source::notification::{Mechanism, NotificationSource};
use crate::sys::selector::FilterSpec;
use crate::sys::timer;
use crate::sys::timer::TimerFd;
use crate::token::Token;

/// A timer as a source: fires once after a duration, once at a time, or periodically.
///
/// Register the timer for [`READABLE`](Interest::READABLE), and call [`expirations`](Timer::expirations) for each event. A
/// timer is never early. How late the timer is depends on the system and its load. A duration of zero expires at once. A
/// duration of more than a century (`Duration::MAX`) never expires, and is no error. Durations have the resolution of the
/// system, at best nanoseconds, and are rounded up.
///
/// A timer that fires once measures its time with or without a registration. If the time passes before the registration, the
/// expiration is reported after the registration. Periods are counted only while the timer is registered. They start again when
/// the timer is registered, reregistered or set. Setting or cancelling a timer discards expirations that were not reported.
///
/// Each expiration is reported once, also for [`Interest::level`]. If a period ends before `expirations` was called for the
/// previous period, the new expiration is added to the count. The backend decides whether it also produces an event. After an
/// event of [`Interest::oneshot`] no other event is reported until the timer is reregistered.
///
/// Any thread may register the timer, set it and call its methods. A forked child cannot use an inherited timer, but can
/// create its own ([forks](crate#forks)).
///
/// # Platform notes
///
/// * kqueue: the timer is a filter without a descriptor.
/// * Linux and illumos: the timer is a timerfd.
/// * Other systems: the poll keeps the time, and the timer needs a descriptor too. A timer that another thread sets during a
///   wait produces an event without expirations.
/// * DragonFly, NetBSD and OpenBSD count milliseconds, and ticks. NetBSD rejects durations of more than 2³¹ ticks.
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
#[derive(Debug)]
pub struct Timer {
    source: NotificationSource<Arc<TimerFd>>,
    schedule: Schedule,
    /// `true` if the timer fires once, and `expirations` has returned its expiration.
    has_expired: AtomicBool,
    /// The start of the first period.
    period_start: Instant,
    poll_id: PollId,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Schedule {
    Disarmed,
    Once(Instant),
    Every(Duration),
    /// The duration is longer than any kernel counts.
    Never,
}

impl Timer {
    /// Creates a timer that is not set.
    ///
    /// # Errors
    ///
    /// Errors of timerfd_create(2), eventfd(2) or pipe(2), if the timer needs a descriptor. A sandbox that refuses
    /// timerfd_create(2) makes the error `Unsupported`. On kqueue the timer needs no descriptor. There the registration fails
    /// with `ENOMEM` if the system has no more timers.
    pub fn new() -> io::Result<Timer> {
        let now = Instant::now();
        let filter = FilterSpec::Timer { delay: Duration::ZERO, periodic: false };
        let ident = iter::once_with(timer::allocate_ident);
        let mut source = NotificationSource::new(filter, ident, || TimerFd::new().map(Arc::new))?;
        if let Mechanism::Filters(filters) = &mut source.mechanism {
            filters.set_spec(None);
        }
        Ok(Timer {
            source,
            schedule: Schedule::Disarmed,
            has_expired: AtomicBool::new(false),
            period_start: now,
            poll_id: PollId::NONE,
        })
    }

    /// Creates a timer that fires once, `delay` from now.
    ///
    /// # Errors
    ///
    /// The errors of [`new`](Timer::new).
    pub fn after(delay: Duration) -> io::Result<Timer> {
        let mut timer = Timer::new()?;
        timer.set_after(delay).map(|()| timer)
    }

    /// Creates a timer that fires once, at `time`. If the time has passed, the timer fires at once.
    ///
    /// # Errors
    ///
    /// The errors of [`new`](Timer::new).
    pub fn at(time: Instant) -> io::Result<Timer> {
        let mut timer = Timer::new()?;
        timer.set_at(time).map(|()| timer)
    }

    /// Creates a timer that fires every `period`, first one period after the registration.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the period is zero.
    /// * The errors of [`new`](Timer::new).
    pub fn every(period: Duration) -> io::Result<Timer> {
        let mut timer = Timer::new()?;
        timer.set_every(period).map(|()| timer)
    }

    /// Sets the timer to fire once, `delay` from now.
    ///
    /// # Errors
    ///
    /// Errors of kevent(2) or timerfd_settime(2).
    pub fn set_after(&mut self, delay: Duration) -> io::Result<()> {
        let time = Instant::now().checked_add(delay).filter(|_| delay < timer::MAX_TIMEOUT);
        self.set(time.map_or(Schedule::Never, Schedule::Once))
    }

    /// Sets the timer to fire once, at `time`. If the time has passed, the timer fires at once.
    ///
    /// # Errors
    ///
    /// The errors of [`set_after`](Timer::set_after).
    pub fn set_at(&mut self, time: Instant) -> io::Result<()> {
        self.set(Schedule::Once(time))
    }

    /// Sets the timer to fire every `period`, first one period from now.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the period is zero.
    /// * The errors of [`set_after`](Timer::set_after).
    pub fn set_every(&mut self, period: Duration) -> io::Result<()> {
        if period.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a period of zero"));
        }
        self.set(if period < timer::MAX_TIMEOUT { Schedule::Every(period) } else { Schedule::Never })
    }

    /// Stops the timer. The timer stays registered.
    ///
    /// # Errors
    ///
    /// The errors of [`set_after`](Timer::set_after).
    pub fn cancel(&mut self) -> io::Result<()> {
        self.set(Schedule::Disarmed)
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
            Schedule::Every(period) if self.poll_id.is_none() => Some(period),
            Schedule::Every(period) => {
                let elapsed = self.period_start.elapsed().as_nanos() % period.as_nanos();
                Some(period - Duration::new((elapsed / 1_000_000_000) as u64, (elapsed % 1_000_000_000) as u32))
            }
            Schedule::Never => Some(Duration::MAX),
        }
    }

    /// Returns the number of expirations. `event` is an event of this timer.
    ///
    /// Call this function once for each event. The result is 0 if the timer was set again after the event, or if the
    /// expirations were returned already. On kqueue, a second call for the same event returns the same number again.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the event belongs to another source. Not every such event can be detected.
    pub fn expirations(&self, event: &Event) -> io::Result<u64> {
        self.source.check_event(event)?;
        let count = match &self.source.mechanism {
            Mechanism::Filters(filters) => {
                filters.mark_fired();
                filters.payload(event).map_or(0, |filter| filter.data.max(0) as u64)
            }
            Mechanism::Descriptor(timer_fd) => match timer_fd.read_io(|timer_fd| timer_fd.take_expirations()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                result => result?,
            },
        };
        if count > 0 && matches!(self.schedule, Schedule::Once(time) if time <= Instant::now()) {
            self.has_expired.store(true, Ordering::Relaxed);
        }
        Ok(count)
    }

    /// Sets the timer. After an error the timer is set as before.
    fn set(&mut self, schedule: Schedule) -> io::Result<()> {
        self.source.check_process()?;
        let (schedule_before, start_before) = (self.schedule, self.period_start);
        let had_expired = self.has_expired.load(Ordering::Relaxed);
        let result = self.change(schedule, Instant::now());
        if result.is_err() {
            // The descriptor keeps its old setting. The failed change may have deleted the filter, which is added again.
            (self.schedule, self.period_start) = (schedule_before, start_before);
            self.has_expired = AtomicBool::new(had_expired);
            self.update_filter();
            if let Mechanism::Filters(filters) = &self.source.mechanism {
                let _ = filters.update_kernel();
            }
        }
        result
    }

    /// Sets the timer, and then its filter or descriptor.
    fn change(&mut self, schedule: Schedule, period_start: Instant) -> io::Result<()> {
        (self.schedule, self.period_start) = (schedule, period_start);
        self.has_expired = AtomicBool::new(false);
        self.update_filter();
        match &self.source.mechanism {
            Mechanism::Filters(filters) => filters.update_kernel(),
            Mechanism::Descriptor(_) => self.program_fd(),
        }
    }

    /// Returns the duration until the next expiration, and `true` for a periodic timer. `None` if the timer will not expire.
    fn next_delay(&self) -> Option<(Duration, bool)> {
        match self.schedule {
            Schedule::Disarmed | Schedule::Never => None,
            Schedule::Once(_) if self.has_expired.load(Ordering::Relaxed) => None,
            Schedule::Once(time) => {
                let delay = time.saturating_duration_since(Instant::now());
                Some((delay, false)).filter(|_| delay < timer::MAX_TIMEOUT)
            }
            Schedule::Every(period) => Some((period, true)),
        }
    }

    /// Sets the condition of the filter, for the next change of the kernel's filter.
    fn update_filter(&mut self) {
        let next = self.next_delay();
        if let Mechanism::Filters(filters) = &mut self.source.mechanism {
            filters.set_spec(next.map(|(delay, periodic)| FilterSpec::Timer { delay, periodic }));
        }
    }

    /// Sets the descriptor, and ends a blocked wait that does not consider the new time.
    fn program_fd(&self) -> io::Result<()> {
        let Mechanism::Descriptor(timer_fd) = &self.source.mechanism else {
            return Ok(());
        };
        program_fd(timer_fd, self.next_delay())?;
        poll_shared::with_poll(self.poll_id, |shared| shared.timer_queue().reschedule(timer_fd));
        Ok(())
    }
}

/// Sets a descriptor to a duration from now, once or periodically.
fn program_fd(timer_fd: &IoSource<Arc<TimerFd>>, next: Option<(Duration, bool)>) -> io::Result<()> {
    let (delay, period) = next.map_or((None, None), |(delay, periodic)| (Some(delay), periodic.then_some(delay)));
    // `read_io`, because the operation re-arms the registration.
    timer_fd.read_io(|timer_fd| timer_fd.set(delay, period))
}

impl Source for Timer {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.update_filter();
        self.source.register(registry, token, interests)?;
        let registered_at = Instant::now();
        let is_periodic = matches!(self.schedule, Schedule::Every(_));
        if let Mechanism::Descriptor(timer_fd) = &self.source.mechanism {
            if is_periodic {
                // The first period starts after the registration.
                if let Err(error) = program_fd(timer_fd, self.next_delay()) {
                    let _ = self.source.deregister(registry);
                    return Err(error);
                }
            }
            registry.shared().timer_queue().insert(timer_fd);
        }
        if is_periodic {
            self.period_start = registered_at;
        }
        self.poll_id = registry.id();
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.update_filter();
        let is_periodic = matches!(self.schedule, Schedule::Every(_));
        let next = self.next_delay();
        let result = self.source.reregister_and(registry, token, interests, |mechanism| match mechanism {
            Mechanism::Descriptor(timer_fd) if is_periodic => program_fd(timer_fd, next),
            _ => Ok(()),
        });
        if result.is_ok() && is_periodic {
            self.period_start = Instant::now();
            if let Mechanism::Descriptor(timer_fd) = &self.source.mechanism {
                registry.shared().timer_queue().reschedule(timer_fd);
            }
        }
        self.leave_queue(registry);
        result
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let result = self.source.deregister(registry);
        self.leave_queue(registry);
        result
    }
}

impl Timer {
    /// Removes the timer from the queue of its poll if the registration has ended. A failed change can end the registration.
    fn leave_queue(&mut self, registry: &Registry) {
        if self.poll_id.is_none() || self.source.is_registered() {
            return;
        }
        self.poll_id = PollId::NONE;
        if let Mechanism::Descriptor(timer_fd) = &self.source.mechanism {
            registry.shared().timer_queue().remove(timer_fd);
        }
    }
}
