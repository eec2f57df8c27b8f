//! Timeouts, interruptions, and waits under way.

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kevio::net::UnixStream;
use kevio::{Token, Waker};

use super::harness::*;

#[test]
fn a_timeout_is_never_early() {
    let mut l = Loop::new();
    for timeout in [1, 1_000, 200_000, 999_999, 1_000_000, 1_500_000, 20_000_000].map(Duration::from_nanos) {
        let start = Instant::now();
        assert!(l.turn(Some(timeout)).is_empty());
        let waited = start.elapsed();
        assert!(waited >= timeout, "{waited:?} of {timeout:?}");
    }
}

#[test]
fn a_zero_timeout_returns_what_is_ready() {
    let mut l = Loop::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    l.register(&mut a, 1, READ);
    assert!(l.turn(Some(Duration::ZERO)).is_empty());
    b.write_all(b"x").unwrap();
    assert!(l.turn(Some(Duration::ZERO)).contains_key(&1));
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
    let mut l = Loop::new();
    let waker = Arc::new(Waker::new(l.poll.registry(), Token(1)).unwrap());
    for timeout in timeouts.into_iter().map(Some).chain([None]) {
        let waker = Arc::clone(&waker);
        let start = Instant::now();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(20));
            waker.wake().unwrap();
        });
        let said = l.turn(timeout);
        assert!(said.contains_key(&1), "{timeout:?} returned without an event");
        assert!(start.elapsed() >= Duration::from_millis(20), "{timeout:?}");
        thread.join().unwrap();
    }
}

#[test]
fn a_registration_takes_effect_in_the_wait_under_way() {
    let mut l = Loop::new();
    let registry = l.poll.registry().try_clone().unwrap();
    let thread = thread::spawn(move || {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        b.write_all(b"x").unwrap();
        thread::sleep(Duration::from_millis(20));
        registry.register(&mut a, Token(1), READ).unwrap();
        (a, b)
    });
    l.expect(1, R);
    thread.join().unwrap();
}

#[test]
fn registrations_from_elsewhere_do_not_prolong_a_wait() {
    let mut l = Loop::new();
    let registry = l.poll.registry().try_clone().unwrap();
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
        assert!(l.turn(Some(Duration::from_millis(100))).is_empty());
    }
    // It may be late on a loaded machine, but it does end.
    assert!(start.elapsed() < DEADLINE);
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn the_buffer_holds_no_old_events() {
    let mut l = Loop::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    l.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    l.expect(1, R);
    assert!(l.turn(Some(Duration::ZERO)).is_empty());
    assert!(l.events.is_empty() && l.events.iter().next().is_none());
}

#[test]
fn one_buffer_serves_several_polls() {
    let mut events = kevio::Events::with_capacity(4);
    let mut loops = [Loop::new(), Loop::new()];
    let mut pairs: Vec<_> = (0..2).map(|_| UnixStream::pair().unwrap()).collect();
    for (token, (l, (a, b))) in loops.iter_mut().zip(&mut pairs).enumerate() {
        l.register(a, token, READ);
        b.write_all(b"x").unwrap();
        l.poll.poll(&mut events, Some(DEADLINE)).unwrap();
        let tokens: Vec<_> = events.iter().map(|event| event.token()).collect();
        assert_eq!(tokens, [Token(token)]);
    }
}

#[test]
fn a_signal_interrupts_a_wait() {
    extern "C" fn handler(_: libc::c_int) {}
    for restart in [0, libc::SA_RESTART] {
        let mut l = Loop::new();
        // SAFETY: the handler does nothing, and the structure is as sigaction(2) wants it.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as extern "C" fn(libc::c_int) as usize;
            action.sa_flags = restart;
            assert_eq!(libc::sigaction(libc::SIGUSR2, &action, std::ptr::null_mut()), 0);
        }
        let (send, receive) = std::sync::mpsc::channel();
        let waiter = thread::spawn(move || {
            // SAFETY: no arguments.
            send.send(unsafe { libc::pthread_self() } as usize).unwrap();
            l.poll.poll(&mut l.events, Some(DEADLINE))
        });
        let waiting = receive.recv().unwrap();
        // It may not be waiting yet when the first signal arrives.
        while !waiter.is_finished() {
            // SAFETY: the thread has not been joined, so it exists.
            unsafe { libc::pthread_kill(waiting as libc::pthread_t, libc::SIGUSR2) };
            thread::sleep(Duration::from_millis(1));
        }
        let error = waiter.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
    }
}
