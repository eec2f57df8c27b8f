//! The price list.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kevio::event::Source;
use kevio::net::{TcpListener, UdpSocket, UnixStream};
use kevio::unix::{pipe, IoSource, SourceFd};
use kevio::{Backend, Batch, Events, FileChanges, Interest, Poll, Token, Waker, Watch};

use super::counter;
use crate::support::limits::raise_fd_limit;
use crate::support::net::loopback;
use crate::support::poll::{BOTH, TIMEOUT};

/// How many system calls something is on kqueue, on epoll, and on poll(2).
type Price = [usize; 3];

fn here(price: Price) -> usize {
    match kevio::BACKEND {
        Backend::Kqueue => price[0],
        Backend::Epoll => price[1],
        Backend::Poll => price[2],
        other => panic!("{other} has no price"),
    }
}

/// All in one test: each may be run in a fork of this process, where a lock that another thread holds, one that begins or
/// ends a test for instance, is held for ever.
#[test]
fn the_price_list() {
    macro_rules! cases {
        ($($case:ident,)+) => { [$((stringify!($case), $case as fn())),+] };
    }
    let cases = cases![
        the_count_counts,
        registering_costs_one_call,
        registering_any_descriptor_costs_one_look_more,
        a_batch_costs_one_call,
        a_batch_of_a_thousand_costs_two_calls,
        dropping_what_is_lent_costs_one_call,
        polling_costs_one_call,
        a_wake_costs_one_call_and_the_next_none,
        dropping_a_source_costs_its_close,
        accepting_costs_one_call,
        writing_costs_one_call,
        asking_a_watch_costs_one_read,
        changes_while_another_thread_waits,
        a_wake_while_another_thread_waits,
    ];
    for (name, case) in cases {
        println!("{name}");
        counter::run(case);
    }
}

#[track_caller]
fn costs<T>(price: Price, what: &str, of: impl FnOnce() -> T) -> T {
    let (value, calls) = counter::calls(of);
    assert_eq!(calls.len(), here(price), "{what}: {calls:?}");
    value
}

/// Nothing gets dearer with time.
const TIMES: usize = 3;

/// A poll, and somebody who waits in it or not.
struct Rig {
    poll: Poll,
    events: Events,
}

impl Rig {
    fn new() -> Rig {
        Rig { poll: Poll::new().unwrap(), events: Events::with_capacity(8) }
    }

    fn turn(&mut self, timeout: Duration) -> usize {
        self.poll.poll(&mut self.events, Some(timeout)).unwrap();
        self.events.iter().count()
    }
}

/// Registers `source`, changes that and takes it back.
fn registering(what: &str, source: &mut impl Source, register: Price, reregister: Price, deregister: Price) {
    let rig = Rig::new();
    let registry = rig.poll.registry();
    for _ in 0..TIMES {
        costs(register, &format!("registering {what}"), || registry.register(source, Token(1), BOTH)).unwrap();
        for interest in [Interest::READABLE, Interest::WRITABLE, BOTH] {
            let price = format!("reregistering {what} for {interest:?}");
            costs(reregister, &price, || registry.reregister(source, Token(2), interest)).unwrap();
        }
        costs(deregister, &format!("deregistering {what}"), || registry.deregister(source)).unwrap();
    }
}

/// fcntl(2), which the counter of the C library's functions does not see: it has arguments of no certain type.
const ACCESS: usize = cfg!(target_os = "linux") as usize;

/// poll(2) of FreeBSD takes `POLLRDHUP` of sockets only: one fstat(2) says whether it is one.
const KIND: usize = cfg!(target_os = "freebsd") as usize;

fn the_count_counts() {
    for n in [0, 1, 7] {
        let (a, _b) = UnixStream::pair().unwrap();
        let ((), calls) = counter::calls(|| {
            for _ in 0..n {
                // SAFETY: the kernel writes one `stat`, and there is room for it.
                let result = unsafe {
                    let mut stat = std::mem::zeroed();
                    libc::fstat(a.as_raw_fd(), &mut stat)
                };
                assert_eq!(result, 0);
            }
        });
        assert_eq!(calls.len(), n, "{calls:?}");
    }
    let (a, b) = UnixStream::pair().unwrap();
    let ((), calls) = counter::calls(|| drop((a, b)));
    assert_eq!(calls, ["close"; 2]);
}

fn registering_costs_one_call() {
    let (mut stream, _peer) = UnixStream::pair().unwrap();
    registering("a stream", &mut stream, [1, 1, KIND], [1, 1, 0], [1, 1, 0]);
    let mut socket = UdpSocket::bind(loopback()).unwrap();
    registering("a UDP socket", &mut socket, [1, 1, KIND], [1, 1, 0], [1, 1, 0]);
    let mut listener = TcpListener::bind(loopback()).unwrap();
    registering("a listener", &mut listener, [1, 1, KIND], [1, 1, 0], [1, 1, 0]);
    let (mut sender, _receiver) = pipe::new().unwrap();
    registering("a pipe", &mut sender, [1, 1, KIND], [1, 1, 0], [1, 1, 0]);
}

/// It may be a file, which kqueue and poll(2) would take: one fstat(2) more. poll(2) asks again whether the number is
/// still the same file's, and at registration also how it was opened (fcntl(2)): `O_PATH` is not open.
fn registering_any_descriptor_costs_one_look_more() {
    let (stream, _peer) = UnixStream::pair().unwrap();
    registering(
        "a bare descriptor",
        &mut SourceFd(&stream.as_raw_fd()),
        [2, 1, 1 + ACCESS + KIND],
        [1, 1, 1],
        [1, 1, 1],
    );
    // Without an inode of its own there is nothing to ask again.
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::FromRawFd;
        // SAFETY: no pointers; the kernel has just made the descriptor, and nobody else has it.
        let event = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
        registering("a bare eventfd", &mut SourceFd(&event.as_raw_fd()), [2, 1, 1 + ACCESS], [1, 1, 0], [1, 1, 0]);
    }
    let mut source = IoSource::new(OwnedFd::from(stream));
    registering("a wrapped descriptor", &mut source, [2, 1, 1 + ACCESS + KIND], [1, 1, 1], [1, 1, 1]);
}

fn all_done(results: Vec<std::io::Result<()>>) {
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// kqueue makes all changes of a batch in one call.
fn a_batch_costs_one_call() {
    const MANY: usize = 6;
    let rig = Rig::new();
    let registry = rig.poll.registry();
    let mut pairs: Vec<_> = (0..MANY).map(|_| UnixStream::pair().unwrap()).collect();
    for _ in 0..TIMES {
        let mut batch = Batch::with_capacity(MANY);
        for (a, _) in &mut pairs {
            batch.register(a, Token(1), BOTH);
        }
        all_done(costs([1, MANY, MANY * KIND], "a batch that registers", || registry.submit(batch)));
        let mut batch = Batch::with_capacity(MANY);
        for (a, _) in &mut pairs {
            batch.reregister(a, Token(2), Interest::READABLE);
        }
        all_done(costs([1, MANY, 0], "a batch that reregisters", || registry.submit(batch)));
        let mut batch = Batch::with_capacity(MANY);
        for (a, _) in &mut pairs {
            batch.deregister(a);
        }
        all_done(costs([1, MANY, 0], "a batch that deregisters", || registry.submit(batch)));
    }
    costs([0, 0, 0], "an empty batch", || registry.submit(Batch::new()));
}

fn a_batch_of_a_thousand_costs_two_calls() {
    if kevio::BACKEND != Backend::Kqueue {
        return;
    }
    let many = 1000.min(raise_fd_limit(1500) - 200);
    let rig = Rig::new();
    let socket = std::net::UdpSocket::bind(loopback()).unwrap();
    let mut copies: Vec<_> = (0..many).map(|_| UdpSocket::from_std(socket.try_clone().unwrap())).collect();
    let mut batch = Batch::with_capacity(many);
    for copy in &mut copies {
        batch.register(copy, Token(1), Interest::READABLE);
    }
    let (results, calls) = counter::calls(|| rig.poll.registry().submit(batch));
    all_done(results);
    assert!(calls.len() * 512 < many + 512, "{calls:?}");
}

/// What does not close its descriptor is deregistered, where closing would have been enough.
fn dropping_what_is_lent_costs_one_call() {
    let rig = Rig::new();
    let (a, _b) = UnixStream::pair().unwrap();
    for _ in 0..TIMES {
        let mut lent = IoSource::new(std::os::fd::AsFd::as_fd(&a));
        rig.poll.registry().register(&mut lent, Token(1), BOTH).unwrap();
        let ((), calls) = counter::calls(|| drop(lent));
        let calls: Vec<_> = calls.into_iter().filter(|call| call != "getpid").collect();
        assert_eq!(calls.len(), here([1, 1, 0]), "{calls:?}");
    }
}

fn polling_costs_one_call() {
    let mut rig = Rig::new();
    for _ in 0..TIMES {
        // Nothing to wait for, no time, less than a millisecond, milliseconds, and not a whole number of them.
        for timeout in [0, 1, 1_000_000, 1_500_000].map(Duration::from_nanos) {
            // The first of all may find out that the kernel is too old for nanoseconds.
            assert_eq!(rig.turn(timeout), 0);
            assert_eq!(costs([1, 1, 1], &format!("waiting {timeout:?}"), || rig.turn(timeout)), 0);
        }
    }
    let (mut a, mut b) = UnixStream::pair().unwrap();
    rig.poll.registry().register(&mut a, Token(1), Interest::READABLE).unwrap();
    for _ in 0..TIMES {
        b.write_all(b"x").unwrap();
        assert_eq!(costs([1, 1, 1], "waiting for what is there", || rig.turn(TIMEOUT)), 1);
        costs([1, 1, 1], "waiting for what was told", || rig.turn(Duration::ZERO));
        let _ = std::io::Read::read(&mut a, &mut [0; 8]);
    }
}

fn a_wake_costs_one_call_and_the_next_none() {
    let mut rig = Rig::new();
    let wakers = [1, 2].map(|token| Waker::new(rig.poll.registry(), Token(token)).unwrap());
    for _ in 0..TIMES {
        costs([1, 1, 0], "a wake", || wakers[0].wake()).unwrap();
        costs([0, 0, 0], "a wake of who is awake", || wakers[0].wake()).unwrap();
        assert_eq!(costs([1, 1, 1], "the poll that is woken", || rig.turn(TIMEOUT)), 1);
        for waker in &wakers {
            costs([1, 1, 0], "a wake of one of two", || waker.wake()).unwrap();
        }
        assert_eq!(costs([1, 1, 1], "the poll that is woken twice", || rig.turn(TIMEOUT)), 2);
        assert_eq!(costs([1, 1, 1], "the poll after it", || rig.turn(Duration::ZERO)), 0);
    }
}

fn dropping_a_source_costs_its_close() {
    let rig = Rig::new();
    for _ in 0..TIMES {
        let (mut registered, mut deregistered) = UnixStream::pair().unwrap();
        for source in [&mut registered, &mut deregistered] {
            rig.poll.registry().register(source, Token(1), BOTH).unwrap();
        }
        rig.poll.registry().deregister(&mut deregistered).unwrap();
        costs([1, 1, 1], "dropping what is registered", || drop(registered));
        costs([1, 1, 1], "dropping what was registered", || drop(deregistered));
    }
}

fn accepting_costs_one_call() {
    let mut rig = Rig::new();
    let mut listener = TcpListener::bind(loopback()).unwrap();
    rig.poll.registry().register(&mut listener, Token(1), Interest::READABLE).unwrap();
    for _ in 0..TIMES {
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(rig.turn(TIMEOUT), 1);
        let (stream, _) = costs([1, 1, 1], "an accept", || listener.accept()).unwrap();
        costs([1, 1, 1], "an accept of nobody", || listener.accept()).unwrap_err();
        drop((stream, client));
    }
}

fn writing_costs_one_call() {
    let rig = Rig::new();
    let (mut sender, _receiver) = pipe::new().unwrap();
    rig.poll.registry().register(&mut sender, Token(1), Interest::WRITABLE).unwrap();
    for _ in 0..TIMES {
        assert_eq!(costs([1, 1, 1], "a write", || sender.write(b"x")).unwrap(), 1);
    }
}

/// And a look at the file, if it may have grown or have another name and that was asked for.
fn asking_a_watch_costs_one_read() {
    if let Err(error) = Watch::open(".") {
        // A row of the table of differences.
        return assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}");
    }
    let mut rig = Rig::new();
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let file = std::fs::File::options().append(true).open(&path).unwrap();
    for (asked, price) in [(FileChanges::WRITTEN, [0, 1, 1]), (FileChanges::ALL, [0, 2, 2])] {
        let mut watch = Watch::with_changes(&file, asked).unwrap();
        for _ in 0..TIMES {
            let registry = rig.poll.registry();
            costs([1, 3, 2], "registering a watch", || registry.register(&mut watch, Token(1), BOTH)).unwrap();
            for bytes in [1, 2, 3] {
                (&file).write_all(&[b'x'; 3][..bytes]).unwrap();
                assert_eq!(rig.turn(TIMEOUT), 1);
                let event = rig.events.iter().next().unwrap();
                let changes = costs(price, "asking a watch", || watch.changes(event)).unwrap();
                assert!(changes.contains(FileChanges::WRITTEN));
            }
            costs([1, 1, 0], "deregistering a watch", || rig.poll.registry().deregister(&mut watch)).unwrap();
        }
    }
}

/// FileChanges made while another thread waits in the poll.
struct Waited {
    registry: kevio::Registry,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<thread::JoinHandle<()>>,
}

impl Waited {
    fn new() -> Waited {
        let mut rig = Rig::new();
        let registry = rig.poll.registry().try_clone().unwrap();
        let waker = Waker::new(&registry, Token(0)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                rig.turn(TIMEOUT);
            }
        });
        Waited { registry, stop, waker, thread: Some(thread) }
    }

    /// `before` prepares `of`, which costs one of two prices: the second while the other thread waits. That it does cannot be
    /// seen from here, only that sooner or later it has. It is given more and more time to wait again: what `before` did
    /// may have woken it.
    fn costs<S, T>(&self, [idle, waited]: [Price; 2], what: &str, before: impl Fn() -> S, of: impl Fn(S) -> T) {
        let deadline = Instant::now() + TIMEOUT;
        for round in 0.. {
            let prepared = before();
            thread::sleep(Duration::from_millis(50.min(round)));
            let (_value, mut calls) = counter::calls(|| of(prepared));
            // Being traced this thread is slow, also while it holds the lock that the one it wakes wants.
            calls.retain(|call| call != "futex");
            assert!([here(idle), here(waited)].contains(&calls.len()), "{what}: {calls:?}");
            if calls.len() == here(waited) && round >= TIMES as u64 {
                return;
            }
            assert!(Instant::now() < deadline, "{what} never cost {} calls, last {calls:?}", here(waited));
        }
    }
}

impl Drop for Waited {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
        if !thread::panicking() {
            self.thread.take().unwrap().join().unwrap();
        }
    }
}

/// poll(2) has to be told of each change: one write(2) more.
fn changes_while_another_thread_waits() {
    let waited = Waited::new();
    let registry = &waited.registry;
    let pair = || UnixStream::pair().unwrap();
    let registered = || {
        let (mut a, b) = pair();
        registry.register(&mut a, Token(1), Interest::READABLE).unwrap();
        (a, b)
    };
    waited.costs([[1, 1, KIND], [1, 1, 1 + KIND]], "registering", pair, |(mut a, b)| {
        registry.register(&mut a, Token(1), Interest::READABLE).unwrap();
        (a, b)
    });
    waited.costs([[1, 1, 0], [1, 1, 1]], "reregistering", registered, |(mut a, b)| {
        registry.reregister(&mut a, Token(2), BOTH).unwrap();
        (a, b)
    });
    waited.costs([[1, 1, 0], [1, 1, 1]], "deregistering", registered, |(mut a, b)| {
        registry.deregister(&mut a).unwrap();
        (a, b)
    });
    waited.costs([[1, 1, 1], [1, 1, 2]], "dropping", registered, |(a, b)| {
        drop(a);
        b
    });
}

fn a_wake_while_another_thread_waits() {
    let waited = Waited::new();
    // The flag that makes further wakes free is cleared by the poll that returns.
    let another = || Waker::new(&waited.registry, Token(1)).unwrap();
    waited.costs([[1, 1, 0], [1, 1, 1]], "a wake", another, |waker| {
        waker.wake().unwrap();
        waker
    });
}
