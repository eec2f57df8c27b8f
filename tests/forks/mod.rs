//! The polls and sources of a forked child, and those that the child inherits.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use kevio::net::UnixStream;
use kevio::unix::SourceFd;
use kevio::{Batch, BusyPoll, Events, Interest, Poll, Process, Signals, Timer, Token, Waker, Watch};

use crate::support::known_failures::{is_known_failure, Check};
use crate::support::poll::{expect_event, READ};
use crate::support::process::{in_a_child, while_threads_repeat};

#[track_caller]
fn expect_unsupported<T: std::fmt::Debug>(result: std::io::Result<T>) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    let message = error.to_string();
    let words = ["inherited from the parent process by fork(2)", "create another", "in the child"];
    assert!(words.into_iter().all(|word| message.contains(word)), "{message}");
}

/// A poll with a registered source of every kind.
struct Parent {
    poll: Poll,
    events: Events,
    waker: Waker,
    stream: UnixStream,
    peer: UnixStream,
    unregistered: UnixStream,
    timer: Timer,
    unset: Timer,
    signals: Signals,
    process: Process,
    watch: Option<Watch<std::os::fd::OwnedFd>>,
}

impl Parent {
    fn new() -> Parent {
        let poll = Poll::new().unwrap();
        let registry = poll.registry();
        let waker = Waker::new(registry, Token(1)).unwrap();
        let (mut stream, peer) = UnixStream::pair().unwrap();
        registry.register(&mut stream, Token(2), READ).unwrap();
        let (unregistered, _) = UnixStream::pair().unwrap();
        let mut timer = Timer::every(Duration::from_secs(1_000_000)).unwrap();
        registry.register(&mut timer, Token(3), READ).unwrap();
        let mut signals = Signals::new([libc::SIGWINCH]).unwrap();
        registry.register(&mut signals, Token(4), READ).unwrap();
        // The process is a zombie until `wait`, and disabled, so that there is no event.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let mut process = Process::new(&child).unwrap();
        registry.register(&mut process, Token(5), Interest::NONE).unwrap();
        child.wait().unwrap();
        let mut watch = Watch::open(".").ok();
        if let Some(watch) = &mut watch {
            registry.register(watch, Token(6), READ).unwrap();
        }
        let (events, unset) = (Events::with_capacity(8), Timer::new().unwrap());
        Parent { poll, events, waker, stream, peer, unregistered, timer, unset, signals, process, watch }
    }

    /// Checks in a child that every change and wait fails.
    fn check_rejected(&mut self) {
        let (poll, events) = (&mut self.poll, &mut self.events);
        // Does nothing, and so waits for no lock of the parent.
        poll.set_timer_slack(Duration::from_secs(1));
        expect_unsupported(poll.set_busy_poll(BusyPoll::default()));
        expect_unsupported(poll.busy_poll());
        expect_unsupported(poll.poll(events, Some(Duration::ZERO)));
        expect_unsupported(poll.poll_until(events, None));
        // The error has no text, because a signal handler may call the function.
        assert_eq!(self.waker.wake().unwrap_err().kind(), ErrorKind::Unsupported);
        let registry = poll.registry().try_clone().unwrap();
        expect_unsupported(Waker::new(&registry, Token(7)));
        expect_unsupported(registry.register(&mut self.unregistered, Token(7), READ));
        expect_unsupported(registry.reregister(&mut self.stream, Token(7), READ));
        expect_unsupported(registry.deregister(&mut self.stream));
        let fds = [self.stream.as_raw_fd(), self.unregistered.as_raw_fd()];
        expect_unsupported(registry.reregister(&mut SourceFd(&fds[0]), Token(7), READ));
        expect_unsupported(registry.deregister(&mut SourceFd(&fds[0])));
        expect_unsupported(registry.register(&mut SourceFd(&fds[1]), Token(7), READ));
        for timer in [&mut self.timer, &mut self.unset] {
            expect_unsupported(timer.set_after(Duration::ZERO));
            expect_unsupported(timer.cancel());
            expect_unsupported(registry.register(timer, Token(7), READ));
            expect_unsupported(registry.reregister(timer, Token(7), READ));
            expect_unsupported(registry.deregister(timer));
        }
        let mut others: Vec<&mut dyn kevio::event::Source> = vec![&mut self.signals, &mut self.process];
        others.extend(self.watch.as_mut().map(|watch| watch as _));
        for source in others {
            expect_unsupported(registry.register(source, Token(7), READ));
            expect_unsupported(registry.reregister(source, Token(7), READ));
            expect_unsupported(registry.deregister(source));
        }
        let mut batch = Batch::new();
        batch.register(&mut self.unregistered, Token(7), READ).deregister(&mut self.stream);
        registry.submit(batch).into_iter().for_each(expect_unsupported);
    }

    /// Checks in the parent that all sources work.
    fn check_usable(&mut self) {
        self.poll.poll(&mut self.events, Some(Duration::ZERO)).unwrap();
        assert!(self.events.is_empty(), "{:?}", self.events);
        assert!(self.timer.remaining().unwrap() > Duration::from_secs(900_000));
        self.waker.wake().unwrap();
        expect_event(&mut self.poll, &mut self.events, Token(1));
        self.peer.write_all(b"x").unwrap();
        expect_event(&mut self.poll, &mut self.events, Token(2));
        assert_eq!(self.stream.read(&mut [0; 4]).unwrap(), 1);
        assert_eq!(self.stream.read(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
        self.timer.set_after(Duration::ZERO).unwrap();
        expect_event(&mut self.poll, &mut self.events, Token(3));
        assert_eq!(self.timer.expirations(self.events.iter().next().unwrap()).unwrap(), 1);
        self.timer.set_every(Duration::from_secs(1_000_000)).unwrap();
        self.poll.registry().reregister(&mut self.stream, Token(2), READ).unwrap();
    }
}

/// A child cannot change the polls of its parent, and does not block.
pub fn inherited_poll_is_rejected() {
    let mut parent = Parent::new();
    for _ in 0..3 {
        in_a_child(|| parent.check_rejected());
        parent.check_usable();
        // A poll of the child does not make the inherited poll usable.
        in_a_child(|| {
            let _own = Poll::new().unwrap();
            parent.check_rejected();
        });
        parent.check_usable();
        // A grandchild can use neither poll.
        in_a_child(|| {
            let mut own = Parent::new();
            in_a_child(|| {
                parent.check_rejected();
                own.check_rejected();
            });
            own.check_usable();
        });
        parent.check_usable();
    }
}

/// The fork happens while other threads hold the locks of the poll.
pub fn inherited_source_can_be_used_and_dropped() {
    if is_known_failure(Check::ForkedChild) {
        return;
    }
    let mut parent = Some(Parent::new());
    let registry = parent.as_ref().unwrap().poll.registry().try_clone().unwrap();
    let again = || {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        registry.register(&mut a, Token(8), READ).unwrap();
        b.write_all(b"x").unwrap();
        assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
        registry.reregister(&mut a, Token(8), READ).unwrap();
        registry.deregister(&mut a).unwrap();
        let waker = Waker::new(&registry, Token(9)).unwrap();
        waker.wake().unwrap();
    };
    while_threads_repeat([&again, &again], || {
        for round in 0..60 {
            in_a_child(|| {
                let mut inherited = parent.take().unwrap();
                // Waits for no lock that a thread of the parent holds.
                let Parent { poll, waker, timer, signals, process, watch, .. } = &inherited;
                let text = format!("{poll:?} {waker:?} {timer:?} {signals:?} {process:?} {watch:?}");
                assert!(text.contains("Poll { id: ") && text.contains("is_registered: false"), "{text}");
                if round % 2 == 0 {
                    inherited.check_rejected();
                }
                inherited.peer.write_all(b"yz").unwrap();
                assert_eq!(inherited.stream.read(&mut [0; 4]).unwrap(), 2);
                drop(inherited);
            });
        }
    });
    let mut parent = parent.unwrap();
    // Events of the wakes of the threads, and of the data that a child wrote and read.
    while parent.poll.poll(&mut parent.events, Some(Duration::ZERO)).is_ok() && !parent.events.is_empty() {
        let _ = parent.stream.read(&mut [0; 4]);
    }
    parent.check_usable();
}

/// The fork happens while other threads create polls and register signals. The child must not block on their locks.
pub fn child_can_create_its_own_poll_and_sources() {
    if is_known_failure(Check::ForkedChild) {
        return;
    }
    let poll = Poll::new().unwrap();
    let (mut inherited, mut peer) = UnixStream::pair().unwrap();
    poll.registry().register(&mut inherited, Token(1), READ).unwrap();
    let again = || {
        let poll = Poll::new().unwrap();
        let mut signals = Signals::new([libc::SIGWINCH, libc::SIGURG]).unwrap();
        poll.registry().register(&mut signals, Token(1), READ).unwrap();
        drop(signals);
    };
    while_threads_repeat([&again, &again], || {
        for round in 0..40 {
            in_a_child(|| {
                if round % 10 == 0 {
                    Parent::new().check_usable();
                }
                let mut own = Poll::new().unwrap();
                let mut events = Events::with_capacity(8);
                own.registry().register(&mut inherited, Token(2), READ).unwrap();
                peer.write_all(b"x").unwrap();
                expect_event(&mut own, &mut events, Token(2));
                assert_eq!(inherited.read(&mut [0; 4]).unwrap(), 1);
                let mut signals = Signals::new([libc::SIGWINCH]).unwrap();
                own.registry().register(&mut signals, Token(3), READ).unwrap();
                // SAFETY: no pointers.
                assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGWINCH) }, 0);
                loop {
                    match own.poll_until(&mut events, Some(std::time::Instant::now() + Duration::from_secs(10))) {
                        Ok(()) if events.iter().any(|event| event.token() == Token(3)) => break,
                        result => result.unwrap(),
                    }
                    assert!(!events.is_empty(), "the signal was not reported");
                }
            });
        }
    });
}

/// Sends the signal to this process, and polls until the source has counted the signal.
fn expect_own_signal(poll: &mut Poll, events: &mut Events, token: Token, signals: &Signals) {
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGWINCH) }, 0);
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        poll.poll_until(events, Some(deadline)).unwrap();
        assert!(!events.is_empty(), "the signal was not reported");
        if let Some(event) = events.iter().find(|event| event.token() == token) {
            return assert_eq!(signals.received(event).unwrap(), [(libc::SIGWINCH, 1)]);
        }
    }
}

/// The child and the parent receive their own signals, whichever registers, deregisters or drops first.
pub fn child_can_register_inherited_signals() {
    if is_known_failure(Check::ForkedChild) {
        return;
    }
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
    let mut signals = Some(Signals::new([libc::SIGWINCH]).unwrap());
    poll.registry().register(signals.as_mut().unwrap(), Token(1), READ).unwrap();
    for is_deregistered in [false, true] {
        in_a_child(|| {
            let (mut own, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
            let mut inherited = signals.take().unwrap();
            own.registry().register(&mut inherited, Token(2), READ).unwrap();
            expect_own_signal(&mut own, &mut events, Token(2), &inherited);
            own.registry().reregister(&mut inherited, Token(3), READ).unwrap();
            expect_own_signal(&mut own, &mut events, Token(3), &inherited);
            // A child of the child, too.
            in_a_child(|| {
                let (mut own, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
                own.registry().register(&mut inherited, Token(4), READ).unwrap();
                expect_own_signal(&mut own, &mut events, Token(4), &inherited);
            });
            expect_own_signal(&mut own, &mut events, Token(3), &inherited);
            if is_deregistered {
                own.registry().deregister(&mut inherited).unwrap();
            }
            drop(inherited);
        });
        expect_own_signal(&mut poll, &mut events, Token(1), signals.as_ref().unwrap());
    }
    // The signals of the child are those of the child only.
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty(), "{events:?}");
}

/// Parent and child have the same process identifier in different namespaces.
#[cfg(target_os = "linux")]
pub fn child_with_the_pid_of_its_parent_is_rejected() {
    if is_known_failure(Check::ForkedChild) {
        return;
    }
    // SAFETY: no pointers. unshare(2) moves later children, not this process.
    let unshare = || unsafe { libc::unshare(libc::CLONE_NEWPID) } == 0;
    let is_first = || std::process::id() == 1;
    in_a_child(|| {
        if !unshare() {
            return println!("not checked: unshare(2) requires CAP_SYS_ADMIN");
        }
        in_a_child(|| {
            let parent = Parent::new();
            // The first child after this is process 1, and its end is the end of the namespace.
            assert!(is_first() && unshare());
            let mut parent = Some(parent);
            in_a_child(|| {
                assert!(is_first());
                let mut inherited = parent.take().unwrap();
                // Waits for no lock that a thread of the parent holds.
                let Parent { poll, waker, timer, signals, process, watch, .. } = &inherited;
                let text = format!("{poll:?} {waker:?} {timer:?} {signals:?} {process:?} {watch:?}");
                assert!(text.contains("Poll { id: ") && text.contains("is_registered: false"), "{text}");
                inherited.check_rejected();
                drop(inherited);
                Parent::new().check_usable();
            });
            parent.unwrap().check_usable();
        });
    });
}
