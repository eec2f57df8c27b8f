//! Handlers and dispositions that the program installs over the handler of kevio.

use std::sync::atomic::AtomicI32;

use super::*;

const PLAIN: extern "C" fn(libc::c_int) = plain;

fn plain_handler() -> libc::sighandler_t {
    PLAIN as libc::sighandler_t
}

fn is_unsupported() -> bool {
    is_known_failure(Check::PreviousHandler) || is_known_failure(Check::ForkedChild)
}

/// Runs `f` in a forked child, because a test that fails leaves its handlers behind.
#[track_caller]
fn in_a_clean_child(f: impl FnOnce()) {
    in_a_child(|| {
        HANDLED.store(0, Ordering::SeqCst);
        f();
    });
}

fn registered(poll: &TestPoll, signals: &[i32]) -> Signals {
    let mut source = Signals::new(signals.iter().copied()).unwrap();
    poll.register(&mut source, 1, READ);
    source
}

/// Sends SIGHUP, and checks that each source counts one signal and that the handlers of the program add `added`.
#[track_caller]
fn expect_one(sources: &mut [(&mut TestPoll, &Signals)], added: usize) {
    send(SIGHUP);
    for (poll, source) in sources {
        assert_eq!(received(poll, 1, source, &[SIGHUP]), [(SIGHUP, 1)]);
        poll.expect_no_events();
    }
    handled(added);
}

/// A handler that calls the action that it has saved, and adds `ADDS`. Each has an action of its own.
extern "C" fn chained<const ADDS: usize>(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    HANDLED.fetch_add(ADDS, Ordering::SeqCst);
    let saved = SAVED[ADDS.ilog2() as usize].load(Ordering::SeqCst);
    if saved == libc::SIG_DFL || saved == libc::SIG_IGN {
        return;
    }
    // SAFETY: the handlers of these tests, and that of kevio, have this type, or have one argument.
    let saved: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = unsafe { mem::transmute(saved) };
    saved(signal, info, context);
}

static SAVED: [AtomicUsize; 8] = {
    #[allow(clippy::declare_interior_mutable_const)] // The initial value of each.
    const UNSAVED: AtomicUsize = AtomicUsize::new(0);
    [UNSAVED; 8]
};

/// Installs `chained::<ADDS>` for SIGHUP, which saves the current action, unless it is its own. Returns the current action.
fn install_chained<const ADDS: usize>() -> libc::sigaction {
    let current = install_again::<ADDS>();
    if current.sa_sigaction != chained_handler::<ADDS>() {
        SAVED[ADDS.ilog2() as usize].store(current.sa_sigaction, Ordering::SeqCst);
    }
    current
}

fn install_again<const ADDS: usize>() -> libc::sigaction {
    set_action(SIGHUP, chained_handler::<ADDS>(), libc::SA_SIGINFO)
}

fn chained_handler<const ADDS: usize>() -> libc::sighandler_t {
    let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) = chained::<ADDS>;
    handler as libc::sighandler_t
}

/// The program replaces the handler while a source lives. The next source works, and the replacement comes back.
#[test]
fn source_after_a_replacement_is_reported() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    for (replacement, added) in [(plain_handler(), 1), (libc::SIG_IGN, 0), (libc::SIG_DFL, 0)] {
        for is_first_dropped in [false, true] {
            in_a_clean_child(|| {
                let (mut first_poll, mut poll) = (TestPoll::new(), TestPoll::new());
                let first = registered(&first_poll, &[SIGHUP]);
                set_action(SIGHUP, replacement, 0);
                let first = (!is_first_dropped).then_some(first);
                assert_eq!(action(SIGHUP).sa_sigaction, replacement);
                let mut second = registered(&poll, &[SIGHUP]);
                assert_ne!(action(SIGHUP).sa_sigaction, replacement, "the handler is not installed");
                for _ in 0..3 {
                    let mut sources = vec![(&mut poll, &second)];
                    if let Some(first) = &first {
                        sources.push((&mut first_poll, first));
                    }
                    expect_one(&mut sources, added);
                }
                poll.deregister(&mut second);
                drop(first);
                assert_eq!(action(SIGHUP).sa_sigaction, replacement, "the replacement does not come back");
                if replacement != libc::SIG_DFL {
                    send(SIGHUP);
                    handled(added);
                }
            });
        }
    }
}

/// A source whose poll was dropped registers with another poll.
#[test]
fn second_registration_of_a_source_installs_the_handler() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_clean_child(|| {
        let mut source = registered(&TestPoll::new(), &[SIGUSR1, SIGHUP]);
        set_action(SIGHUP, plain_handler(), 0);
        let mut poll = TestPoll::new();
        poll.register(&mut source, 1, READ);
        expect_one(&mut [(&mut poll, &source)], 1);
        drop(source);
        assert!(is_default(SIGUSR1) && action(SIGHUP).sa_sigaction == plain_handler());
    });
}

/// The handler of the crate calls a handler that calls the handler of the crate.
#[test]
fn chained_handlers_of_several_levels_are_called_once() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_clean_child(|| {
        let mut polls = [TestPoll::new(), TestPoll::new(), TestPoll::new()];
        install_chained::<1>();
        let a = registered(&polls[0], &[SIGHUP]);
        install_chained::<2>();
        let b = registered(&polls[1], &[SIGHUP]);
        install_chained::<4>();
        let c = registered(&polls[2], &[SIGHUP]);
        let [first, second, third] = &mut polls;
        expect_one(&mut [(first, &a), (second, &b), (third, &c)], 7);
        // A handler on top, which the kernel calls, leads to all the others.
        let ours = install_chained::<8>();
        expect_one(&mut [(first, &a), (second, &b), (third, &c)], 15);
        restore(SIGHUP, &ours);
        drop(b);
        expect_one(&mut [(first, &a), (third, &c)], 7);
        drop(a);
        expect_one(&mut [(third, &c)], 7);
        drop(c);
        assert_eq!(action(SIGHUP).sa_sigaction, chained_handler::<4>());
        // The handlers on top still call the handler of the crate, which calls the oldest handler.
        send(SIGHUP);
        handled(7);
    });
}

/// The program removes the handlers in the order of a stack, and puts back what it has saved.
#[test]
fn removed_handlers_are_not_called_nor_restored() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_clean_child(|| {
        let mut polls = [TestPoll::new(), TestPoll::new(), TestPoll::new()];
        let [first, second, third] = &mut polls;
        let a = registered(first, &[SIGHUP]);
        let below_one = install_chained::<1>();
        let b = registered(second, &[SIGHUP]);
        let below_two = install_chained::<2>();
        let c = registered(third, &[SIGHUP]);
        expect_one(&mut [(first, &a), (second, &b), (third, &c)], 3);
        restore(SIGHUP, &below_two);
        expect_one(&mut [(first, &a), (second, &b), (third, &c)], 1);
        restore(SIGHUP, &below_one);
        expect_one(&mut [(first, &a), (second, &b), (third, &c)], 0);
        // A handler that is installed now saves the oldest level.
        let below_four = install_chained::<4>();
        expect_one(&mut [(first, &a), (second, &b), (third, &c)], 4);
        restore(SIGHUP, &below_four);
        drop((a, c));
        expect_one(&mut [(second, &b)], 0);
        drop(b);
        assert!(is_default(SIGHUP), "a handler that was removed comes back");
    });
}

/// The last source is dropped between the installation and the removal of a handler.
#[test]
fn default_action_returns_after_the_last_source_and_handler() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    for has_second in [false, true] {
        let status = status_of_child(|| {
            let poll = TestPoll::new();
            let first = registered(&poll, &[SIGHUP]);
            let ours = install_chained::<1>();
            drop(first);
            if has_second {
                drop(registered(&poll, &[SIGHUP]));
            }
            HANDLED.store(0, Ordering::SeqCst);
            send(SIGHUP);
            handled(1);
            restore(SIGHUP, &ours);
            send(SIGHUP);
        });
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == SIGHUP, "{status:x}");
    }
}

/// A program installs and removes handlers and sources again and again.
#[test]
fn repeated_replacements_keep_working() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_clean_child(|| {
        let (mut poll, mut stays) = (TestPoll::new(), TestPoll::new());
        let first = registered(&stays, &[SIGHUP]);
        for round in 0..40 {
            // The same handler, which saves the handler of the crate that calls it.
            install_chained::<1>();
            let source = registered(&poll, &[SIGHUP]);
            expect_one(&mut [(&mut poll, &source), (&mut stays, &first)], 1);
            if round % 2 == 0 {
                // The handler is installed again, and saves the entry point that calls it.
                install_chained::<1>();
                let another = registered(&TestPoll::new(), &[SIGHUP]);
                expect_one(&mut [(&mut poll, &source), (&mut stays, &first)], 1);
                drop(another);
            }
        }
        drop(first);
    });
    in_a_clean_child(|| {
        let mut poll = TestPoll::new();
        for _ in 0..5 {
            // More handlers than levels, each of which calls the one below.
            macro_rules! each {
                ($($adds:literal)*) => { $({
                    install_chained::<$adds>();
                    let source = registered(&poll, &[SIGHUP]);
                    send(SIGHUP);
                    assert_eq!(received(&mut poll, 1, &source, &[SIGHUP]), [(SIGHUP, 1)]);
                    let added = HANDLED.swap(0, Ordering::SeqCst);
                    assert!(added & $adds != 0, "the current handler was not called: {added}");
                    let source = Some(source);
                    drop(source);
                    send(SIGHUP);
                    assert!(HANDLED.swap(0, Ordering::SeqCst) & $adds != 0, "the handler does not come back");
                })* };
            }
            each!(1 2 4 8 16 32 64 128);
            // The first handler of the next round has nothing to call.
            set_action(SIGHUP, libc::SIG_IGN, 0);
            let source = registered(&poll, &[SIGHUP]);
            expect_one(&mut [(&mut poll, &source)], 0);
        }
    });
    in_a_clean_child(|| {
        // All live at the same time. There are more actions than levels.
        let mut polls: Vec<_> = (0..20).map(|_| TestPoll::new()).collect();
        let mut sources = vec![registered(&polls[0], &[SIGHUP])];
        let install = [
            install_chained::<1>,
            install_chained::<2>,
            install_chained::<4>,
            install_chained::<8>,
            install_chained::<16>,
            install_chained::<32>,
            install_chained::<64>,
            install_chained::<128>,
        ];
        for round in 0..19 {
            install[round % 8]();
            sources.push(registered(&polls[round + 1], &[SIGHUP]));
            send(SIGHUP);
            for (poll, source) in polls.iter_mut().zip(&sources) {
                assert_eq!(received(poll, 1, source, &[SIGHUP]), [(SIGHUP, 1)]);
            }
            let added = HANDLED.swap(0, Ordering::SeqCst);
            assert!(added & (1 << (round % 8)) != 0 && added < 256, "round {round}: {added:b}");
        }
    });
}

/// The kernel calls a handler with SA_RESETHAND once, and then restores the default action.
#[test]
fn handler_with_resethand_is_called_once() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    for is_later in [false, true] {
        let status = status_of_child(|| {
            HANDLED.store(0, Ordering::SeqCst);
            let (mut poll, mut other) = (TestPoll::new(), TestPoll::new());
            let first = is_later.then(|| registered(&other, &[SIGHUP]));
            set_action(SIGHUP, plain_handler(), libc::SA_RESETHAND);
            // A source that is dropped gives the handler back as it was.
            if first.is_none() {
                drop(registered(&poll, &[SIGHUP]));
                let given_back = action(SIGHUP);
                assert!(given_back.sa_sigaction == plain_handler() && given_back.sa_flags & libc::SA_RESETHAND != 0);
            }
            let source = registered(&poll, &[SIGHUP]);
            for added in [1, 0, 0] {
                let mut sources = vec![(&mut poll, &source)];
                if let Some(first) = &first {
                    sources.push((&mut other, first));
                }
                expect_one(&mut sources, added);
            }
            // A change of the subscriptions does not call the handler again.
            let third = registered(&TestPoll::new(), &[SIGHUP]);
            expect_one(&mut [(&mut poll, &source)], 0);
            drop((third, source));
            drop(first);
            assert!(is_default(SIGHUP), "a handler that was called comes back");
            send(SIGHUP);
        });
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == SIGHUP, "{status:x}");
    }
}

/// A handler unblocks its signal, so that the kernel interrupts the handler with the same signal.
#[test]
fn signal_during_a_handler_is_counted() {
    static SENT: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn sending(signal: libc::c_int) {
        HANDLED.fetch_add(1, Ordering::SeqCst);
        mask(libc::SIG_UNBLOCK, &[signal]);
        if SENT.fetch_add(1, Ordering::SeqCst) < 2 {
            // SAFETY: no pointers.
            unsafe { libc::raise(signal) };
        }
    }
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_clean_child(|| {
        let mut poll = TestPoll::new();
        set_action(SIGHUP, sending as extern "C" fn(_) as libc::sighandler_t, libc::SA_NODEFER);
        let source = registered(&poll, &[SIGHUP]);
        send(SIGHUP);
        handled(3);
        let [(SIGHUP, count)] = received(&mut poll, 1, &source, &[SIGHUP])[..] else { panic!() };
        assert!(count == 3 || BACKEND == Backend::Kqueue, "{count}");
        // The next signal is not taken for a nested call.
        send(SIGHUP);
        received(&mut poll, 1, &source, &[SIGHUP]);
        handled(1);
    });
}

/// A handler leaves by setcontext(3), as by siglongjmp(3), and so never returns to the handler of the crate. Afterwards a later
/// handler calls the handler of the crate.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[test]
fn handler_that_jumps_loses_no_later_signal() {
    use std::sync::atomic::AtomicPtr;

    static CALLER: AtomicPtr<libc::ucontext_t> = AtomicPtr::new(ptr::null_mut());
    extern "C" fn jumping(_: libc::c_int) {
        HANDLED.fetch_add(1, Ordering::SeqCst);
        let caller = CALLER.swap(ptr::null_mut(), Ordering::SeqCst);
        if !caller.is_null() {
            // SAFETY: the context was saved by swapcontext(3), whose frame lives.
            unsafe { libc::setcontext(caller) };
        }
    }
    extern "C" fn raising() {
        // SAFETY: no pointers.
        unsafe { libc::raise(SIGHUP) };
    }
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_clean_child(|| {
        let mut poll = TestPoll::new();
        set_action(SIGHUP, jumping as extern "C" fn(_) as libc::sighandler_t, 0);
        let source = registered(&poll, &[SIGHUP]);
        let mut stack = vec![0_u8; 1 << 18];
        // SAFETY: integers and addresses, of which zeroes are a value; the stack outlives the context.
        unsafe {
            let (mut caller, mut other): (libc::ucontext_t, libc::ucontext_t) = (mem::zeroed(), mem::zeroed());
            assert_eq!(libc::getcontext(&mut other), 0);
            other.uc_stack.ss_sp = stack.as_mut_ptr().cast();
            other.uc_stack.ss_size = stack.len();
            libc::makecontext(&mut other, raising, 0);
            CALLER.store(&mut caller, Ordering::SeqCst);
            assert_eq!(libc::swapcontext(&mut caller, &other), 0);
        }
        expect_one(&mut [], 2);
        assert_eq!(received(&mut poll, 1, &source, &[SIGHUP]), [(SIGHUP, 2)]);
        install_chained::<8>();
        expect_one(&mut [(&mut poll, &source)], 9);
        let second = registered(&TestPoll::new(), &[SIGHUP]);
        expect_one(&mut [(&mut poll, &source)], 9);
        drop(second);
    });
}

/// A handler that does not return, for example because it calls siglongjmp(3). Here it ends its thread.
#[cfg(target_os = "linux")]
#[test]
fn handler_that_ends_its_thread_loses_no_later_signal() {
    extern "C" fn ending(_: libc::c_int) {
        HANDLED.fetch_add(1, Ordering::SeqCst);
        // The pthread_exit(3) of glibc unwinds the stack, and `extern "C"` functions end a process that unwinds them. musl does
        // not unwind, and its pthread_join(3) waits for a mark that only pthread_exit(3) sets.
        // SAFETY: the thread has no values to drop.
        unsafe {
            if cfg!(target_env = "gnu") {
                libc::syscall(libc::SYS_exit, 0);
            }
            libc::pthread_exit(ptr::null_mut());
        }
    }
    extern "C" fn raising(_: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: no pointers.
        unsafe { libc::raise(SIGHUP) };
        ptr::null_mut()
    }
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_clean_child(|| {
        let mut poll = TestPoll::new();
        // SAFETY: the type of a handler; this one never returns.
        set_action(SIGHUP, ending as extern "C" fn(_) as libc::sighandler_t, 0);
        let source = registered(&poll, &[SIGHUP]);
        for _ in 0..100 {
            // SAFETY: the kernel and libc write one number.
            unsafe {
                let mut thread: libc::pthread_t = mem::zeroed();
                assert_eq!(libc::pthread_create(&mut thread, ptr::null(), raising, ptr::null_mut()), 0);
                assert_eq!(libc::pthread_join(thread, ptr::null_mut()), 0);
            }
            assert_eq!(received(&mut poll, 1, &source, &[SIGHUP]), [(SIGHUP, 1)]);
            handled(1);
        }
    });
}

/// Handlers of several threads run at the same time, on two levels, while sources come and go.
#[test]
fn chained_handlers_of_many_threads_count_each_signal_once() {
    let _alone = alone();
    if is_unsupported() || BACKEND == Backend::Kqueue {
        return;
    }
    if !is_in_own_process(chained_handlers_of_many_threads_count_each_signal_once) {
        return;
    }
    const SIGNALS: usize = 500;
    in_a_clean_child(|| {
        let (mut poll, other) = (TestPoll::new(), TestPoll::new());
        install_chained::<1>();
        let below = registered(&other, &[SIGHUP]);
        install_chained::<2>();
        let source = registered(&poll, &[SIGHUP]);
        let sent = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..SIGNALS {
                        // SAFETY: no pointers. The signal arrives before the call returns.
                        assert_eq!(unsafe { libc::raise(SIGHUP) }, 0);
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            scope.spawn(|| {
                let poll = TestPoll::new();
                while sent.load(Ordering::SeqCst) < 4 * SIGNALS {
                    drop(registered(&poll, &[SIGHUP]));
                }
            });
        });
        assert_eq!(received(&mut poll, 1, &source, &[SIGHUP]), [(SIGHUP, 4 * SIGNALS as u64)]);
        handled(3 * 4 * SIGNALS);
        drop(below);
    });
}

/// A forked child inherits the levels, and takes the default action at the lowest one.
#[test]
fn child_calls_the_handlers_of_the_levels() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_clean_child(|| {
        let poll = TestPoll::new();
        let first = registered(&poll, &[SIGHUP]);
        let ours = install_chained::<1>();
        let second = registered(&TestPoll::new(), &[SIGHUP]);
        in_a_clean_child(|| {
            send(SIGHUP);
            handled(1);
            let mut own_poll = TestPoll::new();
            let own = registered(&own_poll, &[SIGHUP]);
            expect_one(&mut [(&mut own_poll, &own)], 1);
            drop(own);
            send(SIGHUP);
            handled(1);
        });
        let status = status_of_child(|| {
            restore(SIGHUP, &ours);
            send(SIGHUP);
        });
        assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == SIGHUP, "{status:x}");
        drop((first, second));
    });
}

/// SIGABRT marks nested calls, except for itself.
#[test]
fn sigabrt_is_a_signal_like_others() {
    let _alone = alone();
    if is_unsupported() {
        return;
    }
    in_a_clean_child(|| {
        let mut poll = TestPoll::new();
        let handler = plain_handler();
        set_action(libc::SIGABRT, handler, 0);
        let first = registered(&TestPoll::new(), &[libc::SIGABRT]);
        set_action(libc::SIGABRT, handler, 0);
        let source = registered(&poll, &[libc::SIGABRT]);
        for _ in 0..2 {
            send(libc::SIGABRT);
            received(&mut poll, 1, &source, &[libc::SIGABRT]);
            handled(1);
        }
        drop((first, source));
        assert_eq!(action(libc::SIGABRT).sa_sigaction, handler);
    });
    // abort(3) ends a process although a source is registered and a handler of the program runs.
    extern "C" fn aborting(_: libc::c_int) {
        // SAFETY: no pointers.
        unsafe { libc::abort() };
    }
    let status = status_of_child(|| {
        let poll = TestPoll::new();
        set_action(SIGHUP, aborting as extern "C" fn(_) as libc::sighandler_t, 0);
        let _source = registered(&poll, &[SIGHUP]);
        send(SIGHUP);
        handled(1);
    });
    assert!(libc::WIFSIGNALED(status) && libc::WTERMSIG(status) == libc::SIGABRT, "{status:x}");
}

/// `errno` and the mask of the interrupted thread are as before.
#[test]
fn nested_calls_keep_errno_and_mask() {
    static ERRNO: AtomicI32 = AtomicI32::new(0);
    extern "C" fn failing(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
        // SAFETY: a call that fails and has no effect.
        unsafe { libc::close(-1) };
        chained::<1>(signal, info, context);
        ERRNO.store(io::Error::last_os_error().raw_os_error().unwrap(), Ordering::SeqCst);
    }
    let _alone = alone();
    if is_unsupported() || BACKEND == Backend::Kqueue {
        return;
    }
    in_a_clean_child(|| {
        let mut poll = TestPoll::new();
        let first = registered(&TestPoll::new(), &[SIGHUP]);
        SAVED[0].store(action(SIGHUP).sa_sigaction, Ordering::SeqCst);
        set_action(SIGHUP, failing as extern "C" fn(_, _, _) as libc::sighandler_t, libc::SA_SIGINFO);
        let source = registered(&poll, &[SIGHUP]);
        let blocked = || -> Vec<i32> {
            // SAFETY: sets of bits, of which zeroes are a value; libc writes and reads one.
            unsafe {
                let mut set: libc::sigset_t = mem::zeroed();
                assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut set), 0);
                (1..32).filter(|&signal| libc::sigismember(&set, signal) == 1).collect()
            }
        };
        let before = blocked();
        expect_one(&mut [(&mut poll, &source)], 1);
        assert_eq!(ERRNO.load(Ordering::SeqCst), libc::EBADF);
        assert_eq!(blocked(), before);
        drop(first);
    });
}
