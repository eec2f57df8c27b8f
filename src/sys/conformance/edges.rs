//! What makes an edge, and what does not.

use super::*;

pub(crate) fn reports_an_edge_once<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let a = selector.register_owned(a, 1, READ);
    selector.expect_no_events();
    for _ in 0..3 {
        b.write_all(b"x").unwrap();
        selector.expect(1, R);
        selector.expect_no_events();
        assert_eq!(a.drain(), (1, false));
        selector.expect_no_events();
    }
}

pub(crate) fn more_while_unread<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let a = selector.register_owned(a, 1, READ);
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
    b.write_all(b"x").unwrap();
    if T::BACKEND == Backend::Poll {
        // A row of the table of differences: after the next operation.
        selector.expect_no_events();
        assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
    }
    selector.expect(1, R);
}

pub(crate) fn any_operation_rearms<T: Selector>() {
    for direction in [IoDirection::Read, IoDirection::Unknown] {
        let mut selector = TestSelector::<T>::new();
        let (mut a, mut b) = pair();
        let registration = selector.register_builtin(&a, 1, READ);
        b.write_all(b"xy").unwrap();
        selector.expect(1, R);
        // A short read, and more to come.
        assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
        registration.rearm(direction);
        selector.now();
        b.write_all(b"z").unwrap();
        if T::BACKEND == Backend::Poll {
            registration.rearm(direction);
        }
        selector.expect(1, R);
    }
}

pub(crate) fn writing_does_not_rearm_reading<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let a = selector.register_owned(a, 1, READ);
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
    a.write(b"y").unwrap();
    selector.expect_no_events();
}

pub(crate) fn reregistering_reports_again<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
    selector.reregister(&a, 1, READ).unwrap();
    selector.expect(1, R);
    selector.reregister(&a, 2, BOTH).unwrap();
    selector.expect(2, R | W);
    selector.reregister(&a, 3, WRITE).unwrap();
    assert_eq!(selector.expect(3, W), W, "reading was not asked for");
}

pub(crate) fn a_full_stream_becomes_writable<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = pair();
    let a = selector.register_owned(a, 1, WRITE);
    selector.expect(1, W);
    a.fill();
    selector.expect_no_events();
    read_all(&b);
    selector.expect(1, W);
}

pub(crate) fn an_interest_that_comes_back<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let a = selector.register_owned(a, 1, BOTH);
    selector.expect(1, W);
    selector.reregister(&a.io, 1, WRITE).unwrap();
    b.write_all(b"x").unwrap();
    selector.expect_without(1, R);
    selector.reregister(&a.io, 1, BOTH).unwrap();
    selector.expect(1, R);
}

pub(crate) fn a_bare_descriptor_has_a_second_wave<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(a.as_raw_fd(), 1, BOTH).unwrap();
    selector.expect(1, W);
    for looked in [true, true, false, false] {
        b.write_all(b"wave").unwrap();
        selector.expect(1, R);
        assert_eq!(read_all(&a), 4);
        if looked {
            selector.now();
        }
    }
}

pub(crate) fn a_bare_descriptor_left_ready_does_not_spin<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(a.as_raw_fd(), 1, BOTH).unwrap();
    b.write_all(b"unread").unwrap();
    selector.expect(1, R | W);
    let start = Instant::now();
    let mut events = 0;
    while start.elapsed() < Duration::from_millis(60) {
        events += selector.select(Duration::from_millis(60)).len();
    }
    assert!(events <= 1, "{events} events in 60 ms");
}

/// What may have been read or written re-arms both, and keeps nobody busy.
pub(crate) fn operations_of_either_direction<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (mut a, mut b) = pair();
    let registration = selector.register_builtin(&a, 1, BOTH);
    // A program that tries to read on each event.
    let start = Instant::now();
    let mut events = 0;
    while start.elapsed() < Duration::from_millis(50) {
        events += selector.select(Duration::from_millis(50)).len();
        assert_eq!(a.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        registration.rearm(IoDirection::Unknown);
    }
    assert!(events <= 2, "{events} events of an idle stream");
    // One that writes until there is no room, and is read before anybody looks.
    for _ in 0..2 {
        while a.write(&[0; 4096]).is_ok() {
            registration.rearm(IoDirection::Unknown);
        }
        registration.rearm(IoDirection::Unknown);
        read_all(&b);
        selector.expect(1, W);
    }
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
}

/// accept(2) without descriptors fails again and again, and is asked again from time to time, not all the time.
pub(crate) fn a_shortage_is_no_reason_to_spin<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let a = selector.register_owned(a, 1, READ);
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
    let start = Instant::now();
    let mut events = 0;
    while start.elapsed() < Duration::from_millis(50) {
        a.registration.probe_instead();
        events += selector.select(Duration::from_millis(50)).len();
    }
    assert!(events <= 1, "{events} events");
    assert_eq!(a.drain(), (1, false));
    selector.now();
    b.write_all(b"y").unwrap();
    selector.expect(1, R);
}

conformance_tests! {
    reports_an_edge_once,
    more_while_unread,
    any_operation_rearms,
    writing_does_not_rearm_reading,
    reregistering_reports_again,
    a_full_stream_becomes_writable,
    an_interest_that_comes_back,
    a_bare_descriptor_has_a_second_wave,
    a_bare_descriptor_left_ready_does_not_spin,
    operations_of_either_direction,
    a_shortage_is_no_reason_to_spin,
}
