//! Wakers: a wake is never lost and never reported twice.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kevio::{Token, Waker};

use crate::support::blocked_thread::BlockedThread;
use crate::support::poll::{TestPoll, READ};
use crate::support::readiness::R;
use crate::support::streams::kevio_pair;

fn waker(poll: &TestPoll, token: usize) -> Waker {
    Waker::new(poll.registry(), Token(token)).unwrap()
}

#[test]
fn wake_before_the_poll_is_reported() {
    let mut poll = TestPoll::new();
    let waker = waker(&poll, 1);
    waker.wake().unwrap();
    assert_eq!(poll.poll_once(None)[&1], R);
}

#[test]
fn thousand_wakes_are_coalesced() {
    let mut poll = TestPoll::new();
    let waker = waker(&poll, 1);
    for _ in 0..3 {
        for _ in 0..1000 {
            waker.wake().unwrap();
        }
        poll.expect(1, R);
        assert_eq!(poll.events.len(), 1);
        for _ in 0..100 {
            assert!(poll.poll_once(Some(Duration::ZERO)).is_empty());
        }
    }
}

#[test]
fn wake_of_another_thread_ends_a_blocked_wait() {
    let mut poll = TestPoll::new();
    let waker = waker(&poll, usize::MAX);
    let blocked_thread = BlockedThread::current();
    let thread = thread::spawn(move || {
        blocked_thread.wait_until_blocked();
        waker.wake().unwrap();
        waker
    });
    poll.expect(usize::MAX, R);
    thread.join().unwrap();
    poll.expect_no_events();
}

#[test]
fn each_waker_reports_its_own_token() {
    let mut poll = TestPoll::new();
    let wakers: Vec<_> = (0..10).map(|token| waker(&poll, token)).collect();
    wakers[3].wake().unwrap();
    poll.expect(3, R);
    for waker in &wakers {
        waker.wake().unwrap();
    }
    poll.expect_all(&(0..10).map(|token| (token, R)).collect::<Vec<_>>());
    poll.expect_no_events();
    // The same through another handle.
    let clone = poll.registry().try_clone().unwrap();
    let more = Waker::new(&clone, Token(10)).unwrap();
    more.wake().unwrap();
    poll.expect(10, R);
}

#[test]
fn two_wakers_with_one_token_report_independently() {
    let mut poll = TestPoll::new();
    let (first, second) = (waker(&poll, 1), waker(&poll, 1));
    first.wake().unwrap();
    poll.expect(1, R);
    drop(first);
    second.wake().unwrap();
    poll.expect(1, R);
}

#[test]
fn small_buffer_reports_every_waker() {
    let mut poll = TestPoll::with_capacity(1);
    let wakers: Vec<_> = (0..5).map(|token| waker(&poll, token)).collect();
    for waker in &wakers {
        waker.wake().unwrap();
    }
    poll.expect_all(&(0..5).map(|token| (token, R)).collect::<Vec<_>>());
    poll.expect_no_events();
}

#[test]
fn wakes_do_not_starve_sources() {
    use std::io::Write;
    let mut poll = TestPoll::with_capacity(1);
    let waker = waker(&poll, 1);
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 2, READ);
    b.write_all(b"x").unwrap();
    let reported = poll.until(
        |reported| {
            waker.wake().unwrap();
            reported.contains_key(&2)
        },
        || "the source".to_owned(),
    );
    assert!(reported[&2].has(R));
}

#[test]
fn dropped_waker_reports_nothing() {
    let mut poll = TestPoll::new();
    let woken = waker(&poll, 1);
    woken.wake().unwrap();
    drop(woken);
    poll.expect_no_events();
    // The token can be used again.
    let again = waker(&poll, 1);
    again.wake().unwrap();
    poll.expect(1, R);
}

#[test]
fn waker_survives_drop_of_poll() {
    let poll = TestPoll::new();
    let waker = waker(&poll, 1);
    drop(poll);
    waker.wake().unwrap();
    // The wake had no effect.
    let text = format!("{waker:?}");
    assert!(text.starts_with("Waker { token: Token(1), poll: ") && text.ends_with("is_woken: false }"), "{text}");
}

/// A waker does not keep the registrations of its poll.
#[test]
fn sources_of_a_dropped_poll_register_with_another_while_a_waker_is_kept() {
    use std::io::Write;
    let poll = TestPoll::new();
    let waker = waker(&poll, 1);
    let (mut a, mut b) = kevio_pair();
    let mut timer = kevio::Timer::new().unwrap();
    poll.register(&mut a, 2, READ);
    poll.register(&mut timer, 3, READ);
    drop(poll);
    let mut other = TestPoll::new();
    other.register(&mut a, 4, READ);
    other.register(&mut timer, 5, READ);
    timer.set_after(Duration::ZERO).unwrap();
    b.write_all(b"x").unwrap();
    other.expect_all(&[(4, R), (5, R)]);
    waker.wake().unwrap();
    other.expect_no_events();
    other.deregister(&mut a);
    other.deregister(&mut timer);
}

/// Each thread increments a counter and wakes. The poll thread takes the counter after each wake, and must take all in the
/// end, because the last wake follows the last increment.
#[test]
fn wakes_of_sixteen_threads_publish_their_writes() {
    const THREADS: usize = 16;
    const EACH: usize = 2000;
    let mut poll = TestPoll::new();
    let waker = Arc::new(waker(&poll, 1));
    let counter = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (waker, counter) = (Arc::clone(&waker), Arc::clone(&counter));
            thread::spawn(move || {
                for _ in 0..EACH {
                    counter.fetch_add(1, Ordering::Relaxed);
                    waker.wake().unwrap();
                }
            })
        })
        .collect();
    let mut taken = 0;
    while taken < THREADS * EACH {
        poll.expect(1, R);
        taken += counter.swap(0, Ordering::Relaxed);
    }
    for thread in threads {
        thread.join().unwrap();
    }
}

/// The same with one waker for each thread, so that the flags of several wakers are cleared together.
#[test]
fn wakes_of_eight_wakers_publish_their_writes() {
    const EACH: usize = 3000;
    let mut poll = TestPoll::new();
    let counters: Vec<_> = (0..8).map(|_| Arc::new(AtomicUsize::new(0))).collect();
    let threads: Vec<_> = counters
        .iter()
        .enumerate()
        .map(|(token, counter)| {
            let (waker, counter) = (waker(&poll, token), Arc::clone(counter));
            thread::spawn(move || {
                for _ in 0..EACH {
                    counter.fetch_add(1, Ordering::Relaxed);
                    waker.wake().unwrap();
                }
                waker
            })
        })
        .collect();
    let mut taken = [0; 8];
    while taken != [EACH; 8] {
        for (token, reported) in poll.until(|reported| !reported.is_empty(), || format!("more than {taken:?}")) {
            assert_eq!(reported, R);
            taken[token] += counters[token].swap(0, Ordering::Relaxed);
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
}
