//! Signals as sources. In a binary of its own, because signal handlers belong to the process. The tests run one at a time.
#![cfg(unix)]

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};
use std::{mem, ptr, thread};

use kevio::net::UnixStream;
use kevio::{Backend, Batch, Events, Interest, Poll, Signals, Timer, Token, BACKEND};
use libc::{SIGCHLD, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};

mod support;

use crate::support::known_failures::{is_known_failure, is_libkqueue, Check};
use crate::support::poll::{TestPoll, READ, TIMEOUT, WRITE};
use crate::support::process::{
    in_a_child, is_in_own_process, run_alone, status_of_child, wait_for_child, while_threads_repeat,
};
use crate::support::readiness::{R, W};

#[path = "signals/errors.rs"]
mod errors;
#[path = "signals/ignored.rs"]
mod ignored;
#[path = "signals/pending.rs"]
mod pending;
#[path = "signals/replaced.rs"]
mod replaced;
#[path = "signals/stack.rs"]
mod stack;

/// libkqueue reports only signals that every thread blocks (see its BUGS.md). The first thread blocks them before other
/// threads start and inherit the mask.
#[cfg(all(target_os = "linux", kevio_backend = "kqueue"))]
#[used]
#[link_section = ".init_array"]
static BLOCK: extern "C" fn() = {
    extern "C" fn block() {
        mask(libc::SIG_BLOCK, &[SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD, SIGWINCH]);
    }
    block
};

fn mask(how: libc::c_int, signals: &[i32]) {
    // SAFETY: a set of bits, of which zeroes are a value; it is written, and read.
    unsafe {
        let mut set: libc::sigset_t = mem::zeroed();
        libc::sigemptyset(&mut set);
        for &signal in signals {
            libc::sigaddset(&mut set, signal);
        }
        assert_eq!(libc::pthread_sigmask(how, &set, ptr::null_mut()), 0);
    }
}

/// Blocks until no other test runs, and sets the default actions: a shell ignores SIGINT and SIGQUIT for a program in the
/// background, and nohup(1) ignores SIGHUP.
fn alone() -> MutexGuard<'static, ()> {
    let guard = run_alone();
    for signal in [SIGHUP, SIGINT, libc::SIGQUIT] {
        if action(signal).sa_sigaction == libc::SIG_IGN {
            // SAFETY: no pointers; no handler.
            unsafe { libc::signal(signal, libc::SIG_DFL) };
        }
    }
    guard
}

/// Sends a signal. On kqueue the process receives the signal, because some kqueues do not report signals for one thread. On
/// other backends this thread receives the signal, so that the handler has run when this function returns.
fn send(signal: i32) {
    // SAFETY: no pointers.
    let result = unsafe {
        if BACKEND == Backend::Kqueue {
            libc::kill(libc::getpid(), signal)
        } else {
            libc::raise(signal)
        }
    };
    assert_eq!(result, 0);
}

/// Returns the action of a signal.
fn action(signal: i32) -> libc::sigaction {
    // SAFETY: integers, addresses and a set of bits, of which zeroes are a value; the kernel writes one.
    unsafe {
        let mut now: libc::sigaction = mem::zeroed();
        assert_eq!(libc::sigaction(signal, ptr::null(), &mut now), 0);
        now
    }
}

/// Sets the action of a signal. Returns the previous action.
fn set_action(signal: i32, handler: libc::sighandler_t, flags: libc::c_int) -> libc::sigaction {
    let old = action(signal);
    // SAFETY: as above; the handlers of these tests only add.
    unsafe {
        let mut new: libc::sigaction = mem::zeroed();
        new.sa_sigaction = handler;
        new.sa_flags = flags;
        libc::sigemptyset(&mut new.sa_mask);
        libc::sigaddset(&mut new.sa_mask, SIGWINCH);
        assert_eq!(libc::sigaction(signal, &new, ptr::null_mut()), 0);
    }
    old
}

fn restore(signal: i32, old: &libc::sigaction) {
    // SAFETY: as above.
    assert_eq!(unsafe { libc::sigaction(signal, old, ptr::null_mut()) }, 0);
}

fn is_default(signal: i32) -> bool {
    action(signal).sa_sigaction == libc::SIG_DFL
}

/// Polls until every signal of `expected` is reported to `signals`. Returns the count of each signal; fails for other tokens.
#[track_caller]
fn received(poll: &mut TestPoll, token: usize, signals: &Signals, expected: &[i32]) -> Vec<(i32, u64)> {
    let mut all: Vec<(i32, u64)> = Vec::new();
    while !expected.iter().all(|expected| all.iter().any(|(signal, _)| signal == expected)) {
        poll.expect(token, R);
        for event in &poll.events {
            for (signal, count) in signals.received(event).unwrap() {
                assert!(expected.contains(&signal) && count > 0, "{signal} came {count} times");
                match all.iter_mut().find(|(other, _)| *other == signal) {
                    Some((_, sum)) => *sum += count,
                    None => all.push((signal, count)),
                }
            }
        }
    }
    all
}

#[test]
fn three_raises_are_coalesced_and_counted() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    poll.register(&mut signals, 1, READ);
    poll.expect_no_events();
    for round in 0..3 {
        (0..3).for_each(|_| send(SIGUSR1));
        let [(signal, count)] = received(&mut poll, 1, &signals, &[SIGUSR1])[..] else { panic!() };
        assert!(signal == SIGUSR1 && (1..=3).contains(&count), "round {round}: {count}");
        if BACKEND != Backend::Kqueue {
            assert_eq!(count, 3);
        }
        while count < 3 && !poll.drain_events().is_empty() {}
        poll.expect_no_events();
    }
}

#[test]
fn received_returns_only_the_signals_that_arrived() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGUSR2, SIGTERM, SIGUSR2, SIGHUP]).unwrap();
    poll.register(&mut signals, 1, READ);
    send(SIGTERM);
    received(&mut poll, 1, &signals, &[SIGTERM]);
    send(SIGUSR2);
    send(SIGHUP);
    received(&mut poll, 1, &signals, &[SIGHUP, SIGUSR2]);
    poll.expect_no_events();
}

#[test]
fn deregistering_restores_the_default_action() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    assert!(is_default(SIGTERM) && is_default(SIGINT));
    let mut signals = Signals::new([SIGTERM, SIGINT]).unwrap();
    assert!(is_default(SIGTERM), "the action changed before registering");
    poll.register(&mut signals, 1, READ);
    assert!(!is_default(SIGTERM) && !is_default(SIGINT));
    // This would end the process.
    send(SIGTERM);
    received(&mut poll, 1, &signals, &[SIGTERM]);
    poll.deregister(&mut signals);
    assert!(is_default(SIGTERM) && is_default(SIGINT));
    poll.register(&mut signals, 2, READ);
    assert!(!is_default(SIGTERM));
    poll.reregister(&mut signals, 3, READ);
    assert!(!is_default(SIGTERM));
    send(SIGINT);
    received(&mut poll, 3, &signals, &[SIGINT]);
    drop(signals);
    assert!(is_default(SIGTERM) && is_default(SIGINT));
    poll.expect_no_events();
}

static HANDLED: AtomicUsize = AtomicUsize::new(0);

extern "C" fn plain(_: libc::c_int) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

extern "C" fn informed(signal: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: the kernel's record is valid while the handler runs.
    let is_right = signal == SIGUSR1 && unsafe { (*info).si_signo } == signal;
    HANDLED.fetch_add(if is_right { 100 } else { 1_000_000 }, Ordering::SeqCst);
}

/// Waits until `count` was added by handlers, which may run in another thread.
#[track_caller]
fn handled(count: usize) {
    let deadline = Instant::now() + TIMEOUT;
    while HANDLED.load(Ordering::SeqCst) < count && Instant::now() < deadline {
        thread::yield_now();
    }
    assert_eq!(HANDLED.swap(0, Ordering::SeqCst), count);
}

#[test]
fn previous_handler_is_called_and_restored() {
    let _alone = alone();
    if is_known_failure(Check::PreviousHandler) {
        return;
    }
    let cases = [
        (plain as extern "C" fn(_) as libc::sighandler_t, 0, 1),
        (informed as extern "C" fn(_, _, _) as libc::sighandler_t, libc::SA_SIGINFO | libc::SA_RESTART, 100),
    ];
    for (handler, flags, adds) in cases {
        let before = set_action(SIGUSR1, handler, flags);
        HANDLED.store(0, Ordering::SeqCst);
        let mut poll = TestPoll::new();
        let mut signals = Signals::new([SIGUSR1]).unwrap();
        poll.register(&mut signals, 1, READ);
        let during = action(SIGUSR1);
        // SA_RESTART and the mask are those of the previous action.
        assert_eq!(during.sa_flags & libc::SA_RESTART, flags & libc::SA_RESTART);
        // SAFETY: a set of bits, which is read.
        assert_eq!(unsafe { libc::sigismember(&during.sa_mask, SIGWINCH) }, 1);
        send(SIGUSR1);
        received(&mut poll, 1, &signals, &[SIGUSR1]);
        handled(adds);
        drop(signals);
        let after = action(SIGUSR1);
        assert!(after.sa_sigaction == handler && after.sa_flags & libc::SA_SIGINFO == flags & libc::SA_SIGINFO);
        send(SIGUSR1);
        handled(adds);
        restore(SIGUSR1, &before);
    }
}

#[test]
fn later_handler_stays_after_drop() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGHUP]).unwrap();
    poll.register(&mut signals, 1, READ);
    let ours = set_action(SIGHUP, plain as extern "C" fn(_) as libc::sighandler_t, 0);
    drop(signals);
    assert_eq!(action(SIGHUP).sa_sigaction, plain as extern "C" fn(_) as libc::sighandler_t);
    // A later handler may chain to the earlier one.
    restore(SIGHUP, &ours);
    let mut signals = Signals::new([SIGHUP]).unwrap();
    poll.register(&mut signals, 2, READ);
    send(SIGHUP);
    received(&mut poll, 2, &signals, &[SIGHUP]);
    drop(signals);
    assert!(is_default(SIGHUP));
}

static BELOW: AtomicUsize = AtomicUsize::new(0);

extern "C" fn on_top(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
    // SAFETY: the handler that was there when this one was installed, with the same flag.
    unsafe {
        let below: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
            mem::transmute(BELOW.load(Ordering::SeqCst));
        below(signal, info, context);
    }
}

/// A later handler that chains to the handler of kevio receives the signal too. The later handler replaces the default action,
/// also after deregistering.
#[test]
fn later_handler_that_chains_keeps_signals_reported() {
    let _alone = alone();
    if is_known_failure(Check::PreviousHandler) {
        return;
    }
    HANDLED.store(0, Ordering::SeqCst);
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGHUP]).unwrap();
    poll.register(&mut signals, 1, READ);
    BELOW.store(action(SIGHUP).sa_sigaction, Ordering::SeqCst);
    let handler = on_top as extern "C" fn(_, _, _) as libc::sighandler_t;
    let ours = set_action(SIGHUP, handler, libc::SA_SIGINFO);
    send(SIGHUP);
    received(&mut poll, 1, &signals, &[SIGHUP]);
    handled(1);
    poll.deregister(&mut signals);
    // This would end the process.
    send(SIGHUP);
    handled(1);
    assert_eq!(action(SIGHUP).sa_sigaction, handler);
    poll.register(&mut signals, 2, READ);
    send(SIGHUP);
    received(&mut poll, 2, &signals, &[SIGHUP]);
    handled(1);
    restore(SIGHUP, &ours);
    drop(signals);
    assert!(is_default(SIGHUP));
}

#[test]
fn signal_is_reported_to_every_poll() {
    let _alone = alone();
    let mut polls = [TestPoll::new(), TestPoll::new(), TestPoll::new()];
    let mut sources = [
        Signals::new([SIGUSR1]).unwrap(),
        Signals::new([SIGUSR1, SIGUSR2]).unwrap(),
        Signals::new([SIGUSR2, SIGTERM]).unwrap(),
    ];
    for (poll, signals) in polls.iter().zip(&mut sources) {
        poll.register(signals, 1, READ);
    }
    send(SIGUSR1);
    received(&mut polls[0], 1, &sources[0], &[SIGUSR1]);
    received(&mut polls[1], 1, &sources[1], &[SIGUSR1]);
    polls[2].expect_no_events();
    polls[0].deregister(&mut sources[0]);
    send(SIGUSR1);
    send(SIGUSR2);
    received(&mut polls[1], 1, &sources[1], &[SIGUSR1, SIGUSR2]);
    received(&mut polls[2], 1, &sources[2], &[SIGUSR2]);
    polls[0].expect_no_events();
    drop(sources);
    assert!([SIGUSR1, SIGUSR2, SIGTERM].into_iter().all(is_default));
}

/// See the table of differences: a kqueue has one filter, and so one token, for each signal.
#[test]
fn second_set_in_one_poll_fails_on_kqueue_only() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    let mut first = Signals::new([SIGUSR1, SIGTERM]).unwrap();
    let mut second = Signals::new([SIGHUP, SIGTERM]).unwrap();
    poll.register(&mut first, 1, READ);
    let result = poll.registry().register(&mut second, Token(2), READ);
    if BACKEND == Backend::Kqueue {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert!(is_default(SIGHUP), "a part of the set is registered");
        send(SIGTERM);
        received(&mut poll, 1, &first, &[SIGTERM]);
        poll.deregister(&mut first);
        poll.register(&mut second, 2, READ);
        send(SIGHUP);
        received(&mut poll, 2, &second, &[SIGHUP]);
        return poll.expect_no_events();
    }
    result.unwrap();
    send(SIGTERM);
    poll.expect_all(&[(1, R), (2, R)]);
}

/// See the table of differences.
#[test]
fn several_signals_are_one_event_except_on_kqueue() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    let all = [SIGUSR1, SIGUSR2, SIGHUP];
    let mut signals = Signals::new(all).unwrap();
    poll.register(&mut signals, 1, READ);
    all.into_iter().for_each(send);
    if is_libkqueue() {
        received(&mut poll, 1, &signals, &all);
        return;
    }
    poll.expect(1, R);
    let expected = if BACKEND == Backend::Kqueue { 3 } else { 1 };
    assert_eq!(poll.events.iter().count(), expected);
}

/// See the table of differences: without kqueue, a signal is reported when its handler runs.
#[test]
fn blocked_signal_is_reported_at_once_on_kqueue_only() {
    let _alone = alone();
    if is_libkqueue() || cfg!(any(target_vendor = "apple", target_os = "dragonfly")) {
        return;
    }
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    poll.register(&mut signals, 1, READ);
    mask(libc::SIG_BLOCK, &[SIGUSR1]);
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::raise(SIGUSR1) }, 0);
    if BACKEND == Backend::Kqueue {
        received(&mut poll, 1, &signals, &[SIGUSR1]);
    } else {
        poll.expect_no_events();
    }
    mask(libc::SIG_UNBLOCK, &[SIGUSR1]);
    if BACKEND != Backend::Kqueue {
        received(&mut poll, 1, &signals, &[SIGUSR1]);
    }
    poll.expect_no_events();
}

/// See the table of differences: Apple and libkqueue report nothing.
#[test]
fn signal_for_one_thread_is_reported() {
    let _alone = alone();
    if is_libkqueue() {
        return;
    }
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    poll.register(&mut signals, 1, READ);
    // SAFETY: no pointers but the thread's own.
    assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), SIGUSR1) }, 0);
    if cfg!(target_vendor = "apple") {
        poll.expect_no_events();
    } else {
        received(&mut poll, 1, &signals, &[SIGUSR1]);
    }
}

#[test]
fn signal_during_poll_until_is_reported() {
    let _alone = alone();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    poll.registry().register(&mut signals, Token(1), READ).unwrap();
    for _ in 0..20 {
        let waiting = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !waiting.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                // SAFETY: no pointers.
                assert_eq!(unsafe { libc::kill(libc::getpid(), SIGUSR1) }, 0);
            });
            waiting.store(true, Ordering::SeqCst);
            poll.poll_until(&mut events, Some(Instant::now() + TIMEOUT)).unwrap();
        });
        let reported: Vec<_> = events.iter().flat_map(|event| signals.received(event).unwrap()).collect();
        assert_eq!(reported, [(SIGUSR1, 1)]);
    }
}

#[test]
fn uncatchable_and_invalid_signals_are_rejected() {
    for signal in
        [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGBUS, 0, -1, 4096, i32::MAX]
    {
        let error = Signals::new([SIGUSR1, signal]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{signal}");
    }
    assert_eq!(Signals::new([]).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn invalid_registrations_fail_and_keep_the_source() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    let registry = poll.registry().try_clone().unwrap();
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    let kind = |result: io::Result<()>| result.unwrap_err().kind();
    for interest in [READ.oneshot(), WRITE, Interest::PRIORITY, Interest::AIO, READ.exclusive()] {
        assert_eq!(kind(registry.register(&mut signals, Token(1), interest)), ErrorKind::Unsupported);
        assert!(is_default(SIGUSR1));
    }
    assert_eq!(kind(registry.deregister(&mut signals)), ErrorKind::NotFound);
    assert_eq!(kind(registry.reregister(&mut signals, Token(1), READ)), ErrorKind::NotFound);
    registry.register(&mut signals, Token(1), READ.level()).unwrap();
    assert_eq!(kind(registry.register(&mut signals, Token(1), READ)), ErrorKind::AlreadyExists);
    let other = Poll::new().unwrap();
    assert_eq!(kind(other.registry().register(&mut signals, Token(1), READ)), ErrorKind::AlreadyExists);
    assert_eq!(kind(other.registry().deregister(&mut signals)), ErrorKind::NotFound);
    assert!(!is_default(SIGUSR1), "a failed call restored the default action");
    send(SIGUSR1);
    received(&mut poll, 1, &signals, &[SIGUSR1]);
    registry.deregister(&mut signals).unwrap();
    other.registry().register(&mut signals, Token(1), READ).unwrap();
}

/// A failed `deregister` removes the registration and restores the default action. Without a filter, `deregister` does not fail.
#[cfg(selector_has_fd)]
#[test]
fn deregistration_from_a_closed_queue_restores_the_default_action() {
    use std::os::fd::AsRawFd;

    let _alone = alone();
    if is_libkqueue() {
        return;
    }
    in_a_child(|| {
        let poll = TestPoll::new();
        let mut signals = Signals::new([SIGUSR1, SIGTERM]).unwrap();
        poll.register(&mut signals, 1, READ);
        // SAFETY: later calls with the descriptor fail, and the poll is not dropped.
        assert_eq!(unsafe { libc::close(poll.inner.as_raw_fd()) }, 0);
        let result = poll.registry().deregister(&mut signals);
        match BACKEND {
            Backend::Kqueue => assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EBADF)),
            _ => result.unwrap(),
        }
        assert!(is_default(SIGUSR1) && is_default(SIGTERM));
        assert_eq!(poll.registry().deregister(&mut signals).unwrap_err().kind(), ErrorKind::NotFound);
        mem::forget(poll);
    });
}

#[test]
fn disabled_signals_report_nothing_and_suppress_the_default() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGTERM]).unwrap();
    for _ in 0..2 {
        poll.register(&mut signals, 1, Interest::NONE);
        assert!(!is_default(SIGTERM));
        if !is_libkqueue() {
            // On libkqueue the signal would stay pending.
            send(SIGTERM);
        }
        poll.expect_no_events();
        poll.reregister(&mut signals, 2, READ);
        poll.expect_no_events();
        send(SIGTERM);
        received(&mut poll, 2, &signals, &[SIGTERM]);
        poll.reregister(&mut signals, 2, Interest::NONE);
        poll.deregister(&mut signals);
    }
}

#[test]
fn reregistering_keeps_signals_and_deregistering_discards() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
    poll.register(&mut signals, 1, READ);
    send(SIGUSR1);
    poll.reregister(&mut signals, 2, READ);
    received(&mut poll, 2, &signals, &[SIGUSR1]);
    send(SIGUSR2);
    poll.expect(2, R);
    poll.deregister(&mut signals);
    poll.register(&mut signals, 3, READ);
    poll.expect_no_events();
    send(SIGUSR1);
    received(&mut poll, 3, &signals, &[SIGUSR1]);
}

#[test]
fn signal_beside_an_unread_one_is_reported() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    for interest in [READ, READ.level()] {
        poll.register(&mut signals, 1, interest);
        send(SIGUSR1);
        poll.expect(1, R);
        poll.expect_no_events();
        send(SIGUSR1);
        poll.expect(1, R);
        poll.expect_no_events();
        poll.deregister(&mut signals);
    }
}

#[test]
fn event_of_another_source_is_rejected() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    let mut timer = Timer::after(Duration::ZERO).unwrap();
    poll.register(&mut signals, 1, READ);
    poll.register(&mut timer, 2, READ);
    poll.expect(2, R);
    let event = poll.events.iter().next().unwrap();
    assert_eq!(signals.received(event).unwrap_err().kind(), ErrorKind::InvalidInput);
    let event = event.clone();
    timer.cancel().unwrap();
    send(SIGUSR1);
    poll.expect(1, R);
    assert_eq!(timer.expirations(poll.events.iter().next().unwrap()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(timer.expirations(&event).is_ok());
}

/// The forked child only waits until a signal terminates it, because few calls are safe in a child of a process with threads.
#[test]
fn child_is_terminated_by_its_signal() {
    let _alone = alone();
    if is_known_failure(Check::ForkedChild) {
        return;
    }
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGTERM]).unwrap();
    poll.register(&mut signals, 1, READ);
    // SAFETY: the child calls nothing but what may be called after fork(2) and in a handler.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        loop {
            // SAFETY: no pointers.
            unsafe { libc::pause() };
        }
    }
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::kill(pid, SIGTERM) }, 0);
    let status = wait_for_child(pid);
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == SIGTERM, "{status:x}");
    poll.expect_no_events();
    let mut program = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // The program has started when its output arrives. Before that, exec of NetBSD discards the signal (ksiginfo_exechook).
    program.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    program.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::kill(program.id() as i32, SIGTERM) }, 0);
    assert_eq!(program.wait().unwrap().signal(), Some(SIGTERM), "a program starts with the default action");
    poll.expect_no_events();
    send(SIGTERM);
    received(&mut poll, 1, &signals, &[SIGTERM]);
}

/// The fork happens while another thread changes signal actions. Dropping in the child must not block.
#[test]
fn child_forked_during_registrations_drops_without_blocking() {
    let _alone = alone();
    if is_known_failure(Check::ForkedChild) {
        return;
    }
    let poll = TestPoll::new();
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    poll.register(&mut signals, 1, READ);
    let mut signals = Some(signals);
    let other = TestPoll::new();
    let mut more = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
    let again = || {
        other.register(&mut more, 1, READ);
        other.deregister(&mut more);
    };
    while_threads_repeat([again], || (0..50).for_each(|_| in_a_child(|| drop(signals.take()))));
    assert!(!is_default(SIGUSR1));
    drop(signals);
    assert!(is_default(SIGUSR1));
}

/// In the child, the inherited handler applies the default action. Then the child registers a source of its own.
#[test]
fn child_reports_a_signal_of_its_own_source() {
    let _alone = alone();
    if is_known_failure(Check::ForkedChild) {
        return;
    }
    let poll = TestPoll::new();
    let mut signals = Signals::new([SIGWINCH]).unwrap();
    poll.register(&mut signals, 1, READ);
    in_a_child(|| {
        // The default action ignores this signal.
        send(SIGWINCH);
        let mut poll = TestPoll::new();
        let mut own = Signals::new([SIGWINCH]).unwrap();
        poll.register(&mut own, 2, READ);
        send(SIGWINCH);
        received(&mut poll, 2, &own, &[SIGWINCH]);
        drop(own);
        assert!(is_default(SIGWINCH));
    });
}

/// The fork happens while a handler runs in another thread, which does not exist in the child. The child must not block.
#[test]
fn child_forked_during_a_handler_does_not_block() {
    let _alone = alone();
    if is_known_failure(Check::ForkedChild) {
        return;
    }
    let poll = TestPoll::new();
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    poll.register(&mut signals, 1, READ);
    // SAFETY: no pointers.
    let again = || assert_eq!(unsafe { libc::raise(SIGUSR1) }, 0);
    while_threads_repeat([again], || {
        for _ in 0..300 {
            in_a_child(|| {
                let poll = TestPoll::new();
                let mut own = Signals::new([SIGUSR1]).unwrap();
                poll.register(&mut own, 1, READ);
                poll.deregister(&mut own);
            });
        }
    });
}

/// If a process ignores SIGCHLD, the kernel reaps its children. A signal source does not change that.
#[test]
fn ignored_sigchld_reaps_children_as_before() {
    let _alone = alone();
    if is_known_failure(Check::PreviousHandler) {
        return;
    }
    let before = set_action(SIGCHLD, libc::SIG_IGN, 0);
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGCHLD]).unwrap();
    poll.register(&mut signals, 1, READ);
    let mut child = Command::new("true").spawn().unwrap();
    assert_eq!(child.wait().unwrap_err().raw_os_error(), Some(libc::ECHILD));
    drop(signals);
    restore(SIGCHLD, &before);
    let mut signals = Signals::new([SIGCHLD]).unwrap();
    poll.register(&mut signals, 1, READ);
    let mut child = Command::new("true").spawn().unwrap();
    received(&mut poll, 1, &signals, &[SIGCHLD]);
    assert!(child.wait().unwrap().success());
}

#[test]
fn batch_registers_signals() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    let (mut ours, _theirs) = UnixStream::pair().unwrap();
    let mut signals = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
    let mut batch = Batch::new();
    batch.register(&mut ours, Token(1), Interest::WRITABLE).register(&mut signals, Token(2), READ);
    let results = poll.registry().submit(batch);
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    poll.expect(1, W);
    send(SIGUSR2);
    received(&mut poll, 2, &signals, &[SIGUSR2]);
}

#[test]
fn signals_survive_drop_of_poll() {
    let _alone = alone();
    let poll = TestPoll::new();
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    poll.register(&mut signals, 1, READ);
    drop(poll);
    drop(signals);
    assert!(is_default(SIGUSR1));
}

/// After its poll is dropped, a source registers in another poll, and each signal is counted once.
#[test]
fn signals_registered_in_successive_polls_count_once() {
    let _alone = alone();
    let mut signals = Signals::new([SIGUSR1]).unwrap();
    for token in 1..4 {
        let mut poll = TestPoll::new();
        poll.register(&mut signals, token, READ);
        send(SIGUSR1);
        assert_eq!(received(&mut poll, token, &signals, &[SIGUSR1]), [(SIGUSR1, 1)]);
    }
    drop(signals);
    assert!(is_default(SIGUSR1));
}

/// Sources are registered and dropped while signals arrive. No freed state is read, and the source that stays loses no signal.
#[test]
fn no_signal_is_lost_under_load() {
    let _alone = alone();
    const ROUNDS: usize = 300;
    let mut poll = TestPoll::new();
    let mut signals = Signals::new([SIGUSR1, SIGUSR2]).unwrap();
    poll.register(&mut signals, 1, READ);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    send(SIGUSR1);
                }
            });
        }
        let changers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let poll = TestPoll::new();
                    for _ in 0..ROUNDS {
                        let mut signals = Signals::new([SIGUSR1]).unwrap();
                        poll.register(&mut signals, 1, READ);
                    }
                })
            })
            .collect();
        let end = Instant::now() + 3 * TIMEOUT;
        let mut count = 0;
        while count < 100 || !changers.iter().all(|changer| changer.is_finished()) {
            assert!(Instant::now() < end, "{count} signals");
            poll.poll_once(Some(Duration::from_millis(100)));
            for event in &poll.events {
                count += signals.received(event).unwrap().iter().map(|(_, count)| count).sum::<u64>();
            }
        }
        over.store(true, Ordering::SeqCst);
    });
    let mut is_reported = false;
    send(SIGUSR2);
    while !is_reported {
        poll.expect(1, R);
        for event in &poll.events {
            is_reported |= signals.received(event).unwrap().iter().any(|(signal, _)| *signal == SIGUSR2);
        }
    }
}
