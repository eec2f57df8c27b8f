//! The queue of a poll as a descriptor.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use kevio::net::UnixStream;
use kevio::unix::SourceFd;
use kevio::{Backend, Timer, Token, Waker, BACKEND};

use crate::support::known_failures::{is_known_failure, Check};
use crate::support::net::drain;
use crate::support::poll::{is_readable, TestPoll, READ, TIMEOUT};
use crate::support::readiness::R;

#[test]
fn poll_and_registry_have_one_descriptor() {
    let poll = TestPoll::new();
    assert!(poll.inner.as_raw_fd() >= 0);
    assert_eq!(poll.registry().as_raw_fd(), poll.inner.as_raw_fd());
    assert_eq!(poll.registry().as_fd().as_raw_fd(), poll.inner.as_raw_fd());
}

#[test]
fn poll_registered_in_itself_is_rejected() {
    let mut poll = TestPoll::new();
    let own = poll.inner.as_raw_fd();
    let error = poll.registry().register(&mut SourceFd(&own), Token(1), READ).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    poll.expect_no_events();
}

/// Returns two polls; the inner poll is source 1 of the outer.
fn nested_polls() -> (TestPoll, TestPoll) {
    let (outer, inner) = (TestPoll::new(), TestPoll::new());
    outer.register(&mut SourceFd(&inner.inner.as_raw_fd()), 1, READ);
    (outer, inner)
}

#[test]
fn poll_in_a_poll_reports_readable() {
    if is_known_failure(Check::QueueIsPollable) {
        return;
    }
    let (mut outer, mut inner) = nested_polls();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    outer.expect(1, R);
    inner.expect(1, R);
    outer.expect_no_events();
}

/// A wake of the inner poll makes its descriptor readable.
#[test]
fn wake_of_inner_poll_reports_readable_in_outer() {
    if is_known_failure(Check::QueueIsPollable) {
        return;
    }
    let mut outer = TestPoll::new();
    let mut inner = TestPoll::new();
    let waker = Waker::new(inner.registry(), Token(2)).unwrap();
    outer.register(&mut SourceFd(&inner.inner.as_raw_fd()), 1, READ);
    for _ in 0..3 {
        outer.expect_no_events();
        waker.wake().unwrap();
        outer.expect(1, R);
        inner.expect(2, R);
    }
    inner.expect_no_events();
}

/// Another thread waits for the inner poll at the same time.
#[test]
fn inner_poll_of_another_thread_reports_readable_in_outer() {
    if is_known_failure(Check::QueueIsPollable) {
        return;
    }
    let (mut outer, mut inner) = nested_polls();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 2, READ);
    let waiting = std::thread::spawn(move || {
        inner.expect(2, R);
        inner
    });
    b.write_all(b"x").unwrap();
    let mut inner = waiting.join().unwrap();
    // The outer poll may or may not report the first event before the inner poll is drained; the next event is reported.
    outer.drain_events();
    assert_eq!(drain(&mut a), (1, false));
    inner.drain_events();
    outer.reregister(&mut SourceFd(&inner.inner.as_raw_fd()), 3, READ);
    outer.drain_events();
    b.write_all(b"y").unwrap();
    outer.expect(3, R);
    inner.expect(2, R);
}

/// /proc shows the flags of the kernel after each change.
#[cfg(target_os = "linux")]
#[test]
fn exclusive_sets_epollexclusive_in_the_kernel() {
    if kevio::BACKEND != kevio::Backend::Epoll {
        return;
    }
    let (listener, _) = crate::support::net::listener();
    let poll = TestPoll::new();
    let registry = poll.registry();
    let mask = || {
        let path = format!("/proc/self/fdinfo/{}", poll.inner.as_raw_fd());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("tfd: {:8}", listener.as_raw_fd())));
        line.map(|line| {
            u32::from_str_radix(line.split("events:").nth(1).unwrap().split_whitespace().next().unwrap(), 16).unwrap()
        })
    };
    let bit = libc::EPOLLEXCLUSIVE as u32;
    let number = listener.as_raw_fd();
    registry.register(&mut SourceFd(&number), Token(1), READ.exclusive()).unwrap();
    assert_eq!(mask().unwrap() & bit, bit);
    registry.reregister(&mut SourceFd(&number), Token(1), READ).unwrap();
    assert_eq!(mask().unwrap() & bit, 0);
    registry.reregister(&mut SourceFd(&number), Token(1), kevio::Interest::NONE).unwrap();
    assert_eq!(mask(), None);
    registry.reregister(&mut SourceFd(&number), Token(1), READ.exclusive().level()).unwrap();
    assert_eq!(mask().unwrap() & bit, bit);
    registry.deregister(&mut SourceFd(&number)).unwrap();
    assert_eq!(mask(), None);
}

/// The kernel rejects EPOLLEXCLUSIVE for an epoll descriptor.
#[test]
fn failed_exclusive_reregistration_keeps_the_registration() {
    if BACKEND != Backend::Epoll {
        return;
    }
    let (mut outer, inner) = nested_polls();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 1, READ);
    let fd = inner.inner.as_raw_fd();
    outer.registry().reregister(&mut SourceFd(&fd), Token(2), READ.exclusive()).unwrap_err();
    b.write_all(b"x").unwrap();
    outer.expect(1, R);
}

/// Without a timer of the kernel, the descriptor of the queue does not become readable for timers: see the table of differences.
const HAS_KERNEL_TIMER: bool = !cfg!(kevio_unsupported_force_fallbacks);

#[test]
fn timer_of_inner_poll_makes_the_queue_readable() {
    if is_known_failure(Check::QueueIsPollable) || !HAS_KERNEL_TIMER {
        return;
    }
    let (mut outer, mut inner) = nested_polls();
    let short = Duration::from_millis(5);
    let mut timers = [short, Duration::from_secs(3600)].map(|delay| Timer::after(delay).unwrap());
    for (token, timer) in timers.iter_mut().enumerate() {
        inner.register(timer, token, READ);
    }
    for round in 0..10 {
        assert!(is_readable(inner.inner.as_raw_fd(), TIMEOUT), "round {round}");
        outer.expect(1, R);
        inner.expect(round % 2, R);
        assert!(!is_readable(inner.inner.as_raw_fd(), Duration::ZERO), "round {round}: nothing is due");
        // The next round sets the other timer, in the program or in another thread.
        let timer = &mut timers[(round + 1) % 2];
        match round % 3 {
            0 => timer.set_after(short).unwrap(),
            1 => std::thread::scope(|scope| {
                scope.spawn(|| timer.set_after(Duration::ZERO).unwrap());
            }),
            _ => timer.set_at(Instant::now() + short).unwrap(),
        }
    }
}

#[test]
fn periods_and_cancelled_timers_of_inner_poll_follow_the_queue() {
    if is_known_failure(Check::QueueIsPollable) || !HAS_KERNEL_TIMER {
        return;
    }
    // The timer is set before other code gets the descriptor.
    let mut inner = TestPoll::new();
    let mut timer = Timer::every(Duration::from_millis(2)).unwrap();
    inner.register(&mut timer, 1, READ);
    for _ in 0..3 {
        assert!(is_readable(inner.inner.as_raw_fd(), TIMEOUT));
        inner.expect(1, R);
    }
    // A cancelled timer may make the queue readable once, without an event.
    timer.cancel().unwrap();
    inner.expect_no_events();
    is_readable(inner.inner.as_raw_fd(), Duration::from_millis(100));
    inner.expect_no_events();
    assert!(!is_readable(inner.inner.as_raw_fd(), Duration::from_millis(20)));
    timer.set_after(Duration::ZERO).unwrap();
    assert!(is_readable(inner.inner.as_raw_fd(), TIMEOUT));
    inner.expect(1, R);
}

/// Events that did not fit into the buffer keep the queue readable.
#[test]
fn events_left_by_a_small_buffer_keep_the_queue_readable() {
    if is_known_failure(Check::QueueIsPollable) || !HAS_KERNEL_TIMER {
        return;
    }
    let mut inner = TestPoll::with_capacity(1);
    let wakers = [1, 2, 3].map(|token| Waker::new(inner.registry(), Token(token)).unwrap());
    let mut timers = [4, 5, 6].map(|token| {
        let mut timer = Timer::after(Duration::ZERO).unwrap();
        inner.register(&mut timer, token, READ);
        timer
    });
    // Wakes before other code gets the descriptor are reported too.
    wakers.iter().for_each(|waker| waker.wake().unwrap());
    let _ = inner.inner.as_raw_fd();
    for _ in 0..3 {
        let mut seen = std::collections::BTreeSet::new();
        while seen.len() < 6 {
            assert!(is_readable(inner.inner.as_raw_fd(), TIMEOUT), "only {seen:?}");
            seen.extend(inner.poll_once(Some(Duration::ZERO)).into_keys());
        }
        wakers.iter().for_each(|waker| waker.wake().unwrap());
        timers.iter_mut().for_each(|timer| timer.set_after(Duration::ZERO).unwrap());
    }
}

/// The outer poll reports the queue once. The inner poll is polled until a poll returns no event.
#[test]
fn events_behind_internal_records_are_not_lost_to_an_outer_poll() {
    if is_known_failure(Check::QueueIsPollable) {
        return;
    }
    let (mut outer, mut inner) = (TestPoll::new(), TestPoll::with_capacity(1));
    outer.register(&mut SourceFd(&inner.inner.as_raw_fd()), 1, READ);
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 1, READ);
    let waker = Waker::new(inner.registry(), Token(2)).unwrap();
    waker.wake().unwrap();
    drop(waker);
    b.write_all(b"x").unwrap();
    outer.expect(1, R);
    assert!(inner.poll_once(Some(Duration::ZERO)).contains_key(&1));
}

/// An awake poll gets no notification. After other code has got the descriptor, it does.
#[test]
fn wake_of_an_awake_poll_makes_a_shared_queue_readable() {
    if is_known_failure(Check::QueueIsPollable) {
        return;
    }
    let mut inner = TestPoll::new();
    let waker = Waker::new(inner.registry(), Token(1)).unwrap();
    waker.wake().unwrap();
    inner.expect(1, R);
    waker.wake().unwrap();
    for _ in 0..3 {
        assert!(is_readable(inner.inner.as_raw_fd(), TIMEOUT));
        inner.expect(1, R);
        assert!(!is_readable(inner.inner.as_raw_fd(), Duration::ZERO));
        waker.wake().unwrap();
    }
}
