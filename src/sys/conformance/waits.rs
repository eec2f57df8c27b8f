//! Timeouts, and buffers that are too small.

use std::collections::BTreeSet;

use super::*;

pub(crate) fn wait_lasts_at_least_its_timeout<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    for wait in [1, 200_000, 1_000_001, 12_000_000].map(Duration::from_nanos) {
        let start = Instant::now();
        assert!(selector.select(wait).is_empty());
        assert!(start.elapsed() >= wait, "{wait:?}");
    }
}

/// `Poll` splits longer timeouts; see `tests/suite/waits.rs`.
pub(crate) fn max_timeout_and_none_block_until_notified<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    selector.inner.create_notifier().unwrap();
    let blocked_thread = BlockedThread::current();
    for wait in [Some(MAX_WAIT), None] {
        std::thread::scope(|scope| {
            let inner = &selector.inner;
            scope.spawn(move || {
                blocked_thread.wait_until_blocked();
                inner.notify().unwrap();
            });
            selector.inner.select(&mut selector.events, 64, wait).unwrap();
        });
        assert!(selector.inner.take_internal(&mut selector.events).is_notified, "{wait:?}");
    }
}

pub(crate) fn registration_takes_effect_in_a_blocked_wait<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    let blocked_thread = BlockedThread::current();
    std::thread::scope(|scope| {
        let inner = &selector.inner;
        let fd = raw_source(&a);
        scope.spawn(move || {
            blocked_thread.wait_until_blocked();
            inner
                .register(fd, Token(1), READ, SourceKind::RawFd)
                .map(|registration| _ = registration.detach())
                .unwrap();
        });
        selector.inner.select(&mut selector.events, 64, Some(TIMEOUT)).unwrap();
    });
    assert_eq!(selector.events[0].token(), Token(1));
}

pub(crate) fn small_buffer_reports_every_edge_once<T: Selector>() {
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
                let reported = selector.select(TIMEOUT);
                assert!(!reported.is_empty(), "capacity {capacity}: reported only {seen:?}");
                for token in reported.into_keys() {
                    assert!(seen.insert(token), "{token} was reported twice");
                }
            }
            for (a, _) in &pairs {
                assert_eq!(a.drain(), (1, false));
            }
        }
    }
}

pub(crate) fn buffer_for_one_reports_both_directions<T: Selector>() {
    if is_known_failure::<T>(Check::BothDirectionsInBufferOfOne) {
        return;
    }
    let mut selector = TestSelector::<T>::with_capacity(1);
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    let _a = selector.register_owned(a, 1, BOTH);
    let mut reported = NONE;
    for _ in 0..2 {
        reported |= selector.select_now().remove(&1).unwrap_or_default();
    }
    assert_eq!(reported, R | W);
}

pub(crate) fn wait_without_events_clears_the_buffer<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, _b) = pair();
    selector.register_raw(raw_source(&a), 1, WRITE).unwrap();
    selector.expect(1, W);
    selector.deregister(&a).unwrap();
    assert!(!selector.events.is_empty());
    selector.expect_no_events();
    assert!(selector.events.is_empty());
}

/// With a buffer for one event, a source that is always ready does not prevent the events of others.
pub(crate) fn small_buffer_serves_every_source<T: Selector>() {
    let mut selector = TestSelector::<T>::with_capacity(1);
    let mut pairs = Vec::new();
    for token in 0..3 {
        let (a, mut b) = pair();
        b.write_all(b"x").unwrap();
        pairs.push((selector.register_owned(a, token, READ), b));
    }
    let mut seen = [false; 3];
    for _ in 0..20 {
        for token in selector.select(TIMEOUT).into_keys() {
            seen[token] = true;
            pairs[token].0.drain();
            pairs[token].1.write_all(b"x").unwrap();
        }
    }
    assert_eq!(seen, [true; 3]);
}

conformance_tests! {
    wait_lasts_at_least_its_timeout,
    max_timeout_and_none_block_until_notified,
    registration_takes_effect_in_a_blocked_wait,
    small_buffer_reports_every_edge_once,
    buffer_for_one_reports_both_directions,
    wait_without_events_clears_the_buffer,
    small_buffer_serves_every_source,
}
