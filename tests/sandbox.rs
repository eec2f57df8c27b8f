//! System calls that a sandbox rejects: kevio uses a fallback, or fails with `Unsupported`. A child process installs a filter
//! of seccomp(2) that fails one system call with one errno.
#![cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "x86")))]

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kevio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use kevio::unix::{pipe, pollset::PollSet};
use kevio::{Events, Interest, Poll, Process, Signals, Timer, Token, Waker, Watch, BACKEND};

mod support;

use crate::support::process::test_name;

/// The variable with the system call and the errno that the child rejects.
const VARIABLE: &str = "KEVIO_SANDBOX";

/// A system call that a filter rejects: its name and its number. With the index of an argument and flags, the filter rejects only
/// calls that have one of these flags in the argument.
type Rejected = (&'static str, libc::c_long, Option<(u32, u32)>);

const SOCKET_FLAGS: u32 = (libc::SOCK_NONBLOCK | libc::SOCK_CLOEXEC) as u32;

const CALLS: [Rejected; 11] = [
    ("epoll_pwait2", libc::SYS_epoll_pwait2, None),
    ("pidfd_open", libc::SYS_pidfd_open, None),
    ("eventfd2", libc::SYS_eventfd2, None),
    ("inotify_init1", libc::SYS_inotify_init1, None),
    ("timerfd_create", libc::SYS_timerfd_create, None),
    // On i686, the accept(2) of musl is accept4(2) without flags, and has no other system call.
    ("accept4", libc::SYS_accept4, Some((3, SOCKET_FLAGS))),
    ("pipe2", libc::SYS_pipe2, None),
    ("ppoll", libc::SYS_ppoll, None),
    ("socket", libc::SYS_socket, Some((1, SOCKET_FLAGS))),
    ("socketpair", libc::SYS_socketpair, Some((1, SOCKET_FLAGS))),
    // kevio detects forked children with madvise(2).
    ("madvise", libc::SYS_madvise, None),
];

const ERRORS: [libc::c_int; 4] = [libc::ENOSYS, libc::EPERM, libc::EACCES, libc::EOPNOTSUPP];

/// Installs the filter for this thread, and for the threads and processes that it starts.
fn reject((_, call, flags): Rejected, errno: libc::c_int) {
    // Offsets in `struct seccomp_data`: the number of the call, and its arguments of eight bytes, the low half first.
    const NUMBER: u32 = 0;
    const ARGUMENTS: u32 = 16;
    let (load, equal) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    let (set, ret) = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, libc::BPF_RET | libc::BPF_K);
    // SAFETY: the functions only compute.
    let statement = |code: u32, k| unsafe { libc::BPF_STMT(code as u16, k) };
    // SAFETY: as above.
    let jump = |code: u32, k, yes, no| unsafe { libc::BPF_JUMP(code as u16, k, yes, no) };
    let (field, is_rejected) = match flags {
        Some((argument, flags)) => (ARGUMENTS + 8 * argument, jump(set, flags, 0, 1)),
        None => (NUMBER, jump(equal, call as u32, 0, 1)),
    };
    let mut program = [
        statement(load, NUMBER),
        jump(equal, call as u32, 0, 3),
        statement(load, field),
        is_rejected,
        statement(ret, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(ret, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: integers; the kernel reads the program, which outlives the call.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let mode = libc::SECCOMP_MODE_FILTER;
        assert_eq!(libc::prctl(libc::PR_SET_SECCOMP, mode, &program), 0, "{}", io::Error::last_os_error());
    }
}

/// Returns the value of an operation without a fallback; `None` if its system call is rejected.
fn unless<T>(is_rejected: bool, result: io::Result<T>) -> Option<T> {
    if is_rejected {
        let error = result.err().expect("the operation succeeded");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        return None;
    }
    Some(result.unwrap())
}

#[track_caller]
fn assert_flags(source: &impl AsRawFd) {
    // SAFETY: no pointers.
    let (status, descriptor) =
        unsafe { (libc::fcntl(source.as_raw_fd(), libc::F_GETFL), libc::fcntl(source.as_raw_fd(), libc::F_GETFD)) };
    assert!(status & libc::O_NONBLOCK != 0 && descriptor & libc::FD_CLOEXEC != 0);
}

/// A poll and its buffer.
struct SandboxPoll {
    inner: Poll,
    events: Events,
}

impl SandboxPoll {
    fn new() -> SandboxPoll {
        SandboxPoll { inner: Poll::new().unwrap(), events: Events::with_capacity(8) }
    }

    fn add(&self, source: &mut impl kevio::event::Source, token: usize) {
        self.inner.registry().register(source, Token(token), Interest::READABLE).unwrap();
    }

    /// Polls until an event with the token satisfies `check`.
    #[track_caller]
    fn until(&mut self, token: usize, mut check: impl FnMut(&kevio::event::Event) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no event with token {token} satisfied the check");
            match self.inner.poll(&mut self.events, Some(left)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                result => result.unwrap(),
            }
            if self.events.iter().any(|event| event.token() == Token(token) && check(event)) {
                return;
            }
        }
    }
}

fn exercise_wakers(poll: &mut SandboxPoll) {
    let waker = Waker::new(poll.inner.registry(), Token(1)).unwrap();
    for _ in 0..3 {
        waker.wake().unwrap();
        poll.until(1, |_| true);
    }
    poll.inner.poll(&mut poll.events, Some(Duration::ZERO)).unwrap();
    assert!(poll.events.is_empty());
}

fn exercise_waits(poll: &mut SandboxPoll) {
    for micros in [1, 300, 1_700] {
        let (wait, began) = (Duration::from_micros(micros), Instant::now());
        poll.inner.poll(&mut poll.events, Some(wait)).unwrap();
        assert!(poll.events.is_empty() && began.elapsed() >= wait);
        let (mut set, began) = (PollSet::new(), Instant::now());
        assert_eq!(set.poll(0, Some(wait)).unwrap(), 0);
        assert!(began.elapsed() >= wait);
    }
}

fn exercise_sockets(poll: &mut SandboxPoll) {
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    poll.add(&mut listener, 2);
    for _ in 0..2 {
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        poll.until(2, |_| true);
        let (mut server, _) = listener.accept().unwrap();
        assert_flags(&client);
        assert_flags(&server);
        poll.add(&mut server, 3);
        client.write_all(b"x").unwrap();
        poll.until(3, |_| true);
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
    }
    let path = std::env::temp_dir().join(format!("kevio-sandbox-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let client = UnixStream::connect(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let (server, _) = listener.accept().unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let ((a, b), (c, d)) = (UnixStream::pair().unwrap(), UnixDatagram::pair().unwrap());
    for source in [client.as_fd(), server.as_fd(), udp.as_fd(), a.as_fd(), b.as_fd(), c.as_fd(), d.as_fd()] {
        assert_flags(&source);
    }
}

fn exercise_pipes(poll: &mut SandboxPoll) {
    let (mut sender, mut receiver) = pipe::new().unwrap();
    assert_flags(&sender);
    assert_flags(&receiver);
    poll.add(&mut receiver, 4);
    sender.write_all(b"x").unwrap();
    poll.until(4, |_| true);
}

fn exercise_process(poll: &mut SandboxPoll, mut child: Child) {
    let mut process = Process::new(&child).unwrap();
    poll.add(&mut process, 5);
    drop(child.stdin.take());
    poll.until(5, |event| process.has_exited(event).unwrap());
    assert!(child.wait().unwrap().success());
}

fn exercise_signals(poll: &mut SandboxPoll) {
    let mut signals = Signals::new([libc::SIGUSR1]).unwrap();
    poll.add(&mut signals, 6);
    // SAFETY: no pointers.
    unsafe { libc::raise(libc::SIGUSR1) };
    poll.until(6, |event| !signals.received(event).unwrap().is_empty());
}

fn exercise_timer(poll: &mut SandboxPoll) {
    let mut timer = Timer::after(Duration::from_millis(1)).unwrap();
    poll.add(&mut timer, 7);
    poll.until(7, |event| timer.expirations(event).unwrap() == 1);
}

fn exercise_watch(poll: &mut SandboxPoll, is_rejected: bool) {
    let mut file = tempfile::tempfile().unwrap();
    // Without inotify no watch is made, and without inotify_init1(2) none is registered.
    let without_inotify = cfg!(not(uses_inotify));
    if let Some(mut watch) = unless(is_rejected && without_inotify, Watch::new(file.try_clone().unwrap())) {
        if unless(is_rejected, poll.inner.registry().register(&mut watch, Token(8), Interest::READABLE)).is_none() {
            return;
        }
        file.write_all(b"x").unwrap();
        poll.until(8, |event| !watch.changes(event).unwrap().is_empty());
    }
}

/// The test of the child process. Returns at once in the parent.
#[test]
fn every_source_works_in_a_sandbox() {
    let Ok(variable) = std::env::var(VARIABLE) else {
        return;
    };
    let (name, errno) = variable.split_once(' ').unwrap();
    let rejected = *CALLS.iter().find(|rejected| rejected.0 == name).unwrap();
    let mut children: Vec<_> = (0..2).map(|_| Command::new("cat").stdin(Stdio::piped()).spawn().unwrap()).collect();
    // Sources that were created before the filter keep their mechanism.
    let (mut before, mut timer) = (SandboxPoll::new(), Timer::new().unwrap());
    let waker = Waker::new(before.inner.registry(), Token(9)).unwrap();
    before.add(&mut timer, 10);
    reject(rejected, errno.parse().unwrap());
    for child in children.drain(..) {
        waker.wake().unwrap();
        before.until(9, |_| true);
        timer.set_after(Duration::from_millis(1)).unwrap();
        before.until(10, |event| timer.expirations(event).unwrap() == 1);

        let mut poll = SandboxPoll::new();
        exercise_wakers(&mut poll);
        exercise_waits(&mut poll);
        exercise_sockets(&mut poll);
        exercise_pipes(&mut poll);
        exercise_process(&mut poll, child);
        exercise_signals(&mut poll);
        let has_fallbacks_only = cfg!(kevio_unsupported_force_fallbacks);
        exercise_timer(&mut poll);
        exercise_watch(&mut poll, name == "inotify_init1" || has_fallbacks_only);
    }
}

#[test]
fn each_rejected_system_call_has_a_fallback() {
    if BACKEND == kevio::Backend::Kqueue {
        // libkqueue makes other system calls.
        return;
    }
    let program = std::env::current_exe().unwrap();
    let mut failed = Vec::new();
    for (name, _, _) in CALLS {
        for errno in ERRORS {
            let output = Command::new(&program)
                .args(["--exact", test_name(every_source_works_in_a_sandbox), "--nocapture"])
                .env(VARIABLE, format!("{name} {errno}"))
                .output()
                .unwrap();
            if !output.status.success() {
                println!("{}", String::from_utf8_lossy(&output.stderr));
                failed.push((name, io::Error::from_raw_os_error(errno)));
            }
        }
    }
    assert!(failed.is_empty(), "{failed:?}");
}
