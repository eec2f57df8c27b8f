//! Invalid input has the same result on every backend and in every build profile.

use std::io::{ErrorKind, Write};
use std::net::UdpSocket as StdUdpSocket;

use kevio::event::Source;
use kevio::net::UdpSocket;
use kevio::{Interest, Poll, Timer, Token};

use crate::support::limits::raise_fd_limit_to_default;
use crate::support::net::{drain, loopback};
use crate::support::poll::{TestPoll, BOTH, READ, WRITE};
use crate::support::readiness::{R, W};
use crate::support::streams::{
    closed_source, kevio_pair, one_way, raw, BorrowedSource, IoSource, OwnedSource, RawSource, SourceFd, NO_SOURCE,
};
use crate::support::system::is_wine;

#[track_caller]
fn register_error(poll: &TestPoll, source: &mut impl Source, interest: Interest) -> std::io::Error {
    poll.registry().register(source, Token(1), interest).expect_err("registered")
}

#[test]
fn negative_descriptor_is_rejected() {
    let mut poll = TestPoll::new();
    #[cfg(unix)]
    let numbers = [-1, RawSource::MIN];
    #[cfg(windows)]
    let numbers = [RawSource::MAX, RawSource::MAX - 1];
    for fd in numbers {
        assert_eq!(register_error(&poll, &mut SourceFd(&fd), READ).raw_os_error(), NO_SOURCE);
        let registry = poll.registry();
        assert!(registry.reregister(&mut SourceFd(&fd), Token(1), READ).is_err());
        assert!(registry.deregister(&mut SourceFd(&fd)).is_err());
    }
    poll.expect_no_events();
}

#[test]
fn closed_descriptor_is_rejected() {
    let mut poll = TestPoll::new();
    let fd = closed_source();
    assert_eq!(register_error(&poll, &mut SourceFd(&fd), READ).raw_os_error(), NO_SOURCE);
    assert_eq!(register_error(&poll, &mut SourceFd(&fd), WRITE).raw_os_error(), NO_SOURCE);
    // SAFETY: the number is not open, so that every call fails.
    let borrowed = unsafe { BorrowedSource::borrow_raw(fd) };
    // wine 8 returns a base socket for such a number too, so that a wait detects the number.
    match poll.registry().register(&mut IoSource::new(borrowed), Token(1), BOTH) {
        Ok(()) => assert!(is_wine()),
        Err(error) => assert_eq!(error.raw_os_error(), NO_SOURCE),
    }
    poll.expect_no_events();
}

#[cfg(unix)]
#[test]
fn regular_file_and_directory_are_rejected() {
    let mut poll = TestPoll::new();
    let file = tempfile::tempfile().unwrap();
    let directory = std::fs::File::open("/").unwrap();
    for file in [file, directory] {
        for interest in [READ, WRITE, BOTH] {
            let error = register_error(&poll, &mut SourceFd(&raw(&file)), interest);
            assert_eq!((error.raw_os_error(), error.kind()), (Some(libc::EPERM), ErrorKind::PermissionDenied));
        }
        assert_eq!(register_error(&poll, &mut IoSource::new(file), READ).raw_os_error(), Some(libc::EPERM));
    }
    poll.expect_no_events();
}

#[test]
fn registering_a_source_twice_fails() {
    let mut poll = TestPoll::new();
    let (mut a, _b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    let error = poll.registry().register(&mut a, Token(2), BOTH).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().starts_with("I/O source already registered with a `Registry`"));
    // The first registration is unchanged.
    (&_b).write_all(b"x").unwrap();
    poll.expect(1, R);
    poll.deregister(&mut a);
    poll.register(&mut a, 3, WRITE);
    poll.expect(3, W);
}

#[test]
fn source_of_another_poll_is_rejected() {
    let (ours, other) = (TestPoll::new(), Poll::new().unwrap());
    let (mut a, _b) = kevio_pair();
    ours.register(&mut a, 1, READ);
    let registry = other.registry();
    assert_eq!(registry.register(&mut a, Token(2), READ).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let error = registry.reregister(&mut a, Token(2), READ).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert!(error.to_string().starts_with("I/O source already registered with a different `Registry`"));
    let mut timer = Timer::new().unwrap();
    ours.register(&mut timer, 4, READ);
    let sources: [&mut dyn Source; 2] = [&mut a, &mut timer];
    for source in sources {
        let error = registry.deregister(source).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("with a different one: call `deregister` of that registry"), "{error}");
    }
    // The source is still registered with the first poll, through any of its registries.
    let clone = ours.registry().try_clone().unwrap();
    clone.reregister(&mut a, Token(3), READ).unwrap();
    clone.deregister(&mut a).unwrap();
    registry.register(&mut a, Token(2), READ).unwrap();
}

#[test]
fn source_of_dropped_poll_registers_again() {
    let first = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    first.register(&mut a, 1, BOTH);
    drop(first);
    // The source still works, and can be registered again.
    b.write_all(b"x").unwrap();
    assert_eq!(drain(&mut a), (1, false));
    let mut second = TestPoll::new();
    second.register(&mut a, 2, READ);
    b.write_all(b"y").unwrap();
    second.expect(2, R);
    assert_eq!(drain(&mut a), (1, false));
    b.write_all(b"z").unwrap();
    second.expect(2, R);
}

#[test]
fn reregister_and_deregister_of_unregistered_source_fail() {
    let poll = TestPoll::new();
    let registry = poll.registry();
    let (mut stream, peer) = kevio_pair();
    let mut socket = UdpSocket::bind(loopback()).unwrap();
    let (mut sender, _receiver) = one_way();
    let mut owned = IoSource::new(OwnedSource::from(peer));
    let sources: [&mut dyn Source; 4] = [&mut stream, &mut socket, &mut sender, &mut owned];
    for source in sources {
        let error = registry.reregister(source, Token(1), READ).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().starts_with("I/O source not registered with `Registry`"));
        assert_eq!(registry.deregister(source).unwrap_err().kind(), ErrorKind::NotFound);
    }
    let fd = raw(&socket);
    assert_eq!(registry.reregister(&mut SourceFd(&fd), Token(1), BOTH).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(registry.deregister(&mut SourceFd(&fd)).unwrap_err().kind(), ErrorKind::NotFound);
    // The failed calls registered nothing.
    let mut poll = poll;
    poll.expect_no_events();
}

#[test]
fn deregistering_twice_fails() {
    let poll = TestPoll::new();
    let (mut a, b) = kevio_pair();
    poll.register(&mut a, 1, BOTH);
    poll.deregister(&mut a);
    assert_eq!(poll.registry().deregister(&mut a).unwrap_err().kind(), ErrorKind::NotFound);
    let fd = raw(&b);
    poll.register(&mut SourceFd(&fd), 1, WRITE);
    poll.deregister(&mut SourceFd(&fd));
    assert_eq!(poll.registry().deregister(&mut SourceFd(&fd)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn unsupported_interests_are_rejected() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    for interest in [Interest::AIO, Interest::LIO, READ | Interest::AIO, Interest::LIO | WRITE] {
        assert_eq!(register_error(&poll, &mut a, interest).kind(), ErrorKind::Unsupported);
        assert_eq!(register_error(&poll, &mut SourceFd(&raw(&b)), interest).kind(), ErrorKind::Unsupported);
    }
    b.write_all(b"x").unwrap();
    poll.expect_no_events();
    // A failed reregistration keeps the registration.
    poll.register(&mut a, 1, READ);
    let error = poll.registry().reregister(&mut a, Token(2), Interest::AIO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    poll.expect(1, R);
}

#[test]
fn capacity_zero_holds_one_event() {
    let mut poll = TestPoll::with_capacity(0);
    assert!(poll.poll_once(Some(std::time::Duration::ZERO)).is_empty());
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
    assert_eq!(poll.events.len(), 1);
}

#[test]
fn capacity_one_reports_600_ready_sources() {
    let limit = raise_fd_limit_to_default();
    let ready = 600.min(limit.saturating_sub(500));
    assert!(ready >= 300, "no more than {limit} descriptors can be opened here");
    let mut poll = TestPoll::with_capacity(1);
    let socket = StdUdpSocket::bind(loopback()).unwrap();
    socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    let mut copies: Vec<_> = (0..ready).map(|_| IoSource::new(socket.try_clone().unwrap())).collect();
    for (token, copy) in copies.iter_mut().enumerate() {
        poll.register(copy, token, READ);
    }
    let reported = poll.until(|reported| reported.len() == ready, || format!("{ready} tokens"));
    assert!(reported.values().all(|reported| reported.has(R)));
}
