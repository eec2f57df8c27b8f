//! Closing a descriptor ends its registration, so that the number can be registered again at once.

use std::io::Write;

use kevio::event::Source;
use kevio::net::UdpSocket;

use crate::support::net::{drain, loopback, WRITE_FAILS_AT_ONCE};
use crate::support::poll::{TestPoll, BOTH, READ, WRITE};
use crate::support::readiness::{R, W};
use crate::support::streams::{borrow, into_raw, kevio_pair, raw, std_pair, IoSource, OwnedSource, SourceFd, Stream};

/// Closes a stream, and returns a new pair whose first stream has its number. `None` if the system assigns other numbers.
#[cfg(unix)]
fn reopen_number(closed: Stream) -> Option<(Stream, Stream)> {
    let (number, (stream, peer)) = (into_raw(closed), kevio_pair());
    let stream = OwnedSource::from(stream);
    // SAFETY: no pointers; the test owns the number, which is closed here, and the result is its only owner.
    let stream = unsafe {
        assert_eq!(libc::dup2(raw(&stream), number), number);
        <OwnedSource as std::os::fd::FromRawFd>::from_raw_fd(number)
    };
    Some((Stream::from(stream), peer))
}

/// Closes a stream, and returns a new pair whose first stream has its number. `None` if the system assigns other numbers: a
/// program cannot choose the number of a socket of Windows.
#[cfg(windows)]
fn reopen_number(closed: Stream) -> Option<(Stream, Stream)> {
    let number = raw(&closed);
    drop(closed);
    let mut others = Vec::new();
    for _ in 0..8 {
        let (a, b) = kevio_pair();
        match number {
            number if number == raw(&a) => return Some((a, b)),
            number if number == raw(&b) => return Some((b, a)),
            _ => others.push((a, b)),
        }
    }
    None
}

/// Repeats a test until the number of a closed stream was assigned again. Another test may receive the number.
fn until_reopened(test: impl FnMut() -> Option<()>) {
    std::iter::repeat_with(test).take(50).find(Option::is_some).expect("the number was never reused");
}

#[test]
fn dropped_source_reports_nothing() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, BOTH);
    b.write_all(b"x").unwrap();
    drop(a);
    poll.expect_no_events();
}

#[test]
fn reused_number_registers_after_deregistering() {
    until_reopened(|| {
        let mut poll = TestPoll::new();
        let (a, _b) = kevio_pair();
        let number = raw(&a);
        poll.register(&mut SourceFd(&number), 1, BOTH);
        poll.deregister(&mut SourceFd(&number));
        let (mut c, mut d) = reopen_number(a)?;
        poll.register(&mut c, 2, READ);
        d.write_all(b"x").unwrap();
        poll.expect(2, R);
        Some(())
    });
}

#[test]
fn reused_number_registers_after_dropping_its_source() {
    // Another test may receive the number between drop and pair; some of many rounds reuse the number.
    let mut poll = TestPoll::new();
    let mut again = 0;
    for token in 0..50 {
        let (mut a, mut b) = kevio_pair();
        poll.register(&mut a, token, BOTH);
        b.write_all(b"x").unwrap();
        let number = raw(&a);
        drop(a);
        let (c, mut d) = kevio_pair();
        let mut c = c;
        again += usize::from(raw(&c) == number);
        poll.register(&mut c, 1000 + token, READ);
        d.write_all(b"x").unwrap();
        poll.expect(1000 + token, R);
    }
    assert!(again > 0, "the number was never reused");
}

#[test]
fn raw_number_registers_again_after_closing() {
    until_reopened(|| {
        let mut poll = TestPoll::new();
        let (a, mut b) = kevio_pair();
        let number = raw(&a);
        poll.register(&mut SourceFd(&number), 1, READ);
        let (_c, mut d) = reopen_number(a)?;
        poll.register(&mut SourceFd(&number), 2, READ);
        d.write_all(b"x").unwrap();
        assert!(b.write_all(b"y").is_err() || !WRITE_FAILS_AT_ONCE, "the other end is closed");
        poll.expect(2, R);
        Some(())
    });
}

#[test]
fn reused_descriptor_number_reports_nothing() {
    until_reopened(|| {
        let mut poll = TestPoll::new();
        let (a, _b) = kevio_pair();
        let number = raw(&a);
        poll.register(&mut SourceFd(&number), 1, READ);
        // The descriptor is closed without deregistering, and its number goes to an unregistered descriptor.
        let (_c, mut d) = reopen_number(a)?;
        d.write_all(b"x").unwrap();
        poll.expect_no_events();
        poll.register(&mut SourceFd(&number), 2, READ);
        poll.expect(2, R);
        Some(())
    });
}

#[test]
fn repeated_reuse_of_one_number_reports_each_source() {
    let mut poll = TestPoll::new();
    for token in 0..100 {
        let (mut a, mut b) = kevio_pair();
        poll.register(&mut a, token, BOTH);
        b.write_all(b"x").unwrap();
        poll.expect(token, R | W);
    }
    poll.expect_no_events();
}

/// Handling the first of two events deregisters the other source. A later poll must not report its token.
#[test]
fn deregistering_removes_an_undelivered_event() {
    let mut poll = TestPoll::with_capacity(1);
    let mut pairs: Vec<_> = (0..2).map(|_| kevio_pair()).collect();
    for (token, (a, b)) in pairs.iter_mut().enumerate() {
        poll.register(a, token, READ);
        b.write_all(b"x").unwrap();
    }
    let reported = poll.until(|reported| !reported.is_empty(), || "one".to_owned());
    let first = *reported.keys().next().unwrap();
    poll.deregister(&mut pairs[1 - first].0);
    poll.expect_no_events();
}

#[test]
fn detached_descriptor_stays_registered() {
    let mut poll = TestPoll::new();
    let (a, mut b) = kevio_pair();
    let mut source = IoSource::new(OwnedSource::from(a));
    poll.register(&mut source, 1, READ);
    let fd = source.into_inner();
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
    poll.reregister(&mut SourceFd(&raw(&fd)), 2, READ);
    poll.expect(2, R);
    poll.deregister(&mut SourceFd(&raw(&fd)));
    poll.expect_no_events();
}

#[test]
fn closed_source_does_not_spin() {
    let mut poll = TestPoll::new();
    let (mut a, _b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    let (c, d) = kevio_pair();
    let number = raw(&c);
    poll.register(&mut SourceFd(&number), 2, READ);
    drop((c, d));
    // poll(2) returns POLLNVAL for the closed descriptor at once, each time. The wait reports nothing and lasts its timeout.
    let start = std::time::Instant::now();
    assert!(poll.poll_once(Some(std::time::Duration::from_millis(30))).is_empty());
    assert!(start.elapsed() >= std::time::Duration::from_millis(30));
}

#[test]
fn dropped_poll_leaves_its_sources_usable() {
    let (mut a, mut b) = kevio_pair();
    let mut socket = UdpSocket::bind(loopback()).unwrap();
    let fd = raw(&socket);
    {
        let poll = TestPoll::new();
        poll.register(&mut a, 1, BOTH);
        poll.register(&mut SourceFd(&fd), 2, BOTH);
    }
    b.write_all(b"x").unwrap();
    assert_eq!(drain(&mut a), (1, false));
    socket.send_to(b"y", socket.local_addr().unwrap()).unwrap();
    let mut poll = TestPoll::new();
    poll.register(&mut socket, 3, READ);
    poll.expect(3, R);
}

#[test]
fn source_dropped_after_its_poll_does_not_fail() {
    let poll = TestPoll::new();
    let (mut a, _b) = kevio_pair();
    poll.register(&mut a, 1, BOTH);
    drop(poll);
    drop(a);
}

type Borrow = fn(&Stream) -> Box<dyn Source + '_>;

#[test]
fn dropping_a_borrowing_source_deregisters_its_descriptor() {
    let mut poll = TestPoll::new();
    let (a, mut b) = kevio_pair();
    let borrowing: [Borrow; 2] = [|a| Box::new(IoSource::new(borrow(a))), |a| Box::new(IoSource::new(a))];
    for borrow in borrowing {
        let mut source = borrow(&a);
        poll.register(&mut source, 1, READ);
        b.write_all(b"x").unwrap();
        poll.expect(1, R);
        drop(source);
        b.write_all(b"x").unwrap();
        poll.expect_no_events();
        let error = poll.registry().deregister(&mut SourceFd(&raw(&a))).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        // A source that was deregistered before does not deregister anything when dropped.
        let mut source = borrow(&a);
        poll.register(&mut source, 2, READ);
        poll.deregister(&mut source);
        poll.register(&mut SourceFd(&raw(&a)), 3, READ);
        drop(source);
        b.write_all(b"x").unwrap();
        poll.expect(3, R);
        poll.deregister(&mut SourceFd(&raw(&a)));
    }
}

#[test]
fn borrowed_source_survives_drop_of_poll() {
    let (a, _b) = kevio_pair();
    let poll = TestPoll::new();
    let mut source = IoSource::new(borrow(&a));
    poll.register(&mut source, 1, READ);
    drop(poll);
    let mut poll = TestPoll::new();
    poll.register(&mut source, 2, WRITE);
    poll.expect(2, W);
    // The descriptor stays registered after leaving its source.
    let fd = source.into_inner();
    poll.reregister(&mut SourceFd(&raw(&fd)), 3, WRITE);
    poll.expect(3, W);
}

/// kevio takes a type with a destructor for an owner, and does not deregister when the source is dropped.
#[test]
fn shared_source_is_deregistered_explicitly() {
    let mut poll = TestPoll::new();
    let (a, mut b) = std_pair();
    a.set_nonblocking(true).unwrap();
    let shared = std::sync::Arc::new(a);
    let mut source = IoSource::new(std::sync::Arc::clone(&shared));
    poll.register(&mut source, 1, READ);
    poll.deregister(&mut source);
    drop(source);
    b.write_all(b"x").unwrap();
    poll.expect_no_events();
    let mut source = IoSource::new(&*shared);
    poll.register(&mut source, 2, READ);
    poll.expect(2, R);
}
