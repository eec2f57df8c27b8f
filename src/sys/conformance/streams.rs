//! TCP, and what Unix streams do in the same way.

use socket2::{Domain, SockRef, Socket, Type};

use super::*;

fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(loopback()).unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A TCP socket that is not connected, and does not block.
fn fresh() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// Begins to connect; it may take a while. Returns `true` if the connection was refused at once, as FreeBSD does on the
/// loopback.
fn connect(socket: &Socket, to: SocketAddr) -> bool {
    let Err(error) = socket.connect(&to.into()) else { return false };
    assert!(matches!(error.raw_os_error(), Some(libc::EINPROGRESS | libc::ECONNREFUSED)), "{error}");
    error.raw_os_error() == Some(libc::ECONNREFUSED)
}

/// A port where nobody listens.
fn closed_port() -> SocketAddr {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&loopback().into()).unwrap();
    socket.local_addr().unwrap().as_socket().unwrap()
}

pub(crate) fn a_listener_and_a_client<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (tcp, address) = listener();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let unix = UnixListener::bind(&path).unwrap();
    let _ties = [selector.register_builtin(&tcp, 1, READ), selector.register_builtin(&unix, 2, READ)];
    selector.expect_no_events();
    let _client = TcpStream::connect(address).unwrap();
    selector.expect(1, R);
    let client = UnixStream::connect(&path).unwrap();
    selector.expect(2, R);
    // A client need not be accepted to write.
    let _client = selector.register_owned(client, 3, WRITE);
    selector.expect(3, W);
}

pub(crate) fn one_of_two_is_accepted<T: Selector>() {
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

pub(crate) fn a_connect_that_succeeds<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (_listener, address) = listener();
    let socket = fresh();
    connect(&socket, address);
    let _registration = selector.register_builtin(&socket, 1, WRITE);
    selector.expect(1, W);
    assert!(socket.take_error().unwrap().is_none());
    assert_eq!(socket.peer_addr().unwrap().as_socket(), Some(address));
}

pub(crate) fn a_connect_that_is_refused<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let socket = fresh();
    let is_over = connect(&socket, closed_port());
    let _registration = selector.register_builtin(&socket, 1, WRITE);
    let reported = selector.expect(1, W);
    if is_libkqueue::<T>() {
        // It takes the error from the program, to fill in `fflags`.
        return;
    }
    assert!(reported.has_any(E | WC) || hint::<T>(WC) == NONE, "{reported:?}");
    // connect(2) has returned the error, or it is pending.
    let error = socket.take_error().unwrap().map(|error| error.kind());
    assert_eq!(error, Some(ErrorKind::ConnectionRefused).filter(|_| !is_over));
}

pub(crate) fn data_comes_and_is_read<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = tcp_pair();
    let a = selector.register_owned(a, 1, READ);
    selector.expect_no_events();
    b.write_all(b"data").unwrap();
    selector.expect(1, R);
    assert_eq!(a.drain(), (4, false));
    selector.expect_no_events();
}

pub(crate) fn a_peer_shuts_down_writing<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = tcp_pair();
    let a = selector.register_owned(a, 1, READ);
    b.shutdown(Shutdown::Write).unwrap();
    selector.expect(1, R | if tells_half_close::<T>() { RC } else { NONE });
    assert_eq!(a.drain(), (0, true));
    assert_eq!(a.write(b"yet").unwrap(), 3);
    let _b = selector.register_builtin(&b, 2, READ);
    selector.expect(2, R);
    assert_eq!(b.read(&mut [0; 8]).unwrap(), 3);
}

/// Where poll(2) has no `POLLRDHUP`, only a read tells.
fn tells_half_close<T: Selector>() -> bool {
    T::BACKEND != Backend::Poll || cfg!(has_pollrdhup)
}

pub(crate) fn data_and_then_the_end<T: Selector>() {
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
        let (n, ended) = a.drain();
        (total, end) = (total + n, ended);
    }
    assert_eq!(total, message.len());
    if tells_half_close::<T>() && !all.has(RC) {
        // The end was read before anybody looked.
        selector.expect(1, RC);
    }
    drop(writer.join().unwrap());
}

pub(crate) fn a_peer_closes<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = tcp_pair();
    let a = selector.register_owned(a, 1, READ);
    drop(b);
    selector.expect(1, R | if tells_half_close::<T>() { RC } else { NONE });
    assert_eq!(a.drain(), (0, true));

    let (c, d) = pair();
    let c = selector.register_owned(c, 2, READ);
    drop(d);
    selector.expect(2, R | hint::<T>(RC));
    assert_eq!(c.drain(), (0, true));
    assert_eq!(kind(c.write(b"x")), ErrorKind::BrokenPipe);
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

pub(crate) fn a_peer_resets<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = tcp_pair();
    let a = selector.register_owned(a, 1, READ);
    reset(b);
    let reported = selector.expect(1, R);
    assert!(reported.has_any(E | RC) || hint::<T>(RC) == NONE, "{reported:?}");
    if !is_libkqueue::<T>() {
        assert_eq!(kind(a.read(&mut [0; 8])), ErrorKind::ConnectionReset);
    }
    // The error has been fetched; that it is closed stays true.
    selector.reregister(&a.io, 2, READ).unwrap();
    selector.now();
    selector.reregister(&a.io, 3, READ).unwrap();
    selector.expect(3, R | hint::<T>(RC));
    assert!(a.io.take_error().unwrap().is_none());
}

pub(crate) fn a_peer_closes_unread<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = tcp_pair();
    let a = selector.register_owned(a, 1, READ);
    assert_eq!(a.write(b"nobody reads this").unwrap(), 17);
    let mut byte = [0];
    // It has to be there before its reader goes.
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

pub(crate) fn both_shut_down_writing<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = tcp_pair();
    a.shutdown(Shutdown::Write).unwrap();
    b.shutdown(Shutdown::Write).unwrap();
    let a = selector.register_owned(a, 1, READ);
    selector.expect(1, R | hint::<T>(RC));
    assert_eq!(a.drain(), (0, true));
}

pub(crate) fn shutting_down_reading<T: Selector>() {
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

pub(crate) fn a_full_buffer_is_drained<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, b) = tcp_pair();
    let a = selector.register_owned(a, 1, WRITE);
    selector.expect(1, W);
    // What the peer's kernel takes meanwhile makes room again; one pass may not be enough.
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

pub(crate) fn urgent_data<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = tcp_pair();
    if T::BACKEND == Backend::Kqueue && !cfg!(has_evfilt_except) {
        assert_eq!(kind(selector.register_raw(a.as_raw_fd(), 1, READ | Interest::PRIORITY)), ErrorKind::Unsupported);
        b.write_all(b"x").unwrap();
        return selector.expect_no_events();
    }
    let a = selector.register_owned(a, 1, READ | Interest::PRIORITY);
    b.write_all(b"ordinary").unwrap();
    assert!(!selector.expect(1, R).has(P));
    assert_eq!(a.drain(), (8, false));
    selector.now();
    assert_eq!(SockRef::from(&b).send_out_of_band(b"!").unwrap(), 1);
    selector.expect(1, P);
}

pub(crate) fn registered_before_connected<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (_listener, address) = listener();
    let socket = fresh();
    let registration = selector.register_builtin(&socket, 1, BOTH);
    // A row of the table of differences: some systems say that it is closed.
    selector.now();
    connect(&socket, address);
    registration.rearm(IoDirection::Unknown);
    let deadline = Instant::now() + TIMEOUT;
    while !(selector.select(Duration::from_millis(100)).get(&1).is_some_and(|reported| reported.has(W))
        && socket.peer_addr().is_ok())
    {
        assert!(Instant::now() < deadline, "it does not become writable");
    }
}

pub(crate) fn registered_before_listening<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let socket = fresh();
    socket.bind(&loopback().into()).unwrap();
    let _registration = selector.register_builtin(&socket, 1, READ);
    selector.now();
    socket.listen(8).unwrap();
    let _client = TcpStream::connect(socket.local_addr().unwrap().as_socket().unwrap()).unwrap();
    // NetBSD and DragonFly choose the listener's filter when it is added.
    selector.reregister(&socket, 2, READ).unwrap();
    selector.expect(2, R);
}

conformance_tests! {
    a_listener_and_a_client,
    one_of_two_is_accepted,
    a_connect_that_succeeds,
    a_connect_that_is_refused,
    data_comes_and_is_read,
    a_peer_shuts_down_writing,
    data_and_then_the_end,
    a_peer_closes,
    a_peer_resets,
    a_peer_closes_unread,
    both_shut_down_writing,
    shutting_down_reading,
    a_full_buffer_is_drained,
    urgent_data,
    registered_before_connected,
    registered_before_listening,
}
