//! Processes as sources: conformance cases 95 to 97. In a process of its own: without kqueue and pidfd there is a handler for
//! SIGCHLD, which interrupts waits. One test at a time: between fork(2) and exec(3) a child keeps open what others close.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kevio::net::UnixStream;
use kevio::{Backend, Batch, Interest, Poll, Process, Token, BACKEND};

mod support;

use crate::support::limits::raise_fd_limit;
use crate::support::poll::{TestPoll, BOTH, READ, TIMEOUT, WRITE};
use crate::support::process::run_alone;
use crate::support::readiness::R;

/// A child that exits when its standard input ends, with this status. Its program runs: NetBSD's exec discards a signal that
/// was sent before (kern_sig.c: `ksiginfo_exechook`).
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

/// Whether each system's way is certain: else other children's ends are heard of too.
fn is_certain() -> bool {
    let has_pidfd = cfg!(target_os = "linux") && !cfg!(kevio_unsupported_force_fallbacks);
    BACKEND == Backend::Kqueue || has_pidfd
}

/// Polls until the event of `token` says that the process has exited. Other tokens fail.
#[track_caller]
fn exited(poll: &mut TestPoll, token: usize, process: &mut Process) {
    loop {
        poll.expect(token, R);
        if poll.events.iter().any(|event| process.has_exited(event).unwrap()) {
            return;
        }
        assert!(!is_certain(), "an event that says nothing");
    }
}

/// Nothing comes of it: no event, or one that says no.
#[track_caller]
fn runs(poll: &mut TestPoll, process: &mut Process) {
    if is_certain() {
        return poll.expect_no_events();
    }
    poll.poll_once(Some(Duration::from_millis(5)));
    for event in &poll.events {
        assert!(!process.has_exited(event).unwrap());
    }
}

#[test]
fn a_child_exits_and_can_be_waited_for() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    for (token, status) in [(1, 0), (2, 7)] {
        let mut child = child(status);
        let mut process = Process::new(&child).unwrap();
        assert_eq!(process.pid(), child.id() as i32);
        poll.register(&mut process, token, READ);
        runs(&mut poll, &mut process);
        end(&mut child);
        exited(&mut poll, token, &mut process);
        assert_eq!(child.wait().unwrap().code(), Some(status));
        // That it has been waited for is no event.
        poll.expect_no_events();
    }
    let mut killed = child(0);
    let mut process = Process::new(&killed).unwrap();
    poll.register(&mut process, 3, READ);
    killed.kill().unwrap();
    exited(&mut poll, 3, &mut process);
    assert_eq!(killed.wait().unwrap().signal(), Some(libc::SIGKILL));
}

/// Waits until it is one, and leaves it so.
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
fn a_zombie_is_told_at_once() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let mut child = zombie(3);
    let mut process = Process::new(&child).unwrap();
    poll.register(&mut process, 1, READ);
    exited(&mut poll, 1, &mut process);
    poll.deregister(&mut process);
    poll.expect_no_events();
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

#[test]
fn what_is_no_process() {
    let _alone = run_alone();
    for number in [0, -1, i32::MIN, i32::MIN + 1] {
        assert_eq!(Process::from_pid(number).unwrap_err().kind(), ErrorKind::InvalidInput, "{number}");
    }
    // No system has so many.
    assert_eq!(Process::from_pid(i32::MAX - 1).unwrap_err().kind(), ErrorKind::NotFound);
    let mut reaped = zombie(0);
    reaped.wait().unwrap();
    assert_eq!(Process::new(&reaped).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_is_not_a_child() {
    let _alone = run_alone();
    match Process::from_pid(std::os::unix::process::parent_id() as i32) {
        Ok(mut parent) => {
            assert!(is_certain());
            let mut poll = TestPoll::new();
            poll.register(&mut parent, 1, READ);
            poll.expect_no_events();
        }
        Err(error) => assert!(error.kind() == ErrorKind::Unsupported && !is_certain(), "{error}"),
    }
}

/// Process 1 is root's. Root may watch every process, so it runs this test once more as another user.
#[test]
fn process_of_another_user_is_refused_by_netbsd_only() {
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
        Ok(()) => assert!(is_certain() && (is_root || !cfg!(target_os = "netbsd"))),
        Err(error) if !is_certain() => assert_eq!(error.kind(), ErrorKind::Unsupported),
        Err(error) => {
            assert!(!is_root && cfg!(target_os = "netbsd"), "{error}");
            assert_eq!(error.raw_os_error(), Some(libc::EACCES));
        }
    }
    if is_root {
        passes_as_another_user("process_of_another_user_is_refused_by_netbsd_only");
    }
}

fn passes_as_another_user(test: &str) {
    let mut program = Command::new(std::env::args_os().next().unwrap());
    let output = match program.args(["--exact", test]).uid(65534).output() {
        // A checkout that other users may not enter.
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return,
        output => output.unwrap(),
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
fn the_end_is_told_once_and_again_when_reregistered() {
    let _alone = run_alone();
    for interest in [READ, READ.level(), BOTH, READ.oneshot()] {
        let mut poll = TestPoll::new();
        let mut child = zombie(0);
        let mut process = Process::new(&child).unwrap();
        poll.register(&mut process, 1, interest);
        exited(&mut poll, 1, &mut process);
        poll.expect_no_events();
        poll.reregister(&mut process, 2, interest);
        exited(&mut poll, 2, &mut process);
        poll.expect_no_events();
        poll.reregister(&mut process, 3, Interest::NONE);
        poll.expect_no_events();
        child.wait().unwrap();
    }
}

/// An event that nobody asked about is not told for ever.
#[test]
fn a_process_that_is_not_asked() {
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
fn parked_and_registered_again() {
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
        exited(&mut poll, 2, &mut process);
        poll.deregister(&mut process);
        other.register(&mut process, 3, READ);
        exited(&mut other, 3, &mut process);
        child.wait().unwrap();
    }
    let mut process = Process::from_pid(child(0).id() as i32).unwrap();
    for foreign in [WRITE, WRITE.level(), Interest::AIO, Interest::PRIORITY, READ.exclusive()] {
        let error = poll.registry().register(&mut process, Token(1), foreign).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn a_process_watched_twice() {
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
    exited(&mut other, 3, &mut third);
    if BACKEND == Backend::Kqueue {
        exited(&mut poll, 1, &mut first);
        // When the one goes the other can come.
        drop(first);
        poll.register(&mut second, 2, READ);
        exited(&mut poll, 2, &mut second);
    } else {
        poll.expect_all(&[(1, R), (2, R)]);
    }
    child.wait().unwrap();
}

#[test]
fn an_event_of_another_source() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let mut child = zombie(0);
    let mut process = Process::new(&child).unwrap();
    poll.register(&mut process, 1, READ);
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 2, READ);
    exited(&mut poll, 1, &mut process);
    b.write_all(b"x").unwrap();
    poll.expect(2, R);
    assert_eq!(a.read(&mut [0; 4]).unwrap(), 1);
    let event = poll.events.iter().next().unwrap();
    assert_eq!(process.has_exited(event).unwrap_err().kind(), ErrorKind::InvalidInput);
    child.wait().unwrap();
}

#[test]
fn a_dropped_process_is_silent() {
    let _alone = run_alone();
    let mut poll = TestPoll::new();
    let mut child = child(0);
    let mut process = Process::new(&child).unwrap();
    poll.register(&mut process, 1, READ);
    drop(process);
    end(&mut child);
    child.wait().unwrap();
    poll.expect_no_events();
    // And one that outlives its poll.
    let mut child = self::child(0);
    let mut process = Process::new(&child).unwrap();
    let dropped = Poll::new().unwrap();
    dropped.registry().register(&mut process, Token(1), READ).unwrap();
    drop(dropped);
    poll.register(&mut process, 2, READ);
    end(&mut child);
    exited(&mut poll, 2, &mut process);
    child.wait().unwrap();
}

/// Forks a child that exits when nobody has the gate open for writing any more; an error where there are too many already.
fn forked(reader: &OwnedFd, writer: &OwnedFd) -> io::Result<libc::pid_t> {
    // SAFETY: of this process, which has many threads, the child uses three system calls and its own stack.
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

/// Watches up to so many children, as the system allows, which exit at once; how many it were.
fn all_exit_at_once(most: usize) -> usize {
    let mut poll = TestPoll::with_capacity(64);
    let (reader, writer) =
        std::os::unix::net::UnixStream::pair().map(|(a, b)| (OwnedFd::from(a), OwnedFd::from(b))).unwrap();
    let children: Vec<_> = (0..most).map_while(|_| forked(&reader, &writer).ok()).collect();
    // Where each is a descriptor there may be too few of them.
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
        assert!(Instant::now() < deadline, "{left} of {watched} are left");
        poll.poll_once(Some(TIMEOUT));
        for event in &poll.events {
            let token = event.token().0;
            if processes[token].has_exited(event).unwrap() {
                assert!(std::mem::replace(&mut waits[token], false), "{token} twice");
                left -= 1;
            }
        }
    }
    children.into_iter().for_each(reap);
    watched
}

/// All that exit at the same moment are told, each under its token; SIGCHLD would come once for many.
#[test]
fn ten_thousand_children_exit_at_once() {
    let _alone = run_alone();
    // `.ci/tsan` asks for fewer: each child has a copy of all that a sanitizer keeps.
    // Where each SIGCHLD makes every watched process look for its own child, the looks grow with the square.
    let many = if is_certain() || cfg!(target_os = "linux") { 10_000 } else { 1_000 };
    let many = std::env::var("KEVIO_TEST_CHILDREN").map_or(many, |many| many.parse().unwrap());
    raise_fd_limit(2 * many);
    let mut done = 0;
    while done < many {
        let now = all_exit_at_once(many - done);
        assert!(now > 0, "not one child can be watched");
        println!("{now} children");
        done += now;
    }
}

#[test]
fn the_end_of_another_child() {
    let _alone = run_alone();
    for interest in [READ, READ.oneshot()] {
        let mut poll = TestPoll::new();
        let (mut watched, mut other) = (child(0), child(0));
        let mut process = Process::new(&watched).unwrap();
        poll.register(&mut process, 1, interest);
        poll.expect_no_events();
        end(&mut other);
        if is_certain() {
            other.wait().unwrap();
            poll.expect_no_events();
        } else {
            // FreeBSD discards the signal of a child that was waited for.
            poll.expect(1, R);
            assert!(!process.has_exited(poll.events.iter().next().unwrap()).unwrap());
            other.wait().unwrap();
        }
        end(&mut watched);
        exited(&mut poll, 1, &mut process);
        watched.wait().unwrap();
    }
}

/// A handler that was there before is called, and is what it was when nobody watches any more.
#[test]
fn somebody_elses_handler() {
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
        assert_eq!(action(None) == handler, is_certain());
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
