//! Edge-triggered events: when an event is reported, and when it is not reported again.

use std::io::{Read, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc;
use std::thread;

use crate::support::net::{drain, fill, tcp_stream_pair};
use crate::support::poll::{TestPoll, BOTH, READ, WRITE};
use crate::support::readiness::{R, W};
use crate::support::streams::{borrow, kevio_pair, raw, IoSource, OwnedSource, SourceFd, StdStream, Stream};

/// Returns a stream that is registered for `READ` under token 1, and its peer.
fn reading(poll: &TestPoll) -> (Stream, Stream) {
    let (mut a, b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    (a, b)
}

#[test]
fn new_poll_reports_no_events() {
    let mut poll = TestPoll::new();
    assert!(poll.poll_once(Some(std::time::Duration::ZERO)).is_empty());
    poll.expect_no_events();
}

#[test]
fn readiness_before_registration_is_reported() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    b.write_all(b"x").unwrap();
    poll.register(&mut a, 1, BOTH);
    poll.expect(1, R | W);
}

#[test]
fn unread_data_is_reported_once() {
    let mut poll = TestPoll::new();
    let (_a, mut b) = reading(&poll);
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
    poll.expect_no_events();
    poll.expect_no_events();
}

#[test]
fn data_after_draining_is_reported_again() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = reading(&poll);
    for _ in 0..10 {
        b.write_all(b"x").unwrap();
        poll.expect(1, R);
        assert_eq!(drain(&mut a), (1, false));
        poll.expect_no_events();
    }
}

#[test]
fn data_after_a_short_read_is_reported_again() {
    // tokio takes a read that fills only a part of the buffer for a drained socket, and waits for the next event.
    let mut poll = TestPoll::new();
    let (mut a, mut b) = reading(&poll);
    for _ in 0..10 {
        b.write_all(b"x").unwrap();
        poll.expect(1, R);
        assert_eq!(a.read(&mut [0; 16]).unwrap(), 1);
        b.write_all(b"y").unwrap();
        poll.expect(1, R);
        assert_eq!(a.read(&mut [0; 16]).unwrap(), 1);
    }
}

#[test]
fn data_after_an_operation_through_do_io_is_reported_again() {
    let mut poll = TestPoll::new();
    let (a, mut b) = kevio_pair();
    let mut a = IoSource::new(StdStream::from(a));
    poll.register(&mut a, 1, READ);
    for _ in 0..3 {
        b.write_all(b"x").unwrap();
        poll.expect(1, R);
        assert_eq!(a.do_io(|mut a| a.read(&mut [0; 16])).unwrap(), 1);
        b.write_all(b"x").unwrap();
        poll.expect(1, R);
        assert_eq!(a.try_io(|| (&*a).read(&mut [0; 16])).unwrap(), 1);
    }
}

#[test]
fn reregistering_reports_readiness_again() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = reading(&poll);
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
    poll.reregister(&mut a, 1, READ);
    poll.expect(1, R);
}

#[test]
fn reregistering_replaces_the_token() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = reading(&poll);
    b.write_all(b"x").unwrap();
    poll.reregister(&mut a, 2, BOTH);
    // `expect` fails on any other token.
    poll.expect(2, R | W);
    drain(&mut a);
    b.write_all(b"x").unwrap();
    poll.expect(2, R);
}

#[test]
fn reregistering_for_writing_stops_readable_events() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = reading(&poll);
    poll.reregister(&mut a, 1, WRITE);
    b.write_all(b"x").unwrap();
    poll.expect(1, W);
    poll.expect_without(1, R);
    poll.reregister(&mut a, 1, READ);
    poll.expect(1, R);
}

#[test]
fn deregistered_source_reports_nothing_and_works() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = reading(&poll);
    b.write_all(b"x").unwrap();
    poll.deregister(&mut a);
    poll.expect_no_events();
    b.write_all(b"y").unwrap();
    poll.expect_no_events();
    assert_eq!(drain(&mut a), (2, false));
    poll.register(&mut a, 4, READ);
    b.write_all(b"z").unwrap();
    poll.expect(4, R);
}

#[test]
fn full_stream_reports_writable_after_peer_reads() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = tcp_stream_pair();
    poll.register(&mut a, 1, WRITE);
    poll.expect(1, W);
    let mut sent = fill(&mut a);
    poll.drain_events();
    // The kernel may move data to the peer meanwhile, so that more can be written.
    sent += fill(&mut a);
    let mut received = 0;
    let reader = thread::spawn(move || {
        while received < sent {
            match b.read(&mut [0; 65536]) {
                Ok(n) => received += n,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        }
        b
    });
    poll.expect(1, W);
    let _b = reader.join().unwrap();
}

#[test]
fn raw_descriptor_reports_each_new_burst() {
    // The backend does not observe the reads.
    let mut poll = TestPoll::new();
    let (a, mut b) = kevio_pair();
    let mut a = StdStream::from(a);
    poll.register(&mut SourceFd(&raw(&a)), 1, READ);
    for _ in 0..10 {
        b.write_all(b"data").unwrap();
        poll.expect(1, R);
        assert_eq!(drain(&mut a), (4, false));
    }
    poll.expect_no_events();
}

#[test]
fn events_continue_when_another_thread_drains() {
    // Another thread reads the data, and as many bytes are written again, while this thread is blocked in `poll`.
    let mut poll = TestPoll::new();
    let (a, b) = kevio_pair();
    let a = StdStream::from(a);
    poll.register(&mut SourceFd(&raw(&a)), 1, READ);
    let (events, seen) = mpsc::channel();
    let mut reader = a.try_clone().unwrap();
    let thread = thread::spawn(move || {
        let mut b = b;
        for _ in 0..3 {
            b.write_all(b"data").unwrap();
            seen.recv().unwrap();
            assert_eq!(drain(&mut reader), (4, false));
        }
    });
    for _ in 0..3 {
        poll.expect(1, R);
        events.send(()).unwrap();
    }
    thread.join().unwrap();
}

/// An operation that panics or returns early may have read before.
#[test]
fn operation_that_panics_rearms() {
    let mut poll = TestPoll::new();
    let (a, mut b) = kevio_pair();
    let mut source = IoSource::new(StdStream::from(a));
    poll.register(&mut source, 1, READ);
    for panics in [true, true, false] {
        b.write_all(b"x").unwrap();
        poll.expect(1, R);
        let result = panic::catch_unwind(AssertUnwindSafe(|| {
            source.do_io(|mut stream| {
                let n = stream.read(&mut [0; 8])?;
                if panics {
                    panic::resume_unwind(Box::new(n));
                }
                Err::<(), _>(std::io::ErrorKind::InvalidData.into())
            })
        }));
        assert_eq!(result.is_err(), panics);
    }
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
}

#[test]
fn stream_operation_that_panics_rearms() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    for _ in 0..2 {
        b.write_all(b"x").unwrap();
        poll.expect(1, R);
        let operation = || {
            a.try_io(|| {
                drain(&mut StdStream::from(borrow(&a).try_clone_to_owned()?));
                panic::resume_unwind(Box::new(()));
                #[allow(unreachable_code)]
                Ok(())
            })
        };
        assert!(panic::catch_unwind(AssertUnwindSafe(operation)).is_err());
    }
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
}

#[test]
fn descriptor_and_its_copy_are_two_registrations() {
    let mut poll = TestPoll::new();
    let (a, mut b) = kevio_pair();
    let a = OwnedSource::from(a);
    let copy = a.try_clone().unwrap();
    let (mut a, mut copy) = (Stream::from(a), Stream::from(copy));
    poll.register(&mut a, 1, READ);
    poll.register(&mut copy, 2, READ);
    b.write_all(b"x").unwrap();
    poll.expect_all(&[(1, R), (2, R)]);
}

#[test]
fn one_direction_does_not_hide_the_other() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, BOTH);
    poll.expect(1, W);
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
    assert_eq!(drain(&mut a), (1, false));
    fill(&mut a);
    drain(&mut b);
    poll.expect(1, W);
}
