//! Wakers and timers in a process of their own: thousands of wakers, wakes of many threads, and what only Unix has.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kevio::{Events, Poll, Token, Waker};

mod support;

#[cfg(unix)]
#[path = "wakers/signals_and_forks.rs"]
mod signals_and_forks;

use crate::support::open_fds;
use crate::support::poll::{expect_event, TIMEOUT};
use crate::support::process::{is_in_own_process, run_alone};

#[test]
fn ten_thousand_wakers_share_one_descriptor() {
    const WAKERS: usize = 10_000;
    let _alone = run_alone();
    // libkqueue closes the descriptors of the other tests' queues later, in a thread of its own.
    if !is_in_own_process(ten_thousand_wakers_share_one_descriptor) {
        return;
    }
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(256));
    let first = Waker::new(poll.registry(), Token(WAKERS)).unwrap();
    let before = open_fds::open_files();
    let wakers: Vec<_> = (0..WAKERS).map(|token| Waker::new(poll.registry(), Token(token)).unwrap()).collect();
    open_fds::assert_no_more(&before, "wakers");
    wakers[WAKERS / 2].wake().unwrap();
    poll.poll(&mut events, Some(TIMEOUT)).unwrap();
    assert_eq!(events.iter().map(|event| event.token().0).collect::<Vec<_>>(), [WAKERS / 2]);
    // All at once, more than the buffer holds, each once, in the order of the wakes.
    wakers.iter().for_each(|waker| waker.wake().unwrap());
    let mut order = Vec::new();
    while order.len() < WAKERS {
        poll.poll(&mut events, Some(TIMEOUT)).unwrap();
        assert!(!events.is_empty(), "{} of {WAKERS}", order.len());
        order.extend(events.iter().map(|event| event.token().0));
    }
    assert!(order.iter().copied().eq(0..WAKERS), "{order:?}");
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty());
    drop(wakers);
    first.wake().unwrap();
    expect_event(&mut poll, &mut events, Token(WAKERS));
}

/// A thread that polls and a thread that wakes share one core or two. No wake is lost, and no poll is left asleep.
#[test]
fn wakes_of_two_threads_are_answered_each_time() {
    let _alone = run_alone();
    const ROUNDS: usize = 20_000;
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
    let wakers = [0, 1].map(|token| Waker::new(poll.registry(), Token(token)).unwrap());
    let (answers, failed) = ([AtomicUsize::new(0), AtomicUsize::new(0)], AtomicBool::new(false));
    std::thread::scope(|scope| {
        for (waker, answer) in wakers.iter().zip(&answers) {
            let failed = &failed;
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    waker.wake().unwrap();
                    let deadline = Instant::now() + TIMEOUT;
                    while answer.load(Ordering::Acquire) < round {
                        if Instant::now() > deadline {
                            failed.store(true, Ordering::SeqCst);
                            return;
                        }
                        std::thread::yield_now();
                    }
                }
            });
        }
        while answers.iter().any(|answer| answer.load(Ordering::Relaxed) < ROUNDS) && !failed.load(Ordering::SeqCst) {
            poll.poll(&mut events, Some(TIMEOUT)).unwrap();
            for event in &events {
                answers[event.token().0].fetch_add(1, Ordering::Release);
            }
        }
    });
    assert!(!failed.into_inner(), "a wake was lost: {answers:?}");
    assert_eq!(answers.map(AtomicUsize::into_inner), [ROUNDS; 2], "a wake was reported twice");
}

/// Each thread has wakers of its own, which it makes and drops.
#[test]
fn wakes_of_eight_threads_with_new_wakers_are_reported_each_time() {
    let _alone = run_alone();
    const THREADS: usize = 8;
    let rounds = support::repetitions(20_000, 20) as usize;
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(4));
    let answers = [(); THREADS].map(|()| AtomicUsize::new(0));
    let failed = AtomicBool::new(false);
    let registry = poll.registry().try_clone().unwrap();
    std::thread::scope(|scope| {
        for (token, answer) in answers.iter().enumerate() {
            let (failed, registry) = (&failed, &registry);
            scope.spawn(move || {
                let mut waker = Waker::new(registry, Token(token)).unwrap();
                for round in 1..=rounds {
                    if round % 16 == 0 {
                        waker = Waker::new(registry, Token(token)).unwrap();
                    }
                    waker.wake().unwrap();
                    let deadline = Instant::now() + TIMEOUT;
                    while answer.load(Ordering::Acquire) < round {
                        if Instant::now() > deadline {
                            failed.store(true, Ordering::SeqCst);
                            return;
                        }
                        std::thread::yield_now();
                    }
                }
            });
        }
        while answers.iter().any(|answer| answer.load(Ordering::Relaxed) < rounds) && !failed.load(Ordering::SeqCst) {
            poll.poll(&mut events, Some(TIMEOUT)).unwrap();
            for event in &events {
                answers[event.token().0].fetch_add(1, Ordering::Release);
            }
        }
    });
    assert!(!failed.into_inner(), "a wake was lost: {answers:?}");
    assert_eq!(answers.map(AtomicUsize::into_inner), [rounds; THREADS], "a wake was reported twice");
}
