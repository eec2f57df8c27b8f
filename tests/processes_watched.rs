//! Processes as sources. In a binary of its own, because without kqueue and pidfd kevio installs a handler for SIGCHLD, which
//! interrupts waits. The tests run one at a time, because between fork(2) and exec(3) a child keeps the descriptors of other
//! tests open.
#![cfg(unix)]

use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kevio::net::UnixStream;
use kevio::{Backend, Batch, Interest, Poll, Process, Token, BACKEND};

mod support;

use crate::support::known_failures::{is_known_failure, Check};
use crate::support::limits::raise_fd_limit;
use crate::support::poll::{TestPoll, BOTH, READ, TIMEOUT, WRITE};
use crate::support::process::{expect_passed, run_alone, test_name};
use crate::support::readiness::R;

/// Returns a child that exits with this status when its standard input ends. The program has started already, because exec of
/// NetBSD discards a signal that was sent before (kern_sig.c: `ksiginfo_exechook`).
fn child(status: i32) -> Child {
    let script = format!("echo; read line; exit {status}");
    let mut command = Command::new("/bin/sh");
    let mut child = command.args(["-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    child
}

fn end(child: &mut Child) {
    drop(child.stdin.take());
}

/// Returns `true` if the exit of any process can be reported. Without kqueue and pidfd, only that of a child.
fn reports_any_process() -> bool {
    let has_pidfd = cfg!(target_os = "linux") && !cfg!(kevio_unsupported_force_fallbacks);
    BACKEND == Backend::Kqueue || has_pidfd
}

/// Polls until the exit of the process is reported for `token`. Fails for other tokens.
#[track_caller]
fn wait_for_exit_event(poll: &mut TestPoll, token: usize, process: &mut Process) {
    poll.expect(token, R);
    assert!(poll.events.iter().all(|event| process.has_exited(event).unwrap()));
}

/// Without kqueue and pidfd, a source needs the handler of SIGCHLD, which the program replaces while an older source lives.
#[test]
fn process_after_a_replaced_sigchld_handler_is_reported() {
    extern "C" fn ignore(_: libc::c_int) {}
    let _alone = run_alone();
    for is_first_dropped in [false, true] {
        let mut poll = TestPoll::new();
        let (mut first_child, mut second_child) = (child(1), child(2));
        let mut first = Process::new(&first_child).unwrap();
        poll.register(&mut first, 1, READ);
        // SAFETY: the handler does nothing.
        unsafe { libc::signal(libc::SIGCHLD, ignore as extern "C" fn(_) as libc::sighandler_t) };
        let first = (!is_first_dropped).then_some(first);
        let mut second = Process::new(&second_child).unwrap();
        poll.register(&mut second, 2, READ);
        end(&mut first_child);
        end(&mut second_child);
        let mut has_exited = [first.is_none(), false];
        while has_exited != [true; 2] {
            poll.until(|reported| !reported.is_empty(), || "an exit".to_owned());
            for event in &poll.events {
                let (index, process) = if event.token() == Token(2) { (1, Some(&second)) } else { (0, first.as_ref()) };
                has_exited[index] |= process.is_some_and(|process| process.has_exited(event).unwrap());
            }
        }
        drop((first, second));
        // SAFETY: no pointers; no handler.
        let before = unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) };
        assert_eq!(before, ignore as extern "C" fn(_) as libc::sighandler_t, "the handler does not come back");
        assert!(first_child.wait().unwrap().code() == Some(1) && second_child.wait().unwrap().code() == Some(2));
    }
}

#[test]
fn exit_of_a_child_is_reported_before_waiting() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    for (token, status) in [(1, 0), (2, 7)] {
        let mut child = child(status);
        let mut process = Process::new(&child).unwrap();
        assert_eq!(process.pid(), child.id() as i32);
        poll.register(&mut process, token, READ);
        poll.expect_no_events();
        end(&mut child);
        wait_for_exit_event(&mut poll, token, &mut process);
        assert_eq!(child.wait().unwrap().code(), Some(status));
        // Reaping the child makes no event.
        poll.expect_no_events();
    }
    let mut killed = child(0);
    let mut process = Process::new(&killed).unwrap();
    poll.register(&mut process, 3, READ);
    killed.kill().unwrap();
    wait_for_exit_event(&mut poll, 3, &mut process);
    assert_eq!(killed.wait().unwrap().signal(), Some(libc::SIGKILL));
}

/// Returns a child that has exited and is not reaped.
fn zombie(status: i32) -> Child {
    let mut child = child(status);
    end(&mut child);
    // SAFETY: the kernel writes one `siginfo_t`, which is integers and addresses.
    unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        assert_eq!(libc::waitid(libc::P_PID, child.id() as _, &mut info, libc::WEXITED | libc::WNOWAIT), 0);
    }
    child
}

#[test]
fn zombie_is_reported_at_once() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let mut child = zombie(3);
    let mut process = Process::new(&child).unwrap();
    poll.register(&mut process, 1, READ);
    wait_for_exit_event(&mut poll, 1, &mut process);
    poll.deregister(&mut process);
    poll.expect_no_events();
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn invalid_and_reaped_pids_are_rejected() {
    let _alone = run_alone();
    for number in [0, -1, i32::MIN, i32::MIN + 1] {
        assert_eq!(Process::from_pid(number).unwrap_err().kind(), ErrorKind::InvalidInput, "{number}");
    }
    // No process has so high a number.
    assert_eq!(Process::from_pid(i32::MAX - 1).unwrap_err().kind(), ErrorKind::NotFound);
    let mut reaped = zombie(0);
    reaped.wait().unwrap();
    assert_eq!(Process::new(&reaped).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn process_that_is_no_child_registers_or_is_unsupported() {
    let _alone = run_alone();
    match Process::from_pid(std::os::unix::process::parent_id() as i32) {
        Ok(mut parent) => {
            assert!(reports_any_process());
            let mut poll = TestPoll::new();
            poll.register(&mut parent, 1, READ);
            poll.expect_no_events();
        }
        Err(error) => assert!(error.kind() == ErrorKind::Unsupported && !reports_any_process(), "{error}"),
    }
}

/// Process 1 belongs to root. Root may watch every process, so that root runs this test again as another user.
#[test]
fn process_of_another_user_is_rejected_on_netbsd_only() {
    let _alone = run_alone();
    // SAFETY: no arguments.
    let is_root = unsafe { libc::getuid() } == 0;
    let result = Process::from_pid(1).and_then(|mut process| {
        let mut poll = TestPoll::new();
        poll.registry().register(&mut process, Token(1), READ)?;
        poll.expect_no_events();
        Ok(())
    });
    match result {
        Ok(()) => assert!(reports_any_process() && (is_root || !cfg!(target_os = "netbsd"))),
        Err(error) if !reports_any_process() => assert_eq!(error.kind(), ErrorKind::Unsupported),
        Err(error) => {
            assert!(!is_root && cfg!(target_os = "netbsd"), "{error}");
            assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        }
    }
    if is_root && !is_known_failure(Check::ForkedChild) {
        run_as_another_user(test_name(process_of_another_user_is_rejected_on_netbsd_only));
    }
}

fn run_as_another_user(test: &str) {
    let mut program = Command::new(std::env::args_os().next().unwrap());
    let output = match program.args(["--exact", test]).uid(65534).output() {
        // Other users may not enter the directory of the program.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return,
        output => output.unwrap(),
    };
    expect_passed(&output);
}

#[test]
fn exit_is_reported_once_for_each_registering() {
    let _alone = run_alone();
    for interest in [READ, READ.level(), BOTH, READ.oneshot()] {
        let mut poll = TestPoll::new();
        let mut child = zombie(0);
        let mut process = Process::new(&child).unwrap();
        poll.register(&mut process, 1, interest);
        wait_for_exit_event(&mut poll, 1, &mut process);
        poll.expect_no_events();
        poll.reregister(&mut process, 2, interest);
        wait_for_exit_event(&mut poll, 2, &mut process);
        poll.expect_no_events();
        poll.reregister(&mut process, 3, Interest::NONE);
        poll.expect_no_events();
        child.wait().unwrap();
    }
}

/// An event that the program does not read is not repeated.
#[test]
fn unread_exit_is_reported_once() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let mut child = zombie(0);
    let mut process = Process::new(&child).unwrap();
    poll.register(&mut process, 1, READ.level());
    poll.expect(1, R);
    poll.expect_no_events();
    child.wait().unwrap();
}

#[test]
fn process_registers_in_one_poll_at_a_time() {
    let _alone = run_alone();
    let (mut poll, mut other) = (TestPoll::new(), TestPoll::new());
    for _ in 0..2 {
        let mut child = child(0);
        let mut process = Process::new(&child).unwrap();
        let registry = poll.registry();
        assert_eq!(registry.reregister(&mut process, Token(1), READ).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(registry.deregister(&mut process).unwrap_err().kind(), ErrorKind::NotFound);
        poll.register(&mut process, 1, Interest::NONE);
        for registry in [poll.registry(), other.registry()] {
            let error = registry.register(&mut process, Token(2), READ).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        }
        end(&mut child);
        poll.expect_no_events();
        poll.reregister(&mut process, 2, READ);
        wait_for_exit_event(&mut poll, 2, &mut process);
        poll.deregister(&mut process);
        other.register(&mut process, 3, READ);
        wait_for_exit_event(&mut other, 3, &mut process);
        child.wait().unwrap();
    }
    let mut process = Process::from_pid(child(0).id() as i32).unwrap();
    for foreign in [WRITE, WRITE.level(), Interest::AIO, Interest::PRIORITY, READ.exclusive()] {
        let error = poll.registry().register(&mut process, Token(1), foreign).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn process_registered_twice_fails_on_kqueue_only() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let mut other = TestPoll::new();
    let mut child = child(0);
    let [mut first, mut second, mut third] = [(); 3].map(|()| Process::new(&child).unwrap());
    poll.register(&mut first, 1, READ);
    other.register(&mut third, 3, READ);
    match poll.registry().register(&mut second, Token(2), READ) {
        Ok(()) => assert_ne!(BACKEND, Backend::Kqueue),
        Err(error) => assert!(error.kind() == ErrorKind::AlreadyExists && BACKEND == Backend::Kqueue, "{error}"),
    }
    end(&mut child);
    wait_for_exit_event(&mut other, 3, &mut third);
    if BACKEND == Backend::Kqueue {
        wait_for_exit_event(&mut poll, 1, &mut first);
        // After the first source is dropped, the second can be registered.
        drop(first);
        poll.register(&mut second, 2, READ);
        wait_for_exit_event(&mut poll, 2, &mut second);
    } else {
        poll.expect_all(&[(1, R), (2, R)]);
    }
    child.wait().unwrap();
}

#[test]
fn event_of_another_source_is_rejected() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let mut child = zombie(0);
    let mut process = Process::new(&child).unwrap();
    poll.register(&mut process, 1, READ);
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 2, READ);
    wait_for_exit_event(&mut poll, 1, &mut process);
    b.write_all(b"x").unwrap();
    poll.expect(2, R);
    assert_eq!(a.read(&mut [0; 4]).unwrap(), 1);
    let event = poll.events.iter().next().unwrap();
    assert_eq!(process.has_exited(event).unwrap_err().kind(), ErrorKind::InvalidInput);
    child.wait().unwrap();
}

#[test]
fn dropped_process_reports_nothing() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let mut child = child(0);
    let mut process = Process::new(&child).unwrap();
    poll.register(&mut process, 1, READ);
    drop(process);
    end(&mut child);
    child.wait().unwrap();
    poll.expect_no_events();
    // A source that outlives its poll.
    let mut child = self::child(0);
    let mut process = Process::new(&child).unwrap();
    let dropped = Poll::new().unwrap();
    dropped.registry().register(&mut process, Token(1), READ).unwrap();
    drop(dropped);
    poll.register(&mut process, 2, READ);
    end(&mut child);
    wait_for_exit_event(&mut poll, 2, &mut process);
    child.wait().unwrap();
}

/// Forks a child that exits when the writer is closed. Fails if the system allows no more processes.
fn forked(reader: &OwnedFd, writer: &OwnedFd) -> io::Result<libc::pid_t> {
    // SAFETY: the child of this process with threads uses only three system calls and its own stack.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::close(writer.as_raw_fd());
            libc::read(reader.as_raw_fd(), [0_u8].as_mut_ptr().cast(), 1);
            libc::_exit(0);
        }
        if pid < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(pid)
    }
}

fn reap(pid: libc::pid_t) {
    let mut status = -1;
    // SAFETY: the kernel writes one integer.
    assert_eq!((unsafe { libc::waitpid(pid, &mut status, 0) }, status), (pid, 0));
}

/// Registers up to `most` children, as many as the system allows, which exit at once. Returns their number.
fn all_exit_at_once(most: usize) -> usize {
    let mut poll = TestPoll::with_capacity(64);
    let (reader, writer) =
        std::os::unix::net::UnixStream::pair().map(|(a, b)| (OwnedFd::from(a), OwnedFd::from(b))).unwrap();
    let children: Vec<_> = (0..most).map_while(|_| forked(&reader, &writer).ok()).collect();
    // If each process needs a descriptor, the limit may be lower.
    let mut processes: Vec<_> = children.iter().map_while(|&child| Process::from_pid(child).ok()).collect();
    let mut batch = Batch::new();
    for (token, process) in processes.iter_mut().enumerate() {
        batch.register(process, Token(token), READ);
    }
    let mut waits: Vec<_> = poll.registry().submit(batch).iter().map(Result::is_ok).collect();
    let watched = waits.iter().filter(|waits| **waits).count();
    drop(writer);
    let deadline = Instant::now() + 3 * TIMEOUT;
    let mut left = watched;
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} of {watched} are not reported");
        poll.poll_once(Some(TIMEOUT));
        for event in &poll.events {
            let token = event.token().0;
            if processes[token].has_exited(event).unwrap() {
                assert!(std::mem::replace(&mut waits[token], false), "{token} was reported twice");
                left -= 1;
            }
        }
    }
    children.into_iter().for_each(reap);
    watched
}

/// Every exit is reported under its token, although many happen at once. The kernel merges their SIGCHLD signals.
#[test]
fn each_of_thousands_of_exits_is_reported() {
    let _alone = run_alone();
    // `.ci/tsan` sets a lower number, because each child copies the memory of the sanitizer.
    // If each SIGCHLD makes every source probe its child, the number of probes grows quadratically.
    let many = if reports_any_process() || cfg!(target_os = "linux") {
        support::repetitions(10_000, 4) as usize
    } else {
        1_000
    };
    let many = std::env::var("KEVIO_TEST_CHILDREN").map_or(many, |many| many.parse().unwrap());
    raise_fd_limit(2 * many);
    let mut done = 0;
    while done < many {
        let now = all_exit_at_once(many - done);
        assert!(now > 0, "no child can be registered");
        println!("{now} children");
        done += now;
    }
}

#[test]
fn exit_of_another_child_makes_no_event() {
    let _alone = run_alone();
    for interest in [READ, READ.oneshot()] {
        let mut poll = TestPoll::new();
        let (mut watched, mut other) = (child(0), child(0));
        let mut process = Process::new(&watched).unwrap();
        poll.register(&mut process, 1, interest);
        poll.expect_no_events();
        end(&mut other);
        poll.expect_no_events();
        other.wait().unwrap();
        end(&mut watched);
        wait_for_exit_event(&mut poll, 1, &mut process);
        watched.wait().unwrap();
    }
}

/// The previous handler is called, and is restored after the last source is dropped.
#[test]
fn previous_sigchld_handler_is_called_and_restored() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn count(_: libc::c_int) {
        CALLS.fetch_add(1, Ordering::SeqCst);
    }
    let handler = count as extern "C" fn(libc::c_int) as usize;
    let _alone = run_alone();
    // SAFETY: the actions are integers, addresses and sets of bits; the handler only adds.
    let action = |new: Option<usize>| unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        assert_eq!(libc::sigaction(libc::SIGCHLD, std::ptr::null(), &mut action), 0);
        let old = action.sa_sigaction as usize;
        if let Some(new) = new {
            action.sa_sigaction = new as _;
            action.sa_flags = libc::SA_RESTART;
            assert_eq!(libc::sigaction(libc::SIGCHLD, &action, std::ptr::null_mut()), 0);
        }
        old
    };
    let before = action(Some(handler));
    for _ in 0..3 {
        let mut poll = TestPoll::new();
        let mut children = [child(0), child(0)];
        let mut processes = [0, 1].map(|n: usize| Process::new(&children[n]).unwrap());
        poll.register(&mut processes[0], 0, READ);
        poll.register(&mut processes[1], 1, READ);
        assert_eq!(action(None) == handler, reports_any_process());
        let calls = CALLS.load(Ordering::SeqCst);
        children.iter_mut().for_each(end);
        let mut over = [false; 2];
        while over.contains(&false) {
            poll.poll_once(Some(TIMEOUT));
            for event in &poll.events {
                over[event.token().0] |= processes[event.token().0].has_exited(event).unwrap();
            }
        }
        children.iter_mut().for_each(|child| assert!(child.wait().unwrap().success()));
        // Another thread may run the handler, later than the event.
        let deadline = std::time::Instant::now() + TIMEOUT;
        while CALLS.load(Ordering::SeqCst) == calls {
            assert!(std::time::Instant::now() < deadline, "the handler was not called");
            std::thread::yield_now();
        }
        drop(processes);
        assert_eq!(action(None), handler);
    }
    assert_eq!(action(Some(before)), handler);
}

/// Forks a child that is exiting when this function returns: the kernel has closed its descriptors, and has yet to unmap
/// `memory` bytes.
fn exiting_child(memory: usize) -> libc::pid_t {
    let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    // SAFETY: the child of this process with threads uses only system calls, and memory that it has mapped.
    let pid = unsafe {
        let pid = libc::fork();
        if pid == 0 {
            let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANON);
            let area = libc::mmap(std::ptr::null_mut(), memory, access, flags, -1, 0);
            if area != libc::MAP_FAILED {
                (0..memory).step_by(4096).for_each(|page| area.cast::<u8>().add(page).write_volatile(1));
            }
            libc::_exit(7);
        }
        pid
    };
    assert!(pid > 0);
    drop(writer);
    assert_eq!(reader.read(&mut [0]).unwrap(), 0);
    pid
}

/// Fails if waitpid(2) with `WNOHANG` does not return the status at once.
#[track_caller]
fn reap_at_once(pid: libc::pid_t, expected: libc::c_int) {
    let mut status = -1;
    // SAFETY: the kernel writes one integer.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) }, pid, "the child cannot be reaped yet");
    assert_eq!(status, expected);
}

/// A kernel may report the exit before waitpid(2) finds the child.
#[test]
fn reported_child_can_be_reaped_at_once() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    for n in 0..300 {
        let status = 7 << 8;
        if n % 2 == 0 {
            // Some kernels take long to unmap much memory.
            let memory = [1 << 20, 32 << 20, 192 << 20][usize::from(n % 10 == 0) + usize::from(n % 100 == 0)];
            let pid = exiting_child(memory);
            let mut process = Process::from_pid(pid).unwrap();
            poll.register(&mut process, n, READ);
            if reports_any_process() && n % 4 == 0 {
                // The event alone is the condition.
                poll.expect(n, R);
            } else {
                wait_for_exit_event(&mut poll, n, &mut process);
            }
            reap_at_once(pid, status);
        } else {
            let mut child = Command::new("/bin/sh").args(["-c", "exit 7"]).spawn().unwrap();
            let mut process = Process::new(&child).unwrap();
            poll.register(&mut process, n, READ);
            wait_for_exit_event(&mut poll, n, &mut process);
            assert_eq!(child.try_wait().unwrap().map(ExitStatus::into_raw), Some(status));
        }
        poll.expect_no_events();
    }
}

/// The exit that the kernel has reported, and that the poll holds back, belongs to the registration.
#[test]
fn deregistered_exiting_child_is_not_reported() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    for n in 0..20 {
        let pid = exiting_child(32 << 20);
        let mut process = Process::from_pid(pid).unwrap();
        poll.register(&mut process, 1, READ);
        let reported = poll.poll_once(Some(Duration::ZERO));
        if n % 2 == 0 {
            poll.deregister(&mut process);
        } else {
            poll.reregister(&mut process, 2, READ);
            wait_for_exit_event(&mut poll, 2, &mut process);
        }
        let mut status = 0;
        // SAFETY: the kernel writes one integer.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, 0) }, pid);
        // Longer than the time after which an exit is checked again.
        let later = poll.poll_once(Some(Duration::from_millis(20)));
        assert!(later.is_empty(), "{later:?} after {reported:?}");
    }
}

/// Returns `true` if the kernel provides the status of a process that was reaped.
fn has_status_after_reaping() -> bool {
    if BACKEND == Backend::Kqueue {
        return true;
    }
    if !reports_any_process() {
        return false;
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (6, 15)
}

/// Returns the status that the last events report for `token`.
#[track_caller]
fn reported_status(poll: &TestPoll, token: usize, process: &Process) -> Option<ExitStatus> {
    let event = poll.events.iter().find(|event| event.token().0 == token).unwrap();
    process.status(event).unwrap()
}

#[test]
fn status_is_that_of_wait_and_does_not_reap() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let scripts = ["exit 0", "exit 1", "exit 255", "kill -KILL $$", "kill -TERM $$", "ulimit -c 0; kill -ABRT $$"];
    for (token, script) in scripts.into_iter().enumerate() {
        let mut child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        let mut process = Process::new(&child).unwrap();
        poll.register(&mut process, token, READ);
        wait_for_exit_event(&mut poll, token, &mut process);
        let status = reported_status(&poll, token, &process);
        assert_eq!(reported_status(&poll, token, &process), status, "the second call");
        assert_eq!(child.try_wait().unwrap(), status, "{script}");
        assert!(status.is_some());
        // Afterwards the number of the child is free.
        let after = reported_status(&poll, token, &process);
        assert_eq!(after, status.filter(|_| has_status_after_reaping()), "{script}");
    }
}

/// waitpid(2), waitid(2) and the event return the low byte of an exit code, or all bits, depending on the system.
#[test]
fn status_has_the_low_byte_of_the_exit_code() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    for (token, code) in [0x1_2305, -1, 256].into_iter().enumerate() {
        // SAFETY: the child exits at once.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::_exit(code);
            }
            pid
        };
        let mut process = Process::from_pid(pid).unwrap();
        poll.register(&mut process, token, READ);
        wait_for_exit_event(&mut poll, token, &mut process);
        let status = reported_status(&poll, token, &process).unwrap();
        assert_eq!((status.code(), status.into_raw()), (Some(code & 0xff), (code & 0xff) << 8));
        // waitpid(2) of NetBSD returns all bits.
        let mut status = -1;
        // SAFETY: the kernel writes one integer.
        assert_eq!(unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) }, pid);
        assert_eq!(libc::WEXITSTATUS(status), code & 0xff);
    }
}

#[test]
fn status_of_the_event_of_another_source_is_rejected() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let (mut watched, mut other) = (child(3), child(4));
    let mut process = Process::new(&watched).unwrap();
    poll.register(&mut process, 1, READ);
    end(&mut watched);
    poll.until(|reported| reported.contains_key(&1), || "the exit".to_owned());
    let mut second = Process::new(&other).unwrap();
    poll.register(&mut second, 2, Interest::NONE);
    let event = poll.events.iter().next().unwrap();
    assert_eq!(second.status(event).unwrap_err().kind(), ErrorKind::InvalidInput);
    end(&mut other);
    assert_eq!((watched.wait().unwrap().code(), other.wait().unwrap().code()), (Some(3), Some(4)));
}

/// Returns a shell, and a process that it has started and waits for. When that process has ended, the shell writes a line.
///
/// The process itself writes its identifier, after exec(3). Measured on NetBSD 10.99: a process survived a SIGKILL that was sent
/// right after its shell had started it.
fn grandchild() -> (Child, BufReader<ChildStdout>, libc::pid_t) {
    let script = "sh -c 'echo $$; while :; do sleep 1; done' & wait $!; echo reaped; read line";
    let mut command = Command::new("/bin/sh");
    let mut shell = command.args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(shell.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    (shell, output, line.trim().parse().unwrap())
}

#[test]
fn exit_and_status_of_a_grandchild_are_reported() {
    let _alone = run_alone();
    let (mut shell, mut output, pid) = grandchild();
    let kill = |signal| {
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    };
    match Process::from_pid(pid) {
        Err(error) => {
            assert!(error.kind() == ErrorKind::Unsupported && !reports_any_process(), "{error}");
            kill(libc::SIGKILL);
        }
        Ok(_) if is_known_failure(Check::ExitOfOtherProcess) => kill(libc::SIGKILL),
        Ok(mut process) => {
            let mut poll = TestPoll::new();
            poll.register(&mut process, 1, READ);
            poll.expect_no_events();
            kill(libc::SIGKILL);
            wait_for_exit_event(&mut poll, 1, &mut process);
            let mut line = String::new();
            output.read_line(&mut line).unwrap();
            assert_eq!(line, "reaped\n");
            let status = reported_status(&poll, 1, &process);
            let expected = has_status_after_reaping().then_some(libc::SIGKILL);
            assert_eq!(status.and_then(|status| status.signal()), expected);
        }
    }
    end(&mut shell);
    shell.wait().unwrap();
}

#[test]
fn stopped_and_continued_child_is_not_reported() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let mut child = child(0);
    let pid = child.id() as libc::pid_t;
    let mut process = Process::new(&child).unwrap();
    poll.register(&mut process, 1, READ);
    for (signal, options) in [(libc::SIGSTOP, libc::WUNTRACED), (libc::SIGCONT, libc::WCONTINUED)] {
        let mut status = 0;
        // SAFETY: the kernel writes one integer.
        unsafe {
            assert_eq!(libc::kill(pid, signal), 0);
            assert_eq!(libc::waitpid(pid, &mut status, options), pid);
        }
        assert!(libc::WIFSTOPPED(status) || libc::WIFCONTINUED(status));
        poll.expect_no_events();
    }
    // SAFETY: no pointers.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGSTOP) }, 0);
    child.kill().unwrap();
    wait_for_exit_event(&mut poll, 1, &mut process);
    assert_eq!(child.try_wait().unwrap().and_then(|status| status.signal()), Some(libc::SIGKILL));
}

#[test]
fn process_reaped_before_registering_is_reported() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let mut child = child(0);
    let mut process = Process::new(&child).unwrap();
    end(&mut child);
    child.wait().unwrap();
    poll.register(&mut process, 1, READ);
    wait_for_exit_event(&mut poll, 1, &mut process);
    let expected = Some(0).filter(|_| BACKEND != Backend::Kqueue && has_status_after_reaping());
    assert_eq!(reported_status(&poll, 1, &process).and_then(|status| status.code()), expected);
    poll.expect_no_events();
}

#[test]
fn each_of_200_exits_has_its_status() {
    let _alone = run_alone();
    let mut polls = [TestPoll::with_capacity(16), TestPoll::with_capacity(16)];
    let mut children: Vec<_> = (0..200).map(child).collect();
    let mut processes: Vec<_> = children.iter().map(|child| Process::new(child).unwrap()).collect();
    for (n, process) in processes.iter_mut().enumerate() {
        polls[n % 2].register(process, n, READ);
    }
    children.iter_mut().for_each(end);
    let mut codes = vec![None; children.len()];
    let deadline = Instant::now() + 3 * TIMEOUT;
    while codes.contains(&None) {
        assert!(Instant::now() < deadline, "{codes:?}");
        for poll in &mut polls {
            poll.poll_once(Some(Duration::from_millis(1)));
            for event in &poll.events {
                let n = event.token().0;
                if processes[n].has_exited(event).unwrap() {
                    assert_eq!(codes[n], None, "{n} was reported twice");
                    codes[n] = processes[n].status(event).unwrap().unwrap().code();
                    assert_eq!(children[n].try_wait().unwrap().and_then(|status| status.code()), codes[n]);
                }
            }
        }
    }
    assert!((0..200).map(Some).eq(codes));
}

#[test]
fn thread_id_is_rejected() {
    let _alone = run_alone();
    #[cfg(target_os = "linux")]
    std::thread::spawn(|| {
        // SAFETY: no arguments.
        let tid = unsafe { libc::syscall(libc::SYS_gettid) } as i32;
        let error = Process::from_pid(tid).unwrap_err();
        assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("thread"), "{error}");
    })
    .join()
    .unwrap();
}

/// The number of a `Child` that was waited for may stand for another process.
#[test]
#[cfg(target_os = "linux")]
fn reused_number_of_a_reaped_child_is_rejected() {
    let _alone = run_alone();
    // Only root chooses the number of the next process.
    let Ok(last_pid) = std::fs::File::create("/proc/sys/kernel/ns_last_pid") else {
        println!("skipped: the number of the next process cannot be chosen");
        return;
    };
    // Other programs start processes as well.
    for _ in 0..100 {
        let mut reaped = zombie(0);
        reaped.wait().unwrap();
        let previous = (reaped.id() - 1).to_string();
        let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        // SAFETY: the forked processes use only system calls, and memory of their own.
        let other = unsafe {
            let parent = libc::fork();
            if parent == 0 {
                libc::write(last_pid.as_raw_fd(), previous.as_ptr().cast(), previous.len());
                let pid = libc::fork();
                if pid == 0 {
                    libc::pause();
                }
                libc::write(writer.as_raw_fd(), (&pid as *const i32).cast(), 4);
                libc::_exit(0);
            }
            let mut pid = [0; 4];
            reader.read_exact(&mut pid).unwrap();
            reap(parent);
            i32::from_ne_bytes(pid)
        };
        let is_reused = other == reaped.id() as i32;
        let result = Process::new(&reaped);
        // SAFETY: no pointers.
        assert_eq!(unsafe { libc::kill(other, libc::SIGKILL) }, 0);
        assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
        if is_reused {
            return;
        }
    }
    println!("skipped: the number was never reused");
}

#[test]
fn debug_shows_the_process_and_its_registration() {
    let _alone = run_alone();
    let poll = TestPoll::new();
    let mut child = child(0);
    let mut process = Process::new(&child).unwrap();
    let text = |registered| format!("Process {{ pid: {}, is_registered: {registered} }}", child.id());
    assert_eq!((format!("{process:?}"), process.is_registered()), (text(false), false));
    poll.register(&mut process, 1, READ);
    assert_eq!((format!("{process:?}"), process.is_registered()), (text(true), true));
    poll.deregister(&mut process);
    assert!(!process.is_registered());
    end(&mut child);
    child.wait().unwrap();
}

fn open_null() -> OwnedFd {
    std::fs::File::open("/dev/null").unwrap().into()
}

/// Returns a pidfd, and `None` if the kernel does not open it.
#[cfg(target_os = "linux")]
fn pidfd(pid: i32, flags: libc::c_int) -> Option<OwnedFd> {
    use std::os::fd::FromRawFd;

    // SAFETY: the call has no pointers, and the descriptor has no other owner.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, flags) as libc::c_int;
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd))
    }
}

#[test]
#[cfg(target_os = "linux")]
fn process_of_a_pidfd_reports_its_exit_and_status() {
    let _alone = run_alone();
    let mut child = child(9);
    let pid = child.id() as i32;
    let fd = pidfd(pid, 0).unwrap();
    if !reports_any_process() {
        assert_eq!(Process::from_fd(fd).unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(Process::new(&child).unwrap().as_fd().is_none());
        end(&mut child);
        child.wait().unwrap();
        return;
    }
    assert_eq!(Process::from_fd(open_null()).unwrap_err().kind(), ErrorKind::InvalidInput);
    if let Some(thread) = pidfd(pid, libc::O_EXCL) {
        assert_eq!(Process::from_fd(thread).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    let number = fd.as_raw_fd();
    let copy = fd.try_clone().unwrap();
    let mut process = Process::from_fd(fd).unwrap();
    assert_eq!((process.pid(), process.as_fd().map(|fd| fd.as_raw_fd())), (pid, Some(number)));
    assert_eq!(Process::new(&child).unwrap().as_fd().is_some(), BACKEND != Backend::Kqueue);
    let mut poll = TestPoll::new();
    poll.register(&mut process, 1, READ);
    poll.expect_no_events();
    end(&mut child);
    wait_for_exit_event(&mut poll, 1, &mut process);
    assert_eq!(reported_status(&poll, 1, &process).and_then(|status| status.code()), Some(9));
    poll.deregister(&mut process);
    assert_eq!(child.try_wait().unwrap().and_then(|status| status.code()), Some(9));
    assert_eq!(Process::from_fd(copy).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
#[cfg(target_os = "freebsd")]
fn process_of_a_process_descriptor_reports_its_exit_and_status() {
    use std::os::fd::FromRawFd;

    let _alone = run_alone();
    assert_eq!(Process::from_fd(open_null()).unwrap_err().kind(), ErrorKind::InvalidInput);
    let (mut reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut number = -1;
    // SAFETY: the kernel writes one integer; the child reads and exits.
    let pid = unsafe {
        let pid = libc::pdfork(&mut number, libc::PD_CLOEXEC);
        if pid == 0 {
            libc::close(writer.as_raw_fd());
            libc::read(reader.as_raw_fd(), [0_u8].as_mut_ptr().cast(), 1);
            libc::_exit(9);
        }
        pid
    };
    assert!(pid > 0);
    // SAFETY: the kernel has just made the descriptor.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    let copy = fd.try_clone().unwrap();
    let mut process = Process::from_fd(fd).unwrap();
    assert_eq!((process.pid(), process.as_fd().map(|fd| fd.as_raw_fd())), (pid, Some(number)));
    for token in [1, 2] {
        let mut poll = TestPoll::new();
        poll.register(&mut process, token, READ);
        if token == 1 {
            poll.expect_no_events();
            writer.shutdown(std::net::Shutdown::Both).unwrap();
        }
        // The second registration finds a process that has exited.
        wait_for_exit_event(&mut poll, token, &mut process);
        assert_eq!(reported_status(&poll, token, &process).and_then(|status| status.code()), Some(9));
        poll.expect_no_events();
        poll.deregister(&mut process);
    }
    drop(process);
    reap_at_once(pid, 9 << 8);
    drop(copy);
    let _ = reader.read(&mut [0]);
}

#[test]
#[cfg(not(any(target_os = "linux", target_os = "freebsd")))]
fn descriptor_of_a_process_is_unsupported() {
    assert_eq!(Process::from_fd(open_null()).unwrap_err().kind(), ErrorKind::Unsupported);
}
