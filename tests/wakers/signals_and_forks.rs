//! Wakers and timers in signal handlers, after a fork, after other code has closed descriptors, and while the process is stopped.
//! Windows has no signal that interrupts a thread, no fork, and no call that stops a process.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use kevio::net::UnixStream;
use kevio::{Events, Interest, Poll, Timer, Token, Waker, Watch};

use crate::support;
use crate::support::handler;
use crate::support::known_failures::{is_known_failure, is_libkqueue, Check};
use crate::support::poll::{expect_event, TIMEOUT};
use crate::support::process::{in_a_child, in_children, is_in_own_process, run_alone, while_threads_repeat};

static HANDLER_WAKER: OnceLock<Waker> = OnceLock::new();
static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn wake_in_handler(_: libc::c_int) {
    if let Some(waker) = HANDLER_WAKER.get() {
        waker.wake().unwrap();
        HANDLED.fetch_add(1, Ordering::SeqCst);
    }
}

/// The threads that receive signals, as numbers. 0 is a thread that has not started.
static THREADS: [AtomicUsize; 4] = [AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0)];

/// Makes the current thread a receiver of signals.
fn receive_signals(index: usize) {
    // SAFETY: the call takes no arguments.
    THREADS[index].store(unsafe { libc::pthread_self() } as usize, Ordering::SeqCst);
}

/// Sends a signal to a thread, which is alive as long as the test of the signals runs.
fn interrupt(thread: &AtomicUsize) {
    let thread = thread.load(Ordering::SeqCst);
    if thread != 0 {
        // SAFETY: the thread is alive.
        assert_eq!(unsafe { libc::pthread_kill(thread as libc::pthread_t, libc::SIGUSR1) }, 0);
    }
}

/// The handler of a signal wakes, and interrupts threads that register, set timers, wake and poll.
#[test]
fn wake_in_a_signal_handler_interrupts_any_operation() {
    if is_known_failure(Check::WakeInHandler) {
        return;
    }
    let _alone = run_alone();
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(64));
    let registry = poll.registry().try_clone().unwrap();
    let waker = HANDLER_WAKER.get_or_init(|| Waker::new(&registry, Token(1)).unwrap());
    handler::install(libc::SIGUSR1, wake_in_handler, libc::SA_RESTART);
    receive_signals(3);
    let (mut a, mut b) = UnixStream::pair().unwrap();
    let (mut registered, mut timer) = (Timer::new().unwrap(), Timer::new().unwrap());
    registry.register(&mut timer, Token(3), Interest::READABLE).unwrap();
    let may_interrupt = AtomicBool::new(false);
    let operations: [Box<dyn FnMut() + Send>; 3] = [
        Box::new(|| {
            receive_signals(0);
            registry.register(&mut a, Token(2), Interest::READABLE).unwrap();
            registry.deregister(&mut a).unwrap();
        }),
        Box::new(|| {
            receive_signals(1);
            registry.register(&mut b, Token(2), Interest::READABLE).unwrap();
            registry.register(&mut registered, Token(3), Interest::READABLE).unwrap();
            registry.deregister(&mut registered).unwrap();
            registry.deregister(&mut b).unwrap();
            timer.set_after(Duration::from_micros(100)).unwrap();
        }),
        Box::new(|| {
            receive_signals(2);
            waker.wake().unwrap();
            // Not more often than the thread polls: the thread could spend all its time in the handler.
            if may_interrupt.swap(false, Ordering::SeqCst) {
                interrupt(&THREADS[3]);
            }
        }),
    ];
    while_threads_repeat(operations, || {
        let deadline = Instant::now() + TIMEOUT;
        let (mut wakes, handlers) = (0, support::repetitions(2000, 4) as usize);
        while HANDLED.load(Ordering::SeqCst) < handlers || wakes < handlers / 20 {
            assert!(Instant::now() < deadline, "{} handlers, {wakes} wakes", HANDLED.load(Ordering::SeqCst));
            THREADS[..3].iter().for_each(interrupt);
            may_interrupt.store(true, Ordering::SeqCst);
            poll.poll_until(&mut events, Some(Instant::now() + Duration::from_millis(1))).unwrap();
            wakes += events.iter().filter(|event| event.token() == Token(1)).count();
        }
    });
    // Every signal has been handled. The last wake is reported.
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    waker.wake().unwrap();
    expect_event(&mut poll, &mut events, Token(1));
}

#[test]
fn dropped_waker_is_silent_while_a_child_holds_copies_of_its_descriptors() {
    let _alone = run_alone();
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
    let [woken, kept] = [1, 2].map(|token| Waker::new(poll.registry(), Token(token)).unwrap());
    let (mut parents_end, childs_end) = std::os::unix::net::UnixStream::pair().unwrap();
    // SAFETY: the child reads until the parent closes its end, and exits. The child touches nothing else of this process.
    let child = unsafe { libc::fork() };
    if child == 0 {
        drop(parents_end);
        let _ = std::io::Read::read(&mut &childs_end, &mut [0]);
        // SAFETY: as above.
        unsafe { libc::_exit(0) };
    }
    drop(childs_end);
    woken.wake().unwrap();
    drop(woken);
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty(), "{events:?}");
    kept.wake().unwrap();
    expect_event(&mut poll, &mut events, Token(2));
    std::io::Write::write_all(&mut parents_end, b"x").unwrap();
    assert_eq!(support::process::wait_for_child(child), 0);
}

/// Closes descriptors behind the back of their owners, as a program does that makes itself a daemon.
fn close_all(fds: impl Iterator<Item = RawFd>) {
    for fd in fds {
        // SAFETY: no pointers. The process exits without dropping the owners.
        unsafe { libc::close(fd) };
    }
}

/// Wakes and polls after the descriptors were closed. One of the two has to fail: neither may spin, nor block, nor lose the wake.
fn expect_an_error_or_the_wake(poll: &mut Poll, waker: &Waker) {
    let mut events = Events::with_capacity(8);
    for _ in 0..3 {
        if waker.wake().is_err() || poll.poll(&mut events, None).is_err() {
            continue;
        }
        assert!(events.iter().any(|event| event.token() == Token(1)), "the wake was lost");
    }
}

/// Wakes in another thread while the poll is blocked. If every wake returns `Ok`, the poll fails or returns the event at once.
fn expect_an_error_or_a_late_wake(poll: &mut Poll, waker: &Waker) {
    let mut events = Events::with_capacity(8);
    if waker.wake().is_err() || poll.poll(&mut events, None).is_err() {
        assert!(events.is_empty());
        return;
    }
    std::thread::scope(|scope| {
        let wakes = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            (0..3).map(|_| waker.wake()).filter(Result::is_err).count()
        });
        let start = Instant::now();
        let result = poll.poll(&mut events, Some(Duration::from_secs(1)));
        let failed_wakes = wakes.join().unwrap();
        assert!(result.is_ok() || events.is_empty(), "events of an earlier poll beside an error");
        // A wake that did not end the wait is returned at the end of the timeout.
        let is_in_time = start.elapsed() < Duration::from_millis(700) && !events.is_empty();
        assert!(result.is_err() || is_in_time || failed_wakes > 0, "wakes returned Ok, and did not end the wait");
    });
}

#[test]
fn wake_and_poll_after_other_code_closed_every_descriptor_fail() {
    let _alone = run_alone();
    if !is_in_own_process(wake_and_poll_after_other_code_closed_every_descriptor_fail) {
        return;
    }
    for wakes_before in 0..2 {
        in_a_child(|| {
            let mut poll = Poll::new().unwrap();
            let waker = Waker::new(poll.registry(), Token(1)).unwrap();
            let mut timer = Timer::after(Duration::from_secs(3600)).unwrap();
            poll.registry().register(&mut timer, Token(2), Interest::READABLE).unwrap();
            for _ in 0..wakes_before {
                waker.wake().unwrap();
                poll.poll(&mut Events::with_capacity(8), None).unwrap();
            }
            close_all(3..1024);
            assert!(waker.wake().is_err() || poll.poll(&mut Events::with_capacity(8), None).is_err());
            assert!(poll.poll(&mut Events::with_capacity(8), Some(TIMEOUT)).is_err());
            assert!(poll.poll(&mut Events::with_capacity(8), Some(Duration::ZERO)).is_err());
            std::mem::forget((poll, waker, timer));
        });
    }
}

/// Returns the descriptors that were opened since, in ascending order.
fn opened_since(before: &[RawFd]) -> Vec<RawFd> {
    open_descriptors().into_iter().filter(|fd| !before.contains(fd)).collect()
}

fn open_descriptors() -> Vec<RawFd> {
    // SAFETY: no pointers.
    (3..64).filter(|&fd| unsafe { libc::fcntl(fd, libc::F_GETFD) != -1 }).collect()
}

/// A file that takes the number of a closed descriptor.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Replacement {
    None,
    /// Cannot be registered with epoll.
    Null,
    /// Is never readable.
    Pipe,
}

/// Closes a descriptor behind the back of its owner, and gives its number to another file.
fn replace(fd: RawFd, replacement: Replacement) {
    // SAFETY: no pointers. The process exits without dropping the owners.
    unsafe { libc::close(fd) };
    let other: std::os::fd::OwnedFd = match replacement {
        Replacement::None => return,
        Replacement::Null => std::fs::File::open("/dev/null").unwrap().into(),
        Replacement::Pipe => {
            let (writer, reader) = kevio::unix::pipe::new().unwrap();
            std::mem::forget(writer);
            reader.into()
        }
    };
    if other.as_raw_fd() != fd {
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), fd) }, fd);
    }
    std::mem::forget(other);
}

/// The same if only one of the descriptors was closed, also if another file has its number.
#[test]
fn wake_and_poll_after_other_code_closed_one_descriptor_fail_or_report() {
    let _alone = run_alone();
    if !is_in_own_process(wake_and_poll_after_other_code_closed_one_descriptor_fail_or_report) {
        return;
    }
    for replacement in [Replacement::None, Replacement::Null, Replacement::Pipe] {
        if replacement != Replacement::None && is_libkqueue() {
            // libkqueue reads and writes the descriptors of its own under their numbers.
            continue;
        }
        for index in 0..4 {
            in_children([(0, false), (0, true), (1, false), (1, true)], |(wakes_before, is_woken)| {
                let before = open_descriptors();
                let mut poll = Poll::new().unwrap();
                let waker = Waker::new(poll.registry(), Token(1)).unwrap();
                for _ in 0..wakes_before {
                    waker.wake().unwrap();
                    poll.poll(&mut Events::with_capacity(8), None).unwrap();
                }
                if is_woken {
                    waker.wake().unwrap();
                }
                if let Some(&fd) = opened_since(&before).get(index) {
                    replace(fd, replacement);
                    expect_an_error_or_the_wake(&mut poll, &waker);
                    expect_an_error_or_a_late_wake(&mut poll, &waker);
                }
                std::mem::forget((poll, waker));
            });
        }
    }
}

/// The descriptors that a poll opens for its first waker, timer and watch.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum First {
    Waker,
    Timer,
    Watch,
}

/// The number of a closed descriptor goes to the next descriptor of the same poll. The poll must not confuse the two.
#[test]
fn descriptor_with_the_number_of_a_closed_one_works_or_is_rejected() {
    let _alone = run_alone();
    if !is_in_own_process(descriptor_with_the_number_of_a_closed_one_works_or_is_rejected) {
        return;
    }
    let files = [(); 4].map(|()| tempfile::NamedTempFile::new().unwrap());
    let all = [First::Waker, First::Timer, First::Watch];
    for (before, after) in all.iter().flat_map(|&before| all.map(|after| (before, after))) {
        if before != after {
            in_children(files.iter().enumerate(), |(index, file)| {
                create_after_closing(before, after, index, file.path())
            });
        }
    }
}

fn create_after_closing(before: First, after: First, index: usize, path: &std::path::Path) {
    let open = open_descriptors();
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
    let registry = poll.registry().try_clone().unwrap();
    let mut timer = Timer::after(Duration::from_millis(50)).unwrap();
    // Without inotify there are no watches.
    let mut watch = Watch::open(path);
    let (mut waker, mut results) = (None, Vec::new());
    for first in [before, after] {
        results.push(match first {
            First::Waker => Waker::new(&registry, Token(1)).map(|new| waker = Some(new)),
            First::Timer => registry.register(&mut timer, Token(1), Interest::READABLE),
            First::Watch => match &mut watch {
                Ok(watch) => registry.register(watch, Token(1), Interest::READABLE),
                Err(_) => Err(std::io::ErrorKind::Unsupported.into()),
            },
        });
        if let (1, Some(&fd)) = (results.len(), opened_since(&open).get(index)) {
            replace(fd, Replacement::None);
        }
    }
    let timeout = Duration::from_millis(if results[1].is_ok() { 2000 } else { 50 });
    let start = Instant::now();
    let (polled, used) = std::thread::scope(|scope| {
        let user = scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(20));
            match (after, &waker) {
                (First::Waker, Some(waker)) => waker.wake(),
                (First::Watch, _) => std::fs::write(path, b"written"),
                _ => Ok(()),
            }
        });
        (poll.poll(&mut events, Some(timeout)), user.join().unwrap())
    });
    let is_in_time = !events.is_empty() && start.elapsed() < Duration::from_secs(1);
    let is_reported = results[1].is_err() || polled.is_err() || used.is_err() || is_in_time;
    assert!(is_reported, "{before:?}, {after:?}, {index}: {results:?}, {polled:?}, {used:?}, {events:?}");
    // A waker that was made before fails or ends the wait too.
    if let (First::Waker, Some(waker)) = (before, &waker) {
        expect_an_error_or_a_late_wake(&mut poll, waker);
    }
    std::mem::forget((poll, registry, waker, timer, watch));
}

/// A child stops this process for 300 ms. The timers expire meanwhile, and are reported when the process continues.
#[test]
fn timers_of_a_stopped_process_are_neither_lost_nor_early() {
    const PERIOD: Duration = Duration::from_millis(10);
    let _alone = run_alone();
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
    let before = Instant::now();
    let mut once = Timer::after(Duration::from_millis(150)).unwrap();
    let mut every = Timer::every(PERIOD).unwrap();
    for (token, timer) in [&mut once, &mut every].into_iter().enumerate() {
        poll.registry().register(timer, Token(token), Interest::READABLE).unwrap();
    }
    let after = Instant::now();
    let script = format!("kill -STOP {0}; sleep 0.3; kill -CONT {0}", std::process::id());
    let mut child = std::process::Command::new("sh").args(["-c", &script]).spawn().unwrap();
    let (mut fired, mut periods) = (0, 0);
    let deadline = Instant::now() + TIMEOUT;
    while fired == 0 || before.elapsed() < Duration::from_millis(500) {
        let least = after.elapsed();
        poll.poll_until(&mut events, Some(deadline)).unwrap();
        let most = before.elapsed();
        assert!(!events.is_empty(), "the timers were lost");
        for event in &events {
            if event.token() == Token(0) {
                fired += once.expirations(event).unwrap();
                assert!(before.elapsed() >= Duration::from_millis(150));
                continue;
            }
            periods += every.expirations(event).unwrap();
            let count = |elapsed: Duration| (elapsed.as_nanos() / PERIOD.as_nanos()) as u64;
            assert!((count(least)..=count(most)).contains(&periods), "{periods} after {least:?} to {most:?}");
        }
    }
    assert_eq!(fired, 1);
    assert!(child.wait().unwrap().success());
}
