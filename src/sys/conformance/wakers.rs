//! Wakes are events.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

pub(crate) fn a_thousand_wakes_are_few_events<T: Selector>() {
    let mut rig = Rig::<T>::new();
    let waker = rig.engine.add_waker(Token(1)).unwrap();
    for _ in 0..3 {
        for _ in 0..1000 {
            rig.engine.wake(&waker).unwrap();
        }
        assert_eq!(rig.now(), BTreeMap::from([(1, R)]));
        assert_eq!(rig.events.len(), 1);
        rig.silent();
    }
}

pub(crate) fn wakes_are_events<T: Selector>() {
    let mut rig = Rig::<T>::new();
    let first = rig.engine.add_waker(Token(1)).unwrap();
    let second = rig.engine.add_waker(Token(usize::MAX)).unwrap();
    rig.silent();
    for _ in 0..3 {
        rig.engine.wake(&first).unwrap();
        assert_eq!(rig.now(), BTreeMap::from([(1, R)]));
        rig.silent();
    }
    rig.engine.wake(&second).unwrap();
    assert_eq!(rig.now().len(), 1);
    rig.engine.wake(&first).unwrap();
    rig.engine.remove_waker(&first);
    drop(first);
    rig.silent();
    rig.engine.wake(&second).unwrap();
    rig.expect(usize::MAX, R);
}

/// Each thread's last wake is seen after it was made: what it wrote before is read by then.
pub(crate) fn sixteen_threads_wake<T: Selector>() {
    const WAKES: usize = 500;
    let mut rig = Rig::<T>::new();
    let waker = rig.engine.add_waker(Token(1)).unwrap();
    let written = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (engine, waker, written) = (&rig.engine, &waker, &written);
        for _ in 0..16 {
            scope.spawn(move || {
                for _ in 0..WAKES {
                    written.fetch_add(1, Ordering::Release);
                    engine.wake(waker).unwrap();
                }
            });
        }
        while written.load(Ordering::Acquire) < 16 * WAKES {
            engine.select(&mut rig.events, Some(ENOUGH)).unwrap();
            assert!(!rig.events.is_empty(), "{} written, and nobody was woken", written.load(Ordering::Acquire));
        }
    });
    rig.now();
    rig.silent();
}

pub(crate) fn a_wake_before_the_wait<T: Selector>() {
    let mut rig = Rig::<T>::new();
    let waker = rig.engine.add_waker(Token(1)).unwrap();
    rig.engine.wake(&waker).unwrap();
    rig.engine.select(&mut rig.events, None).unwrap();
    assert_eq!(rig.events.len(), 1);
}

/// More than a pipe has bytes; what an eventfd counts to is tried where it is made.
pub(crate) fn more_wakes_than_fit<T: Selector>() {
    let mut rig = Rig::<T>::new();
    let waker = rig.engine.add_waker(Token(1)).unwrap();
    for _ in 0..70_000 {
        rig.engine.wake(&waker).unwrap();
    }
    rig.expect(1, R);
    rig.silent();
    rig.engine.wake(&waker).unwrap();
    rig.expect(1, R);
}

pub(crate) fn a_wake_ends_a_wait<T: Selector>() {
    let mut rig = Rig::<T>::new();
    let waker = rig.engine.add_waker(Token(1)).unwrap();
    let waiter = Waiter::here();
    std::thread::scope(|scope| {
        let (engine, waker) = (&rig.engine, &waker);
        scope.spawn(move || {
            waiter.falls_asleep();
            engine.wake(waker).unwrap();
        });
        rig.engine.select(&mut rig.events, Some(ENOUGH)).unwrap();
    });
    assert_eq!(rig.events.len(), 1);
}

/// Wakes do not hide sources, nor sources wakes, when there is more of both than room for them.
pub(crate) fn wakes_and_sources_take_turns<T: Selector>() {
    for (wakers, sources) in [(1, 3), (3, 1), (3, 3)] {
        let mut rig = Rig::<T>::with_capacity(1);
        let wakers: Vec<_> = (0..wakers).map(|token| rig.engine.add_waker(Token(token)).unwrap()).collect();
        let mut pairs = Vec::new();
        for token in 100..100 + sources {
            let (a, mut b) = pair();
            b.write_all(b"x").unwrap();
            pairs.push((rig.hold(a, token, READ), b));
        }
        let mut seen = BTreeSet::new();
        for _ in 0..50 {
            for waker in &wakers {
                rig.engine.wake(waker).unwrap();
            }
            for token in rig.now().into_keys() {
                seen.insert(token);
                if token >= 100 {
                    pairs[token - 100].0.drain();
                    pairs[token - 100].1.write_all(b"x").unwrap();
                }
            }
        }
        assert_eq!(seen.len(), wakers.len() + pairs.len(), "only {seen:?}");
        // What is left over is one event for each.
        let left = (0..20).map(|_| rig.now().len()).sum::<usize>();
        assert!(left <= seen.len(), "{left} events were left");
    }
}

/// Each thread waits for the event of its wake before it wakes again, so that one that was lost ends everything, and one
/// that was doubled is counted. There is room for one event, and more than that to report in each turn.
pub(crate) fn each_wake_is_one_event_among_others<T: Selector>() {
    const THREADS: usize = 4;
    const WAKES: usize = 300;
    let mut rig = Rig::<T>::with_capacity(1);
    let wakers: Vec<_> = (0..THREADS).map(|token| rig.engine.add_waker(Token(token)).unwrap()).collect();
    let pairs: Vec<_> = (0..2).map(|_| pair()).collect();
    for (a, _) in &pairs {
        rig.bare(a.as_raw_fd(), THREADS, Interest::WRITABLE.level()).unwrap();
    }
    let mut seen = [0; THREADS];
    std::thread::scope(|scope| {
        let engine = &rig.engine;
        let mut answers = Vec::new();
        for waker in &wakers {
            let (answer, answered) = std::sync::mpsc::channel();
            answers.push(answer);
            scope.spawn(move || {
                for _ in 0..WAKES {
                    engine.wake(waker).unwrap();
                    answered.recv_timeout(ENOUGH).expect("a wake was lost");
                }
            });
        }
        let deadline = Instant::now() + ENOUGH;
        while seen != [WAKES; THREADS] {
            assert!(Instant::now() < deadline, "only {seen:?} were seen");
            engine.select(&mut rig.events, Some(ENOUGH)).unwrap();
            for event in &rig.events {
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
        rig.deregister(a).unwrap();
    }
    rig.silent();
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
