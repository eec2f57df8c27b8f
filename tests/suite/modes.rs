//! Trigger modes and disabled registrations, for every kind of source.

use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kevio::event::Source;
use kevio::net::{TcpStream, UdpSocket};
use kevio::{Backend, Interest, Registry, Token, BACKEND};

use crate::support::known_failures::{is_known_failure, Check};
use crate::support::net::{drain, loopback, tcp_pair, tcp_stream_pair, WRITE_FAILS_AT_ONCE};
use crate::support::poll::{TestPoll, BOTH, READ, TIMEOUT, WRITE};
use crate::support::readiness::{R, W};
use crate::support::streams::{borrow, kevio_pair, one_way, raw, IoSource, OwnedSource, SourceFd, Stream};

/// A source of another crate, which passes interests on.
struct Foreign(Stream);

impl Source for Foreign {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> std::io::Result<()> {
        registry.register(&mut self.0, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> std::io::Result<()> {
        registry.reregister(&mut self.0, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> std::io::Result<()> {
        registry.deregister(&mut self.0)
    }
}

/// Calls `check` with each kind of source, which is readable.
fn readable(check: impl Fn(&mut dyn Source)) {
    let keep = |mut peer: Stream| {
        peer.write_all(b"unread").unwrap();
        peer
    };
    let pair = || {
        let (a, b) = kevio_pair();
        (a, keep(b))
    };
    let (mut stream, _peer) = pair();
    check(&mut stream);
    let (stream, _peer) = pair();
    check(&mut Foreign(stream));
    let (stream, _peer) = pair();
    check(&mut SourceFd(&raw(&stream)));
    check(&mut IoSource::new(borrow(&stream)));
    check(&mut IoSource::new(OwnedSource::from(stream)));
    let (mut sender, mut receiver) = one_way();
    sender.write_all(b"unread").unwrap();
    check(&mut receiver);
    let (mut stream, mut peer) = tcp_pair();
    peer.write_all(b"unread").unwrap();
    check(&mut stream);
    let mut socket = UdpSocket::bind(loopback()).unwrap();
    socket.send_to(b"unread", socket.local_addr().unwrap()).unwrap();
    check(&mut socket);
}

fn register(poll: &TestPoll, source: &mut dyn Source, token: usize, interest: Interest) {
    poll.registry().register(source, Token(token), interest).unwrap();
}

#[test]
fn level_reports_every_kind_of_source_while_ready() {
    readable(|source| {
        let mut poll = TestPoll::new();
        register(&poll, source, 1, READ.level());
        for _ in 0..3 {
            poll.expect(1, R);
        }
        poll.registry().deregister(source).unwrap();
        poll.expect_no_events();
    });
}

#[test]
fn one_shot_reports_every_kind_of_source_once() {
    readable(|source| {
        let mut poll = TestPoll::new();
        register(&poll, source, 1, READ.oneshot());
        poll.expect(1, R);
        poll.expect_no_events();
        poll.registry().reregister(source, Token(2), READ.oneshot()).unwrap();
        poll.expect(2, R);
        poll.expect_no_events();
        poll.registry().deregister(source).unwrap();
    });
}

#[test]
fn disabled_reports_no_kind_of_source() {
    readable(|source| {
        let mut poll = TestPoll::new();
        register(&poll, source, 1, Interest::NONE);
        poll.expect_no_events();
        poll.registry().reregister(source, Token(2), READ).unwrap();
        poll.expect(2, R);
        poll.registry().reregister(source, Token(3), Interest::NONE).unwrap();
        poll.expect_no_events();
        poll.registry().deregister(source).unwrap();
        assert_eq!(poll.registry().deregister(source).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn disabled_source_counts_as_registered() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, Interest::NONE);
    for interest in [READ, Interest::NONE] {
        let error = poll.registry().register(&mut a, Token(2), interest).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }
    // Closing ends a disabled registration too, so that the number can be registered again.
    let number = raw(&a);
    drop(a);
    for _ in 0..20 {
        let (mut c, mut d) = kevio_pair();
        let again = raw(&c) == number;
        poll.register(&mut c, 3, READ);
        d.write_all(b"x").unwrap();
        poll.expect(3, R);
        if again {
            break;
        }
    }
    assert_eq!(b.write_all(b"x").is_err(), WRITE_FAILS_AT_ONCE);
    poll.expect_no_events();
}

#[test]
fn combining_interests_keeps_the_mode() {
    let (level, once) = (READ.level(), WRITE.oneshot());
    assert!((READ | WRITE.level()).is_level() && (level | WRITE).is_readable());
    assert!((level | once).is_oneshot() && !(level | once).is_level());
    assert!(READ.is_edge() && level.edge() == READ && once.edge() == WRITE);
    assert_eq!((READ | WRITE).level().remove(WRITE), Some(level));
    assert_eq!(level.remove(READ), None);
    assert_eq!(level.remove(WRITE.oneshot()), Some(level));
    for none in [Interest::NONE, Interest::NONE.level(), Interest::NONE.oneshot(), Interest::NONE.exclusive()] {
        assert_eq!(none, Interest::NONE);
        assert_eq!(none | once, once);
        assert_eq!(level.add(none), level);
        assert_eq!(none | none, none);
    }
    assert!(Interest::NONE.is_none() && !Interest::NONE.is_edge() && Interest::NONE.remove(READ).is_none());
    assert_eq!(
        format!("{:?} {once:?} {:?}", READ.exclusive(), Interest::NONE),
        "READABLE | EXCLUSIVE WRITABLE | ONESHOT NONE"
    );
}

#[test]
fn combined_interest_is_reported_in_its_mode() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    b.write_all(b"x").unwrap();
    poll.register(&mut a, 1, READ.level() | WRITE);
    for _ in 0..3 {
        poll.expect(1, R | W);
    }
    poll.reregister(&mut a, 2, READ.level() | WRITE.oneshot());
    poll.expect_any(2, R | W);
    poll.expect_no_events();
}

/// One-shot with several kinds of readiness at once, many times.
#[test]
fn one_shot_reports_one_event_for_each_arming() {
    check_one_event_for_each_arming(8);
    if !is_known_failure(Check::BothDirectionsInBufferOfOne) {
        check_one_event_for_each_arming(1);
    }
}

fn check_one_event_for_each_arming(capacity: usize) {
    let mut poll = TestPoll::with_capacity(capacity);
    let (mut a, mut b) = tcp_stream_pair();
    b.write_all(b"x").unwrap();
    poll.register(&mut a, 0, BOTH.oneshot());
    for token in 1..200 {
        let reported = poll.poll_once(Some(TIMEOUT));
        assert_eq!(reported.keys().copied().collect::<Vec<_>>(), [token - 1]);
        assert_eq!(poll.events.len(), 1, "{:?}", poll.events);
        assert!(poll.poll_once(Some(Duration::ZERO)).is_empty());
        poll.reregister(&mut a, token, BOTH.oneshot());
    }
}

#[test]
fn level_reports_the_end_of_file_repeatedly() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = tcp_stream_pair();
    poll.register(&mut a, 1, READ.level());
    b.write_all(b"last").unwrap();
    drop(b);
    for _ in 0..3 {
        poll.expect(1, R);
    }
    assert_eq!(drain(&mut a), (4, true));
    for _ in 0..3 {
        poll.expect(1, R);
    }
    poll.reregister(&mut a, 2, Interest::NONE);
    // The wait lasts its timeout, although the stream is at its end.
    let start = Instant::now();
    assert!(poll.poll_once(Some(Duration::from_millis(20))).is_empty());
    assert!(start.elapsed() >= Duration::from_millis(20));
}

/// A server in which each event belongs to one worker until the worker re-arms.
#[test]
fn one_shot_gives_each_event_to_one_worker() {
    const ROUNDS: usize = 200;
    let mut poll = TestPoll::new();
    let pairs: Vec<_> = (0..4).map(|_| tcp_pair()).collect();
    let registry = poll.registry().try_clone().unwrap();
    let (streams, peers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
    let streams: Vec<_> = streams.into_iter().map(|stream| (AtomicBool::new(false), Mutex::new(stream))).collect();
    for (token, (_, stream)) in streams.iter().enumerate() {
        poll.register(&mut *stream.lock().unwrap(), token, BOTH.oneshot());
    }
    let (work, queue) = std::sync::mpsc::channel::<usize>();
    let queue = Mutex::new(queue);
    std::thread::scope(|scope| {
        let (streams, queue, registry) = (&streams, &queue, &registry);
        let next = move || queue.lock().unwrap().recv();
        for _ in 0..3 {
            scope.spawn(move || {
                while let Ok(token) = next() {
                    let (is_taken, stream) = &streams[token];
                    assert!(!is_taken.swap(true, Ordering::AcqRel), "two workers have an event of one source");
                    let mut stream = stream.lock().unwrap();
                    echo(&mut stream);
                    is_taken.store(false, Ordering::Release);
                    registry.reregister(&mut *stream, Token(token), READ.oneshot()).unwrap();
                }
            });
        }
        let clients: Vec<_> = peers.into_iter().map(|peer| scope.spawn(move || talk(peer, ROUNDS))).collect();
        while !clients.iter().all(|client| client.is_finished()) {
            for token in poll.poll_once(Some(Duration::from_millis(20))).into_keys() {
                work.send(token).unwrap();
            }
        }
        drop(work);
    });
}

fn echo(stream: &mut TcpStream) {
    let mut buffer = [0; 64];
    while let Ok(n @ 1..) = stream.read(&mut buffer) {
        stream.write_all(&buffer[..n]).unwrap();
    }
}

fn talk(mut peer: std::net::TcpStream, rounds: usize) {
    peer.set_read_timeout(Some(TIMEOUT)).unwrap();
    for round in 0..rounds {
        let message = (round as u64).to_ne_bytes();
        peer.write_all(&message).unwrap();
        let mut answer = [0; 8];
        peer.read_exact(&mut answer).unwrap();
        assert_eq!(answer, message);
    }
}

#[test]
fn unsupported_exclusive_leaves_source_unregistered() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    let can = BACKEND == Backend::Epoll && cfg!(any(target_os = "linux", target_os = "android"));
    for (interest, can) in [(READ.exclusive(), can), (READ.exclusive().oneshot(), false)] {
        match poll.registry().register(&mut a, Token(1), interest) {
            Ok(()) => {
                assert!(can, "{interest:?}");
                poll.deregister(&mut a);
            }
            Err(error) => assert!(error.kind() == ErrorKind::Unsupported && !can, "{interest:?}: {error}"),
        }
    }
    b.write_all(b"x").unwrap();
    poll.expect_no_events();
    poll.register(&mut a, 2, READ);
    poll.expect(2, R);
}
