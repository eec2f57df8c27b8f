//! Timers: those of kevio, and a timerfd for each timer.

use std::time::{Duration, Instant};

use super::cases::subject::{Kevio, Subject};
use super::fixture::{poll_one, Contestant, Fixture, Random, Sample, Scale};

/// A time that the bench does not reach.
const FAR: Duration = Duration::from_secs(3600);
const SECOND: usize = 1_000_000_000;

/// A timer that is registered with a subject.
trait Timer<S: Subject> {
    fn new(registry: &S::Registry, token: usize) -> Self;
    fn set_at(&mut self, time: Instant);
    /// Re-arms the registration after an event, if the subject needs that.
    fn reported(&mut self, _: &S::Registry, _token: usize) {}
}

impl Timer<Kevio> for kevio::Timer {
    #[inline(always)]
    fn new(registry: &kevio::Registry, token: usize) -> kevio::Timer {
        let mut timer = kevio::Timer::new().unwrap();
        registry.register(&mut timer, kevio::Token(token), kevio::Interest::READABLE).unwrap();
        timer
    }

    #[inline(always)]
    fn set_at(&mut self, time: Instant) {
        kevio::Timer::set_at(self, time).unwrap();
    }
}

#[cfg(target_os = "linux")]
mod timerfd {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use super::super::cases::bare::cvt;
    use super::super::cases::subject::RawSubject;
    use super::*;

    pub struct TimerFd(OwnedFd);

    impl<S: RawSubject> Timer<S> for TimerFd {
        #[inline(always)]
        fn new(registry: &S::Registry, token: usize) -> TimerFd {
            let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
            // SAFETY: no pointers; the kernel has just created this descriptor, and no other code owns it.
            let fd = unsafe { OwnedFd::from_raw_fd(cvt(libc::timerfd_create(libc::CLOCK_MONOTONIC, flags))) };
            S::add(registry, fd.as_raw_fd(), token);
            TimerFd(fd)
        }

        /// Sets the timer to a delay, because an `Instant` has no time of the kernel. A delay of zero would stop the timer.
        #[inline(always)]
        fn set_at(&mut self, time: Instant) {
            let delay = time.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
            let it_value = libc::timespec { tv_sec: delay.as_secs() as _, tv_nsec: delay.subsec_nanos() as _ };
            let once = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            let time = libc::itimerspec { it_interval: once, it_value };
            // SAFETY: the kernel reads one `itimerspec`.
            cvt(unsafe { libc::timerfd_settime(self.0.as_raw_fd(), 0, &time, std::ptr::null_mut()) });
        }

        /// mio has no edges on poll(2), and disarms a `SourceFd` after an event.
        #[inline(always)]
        fn reported(&mut self, registry: &S::Registry, token: usize) {
            if cfg!(kevio_selector = "poll") {
                S::change(registry, self.0.as_raw_fd(), token);
            }
        }
    }
}

pub fn contestants() -> Vec<Contestant> {
    vec![
        Contestant { subject: "kevio", descriptors: |_| 0, measure: all::<Kevio, kevio::Timer> },
        #[cfg(target_os = "linux")]
        Contestant { subject: "mio", descriptors: |n| n, measure: all::<super::cases::subject::Mio, timerfd::TimerFd> },
        #[cfg(all(target_os = "linux", kevio_selector = "epoll"))]
        Contestant { subject: "bare", descriptors: |n| n, measure: all::<super::cases::bare::Epoll, timerfd::TimerFd> },
        #[cfg(all(target_os = "linux", kevio_selector = "poll"))]
        Contestant { subject: "bare", descriptors: |n| n, measure: all::<super::cases::bare::Poll, timerfd::TimerFd> },
    ]
}

fn all<S: Subject, T: Timer<S>>(Scale { size, budget, .. }: Scale) -> Vec<Sample> {
    let start = Instant::now() + FAR;
    let mut random = Random::new();
    let mut random_time = move || start + Duration::from_nanos(random.below(SECOND) as u64);
    let (mut fixture, create) = Fixture::<S, T>::build(size, budget, |_| {
        let mut time = random_time.clone();
        move |registry: &S::Registry, token| {
            let mut timer = T::new(registry, token);
            timer.set_at(time());
            timer
        }
    });
    let mut latest = start + Duration::from_nanos(SECOND as u64);
    let in_order = fixture.time_in_order(budget, |_, _, _, timer| {
        latest += Duration::from_nanos(1);
        timer.set_at(latest);
    });
    let at_random = fixture.time_at_random(budget, |_, _, _, timer| timer.set_at(random_time()));
    let idle = fixture.time_idle_poll(budget);
    let expires = fixture.time_at_random(budget, |subject, registry, token, timer| {
        timer.set_at(Instant::now());
        poll_one(subject, token);
        timer.reported(registry, token);
        timer.set_at(random_time());
    });
    vec![
        ("create and set a timer", create),
        ("set, in order", in_order),
        ("set, in a random order", at_random),
        ("poll, none expires", idle),
        ("set, poll, one expires", expires),
        ("memory of a timer", fixture.bytes),
    ]
}
