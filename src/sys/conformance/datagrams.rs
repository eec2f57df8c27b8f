//! UDP.

use super::*;

pub(super) fn socket() -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Returns a socket that is connected to a closed port.
pub(super) fn socket_to_closed_port() -> UdpSocket {
    let socket = socket();
    let gone = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    socket.connect(gone).unwrap();
    socket
}

pub(crate) fn udp_socket_reports_writable_then_readable<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = (socket(), socket());
    let _registration = selector.register_builtin(&a, 1, BOTH);
    selector.expect(1, W);
    b.send_to(b"x", a.local_addr().unwrap()).unwrap();
    selector.expect(1, R);
}

pub(crate) fn empty_datagram_reports_readable<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = (socket(), socket());
    let _registration = selector.register_builtin(&a, 1, READ);
    b.send_to(b"", a.local_addr().unwrap()).unwrap();
    selector.expect(1, R);
    assert_eq!(a.recv(&mut [0; 4]).unwrap(), 0);
}

pub(crate) fn each_datagram_error_reports_readable_and_socket_recovers<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let socket = socket_to_closed_port();
    let registration = selector.register_builtin(&socket, 1, READ);
    if is_wine() {
        // wine takes the error, and polls the socket no more (`aborted` in `sock_poll_event` of server/sock.c).
        socket.send(b"request").unwrap();
        registration.rearm(IoDirection::Write);
        selector.expect_no_events();
        assert_eq!(kind(socket.recv(&mut [0; 4])), ErrorKind::WouldBlock);
        return;
    }
    for _ in 0..2 {
        socket.send(b"request").unwrap();
        registration.rearm(IoDirection::Write);
        selector.expect(1, R);
        // libkqueue has taken the error; every other backend leaves the error for this read.
        let result = socket.recv(&mut [0; 4]);
        assert!(is_libkqueue::<T>() || kind(result) == system::DATAGRAM_ERROR);
        registration.rearm(IoDirection::Read);
        selector.select_now();
    }
    let peer = UdpSocket::bind(loopback()).unwrap();
    socket.connect(peer.local_addr().unwrap()).unwrap();
    peer.send_to(b"me", socket.local_addr().unwrap()).unwrap();
    selector.expect(1, R);
    assert_eq!(socket.recv(&mut [0; 4]).unwrap(), 2);
}

pub(crate) fn datagram_error_between_two_probes_is_reported<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let socket = socket_to_closed_port();
    let registration = selector.register_builtin(&socket, 1, READ);
    if is_wine() {
        // wine takes the error, and polls the socket no more (`aborted` in `sock_poll_event` of server/sock.c).
        socket.send(b"request").unwrap();
        registration.rearm(IoDirection::Write);
        selector.expect_no_events();
        assert_eq!(kind(socket.recv(&mut [0; 4])), ErrorKind::WouldBlock);
        return;
    }
    for _ in 0..3 {
        socket.send(b"request").unwrap();
        registration.rearm(IoDirection::Write);
        selector.expect(1, R);
        let _ = socket.recv(&mut [0; 4]);
        registration.rearm(IoDirection::Read);
    }
}

/// An ICMP error of a socket that is registered for both directions. epoll and mio report the socket as writable only. quinn
/// expects a datagram of a readable socket, and closes its endpoint when the read fails.
pub(crate) fn datagram_error_is_not_readable_when_writable<T: Selector>() {
    if T::BACKEND == Backend::Kqueue || !cfg!(target_os = "linux") {
        // Both filters of a kqueue fire, and poll(2) of other systems has no such bit.
        return;
    }
    for interest in [BOTH, BOTH.level(), BOTH.oneshot()] {
        for is_observed in [true, false] {
            let mut selector = TestSelector::<T>::new();
            let socket = socket_to_closed_port();
            let registration =
                selector.register_builtin(&socket, 1, if interest.is_oneshot() { READ } else { interest });
            selector.select_now();
            socket.send(b"request").unwrap();
            if is_observed {
                registration.rearm(IoDirection::Write);
            }
            if interest.is_oneshot() {
                selector.reregister(&socket, 1, interest).unwrap();
            }
            let reported = selector.expect(1, E);
            assert_eq!(reported, W | WC | E, "{interest:?}, observed: {is_observed}");
            // Each direction alone.
            selector.reregister(&socket, 2, READ).unwrap();
            selector.expect(2, R | E);
            selector.reregister(&socket, 3, WRITE).unwrap();
            assert_eq!(selector.expect(3, W | E), W | WC | E);
        }
    }
}

conformance_tests! {
    udp_socket_reports_writable_then_readable,
    empty_datagram_reports_readable,
    each_datagram_error_reports_readable_and_socket_recovers,
    datagram_error_between_two_probes_is_reported,
    datagram_error_is_not_readable_when_writable,
}
