//! Trigger modes: level, one-shot, disabled, exclusive.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

pub(crate) fn disabled_registration_reports_nothing<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut selector = TestSelector::<T>::new();
        let (a, mut b) = pair();
        let registration = selector.inner.register(raw_source(&a), Token(1), Interest::NONE, kind).unwrap();
        selector.expect_no_events();
        b.write_all(b"x").unwrap();
        registration.rearm(IoDirection::Read);
        selector.expect_no_events();
        drop(b);
        selector.expect_no_events();
        // The hang-up of a disabled registration does not end the wait.
        let start = Instant::now();
        assert_eq!(selector.select(Duration::from_millis(20)), BTreeMap::new());
        assert!(start.elapsed() >= Duration::from_millis(20));
        selector.inner.reregister(raw_source(&a), Token(2), READ, kind).unwrap();
        selector.expect(2, R | hint_before_data::<T>(RC));
        // Reregistering disables the registration again.
        selector.inner.reregister(raw_source(&a), Token(3), Interest::NONE, kind).unwrap();
        registration.rearm(IoDirection::Read);
        selector.expect_no_events();
        selector.inner.deregister(raw_source(&a), kind).unwrap();
        selector.expect_no_events();
    }
}

pub(crate) fn disabled_registration_counts_as_registered<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let others = system::other_sources();
    for fd in [raw_source(&a), raw_source(&others[0]), raw_source(&others[1])] {
        selector.register_raw(fd, 1, Interest::NONE).unwrap();
        if system::rejects_duplicates::<T>(fd) {
            for interest in [READ, Interest::NONE] {
                assert_eq!(kind(selector.register_raw(fd, 2, interest)), ErrorKind::AlreadyExists, "{interest:?}");
            }
        }
        selector.inner.reregister(fd, Token(3), Interest::NONE, SourceKind::RawFd).unwrap();
        selector.inner.deregister(fd, SourceKind::RawFd).unwrap();
        assert_eq!(kind(selector.inner.deregister(fd, SourceKind::RawFd)), ErrorKind::NotFound);
        assert_eq!(kind(selector.inner.reregister(fd, Token(3), READ, SourceKind::RawFd)), ErrorKind::NotFound);
        let disabled = Interest::NONE;
        assert_eq!(kind(selector.inner.reregister(fd, Token(3), disabled, SourceKind::RawFd)), ErrorKind::NotFound);
    }
    // An armed registration cannot be registered as disabled either.
    selector.register_raw(raw_source(&a), 1, READ).unwrap();
    if system::rejects_duplicates::<T>(raw_source(&a)) {
        assert_eq!(kind(selector.register_raw(raw_source(&a), 2, Interest::NONE)), ErrorKind::AlreadyExists);
        b.write_all(b"x").unwrap();
        selector.expect(1, R);
    }
    for (_file, number) in system::files() {
        assert_eq!(errno(selector.register_raw(number, 1, Interest::NONE)), system::FILE_ERROR);
    }
    assert_eq!(errno(selector.register_raw(system::CLOSED[1], 1, Interest::NONE)), system::CLOSED_ERROR);
}

pub(crate) fn level_is_reported_while_ready<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut selector = TestSelector::<T>::new();
        let (io, mut b) = pair();
        let registration = selector.inner.register(raw_source(&io), Token(1), READ.level(), kind).unwrap();
        let a = RegisteredIo::<T, _> { registration, io };
        selector.expect_no_events();
        b.write_all(b"xy").unwrap();
        selector.expect(1, R);
        for _ in 0..3 {
            assert_eq!(selector.select_now(), BTreeMap::from([(1, R)]));
        }
        assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
        assert_eq!(selector.select_now(), BTreeMap::from([(1, R)]));
        assert_eq!(a.drain(), (1, false));
        selector.expect_no_events();
        drop(b);
        selector.expect(1, R);
        for _ in 0..3 {
            assert!(selector.select_now()[&1].has(R));
        }
    }
    // Writable is level-triggered too.
    let mut selector = TestSelector::<T>::new();
    let (a, b) = pair();
    let a = selector.register_owned(a, 1, WRITE.level());
    for _ in 0..3 {
        assert_eq!(selector.select_now(), BTreeMap::from([(1, W)]));
    }
    a.fill();
    selector.expect_no_events();
    read_all(&b);
    selector.expect(1, W);
}

pub(crate) fn one_shot_is_reported_once_for_each_registering<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut selector = TestSelector::<T>::new();
        let (io, mut b) = pair();
        let fd = raw_source(&io);
        let registration = selector.inner.register(fd, Token(1), READ.oneshot(), kind).unwrap();
        let a = RegisteredIo::<T, _> { registration, io };
        selector.expect_no_events();
        for token in 2..5 {
            b.write_all(b"x").unwrap();
            selector.expect(token - 1, R);
            b.write_all(b"x").unwrap();
            selector.expect_no_events();
            assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
            selector.expect_no_events();
            // One byte is unread; the next registration reports it at once.
            selector.inner.reregister(fd, Token(token), READ.oneshot(), kind).unwrap();
            selector.expect(token, R);
            assert_eq!(a.drain(), (1, false));
            selector.inner.reregister(fd, Token(token), READ.oneshot(), kind).unwrap();
            selector.expect_no_events();
        }
        selector.inner.deregister(fd, kind).unwrap();
        b.write_all(b"x").unwrap();
        selector.expect_no_events();
    }
}

pub(crate) fn one_shot_event_disarms_both_directions<T: Selector>() {
    for capacity in [1, 8] {
        if capacity == 1 && is_known_failure::<T>(Check::BothDirectionsInBufferOfOne) {
            continue;
        }
        let mut selector = TestSelector::<T>::with_capacity(capacity);
        let (a, mut b) = pair();
        fill(&a);
        let a = selector.register_owned(a, 1, BOTH.oneshot());
        selector.expect_no_events();
        // One direction fires, and the other becomes ready afterwards.
        b.write_all(b"x").unwrap();
        assert_eq!(selector.expect(1, R), R);
        read_all(&b);
        selector.expect_no_events();
        // Both directions are ready when the registration is armed.
        selector.reregister(&a.io, 2, BOTH.oneshot()).unwrap();
        let reported = selector.select_now();
        assert_eq!(reported.into_keys().collect::<Vec<_>>(), [2]);
        b.write_all(b"x").unwrap();
        selector.expect_no_events();
        // Reregistering in another mode ends the disarmed state.
        selector.reregister(&a.io, 3, BOTH).unwrap();
        let mut reported = NONE;
        while let Some(more) = selector.select_now().remove(&3) {
            reported |= more;
        }
        assert_eq!(reported, R | W);
    }
}

pub(crate) fn disarmed_one_shot_does_not_report_hang_up<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let a = selector.register_owned(a, 1, READ.oneshot());
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
    drop(b);
    selector.expect_no_events();
    assert_eq!(a.drain(), (1, true));
    selector.expect_no_events();
    selector.reregister(&a.io, 2, READ.oneshot()).unwrap();
    selector.expect(2, R | hint::<T>(RC));
    selector.expect_no_events();
}

pub(crate) fn reregistering_changes_trigger_mode<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    let a = selector.register_owned(a, 1, READ.level());
    let modes = [READ, READ.level(), READ.oneshot(), READ, READ.oneshot(), READ.level(), READ];
    for (interest, token) in modes.into_iter().zip(2..) {
        selector.reregister(&a.io, token, interest).unwrap();
        selector.expect(token, R);
        let again = selector.select_now();
        assert_eq!(again.contains_key(&token), interest.is_level(), "{interest:?}");
    }
    // The last mode is edge, and reports new data.
    assert_eq!(a.drain(), (1, false));
    b.write_all(b"y").unwrap();
    selector.expect(8, R);
}

pub(crate) fn small_buffer_reports_every_level_source<T: Selector>() {
    for capacity in [1, 3] {
        let mut selector = TestSelector::<T>::with_capacity(capacity);
        let mut pairs = Vec::new();
        for token in 0..8 {
            let (a, mut b) = pair();
            b.write_all(b"x").unwrap();
            pairs.push((selector.register_owned(a, token, READ.level()), b));
        }
        let mut seen = BTreeSet::new();
        for _ in 0..8 {
            seen.extend(selector.select_now().into_keys());
        }
        assert_eq!(seen.len(), 8, "only {seen:?}");
    }
}

/// Another thread re-arms while the first thread is blocked: each byte is reported.
pub(crate) fn rearming_one_shot_in_another_thread_loses_no_event<T: Selector>() {
    const BYTES: usize = 2000;
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let fd = raw_source(&a);
    selector.register_raw(fd, 1, BOTH.oneshot()).unwrap();
    let (events, armed) = std::sync::mpsc::channel();
    let read = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (inner, a, read) = (&selector.inner, &a, &read);
        scope.spawn(move || {
            for () in armed {
                read.fetch_add(read_all(a), Ordering::Release);
                inner.reregister(fd, Token(1), READ.oneshot(), SourceKind::RawFd).unwrap();
            }
        });
        scope.spawn(move || {
            for _ in 0..BYTES {
                while b.write_all(b"x").is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let deadline = Instant::now() + TIMEOUT;
        while read.load(Ordering::Acquire) < BYTES {
            assert!(Instant::now() < deadline, "{} bytes were reported", read.load(Ordering::Acquire));
            inner.select(&mut selector.events, 64, Some(Duration::from_millis(20))).unwrap();
            for event in &selector.events {
                assert_eq!(event.token(), Token(1));
                events.send(()).unwrap();
            }
        }
        drop(events);
    });
}

pub(crate) fn exclusive_is_supported_by_epoll_only<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let exclusive = READ.exclusive();
    if T::BACKEND != Backend::Epoll || !cfg!(has_epollexclusive) {
        assert_eq!(kind(selector.register_raw(raw_source(&a), 1, exclusive)), ErrorKind::Unsupported);
        b.write_all(b"x").unwrap();
        selector.expect_no_events();
        selector.register_raw(raw_source(&a), 1, READ).unwrap();
        assert_eq!(kind(selector.reregister(&a, 2, exclusive)), ErrorKind::Unsupported);
        selector.expect(1, R);
        return;
    }
    for rejected in [exclusive.oneshot(), exclusive | Interest::PRIORITY] {
        assert_eq!(kind(selector.register_raw(raw_source(&a), 1, rejected)), ErrorKind::Unsupported, "{rejected:?}");
    }
    for interest in [exclusive, exclusive.level(), READ, exclusive, Interest::NONE, exclusive] {
        let token = 1;
        match selector.reregister(&a, token, interest) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                selector.register_raw(raw_source(&a), token, interest).unwrap()
            }
            result => result.unwrap(),
        }
        selector.expect_no_events();
        b.write_all(b"x").unwrap();
        assert_eq!(selector.select_now().contains_key(&token), !interest.is_none());
        assert_eq!(read_all(&a), 1);
        selector.expect_no_events();
    }
    selector.deregister(&a).unwrap();
    assert_eq!(kind(selector.deregister(&a)), ErrorKind::NotFound);
}

conformance_tests! {
    disabled_registration_reports_nothing,
    disabled_registration_counts_as_registered,
    level_is_reported_while_ready,
    one_shot_is_reported_once_for_each_registering,
    one_shot_event_disarms_both_directions,
    disarmed_one_shot_does_not_report_hang_up,
    reregistering_changes_trigger_mode,
    small_buffer_reports_every_level_source,
    rearming_one_shot_in_another_thread_loses_no_event,
    exclusive_is_supported_by_epoll_only,
}
