//! Each row of the table of differences in the crate docs, as it is on the backend at hand.

use std::io::{ErrorKind, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use kevio::net::{UdpSocket, UnixStream};
use kevio::unix::{IoSource, SourceFd};
use kevio::{Backend, Interest, Token, BACKEND};
use socket2::{Domain, Socket, Type};

use super::harness::*;
use super::libkqueue;

#[test]
fn a_bare_descriptor_registered_twice() {
    let mut l = Loop::new();
    let (a, mut b) = UnixStream::pair().unwrap();
    let fd = a.as_raw_fd();
    l.register(&mut SourceFd(&fd), 1, READ);
    let again = l.poll.registry().register(&mut SourceFd(&fd), Token(2), READ);
    b.write_all(b"x").unwrap();
    if BACKEND == Backend::Kqueue {
        again.unwrap();
        l.expect(2, R);
    } else {
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        l.expect(1, R);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_bare_descriptor_without_an_inode_registered_twice() {
    // SAFETY: no pointers; the descriptor is nobody else's.
    let event = unsafe {
        let fd = libc::eventfd(1, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        assert!(fd >= 0);
        <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd)
    };
    let mut l = Loop::new();
    l.register(&mut SourceFd(&event.as_raw_fd()), 1, READ);
    let again = l.poll.registry().register(&mut SourceFd(&event.as_raw_fd()), Token(2), READ);
    if BACKEND == Backend::Epoll {
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        l.expect(1, R);
    } else {
        again.unwrap();
        l.expect(2, R);
    }
}

#[test]
fn more_data_while_what_was_reported_is_unread() {
    let mut l = Loop::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    l.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    l.expect(1, R);
    b.write_all(b"x").unwrap();
    if BACKEND == Backend::Poll {
        l.expect_silence();
        // Until there is an operation, whatever it is.
        assert_eq!(a.try_io(|| Ok(5)).unwrap(), 5);
    }
    l.expect(1, R);
}

#[test]
fn a_bare_descriptor_left_ready() {
    let mut l = Loop::new();
    let (a, mut b) = UnixStream::pair().unwrap();
    l.register(&mut SourceFd(&a.as_raw_fd()), 1, READ);
    b.write_all(b"x").unwrap();
    l.expect(1, R);
    if BACKEND == Backend::Poll {
        let start = Instant::now();
        l.expect(1, R);
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    } else {
        assert!(l.turn(Some(Duration::from_millis(200))).is_empty());
    }
}

#[test]
fn a_descriptor_both_readable_and_writable() {
    let mut l = Loop::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    b.write_all(b"x").unwrap();
    l.register(&mut a, 1, BOTH);
    l.turn(Some(DEADLINE));
    assert_eq!(l.events.len(), if BACKEND == Backend::Kqueue { 2 } else { 1 }, "{:?}", l.events);
}

#[test]
fn a_stream_socket_that_was_never_connected() {
    let mut l = Loop::new();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut socket = IoSource::new(socket);
    l.register(&mut socket, 1, BOTH);
    if cfg!(target_os = "linux") {
        l.expect(1, R | W | RC | WC);
    } else if BACKEND == Backend::Kqueue {
        l.expect_silence();
    }
}

#[test]
fn the_end_of_file_on_the_reading_side() {
    let mut l = Loop::new();
    let (mut a, b) = UnixStream::pair().unwrap();
    l.register(&mut a, 1, READ);
    b.shutdown(Shutdown::Write).unwrap();
    let said = l.expect(1, R);
    assert_eq!(said.has(W), BACKEND == Backend::Kqueue, "{said:?}");
}

#[test]
fn an_error_on_udp() {
    let mut l = Loop::new();
    let mut socket = UdpSocket::bind(loopback()).unwrap();
    let gone = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    socket.connect(gone).unwrap();
    l.register(&mut socket, 1, READ);
    socket.send(b"anybody?").unwrap();
    let said = l.expect(1, R);
    assert_eq!(said.has(E), BACKEND != Backend::Kqueue || libkqueue::is_here(), "{said:?}");
}

#[test]
fn shutting_down_writing_here() {
    let mut l = Loop::new();
    let (mut a, _b) = tcp_pair();
    l.register(&mut a, 1, WRITE);
    l.expect(1, W);
    a.shutdown(Shutdown::Write).unwrap();
    if BACKEND == Backend::Kqueue && !libkqueue::is_here() {
        l.expect(1, W | WC);
    } else {
        l.expect_not(1, WC);
    }
}

#[test]
fn the_priority_interest() {
    let l = Loop::new();
    let (mut a, _b) = tcp_pair();
    let without = libkqueue::is_here() || cfg!(any(target_os = "freebsd", target_os = "netbsd"));
    match l.poll.registry().register(&mut a, Token(1), Interest::PRIORITY) {
        Err(error) => assert!(error.kind() == ErrorKind::Unsupported && without && BACKEND == Backend::Kqueue),
        Ok(()) => assert!(!without || BACKEND != Backend::Kqueue),
    }
}

/// That there is none on poll(2) is for the compiler to say.
#[cfg(not(kevio_backend = "poll"))]
#[test]
fn a_queue_has_a_descriptor() {
    let l = Loop::new();
    assert!(l.poll.as_raw_fd() >= 0);
    assert_eq!(l.poll.registry().as_fd().as_raw_fd(), l.poll.as_raw_fd());
}

#[test]
fn a_registered_descriptor_closed_while_a_copy_is_open() {
    let mut l = Loop::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    let copy = a.as_fd().try_clone_to_owned().unwrap();
    l.register(&mut a, 1, READ);
    drop(a);
    b.write_all(b"x").unwrap();
    // libkqueue is epoll underneath.
    if BACKEND == Backend::Epoll || libkqueue::is_here() {
        l.expect(1, R);
    } else {
        l.expect_silence();
    }
    drop(copy);
}

#[test]
fn a_short_wait() {
    if !cfg!(target_os = "linux") {
        return;
    }
    // Of many short waits at least one is not disturbed by other tests.
    let mut l = Loop::new();
    let shortest = (0..200)
        .map(|_| {
            let start = Instant::now();
            assert!(l.turn(Some(Duration::from_micros(200))).is_empty());
            start.elapsed()
        })
        .min()
        .unwrap();
    assert!(shortest >= Duration::from_micros(200) && shortest < Duration::from_millis(1), "{shortest:?}");
}
