//! Timeouts, interruptions and blocked waits.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::RecvTimeoutError;
use std::thread;
use std::time::{Duration, Instant};

#[cfg(unix)]
use kevio::Watch;
use kevio::{Backend, BusyPoll, Poll, Timer, Token, Waker};

use super::differences::waits_in_nanoseconds;
use crate::support::blocked_thread::BlockedThread;
#[cfg(unix)]
use crate::support::handler;
use crate::support::poll::{TestPoll, READ, TIMEOUT};
use crate::support::readiness::R;
use crate::support::streams::kevio_pair;

#[test]
fn timeout_is_never_early() {
    let mut poll = TestPoll::new();
    for timeout in [1, 1_000, 200_000, 999_999, 1_000_000, 1_500_000, 20_000_000].map(Duration::from_nanos) {
        let start = Instant::now();
        assert!(poll.poll_once(Some(timeout)).is_empty());
        let waited = start.elapsed();
        assert!(waited >= timeout, "{waited:?} of {timeout:?}");
    }
}

#[test]
fn zero_timeout_returns_ready_events() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    assert!(poll.poll_once(Some(Duration::ZERO)).is_empty());
    b.write_all(b"x").unwrap();
    assert!(poll.poll_once(Some(Duration::ZERO)).contains_key(&1));
}

/// Leaves a record of the notifier, the alarm or the queue of file changes, without an event for the program.
fn leave_internal_record(poll: &mut TestPoll, number: usize) {
    match number {
        0 => {
            let waker = Waker::new(poll.registry(), Token(2)).unwrap();
            waker.wake().unwrap();
        }
        1 => {
            let mut timer = Timer::new().unwrap();
            poll.register(&mut timer, 3, READ);
            // The poll sets the alarm, unless this thread was stopped for longer than the delay.
            loop {
                timer.set_after(Duration::from_millis(5)).unwrap();
                if poll.poll_once(Some(Duration::ZERO)).is_empty() {
                    break;
                }
            }
            timer.cancel().unwrap();
            thread::sleep(Duration::from_millis(30));
        }
        #[cfg(windows)]
        _ => {}
        #[cfg(unix)]
        _ => {
            let file = tempfile::NamedTempFile::new().unwrap();
            // Without inotify there is no queue of file changes.
            if let Ok(mut watch) = Watch::new(file.reopen().unwrap()) {
                poll.register(&mut watch, 4, READ);
                poll.deregister(&mut watch);
            }
        }
    }
}

/// The records of the notifier, the alarm and the queue of file changes are not for the program. In a small buffer they take
/// the place of other events.
#[test]
fn wait_that_does_not_block_returns_the_events_behind_internal_records() {
    let polls: [fn(&mut TestPoll) -> bool; 3] = [
        |poll| poll.poll_once(Some(Duration::ZERO)).contains_key(&1),
        |poll| poll.poll_once(Some(Duration::from_nanos(1))).contains_key(&1),
        |poll| {
            poll.inner.poll_until(&mut poll.events, Some(Instant::now())).unwrap();
            !poll.events.is_empty()
        },
    ];
    for capacity in 1..=6 {
        for records in [&[0][..], &[1], &[2], &[0, 1], &[0, 1, 2]] {
            for (number, returns_event) in polls.iter().enumerate() {
                let mut poll = TestPoll::with_capacity(capacity);
                let (mut a, mut b) = kevio_pair();
                records.iter().rev().for_each(|&record| leave_internal_record(&mut poll, record));
                b.write_all(b"x").unwrap();
                poll.register(&mut a, 1, READ);
                assert!(returns_event(&mut poll), "capacity {capacity}, records {records:?}, poll {number}");
            }
        }
    }
}

#[test]
fn long_timeouts_block_until_woken() {
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
fn registration_takes_effect_in_a_blocked_wait() {
    let mut poll = TestPoll::new();
    let registry = poll.registry().try_clone().unwrap();
    let blocked_thread = BlockedThread::current();
    let thread = thread::spawn(move || {
        let (mut a, mut b) = kevio_pair();
        b.write_all(b"x").unwrap();
        blocked_thread.wait_until_blocked();
        registry.register(&mut a, Token(1), READ).unwrap();
        (a, b)
    });
    poll.expect(1, R);
    thread.join().unwrap();
}

#[test]
fn registrations_of_other_threads_do_not_prolong_a_wait() {
    let mut poll = TestPoll::new();
    let registry = poll.registry().try_clone().unwrap();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || {
        let (mut a, _b) = kevio_pair();
        while stopped.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
            registry.register(&mut a, Token(1), READ).unwrap();
            registry.deregister(&mut a).unwrap();
        }
    });
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(100) {
        assert!(poll.poll_once(Some(Duration::from_millis(100))).is_empty());
    }
    // The wait may be late on a loaded machine, but must end.
    assert!(start.elapsed() < TIMEOUT);
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn poll_without_events_clears_the_buffer() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
    assert!(poll.poll_once(Some(Duration::ZERO)).is_empty());
    assert!(poll.events.is_empty() && poll.events.iter().next().is_none());
}

#[test]
fn one_buffer_serves_several_polls() {
    let mut events = kevio::Events::with_capacity(4);
    let mut polls = [TestPoll::new(), TestPoll::new()];
    let mut pairs: Vec<_> = (0..2).map(|_| kevio_pair()).collect();
    for (token, (poll, (a, b))) in polls.iter_mut().zip(&mut pairs).enumerate() {
        poll.register(a, token, READ);
        b.write_all(b"x").unwrap();
        poll.inner.poll(&mut events, Some(TIMEOUT)).unwrap();
        let tokens: Vec<_> = events.iter().map(|event| event.token()).collect();
        assert_eq!(tokens, [Token(token)]);
    }
}

#[cfg(unix)]
#[test]
fn signal_interrupts_a_wait() {
    for restart in [0, libc::SA_RESTART] {
        let mut poll = TestPoll::new();
        handler::install(libc::SIGUSR2, handler::do_nothing, restart);
        let (send, receive) = std::sync::mpsc::channel();
        let waiting_thread = thread::spawn(move || {
            // SAFETY: no arguments.
            send.send(unsafe { libc::pthread_self() } as usize).unwrap();
            poll.inner.poll(&mut poll.events, Some(TIMEOUT))
        });
        let waiting = receive.recv().unwrap();
        // The first signal may arrive before the thread blocks.
        while !waiting_thread.is_finished() {
            // SAFETY: the thread has not been joined, so it exists.
            unsafe { libc::pthread_kill(waiting as libc::pthread_t, libc::SIGUSR2) };
            thread::sleep(Duration::from_millis(1));
        }
        let error = waiting_thread.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
    }
}

/// Waits until a deadline. Returns the lateness.
fn lateness(poll: &mut TestPoll, wait: Duration) -> Duration {
    let deadline = Instant::now() + wait;
    poll.inner.poll_until(&mut poll.events, Some(deadline)).unwrap();
    assert!(poll.events.is_empty());
    Instant::now().checked_duration_since(deadline).expect("not before the deadline")
}

#[test]
fn deadline_is_not_missed_by_more_than_a_tick() {
    let mut poll = TestPoll::new();
    // Without nanosecond waits, the lateness is a tick of the slowest clock. NetBSD, OpenBSD and DragonFly add another tick.
    let ticks = if cfg!(any(target_os = "netbsd", target_os = "openbsd", target_os = "dragonfly")) { 2 } else { 1 };
    let grain = Duration::from_micros(if waits_in_nanoseconds() { 500 } else { 2_000 + 10_000 * ticks });
    for wait in [1, 200_000, 999_999, 1_000_001, 20_000_000].map(Duration::from_nanos) {
        // A busy machine is late sometimes, not every time.
        let deadline = Instant::now() + TIMEOUT;
        while lateness(&mut poll, wait) >= grain {
            assert!(Instant::now() < deadline, "always more than {grain:?} late after {wait:?}");
        }
    }
}

#[test]
fn past_deadline_returns_ready_events() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    let past = Instant::now() - Duration::from_secs(1);
    poll.inner.poll_until(&mut poll.events, Some(past)).unwrap();
    assert!(poll.events.is_empty());
    b.write_all(b"x").unwrap();
    poll.inner.poll_until(&mut poll.events, Some(past)).unwrap();
    assert_eq!(poll.events.len(), 1);
}

#[test]
fn no_deadline_blocks_until_an_event() {
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

#[cfg(unix)]
#[test]
fn signals_end_neither_a_wait_with_a_deadline_nor_a_spin() {
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
            // On a busy machine the other thread may not send a signal during the first waits.
            let deadline = Instant::now() + TIMEOUT;
            while sent.load(Ordering::Relaxed) < 3 {
                assert!(Instant::now() < deadline, "no signal was sent");
                poll.inner.set_spin(Duration::ZERO);
                lateness(&mut poll, Duration::from_millis(50));
                // A kernel may return `EINTR` from a wait of zero, or not.
                poll.inner.set_spin(Duration::MAX);
                assert!(poll.poll_once(Some(Duration::from_millis(50))).is_empty());
            }
            drop(done);
        });
    }
}

#[test]
fn spin_ends_with_the_timeout() {
    let mut poll = TestPoll::new();
    poll.inner.set_spin(Duration::MAX);
    for timeout in [0, 1, 200, 5_000].map(Duration::from_micros) {
        let start = Instant::now();
        assert!(poll.poll_once(Some(timeout)).is_empty());
        assert!(start.elapsed() >= timeout);
    }
}

#[test]
fn spinning_poll_returns_readiness_timers_and_wakes() {
    let mut poll = TestPoll::new();
    poll.inner.set_spin(Duration::MAX);
    let (mut a, mut b) = kevio_pair();
    let (mut timer, waker) = (Timer::new().unwrap(), Waker::new(poll.registry(), Token(3)).unwrap());
    poll.register(&mut a, 1, READ);
    poll.register(&mut timer, 2, READ);
    for delay in [0, 50, 500, 3_000].map(Duration::from_micros) {
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(delay);
                b.write_all(b"x").unwrap();
            });
            poll.expect(1, R);
        });
        assert_eq!(std::io::Read::read(&mut a, &mut [0; 8]).unwrap(), 1);
        let start = Instant::now();
        timer.set_after(delay).unwrap();
        poll.expect(2, R);
        assert!(start.elapsed() >= delay);
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(delay);
                waker.wake().unwrap();
            });
            poll.expect(3, R);
        });
    }
    poll.expect_no_events();
}

/// A wake comes at about the time when the spin ends and the wait begins.
#[test]
fn wake_at_the_end_of_a_spin_ends_the_wait() {
    let mut poll = TestPoll::new();
    let waker = Waker::new(poll.registry(), Token(1)).unwrap();
    for round in 0..2_000_u32 {
        poll.inner.set_spin(Duration::from_nanos(u64::from(round * 37 % 100) * 100));
        let is_waiting = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_waiting.load(Ordering::SeqCst) {
                    std::hint::spin_loop();
                }
                (0..round * 61 % 400).for_each(|_| std::hint::spin_loop());
                waker.wake().unwrap();
            });
            is_waiting.store(true, Ordering::SeqCst);
            let start = Instant::now();
            poll.expect(1, R);
            // The end of the timeout would report a wake that did not end the wait.
            assert!(start.elapsed() < TIMEOUT / 2, "the wake of round {round} has not ended the wait");
        });
    }
}

/// Returns `true` if the kernel certainly has busy polling: its version is 6.9 or later, and it has the setting.
fn kernel_has_busy_polling() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    let is_new = (numbers.next(), numbers.next()) >= (Some(6), Some(9));
    is_new && std::path::Path::new("/proc/sys/net/core/busy_poll").exists()
}

#[test]
fn parameters_of_busy_polling_are_those_that_were_set() {
    let poll = Poll::new().unwrap();
    let parameters = BusyPoll { microseconds: 64, budget: 16, prefer: true };
    if let Err(error) = poll.set_busy_poll(parameters) {
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(poll.busy_poll().unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(kevio::BACKEND != Backend::Epoll || !kernel_has_busy_polling(), "{error}");
        return;
    }
    assert_eq!((kevio::BACKEND, poll.busy_poll().unwrap()), (Backend::Epoll, parameters));
    let too_long = BusyPoll { microseconds: u32::MAX, ..parameters };
    assert_eq!(poll.set_busy_poll(too_long).unwrap_err().kind(), ErrorKind::InvalidInput);
    // Above 64 the budget is a matter of the process's capabilities.
    let large = BusyPoll { budget: 65, ..parameters };
    match poll.set_busy_poll(large) {
        Ok(()) => assert_eq!(poll.busy_poll().unwrap(), large),
        Err(error) => assert_eq!((error.kind(), poll.busy_poll().unwrap()), (ErrorKind::PermissionDenied, parameters)),
    }
    poll.set_busy_poll(BusyPoll::default()).unwrap();
    let default = poll.busy_poll().unwrap();
    assert_eq!((default.microseconds, default.prefer), (0, false));
}
