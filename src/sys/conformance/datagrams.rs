//! UDP and Unix datagrams.

use super::*;

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Returns a socket that is connected to a closed port.
fn socket_to_closed_port() -> UdpSocket {
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
    for _ in 0..2 {
        socket.send(b"request").unwrap();
        registration.rearm(IoDirection::Write);
        selector.expect(1, R);
        // libkqueue has taken the error; every other backend leaves the error for this read.
        let result = socket.recv(&mut [0; 4]);
        assert!(is_libkqueue::<T>() || kind(result) == ErrorKind::ConnectionRefused);
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
    for _ in 0..3 {
        socket.send(b"request").unwrap();
        registration.rearm(IoDirection::Write);
        selector.expect(1, R);
        let _ = socket.recv(&mut [0; 4]);
        registration.rearm(IoDirection::Read);
    }
}

pub(crate) fn new_datagram_is_reported_while_old_one_is_unread<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = UnixDatagram::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    let registration = selector.register_builtin(&a, 1, READ);
    b.send(b"1").unwrap();
    b.send(b"2").unwrap();
    selector.expect(1, R);
    a.recv(&mut [0; 4]).unwrap();
    registration.rearm(IoDirection::Read);
    b.send(b"3").unwrap();
    selector.expect(1, R);
}

pub(crate) fn full_datagram_queue_reports_writable_after_peer_reads<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = UnixDatagram::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    let registration = selector.register_builtin(&a, 1, WRITE);
    selector.expect(1, W);
    let error = loop {
        let result = a.send(&[0; 1024]);
        registration.rearm(IoDirection::Write);
        match result {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let full = [Some(libc::EAGAIN), Some(libc::ENOBUFS)];
    assert!(full.contains(&error.raw_os_error()), "{error}");
    selector.select_now();
    while b.recv(&mut [0; 1024]).is_ok() {}
    if error.raw_os_error() == Some(libc::EAGAIN) {
        selector.expect(1, W);
    }
    // On the BSDs the queue of the peer is full while the socket stays writable, so that there is no event.
    a.send(b"again").unwrap();
    assert_eq!(b.recv(&mut [0; 1024]).unwrap(), 5);
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

/// Returns a socket with `IP_RECVERR`: an error stays pending until the program reads the error queue. This test never does.
#[cfg(target_os = "linux")]
fn with_error_queue() -> UdpSocket {
    let (socket, on) = (socket_to_closed_port(), 1_i32);
    // SAFETY: the kernel reads one `int`.
    let result = unsafe {
        let size = std::mem::size_of_val(&on) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, (&on as *const i32).cast(), size)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    socket
}

pub(crate) fn unread_error_queue_does_not_spin<T: Selector>() {
    #[cfg(target_os = "linux")]
    for interest in [READ, BOTH] {
        let mut selector = TestSelector::<T>::new();
        let socket = with_error_queue();
        let registration = selector.register_builtin(&socket, 1, interest);
        selector.select_now();
        socket.send(b"request").unwrap();
        registration.rearm(IoDirection::Write);
        // The error is reported in a direction of the registration.
        selector.expect(1, if interest == READ { R } else { W });
        let start = Instant::now();
        let mut events = 0;
        while start.elapsed() < Duration::from_millis(60) {
            // The program reads after each event, and once more at the end.
            match socket.recv(&mut [0; 4]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => registration.rearm_blocked(IoDirection::Read),
                _ => registration.rearm(IoDirection::Read),
            }
            events += selector.select(Duration::from_millis(60)).len();
        }
        // The first read takes the error of the socket, and leaves the error in the queue.
        assert!(events <= 2, "{events} events for one error");
        // The socket works again.
        let peer = UdpSocket::bind(loopback()).unwrap();
        socket.connect(peer.local_addr().unwrap()).unwrap();
        for _ in 0..2 {
            peer.send_to(b"me", socket.local_addr().unwrap()).unwrap();
            selector.expect(1, R);
            while socket.recv(&mut [0; 4]).map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |_| true) {
                registration.rearm(IoDirection::Read);
            }
            registration.rearm_blocked(IoDirection::Read);
            selector.select_now();
        }
    }
}

pub(crate) fn level_triggered_error_is_reported_repeatedly<T: Selector>() {
    #[cfg(target_os = "linux")]
    if T::BACKEND != Backend::Kqueue {
        let mut selector = TestSelector::<T>::new();
        let socket = with_error_queue();
        let _registration = selector.register_builtin(&socket, 1, READ.level());
        socket.send(b"request").unwrap();
        for _ in 0..3 {
            assert_eq!(selector.select_now(), BTreeMap::from([(1, R | W | WC | E)]));
        }
    }
}

conformance_tests! {
    udp_socket_reports_writable_then_readable,
    empty_datagram_reports_readable,
    each_datagram_error_reports_readable_and_socket_recovers,
    new_datagram_is_reported_while_old_one_is_unread,
    full_datagram_queue_reports_writable_after_peer_reads,
    datagram_error_between_two_probes_is_reported,
    datagram_error_is_not_readable_when_writable,
    unread_error_queue_does_not_spin,
    level_triggered_error_is_reported_repeatedly,
}
