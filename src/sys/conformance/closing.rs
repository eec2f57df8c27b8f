//! Peers that close, and copies of a source.

use super::*;

pub(crate) fn descriptor_and_its_copy_are_two_registrations<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let copy = a.try_clone().unwrap();
    selector.register_raw(raw_source(&a), 1, READ).unwrap();
    selector.register_raw(raw_source(&copy), 2, READ).unwrap();
    b.write_all(b"x").unwrap();
    let mut reported = BTreeMap::new();
    while reported.len() < 2 {
        let more = selector.select(TIMEOUT);
        assert!(!more.is_empty(), "only {reported:?}");
        reported.extend(more);
    }
    assert_eq!(reported, BTreeMap::from([(1, R), (2, R)]));
    selector.deregister(&a).unwrap();
    assert_eq!(read_all(&a), 1);
    b.write_all(b"x").unwrap();
    selector.expect(2, R);
}

pub(crate) fn closed_peer_is_reported_once<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut selector = TestSelector::<T>::new();
        let (io, b) = pair();
        let registration = selector.inner.register(raw_source(&io), Token(1), BOTH, kind).unwrap();
        let a = RegisteredIo::<T, _> { registration, io };
        selector.expect(1, W);
        drop(b);
        assert!(selector.expect(1, R).has(hint::<T>(RC)));
        selector.select_now();
        if hint::<T>(RC) == NONE {
            // The backend takes a read of 0 bytes as the end of a source. Whether a write fails is unknown.
            if kind == SourceKind::Builtin {
                assert_eq!(a.drain(), (0, true));
                selector.expect_no_events();
            }
            continue;
        }
        for _ in 0..5 {
            assert_eq!(a.drain(), (0, true));
            a.registration.rearm(IoDirection::Read);
            assert!(!WRITE_FAILS_AT_ONCE || a.write(b"x").is_err());
            match kind {
                // The readiness to write of an unobserved source is reported again after some time.
                SourceKind::RawFd => selector.expect_without(1, R | RC),
                _ => selector.expect_no_events(),
            }
        }
    }
}

pub(crate) fn half_closed_peer_is_reported_once<T: Selector>() {
    if T::BACKEND == Backend::Poll && !cfg!(has_pollrdhup) {
        // Without `POLLRDHUP`, only a read of the source detects the end; see `IoSource::read_stream`.
        return;
    }
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let a = selector.register_owned(a, 1, READ);
    b.write_all(b"last").unwrap();
    b.shutdown(Shutdown::Write).unwrap();
    let mut reported = selector.expect(1, R);
    // The end may arrive later than the data.
    while !a.drain().1 {
        reported |= selector.expect(1, R);
    }
    if is_wine() && !reported.has(RC) {
        // See `hint_before_data`.
        selector.expect(1, RC);
    }
    for _ in 0..5 {
        assert_eq!(a.drain(), (0, true));
        a.registration.rearm(IoDirection::Read);
        selector.expect_no_events();
    }
}

conformance_tests! {
    descriptor_and_its_copy_are_two_registrations,
    closed_peer_is_reported_once,
    half_closed_peer_is_reported_once,
}
