//! Timers.

use std::io::{ErrorKind, Write};
use std::thread;
use std::time::{Duration, Instant};

use kevio::{Batch, Events, Interest, Poll, Timer, Token, Waker};

use crate::support::blocked_thread::BlockedThread;
use crate::support::poll::{expect_event, TestPoll, BOTH, READ, TIMEOUT, WRITE};
use crate::support::readiness::R;
use crate::support::streams::kevio_pair;

/// The kernel measures timers in ticks of its clock, of 10 ms or so.
const HAS_TICKS: bool = cfg!(any(target_os = "netbsd", target_os = "openbsd", target_os = "dragonfly"));

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Polls until `token` has an event. Returns the number of expirations; fails for other tokens.
#[track_caller]
fn wait_for_event(poll: &mut TestPoll, token: usize, timer: &mut Timer) -> u64 {
    poll.expect(token, R);
    poll.events.iter().map(|event| timer.expirations(event).unwrap()).sum()
}

/// Repeats `wait_for_event` until `least` expirations were reported.
#[track_caller]
fn wait_for_expirations(poll: &mut TestPoll, least: u64, token: usize, timer: &mut Timer) -> u64 {
    let mut count = 0;
    while count < least {
        count += wait_for_event(poll, token, timer);
    }
    count
}

/// Fails if an event is reported within `wait`.
#[track_caller]
fn expect_no_events_for(poll: &mut TestPoll, wait: Duration) {
    let reported = poll.poll_once(Some(wait));
    assert!(reported.is_empty(), "{reported:?}");
}

#[test]
fn timer_fires_once_and_not_early() {
    let mut poll = TestPoll::new();
    let start = Instant::now();
    let mut timer = Timer::after(ms(20)).unwrap();
    poll.register(&mut timer, 1, READ);
    assert_eq!(wait_for_event(&mut poll, 1, &mut timer), 1);
    assert!(start.elapsed() >= ms(20), "{:?}", start.elapsed());
    assert_eq!(timer.remaining(), None);
    expect_no_events_for(&mut poll, ms(50));
}

#[test]
fn fractions_of_a_millisecond_are_never_early() {
    let mut poll = TestPoll::new();
    for micros in [1, 500, 1_500, 20_250, 1_000_500].map(Duration::from_micros) {
        let start = Instant::now();
        let mut timer = Timer::after(micros).unwrap();
        poll.register(&mut timer, 1, READ);
        assert_eq!(wait_for_event(&mut poll, 1, &mut timer), 1);
        assert!(start.elapsed() >= micros, "{:?} of {micros:?}", start.elapsed());
        poll.deregister(&mut timer);
        let start = Instant::now();
        timer.set_at(start + micros).unwrap();
        poll.register(&mut timer, 2, READ);
        assert_eq!(wait_for_event(&mut poll, 2, &mut timer), 1);
        assert!(start.elapsed() >= micros, "{:?} until {micros:?}", start.elapsed());
    }
}

#[test]
fn periodic_timer_counts_missed_periods() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::every(ms(10)).unwrap();
    let start = Instant::now();
    poll.register(&mut timer, 1, READ);
    // Five periods pass without a poll.
    thread::sleep(ms(55));
    let reported = poll.poll_once(Some(TIMEOUT));
    assert_eq!(reported.len(), 1);
    assert_eq!(poll.events.len(), 1, "{:?}", poll.events);
    let count = timer.expirations(poll.events.iter().next().unwrap()).unwrap();
    let most = start.elapsed().as_millis() as u64 / 10;
    // On systems with ticks of 10 ms, each period is a tick longer.
    let least = if HAS_TICKS { 2 } else { 4 };
    assert!((least..=most).contains(&count), "{count} of {most}");
    // The timer continues.
    let count = count + wait_for_expirations(&mut poll, 3, 1, &mut timer);
    assert!(u128::from(count) <= start.elapsed().as_millis() / 10, "{count}");
}

#[test]
fn setting_a_timer_again_replaces_its_deadline() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::after(ms(10)).unwrap();
    poll.register(&mut timer, 1, READ);
    let start = Instant::now();
    timer.set_after(ms(200)).unwrap();
    assert_eq!(wait_for_event(&mut poll, 1, &mut timer), 1);
    assert!(start.elapsed() >= ms(200), "{:?}", start.elapsed());
    // From late to early, from one expiration to a period, and back.
    timer.set_after(Duration::from_secs(3600)).unwrap();
    let start = Instant::now();
    timer.set_every(ms(5)).unwrap();
    wait_for_expirations(&mut poll, 3, 1, &mut timer);
    assert!(start.elapsed() >= ms(15), "{:?}", start.elapsed());
    timer.set_after(ms(1)).unwrap();
    assert_eq!(wait_for_event(&mut poll, 1, &mut timer), 1);
    expect_no_events_for(&mut poll, ms(20));
}

#[test]
fn setting_a_timer_discards_unreported_expirations() {
    let mut poll = TestPoll::new();
    for every in [false, true] {
        let mut timer = if every { Timer::every(ms(1)) } else { Timer::after(ms(1)) }.unwrap();
        poll.register(&mut timer, 1, READ);
        // The deadline passes without a poll.
        thread::sleep(ms(10));
        timer.set_after(ms(100)).unwrap();
        poll.expect_no_events();
        assert_eq!(wait_for_event(&mut poll, 1, &mut timer), 1);
    }
}

#[test]
fn setting_a_timer_after_an_unread_event_fires_again() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::after(ms(1)).unwrap();
    poll.register(&mut timer, 1, READ);
    for _ in 0..5 {
        poll.expect(1, R);
        let start = Instant::now();
        timer.set_after(ms(5)).unwrap();
        poll.expect(1, R);
        assert!(start.elapsed() >= ms(5), "{:?}", start.elapsed());
        timer.set_after(ms(1)).unwrap();
    }
}

#[test]
fn cancelled_timer_reports_nothing() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::every(ms(5)).unwrap();
    poll.register(&mut timer, 1, READ);
    wait_for_event(&mut poll, 1, &mut timer);
    timer.cancel().unwrap();
    assert_eq!(timer.remaining(), None);
    expect_no_events_for(&mut poll, ms(30));
    // An unreported expiration is discarded too.
    timer.set_after(ms(1)).unwrap();
    thread::sleep(ms(10));
    timer.cancel().unwrap();
    expect_no_events_for(&mut poll, ms(10));
    timer.cancel().unwrap();
    timer.set_after(ms(1)).unwrap();
    assert_eq!(wait_for_event(&mut poll, 1, &mut timer), 1);
}

#[test]
fn past_deadline_and_zero_fire_at_once() {
    let mut poll = TestPoll::new();
    let make: [fn() -> Timer; 4] = [
        || Timer::after(Duration::ZERO).unwrap(),
        || Timer::at(Instant::now()).unwrap(),
        || Timer::at(Instant::now().checked_sub(ms(500)).unwrap_or_else(Instant::now)).unwrap(),
        || Timer::after(Duration::from_nanos(1)).unwrap(),
    ];
    for make in make {
        let mut timer = make();
        let start = Instant::now();
        poll.register(&mut timer, 1, READ);
        assert_eq!(wait_for_event(&mut poll, 1, &mut timer), 1);
        assert!(start.elapsed() < Duration::from_secs(5));
        poll.expect_no_events();
        // The same with a timer that is registered already.
        timer.set_after(Duration::ZERO).unwrap();
        assert_eq!(wait_for_event(&mut poll, 1, &mut timer), 1);
        poll.expect_no_events();
    }
}

#[test]
fn period_of_zero_is_rejected() {
    assert_eq!(Timer::every(Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut timer = Timer::after(ms(1)).unwrap();
    assert_eq!(timer.set_every(Duration::ZERO).unwrap_err().kind(), ErrorKind::InvalidInput);
    // The timer is unchanged.
    let mut poll = TestPoll::new();
    poll.register(&mut timer, 1, READ);
    assert_eq!(wait_for_event(&mut poll, 1, &mut timer), 1);
}

#[test]
fn longest_durations_never_fire() {
    let mut poll = TestPoll::new();
    let mut timers = [Timer::new(), Timer::after(Duration::MAX), Timer::every(Duration::MAX)].map(Result::unwrap);
    for (token, timer) in timers.iter_mut().enumerate() {
        poll.register(timer, token, READ);
    }
    for seconds in [86_400, 20_000_000, 3_000_000_000, u64::MAX].map(Duration::from_secs) {
        timers[0].set_after(seconds).unwrap();
        assert!(timers[0].remaining().unwrap() > seconds - Duration::from_secs(60));
        timers[1].set_every(seconds).unwrap();
        expect_no_events_for(&mut poll, ms(5));
    }
    assert_eq!(timers[0].remaining(), Some(Duration::MAX));
    assert_eq!(timers[2].remaining(), Some(Duration::MAX));
}

#[test]
fn remaining_returns_the_time_until_the_deadline() {
    let poll = Poll::new().unwrap();
    let mut timer = Timer::new().unwrap();
    assert_eq!(timer.remaining(), None);
    timer.set_after(Duration::from_secs(60)).unwrap();
    let left = timer.remaining().unwrap();
    assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(30), "{left:?}");
    timer.set_every(Duration::from_secs(60)).unwrap();
    assert_eq!(timer.remaining(), Some(Duration::from_secs(60)));
    poll.registry().register(&mut timer, Token(1), READ).unwrap();
    let left = timer.remaining().unwrap();
    assert!(left <= Duration::from_secs(60) && left > Duration::from_secs(30), "{left:?}");
    timer.set_at(Instant::now()).unwrap();
    assert_eq!(timer.remaining(), Some(Duration::ZERO));
}

#[test]
fn event_of_another_source_is_rejected() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::after(Duration::ZERO).unwrap();
    let mut other = Timer::after(Duration::from_secs(3600)).unwrap();
    poll.register(&mut timer, 1, READ);
    poll.register(&mut other, 2, READ);
    let (mut a, mut b) = kevio_pair();
    poll.expect(1, R);
    let event = poll.events.iter().next().unwrap().clone();
    assert_eq!(other.expirations(&event).unwrap_err().kind(), ErrorKind::InvalidInput);
    let stranger = Timer::new().unwrap();
    assert_eq!(stranger.expirations(&event).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(timer.expirations(&event).unwrap(), 1);
    poll.register(&mut a, 3, READ);
    b.write_all(b"x").unwrap();
    poll.expect(3, R);
    let event = poll.events.iter().next().unwrap().clone();
    assert_eq!(timer.expirations(&event).unwrap_err().kind(), ErrorKind::InvalidInput);
    // An unregistered timer has no events.
    poll.deregister(&mut timer);
    assert_eq!(timer.expirations(&event).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn unread_expiration_is_reported_once() {
    for interest in [READ, READ.level(), BOTH, BOTH.level()] {
        let mut poll = TestPoll::new();
        let mut timer = Timer::after(ms(1)).unwrap();
        poll.register(&mut timer, 1, interest);
        poll.expect(1, R);
        expect_no_events_for(&mut poll, ms(10));
        // The expiration is not lost.
        poll.reregister(&mut timer, 2, interest);
        assert_eq!(wait_for_event(&mut poll, 2, &mut timer), 1);
        poll.reregister(&mut timer, 3, interest);
        expect_no_events_for(&mut poll, ms(10));
    }
}

#[test]
fn one_shot_timer_reports_again_after_reregistering() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::every(ms(2)).unwrap();
    poll.register(&mut timer, 1, READ.oneshot());
    for token in 2..6 {
        assert!(wait_for_event(&mut poll, token - 1, &mut timer) >= 1);
        expect_no_events_for(&mut poll, ms(10));
        let start = Instant::now();
        poll.reregister(&mut timer, token, READ.oneshot());
        poll.expect(token, R);
        // Reregistering starts the period again.
        assert!(start.elapsed() >= ms(2), "{:?}", start.elapsed());
        poll.reregister(&mut timer, token, READ.oneshot());
    }
    // Setting a timer does not re-arm it.
    wait_for_event(&mut poll, 5, &mut timer);
    timer.set_after(Duration::ZERO).unwrap();
    expect_no_events_for(&mut poll, ms(5));
    poll.reregister(&mut timer, 9, READ.oneshot());
    assert_eq!(wait_for_event(&mut poll, 9, &mut timer), 1);
}

#[test]
fn disabled_timer_reports_nothing_and_keeps_its_deadline() {
    for _ in 0..2 {
        let mut poll = TestPoll::new();
        let mut timer = Timer::after(ms(1)).unwrap();
        poll.register(&mut timer, 1, Interest::NONE);
        expect_no_events_for(&mut poll, ms(10));
        poll.reregister(&mut timer, 2, READ);
        assert_eq!(wait_for_event(&mut poll, 2, &mut timer), 1);
        timer.set_every(ms(1)).unwrap();
        poll.reregister(&mut timer, 3, Interest::NONE);
        expect_no_events_for(&mut poll, ms(10));
        timer.set_after(ms(1)).unwrap();
        expect_no_events_for(&mut poll, ms(10));
        poll.deregister(&mut timer);
        poll.expect_no_events();
    }
}

#[test]
fn unsupported_interests_of_a_timer_are_rejected() {
    let poll = TestPoll::new();
    let mut timer = Timer::after(ms(1)).unwrap();
    for foreign in
        [WRITE, Interest::AIO, Interest::LIO, Interest::PRIORITY, READ.exclusive(), READ | Interest::PRIORITY]
    {
        let error = poll.registry().register(&mut timer, Token(1), foreign).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{foreign:?}");
    }
    assert_eq!(poll.registry().deregister(&mut timer).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn timer_registers_in_one_poll_at_a_time() {
    let (mut poll, mut other) = (TestPoll::new(), TestPoll::new());
    let mut timer = Timer::every(ms(2)).unwrap();
    let registry = poll.registry();
    assert_eq!(registry.reregister(&mut timer, Token(1), READ).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(registry.deregister(&mut timer).unwrap_err().kind(), ErrorKind::NotFound);
    for _ in 0..3 {
        poll.register(&mut timer, 1, READ);
        for registry in [poll.registry(), other.registry()] {
            let error = registry.register(&mut timer, Token(2), READ).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        }
        assert_eq!(other.registry().deregister(&mut timer).unwrap_err().kind(), ErrorKind::NotFound);
        assert!(wait_for_event(&mut poll, 1, &mut timer) >= 1);
        poll.deregister(&mut timer);
        expect_no_events_for(&mut poll, ms(10));
        other.register(&mut timer, 3, READ);
        assert!(wait_for_event(&mut other, 3, &mut timer) >= 1);
        other.deregister(&mut timer);
        other.expect_no_events();
    }
    // A dropped poll holds no registration.
    poll.register(&mut timer, 1, READ);
    drop(poll);
    timer.set_after(ms(1)).unwrap();
    other.register(&mut timer, 4, READ);
    assert_eq!(wait_for_event(&mut other, 4, &mut timer), 1);
}

/// The deadline stays; a timer that is registered after its deadline is reported at once.
#[test]
fn deadline_that_passes_unregistered_is_reported_when_registered() {
    let mut poll = TestPoll::new();
    let start = Instant::now();
    let mut timer = Timer::after(ms(10)).unwrap();
    thread::sleep(ms(5));
    poll.register(&mut timer, 1, READ);
    poll.deregister(&mut timer);
    thread::sleep(ms(10));
    poll.register(&mut timer, 2, READ);
    poll.reregister(&mut timer, 3, READ);
    assert_eq!(wait_for_event(&mut poll, 3, &mut timer), 1);
    assert!(start.elapsed() >= ms(15));
    // The expiration was read, and is not reported again.
    poll.reregister(&mut timer, 4, READ);
    expect_no_events_for(&mut poll, ms(10));
}

#[test]
fn dropped_timer_reports_nothing() {
    let mut poll = TestPoll::new();
    for _ in 0..20 {
        let mut timer = Timer::every(ms(1)).unwrap();
        poll.register(&mut timer, 1, READ);
        poll.expect(1, R);
        drop(timer);
        poll.expect_no_events();
        expect_no_events_for(&mut poll, ms(2));
    }
}

#[test]
fn many_timers_fire_at_their_deadlines() {
    let mut poll = TestPoll::new();
    let start = Instant::now();
    // The last timer has the earliest deadline.
    let mut timers: Vec<_> = (0..200).rev().map(|n| Timer::at(start + ms(20 + n / 4)).unwrap()).collect();
    for (token, timer) in timers.iter_mut().enumerate() {
        poll.register(timer, token, READ);
    }
    let mut order = Vec::new();
    while order.len() < timers.len() {
        poll.inner.poll(&mut poll.events, Some(TIMEOUT)).unwrap();
        assert!(!poll.events.is_empty(), "reported only {}", order.len());
        for event in &poll.events {
            let token = event.token().0;
            assert_eq!(timers[token].expirations(event).unwrap(), 1);
            let due = ms(20 + (199 - token as u64) / 4);
            assert!(start.elapsed() >= due, "{token}");
            order.push(token);
        }
    }
    order.sort_unstable();
    assert!(order.iter().copied().eq(0..200), "{order:?}");
    poll.expect_no_events();
}

#[test]
fn batch_changes_timers_and_returns_each_result() {
    let mut poll = TestPoll::new();
    let mut timers: Vec<_> = (0..20).map(|_| Timer::after(ms(1)).unwrap()).collect();
    let (mut stream, mut peer) = kevio_pair();
    poll.register(&mut timers[7], 7, READ);
    let mut batch = Batch::new();
    for (token, timer) in timers.iter_mut().enumerate() {
        batch.register(timer, Token(token), if token == 9 { Interest::AIO } else { READ });
    }
    batch.register(&mut stream, Token(99), READ);
    let results = poll.registry().submit(batch);
    for (token, result) in results.iter().enumerate() {
        let expected = match token {
            7 => Some(ErrorKind::AlreadyExists),
            9 => Some(ErrorKind::Unsupported),
            _ => None,
        };
        assert_eq!(result.as_ref().err().map(std::io::Error::kind), expected, "{token}");
    }
    peer.write_all(b"x").unwrap();
    let expected: Vec<_> = (0..20).filter(|token| *token != 9).chain([99]).map(|token| (token, R)).collect();
    poll.expect_all(&expected);

    let mut batch = Batch::new();
    for (token, timer) in timers.iter_mut().enumerate() {
        timer.set_after(ms(30)).unwrap();
        if token % 2 == 0 {
            batch.deregister(timer);
        } else {
            batch.reregister(timer, Token(100 + token), READ);
        }
    }
    let results = poll.registry().submit(batch);
    for (token, result) in results.iter().enumerate() {
        assert_eq!(result.is_err(), token == 9, "{token}: {result:?}");
    }
    let expected: Vec<_> =
        (0..20).filter(|token| token % 2 == 1 && *token != 9).map(|token| (100 + token, R)).collect();
    poll.expect_all(&expected);
}

/// A blocked wait ends at the new deadline, although the timer had a later deadline or none when the wait began.
#[test]
fn timer_set_during_a_blocked_wait_fires() {
    for first in [Duration::MAX, Duration::from_secs(3600)] {
        let mut poll = TestPoll::new();
        let mut timer = Timer::after(first).unwrap();
        poll.register(&mut timer, 1, READ);
        let blocked_thread = BlockedThread::current();
        thread::scope(|scope| {
            let timer = scope.spawn(move || {
                blocked_thread.wait_until_blocked();
                let start = Instant::now();
                timer.set_after(ms(20)).unwrap();
                (timer, start)
            });
            let mut count = 0;
            let start = Instant::now();
            poll.expect(1, R);
            let (timer, set) = timer.join().unwrap();
            loop {
                count += poll.events.iter().map(|event| timer.expirations(event).unwrap()).sum::<u64>();
                if count > 0 {
                    break;
                }
                poll.expect(1, R);
            }
            assert_eq!(count, 1);
            assert!(set.elapsed() >= ms(20) && start.elapsed() < TIMEOUT);
        });
    }
}

#[test]
fn timer_ends_an_endless_wait() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::after(ms(20)).unwrap();
    poll.register(&mut timer, 1, READ);
    assert!(poll.poll_once(None).contains_key(&1));
    // The same with a timeout that is longer than the deadline.
    timer.set_after(ms(5)).unwrap();
    assert!(poll.poll_once(Some(Duration::MAX)).contains_key(&1));
    // A wait that is shorter than the deadline lasts its timeout.
    timer.set_after(TIMEOUT).unwrap();
    let start = Instant::now();
    expect_no_events_for(&mut poll, ms(20));
    assert!(start.elapsed() >= ms(20));
}

/// Returns the event of a timer that has just fired.
fn fired_event(poll: &mut TestPoll, token: usize) -> kevio::event::Event {
    poll.expect(token, R);
    poll.events.iter().next().unwrap().clone()
}

#[test]
fn event_of_an_older_setting_has_no_expirations() {
    let changes: [fn(&TestPoll, &mut Timer); 8] = [
        |_, timer| timer.set_after(Duration::ZERO).unwrap(),
        |_, timer| timer.set_after(Duration::from_secs(3600)).unwrap(),
        |_, timer| timer.set_at(Instant::now()).unwrap(),
        |_, timer| timer.set_every(ms(1)).unwrap(),
        |_, timer| timer.cancel().unwrap(),
        |poll, timer| poll.reregister(timer, 1, READ),
        |poll, timer| poll.reregister(timer, 2, READ),
        |poll, timer| poll.deregister(timer),
    ];
    for (number, change) in changes.iter().enumerate() {
        for period in [None, Some(ms(1))] {
            let mut poll = TestPoll::new();
            let mut timer = period.map_or_else(|| Timer::after(Duration::ZERO), Timer::every).unwrap();
            poll.register(&mut timer, 1, READ);
            let stale = fired_event(&mut poll, 1);
            change(&poll, &mut timer);
            assert_eq!(timer.expirations(&stale).unwrap(), 0, "change {number}, {period:?}");
            // The old event has used up nothing of the new setting.
            timer.set_after(Duration::ZERO).unwrap();
            if number == 7 {
                poll.register(&mut timer, 3, READ);
            }
            poll.until(|reported| !reported.is_empty(), || "the new setting".to_owned());
            assert_eq!(timer.expirations(&stale).unwrap_or(0), 0, "change {number}, {period:?}");
            let event = poll.events.iter().next().unwrap();
            assert_eq!(timer.expirations(event).unwrap(), 1, "change {number}, {period:?}");
            assert_eq!(timer.expirations(event).unwrap(), 0, "a second call");
        }
    }
}

#[test]
fn each_ended_period_is_an_event_with_the_unread_count() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::every(ms(2)).unwrap();
    poll.register(&mut timer, 1, READ);
    for _ in 0..3 {
        poll.expect(1, R);
    }
    let event = poll.events.iter().next().unwrap();
    assert!(timer.expirations(event).unwrap() >= 3);
    assert_eq!(timer.expirations(event).unwrap(), 0);
}

#[test]
fn periods_do_not_drift() {
    const PERIOD: Duration = Duration::from_millis(3);
    let mut poll = TestPoll::new();
    let mut timer = Timer::every(PERIOD).unwrap();
    let before = Instant::now();
    poll.register(&mut timer, 1, READ);
    let after = Instant::now();
    let mut total = 0;
    while total < 40 {
        thread::sleep(ms(total % 7));
        // The count of an event is that of a time between the two readings of the clock.
        let least = after.elapsed();
        let reported = poll.poll_once(Some(TIMEOUT));
        let most = before.elapsed();
        if reported.is_empty() {
            continue;
        }
        total += timer.expirations(poll.events.iter().next().unwrap()).unwrap();
        let periods = |elapsed: Duration| (elapsed.as_nanos() / PERIOD.as_nanos()) as u64;
        assert!((periods(least)..=periods(most)).contains(&total), "{total} after {least:?} to {most:?}");
    }
}

#[test]
fn timer_set_during_a_blocked_wait_reports_nothing_before_its_deadline() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::new().unwrap();
    poll.register(&mut timer, 1, READ);
    let waker = kevio::Waker::new(poll.registry(), Token(2)).unwrap();
    let blocked_thread = BlockedThread::current();
    thread::scope(|scope| {
        scope.spawn(|| {
            blocked_thread.wait_until_blocked();
            timer.set_after(Duration::from_secs(3600)).unwrap();
            timer.set_after(Duration::from_secs(1800)).unwrap();
            waker.wake().unwrap();
        });
        poll.expect(2, R);
    });
}

#[test]
fn first_timer_registered_during_a_blocked_wait_fires() {
    for timeout in [None, Some(TIMEOUT)] {
        let mut poll = Poll::new().unwrap();
        let mut events = kevio::Events::with_capacity(8);
        let registry = poll.registry().try_clone().unwrap();
        let blocked_thread = BlockedThread::current();
        thread::scope(|scope| {
            let timer = scope.spawn(move || {
                let mut timer = Timer::new().unwrap();
                blocked_thread.wait_until_blocked();
                timer.set_after(ms(5)).unwrap();
                registry.register(&mut timer, Token(1), READ).unwrap();
                timer
            });
            poll.poll_until(&mut events, timeout.map(|timeout| Instant::now() + timeout)).unwrap();
            let timer = timer.join().unwrap();
            assert_eq!(timer.expirations(events.iter().next().expect("the timer was lost")).unwrap(), 1);
        });
    }
}

#[test]
fn poll_with_cancelled_timers_lasts_its_timeout() {
    let mut poll = TestPoll::new();
    let mut timers: Vec<_> = (0..10).map(|_| Timer::after(ms(5)).unwrap()).collect();
    for (token, timer) in timers.iter_mut().enumerate() {
        poll.register(timer, token, READ);
    }
    // The first poll arms the timer of the kernel. On a slow machine the timers have fired by then.
    poll.drain_events();
    for timer in &mut timers {
        timer.cancel().unwrap();
    }
    let start = Instant::now();
    expect_no_events_for(&mut poll, ms(40));
    assert!(start.elapsed() >= ms(40));
    drop(timers);
    let start = Instant::now();
    expect_no_events_for(&mut poll, ms(20));
    assert!(start.elapsed() >= ms(20));
}

/// Sources, wakers and timers that are always ready share a buffer that is too small.
#[test]
fn small_buffer_reports_sources_wakers_and_timers_in_turn() {
    for capacity in 1..=3 {
        let mut poll = TestPoll::with_capacity(capacity);
        let mut streams: Vec<_> = (0..3).map(|_| kevio_pair()).collect();
        for (token, (stream, _)) in streams.iter_mut().enumerate() {
            poll.register(stream, token, WRITE.level());
        }
        let wakers: Vec<_> = (10..13).map(|token| kevio::Waker::new(poll.registry(), Token(token)).unwrap()).collect();
        let mut timers: Vec<_> = (0..3).map(|_| Timer::after(Duration::ZERO).unwrap()).collect();
        for (index, timer) in timers.iter_mut().enumerate() {
            poll.register(timer, 20 + index, READ);
        }
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..300 {
            wakers.iter().for_each(|waker| waker.wake().unwrap());
            for token in poll.poll_once(Some(TIMEOUT)).into_keys() {
                *counts.entry(token).or_insert(0) += 1;
                if token >= 20 {
                    timers[token - 20].set_after(Duration::ZERO).unwrap();
                }
            }
        }
        assert_eq!(counts.len(), 9, "capacity {capacity}: {counts:?}");
        assert!(counts.values().all(|&count| count >= 10), "capacity {capacity}: {counts:?}");
    }
}

/// Four threads set timers 200 000 times beside a waiting poll. Of ten or more settings the last is short, and its thread waits
/// until it has fired. The others are long, and must not fire.
#[test]
fn timers_set_by_four_threads_fire_once_and_not_early() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::Mutex;

    const THREADS: usize = 4;
    // A short timer takes two ticks at least on systems with ticks, so that there are fewer of them.
    const SETS: usize = if HAS_TICKS { 100 } else { 10 };
    const ROUNDS: usize = 50_000 / SETS;
    const END: Token = Token(usize::MAX);
    struct Slot {
        timer: Timer,
        deadline: Option<Instant>,
    }

    let mut poll = TestPoll::new();
    let slots: Vec<_> = (0..THREADS * 3)
        .map(|token| {
            let mut timer = Timer::new().unwrap();
            poll.register(&mut timer, token, READ);
            Mutex::new(Slot { timer, deadline: None })
        })
        .collect();
    let running = AtomicUsize::new(THREADS);
    let waker = kevio::Waker::new(poll.registry(), END).unwrap();
    thread::scope(|scope| {
        let mut fired = Vec::new();
        for thread in 0..THREADS {
            let (sender, receiver) = std::sync::mpsc::channel();
            fired.push(sender);
            let (slots, running, waker) = (&slots, &running, &waker);
            scope.spawn(move || {
                // Ends the loop below, also if this thread panics.
                let _guard = EndOnDrop(running, waker);
                for round in 0..ROUNDS {
                    let token = thread * 3 + round % 3;
                    for set in 1..=SETS {
                        let is_last = set == SETS;
                        let delay = match is_last {
                            true => Duration::from_micros((round % 8) as u64 * 20),
                            false => Duration::from_secs(2000 - set as u64 * 10),
                        };
                        let mut slot = slots[token].lock().unwrap();
                        slot.deadline = is_last.then(|| Instant::now() + delay);
                        match slot.deadline {
                            Some(deadline) => slot.timer.set_at(deadline).unwrap(),
                            None => slot.timer.set_after(delay).unwrap(),
                        }
                    }
                    receiver.recv_timeout(TIMEOUT).expect("a timer was lost");
                }
            });
        }
        while running.load(Ordering::SeqCst) > 0 {
            poll.inner.poll_until(&mut poll.events, None).unwrap();
            let now = Instant::now();
            for event in poll.events.iter().filter(|event| event.token() != END) {
                let token = event.token().0;
                let mut slot = slots[token].lock().unwrap();
                if slot.timer.expirations(event).unwrap() == 0 {
                    continue;
                }
                let deadline = slot.deadline.take().expect("a long timer has fired, or a short one twice");
                assert!(deadline <= now, "early by {:?}", deadline - now);
                fired[token / 3].send(()).unwrap();
            }
        }
    });

    struct EndOnDrop<'a>(&'a AtomicUsize, &'a kevio::Waker);
    impl Drop for EndOnDrop<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
            self.1.wake().unwrap();
        }
    }
}

/// The settings of two polls differ, so that an event of the first poll is not taken for one of the second.
#[test]
fn event_of_the_poll_before_has_no_expirations() {
    for number in 0..4 {
        let (mut first, mut second) = (TestPoll::new(), TestPoll::new());
        let mut timer = Timer::after(Duration::ZERO).unwrap();
        // Several settings, so that the two polls do not only differ in their first.
        for _ in 0..number {
            timer.set_after(Duration::ZERO).unwrap();
        }
        first.register(&mut timer, 1, READ);
        let stale = fired_event(&mut first, 1);
        first.deregister(&mut timer);
        second.register(&mut timer, 1, READ);
        let event = fired_event(&mut second, 1);
        assert_eq!((timer.expirations(&stale).unwrap(), timer.expirations(&event).unwrap()), (0, 1));
        // Another timer with the same token.
        let mut other = Timer::after(Duration::ZERO).unwrap();
        first.register(&mut other, 1, READ);
        let stranger = fired_event(&mut first, 1);
        timer.set_after(Duration::ZERO).unwrap();
        let event = fired_event(&mut second, 1);
        assert_eq!((timer.expirations(&stranger).unwrap(), timer.expirations(&event).unwrap()), (0, 1));
    }
}

#[test]
fn event_of_a_dropped_poll_has_no_expirations_after_a_registration_with_another() {
    for (token, keeps_waker) in [(1, false), (2, false), (1, true), (2, true)] {
        let (mut first, mut second) = (Poll::new().unwrap(), TestPoll::new());
        let mut events = Events::with_capacity(8);
        let mut timer = Timer::after(Duration::ZERO).unwrap();
        first.registry().register(&mut timer, Token(1), READ).unwrap();
        expect_event(&mut first, &mut events, Token(1));
        let stale = events.iter().next().unwrap();
        // A waker keeps the state of the poll.
        let waker = keeps_waker.then(|| Waker::new(first.registry(), Token(9)).unwrap());
        drop(first);
        assert_eq!(timer.expirations(stale).unwrap(), 0);
        second.register(&mut timer, token, READ);
        assert_eq!(timer.expirations(stale).unwrap(), 0);
        assert_eq!(wait_for_event(&mut second, token, &mut timer), 1);
        drop(waker);
    }
}

#[test]
fn event_before_several_reregistrations_has_no_expirations() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::after(Duration::ZERO).unwrap();
    poll.register(&mut timer, 1, READ);
    let stale = fired_event(&mut poll, 1);
    for token in [2, 3, usize::MAX, 4] {
        poll.reregister(&mut timer, token, READ);
        assert_eq!(timer.expirations(&stale).unwrap(), 0, "{token}");
    }
    assert_eq!(wait_for_event(&mut poll, 4, &mut timer), 1);
}

/// The second timer is due before the slack of the first ends, and the third is not.
#[test]
fn timers_within_the_slack_are_reported_by_one_poll() {
    let mut poll = TestPoll::new();
    poll.inner.set_timer_slack(ms(60));
    let start = Instant::now();
    let mut timers = [10, 40, 500].map(|delay| Timer::at(start + ms(delay)).unwrap());
    for (token, timer) in timers.iter_mut().enumerate() {
        poll.register(timer, token, READ);
    }
    let reported = poll.poll_once(Some(TIMEOUT));
    assert!(start.elapsed() >= ms(70) && reported.contains_key(&0) && reported.contains_key(&1), "{reported:?}");
    // Without slack, from the next wait on.
    poll.inner.set_timer_slack(Duration::ZERO);
    poll.expect(2, R);
    assert!(start.elapsed() >= ms(500));
}

/// The buffer has space for one of the timers that are due. The others do not wait for the slack again.
#[test]
fn timers_that_are_left_do_not_wait_for_the_slack() {
    let mut poll = TestPoll::with_capacity(1);
    poll.inner.set_timer_slack(ms(300));
    let mut timers = [1, 2, 3].map(|delay| Timer::after(ms(delay)).unwrap());
    for (token, timer) in timers.iter_mut().enumerate() {
        poll.register(timer, token, READ);
    }
    assert_eq!(poll.poll_once(Some(TIMEOUT)).len(), 1);
    for _ in 0..2 {
        assert_eq!(poll.poll_once(Some(Duration::ZERO)).len(), 1);
    }
    poll.expect_no_events();
}

/// The program changes a timer or the slack between the polls.
#[test]
fn timers_that_are_left_do_not_wait_for_the_slack_after_a_change() {
    type Change = fn(&mut TestPoll, &mut Timer);
    let changes: [Change; 3] = [
        |_, reported| reported.set_after(TIMEOUT).unwrap(),
        |_, reported| reported.cancel().unwrap(),
        |poll, _| poll.inner.set_timer_slack(ms(301)),
    ];
    for change in changes {
        let mut poll = TestPoll::with_capacity(1);
        poll.inner.set_timer_slack(ms(300));
        let mut timers = [1, 200, 250].map(|delay| Timer::after(ms(delay)).unwrap());
        for (token, timer) in timers.iter_mut().enumerate() {
            poll.register(timer, token, READ);
        }
        assert_eq!(poll.poll_once(Some(TIMEOUT)).len(), 1);
        for _ in 0..2 {
            change(&mut poll, &mut timers[0]);
            assert_eq!(poll.poll_once(Some(Duration::ZERO)).len(), 1);
        }
    }
}

/// The first poll arms the alarm for a deadline without slack.
#[test]
fn slack_counts_for_deadlines_that_are_armed_already() {
    let mut poll = TestPoll::new();
    let start = Instant::now();
    let mut timers = [50, 60].map(|delay| Timer::at(start + ms(delay)).unwrap());
    for (token, timer) in timers.iter_mut().enumerate() {
        poll.register(timer, token, READ);
    }
    poll.expect_no_events();
    poll.inner.set_timer_slack(ms(100));
    let reported = poll.poll_once(Some(TIMEOUT));
    assert!(reported.len() == 2 && start.elapsed() >= ms(150), "{reported:?} after {:?}", start.elapsed());
}

#[test]
fn infinite_slack_keeps_timers_until_the_slack_is_smaller() {
    let mut poll = TestPoll::new();
    poll.inner.set_timer_slack(Duration::MAX);
    let mut timer = Timer::after(ms(1)).unwrap();
    poll.register(&mut timer, 1, READ);
    assert!(poll.poll_once(Some(ms(20))).is_empty());
    poll.inner.set_timer_slack(Duration::ZERO);
    poll.expect(1, R);
}
