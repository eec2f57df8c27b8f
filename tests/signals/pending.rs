//! Signals that were posted while they were watched: their handler runs later, or the source is gone before it can run.

use super::*;

/// Neither Apple nor DragonFly reports what every thread blocks to a kqueue.
const REPORTS_BLOCKED: bool =
    matches!(BACKEND, Backend::Kqueue) && cfg!(not(any(target_vendor = "apple", target_os = "dragonfly")));

const ENDING: [i32; 5] = [SIGHUP, SIGINT, SIGTERM, SIGUSR1, libc::SIGALRM];

fn is_left_out() -> bool {
    is_known_failure(Check::ForkedChild)
}

/// Whether the source is dropped or deregistered, the signals go back.
fn ends(poll: &TestPoll, mut signals: Signals, is_dropped: bool) {
    if !is_dropped {
        poll.deregister(&mut signals);
    }
    drop(signals);
}

#[test]
fn pending_signal_of_an_ended_set_is_discarded() {
    let _alone = alone();
    if is_left_out() {
        return;
    }
    for (signal, is_dropped) in ENDING.into_iter().flat_map(|signal| [(signal, true), (signal, false)]) {
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
            ends(&poll, signals, is_dropped);
            assert!(is_default(signal));
            // This would end the child.
            mask(libc::SIG_UNBLOCK, &[signal]);
        });
    }
}

#[test]
fn signal_pending_in_another_thread_is_discarded() {
    let _alone = alone();
    if is_left_out() {
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
                // This would end the child.
                mask(libc::SIG_UNBLOCK, &[SIGTERM]);
            });
            pending.recv().unwrap();
            ends(&poll, signals, is_dropped);
            is_over.send(()).unwrap();
            other.join().unwrap();
        });
    }
}

#[test]
fn signal_after_the_end_of_a_set_takes_its_default() {
    let _alone = alone();
    if is_left_out() {
        return;
    }
    for (signal, is_dropped) in ENDING.into_iter().flat_map(|signal| [(signal, true), (signal, false)]) {
        let status = status_of_child(|| {
            let mut poll = TestPoll::new();
            let mut signals = Signals::new([signal]).unwrap();
            poll.register(&mut signals, 1, READ);
            send(signal);
            received(&mut poll, 1, &signals, &[signal]);
            ends(&poll, signals, is_dropped);
            send(signal);
        });
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == signal, "{status:x}");
    }
}

#[test]
fn pending_signal_of_an_ended_set_goes_to_the_previous_handler() {
    let _alone = alone();
    if is_left_out() {
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
            ends(&poll, signals, is_dropped);
            mask(libc::SIG_UNBLOCK, &[SIGUSR1]);
            handled(1);
        });
    }
}

/// A kqueue reports the signal when it is posted; the handler runs later, perhaps in another thread.
#[test]
fn set_that_ends_right_after_its_event_survives() {
    let _alone = alone();
    let mut poll = TestPoll::new();
    for round in 0..300 {
        let mut signals = Signals::new([SIGHUP, SIGTERM, SIGUSR1]).unwrap();
        poll.register(&mut signals, 1, READ);
        let signal = [SIGHUP, SIGTERM, SIGUSR1][round % 3];
        send(signal);
        received(&mut poll, 1, &signals, &[signal]);
        ends(&poll, signals, round % 2 == 0);
    }
}

/// To ignore SIGCHLD, be it for a moment, reaps the children that exit meanwhile.
#[test]
fn end_of_a_set_reaps_no_child() {
    let _alone = alone();
    let poll = TestPoll::new();
    for _ in 0..100 {
        // SAFETY: the child leaves without running anything else of this process.
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
