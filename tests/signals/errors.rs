//! Registrations that fail in the middle of a set. No signal of the set stays taken.

use super::*;

const SET: [i32; 3] = [SIGHUP, SIGINT, SIGTERM];

#[allow(dead_code)] // Systems without a queue that has a descriptor, and without seccomp(2), use the function nowhere.
fn is_unsupported() -> bool {
    is_known_failure(Check::ForkedChild)
}

/// Checks that the source is not registered, that no action is changed, and that the source can register afterwards.
#[track_caller]
fn expect_nothing_taken(poll: &mut TestPoll, signals: &mut Signals) {
    assert!(SET.into_iter().all(is_default), "the handler of a signal stays");
    assert_eq!(poll.registry().deregister(signals).unwrap_err().kind(), ErrorKind::NotFound);
    assert!(SET.into_iter().all(is_default));
}

/// A kqueue has one filter for each signal. The filter of one signal of the set exists.
#[test]
fn registered_signal_of_a_set_fails_the_whole_set() {
    let _alone = alone();
    if BACKEND != Backend::Kqueue {
        return;
    }
    for taken in SET {
        let mut poll = TestPoll::new();
        let mut first = Signals::new([taken]).unwrap();
        poll.register(&mut first, 1, READ);
        let mut signals = Signals::new(SET).unwrap();
        for _ in 0..2 {
            let error = poll.registry().register(&mut signals, Token(2), READ).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
            let is_as_before = |signal| is_default(signal) == (signal != taken);
            assert!(SET.into_iter().all(is_as_before), "the handler of a signal stays");
        }
        poll.deregister(&mut first);
        expect_nothing_taken(&mut poll, &mut signals);
        poll.register(&mut signals, 2, READ);
        SET.into_iter().for_each(send);
        received(&mut poll, 2, &signals, &SET);
        poll.expect_no_events();
    }
}

#[test]
fn rejected_arguments_take_no_signal() {
    let _alone = alone();
    let (mut poll, other) = (TestPoll::new(), TestPoll::new());
    let mut signals = Signals::new(SET).unwrap();
    for interest in [READ.oneshot(), WRITE, Interest::PRIORITY, READ.exclusive()] {
        let result = poll.registry().register(&mut signals, Token(1), interest);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
        expect_nothing_taken(&mut poll, &mut signals);
    }
    poll.register(&mut signals, 1, READ);
    for interest in [READ.oneshot(), WRITE, Interest::PRIORITY, READ.exclusive()] {
        let result = poll.registry().reregister(&mut signals, Token(2), interest);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    assert!(other.registry().register(&mut signals, Token(2), READ).is_err());
    assert!(other.registry().reregister(&mut signals, Token(2), READ).is_err());
    assert!(other.registry().deregister(&mut signals).is_err());
    assert!(!SET.into_iter().any(is_default), "a failed call has ended the subscription");
    SET.into_iter().for_each(send);
    received(&mut poll, 1, &signals, &SET);
    poll.deregister(&mut signals);
    expect_nothing_taken(&mut poll, &mut signals);
}

/// The descriptor of the queue is closed, so that every change of a filter fails. Other backends change no kernel object.
#[cfg(selector_has_fd)]
#[test]
fn rejected_changes_take_no_signal() {
    use std::os::fd::AsRawFd;

    let _alone = alone();
    if is_unsupported() || BACKEND != Backend::Kqueue {
        return;
    }
    for is_registered in [false, true] {
        in_a_child(|| {
            let mut poll = TestPoll::new();
            let mut signals = Signals::new(SET).unwrap();
            if is_registered {
                poll.register(&mut signals, 1, READ);
            }
            // SAFETY: later calls with the descriptor fail, and the poll is not dropped.
            assert_eq!(unsafe { libc::close(poll.inner.as_raw_fd()) }, 0);
            if is_registered {
                assert!(poll.registry().reregister(&mut signals, Token(2), READ).is_err());
                // The source is registered as before, or not at all.
                let taken = SET.into_iter().filter(|&signal| !is_default(signal)).count();
                assert!(taken == 0 || taken == SET.len(), "{taken} signals of the set are taken");
                let _ = poll.registry().deregister(&mut signals);
            } else {
                let error = poll.registry().register(&mut signals, Token(1), READ).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EBADF));
            }
            expect_nothing_taken(&mut poll, &mut signals);
            mem::forget(poll);
        });
    }
}

/// seccomp(2) fails the calls that change the action of one signal.
#[cfg(all(target_os = "linux", target_endian = "little"))]
mod sandboxed {
    use super::*;

    /// Makes each change of the action of `signal` return this errno. With zero, the call returns success and changes nothing.
    fn reject_actions(signal: i32, errno: libc::c_int) {
        // Offsets in `struct seccomp_data`: the number of the call, and the low halves of its first two arguments.
        const NUMBER: u32 = 0;
        const FIRST: u32 = 16;
        const SECOND: u32 = 24;
        let (load, equal) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
        // SAFETY: the functions only compute.
        let statement = |code: u32, k| unsafe { libc::BPF_STMT(code as u16, k) };
        // SAFETY: as above.
        let jump = |k, yes, no| unsafe { libc::BPF_JUMP(equal as u16, k, yes, no) };
        let mut program = [
            statement(load, NUMBER),
            jump(libc::SYS_rt_sigaction as u32, 0, 5),
            statement(load, FIRST),
            jump(signal as u32, 0, 3),
            statement(load, SECOND),
            jump(0, 1, 0),
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: integers; the kernel reads the program, which outlives the call.
        unsafe {
            assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
            let mode = libc::SECCOMP_MODE_FILTER;
            assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &program), 0, "{}", io::Error::last_os_error());
        }
    }

    #[test]
    fn rejected_action_takes_no_signal_of_the_set() {
        let _alone = alone();
        if is_unsupported() {
            return;
        }
        for (signal, errno) in SET.into_iter().flat_map(|signal| [(signal, libc::EPERM), (signal, 0)]) {
            in_a_child(|| {
                let mut poll = TestPoll::new();
                let mut signals = Signals::new(SET).unwrap();
                reject_actions(signal, errno);
                for _ in 0..2 {
                    let error = poll.registry().register(&mut signals, Token(1), READ).unwrap_err();
                    assert_eq!(error.raw_os_error(), (errno != 0).then_some(errno), "{error}");
                    expect_nothing_taken(&mut poll, &mut signals);
                }
                // The other signals can be taken.
                let others: Vec<i32> = SET.into_iter().filter(|&other| other != signal).collect();
                let mut signals = Signals::new(others.iter().copied()).unwrap();
                poll.register(&mut signals, 1, READ);
                others.iter().for_each(|&other| send(other));
                received(&mut poll, 1, &signals, &others);
                drop(signals);
                assert!(SET.into_iter().all(is_default));
            });
        }
    }

    /// The program has replaced the handler of a source whose poll was dropped.
    #[test]
    fn rejected_second_registration_takes_no_signal_of_the_set() {
        let _alone = alone();
        if is_unsupported() {
            return;
        }
        in_a_child(|| {
            let first = TestPoll::new();
            let mut signals = Signals::new(SET).unwrap();
            first.registry().register(&mut signals, Token(1), READ).unwrap();
            drop(first);
            set_action(SIGTERM, libc::SIG_DFL, 0);
            reject_actions(SIGTERM, libc::EPERM);
            let mut poll = TestPoll::new();
            let error = poll.registry().register(&mut signals, Token(1), READ).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EPERM));
            expect_nothing_taken(&mut poll, &mut signals);
        });
    }
}
