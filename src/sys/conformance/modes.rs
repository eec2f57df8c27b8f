//! Level, one-shot, parked, exclusive.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

pub(crate) fn nothing_is_said_of_what_is_parked<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut selector = TestSelector::<T>::new();
        let (a, mut b) = pair();
        let registration = selector.inner.register(a.as_raw_fd(), Token(1), Interest::NONE, kind).unwrap();
        selector.expect_no_events();
        b.write_all(b"x").unwrap();
        registration.rearm(IoDirection::Read);
        selector.expect_no_events();
        drop(b);
        selector.expect_no_events();
        // It hangs and is not looked at, so the wait is one.
        let start = Instant::now();
        assert_eq!(selector.select(Duration::from_millis(20)), BTreeMap::new());
        assert!(start.elapsed() >= Duration::from_millis(20));
        selector.inner.reregister(a.as_raw_fd(), Token(2), READ, kind).unwrap();
        selector.expect(2, R | hint::<T>(RC));
        // And parked again, by reregistering.
        selector.inner.reregister(a.as_raw_fd(), Token(3), Interest::NONE, kind).unwrap();
        registration.rearm(IoDirection::Read);
        selector.expect_no_events();
        selector.inner.deregister(a.as_raw_fd(), kind).unwrap();
        selector.expect_no_events();
    }
}

pub(crate) fn parking_keeps_the_place<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let (reader, writer) = pipe_ends();
    for fd in [a.as_raw_fd(), reader.as_raw_fd(), writer.as_raw_fd()] {
        selector.register_raw(fd, 1, Interest::NONE).unwrap();
        if rejects_duplicates::<T>(fd) {
            for interest in [READ, Interest::NONE] {
                assert_eq!(kind(selector.register_raw(fd, 2, interest)), ErrorKind::AlreadyExists, "{interest:?}");
            }
        }
        selector.inner.reregister(fd, Token(3), Interest::NONE, SourceKind::RawFd).unwrap();
        selector.inner.deregister(fd, SourceKind::RawFd).unwrap();
        assert_eq!(kind(selector.inner.deregister(fd, SourceKind::RawFd)), ErrorKind::NotFound);
        assert_eq!(kind(selector.inner.reregister(fd, Token(3), READ, SourceKind::RawFd)), ErrorKind::NotFound);
        let parked = Interest::NONE;
        assert_eq!(kind(selector.inner.reregister(fd, Token(3), parked, SourceKind::RawFd)), ErrorKind::NotFound);
    }
    // What waits cannot be parked a second time either.
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    if rejects_duplicates::<T>(a.as_raw_fd()) {
        assert_eq!(kind(selector.register_raw(a.as_raw_fd(), 2, Interest::NONE)), ErrorKind::AlreadyExists);
        b.write_all(b"x").unwrap();
        selector.expect(1, R);
    }
    let file = tempfile::tempfile().unwrap();
    assert_eq!(errno(selector.register_raw(file.as_raw_fd(), 1, Interest::NONE)), libc::EPERM);
    assert_eq!(errno(selector.register_raw(RawFd::MAX, 1, Interest::NONE)), libc::EBADF);
}

pub(crate) fn level_is_told_while_it_is_so<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut selector = TestSelector::<T>::new();
        let (io, mut b) = pair();
        let registration = selector.inner.register(io.as_raw_fd(), Token(1), READ.level(), kind).unwrap();
        let a = RegisteredIo::<T, _> { registration, io };
        selector.expect_no_events();
        b.write_all(b"xy").unwrap();
        for _ in 0..3 {
            assert_eq!(selector.now(), BTreeMap::from([(1, R)]));
        }
        assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
        assert_eq!(selector.now(), BTreeMap::from([(1, R)]));
        assert_eq!(a.drain(), (1, false));
        selector.expect_no_events();
        drop(b);
        for _ in 0..3 {
            assert!(selector.now()[&1].has(R));
        }
    }
    // Room to write is a level too.
    let mut selector = TestSelector::<T>::new();
    let (a, b) = pair();
    let a = selector.register_owned(a, 1, WRITE.level());
    for _ in 0..3 {
        assert_eq!(selector.now(), BTreeMap::from([(1, W)]));
    }
    a.fill();
    selector.expect_no_events();
    read_all(&b);
    selector.expect(1, W);
}

pub(crate) fn one_shot_is_told_once<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut selector = TestSelector::<T>::new();
        let (io, mut b) = pair();
        let fd = io.as_raw_fd();
        let registration = selector.inner.register(fd, Token(1), READ.oneshot(), kind).unwrap();
        let a = RegisteredIo::<T, _> { registration, io };
        selector.expect_no_events();
        for token in 2..5 {
            b.write_all(b"x").unwrap();
            selector.expect(token - 1, R);
            b.write_all(b"x").unwrap();
            selector.expect_no_events();
            assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
            selector.expect_no_events();
            // One byte is left unread, which the next arm tells at once.
            selector.inner.reregister(fd, Token(token), READ.oneshot(), kind).unwrap();
            selector.expect(token, R);
            assert_eq!(a.drain(), (1, false));
            selector.inner.reregister(fd, Token(token), READ.oneshot(), kind).unwrap();
            selector.expect_no_events();
        }
        selector.inner.deregister(fd, kind).unwrap();
        b.write_all(b"x").unwrap();
        selector.expect_no_events();
    }
}

pub(crate) fn one_shot_mutes_both_directions<T: Selector>() {
    for capacity in [1, 8] {
        if capacity == 1 && is_known_failure::<T>(Check::BothDirectionsInBufferOfOne) {
            continue;
        }
        let mut selector = TestSelector::<T>::with_capacity(capacity);
        let (a, mut b) = pair();
        fill(&a);
        let a = selector.register_owned(a, 1, BOTH.oneshot());
        selector.expect_no_events();
        // The one direction fires, and the other becomes true after that.
        b.write_all(b"x").unwrap();
        assert_eq!(selector.expect(1, R), R);
        read_all(&b);
        selector.expect_no_events();
        // Both are true when it is armed.
        selector.reregister(&a.io, 2, BOTH.oneshot()).unwrap();
        let reported = selector.now();
        assert_eq!(reported.into_keys().collect::<Vec<_>>(), [2]);
        b.write_all(b"x").unwrap();
        selector.expect_no_events();
        // Another mode of the same descriptor is not muted by what was before.
        selector.reregister(&a.io, 3, BOTH).unwrap();
        let mut reported = NONE;
        while let Some(more) = selector.now().remove(&3) {
            reported |= more;
        }
        assert_eq!(reported, R | W);
    }
}

pub(crate) fn one_shot_and_a_peer_that_closes<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let a = selector.register_owned(a, 1, READ.oneshot());
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
    drop(b);
    selector.expect_no_events();
    assert_eq!(a.drain(), (1, true));
    selector.expect_no_events();
    selector.reregister(&a.io, 2, READ.oneshot()).unwrap();
    selector.expect(2, R | hint::<T>(RC));
    selector.expect_no_events();
}

pub(crate) fn from_one_mode_to_another<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    let a = selector.register_owned(a, 1, READ.level());
    let modes = [READ, READ.level(), READ.oneshot(), READ, READ.oneshot(), READ.level(), READ];
    for (interest, token) in modes.into_iter().zip(2..) {
        selector.reregister(&a.io, token, interest).unwrap();
        selector.expect(token, R);
        let again = selector.now();
        assert_eq!(again.contains_key(&token), interest.is_level(), "{interest:?}");
    }
    // The last is an edge, and works as one.
    assert_eq!(a.drain(), (1, false));
    b.write_all(b"y").unwrap();
    selector.expect(8, R);
}

pub(crate) fn level_takes_turns<T: Selector>() {
    for capacity in [1, 3] {
        let mut selector = TestSelector::<T>::with_capacity(capacity);
        let mut pairs = Vec::new();
        for token in 0..8 {
            let (a, mut b) = pair();
            b.write_all(b"x").unwrap();
            pairs.push((selector.register_owned(a, token, READ.level()), b));
        }
        let mut seen = BTreeSet::new();
        for _ in 0..8 {
            seen.extend(selector.now().into_keys());
        }
        assert_eq!(seen.len(), 8, "only {seen:?}");
    }
}

pub(crate) fn modes_of_a_pipe_without_a_reader<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (reader, writer) = pipe_ends();
    drop(reader);
    // A parked one is silent, and the first in this row.
    selector.register_raw(writer.as_raw_fd(), 1, Interest::NONE).unwrap();
    selector.expect_no_events();
    selector.reregister(&writer, 2, WRITE.level()).unwrap();
    for _ in 0..3 {
        assert!(selector.now()[&2].has(W));
    }
    selector.reregister(&writer, 3, WRITE.oneshot()).unwrap();
    selector.expect(3, W);
    selector.expect_no_events();
    selector.reregister(&writer, 4, WRITE).unwrap();
    selector.expect(4, W);
    selector.expect_no_events();
    selector.deregister(&writer).unwrap();
    selector.expect_no_events();
}

/// A second thread arms again while the first one waits: each byte is told, and none twice.
pub(crate) fn one_shot_in_two_threads<T: Selector>() {
    const BYTES: usize = 2000;
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let fd = a.as_raw_fd();
    selector.register_raw(fd, 1, BOTH.oneshot()).unwrap();
    let (events, armed) = std::sync::mpsc::channel();
    let read = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (inner, a, read) = (&selector.inner, &a, &read);
        scope.spawn(move || {
            for () in armed {
                read.fetch_add(read_all(a), Ordering::Release);
                inner.reregister(fd, Token(1), READ.oneshot(), SourceKind::RawFd).unwrap();
            }
        });
        scope.spawn(move || {
            for _ in 0..BYTES {
                while b.write_all(b"x").is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let deadline = Instant::now() + TIMEOUT;
        while read.load(Ordering::Acquire) < BYTES {
            assert!(Instant::now() < deadline, "{} bytes were told", read.load(Ordering::Acquire));
            inner.select(&mut selector.events, Some(Duration::from_millis(20))).unwrap();
            for event in &selector.events {
                assert_eq!(event.token(), Token(1));
                events.send(()).unwrap();
            }
        }
        drop(events);
    });
}

pub(crate) fn exclusive_is_an_option<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let exclusive = READ.exclusive();
    if T::BACKEND != Backend::Epoll || !cfg!(has_epollexclusive) {
        assert_eq!(kind(selector.register_raw(a.as_raw_fd(), 1, exclusive)), ErrorKind::Unsupported);
        b.write_all(b"x").unwrap();
        selector.expect_no_events();
        selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
        assert_eq!(kind(selector.reregister(&a, 2, exclusive)), ErrorKind::Unsupported);
        selector.expect(1, R);
        return;
    }
    for refused in [exclusive.oneshot(), exclusive | Interest::PRIORITY] {
        assert_eq!(kind(selector.register_raw(a.as_raw_fd(), 1, refused)), ErrorKind::Unsupported, "{refused:?}");
    }
    for interest in [exclusive, exclusive.level(), READ, exclusive, Interest::NONE, exclusive] {
        let token = 1;
        match selector.reregister(&a, token, interest) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                selector.register_raw(a.as_raw_fd(), token, interest).unwrap()
            }
            result => result.unwrap(),
        }
        selector.expect_no_events();
        b.write_all(b"x").unwrap();
        assert_eq!(selector.now().contains_key(&token), !interest.is_none());
        assert_eq!(read_all(&a), 1);
        selector.expect_no_events();
    }
    selector.deregister(&a).unwrap();
    assert_eq!(kind(selector.deregister(&a)), ErrorKind::NotFound);
}

conformance_tests! {
    nothing_is_said_of_what_is_parked,
    parking_keeps_the_place,
    level_is_told_while_it_is_so,
    one_shot_is_told_once,
    one_shot_mutes_both_directions,
    one_shot_and_a_peer_that_closes,
    from_one_mode_to_another,
    level_takes_turns,
    modes_of_a_pipe_without_a_reader,
    one_shot_in_two_threads,
    exclusive_is_an_option,
}
