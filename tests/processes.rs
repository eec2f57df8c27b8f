//! Polls and sources after fork(2) and exec(3). In a binary of its own, with one test thread.
#![cfg(unix)]

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

/// One test runs all cases in order, because a fork copies the descriptors and the locked mutexes of concurrent tests.
#[test]
fn forked_children_and_programs_leave_the_parent_unchanged() {
    if let Some(list) = env::var_os(LIST) {
        return std::fs::write(list, format!("{:?}", open_fds::open_files().range(3..))).unwrap();
    }
    child_that_drops_a_poll_leaves_the_parents_poll_usable();
    child_forked_during_a_wait_drops_without_blocking();
    child_forked_during_poll_creation_drops_without_blocking();
    forks::inherited_poll_is_rejected();
    forks::inherited_source_can_be_used_and_dropped();
    forks::child_can_create_its_own_poll_and_sources();
    forks::child_can_register_inherited_signals();
    #[cfg(target_os = "linux")]
    forks::child_with_the_pid_of_its_parent_is_rejected();
    program_inherits_no_descriptor();
    #[cfg(has_kqueue)]
    {
        raw_kqueue::child_leaves_the_parents_queue_unchanged();
        raw_kqueue::signal_filter_counts_signals();
    }
}

/// Calls `drop_ours` in a child whose low numbers belong to other files, and checks that none of these is closed.
fn drop_among_other_files(drop_ours: impl FnOnce()) {
    // A kqueue is not inherited, so that its number is free, and one of these files receives the number.
    let others: Vec<std::fs::File> = (0..20).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let numbers: BTreeMap<RawFd, _> =
        others.iter().map(|file| (file.as_raw_fd(), open_fds::file_id(file.as_raw_fd()).unwrap())).collect();
    let before = open_fds::open_files();
    drop_ours();
    let after = open_fds::open_files();
    for (number, identity) in numbers {
        assert_eq!(after.get(&number), Some(&identity), "the other file {number} was closed");
    }
    // The closed descriptors were the child's copies; the rest is unchanged.
    for (number, identity) in &after {
        assert_eq!(before.get(number), Some(identity), "{number} is another file");
    }
}

fn child_that_drops_a_poll_leaves_the_parents_poll_usable() {
    let poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let waker = Waker::new(poll.registry(), Token(1)).unwrap();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.registry().register(&mut a, Token(2), Interest::READABLE).unwrap();
    let clone = poll.registry().try_clone().unwrap();
    let mut deregistered = UdpSocket::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    poll.registry().register(&mut deregistered, Token(4), Interest::READABLE).unwrap();
    poll.registry().deregister(&mut deregistered).unwrap();
    let (owner, mut borrowed_peer) = std::os::unix::net::UnixStream::pair().unwrap();
    owner.set_nonblocking(true).unwrap();
    let mut borrowed = IoSource::new(&owner);
    poll.registry().register(&mut borrowed, Token(5), Interest::READABLE).unwrap();
    let mut timer = Timer::new().unwrap();
    poll.registry().register(&mut timer, Token(6), Interest::READABLE).unwrap();

    // A child drops each; the parent keeps its copies.
    let before = open_fds::open_files();
    let (mut poll_, mut waker_, mut a_) = (Some(poll), Some(waker), Some(a));
    let (mut clone_, mut deregistered_) = (Some(clone), Some(deregistered));
    in_a_child(|| drop_among_other_files(|| drop(waker_.take())));
    in_a_child(|| drop_among_other_files(|| drop(a_.take())));
    in_a_child(|| drop_among_other_files(|| drop(deregistered_.take())));
    // Dropping would deregister the source, but the child is another process.
    let mut borrowed_ = Some(borrowed);
    in_a_child(|| drop_among_other_files(|| drop(borrowed_.take())));
    let mut timer_ = Some(timer);
    in_a_child(|| drop_among_other_files(|| drop(timer_.take())));
    in_a_child(|| {
        // A poll of the child does not make the inherited poll usable.
        let _own = Poll::new().unwrap();
        drop_among_other_files(|| drop((borrowed_.take(), timer_.take())));
    });
    in_a_child(|| drop_among_other_files(|| drop((clone_.take(), poll_.take(), waker_.take()))));
    in_a_child(|| drop_among_other_files(|| drop((poll_.take(), waker_.take(), clone_.take(), a_.take()))));
    in_a_child(|| drop_among_other_files(|| drop((a_.take(), clone_.take(), waker_.take(), poll_.take()))));
    open_fds::assert_same(&before, "descriptors of the parent");
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
    borrowed_peer.write_all(b"x").unwrap();
    expect_event(&mut poll, &mut events, Token(5));
    poll.registry().reregister(&mut a, Token(3), Interest::WRITABLE).unwrap();
    expect_event(&mut poll, &mut events, Token(3));
}

/// The fork happens while other threads create polls. Dropping in the child must not block.
fn child_forked_during_poll_creation_drops_without_blocking() {
    if is_known_failure(Check::ForkedChild) {
        return;
    }
    let poll = Poll::new().unwrap();
    let (owner, _peer) = UnixStream::pair().unwrap();
    let mut borrowed = IoSource::new(&owner);
    poll.registry().register(&mut borrowed, Token(1), Interest::READABLE).unwrap();
    let mut borrowed = Some(borrowed);
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
            in_a_child(|| drop(borrowed.take()));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

/// Returns the processor time that this process has used.
fn processor_time() -> Duration {
    // SAFETY: the kernel writes one `timespec`, which is integers, and there is room for it.
    unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        assert_eq!(libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time), 0);
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }
}

/// The fork happens while another thread, which does not exist in the child, is blocked in `poll`.
fn child_forked_during_a_wait_drops_without_blocking() {
    let mut poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    let waker = Waker::new(&registry, Token(1)).unwrap();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    registry.register(&mut a, Token(2), Interest::READABLE).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiting = thread::spawn(move || {
        let mut events = Events::with_capacity(8);
        for token in [Token(1), Token(2)] {
            sender.send((token, BlockedThread::current())).unwrap();
            expect_event(&mut poll, &mut events, token);
        }
        poll
    });
    // A thread that is not blocked yet could hold a lock, which no thread of the child would release.
    receiver.recv().unwrap().1.wait_until_blocked();
    let (mut a_, mut waker_, mut registry_) = (Some(a), Some(waker), Some(registry));
    in_a_child(|| drop_among_other_files(|| drop((a_.take(), waker_.take(), registry_.take()))));
    // The thread stays blocked, and does not probe repeatedly.
    let before = processor_time();
    // No event occurs during this time.
    thread::sleep(Duration::from_millis(100));
    let used = processor_time() - before;
    assert!(used < Duration::from_millis(20), "{used:?} used while waiting");
    waker_.as_ref().unwrap().wake().unwrap();
    assert_eq!(receiver.recv().unwrap().0, Token(2));
    b.write_all(b"x").unwrap();
    drop(waiting.join().unwrap());
}

/// The variable with the path to which this test, run again as a program, writes its open descriptors.
const LIST: &str = "KEVIO_TEST_LIST_OPEN_FILES";

/// Runs this test as a program. Returns the descriptors that are open in the program, without the standard streams. With
/// `makes_more` the child creates a poll and a waker before exec(3), because a kqueue could leak only from there.
fn open_in_a_program(makes_more: bool) -> String {
    let list = tempfile::NamedTempFile::new().unwrap();
    let mut program = Command::new(env::current_exe().unwrap());
    let make = || {
        let poll = Poll::new()?;
        std::mem::forget((Waker::new(poll.registry(), Token(1))?, poll));
        Ok(())
    };
    if makes_more {
        // SAFETY: no other thread of this process holds a lock that the child needs.
        unsafe { program.pre_exec(make) };
    }
    program.env(LIST, list.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    assert!(program.status().unwrap().success());
    std::fs::read_to_string(list.path()).unwrap()
}

fn program_inherits_no_descriptor() {
    // Descriptors that this process inherited are open before and after.
    let before = open_in_a_program(false);
    assert!(before.starts_with('[') || before.starts_with('{'), "{before:?} is not a list");
    let loopback = || "127.0.0.1:0".parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");

    let mut poll = Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), Token(1)).unwrap();
    // Some backends create descriptors at the first use.
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
    // `None` on systems without watches.
    let watch = Watch::open(".").ok();
    assert_eq!(open_in_a_program(false), before);
    assert_eq!(open_in_a_program(true), before);

    // A descriptor without close-on-exec is inherited, so that the list is meaningful.
    let (given, _peer) = UnixStream::pair().unwrap();
    let given = IoSource::new(OwnedFd::from(given));
    // SAFETY: no pointers; this function owns the descriptor.
    assert_eq!(unsafe { libc::fcntl(given.as_raw_fd(), libc::F_SETFD, 0) }, 0);
    assert_ne!(open_in_a_program(false), before);
    drop((stream, accepted, unix_listener, unix_stream, unix_accepted, datagrams, others, watch));
}

/// The same with the public kqueue bindings.
#[cfg(has_kqueue)]
mod raw_kqueue {
    use super::*;
    use kevio::unix::kqueue::{Filter, Flags, Kevent, Kqueue};

    /// Runs in a child, which has one thread: libkqueue reports no signal that any thread has unblocked.
    pub fn signal_filter_counts_signals() {
        in_a_child(|| {
            let kq = Kqueue::new().unwrap();
            let mut events = Vec::with_capacity(2);
            let mut changes = [Kevent::signal(libc::SIGWINCH, Flags::ADD).with_udata(4)];
            kq.apply(&mut changes).unwrap()[0].result().unwrap();
            // The default action ignores this signal.
            // SAFETY: no pointers.
            assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGWINCH) }, 0);
            assert_eq!(kq.wait(&mut events, Some(Duration::from_secs(10))).unwrap(), 1);
            let event = events[0];
            assert_eq!((event.ident(), event.filter()), (libc::SIGWINCH as usize, Filter::SIGNAL));
            assert_eq!((event.data(), event.udata()), (1, 4));
            assert_eq!(kq.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        });
    }

    pub fn child_leaves_the_parents_queue_unchanged() {
        let mut kq = Some(Kqueue::new().unwrap());
        in_a_child(|| drop_among_other_files(|| drop(kq.take())));
        in_a_child(|| {
            // A queue of the child can have the number of the parent's queue, which is not inherited.
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
