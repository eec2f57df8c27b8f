//! Wakes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

pub(crate) fn thousand_wakes_are_coalesced<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let waker = selector.inner.add_waker(Token(1)).unwrap();
    for _ in 0..3 {
        for _ in 0..1000 {
            selector.inner.wake(&waker).unwrap();
        }
        assert_eq!(selector.select_now(), BTreeMap::from([(1, R)]));
        assert_eq!(selector.events.len(), 1);
        selector.expect_no_events();
    }
}

pub(crate) fn each_waker_reports_its_own_token<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let first = selector.inner.add_waker(Token(1)).unwrap();
    let second = selector.inner.add_waker(Token(usize::MAX)).unwrap();
    selector.expect_no_events();
    for _ in 0..3 {
        selector.inner.wake(&first).unwrap();
        assert_eq!(selector.select_now(), BTreeMap::from([(1, R)]));
        selector.expect_no_events();
    }
    selector.inner.wake(&second).unwrap();
    assert_eq!(selector.select_now().len(), 1);
    selector.inner.wake(&first).unwrap();
    selector.inner.remove_waker(&first);
    drop(first);
    selector.expect_no_events();
    selector.inner.wake(&second).unwrap();
    selector.expect(usize::MAX, R);
}

/// A wait that returns a wake also sees all writes that the waking thread made before the wake.
pub(crate) fn wakes_of_sixteen_threads_publish_their_writes<T: Selector>() {
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
            assert!(
                !selector.events.is_empty(),
                "{} writes, and no wake was reported",
                written.load(Ordering::Acquire)
            );
        }
    });
    selector.select_now();
    selector.expect_no_events();
}

pub(crate) fn wake_before_the_wait_ends_the_wait<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let waker = selector.inner.add_waker(Token(1)).unwrap();
    selector.inner.wake(&waker).unwrap();
    selector.inner.select(&mut selector.events, None).unwrap();
    assert_eq!(selector.events.len(), 1);
}

/// The number of wakes is larger than the capacity of a pipe. The tests of `wake_fd` cover the maximum of an eventfd.
pub(crate) fn more_wakes_than_a_pipe_holds_do_not_block<T: Selector>() {
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

pub(crate) fn wake_ends_a_blocked_wait<T: Selector>() {
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

/// If wakes and sources are more than the buffer holds, both are reported in turn.
pub(crate) fn wakes_and_sources_share_a_small_buffer<T: Selector>() {
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
            for token in selector.select_now().into_keys() {
                seen.insert(token);
                if token >= 100 {
                    pairs[token - 100].0.drain();
                    pairs[token - 100].1.write_all(b"x").unwrap();
                }
            }
        }
        assert_eq!(seen.len(), wakers.len() + pairs.len(), "reported only {seen:?}");
        // At most one event for each token remains.
        let left = (0..20).map(|_| selector.select_now().len()).sum::<usize>();
        assert!(left <= seen.len(), "{left} events remain");
    }
}

/// Each thread waits for the event of its wake before the next wake, so that the test fails if a wake is lost or reported
/// twice. The buffer holds one event, and more events than one are ready for each wait.
pub(crate) fn each_wake_is_reported_once_among_other_events<T: Selector>() {
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
            assert!(Instant::now() < deadline, "reported only {seen:?}");
            inner.select(&mut selector.events, Some(TIMEOUT)).unwrap();
            for event in &selector.events {
                let token = event.token().0;
                if token < THREADS {
                    seen[token] += 1;
                    assert!(seen[token] <= WAKES, "a wake was reported twice");
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
    each_wake_is_reported_once_among_other_events,
    thousand_wakes_are_coalesced,
    each_waker_reports_its_own_token,
    wakes_of_sixteen_threads_publish_their_writes,
    wake_before_the_wait_ends_the_wait,
    more_wakes_than_a_pipe_holds_do_not_block,
    wake_ends_a_blocked_wait,
    wakes_and_sources_share_a_small_buffer,
}
