//! Timeouts, interruptions, and buffers that are too small.

use std::collections::BTreeSet;

use super::*;

pub(crate) fn waits_are_not_short<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    for wait in [1, 200_000, 1_000_001, 12_000_000].map(Duration::from_nanos) {
        let start = Instant::now();
        assert!(selector.select(wait).is_empty());
        assert!(start.elapsed() >= wait, "{wait:?}");
    }
}

/// Longer ones are cut by `Poll`; `tests/suite/waits.rs` has them.
pub(crate) fn the_longest_wait_is_one<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let waker = selector.inner.add_waker(Token(1)).unwrap();
    let blocked_thread = BlockedThread::current();
    for wait in [Some(MAX_WAIT), None] {
        std::thread::scope(|scope| {
            let (inner, waker) = (&selector.inner, &waker);
            scope.spawn(move || {
                blocked_thread.wait_until_blocked();
                inner.wake(waker).unwrap();
            });
            selector.inner.select(&mut selector.events, wait).unwrap();
        });
        assert_eq!(selector.events.len(), 1, "{wait:?}");
    }
}

pub(crate) fn a_registration_joins_a_wait<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    let blocked_thread = BlockedThread::current();
    std::thread::scope(|scope| {
        let inner = &selector.inner;
        let fd = a.as_raw_fd();
        scope.spawn(move || {
            blocked_thread.wait_until_blocked();
            inner
                .register(fd, Token(1), READ, SourceKind::RawFd)
                .map(|registration| _ = registration.detach())
                .unwrap();
        });
        selector.inner.select(&mut selector.events, Some(TIMEOUT)).unwrap();
    });
    assert_eq!(selector.events[0].token(), Token(1));
}

pub(crate) fn a_signal_ends_a_wait_and_nothing_else<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    for flags in [0, libc::SA_RESTART] {
        handler::install(libc::SIGURG, handler::do_nothing, flags);
        // SAFETY: no arguments.
        let waiting = unsafe { libc::pthread_self() } as usize;
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let result = std::thread::scope(|scope| {
            scope.spawn(move || {
                // It may not be waiting yet when the first signal arrives.
                while is_done.recv_timeout(Duration::from_millis(1)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    // SAFETY: the thread outlives this one.
                    unsafe { libc::pthread_kill(waiting as libc::pthread_t, libc::SIGURG) };
                }
            });
            let result = selector.inner.select(&mut selector.events, Some(TIMEOUT));
            drop(done);
            result
        });
        assert_eq!(kind(result), ErrorKind::Interrupted);
        b.write_all(b"x").unwrap();
        selector.expect(1, R);
        assert_eq!(read_all(&a), 1);
        selector.expect_without(1, W | RC);
    }
}

pub(crate) fn everything_is_seen_through_a_small_buffer<T: Selector>() {
    for capacity in [1, 3, 7] {
        let mut selector = TestSelector::<T>::with_capacity(capacity);
        let mut pairs = Vec::new();
        for token in 0..20 {
            let (a, b) = pair();
            pairs.push((selector.register_owned(a, token, READ), b));
        }
        for _ in 0..3 {
            for (_, b) in &mut pairs {
                b.write_all(b"x").unwrap();
            }
            let mut seen = BTreeSet::new();
            while seen.len() < pairs.len() {
                let reported = selector.now();
                assert!(!reported.is_empty(), "{capacity}: only {seen:?}");
                for token in reported.into_keys() {
                    assert!(seen.insert(token), "{token} twice");
                }
            }
            for (a, _) in &pairs {
                assert_eq!(a.drain(), (1, false));
            }
        }
    }
}

pub(crate) fn both_directions_through_a_buffer_for_one<T: Selector>() {
    if is_known_failure::<T>(Check::BothDirectionsInBufferOfOne) {
        return;
    }
    let mut selector = TestSelector::<T>::with_capacity(1);
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    let _a = selector.register_owned(a, 1, BOTH);
    let mut reported = NONE;
    for _ in 0..2 {
        reported |= selector.now().remove(&1).unwrap_or_default();
    }
    assert_eq!(reported, R | W);
}

pub(crate) fn the_buffer_holds_no_old_events<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, _b) = pair();
    selector.register_raw(a.as_raw_fd(), 1, WRITE).unwrap();
    selector.expect(1, W);
    selector.deregister(&a).unwrap();
    assert!(!selector.events.is_empty());
    selector.expect_no_events();
    assert!(selector.events.is_empty());
}

/// One source that is always ready again must not hide another behind a buffer for one.
pub(crate) fn nobody_starves<T: Selector>() {
    let mut selector = TestSelector::<T>::with_capacity(1);
    let mut pairs = Vec::new();
    for token in 0..3 {
        let (a, mut b) = pair();
        b.write_all(b"x").unwrap();
        pairs.push((selector.register_owned(a, token, READ), b));
    }
    let mut seen = [false; 3];
    for _ in 0..20 {
        for token in selector.now().into_keys() {
            seen[token] = true;
            pairs[token].0.drain();
            pairs[token].1.write_all(b"x").unwrap();
        }
    }
    assert_eq!(seen, [true; 3]);
}

conformance_tests! {
    waits_are_not_short,
    the_longest_wait_is_one,
    a_registration_joins_a_wait,
    a_signal_ends_a_wait_and_nothing_else,
    everything_is_seen_through_a_small_buffer,
    both_directions_through_a_buffer_for_one,
    the_buffer_holds_no_old_events,
    nobody_starves,
}
