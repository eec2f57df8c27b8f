//! One descriptor with several sources, modes and failures: the last successful change defines the registration.

use std::io::{ErrorKind, Write};

use kevio::{Backend, Interest, Poll, Timer, Token, BACKEND};
#[cfg(unix)]
use kevio::{Process, Signals, Watch};

use crate::support::known_failures::{is_known_failure, is_libkqueue, Check};
use crate::support::poll::{TestPoll, BOTH, READ, WRITE};
use crate::support::readiness::{R, W};
use crate::support::streams::{
    borrow, kevio_pair, one_way, raw, std_pair, IoSource, OwnedSource, RawSource, SourceFd, StdStream, Stream,
};

/// The interest of a registration that its source leaves, and `true` if its event has been reported before.
const LEFT: [(Interest, bool); 6] = [
    (READ, false),
    (BOTH, true),
    (BOTH.level(), true),
    (READ.oneshot(), true),
    (BOTH.oneshot(), true),
    (Interest::NONE, false),
];

/// Registers a source whose descriptor is registered already: kqueue replaces the registration, other backends may fail.
fn register_over(
    poll: &TestPoll,
    source: &mut impl kevio::event::Source,
    fd: RawSource,
    token: usize,
    interest: Interest,
) {
    let registry = poll.registry();
    match registry.register(source, Token(token), interest) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && BACKEND != Backend::Kqueue => {
            registry.deregister(&mut SourceFd(&fd)).unwrap();
            registry.register(source, Token(token), interest).unwrap();
        }
        result => result.unwrap(),
    }
}

/// Checks a registration under token 2 of a stream that is readable and writable. Events of older registrations fail.
#[track_caller]
fn check_modes_of(poll: &mut TestPoll, a: &mut impl kevio::event::Source, b: &mut impl Write, interest: Interest) {
    b.write_all(b"x").unwrap();
    if interest.is_readable() {
        poll.expect(2, R);
    }
    if interest.is_level() {
        for _ in 0..3 {
            poll.expect(2, R);
        }
    } else if interest.is_oneshot() {
        b.write_all(b"y").unwrap();
        poll.expect_no_events();
    } else if interest == READ {
        // The readable edge is reported, writable is not.
        poll.expect_without(2, W);
    }
    poll.reregister(a, 3, Interest::NONE);
    poll.expect_no_events();
}

#[test]
fn stream_wrapped_again_has_its_new_registration() {
    for (left, is_reported) in LEFT {
        for interest in [READ, READ.level(), READ.oneshot(), Interest::NONE] {
            let mut poll = TestPoll::new();
            let (mut a, mut b) = kevio_pair();
            let fd = raw(&a);
            b.write_all(b"x").unwrap();
            poll.register(&mut a, 1, left);
            if is_reported {
                poll.expect_any(1, R | W);
            }
            let mut a = Stream::from_std(StdStream::from(a));
            register_over(&poll, &mut a, fd, 2, interest);
            check_modes_of(&mut poll, &mut a, &mut b, interest);
        }
    }
}

#[test]
fn descriptor_wrapped_again_has_its_new_registration() {
    for (left, is_reported) in LEFT {
        for interest in [READ, READ.level(), READ.oneshot(), Interest::NONE] {
            let mut poll = TestPoll::new();
            let (a, b) = std_pair();
            a.set_nonblocking(true).unwrap();
            let mut b = Stream::from_std(b);
            let fd = raw(&a);
            let mut source = IoSource::new(OwnedSource::from(a));
            b.write_all(b"x").unwrap();
            poll.register(&mut source, 1, left);
            if is_reported {
                poll.expect_any(1, R | W);
            }
            let mut source = IoSource::new(source.into_inner());
            register_over(&poll, &mut source, fd, 2, interest);
            check_modes_of(&mut poll, &mut source, &mut b, interest);
        }
    }
}

#[test]
fn stream_registered_after_its_number_has_its_new_registration() {
    for (left, is_reported) in LEFT {
        let mut poll = TestPoll::new();
        let (a, mut b) = kevio_pair();
        let mut a = Stream::from(OwnedSource::from(a));
        let fd = raw(&a);
        b.write_all(b"x").unwrap();
        poll.register(&mut SourceFd(&fd), 1, left);
        if is_reported {
            poll.expect_any(1, R | W);
        }
        register_over(&poll, &mut a, fd, 2, READ);
        check_modes_of(&mut poll, &mut a, &mut b, READ);
    }
}

/// Tests a source and a raw number.
#[test]
fn reregistering_changes_every_mode_to_every_other() {
    let modes = [READ, WRITE, BOTH, READ.level(), BOTH.level(), READ.oneshot(), BOTH.oneshot(), Interest::NONE];
    for from in modes {
        for to in [READ, READ.level(), READ.oneshot(), Interest::NONE] {
            for is_raw in [false, true] {
                let mut poll = TestPoll::new();
                let (mut a, mut b) = kevio_pair();
                let fd = raw(&a);
                b.write_all(b"x").unwrap();
                if is_raw {
                    poll.register(&mut SourceFd(&fd), 1, from);
                    poll.poll_once(Some(std::time::Duration::ZERO));
                    poll.reregister(&mut SourceFd(&fd), 2, to);
                    check_modes_of(&mut poll, &mut SourceFd(&fd), &mut b, to);
                    poll.deregister(&mut SourceFd(&fd));
                } else {
                    poll.register(&mut a, 1, from);
                    poll.poll_once(Some(std::time::Duration::ZERO));
                    poll.reregister(&mut a, 2, to);
                    check_modes_of(&mut poll, &mut a, &mut b, to);
                    poll.deregister(&mut a);
                }
                b.write_all(b"z").unwrap();
                poll.expect_no_events();
            }
        }
    }
}

#[test]
fn second_borrowing_source_is_rejected_and_removes_nothing() {
    if is_known_failure(Check::SecondSource) {
        return;
    }
    for first_interest in [READ, Interest::NONE] {
        for second_interest in [READ, READ.level(), Interest::NONE] {
            let mut poll = TestPoll::new();
            let (a, mut b) = std_pair();
            let mut first = IoSource::new(borrow(&a));
            let mut second = IoSource::new(borrow(&a));
            poll.register(&mut first, 1, first_interest);
            let error = poll.registry().register(&mut second, Token(2), second_interest).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            let mut batch = kevio::Batch::new();
            batch.register(&mut second, Token(2), second_interest);
            let error = poll.registry().submit(batch).remove(0).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            drop(second);
            poll.reregister(&mut first, 3, READ);
            b.write_all(b"x").unwrap();
            poll.expect(3, R);
            // After the first source is dropped, another source can be registered.
            drop(first);
            let mut third = IoSource::new(borrow(&a));
            poll.register(&mut third, 4, READ);
            poll.expect(4, R);
        }
    }
}

/// The number of a source is deregistered and registered again without the source. Dropping the source keeps the new
/// registration.
#[test]
fn borrowing_source_removes_no_registration_of_its_number() {
    for interest in [READ, READ.level(), Interest::NONE] {
        let mut poll = TestPoll::new();
        let (a, mut b) = std_pair();
        a.set_nonblocking(true).unwrap();
        let fd = raw(&a);
        let [mut dropped, mut deregistered] = [IoSource::new(borrow(&a)), IoSource::new(borrow(&a))];
        for source in [&mut dropped, &mut deregistered] {
            poll.register(source, 1, interest);
            poll.deregister(&mut SourceFd(&fd));
        }
        poll.register(&mut SourceFd(&fd), 2, READ);
        drop(dropped);
        let error = poll.registry().deregister(&mut deregistered).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        b.write_all(b"x").unwrap();
        poll.expect(2, R);
        poll.deregister(&mut SourceFd(&fd));
    }
}

#[test]
fn level_triggered_broken_pipe_is_reported_at_every_poll() {
    for is_raw in [false, true] {
        for fills in [false, true] {
            let mut poll = TestPoll::new();
            let (mut sender, receiver) = one_way();
            let fd = raw(&sender);
            if is_raw {
                poll.register(&mut SourceFd(&fd), 1, WRITE.level());
            } else {
                poll.register(&mut sender, 1, WRITE.level());
            }
            poll.expect(1, W);
            if fills {
                while sender.write(&[0; 4096]).is_ok() {}
                poll.expect_no_events();
            }
            drop(receiver);
            for _ in 0..5 {
                poll.expect(1, W);
            }
            if is_raw {
                poll.reregister(&mut SourceFd(&fd), 2, WRITE.level());
            } else {
                poll.reregister(&mut sender, 2, WRITE.level());
            }
            for _ in 0..5 {
                poll.expect(2, W);
            }
            if is_raw {
                poll.deregister(&mut SourceFd(&fd));
            } else {
                poll.deregister(&mut sender);
            }
            poll.expect_no_events();
        }
    }
}

/// A broken pipe stays registered until deregistering, even if the kernel deletes its filter.
#[test]
fn raw_broken_pipe_stays_registered() {
    for interest in [WRITE, WRITE.level(), WRITE.oneshot()] {
        let mut poll = TestPoll::new();
        let (sender, receiver) = one_way();
        let fd = raw(&sender);
        poll.register(&mut SourceFd(&fd), 1, interest);
        poll.expect(1, W);
        poll.reregister(&mut SourceFd(&fd), 2, interest);
        poll.expect(2, W);
        drop(receiver);
        poll.reregister(&mut SourceFd(&fd), 3, interest);
        poll.expect(3, W);
        poll.reregister(&mut SourceFd(&fd), 4, interest);
        poll.expect(4, W);
        poll.deregister(&mut SourceFd(&fd));
        poll.expect_no_events();
    }
}

#[test]
fn failed_reregistration_keeps_the_registration() {
    let mut poll = TestPoll::new();
    // Some systems reject the priority interest for a pipe.
    let (mut sender, mut receiver) = one_way();
    poll.register(&mut receiver, 1, READ);
    let fd = raw(&receiver);
    let mut expected = 1;
    match poll.registry().reregister(&mut receiver, Token(2), READ | Interest::PRIORITY) {
        Ok(()) => expected = 2,
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
    }
    match poll.registry().reregister(&mut SourceFd(&fd), Token(3), Interest::PRIORITY.level()) {
        Ok(()) => poll.reregister(&mut receiver, expected, READ),
        Err(error) => assert_eq!(error.kind(), ErrorKind::Unsupported),
    }
    sender.write_all(b"x").unwrap();
    poll.expect(expected, R);
}

/// A kqueue rejects the write filter of a kqueue descriptor.
#[test]
fn failed_reregistration_of_a_queue_keeps_the_registration() {
    if BACKEND != Backend::Kqueue || is_libkqueue() {
        return;
    }
    let kq = kevio_queue();
    for interest in [WRITE, WRITE.level(), BOTH, BOTH.oneshot()] {
        let mut poll = TestPoll::new();
        let fd = raw(&kq);
        poll.register(&mut SourceFd(&fd), 1, READ.level());
        poll.registry().reregister(&mut SourceFd(&fd), Token(2), interest).unwrap_err();
        poll.expect(1, R);
        poll.deregister(&mut SourceFd(&fd));
        let mut source = IoSource::new(borrow(&kq));
        poll.register(&mut source, 1, READ.level());
        poll.registry().reregister(&mut source, Token(2), interest).unwrap_err();
        poll.expect(1, R);
    }
}

/// Returns a kqueue that has an event.
fn kevio_queue() -> OwnedSource {
    #[cfg(all(has_kqueue, not(links_libkqueue)))]
    {
        use kevio::unix::kqueue::{Flags, Kevent, Kqueue, TimerUnit};
        let kq = Kqueue::new().unwrap();
        let mut changes = [Kevent::timer(1, Flags::ADD | Flags::ONESHOT, 1, TimerUnit::Milliseconds).unwrap()];
        assert!(kq.apply(&mut changes).unwrap()[0].result().is_ok());
        kq.into()
    }
    #[cfg(not(all(has_kqueue, not(links_libkqueue))))]
    unreachable!("this system has no kqueue")
}

/// A rejected or disabled registration reports no event, even if the kernel reports its hang-up.
#[test]
fn disabled_registration_of_a_hung_up_descriptor_reports_nothing() {
    if is_known_failure(Check::AddedAsDisabled) {
        return;
    }
    const TIMES: usize = 20_000;
    let mut poll = TestPoll::new();
    let (a, b) = std_pair();
    drop(b);
    let (_ours, mut other) = {
        let (mut ours, other) = kevio_pair();
        poll.register(&mut ours, 2, READ);
        (ours, other)
    };
    let registry = poll.registry().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let fd = raw(&a);
            for n in 0..TIMES {
                registry.register(&mut SourceFd(&fd), Token(1), Interest::NONE).unwrap();
                if n % 100 == 0 {
                    let again = registry.register(&mut SourceFd(&fd), Token(1), Interest::NONE);
                    assert_eq!(again.is_ok(), BACKEND == Backend::Kqueue);
                }
                registry.deregister(&mut SourceFd(&fd)).unwrap();
            }
            other.write_all(b"x").unwrap();
        });
        loop {
            // An endless wait returns an event, or is interrupted.
            let events = poll.poll_once(None);
            assert!(!events.contains_key(&1), "{events:?}");
            if events.contains_key(&2) {
                return;
            }
        }
    });
}

/// A disabled registration of a hung-up descriptor does not shorten a wait.
#[test]
fn disabled_registration_of_a_hung_up_descriptor_does_not_end_a_wait() {
    if is_known_failure(Check::AddedAsDisabled) {
        return;
    }
    let mut poll = TestPoll::new();
    let (a, b) = std_pair();
    drop(b);
    let fd = raw(&a);
    poll.register(&mut SourceFd(&fd), 1, Interest::NONE);
    poll.deregister(&mut SourceFd(&fd));
    let (is_over, wait) = (std::sync::atomic::AtomicBool::new(false), std::time::Duration::from_millis(200));
    let registry = poll.registry().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::SeqCst) {
                registry.register(&mut SourceFd(&fd), Token(1), Interest::NONE).unwrap();
                registry.deregister(&mut SourceFd(&fd)).unwrap();
            }
        });
        let began = std::time::Instant::now();
        let events = poll.poll_once(Some(wait));
        is_over.store(true, std::sync::atomic::Ordering::SeqCst);
        assert!(events.is_empty() && began.elapsed() >= wait, "{events:?} after {:?}", began.elapsed());
    });
}

/// Two threads register one number, one of them as disabled: one call succeeds, and one registration exists.
#[test]
fn two_threads_registering_one_number_register_it_once() {
    if BACKEND == Backend::Kqueue {
        return;
    }
    for _ in 0..200 {
        let mut poll = TestPoll::new();
        let (a, mut b) = std_pair();
        b.write_all(b"x").unwrap();
        let fd = raw(&a);
        let barrier = std::sync::Barrier::new(2);
        let registered: Vec<_> = std::thread::scope(|scope| {
            let threads = [READ, Interest::NONE].map(|interest| {
                let (registry, barrier) = (poll.registry(), &barrier);
                scope.spawn(move || {
                    barrier.wait();
                    registry.register(&mut SourceFd(&fd), Token(1), interest).is_ok()
                })
            });
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_ne!(registered[0], registered[1]);
        poll.deregister(&mut SourceFd(&fd));
        poll.registry().deregister(&mut SourceFd(&fd)).unwrap_err();
        poll.expect_no_events();
    }
}

/// The pipes of FreeBSD are bidirectional, so that the write filter of a reader reports the end of its writer.
#[test]
fn pipe_registered_for_both_directions_reports_readable_at_its_end() {
    for interest in [BOTH, BOTH.level(), BOTH.oneshot()] {
        let mut poll = TestPoll::new();
        let (mut sender, mut receiver) = one_way();
        sender.write_all(b"x").unwrap();
        drop(sender);
        poll.register(&mut receiver, 1, interest);
        poll.expect_any(1, R);
    }
    let mut poll = TestPoll::new();
    let (mut sender, mut receiver) = one_way();
    poll.register(&mut receiver, 1, BOTH.level());
    sender.write_all(b"x").unwrap();
    drop(sender);
    for _ in 0..5 {
        poll.expect_any(1, R);
    }
}

#[test]
fn detached_broken_pipe_stays_registered() {
    let mut poll = TestPoll::new();
    let (mut sender, receiver) = one_way();
    poll.register(&mut sender, 1, WRITE);
    poll.expect(1, W);
    let detached = OwnedSource::from(sender);
    drop(receiver);
    poll.expect(1, W);
    let fd = raw(&detached);
    poll.reregister(&mut SourceFd(&fd), 2, WRITE);
    poll.expect(2, W);
    poll.deregister(&mut SourceFd(&fd));
}

#[test]
fn failed_reregistration_does_not_arm_a_disarmed_one_shot() {
    if BACKEND != Backend::Kqueue || is_libkqueue() {
        return;
    }
    let kq = kevio_queue();
    let fd = raw(&kq);
    let mut poll = TestPoll::new();
    poll.register(&mut SourceFd(&fd), 1, READ.oneshot());
    poll.expect(1, R);
    poll.registry().reregister(&mut SourceFd(&fd), Token(2), WRITE.oneshot()).unwrap_err();
    poll.expect_no_events();
    poll.reregister(&mut SourceFd(&fd), 3, READ.oneshot());
    poll.expect(3, R);
    poll.expect_no_events();
}

/// Every kind of source that is no descriptor to the program, with the same methods.
#[test]
fn sources_know_if_they_are_registered() {
    let (poll, other) = (TestPoll::new(), Poll::new().unwrap());
    macro_rules! check {
        ($source:expr) => {
            if let Ok(mut source) = $source {
                assert!(!source.is_registered());
                for interest in [READ, Interest::NONE] {
                    poll.register(&mut source, 1, interest);
                    assert!(source.is_registered());
                    assert!(poll.registry().register(&mut source, Token(2), READ).is_err() && source.is_registered());
                    assert!(other.registry().deregister(&mut source).is_err() && source.is_registered());
                    poll.reregister(&mut source, 2, READ);
                    assert!(source.is_registered());
                    poll.deregister(&mut source);
                    assert!(!source.is_registered());
                    assert!(format!("{source:?}").ends_with("is_registered: false }"), "{source:?}");
                }
                assert!(poll.registry().register(&mut source, Token(1), READ.exclusive()).is_err());
                assert!(!source.is_registered(), "a failed registration");
                let dropped = Poll::new().unwrap();
                dropped.registry().register(&mut source, Token(1), READ).unwrap();
                assert!(source.is_registered());
                drop(dropped);
                assert!(!source.is_registered(), "the poll was dropped");
            }
        };
    }
    check!(Timer::new());
    #[cfg(unix)]
    {
        let directory = tempfile::tempdir().unwrap();
        check!(Signals::new([libc::SIGWINCH]));
        check!(Process::from_pid(std::process::id() as _));
        check!(Watch::open(directory.path()));
    }
}
