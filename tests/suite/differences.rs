//! Each row of the table of differences in the crate docs, as it is on the backend at hand.

use std::io::Write;
use std::os::fd::AsRawFd;

use kevio::net::UnixStream;
use kevio::unix::{IoSource, SourceFd};
use kevio::{Backend, Token, BACKEND};
use socket2::{Domain, Socket, Type};

use super::harness::*;
use super::libkqueue;

/// "A bare descriptor registered twice."
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
        assert_eq!(again.unwrap_err().kind(), std::io::ErrorKind::AlreadyExists);
        l.expect(1, R);
    }
}

/// "More data, while what was reported is unread."
#[test]
fn more_data_while_some_is_unread() {
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

/// "Readable and writable at once."
#[test]
fn readable_and_writable_at_once() {
    let mut l = Loop::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    b.write_all(b"x").unwrap();
    l.register(&mut a, 1, BOTH);
    l.turn(Some(DEADLINE));
    let expected = if BACKEND == Backend::Kqueue && !libkqueue::is_here() { 2 } else { 1 };
    if !libkqueue::is_here() {
        assert_eq!(l.events.len(), expected, "{:?}", l.events);
    }
}

/// "A stream socket that was never connected."
#[test]
fn a_socket_that_was_never_connected() {
    let mut l = Loop::new();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut socket = IoSource::new(socket);
    l.register(&mut socket, 1, BOTH);
    if cfg!(target_os = "linux") {
        let said = l.expect(1, R | W | RC);
        assert!(said.has(WC) || BACKEND == Backend::Kqueue, "{said:?}");
    } else {
        l.expect_silence();
    }
}

/// "A poll has a descriptor of its own."
#[test]
fn a_wait_for_a_poll() {
    #[cfg(not(kevio_backend = "poll"))]
    {
        let l = Loop::new();
        assert!(l.poll.as_raw_fd() >= 0);
    }
    #[cfg(kevio_backend = "poll")]
    assert_eq!(BACKEND, Backend::Poll);
}
