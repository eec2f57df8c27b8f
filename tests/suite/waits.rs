//! Timeouts, interruptions, and waits under way.

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

use kevio::net::UnixStream;
use kevio::{Token, Waker};

use super::differences::waits_in_nanoseconds;
use crate::support::blocked_thread::BlockedThread;
use crate::support::handler;
use crate::support::poll::{TestPoll, READ, TIMEOUT};
use crate::support::readiness::R;

#[test]
fn a_timeout_is_never_early() {
    let mut poll = TestPoll::new();
    for timeout in [1, 1_000, 200_000, 999_999, 1_000_000, 1_500_000, 20_000_000].map(Duration::from_nanos) {
        let start = Instant::now();
        assert!(poll.poll_once(Some(timeout)).is_empty());
        let waited = start.elapsed();
        assert!(waited >= timeout, "{waited:?} of {timeout:?}");
    }
}

#[test]
fn a_zero_timeout_returns_what_is_ready() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, READ);
    assert!(poll.poll_once(Some(Duration::ZERO)).is_empty());
    b.write_all(b"x").unwrap();
    assert!(poll.poll_once(Some(Duration::ZERO)).contains_key(&1));
}

#[test]
fn long_timeouts_wait_until_there_is_an_event() {
    let seconds = Duration::from_secs;
    let timeouts = [
        seconds(25 * 24 * 3600),
        seconds(30 * 24 * 3600),
        seconds(100_000_001),
        seconds(1_000_000_000),
        seconds(i32::MAX as u64 + 1),
        seconds(u64::MAX),
        Duration::MAX,
    ];
    let mut poll = TestPoll::new();
    let waker = Waker::new(poll.registry(), Token(1)).unwrap();
    let blocked_thread = BlockedThread::current();
    for timeout in timeouts.into_iter().map(Some).chain([None]) {
        thread::scope(|scope| {
            scope.spawn(|| {
                blocked_thread.wait_until_blocked();
                waker.wake().unwrap();
            });
            let reported = poll.poll_once(timeout);
            assert!(reported.contains_key(&1), "{timeout:?} returned without an event");
        });
    }
}

#[test]
fn a_registration_takes_effect_in_the_wait_under_way() {
    let mut poll = TestPoll::new();
    let registry = poll.registry().try_clone().unwrap();
    let blocked_thread = BlockedThread::current();
    let thread = thread::spawn(move || {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        b.write_all(b"x").unwrap();
        blocked_thread.wait_until_blocked();
        registry.register(&mut a, Token(1), READ).unwrap();
        (a, b)
    });
    poll.expect(1, R);
    thread.join().unwrap();
}

#[test]
fn registrations_from_elsewhere_do_not_prolong_a_wait() {
    let mut poll = TestPoll::new();
    let registry = poll.registry().try_clone().unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let (mut a, _b) = UnixStream::pair().unwrap();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            registry.register(&mut a, Token(1), READ).unwrap();
            registry.deregister(&mut a).unwrap();
        }
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(100) {
        assert!(poll.poll_once(Some(Duration::from_millis(100))).is_empty());
    }
    // It may be late on a loaded machine, but it does end.
    assert!(start.elapsed() < TIMEOUT);
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn the_buffer_holds_no_old_events() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
    assert!(poll.poll_once(Some(Duration::ZERO)).is_empty());
    assert!(poll.events.is_empty() && poll.events.iter().next().is_none());
}

#[test]
fn one_buffer_serves_several_polls() {
    let mut events = kevio::Events::with_capacity(4);
    let mut loops = [TestPoll::new(), TestPoll::new()];
    let mut pairs: Vec<_> = (0..2).map(|_| UnixStream::pair().unwrap()).collect();
    for (token, (poll, (a, b))) in loops.iter_mut().zip(&mut pairs).enumerate() {
        poll.register(a, token, READ);
        b.write_all(b"x").unwrap();
        poll.inner.poll(&mut events, Some(TIMEOUT)).unwrap();
        let tokens: Vec<_> = events.iter().map(|event| event.token()).collect();
        assert_eq!(tokens, [Token(token)]);
    }
}

#[test]
fn a_signal_interrupts_a_wait() {
    for restart in [0, libc::SA_RESTART] {
        let mut poll = TestPoll::new();
        handler::install(libc::SIGUSR2, handler::do_nothing, restart);
        let (send, receive) = std::sync::mpsc::channel();
        let blocked_thread = thread::spawn(move || {
            // SAFETY: no arguments.
            send.send(unsafe { libc::pthread_self() } as usize).unwrap();
            poll.inner.poll(&mut poll.events, Some(TIMEOUT))
        });
        let waiting = receive.recv().unwrap();
        // It may not be waiting yet when the first signal arrives.
        while !blocked_thread.is_finished() {
            // SAFETY: the thread has not been joined, so it exists.
            unsafe { libc::pthread_kill(waiting as libc::pthread_t, libc::SIGUSR2) };
            thread::sleep(Duration::from_millis(1));
        }
        let error = blocked_thread.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
    }
}

/// Waits until a deadline, and how much later it was.
fn late(poll: &mut TestPoll, wait: Duration) -> Duration {
    let deadline = Instant::now() + wait;
    poll.inner.poll_until(&mut poll.events, Some(deadline)).unwrap();
    assert!(poll.events.is_empty());
    Instant::now().checked_duration_since(deadline).expect("not before the deadline")
}

#[test]
fn a_deadline_is_kept() {
    let mut poll = TestPoll::new();
    // Where the kernel does not count nanoseconds, a tick of the slowest clock; NetBSD, OpenBSD and DragonFly add another.
    let ticks = if cfg!(any(target_os = "netbsd", target_os = "openbsd", target_os = "dragonfly")) { 2 } else { 1 };
    let grain = Duration::from_micros(if waits_in_nanoseconds() { 500 } else { 2_000 + 10_000 * ticks });
    for wait in [1, 200_000, 999_999, 1_000_001, 20_000_000].map(Duration::from_nanos) {
        // A machine that is busy is late now and then, and not each time.
        let deadline = Instant::now() + TIMEOUT;
        while late(&mut poll, wait) >= grain {
            assert!(Instant::now() < deadline, "always more than {grain:?} late after {wait:?}");
        }
    }
}

#[test]
fn a_deadline_in_the_past_looks_once() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, READ);
    let past = Instant::now() - Duration::from_secs(1);
    poll.inner.poll_until(&mut poll.events, Some(past)).unwrap();
    assert!(poll.events.is_empty());
    b.write_all(b"x").unwrap();
    poll.inner.poll_until(&mut poll.events, Some(past)).unwrap();
    assert_eq!(poll.events.len(), 1);
}

#[test]
fn no_deadline_waits_for_an_event() {
    let mut poll = TestPoll::new();
    let waker = Waker::new(poll.registry(), Token(1)).unwrap();
    let far = Instant::now() + Duration::from_secs(100 * 365 * 24 * 3600);
    let blocked_thread = BlockedThread::current();
    for deadline in [None, Some(far)] {
        thread::scope(|scope| {
            scope.spawn(|| {
                blocked_thread.wait_until_blocked();
                waker.wake().unwrap();
            });
            poll.inner.poll_until(&mut poll.events, deadline).unwrap();
            assert_eq!(poll.events.len(), 1);
        });
    }
}

#[test]
fn signals_do_not_end_a_wait_with_a_deadline() {
    for restart in [0, libc::SA_RESTART] {
        let mut poll = TestPoll::new();
        handler::install(libc::SIGVTALRM, handler::do_nothing, restart);
        // SAFETY: no arguments.
        let waiting = unsafe { libc::pthread_self() } as usize;
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let sent = AtomicUsize::new(0);
        thread::scope(|scope| {
            let sent = &sent;
            scope.spawn(move || {
                while is_done.recv_timeout(Duration::from_micros(500)) == Err(RecvTimeoutError::Timeout) {
                    // SAFETY: the thread outlives this one.
                    unsafe { libc::pthread_kill(waiting as libc::pthread_t, libc::SIGVTALRM) };
                    sent.fetch_add(1, Ordering::Relaxed);
                }
            });
            // On a busy machine the other thread may not come to it in the first of the waits.
            let deadline = Instant::now() + TIMEOUT;
            while sent.load(Ordering::Relaxed) < 3 {
                assert!(Instant::now() < deadline, "no signal was sent");
                late(&mut poll, Duration::from_millis(50));
            }
            drop(done);
        });
    }
}
