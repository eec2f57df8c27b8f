//! Registering, reregistering, deregistering.

use super::*;

pub(crate) fn new_selector_reports_no_events<T: Selector>() {
    TestSelector::<T>::new().expect_no_events();
}

pub(crate) fn double_registration_fails_and_unknown_fd_is_not_found<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    assert_eq!(kind(selector.reregister(&a, 1, BOTH)), ErrorKind::NotFound);
    assert_eq!(kind(selector.deregister(&a)), ErrorKind::NotFound);
    b.write_all(b"x").unwrap();
    selector.expect_no_events();
    selector.register_raw(raw_source(&a), 1, READ).unwrap();
    let again = selector.register_raw(raw_source(&a), 2, READ);
    if T::BACKEND == Backend::Kqueue {
        // kevent(2) replaces the registration. A source that is registered is rejected before the backend is called.
        again.unwrap();
        selector.expect(2, R);
    } else {
        assert_eq!(kind(again), ErrorKind::AlreadyExists);
        selector.expect(1, R);
    }
    selector.deregister(&a).unwrap();
    assert_eq!(kind(selector.deregister(&a)), ErrorKind::NotFound);
    assert_eq!(kind(selector.reregister(&a, 1, BOTH)), ErrorKind::NotFound);
    selector.expect_no_events();
}

pub(crate) fn unsupported_interests_and_files_are_rejected<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    for interest in [Interest::AIO, Interest::LIO, READ | Interest::LIO] {
        assert_eq!(kind(selector.register_raw(raw_source(&a), 1, interest)), ErrorKind::Unsupported);
    }
    for (number, interest) in system::CLOSED.into_iter().zip([READ, BOTH]) {
        assert_eq!(errno(selector.register_raw(number, 1, interest)), system::CLOSED_ERROR);
    }
    for (_file, number) in system::files() {
        assert_eq!(errno(selector.register_raw(number, 1, READ)), system::FILE_ERROR);
        if cfg!(windows) {
            continue; // Only a raw number can be that of a file: `AsSocket` is a socket.
        }
        let owned = selector
            .inner
            .register(number, Token(1), WRITE, SourceKind::Owned)
            .map(|registration| _ = registration.detach());
        assert_eq!(errno(owned), system::FILE_ERROR);
    }
    b.write_all(b"x").unwrap();
    selector.expect_no_events();
}

pub(crate) fn failed_reregistration_keeps_the_registration<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(raw_source(&a), 1, READ).unwrap();
    assert_eq!(kind(selector.reregister(&a, 2, Interest::AIO)), ErrorKind::Unsupported);
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
}

pub(crate) fn failed_registration_leaves_fd_unregistered<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    assert_eq!(kind(selector.register_raw(raw_source(&a), 1, BOTH | Interest::AIO)), ErrorKind::Unsupported);
    b.write_all(b"x").unwrap();
    selector.expect_no_events();
    // Neither direction was registered, so that registering both succeeds now.
    assert_eq!(kind(selector.deregister(&a)), ErrorKind::NotFound);
    selector.register_raw(raw_source(&a), 2, BOTH).unwrap();
    selector.expect(2, R | W);
}

pub(crate) fn reregistering_for_writing_stops_readable_events<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(raw_source(&a), 1, READ).unwrap();
    selector.reregister(&a, 1, WRITE).unwrap();
    selector.expect(1, W);
    b.write_all(b"x").unwrap();
    selector.expect_without(1, R);
}

pub(crate) fn reregistering_replaces_the_token<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    selector.register_raw(raw_source(&a), 1, READ).unwrap();
    selector.reregister(&a, 2, READ).unwrap();
    selector.expect(2, R);
    assert_eq!(read_all(&a), 1);
    selector.expect_no_events();
    b.write_all(b"x").unwrap();
    selector.expect(2, R);
}

pub(crate) fn deregistering_removes_pending_events<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    selector.register_raw(raw_source(&a), 1, BOTH).unwrap();
    selector.deregister(&a).unwrap();
    selector.expect_no_events();
    b.write_all(b"x").unwrap();
    selector.expect_no_events();
}

pub(crate) fn any_token_value_is_reported_unchanged<T: Selector>() {
    for token in [0, 1, usize::MAX] {
        let mut selector = TestSelector::<T>::new();
        let (a, _b) = pair();
        selector.register_raw(raw_source(&a), token, WRITE).unwrap();
        selector.expect(token, W);
    }
}

pub(crate) fn dropped_registration_frees_fd_for_registering<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, _keep) = pair();
    for token in 0..3 {
        let registration = selector.register_builtin(&a, token, WRITE);
        selector.expect(token, W);
        if T::BACKEND != Backend::Poll {
            // On epoll and kqueue the registration value has no effect; closing the descriptor ends the registration.
            selector.deregister(&a).unwrap();
        }
        drop(registration);
        selector.expect_no_events();
    }
}

pub(crate) fn detached_registration_keeps_reporting<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_builtin(&a, 1, READ).detach();
    for _ in 0..2 {
        b.write_all(b"data").unwrap();
        selector.expect(1, R);
        assert_eq!(read_all(&a), 4);
    }
}

pub(crate) fn detaching_during_a_blocked_wait_loses_no_event<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let registration = selector.register_builtin(&a, 1, READ);
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
    let blocked_thread = BlockedThread::current();
    std::thread::scope(|scope| {
        let (a, b) = (&a, &mut b);
        scope.spawn(move || {
            blocked_thread.wait_until_blocked();
            let _ = registration.detach();
            assert_eq!(read_all(a), 1);
            b.write_all(b"y").unwrap();
        });
        selector.inner.select(&mut selector.events, 64, Some(TIMEOUT)).unwrap();
    });
    assert_eq!(selector.events.len(), 1);
}

conformance_tests! {
    new_selector_reports_no_events,
    double_registration_fails_and_unknown_fd_is_not_found,
    unsupported_interests_and_files_are_rejected,
    failed_reregistration_keeps_the_registration,
    failed_registration_leaves_fd_unregistered,
    reregistering_for_writing_stops_readable_events,
    reregistering_replaces_the_token,
    deregistering_removes_pending_events,
    any_token_value_is_reported_unchanged,
    dropped_registration_frees_fd_for_registering,
    detached_registration_keeps_reporting,
    detaching_during_a_blocked_wait_loses_no_event,
}
