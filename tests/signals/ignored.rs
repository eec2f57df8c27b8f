//! Signals that the program blocks in every thread, or ignored before the registration.

use super::*;

fn is_unsupported() -> bool {
    is_known_failure(Check::PreviousHandler) || is_known_failure(Check::ForkedChild)
}

/// kqueue of Apple and DragonFly does not report signals that every thread blocks.
const REPORTS_BLOCKED: bool =
    matches!(BACKEND, Backend::Kqueue) && cfg!(not(any(target_vendor = "apple", target_os = "dragonfly")));

/// Checks that a signal that was sent while every thread blocks it is reported at once on kqueue, and otherwise later.
fn expect_blocked(poll: &mut TestPoll, signals: &Signals, signal: i32) {
    if REPORTS_BLOCKED {
        received(poll, 1, signals, &[signal]);
    } else {
        poll.expect_no_events();
    }
    mask(libc::SIG_UNBLOCK, &[signal]);
    if !REPORTS_BLOCKED {
        received(poll, 1, signals, &[signal]);
    }
    poll.drain_events();
}

/// The child has one thread, which blocks the signal. A thread that starts later inherits the mask.
#[test]
fn signal_that_every_thread_blocks_is_reported_when_it_is_unblocked() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    if !is_in_own_process(signal_that_every_thread_blocks_is_reported_when_it_is_unblocked) {
        return;
    }
    in_a_child(|| {
        mask(libc::SIG_BLOCK, &[SIGTERM]);
        let mut poll = TestPoll::new();
        let mut signals = Signals::new([SIGTERM]).unwrap();
        poll.register(&mut signals, 1, READ);
        // SAFETY: no pointers.
        thread::spawn(|| assert_eq!(unsafe { libc::kill(libc::getpid(), SIGTERM) }, 0)).join().unwrap();
        expect_blocked(&mut poll, &signals, SIGTERM);
    });
}

#[test]
fn sigchld_that_every_thread_blocks_is_reported_when_it_is_unblocked() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_child(|| {
        mask(libc::SIG_BLOCK, &[SIGCHLD]);
        let mut poll = TestPoll::new();
        let mut signals = Signals::new([SIGCHLD]).unwrap();
        poll.register(&mut signals, 1, READ);
        // SAFETY: the child exits without running anything else of this process.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(0) };
        }
        expect_blocked(&mut poll, &signals, SIGCHLD);
        // FreeBSD discards a pending SIGCHLD when its child is reaped, so the child is reaped last.
        wait_for_child(pid);
    });
}

/// POSIX leaves open whether a process that ignores SIGCHLD receives it from children that are reaped by the kernel.
#[test]
fn ignored_sigchld_is_reported_on_linux() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_child(|| {
        set_action(SIGCHLD, libc::SIG_IGN, 0);
        let mut poll = TestPoll::new();
        let mut signals = Signals::new([SIGCHLD]).unwrap();
        poll.register(&mut signals, 1, READ);
        // SAFETY: the child exits without running anything else of this process.
        unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::_exit(0);
            }
            // Waits until the child has exited.
            assert_eq!(libc::waitpid(pid, ptr::null_mut(), 0), -1);
        }
        let is_reported = !poll.drain_events().is_empty();
        println!("an ignored SIGCHLD is reported: {is_reported}");
        assert!(is_reported || cfg!(not(target_os = "linux")));
        // A signal that another process sends is reported everywhere.
        send(SIGCHLD);
        poll.until(|reported| is_reported || reported.contains_key(&1), || "SIGCHLD".to_owned());
        drop(signals);
        assert_eq!(action(SIGCHLD).sa_sigaction, libc::SIG_IGN);
    });
}

/// Returns the signal that has ended a shell, which sends itself SIGHUP.
fn signal_of_a_program() -> Option<i32> {
    Command::new("/bin/sh").args(["-c", "kill -HUP $$"]).status().unwrap().signal()
}

/// nohup(1) ignores SIGHUP and starts a program. The program has to register the signal, and so receives it.
#[test]
fn signal_ignored_by_nohup_is_reported_and_ignored_again() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_child(|| {
        set_action(SIGHUP, libc::SIG_IGN, 0);
        let mut poll = TestPoll::new();
        let mut signals = Signals::new([SIGHUP, SIGTERM]).unwrap();
        assert_eq!(action(SIGHUP).sa_sigaction, libc::SIG_IGN, "creating the source changes nothing");
        for _ in 0..2 {
            poll.register(&mut signals, 1, READ);
            send(SIGHUP);
            received(&mut poll, 1, &signals, &[SIGHUP]);
            // exec(3) sets a signal with a handler to its default action.
            assert_eq!(signal_of_a_program(), Some(SIGHUP));
            poll.deregister(&mut signals);
            assert_eq!(action(SIGHUP).sa_sigaction, libc::SIG_IGN);
            assert!(is_default(SIGTERM));
            send(SIGHUP);
            assert_eq!(signal_of_a_program(), None);
        }
        poll.expect_no_events();
    });
}
