//! Signals that were sent while a source was registered, and whose handler runs later, or after the source is dropped.

use super::*;

/// kqueue of Apple and DragonFly does not report signals that every thread blocks.
const REPORTS_BLOCKED: bool =
    matches!(BACKEND, Backend::Kqueue) && cfg!(not(any(target_vendor = "apple", target_os = "dragonfly")));

const TERMINATING: [i32; 5] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, libc::SIGALRM];

fn is_unsupported() -> bool {
    is_known_failure(Check::ForkedChild)
}

/// Drops or deregisters the source; both restore the actions.
fn end_source(poll: &TestPoll, mut signals: Signals, is_dropped: bool) {
    if !is_dropped {
        poll.deregister(&mut signals);
    }
    drop(signals);
}

#[test]
fn pending_signal_of_a_dropped_source_is_discarded() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    for (signal, is_dropped) in TERMINATING.into_iter().flat_map(|signal| [(signal, true), (signal, false)]) {
        in_a_child(|| {
            let mut poll = TestPoll::new();
            let mut signals = Signals::new([signal]).unwrap();
            poll.register(&mut signals, 1, READ);
            mask(libc::SIG_BLOCK, &[signal]);
            // SAFETY: no pointers.
            assert_eq!(unsafe { libc::kill(libc::getpid(), signal) }, 0);
            if REPORTS_BLOCKED {
                received(&mut poll, 1, &signals, &[signal]);
            }
            end_source(&poll, signals, is_dropped);
            assert!(is_default(signal));
            // The default action would terminate the child.
            mask(libc::SIG_UNBLOCK, &[signal]);
        });
    }
}

#[test]
fn signal_pending_in_another_thread_is_discarded() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    if !is_in_own_process(signal_pending_in_another_thread_is_discarded) {
        return;
    }
    for is_dropped in [true, false] {
        in_a_child(|| {
            let poll = TestPoll::new();
            let mut signals = Signals::new([SIGTERM]).unwrap();
            poll.register(&mut signals, 1, READ);
            let (is_pending, pending) = std::sync::mpsc::channel();
            let (is_over, over) = std::sync::mpsc::channel();
            let other = thread::spawn(move || {
                mask(libc::SIG_BLOCK, &[SIGTERM]);
                // SAFETY: no pointers but the thread's own.
                assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), SIGTERM) }, 0);
                is_pending.send(()).unwrap();
                over.recv().unwrap();
                // The default action would terminate the child.
                mask(libc::SIG_UNBLOCK, &[SIGTERM]);
            });
            pending.recv().unwrap();
            end_source(&poll, signals, is_dropped);
            is_over.send(()).unwrap();
            other.join().unwrap();
        });
    }
}

#[test]
fn signal_after_drop_takes_its_default_action() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    for (signal, is_dropped) in TERMINATING.into_iter().flat_map(|signal| [(signal, true), (signal, false)]) {
        let status = status_of_child(|| {
            let mut poll = TestPoll::new();
            let mut signals = Signals::new([signal]).unwrap();
            poll.register(&mut signals, 1, READ);
            send(signal);
            received(&mut poll, 1, &signals, &[signal]);
            end_source(&poll, signals, is_dropped);
            send(signal);
        });
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == signal, "{status:x}");
    }
}

#[test]
fn pending_signal_of_a_dropped_source_reaches_the_previous_handler() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    for is_dropped in [true, false] {
        in_a_child(|| {
            set_action(SIGUSR1, plain as extern "C" fn(_) as libc::sighandler_t, libc::SA_RESTART);
            HANDLED.store(0, Ordering::SeqCst);
            let poll = TestPoll::new();
            let mut signals = Signals::new([SIGUSR1]).unwrap();
            poll.register(&mut signals, 1, READ);
            mask(libc::SIG_BLOCK, &[SIGUSR1]);
            // SAFETY: no pointers.
            assert_eq!(unsafe { libc::kill(libc::getpid(), SIGUSR1) }, 0);
            end_source(&poll, signals, is_dropped);
            mask(libc::SIG_UNBLOCK, &[SIGUSR1]);
            handled(1);
        });
    }
}

/// A kqueue reports the signal when it is sent; the handler runs later, perhaps in another thread.
#[test]
fn dropping_a_source_right_after_its_event_is_safe() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    for round in 0..300 {
        let mut signals = Signals::new([SIGHUP, SIGTERM, SIGUSR1]).unwrap();
        poll.register(&mut signals, 1, READ);
        let signal = [SIGHUP, SIGTERM, SIGUSR1][round % 3];
        send(signal);
        received(&mut poll, 1, &signals, &[signal]);
        end_source(&poll, signals, round % 2 == 0);
    }
}

/// Ignoring SIGCHLD, even for a moment, would reap the children that exit meanwhile.
#[test]
fn dropping_a_sigchld_source_reaps_no_child() {
    let _alone = alone();
    let poll = TestPoll::new();
    for _ in 0..100 {
        // SAFETY: the child exits without running anything else of this process.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(7) };
        }
        for _ in 0..10 {
            let mut signals = Signals::new([SIGCHLD]).unwrap();
            poll.register(&mut signals, 1, READ);
        }
        let mut status = 0;
        // SAFETY: no pointers but to the status.
        while unsafe { libc::waitpid(pid, &mut status, 0) } != pid {
            assert_eq!(io::Error::last_os_error().kind(), ErrorKind::Interrupted);
        }
        assert_eq!(libc::WEXITSTATUS(status), 7);
    }
}
