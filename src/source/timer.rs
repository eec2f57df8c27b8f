use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event::Event;
use crate::interest::Interest;
use crate::io_source::IoSource;
use crate::poll_id::PollId;
use crate::poll_shared;
use crate::registry::Registry;
use crate::registry::Source;
use crate::source::notification::{KqueueFilter, Mechanism, NotificationSource};
use crate::sys;
use crate::sys::selector::{FilterSpec, Selector};
use crate::sys::timer;
use crate::sys::timer::TimerFd;
use crate::token::Token;

/// A timer as a source: once after a while, once at a time, or every period.
///
/// Register it for [`READABLE`](Interest::READABLE), and ask it with the event how often the time was up. It is never
/// early; how late it is depends on the system and its load. A time of zero is up at once, and one of more than a century
/// (`Duration::MAX`) never comes, which is no error. Times count nanoseconds as far as the system does, and are rounded up.
///
/// A time that is set once stands, whether the timer is registered or not: what has passed by then is reported when it is
/// registered. Periods are counted only while it is registered, and begin anew when it is registered, reregistered or
/// set. Schedule or stopping it forgets what was not reported.
///
/// An event comes once, also for [`Interest::level`]. A period that ends while an earlier one was not asked for is
/// counted, and makes an event or none. After [`Interest::oneshot`] nothing comes until it is reregistered.
///
/// A forked child cannot use an inherited timer, and can make its own ([forks](crate#forks)).
///
/// # Platform notes
///
/// On kqueue it is a filter and no descriptor, on Linux and illumos a timerfd. Elsewhere the poll keeps its time: there a
/// descriptor is needed too, and a timer that another thread sets during a wait makes an event without expirations.
/// DragonFly, NetBSD and OpenBSD count milliseconds, and ticks. NetBSD refuses times of more than 2³¹ ticks.
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
    watched: NotificationSource<Arc<TimerFd>>,
    schedule: Schedule,
    /// A timer that fires once has fired, and the program knows.
    has_expired: AtomicBool,
    /// The beginning of the first period.
    period_start: Instant,
    poll_id: PollId,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Schedule {
    Disarmed,
    Once(Instant),
    Every(Duration),
    /// Longer than any clock counts.
    Never,
}

impl Timer {
    /// A timer that is not set.
    ///
    /// # Errors
    ///
    /// Those of making a descriptor, where it needs one: timerfd_create(2) (`Unsupported` in a sandbox that refuses it),
    /// eventfd(2) or pipe(2). kqueue's needs none;
    /// there registering can fail: `ENOMEM`, when the system has no more timers.
    pub fn new() -> io::Result<Timer> {
        let now = Instant::now();
        let way = if <sys::ActiveSelector as Selector>::HAS_FILTERS {
            let nothing = FilterSpec::Timer { delay: Duration::ZERO, periodic: false };
            let mut source = KqueueFilter::new(timer::allocate_ident(), nothing);
            source.set_spec(None);
            Mechanism::Filter(source)
        } else {
            Mechanism::Descriptor(IoSource::new(Arc::new(TimerFd::new()?)))
        };
        Ok(Timer {
            watched: NotificationSource::new(way),
            schedule: Schedule::Disarmed,
            has_expired: AtomicBool::new(false),
            period_start: now,
            poll_id: PollId::NONE,
        })
    }

    /// A timer that fires once, after `wait` from now.
    ///
    /// # Errors
    ///
    /// As [`new`](Timer::new).
    pub fn after(wait: Duration) -> io::Result<Timer> {
        let mut timer = Timer::new()?;
        timer.set_after(wait).map(|()| timer)
    }

    /// A timer that fires once, at `time`; if that has passed, at once.
    ///
    /// # Errors
    ///
    /// As [`new`](Timer::new).
    pub fn at(time: Instant) -> io::Result<Timer> {
        let mut timer = Timer::new()?;
        timer.set_at(time).map(|()| timer)
    }

    /// A timer that fires every `period`, first one period after it is registered.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the period is zero; else as [`new`](Timer::new).
    pub fn every(period: Duration) -> io::Result<Timer> {
        let mut timer = Timer::new()?;
        timer.set_every(period).map(|()| timer)
    }

    /// Sets it again: once, after `wait` from now.
    ///
    /// # Errors
    ///
    /// Those of kevent(2) or timerfd_settime(2).
    pub fn set_after(&mut self, wait: Duration) -> io::Result<()> {
        let time = Instant::now().checked_add(wait).filter(|_| wait < timer::MAX_TIMEOUT);
        self.set(time.map_or(Schedule::Never, Schedule::Once))
    }

    /// Sets it again: once, at `time`; if that has passed, at once.
    ///
    /// # Errors
    ///
    /// As [`set_after`](Timer::set_after).
    pub fn set_at(&mut self, time: Instant) -> io::Result<()> {
        self.set(Schedule::Once(time))
    }

    /// Sets it again: every `period`, first one period from now.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the period is zero; else as [`set_after`](Timer::set_after).
    pub fn set_every(&mut self, period: Duration) -> io::Result<()> {
        if period.is_zero() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a period of zero"));
        }
        self.set(if period < timer::MAX_TIMEOUT { Schedule::Every(period) } else { Schedule::Never })
    }

    /// Stops it. It stays registered.
    ///
    /// # Errors
    ///
    /// As [`set_after`](Timer::set_after).
    pub fn cancel(&mut self) -> io::Result<()> {
        self.set(Schedule::Disarmed)
    }

    /// How long it is until the time is up next; `None` if it is not set, or has fired once and was asked for that.
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
                let into = self.period_start.elapsed().as_nanos() % period.as_nanos();
                Some(period - Duration::new((into / 1_000_000_000) as u64, (into % 1_000_000_000) as u32))
            }
            Schedule::Never => Some(Duration::MAX),
        }
    }

    /// How often the time was up, of which `event` tells. Ask once for each event.
    ///
    /// It may be 0: an event that came before the timer was set again, or asked twice (a kqueue's event says the same again).
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the event is another source's, as far as that can be told.
    pub fn expirations(&self, event: &Event) -> io::Result<u64> {
        self.watched.check(event)?;
        let count = match &self.watched.way {
            Mechanism::Filter(source) => {
                source.mark_fired();
                source.filter_payload(event).map_or(0, |(_, data)| data.max(0) as u64)
            }
            Mechanism::Descriptor(clock) => match clock.read_io(|clock| clock.take()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => 0,
                result => result?,
            },
        };
        if count > 0 && matches!(self.schedule, Schedule::Once(time) if time <= Instant::now()) {
            self.has_expired.store(true, Ordering::Relaxed);
        }
        Ok(count)
    }

    fn set(&mut self, schedule: Schedule) -> io::Result<()> {
        self.watched.check_process()?;
        let before = (self.schedule, self.period_start);
        let had_expired = self.has_expired.load(Ordering::Relaxed);
        let result = self.change(schedule, Instant::now());
        if result.is_err() {
            // The descriptor keeps its old setting, a filter may be deleted.
            (self.schedule, self.period_start) = before;
            self.has_expired = AtomicBool::new(had_expired);
            self.update_filter();
            if let Mechanism::Filter(source) = &self.watched.way {
                let _ = source.update_kernel();
            }
        }
        result
    }

    fn change(&mut self, schedule: Schedule, period_start: Instant) -> io::Result<()> {
        (self.schedule, self.period_start) = (schedule, period_start);
        self.has_expired = AtomicBool::new(false);
        self.update_filter();
        match &self.watched.way {
            Mechanism::Filter(source) => source.update_kernel(),
            Mechanism::Descriptor(_) => self.start(),
        }
    }

    /// How long from now, and whether again and again.
    fn next_delay(&self) -> Option<(Duration, bool)> {
        match self.schedule {
            Schedule::Disarmed | Schedule::Never => None,
            Schedule::Once(_) if self.has_expired.load(Ordering::Relaxed) => None,
            Schedule::Once(time) => {
                let wait = time.saturating_duration_since(Instant::now());
                Some((wait, false)).filter(|_| wait < timer::MAX_TIMEOUT)
            }
            Schedule::Every(period) => Some((period, true)),
        }
    }

    /// Sets the specification of the filter, for the next change of the kernel's filter.
    fn update_filter(&mut self) {
        let next = self.next_delay();
        if let Mechanism::Filter(source) = &mut self.watched.way {
            source.set_spec(next.map(|(delay, periodic)| FilterSpec::Timer { delay, periodic }));
        }
    }

    /// Sets the descriptor.
    fn start(&self) -> io::Result<()> {
        let Mechanism::Descriptor(clock) = &self.watched.way else {
            return Ok(());
        };
        start(clock, self.next_delay())?;
        poll_shared::with_poll(self.poll_id, |shared| shared.timer_queue().changed(clock));
        Ok(())
    }
}

/// Sets a descriptor: how long from now, and whether again and again.
fn start(clock: &IoSource<Arc<TimerFd>>, next: Option<(Duration, bool)>) -> io::Result<()> {
    let (wait, period) = next.map_or((None, None), |(wait, again)| (Some(wait), again.then_some(wait)));
    // What was told is told again, as after any other operation.
    clock.read_io(|clock| clock.set(wait, period))
}

impl Source for Timer {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.update_filter();
        self.watched.register(registry, token, interests)?;
        let (period_start, before) = (Instant::now(), self.period_start);
        // It is registered: a period begins.
        let period = matches!(self.schedule, Schedule::Every(_)).then(|| self.next_delay());
        let Mechanism::Descriptor(clock) = &self.watched.way else {
            (self.poll_id, self.period_start) = (registry.id(), if period.is_some() { period_start } else { before });
            return Ok(());
        };
        if let Some(next) = period {
            if let Err(error) = start(clock, next) {
                let _ = self.watched.deregister(registry);
                return Err(error);
            }
            self.period_start = period_start;
        }
        self.poll_id = registry.id();
        registry.shared().timer_queue().enter(clock);
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.update_filter();
        let period = matches!(self.schedule, Schedule::Every(_)).then(|| self.next_delay());
        let result = self.watched.reregister_and(registry, token, interests, |way| match (way, period) {
            (Mechanism::Descriptor(clock), Some(next)) => start(clock, next),
            _ => Ok(()),
        });
        if result.is_ok() && period.is_some() {
            self.period_start = Instant::now();
            if let Mechanism::Descriptor(clock) = &self.watched.way {
                registry.shared().timer_queue().changed(clock);
            }
        }
        self.release(registry);
        result
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let result = self.watched.deregister(registry);
        self.release(registry);
        result
    }
}

impl Timer {
    /// Leaves the deadlines of the poll if the registration has ended, be it by an error.
    fn release(&mut self, registry: &Registry) {
        if self.poll_id.is_none() || self.watched.is_registered() {
            return;
        }
        self.poll_id = PollId::NONE;
        if let Mechanism::Descriptor(clock) = &self.watched.way {
            registry.shared().timer_queue().leave(clock);
        }
    }
}
