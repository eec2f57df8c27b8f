//! Level, one-shot, parked, exclusive.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

pub(crate) fn nothing_is_said_of_what_is_parked<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut rig = Rig::<T>::new();
        let (a, mut b) = pair();
        let registration = rig.engine.register(a.as_raw_fd(), Token(1), Interest::NONE, kind).unwrap();
        rig.silent();
        b.write_all(b"x").unwrap();
        registration.rearm(IoDirection::Read);
        rig.silent();
        drop(b);
        rig.silent();
        // It hangs and is not looked at, so the wait is one.
        let start = Instant::now();
        assert_eq!(rig.select(Duration::from_millis(20)), BTreeMap::new());
        assert!(start.elapsed() >= Duration::from_millis(20));
        rig.engine.reregister(a.as_raw_fd(), Token(2), READ, kind).unwrap();
        rig.expect(2, R | hint::<T>(RC));
        // And parked again, by reregistering.
        rig.engine.reregister(a.as_raw_fd(), Token(3), Interest::NONE, kind).unwrap();
        registration.rearm(IoDirection::Read);
        rig.silent();
        rig.engine.deregister(a.as_raw_fd(), kind).unwrap();
        rig.silent();
    }
}

pub(crate) fn parking_keeps_the_place<T: Selector>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    let (reader, writer) = pipe_ends();
    for fd in [a.as_raw_fd(), reader.as_raw_fd(), writer.as_raw_fd()] {
        rig.bare(fd, 1, Interest::NONE).unwrap();
        if refuses_twice::<T>(fd) {
            for interest in [READ, Interest::NONE] {
                assert_eq!(kind(rig.bare(fd, 2, interest)), ErrorKind::AlreadyExists, "{interest:?}");
            }
        }
        rig.engine.reregister(fd, Token(3), Interest::NONE, SourceKind::RawFd).unwrap();
        rig.engine.deregister(fd, SourceKind::RawFd).unwrap();
        assert_eq!(kind(rig.engine.deregister(fd, SourceKind::RawFd)), ErrorKind::NotFound);
        assert_eq!(kind(rig.engine.reregister(fd, Token(3), READ, SourceKind::RawFd)), ErrorKind::NotFound);
        let parked = Interest::NONE;
        assert_eq!(kind(rig.engine.reregister(fd, Token(3), parked, SourceKind::RawFd)), ErrorKind::NotFound);
    }
    // What waits cannot be parked a second time either.
    rig.bare(a.as_raw_fd(), 1, READ).unwrap();
    if refuses_twice::<T>(a.as_raw_fd()) {
        assert_eq!(kind(rig.bare(a.as_raw_fd(), 2, Interest::NONE)), ErrorKind::AlreadyExists);
        b.write_all(b"x").unwrap();
        rig.expect(1, R);
    }
    let file = tempfile::tempfile().unwrap();
    assert_eq!(errno(rig.bare(file.as_raw_fd(), 1, Interest::NONE)), libc::EPERM);
    assert_eq!(errno(rig.bare(RawFd::MAX, 1, Interest::NONE)), libc::EBADF);
}

pub(crate) fn level_is_told_while_it_is_so<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut rig = Rig::<T>::new();
        let (io, mut b) = pair();
        let registration = rig.engine.register(io.as_raw_fd(), Token(1), READ.level(), kind).unwrap();
        let a = Held::<T, _> { registration, io };
        rig.silent();
        b.write_all(b"xy").unwrap();
        for _ in 0..3 {
            assert_eq!(rig.now(), BTreeMap::from([(1, R)]));
        }
        assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
        assert_eq!(rig.now(), BTreeMap::from([(1, R)]));
        assert_eq!(a.drain(), (1, false));
        rig.silent();
        drop(b);
        for _ in 0..3 {
            assert!(rig.now()[&1].has(R));
        }
    }
    // Room to write is a level too.
    let mut rig = Rig::<T>::new();
    let (a, b) = pair();
    let a = rig.hold(a, 1, WRITE.level());
    for _ in 0..3 {
        assert_eq!(rig.now(), BTreeMap::from([(1, W)]));
    }
    a.fill();
    rig.silent();
    read_all(&b);
    rig.expect(1, W);
}

pub(crate) fn one_shot_is_told_once<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut rig = Rig::<T>::new();
        let (io, mut b) = pair();
        let fd = io.as_raw_fd();
        let registration = rig.engine.register(fd, Token(1), READ.oneshot(), kind).unwrap();
        let a = Held::<T, _> { registration, io };
        rig.silent();
        for token in 2..5 {
            b.write_all(b"x").unwrap();
            rig.expect(token - 1, R);
            b.write_all(b"x").unwrap();
            rig.silent();
            assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
            rig.silent();
            // One byte is left unread, which the next arm tells at once.
            rig.engine.reregister(fd, Token(token), READ.oneshot(), kind).unwrap();
            rig.expect(token, R);
            assert_eq!(a.drain(), (1, false));
            rig.engine.reregister(fd, Token(token), READ.oneshot(), kind).unwrap();
            rig.silent();
        }
        rig.engine.deregister(fd, kind).unwrap();
        b.write_all(b"x").unwrap();
        rig.silent();
    }
}

pub(crate) fn one_shot_mutes_both_directions<T: Selector>() {
    for capacity in [1, 8] {
        if capacity == 1 && gets_wrong::<T>("both_directions_through_a_buffer_for_one") {
            continue;
        }
        let mut rig = Rig::<T>::with_capacity(capacity);
        let (a, mut b) = pair();
        fill(&a);
        let a = rig.hold(a, 1, BOTH.oneshot());
        rig.silent();
        // The one direction fires, and the other becomes true after that.
        b.write_all(b"x").unwrap();
        assert_eq!(rig.expect(1, R), R);
        read_all(&b);
        rig.silent();
        // Both are true when it is armed.
        rig.reregister(&a.io, 2, BOTH.oneshot()).unwrap();
        let said = rig.now();
        assert_eq!(said.into_keys().collect::<Vec<_>>(), [2]);
        b.write_all(b"x").unwrap();
        rig.silent();
        // Another mode of the same descriptor is not muted by what was before.
        rig.reregister(&a.io, 3, BOTH).unwrap();
        let mut said = NOTHING;
        while let Some(more) = rig.now().remove(&3) {
            said |= more;
        }
        assert_eq!(said, R | W);
    }
}

pub(crate) fn one_shot_and_a_peer_that_closes<T: Selector>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    let a = rig.hold(a, 1, READ.oneshot());
    b.write_all(b"x").unwrap();
    rig.expect(1, R);
    drop(b);
    rig.silent();
    assert_eq!(a.drain(), (1, true));
    rig.silent();
    rig.reregister(&a.io, 2, READ.oneshot()).unwrap();
    rig.expect(2, R | hint::<T>(RC));
    rig.silent();
}

pub(crate) fn from_one_mode_to_another<T: Selector>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    let a = rig.hold(a, 1, READ.level());
    let modes = [READ, READ.level(), READ.oneshot(), READ, READ.oneshot(), READ.level(), READ];
    for (interest, token) in modes.into_iter().zip(2..) {
        rig.reregister(&a.io, token, interest).unwrap();
        rig.expect(token, R);
        let again = rig.now();
        assert_eq!(again.contains_key(&token), interest.is_level(), "{interest:?}");
    }
    // The last is an edge, and works as one.
    assert_eq!(a.drain(), (1, false));
    b.write_all(b"y").unwrap();
    rig.expect(8, R);
}

pub(crate) fn level_takes_turns<T: Selector>() {
    for capacity in [1, 3] {
        let mut rig = Rig::<T>::with_capacity(capacity);
        let mut pairs = Vec::new();
        for token in 0..8 {
            let (a, mut b) = pair();
            b.write_all(b"x").unwrap();
            pairs.push((rig.hold(a, token, READ.level()), b));
        }
        let mut seen = BTreeSet::new();
        for _ in 0..8 {
            seen.extend(rig.now().into_keys());
        }
        assert_eq!(seen.len(), 8, "only {seen:?}");
    }
}

pub(crate) fn modes_of_a_pipe_without_a_reader<T: Selector>() {
    let mut rig = Rig::<T>::new();
    let (reader, writer) = pipe_ends();
    drop(reader);
    // A parked one is silent, and the first in this row.
    rig.bare(writer.as_raw_fd(), 1, Interest::NONE).unwrap();
    rig.silent();
    rig.reregister(&writer, 2, WRITE.level()).unwrap();
    for _ in 0..3 {
        assert!(rig.now()[&2].has(W));
    }
    rig.reregister(&writer, 3, WRITE.oneshot()).unwrap();
    rig.expect(3, W);
    rig.silent();
    rig.reregister(&writer, 4, WRITE).unwrap();
    rig.expect(4, W);
    rig.silent();
    rig.deregister(&writer).unwrap();
    rig.silent();
}

/// A second thread arms again while the first one waits: each byte is told, and none twice.
pub(crate) fn one_shot_in_two_threads<T: Selector>() {
    const BYTES: usize = 2000;
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    let fd = a.as_raw_fd();
    rig.bare(fd, 1, BOTH.oneshot()).unwrap();
    let (events, armed) = std::sync::mpsc::channel();
    let read = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let (engine, a, read) = (&rig.engine, &a, &read);
        scope.spawn(move || {
            for () in armed {
                read.fetch_add(read_all(a), Ordering::Release);
                engine.reregister(fd, Token(1), READ.oneshot(), SourceKind::RawFd).unwrap();
            }
        });
        scope.spawn(move || {
            for _ in 0..BYTES {
                while b.write_all(b"x").is_err() {
                    std::thread::yield_now();
                }
            }
        });
        let deadline = Instant::now() + ENOUGH;
        while read.load(Ordering::Acquire) < BYTES {
            assert!(Instant::now() < deadline, "{} bytes were told", read.load(Ordering::Acquire));
            engine.select(&mut rig.events, Some(Duration::from_millis(20))).unwrap();
            for event in &rig.events {
                assert_eq!(event.token(), Token(1));
                events.send(()).unwrap();
            }
        }
        drop(events);
    });
}

pub(crate) fn exclusive_is_an_option<T: Selector>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    let exclusive = READ.exclusive();
    if T::BACKEND != Backend::Epoll || !cfg!(has_epollexclusive) {
        assert_eq!(kind(rig.bare(a.as_raw_fd(), 1, exclusive)), ErrorKind::Unsupported);
        b.write_all(b"x").unwrap();
        rig.silent();
        rig.bare(a.as_raw_fd(), 1, READ).unwrap();
        assert_eq!(kind(rig.reregister(&a, 2, exclusive)), ErrorKind::Unsupported);
        rig.expect(1, R);
        return;
    }
    for refused in [exclusive.oneshot(), exclusive | Interest::PRIORITY] {
        assert_eq!(kind(rig.bare(a.as_raw_fd(), 1, refused)), ErrorKind::Unsupported, "{refused:?}");
    }
    for interest in [exclusive, exclusive.level(), READ, exclusive, Interest::NONE, exclusive] {
        let token = 1;
        match rig.reregister(&a, token, interest) {
            Err(error) if error.kind() == ErrorKind::NotFound => rig.bare(a.as_raw_fd(), token, interest).unwrap(),
            result => result.unwrap(),
        }
        rig.silent();
        b.write_all(b"x").unwrap();
        assert_eq!(rig.now().contains_key(&token), !interest.is_none());
        assert_eq!(read_all(&a), 1);
        rig.silent();
    }
    rig.deregister(&a).unwrap();
    assert_eq!(kind(rig.deregister(&a)), ErrorKind::NotFound);
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
