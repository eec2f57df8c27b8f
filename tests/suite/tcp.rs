//! TCP: connecting, half-closing, resetting.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use kevio::net::{TcpListener, TcpStream};
use socket2::{Domain, SockRef, Socket, Type};

use crate::support::known_failures::{is_known_failure, Check};
use crate::support::net::{drain, fill, listener, reset_on_close, tcp_pair, tcp_stream_pair};
use crate::support::poll::{TestPoll, BOTH, READ, TIMEOUT, WRITE};
use crate::support::readiness::{ReadinessSet, E, NONE, P, R, RC, W, WC};
use crate::support::streams::{borrow, IoSource, IN_PROGRESS};
use crate::support::system::is_wine;

/// The error of a write after `shutdown`, which std has no kind for.
const WSAESHUTDOWN: i32 = 10058;

#[test]
fn listener_reports_each_connection() {
    let mut poll = TestPoll::new();
    let (mut listener, address) = listener();
    poll.register(&mut listener, 1, READ);
    poll.expect_no_events();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let clients: Vec<_> = (0..2).map(|_| std::net::TcpStream::connect(address).unwrap()).collect();
    poll.expect(1, R);
    let (first, from) = listener.accept().unwrap();
    assert_eq!((first.peer_addr().unwrap(), from), (from, clients[0].local_addr().unwrap()));
    // One connection is left.
    poll.reregister(&mut listener, 1, READ);
    poll.expect(1, R);
    listener.accept().unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    let _third = std::net::TcpStream::connect(address).unwrap();
    poll.expect(1, R);
    assert!(listener.take_error().unwrap().is_none());
}

#[test]
fn listener_address_can_be_bound_again_at_once() {
    let (listener, address) = listener();
    let client = std::net::TcpStream::connect(address).unwrap();
    drop((listener, client));
    TcpListener::bind(address).unwrap();
}

#[test]
fn connect_reports_writable() {
    let mut poll = TestPoll::new();
    let (listener, address) = listener();
    let mut stream = TcpStream::connect(address).unwrap();
    poll.register(&mut stream, 1, BOTH);
    poll.expect(1, W);
    assert!(stream.take_error().unwrap().is_none());
    assert_eq!(stream.peer_addr().unwrap(), address);
    assert_eq!(stream.local_addr().unwrap(), listener.accept().unwrap().1);
}

#[test]
fn refused_connect_reports_writable_and_keeps_its_error() {
    let mut poll = TestPoll::new();
    let (listener, address) = listener();
    drop(listener);
    let mut stream = match TcpStream::connect(address) {
        // FreeBSD may fail at once.
        Err(error) => return assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        Ok(stream) => stream,
    };
    poll.register(&mut stream, 1, BOTH);
    let reported = poll.expect_any(1, W | E | WC);
    assert!(reported.has(W), "a program that tests only readable and writable must detect the error: {reported:?}");
    if !is_known_failure(Check::PendingSocketError) {
        assert_eq!(stream.take_error().unwrap().unwrap().kind(), ErrorKind::ConnectionRefused);
    }
    assert!(stream.peer_addr().is_err());
}

#[test]
fn echo_between_two_streams_reports_each_message() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = tcp_stream_pair();
    poll.register(&mut a, 1, BOTH);
    poll.register(&mut b, 2, BOTH);
    poll.expect_all(&[(1, W), (2, W)]);
    for _ in 0..20 {
        a.write_all(b"ping").unwrap();
        poll.until(|reported| reported.get(&2).is_some_and(|reported| reported.has(R)), || "ping".to_owned());
        let mut buffer = [0; 16];
        assert_eq!(b.peek(&mut buffer).unwrap(), 4);
        assert_eq!(b.read(&mut buffer).unwrap(), 4);
        b.write_all(b"pong").unwrap();
        poll.until(|reported| reported.get(&1).is_some_and(|reported| reported.has(R)), || "pong".to_owned());
        assert_eq!(a.read(&mut buffer).unwrap(), 4);
        assert_eq!(a.read(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn write_shutdown_of_peer_reports_read_closed_once() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = tcp_pair();
    poll.register(&mut a, 1, BOTH);
    poll.expect(1, W);
    b.write_all(b"last").unwrap();
    b.shutdown(Shutdown::Write).unwrap();
    poll.expect(1, R | hint_before_data());
    assert_eq!(drain(&mut a), (4, true));
    // The other direction is open.
    a.write_all(b"still here").unwrap();
    let mut buffer = [0; 10];
    b.read_exact(&mut buffer).unwrap();
    // The end of file is reported once.
    poll.drain_events();
    assert_eq!(a.read(&mut buffer).unwrap(), 0);
    poll.expect_without(1, R);
}

/// Returns the hint for a stream that is at its end, and has unread data. wine reports the end after the last byte was read
/// (`recv` with `MSG_PEEK` in `sock_poll_event` of server/sock.c).
fn hint_before_data() -> ReadinessSet {
    match is_wine() {
        true => NONE,
        false => RC,
    }
}

#[test]
fn end_of_file_is_reported_with_the_last_bytes() {
    // Ten bytes and the end of file arrive together. After a short read tokio waits for the next event.
    let mut poll = TestPoll::new();
    let (mut a, mut b) = tcp_pair();
    b.write_all(&[0; 10]).unwrap();
    drop(b);
    poll.register(&mut a, 1, READ);
    poll.expect(1, R | hint_before_data());
    assert_eq!(a.read(&mut [0; 100]).unwrap(), 10);
    if is_wine() {
        poll.expect(1, R | RC);
    }
    assert_eq!(a.read(&mut [0; 100]).unwrap(), 0);
}

#[test]
fn long_message_is_read_until_the_end_of_file() {
    const SIZE: usize = 32 << 20;
    let mut poll = TestPoll::new();
    let (mut a, mut b) = tcp_pair();
    poll.register(&mut a, 1, READ);
    let writer = std::thread::spawn(move || b.write_all(&vec![7; SIZE]).unwrap());
    let mut received = 0;
    loop {
        poll.expect(1, R);
        let (n, ended) = drain(&mut a);
        received += n;
        if ended {
            break;
        }
    }
    assert_eq!(received, SIZE);
    writer.join().unwrap();
}

#[test]
fn reset_reports_every_interest_and_keeps_its_error() {
    for interest in [READ, WRITE, BOTH] {
        let mut poll = TestPoll::new();
        let (mut a, b) = tcp_pair();
        poll.register(&mut a, 1, interest);
        poll.drain_events();
        reset_on_close(&b);
        drop(b);
        // The reset is reported to an idle writer too.
        let reported = poll.expect_any(1, R | W);
        assert!(reported.has_any(E | RC | WC), "{interest:?}: {reported:?}");
        match a.read(&mut [0; 4]) {
            Ok(0) if is_known_failure(Check::PendingSocketError) || is_wine() => {}
            result => assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset),
        }
        // Afterwards the stream is at its end, and reregistering reports that.
        assert!(a.take_error().unwrap().is_none());
        if interest.is_readable() {
            poll.reregister(&mut a, 2, interest);
            poll.expect(2, R | RC);
        }
    }
}

#[test]
fn peer_that_closes_with_unread_data_reports_readable() {
    let mut poll = TestPoll::new();
    let (mut a, b) = tcp_pair();
    poll.register(&mut a, 1, BOTH);
    poll.expect(1, W);
    a.write_all(b"unread").unwrap();
    drop(b);
    let reported = poll.expect(1, R);
    assert!(reported.has_any(E | RC), "{reported:?}");
    match a.read(&mut [0; 4]) {
        // The BSDs send a reset only when more data arrives.
        Ok(0) if cfg!(not(target_os = "linux")) || is_known_failure(Check::PendingSocketError) => {}
        result => assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset),
    }
}

#[test]
fn reset_stream_does_not_spin() {
    let mut poll = TestPoll::new();
    let (mut a, b) = tcp_pair();
    poll.register(&mut a, 1, BOTH);
    reset_on_close(&b);
    drop(b);
    poll.expect(1, R);
    poll.drain_events();
    // A program that writes after every event, and ignores the errors, must not spin.
    for _ in 0..3 {
        let _ = a.write(b"x");
        let _ = a.read(&mut [0; 4]);
        poll.expect_no_events();
    }
}

#[test]
fn shutdown_of_both_directions_reports_end_of_file() {
    let mut poll = TestPoll::new();
    let (mut a, b) = tcp_pair();
    poll.register(&mut a, 1, BOTH);
    poll.expect(1, W);
    a.shutdown(Shutdown::Write).unwrap();
    b.shutdown(Shutdown::Write).unwrap();
    poll.expect(1, R | RC);
    assert_eq!(drain(&mut a), (0, true));
    let error = a.write(b"x").unwrap_err();
    match cfg!(windows) {
        true => assert_eq!(error.raw_os_error(), Some(WSAESHUTDOWN)),
        false => assert_eq!(error.kind(), ErrorKind::BrokenPipe),
    }
}

#[test]
fn reset_is_reported_with_a_full_send_buffer() {
    let mut poll = TestPoll::new();
    let (mut a, b) = tcp_pair();
    poll.register(&mut a, 1, BOTH);
    poll.expect(1, W);
    fill(&mut a);
    // A reset is reported although the send buffer is full.
    reset_on_close(&b);
    drop(b);
    poll.expect(1, R | W);
    assert!(a.write(b"x").is_err());
}

#[test]
fn socket_registered_before_connect_reports_writable() {
    let mut poll = TestPoll::new();
    let (listener, address) = listener();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut socket = IoSource::new(socket);
    poll.register(&mut socket, 1, BOTH);
    // Linux reports such a socket as hung up and writable: see the table of differences.
    poll.drain_events();
    match socket.do_io(|socket| socket.connect(&address.into())) {
        Err(error) if error.raw_os_error() != IN_PROGRESS => panic!("{error}"),
        _ => {}
    }
    poll.expect(1, W);
    let peer = accept(&listener);
    (&peer).write_all(b"x").unwrap();
    poll.expect(1, R);
    assert_eq!(socket.do_io(|mut socket| socket.read(&mut [0; 4])).unwrap(), 1);
}

fn accept(listener: &TcpListener) -> TcpStream {
    let deadline = std::time::Instant::now() + TIMEOUT;
    loop {
        match listener.accept() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            result => return result.unwrap().0,
        }
    }
}

#[test]
fn urgent_data_reports_priority() {
    let mut poll = TestPoll::new();
    let (mut a, b) = tcp_pair();
    if let Err(error) = poll.registry().register(&mut a, kevio::Token(1), READ | kevio::Interest::PRIORITY) {
        // FreeBSD, NetBSD and libkqueue have no filter for urgent data.
        return assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
    (&b).write_all(b"x").unwrap();
    poll.expect(1, R);
    poll.expect_without(1, P);
    assert_eq!(drain(&mut a), (1, false));
    SockRef::from(&b).send_out_of_band(b"!").unwrap();
    poll.expect(1, P);
    let mut byte = [std::mem::MaybeUninit::uninit()];
    assert_eq!(a.try_io(|| SockRef::from(&a).recv_out_of_band(&mut byte)).unwrap(), 1);
}

#[test]
fn socket_options_round_trip() {
    let (stream, _peer) = tcp_pair();
    stream.set_nodelay(true).unwrap();
    assert!(stream.nodelay().unwrap());
    stream.set_ttl(9).unwrap();
    assert_eq!(stream.ttl().unwrap(), 9);
    let (listener, _) = listener();
    listener.set_ttl(7).unwrap();
    assert_eq!(listener.ttl().unwrap(), 7);
    // Options without a method are set through the descriptor.
    SockRef::from(&borrow(&stream)).set_keepalive(true).unwrap();
    assert!(SockRef::from(&stream).keepalive().unwrap());
}

#[test]
fn vectored_io_works_by_reference() {
    let (a, mut b) = tcp_pair();
    let n = (&a).write_vectored(&[io::IoSlice::new(b"ab"), io::IoSlice::new(b"cd")]).unwrap();
    (&a).flush().unwrap();
    let mut buffer = [0; 4];
    b.read_exact(&mut buffer[..n]).unwrap();
    b.write_all(b"efgh").unwrap();
    b.shutdown(Shutdown::Write).unwrap();
    let mut poll = TestPoll::new();
    let mut a = a;
    poll.register(&mut a, 1, READ);
    poll.expect(1, R | hint_before_data());
    let (mut first, mut second) = ([0; 3], [0; 3]);
    let bufs = &mut [io::IoSliceMut::new(&mut first), io::IoSliceMut::new(&mut second)];
    assert_eq!((&a).read_vectored(bufs).unwrap(), 4);
    assert_eq!((&first, &second), (b"efg", b"h\0\0"));
}
