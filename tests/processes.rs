//! What fork(2) and exec(3) do to a poll. In a process of its own, with one thread that matters.

use std::collections::BTreeMap;
use std::env;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use kevio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use kevio::unix::{pipe, IoSource};
use kevio::{Events, Interest, Poll, Timer, Token, Waker, Watch};

mod support;

use crate::support::blocked_thread::BlockedThread;
use crate::support::known_failures::{is_known_failure, Check};
use crate::support::open_fds;
use crate::support::poll::expect_event;
use crate::support::process::in_a_child;

mod forks;

/// Other tests of this process would be in the way: a fork takes along what they have open, and the locks they hold.
#[test]
fn forks_and_programs() {
    if let Some(list) = env::var_os(LIST) {
        return std::fs::write(list, format!("{:?}", open_fds::open_files().range(3..))).unwrap();
    }
    a_child_leaves_its_parents_poll_alone();
    a_child_of_a_process_that_waits();
    a_child_of_a_process_that_makes_polls();
    forks::an_inherited_poll_is_refused();
    forks::an_inherited_source_can_be_used_and_dropped();
    forks::a_child_can_make_its_own();
    #[cfg(target_os = "linux")]
    forks::two_processes_with_the_same_number();
    nothing_is_left_open_in_a_program_that_is_run();
    #[cfg(has_kqueue)]
    {
        bare_kqueue::is_left_alone_by_a_child();
        bare_kqueue::counts_signals();
    }
}

/// Drops things in the child, where every number below theirs is a stranger's: no stranger is closed.
fn drop_among_strangers(ours: impl FnOnce()) {
    // kqueue is not inherited, so its number is free now, and goes to one of these.
    let strangers: Vec<std::fs::File> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let numbers: BTreeMap<RawFd, _> =
        strangers.iter().map(|file| (file.as_raw_fd(), open_fds::file_id(file.as_raw_fd()).unwrap())).collect();
    let before = open_fds::open_files();
    ours();
    let after = open_fds::open_files();
    for (number, identity) in numbers {
        assert_eq!(after.get(&number), Some(&identity), "{number} was a stranger's and was closed");
    }
    // What was closed were copies of the child's; what is left is what it was.
    for (number, identity) in &after {
        assert_eq!(before.get(number), Some(identity), "{number} became another's");
    }
}

fn a_child_leaves_its_parents_poll_alone() {
    let poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let waker = Waker::new(poll.registry(), Token(1)).unwrap();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.registry().register(&mut a, Token(2), Interest::READABLE).unwrap();
    let clone = poll.registry().try_clone().unwrap();
    let mut deregistered = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    poll.registry().register(&mut deregistered, Token(4), Interest::READABLE).unwrap();
    poll.registry().deregister(&mut deregistered).unwrap();
    let (owner, mut lent_peer) = std::os::unix::net::UnixStream::pair().unwrap();
    owner.set_nonblocking(true).unwrap();
    let mut lent = IoSource::new(&owner);
    poll.registry().register(&mut lent, Token(5), Interest::READABLE).unwrap();
    let mut timer = Timer::new().unwrap();
    poll.registry().register(&mut timer, Token(6), Interest::READABLE).unwrap();

    // Each is dropped by a child; the copies in the parent go on.
    let before = open_fds::open_files();
    let (mut poll_, mut waker_, mut a_) = (Some(poll), Some(waker), Some(a));
    let (mut clone_, mut deregistered_) = (Some(clone), Some(deregistered));
    in_a_child(|| drop_among_strangers(|| drop(waker_.take())));
    in_a_child(|| drop_among_strangers(|| drop(a_.take())));
    in_a_child(|| drop_among_strangers(|| drop(deregistered_.take())));
    // It is deregistered when it goes, and this is not its process.
    let mut lent_ = Some(lent);
    in_a_child(|| drop_among_strangers(|| drop(lent_.take())));
    let mut timer_ = Some(timer);
    in_a_child(|| drop_among_strangers(|| drop(timer_.take())));
    in_a_child(|| {
        // A poll of the child's own does not make the other its own.
        let _own = Poll::new().unwrap();
        drop_among_strangers(|| drop((lent_.take(), timer_.take())));
    });
    in_a_child(|| drop_among_strangers(|| drop((clone_.take(), poll_.take(), waker_.take()))));
    in_a_child(|| drop_among_strangers(|| drop((poll_.take(), waker_.take(), clone_.take(), a_.take()))));
    in_a_child(|| drop_among_strangers(|| drop((a_.take(), clone_.take(), waker_.take(), poll_.take()))));
    open_fds::assert_same(&before, "the parent's");
    let (mut poll, waker, mut a) = (poll_.unwrap(), waker_.unwrap(), a_.unwrap());

    let mut timer = timer_.unwrap();
    for _ in 0..3 {
        timer.set_after(Duration::from_millis(1)).unwrap();
        expect_event(&mut poll, &mut events, Token(6));
        assert_eq!(timer.expirations(events.iter().next().unwrap()).unwrap(), 1);
        waker.wake().unwrap();
        expect_event(&mut poll, &mut events, Token(1));
        b.write_all(b"x").unwrap();
        expect_event(&mut poll, &mut events, Token(2));
        assert_eq!(a.read(&mut [0; 4]).unwrap(), 1);
        let _ = a.read(&mut [0; 4]);
    }
    lent_peer.write_all(b"x").unwrap();
    expect_event(&mut poll, &mut events, Token(5));
    poll.registry().reregister(&mut a, Token(3), Interest::WRITABLE).unwrap();
    expect_event(&mut poll, &mut events, Token(3));
}

/// A child whose parent had its hands full: what it drops waits for nobody.
fn a_child_of_a_process_that_makes_polls() {
    if is_known_failure(Check::ForkedChild) {
        return;
    }
    let poll = Poll::new().unwrap();
    let (owner, _peer) = UnixStream::pair().unwrap();
    let mut lent = IoSource::new(&owner);
    poll.registry().register(&mut lent, Token(1), Interest::READABLE).unwrap();
    let mut lent = Some(lent);
    let stop = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    drop(Poll::new().unwrap());
                }
            });
        }
        for _ in 0..100 {
            in_a_child(|| drop(lent.take()));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// What this process has spent.
fn processor_time() -> Duration {
    // SAFETY: the kernel writes one `timespec`, which is integers, and there is room for it.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time), 0);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// Forked while another thread waits, which the child does not have.
fn a_child_of_a_process_that_waits() {
    let mut poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    let waker = Waker::new(&registry, Token(1)).unwrap();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    registry.register(&mut a, Token(2), Interest::READABLE).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let blocked_thread = thread::spawn(move || {
        let mut events = Events::with_capacity(8);
        for token in [Token(1), Token(2)] {
            sender.send((token, BlockedThread::current())).unwrap();
            expect_event(&mut poll, &mut events, token);
        }
        poll
    });
    // If it did not wait yet it could hold a lock, which nobody in the child would release.
    receiver.recv().unwrap().1.wait_until_blocked();
    let (mut a_, mut waker_, mut registry_) = (Some(a), Some(waker), Some(registry));
    in_a_child(|| drop_among_strangers(|| drop((a_.take(), waker_.take(), registry_.take()))));
    // The thread waits as before, and does not look again and again at what the child may have done.
    let before = processor_time();
    // Nothing happens for so long.
    thread::sleep(Duration::from_millis(100));
    let spent = processor_time() - before;
    assert!(spent < Duration::from_millis(20), "{spent:?} spent on waiting");
    waker_.as_ref().unwrap().wake().unwrap();
    assert_eq!(receiver.recv().unwrap().0, Token(2));
    b.write_all(b"x").unwrap();
    drop(blocked_thread.join().unwrap());
}

/// Where this test, run again as a program, is to write down what it has open.
const LIST: &str = "KEVIO_TEST_LIST_OPEN_FILES";

/// What a program has open that this process runs, apart from the standard streams: the list of `open_fds::files`. The child
/// that becomes it may make a poll and a waker before: a kqueue is not inherited, and leaks from there if at all.
fn open_in_a_program(makes_more: bool) -> String {
    let list = tempfile::NamedTempFile::new().unwrap();
    let mut program = Command::new(env::current_exe().unwrap());
    let make = || {
        let poll = Poll::new()?;
        std::mem::forget((Waker::new(poll.registry(), Token(1))?, poll));
        Ok(())
    };
    if makes_more {
        // SAFETY: this process has one thread that matters, and so the child has all it needs.
        unsafe { program.pre_exec(make) };
    }
    program.env(LIST, list.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(program.status().unwrap().success());
    std::fs::read_to_string(list.path()).unwrap()
}

fn nothing_is_left_open_in_a_program_that_is_run() {
    // What this process itself was given is there before and after.
    let before = open_in_a_program(false);
    assert!(before.starts_with('[') || before.starts_with('{'), "{before:?} is no list");
    let loopback = || "127.0.0.1:0".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");

    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), Token(1)).unwrap();
    // Some engines make what they need when it is needed.
    waker.wake().unwrap();
    expect_event(&mut poll, &mut Events::with_capacity(8), Token(1));
    let mut listener = TcpListener::bind(loopback()).unwrap();
    poll.registry().register(&mut listener, Token(2), Interest::READABLE).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    expect_event(&mut poll, &mut Events::with_capacity(8), Token(2));
    let accepted = listener.accept().unwrap();
    let unix_listener = UnixListener::bind(&path).unwrap();
    let unix_stream = UnixStream::connect(&path).unwrap();
    let unix_accepted = unix_listener.accept().unwrap();
    let datagrams = (UnixDatagram::pair().unwrap(), UnixDatagram::unbound().unwrap());
    let others = (UdpSocket::bind(loopback()).unwrap(), UnixStream::pair().unwrap(), pipe::new().unwrap());
    // Where there is none it is not open either.
    let watch = Watch::open(".").ok();
    assert_eq!(open_in_a_program(false), before);
    assert_eq!(open_in_a_program(true), before);

    // What the program is meant to have it has: the list is not empty for want of looking.
    let (given, _peer) = UnixStream::pair().unwrap();
    let given = IoSource::new(OwnedFd::from(given));
    // SAFETY: no pointers; the descriptor is this function's own.
    assert_eq!(unsafe { libc::fcntl(given.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    assert_ne!(open_in_a_program(false), before);
    drop((stream, accepted, unix_listener, unix_stream, unix_accepted, datagrams, others, watch));
}

/// The same of a bare kqueue, where there is one.
#[cfg(has_kqueue)]
mod bare_kqueue {
    use super::*;
    use kevio::unix::kqueue::{Filter, Flags, Kevent, Kqueue};

    /// In a child, which has one thread: libkqueue sees no signal that some thread has not blocked.
    pub fn counts_signals() {
        in_a_child(|| {
            let kq = Kqueue::new().unwrap();
            let mut events = Vec::with_capacity(2);
            let mut changes = [Kevent::signal(libc::SIGWINCH, Flags::ADD).with_udata(4)];
            kq.apply(&mut changes).unwrap()[0].result().unwrap();
            // What the system does with this signal is to ignore it.
            // SAFETY: no pointers.
            assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGWINCH) }, 0);
            assert_eq!(kq.wait(&mut events, Some(Duration::from_secs(10))).unwrap(), 1);
            let event = events[0];
            assert_eq!((event.ident(), event.filter()), (libc::SIGWINCH as usize, Filter::SIGNAL));
            assert_eq!((event.data(), event.udata()), (1, 4));
            assert_eq!(kq.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        });
    }

    pub fn is_left_alone_by_a_child() {
        let mut kq = Some(Kqueue::new().unwrap());
        in_a_child(|| drop_among_strangers(|| drop(kq.take())));
        in_a_child(|| {
            // A queue of the child's own can have the number of the one that it does not inherit.
            let own = Kqueue::new().unwrap();
            let inherited = kq.as_ref().unwrap();
            let wait = inherited.wait(&mut Vec::with_capacity(1), Some(Duration::ZERO));
            assert_eq!(wait.unwrap_err().kind(), std::io::ErrorKind::Unsupported);
            let mut changes = [Kevent::signal(libc::SIGWINCH, Flags::ADD)];
            assert_eq!(inherited.apply(&mut changes).unwrap_err().kind(), std::io::ErrorKind::Unsupported);
            drop(own);
        });
        assert_eq!(kq.unwrap().wait(&mut Vec::with_capacity(1), Some(Duration::ZERO)).unwrap(), 0);
    }
}
