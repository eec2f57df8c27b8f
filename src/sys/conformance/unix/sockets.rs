//! Unix sockets, and the error queue of UDP.

#[cfg(target_os = "linux")]
use crate::sys::conformance::datagrams::socket_to_closed_port;

use super::*;

pub(crate) fn unix_listener_reports_a_client<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let _registration = selector.register_builtin(&listener, 1, READ);
    selector.expect_no_events();
    let client = UnixStream::connect(&path).unwrap();
    selector.expect(1, R);
    // A client can write before the listener accepts the connection.
    let _client = selector.register_owned(client, 2, WRITE);
    selector.expect(2, W);
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
    unix_listener_reports_a_client,
    new_datagram_is_reported_while_old_one_is_unread,
    full_datagram_queue_reports_writable_after_peer_reads,
    unread_error_queue_does_not_spin,
    level_triggered_error_is_reported_repeatedly,
}
