//! Edge-triggered registrations: events that are reported, and events that are not.

use super::*;

pub(crate) fn edge_is_reported_once<T: Selector>() {
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

pub(crate) fn new_data_is_reported_while_old_data_is_unread<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let a = selector.register_owned(a, 1, READ);
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
    b.write_all(b"x").unwrap();
    if masks_readiness::<T>() {
        // See the table of differences: poll(2) reports new data after the next operation.
        selector.expect_no_events();
        assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
    }
    selector.expect(1, R);
}

pub(crate) fn short_read_rearms<T: Selector>() {
    for direction in [IoDirection::Read, IoDirection::Unknown] {
        let mut selector = TestSelector::<T>::new();
        let (mut a, mut b) = pair();
        let registration = selector.register_builtin(&a, 1, READ);
        b.write_all(b"xy").unwrap();
        selector.expect(1, R);
        // A short read, which leaves a byte.
        assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
        registration.rearm(direction);
        selector.select_now();
        b.write_all(b"z").unwrap();
        if masks_readiness::<T>() {
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

pub(crate) fn reregistering_reports_readiness_again<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(raw_source(&a), 1, READ).unwrap();
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
    selector.reregister(&a, 1, READ).unwrap();
    selector.expect(1, R);
    selector.reregister(&a, 2, BOTH).unwrap();
    selector.expect(2, R | W);
    selector.reregister(&a, 3, WRITE).unwrap();
    assert_eq!(selector.expect(3, W), W, "readable is not part of the interest");
}

pub(crate) fn full_stream_reports_writable_after_peer_reads<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = pair();
    let a = selector.register_owned(a, 1, WRITE);
    selector.expect(1, W);
    a.fill();
    selector.expect_no_events();
    read_all(&b);
    selector.expect(1, W);
}

pub(crate) fn readable_is_reported_when_interest_is_added_again<T: Selector>() {
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

pub(crate) fn raw_descriptor_reports_each_new_burst<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(raw_source(&a), 1, BOTH).unwrap();
    selector.expect(1, W);
    for probes_between in [true, true, false, false] {
        b.write_all(b"data").unwrap();
        selector.expect(1, R);
        assert_eq!(read_all(&a), 4);
        if probes_between {
            selector.select_now();
        }
    }
}

pub(crate) fn raw_descriptor_left_ready_does_not_spin<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(raw_source(&a), 1, BOTH).unwrap();
    b.write_all(b"unread").unwrap();
    selector.expect(1, R | W);
    let start = Instant::now();
    let mut events = 0;
    while start.elapsed() < Duration::from_millis(60) {
        events += selector.select(Duration::from_millis(60)).len();
    }
    assert!(events <= 1, "{events} events in 60 ms");
}

/// An operation of unknown direction re-arms both directions, and an idle stream does not spin.
pub(crate) fn operation_of_unknown_direction_rearms_without_spinning<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (mut a, mut b) = pair();
    let registration = selector.register_builtin(&a, 1, BOTH);
    // The program reads after each event.
    let start = Instant::now();
    let mut events = 0;
    while start.elapsed() < Duration::from_millis(50) {
        events += selector.select(Duration::from_millis(50)).len();
        assert_eq!(a.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        registration.rearm(IoDirection::Unknown);
    }
    assert!(events <= 2, "{events} events of an idle stream");
    // The program writes until `WouldBlock`, and the peer reads before the next wait.
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

/// accept(2) fails with EMFILE while the process has no free descriptor. The backend probes from time to time, and does not
/// report the pending connection in every wait.
pub(crate) fn accept_emfile_does_not_spin<T: Selector>() {
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
    selector.select_now();
    b.write_all(b"y").unwrap();
    selector.expect(1, R);
}

conformance_tests! {
    edge_is_reported_once,
    new_data_is_reported_while_old_data_is_unread,
    short_read_rearms,
    writing_does_not_rearm_reading,
    reregistering_reports_readiness_again,
    full_stream_reports_writable_after_peer_reads,
    readable_is_reported_when_interest_is_added_again,
    raw_descriptor_reports_each_new_burst,
    raw_descriptor_left_ready_does_not_spin,
    operation_of_unknown_direction_rearms_without_spinning,
    accept_emfile_does_not_spin,
}
