//! TCP streams and listeners, and the streams of [`pair`] where they behave alike.

use socket2::SockRef;

use super::*;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(loopback()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Starts to connect, which may take a while. Returns `true` if the connection was refused at once, as FreeBSD does on the
/// loopback.
fn connect(socket: &Socket, to: SocketAddr) -> bool {
    let Err(error) = socket.connect(&to.into()) else { return false };
    let is_refused = error.kind() == ErrorKind::ConnectionRefused;
    assert!(is_refused || error.raw_os_error() == Some(system::CONNECT_ERROR), "{error}");
    is_refused
}

/// Returns the address of a port that has no listener.
fn closed_port() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&loopback().into()).unwrap();
    socket.local_addr().unwrap().as_socket().unwrap()
}

pub(crate) fn listener_reports_a_client<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (listener, address) = listener();
    let _registration = selector.register_builtin(&listener, 1, READ);
    selector.expect_no_events();
    let client = TcpStream::connect(address).unwrap();
    selector.expect(1, R);
    // A client can write before the listener accepts the connection.
    let _client = selector.register_owned(client, 2, WRITE);
    selector.expect(2, W);
}

pub(crate) fn second_connection_is_reported_after_accepting_the_first<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (listener, address) = listener();
    let registration = selector.register_builtin(&listener, 1, READ);
    let _clients = [TcpStream::connect(address).unwrap(), TcpStream::connect(address).unwrap()];
    selector.expect(1, R);
    listener.accept().unwrap();
    registration.rearm(IoDirection::Read);
    selector.reregister(&listener, 2, READ).unwrap();
    // An event with the first token may have come before; the second connection may come after connect(2) has returned.
    let deadline = Instant::now() + TIMEOUT;
    while !selector.select(Duration::from_millis(100)).contains_key(&2) {
        assert!(Instant::now() < deadline, "the second connection is not reported");
    }
    listener.accept().unwrap();
    assert_eq!(kind(listener.accept()), ErrorKind::WouldBlock);
}

pub(crate) fn connect_reports_writable<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (_listener, address) = listener();
    let socket = tcp_socket();
    connect(&socket, address);
    let _registration = selector.register_builtin(&socket, 1, WRITE);
    selector.expect(1, W);
    assert!(socket.take_error().unwrap().is_none());
    assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(address));
}

pub(crate) fn refused_connect_reports_writable_and_keeps_its_error<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let socket = tcp_socket();
    let is_refused_at_once = connect(&socket, closed_port());
    let _registration = selector.register_builtin(&socket, 1, WRITE);
    let reported = selector.expect(1, W);
    if is_libkqueue::<T>() {
        // libkqueue takes the error from the program, to fill in `fflags`.
        return;
    }
    assert!(reported.has_any(E | WC) || hint::<T>(WC) == NONE, "{reported:?}");
    // connect(2) has returned the error, or it is pending.
    let error = socket.take_error().unwrap().map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::ConnectionRefused).filter(|_| !is_refused_at_once));
}

pub(crate) fn received_data_reports_readable_once<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = tcp_pair();
    let a = selector.register_owned(a, 1, READ);
    selector.expect_no_events();
    b.write_all(b"data").unwrap();
    selector.expect(1, R);
    assert_eq!(a.drain(), (4, false));
    selector.expect_no_events();
}

pub(crate) fn write_shutdown_of_peer_reports_read_closed<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = tcp_pair();
    let a = selector.register_owned(a, 1, READ);
    b.shutdown(Shutdown::Write).unwrap();
    selector.expect(1, R | if reports_half_close::<T>() { RC } else { NONE });
    assert_eq!(a.drain(), (0, true));
    assert_eq!(a.write(b"yet").unwrap(), 3);
    let _b = selector.register_builtin(&b, 2, READ);
    selector.expect(2, R);
    assert_eq!(b.read(&mut [0; 8]).unwrap(), 3);
}

/// Returns `true` if the backend reports a half-closed stream. poll(2) without `POLLRDHUP` does not; a read detects the end.
fn reports_half_close<T: Selector>() -> bool {
    T::BACKEND != Backend::Poll || cfg!(has_pollrdhup)
}

pub(crate) fn end_of_file_is_reported_after_data<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = tcp_pair();
    let a = selector.register_owned(a, 1, READ);
    let message = [7; 100_000];
    let writer = std::thread::spawn(move || {
        b.set_nonblocking(false).unwrap();
        b.write_all(&message).unwrap();
        b.shutdown(Shutdown::Write).unwrap();
        b
    });
    let (mut total, mut end, mut all) = (0, false, NONE);
    while !end {
        all |= selector.expect(1, R);
        let (read, is_at_end) = a.drain();
        (total, end) = (total + read, is_at_end);
    }
    assert_eq!(total, message.len());
    if reports_half_close::<T>() && !all.has(RC) {
        // The end was read before the next wait.
        selector.expect(1, RC);
    }
    drop(writer.join().unwrap());
}

pub(crate) fn closed_peer_reports_read_closed<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = tcp_pair();
    let a = selector.register_owned(a, 1, READ);
    drop(b);
    selector.expect(1, R | if reports_half_close::<T>() { RC } else { NONE });
    assert_eq!(a.drain(), (0, true));

    let (c, d) = pair();
    let c = selector.register_owned(c, 2, READ);
    drop(d);
    selector.expect(2, R | hint::<T>(RC));
    assert_eq!(c.drain(), (0, true));
    assert!(!WRITE_FAILS_AT_ONCE || kind(c.write(b"x")) == ErrorKind::BrokenPipe);
}

pub(crate) fn reset_reports_readable_and_keeps_its_error<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = tcp_pair();
    let a = selector.register_owned(a, 1, READ);
    reset_on_close(&b);
    drop(b);
    let reported = selector.expect(1, R);
    assert!(reported.has_any(E | RC) || hint::<T>(RC) == NONE, "{reported:?}");
    let result = a.read(&mut [0; 8]);
    assert!(takes_errors::<T>() || kind(result) == ErrorKind::ConnectionReset);
    // The read has taken the error; the stream stays closed.
    selector.reregister(&a.io, 2, READ).unwrap();
    selector.select_now();
    selector.reregister(&a.io, 3, READ).unwrap();
    selector.expect(3, R | hint::<T>(RC));
    assert!(a.io.take_error().unwrap().is_none());
}

pub(crate) fn peer_that_closes_with_unread_data_reports_readable<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = tcp_pair();
    let a = selector.register_owned(a, 1, READ);
    assert_eq!(a.write(b"this is not read!").unwrap(), 17);
    let mut byte = [0];
    // The data has to arrive before the reader closes.
    let _ = SockRef::from(&b).set_nonblocking(false);
    assert_eq!(b.peek(&mut byte).unwrap(), 1);
    drop(b);
    let reported = selector.expect(1, R);
    assert!(reported.has_any(E | RC) || hint::<T>(RC) == NONE, "{reported:?}");
    match a.read(&mut [0; 8]) {
        // The BSDs send FIN first, and reset the connection when the other side writes again.
        Ok(n) => assert!(n == 0 && (!cfg!(target_os = "linux") || is_libkqueue::<T>())),
        Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
    }
}

pub(crate) fn write_shutdown_of_both_reports_end_of_file<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = tcp_pair();
    a.shutdown(Shutdown::Write).unwrap();
    b.shutdown(Shutdown::Write).unwrap();
    let a = selector.register_owned(a, 1, READ);
    selector.expect(1, R | hint::<T>(RC));
    assert_eq!(a.drain(), (0, true));
}

pub(crate) fn read_shutdown_is_no_error_and_keeps_writing<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let a = selector.register_owned(a, 1, BOTH);
    selector.expect(1, W);
    a.io.shutdown(Shutdown::Read).unwrap();
    selector.expect_without(1, E);
    assert_eq!(a.drain(), (0, true));
    // The other direction still works.
    assert_eq!(a.write(b"out").unwrap(), 3);
    assert_eq!(b.read(&mut [0; 8]).unwrap(), 3);
}

pub(crate) fn full_tcp_stream_reports_writable_after_peer_reads<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = tcp_pair();
    let a = selector.register_owned(a, 1, WRITE);
    selector.expect(1, W);
    // The kernel may send data to the peer meanwhile, so that one pass may not fill the stream.
    while {
        a.fill();
        !selector.select(Duration::from_millis(50)).is_empty()
    } {}
    let reader = std::thread::spawn(move || {
        let mut total = 0;
        b.set_nonblocking(false).unwrap();
        while let Ok(n @ 1..) = (&b).read(&mut [0; 64 * 1024]) {
            total += n;
        }
        total
    });
    selector.expect(1, W);
    drop(a);
    assert!(reader.join().unwrap() > 0);
}

pub(crate) fn urgent_data_reports_priority<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = tcp_pair();
    if T::BACKEND == Backend::Kqueue && !cfg!(has_evfilt_except) {
        assert_eq!(kind(selector.register_raw(raw_source(&a), 1, READ | Interest::PRIORITY)), ErrorKind::Unsupported);
        b.write_all(b"x").unwrap();
        return selector.expect_no_events();
    }
    let a = selector.register_owned(a, 1, READ | Interest::PRIORITY);
    b.write_all(b"ordinary").unwrap();
    assert!(!selector.expect(1, R).has(P));
    assert_eq!(a.drain(), (8, false));
    selector.select_now();
    assert_eq!(SockRef::from(&b).send_out_of_band(b"!").unwrap(), 1);
    selector.expect(1, P);
}

pub(crate) fn socket_registered_before_connect_reports_writable<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (_listener, address) = listener();
    let socket = tcp_socket();
    let registration = selector.register_builtin(&socket, 1, BOTH);
    // See the table of differences: some systems report the socket as closed.
    selector.select_now();
    connect(&socket, address);
    registration.rearm(IoDirection::Unknown);
    let deadline = Instant::now() + TIMEOUT;
    while !(selector.select(Duration::from_millis(100)).get(&1).is_some_and(|reported| reported.has(W))
        && socket.peer_addr().is_ok())
    {
        assert!(Instant::now() < deadline, "the socket does not become writable");
    }
}

pub(crate) fn socket_registered_before_listen_reports_connection<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let socket = tcp_socket();
    socket.bind(&loopback().into()).unwrap();
    let _registration = selector.register_builtin(&socket, 1, READ);
    selector.select_now();
    socket.listen(8).unwrap();
    let _client = TcpStream::connect(socket.local_addr().unwrap().as_socket().unwrap()).unwrap();
    // NetBSD and DragonFly choose the listener's filter when it is added.
    selector.reregister(&socket, 2, READ).unwrap();
    selector.expect(2, R);
}

conformance_tests! {
    listener_reports_a_client,
    second_connection_is_reported_after_accepting_the_first,
    connect_reports_writable,
    refused_connect_reports_writable_and_keeps_its_error,
    received_data_reports_readable_once,
    write_shutdown_of_peer_reports_read_closed,
    end_of_file_is_reported_after_data,
    closed_peer_reports_read_closed,
    reset_reports_readable_and_keeps_its_error,
    peer_that_closes_with_unread_data_reports_readable,
    write_shutdown_of_both_reports_end_of_file,
    read_shutdown_is_no_error_and_keeps_writing,
    full_tcp_stream_reports_writable_after_peer_reads,
    urgent_data_reports_priority,
    socket_registered_before_connect_reports_writable,
    socket_registered_before_listen_reports_connection,
}
