//! Each of these has one answer, on every backend and in every build profile.

use std::io::{ErrorKind, Write};
use std::net::UdpSocket as StdUdpSocket;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use kevio::event::Source;
use kevio::net::{UdpSocket, UnixStream};
use kevio::unix::{pipe, IoSource, SourceFd};
use kevio::{Interest, Poll, Token};

use crate::support::limits::{closed_descriptor, raise_fd_limit_to_default};
use crate::support::net::{drain, loopback};
use crate::support::poll::{TestPoll, BOTH, READ, WRITE};
use crate::support::readiness::{R, W};

#[track_caller]
fn refused(poll: &TestPoll, source: &mut impl Source, interest: Interest) -> std::io::Error {
    poll.registry().register(source, Token(1), interest).expect_err("registered")
}

#[test]
fn a_negative_descriptor() {
    let mut poll = TestPoll::new();
    for fd in [-1, RawFd::MIN] {
        assert_eq!(refused(&poll, &mut SourceFd(&fd), READ).raw_os_error(), Some(libc::EBADF));
        let registry = poll.registry();
        assert!(registry.reregister(&mut SourceFd(&fd), Token(1), READ).is_err());
        assert!(registry.deregister(&mut SourceFd(&fd)).is_err());
    }
    poll.expect_no_events();
}

#[test]
fn a_closed_descriptor() {
    let mut poll = TestPoll::new();
    let fd = closed_descriptor();
    assert_eq!(refused(&poll, &mut SourceFd(&fd), READ).raw_os_error(), Some(libc::EBADF));
    assert_eq!(refused(&poll, &mut SourceFd(&fd), WRITE).raw_os_error(), Some(libc::EBADF));
    // SAFETY: no descriptor: the kernel says so and does nothing.
    let lent = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    assert_eq!(refused(&poll, &mut IoSource::new(lent), BOTH).raw_os_error(), Some(libc::EBADF));
    poll.expect_no_events();
}

#[test]
fn a_regular_file_and_a_directory() {
    let mut poll = TestPoll::new();
    let file = tempfile::tempfile().unwrap();
    let directory = std::fs::File::open("/").unwrap();
    for file in [file, directory] {
        for interest in [READ, WRITE, BOTH] {
            let error = refused(&poll, &mut SourceFd(&file.as_raw_fd()), interest);
            assert_eq!((error.raw_os_error(), error.kind()), (Some(libc::EPERM), ErrorKind::PermissionDenied));
        }
        assert_eq!(refused(&poll, &mut IoSource::new(file), READ).raw_os_error(), Some(libc::EPERM));
    }
    poll.expect_no_events();
}

#[test]
fn the_same_source_twice() {
    let mut poll = TestPoll::new();
    let (mut a, _b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, READ);
    let error = poll.registry().register(&mut a, Token(2), BOTH).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(error.to_string(), "I/O source already registered with a `Registry`");
    // Nothing has changed.
    (&_b).write_all(b"x").unwrap();
    poll.expect(1, R);
    poll.deregister(&mut a);
    poll.register(&mut a, 3, WRITE);
    poll.expect(3, W);
}

#[test]
fn a_source_of_another_poll() {
    let (ours, other) = (TestPoll::new(), Poll::new().unwrap());
    let (mut a, _b) = UnixStream::pair().unwrap();
    ours.register(&mut a, 1, READ);
    let registry = other.registry();
    assert_eq!(registry.register(&mut a, Token(2), READ).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let error = registry.reregister(&mut a, Token(2), READ).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(error.to_string(), "I/O source already registered with a different `Registry`");
    assert_eq!(registry.deregister(&mut a).unwrap_err().kind(), ErrorKind::NotFound);
    // It is still ours, through any of our registries.
    let clone = ours.registry().try_clone().unwrap();
    clone.reregister(&mut a, Token(3), READ).unwrap();
    clone.deregister(&mut a).unwrap();
    registry.register(&mut a, Token(2), READ).unwrap();
}

#[test]
fn a_source_of_a_poll_that_is_no_more() {
    let first = TestPoll::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    first.register(&mut a, 1, BOTH);
    drop(first);
    // It still works, and can be registered again.
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
fn what_was_never_registered() {
    let poll = TestPoll::new();
    let registry = poll.registry();
    let (mut stream, peer) = UnixStream::pair().unwrap();
    let mut socket = UdpSocket::bind(loopback()).unwrap();
    let (mut sender, _receiver) = pipe::new().unwrap();
    let mut wrapped = IoSource::new(OwnedFd::from(peer));
    let sources: [&mut dyn Source; 4] = [&mut stream, &mut socket, &mut sender, &mut wrapped];
    for source in sources {
        let error = registry.reregister(source, Token(1), READ).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(error.to_string(), "I/O source not registered with `Registry`");
        assert_eq!(registry.deregister(source).unwrap_err().kind(), ErrorKind::NotFound);
    }
    let fd = socket.as_raw_fd();
    assert_eq!(registry.reregister(&mut SourceFd(&fd), Token(1), BOTH).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(registry.deregister(&mut SourceFd(&fd)).unwrap_err().kind(), ErrorKind::NotFound);
    // And nothing was registered by trying.
    let mut poll = poll;
    poll.expect_no_events();
}

#[test]
fn twice_deregistered() {
    let poll = TestPoll::new();
    let (mut a, b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, BOTH);
    poll.deregister(&mut a);
    assert_eq!(poll.registry().deregister(&mut a).unwrap_err().kind(), ErrorKind::NotFound);
    let fd = b.as_raw_fd();
    poll.register(&mut SourceFd(&fd), 1, WRITE);
    poll.deregister(&mut SourceFd(&fd));
    assert_eq!(poll.registry().deregister(&mut SourceFd(&fd)).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn interests_that_cannot_be_armed() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    for interest in [Interest::AIO, Interest::LIO, READ | Interest::AIO, Interest::LIO | WRITE] {
        assert_eq!(refused(&poll, &mut a, interest).kind(), ErrorKind::Unsupported);
        assert_eq!(refused(&poll, &mut SourceFd(&b.as_raw_fd()), interest).kind(), ErrorKind::Unsupported);
    }
    b.write_all(b"x").unwrap();
    poll.expect_no_events();
    // A registration that exists is not touched by a reregistration that cannot be.
    poll.register(&mut a, 1, READ);
    let error = poll.registry().reregister(&mut a, Token(2), Interest::AIO).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    poll.expect(1, R);
}

#[test]
fn room_for_no_events_is_room_for_one() {
    let mut poll = TestPoll::with_capacity(0);
    assert!(poll.poll_once(Some(std::time::Duration::ZERO)).is_empty());
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
    assert_eq!(poll.events.len(), 1);
}

#[test]
fn room_for_one_event_and_600_are_ready() {
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
