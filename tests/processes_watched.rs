//! Processes as sources. In a binary of its own, because without kqueue and pidfd kevio installs a handler for SIGCHLD, which
//! interrupts waits. The tests run one at a time, because between fork(2) and exec(3) a child keeps the descriptors of other
//! tests open.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kevio::net::UnixStream;
use kevio::{Backend, Batch, Interest, Poll, Process, Token, BACKEND};

mod support;

use crate::support::known_failures::{is_known_failure, Check};
use crate::support::limits::raise_fd_limit;
use crate::support::poll::{TestPoll, BOTH, READ, TIMEOUT, WRITE};
use crate::support::process::{run_alone, test_name};
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

/// Returns `true` if only the exit of the process itself makes an event. Without kqueue and pidfd, the exit of any child does.
fn reports_only_its_process() -> bool {
    let has_pidfd = cfg!(target_os = "linux") && !cfg!(kevio_unsupported_force_fallbacks);
    BACKEND == Backend::Kqueue || has_pidfd
}

/// Polls until the exit of the process is reported for `token`. Fails for other tokens.
#[track_caller]
fn wait_for_exit_event(poll: &mut TestPoll, token: usize, process: &mut Process) {
    loop {
        poll.expect(token, R);
        if poll.events.iter().any(|event| process.has_exited(event).unwrap()) {
            return;
        }
        assert!(!reports_only_its_process(), "a spurious event");
    }
}

/// Fails if the exit of the process is reported. Spurious events are allowed without kqueue and pidfd.
#[track_caller]
fn assert_still_running(poll: &mut TestPoll, process: &mut Process) {
    if reports_only_its_process() {
        return poll.expect_no_events();
    }
    poll.poll_once(Some(Duration::from_millis(5)));
    for event in &poll.events {
        assert!(!process.has_exited(event).unwrap());
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
        assert_still_running(&mut poll, &mut process);
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
            assert!(reports_only_its_process());
            let mut poll = TestPoll::new();
            poll.register(&mut parent, 1, READ);
            poll.expect_no_events();
        }
        Err(error) => assert!(error.kind() == ErrorKind::Unsupported && !reports_only_its_process(), "{error}"),
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
        Ok(()) => assert!(reports_only_its_process() && (is_root || !cfg!(target_os = "netbsd"))),
        Err(error) if !reports_only_its_process() => assert_eq!(error.kind(), ErrorKind::Unsupported),
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
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
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
fn each_of_ten_thousand_exits_is_reported() {
    let _alone = run_alone();
    // `.ci/tsan` sets a lower number, because each child copies the memory of the sanitizer.
    // If each SIGCHLD makes every source probe its child, the number of probes grows quadratically.
    let many = if reports_only_its_process() || cfg!(target_os = "linux") { 10_000 } else { 1_000 };
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
        assert_eq!(action(None) == handler, reports_only_its_process());
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
