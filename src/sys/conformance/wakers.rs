//! Wakes are events.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

pub(crate) fn a_thousand_wakes_are_few_events<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let waker = selector.inner.add_waker(Token(1)).unwrap();
    for _ in 0..3 {
        for _ in 0..1000 {
            selector.inner.wake(&waker).unwrap();
        }
        assert_eq!(selector.now(), BTreeMap::from([(1, R)]));
        assert_eq!(selector.events.len(), 1);
        selector.expect_no_events();
    }
}

pub(crate) fn wakes_are_events<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let first = selector.inner.add_waker(Token(1)).unwrap();
    let second = selector.inner.add_waker(Token(usize::MAX)).unwrap();
    selector.expect_no_events();
    for _ in 0..3 {
        selector.inner.wake(&first).unwrap();
        assert_eq!(selector.now(), BTreeMap::from([(1, R)]));
        selector.expect_no_events();
    }
    selector.inner.wake(&second).unwrap();
    assert_eq!(selector.now().len(), 1);
    selector.inner.wake(&first).unwrap();
    selector.inner.remove_waker(&first);
    drop(first);
    selector.expect_no_events();
    selector.inner.wake(&second).unwrap();
    selector.expect(usize::MAX, R);
}

/// Each thread's last wake is seen after it was made: what it wrote before is read by then.
pub(crate) fn sixteen_threads_wake<T: Selector>() {
    const WAKES: usize = 500;
    let mut selector = TestSelector::<T>::new();
    let waker = selector.inner.add_waker(Token(1)).unwrap();
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (inner, waker, written) = (&selector.inner, &waker, &written);
        for _ in 0..16 {
            scope.spawn(move || {
                for _ in 0..WAKES {
                    written.fetch_add(1, Ordering::Release);
                    inner.wake(waker).unwrap();
                }
            });
        }
        while written.load(Ordering::Acquire) < 16 * WAKES {
            inner.select(&mut selector.events, Some(TIMEOUT)).unwrap();
            assert!(!selector.events.is_empty(), "{} written, and nobody was woken", written.load(Ordering::Acquire));
        }
    });
    selector.now();
    selector.expect_no_events();
}

pub(crate) fn a_wake_before_the_wait<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let waker = selector.inner.add_waker(Token(1)).unwrap();
    selector.inner.wake(&waker).unwrap();
    selector.inner.select(&mut selector.events, None).unwrap();
    assert_eq!(selector.events.len(), 1);
}

/// More than a pipe has bytes; what an eventfd counts to is tried where it is made.
pub(crate) fn more_wakes_than_fit<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let waker = selector.inner.add_waker(Token(1)).unwrap();
    for _ in 0..70_000 {
        selector.inner.wake(&waker).unwrap();
    }
    selector.expect(1, R);
    selector.expect_no_events();
    selector.inner.wake(&waker).unwrap();
    selector.expect(1, R);
}

pub(crate) fn a_wake_ends_a_wait<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let waker = selector.inner.add_waker(Token(1)).unwrap();
    let blocked_thread = BlockedThread::current();
    std::thread::scope(|scope| {
        let (inner, waker) = (&selector.inner, &waker);
        scope.spawn(move || {
            blocked_thread.wait_until_blocked();
            inner.wake(waker).unwrap();
        });
        selector.inner.select(&mut selector.events, Some(TIMEOUT)).unwrap();
    });
    assert_eq!(selector.events.len(), 1);
}

/// Wakes do not hide sources, nor sources wakes, when there is more of both than room for them.
pub(crate) fn wakes_and_sources_take_turns<T: Selector>() {
    for (wakers, sources) in [(1, 3), (3, 1), (3, 3)] {
        let mut selector = TestSelector::<T>::with_capacity(1);
        let wakers: Vec<_> = (0..wakers).map(|token| selector.inner.add_waker(Token(token)).unwrap()).collect();
        let mut pairs = Vec::new();
        for token in 100..100 + sources {
            let (a, mut b) = pair();
            b.write_all(b"x").unwrap();
            pairs.push((selector.register_owned(a, token, READ), b));
        }
        let mut seen = BTreeSet::new();
        for _ in 0..50 {
            for waker in &wakers {
                selector.inner.wake(waker).unwrap();
            }
            for token in selector.now().into_keys() {
                seen.insert(token);
                if token >= 100 {
                    pairs[token - 100].0.drain();
                    pairs[token - 100].1.write_all(b"x").unwrap();
                }
            }
        }
        assert_eq!(seen.len(), wakers.len() + pairs.len(), "only {seen:?}");
        // What is left over is one event for each.
        let left = (0..20).map(|_| selector.now().len()).sum::<usize>();
        assert!(left <= seen.len(), "{left} events were left");
    }
}

/// Each thread waits for the event of its wake before it wakes again, so that one that was lost ends everything, and one
/// that was doubled is counted. There is room for one event, and more than that to report in each turn.
pub(crate) fn each_wake_is_one_event_among_others<T: Selector>() {
    const THREADS: usize = 4;
    const WAKES: usize = 300;
    let mut selector = TestSelector::<T>::with_capacity(1);
    let wakers: Vec<_> = (0..THREADS).map(|token| selector.inner.add_waker(Token(token)).unwrap()).collect();
    let pairs: Vec<_> = (0..2).map(|_| pair()).collect();
    for (a, _) in &pairs {
        selector.register_raw(a.as_raw_fd(), THREADS, Interest::WRITABLE.level()).unwrap();
    }
    let mut seen = [0; THREADS];
    std::thread::scope(|scope| {
        let inner = &selector.inner;
        let mut answers = Vec::new();
        for waker in &wakers {
            let (answer, answered) = std::sync::mpsc::channel();
            answers.push(answer);
            scope.spawn(move || {
                for _ in 0..WAKES {
                    inner.wake(waker).unwrap();
                    answered.recv_timeout(TIMEOUT).expect("a wake was lost");
                }
            });
        }
        let deadline = Instant::now() + TIMEOUT;
        while seen != [WAKES; THREADS] {
            assert!(Instant::now() < deadline, "only {seen:?} were seen");
            inner.select(&mut selector.events, Some(TIMEOUT)).unwrap();
            for event in &selector.events {
                let token = event.token().0;
                if token < THREADS {
                    seen[token] += 1;
                    assert!(seen[token] <= WAKES, "a wake was doubled");
                    answers[token].send(()).unwrap();
                }
            }
        }
    });
    for (a, _) in &pairs {
        selector.deregister(a).unwrap();
    }
    selector.expect_no_events();
}

conformance_tests! {
    each_wake_is_one_event_among_others,
    a_thousand_wakes_are_few_events,
    wakes_are_events,
    sixteen_threads_wake,
    a_wake_before_the_wait,
    more_wakes_than_fit,
    a_wake_ends_a_wait,
    wakes_and_sources_take_turns,
}
