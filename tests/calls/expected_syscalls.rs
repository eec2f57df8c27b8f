//! The expected number of system calls of each operation.

use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use kevio::event::Source;
use kevio::net::{TcpListener, UdpSocket, UnixStream};
use kevio::unix::{pipe, IoSource, SourceFd};
use kevio::{Backend, Batch, Events, FileChanges, Interest, Poll, Timer, Token, Waker, Watch};

use super::counter;
use crate::support::known_failures::{is_known_failure, Check};
use crate::support::limits::raise_fd_limit;
use crate::support::net::loopback;
use crate::support::poll::{BOTH, TIMEOUT};

/// The number of system calls on kqueue, on epoll, and on poll(2).
type Calls = [usize; 3];

fn on_this_backend(expected: Calls) -> usize {
    match kevio::BACKEND {
        Backend::Kqueue => expected[0],
        Backend::Epoll => expected[1],
        Backend::Poll => expected[2],
        other => panic!("{other} has no expected number"),
    }
}

/// One test runs all cases, because each case may run in a fork of this process. A lock that another thread holds during the
/// fork, for example a thread that starts a test, is never released in the child.
#[test]
fn every_operation_makes_the_expected_system_calls() {
    macro_rules! cases {
        ($($case:ident,)+) => { [$((stringify!($case), $case as fn())),+] };
    }
    let cases = cases![
        system_call_counter_counts_calls,
        registering_makes_one_call,
        registering_any_descriptor_probes_the_file,
        batch_makes_one_call_on_kqueue,
        batch_of_a_thousand_makes_two_calls_on_kqueue,
        dropping_a_borrowing_source_makes_one_call,
        polling_makes_one_call,
        wake_makes_a_call_only_if_the_poll_may_be_blocked,
        timers_make_no_calls,
        timer_that_becomes_the_earliest_during_a_wait_makes_one_call,
        dropping_a_source_makes_its_close_only,
        accepting_makes_one_call,
        writing_makes_one_call,
        reading_a_watch_makes_no_call,
        changes_during_a_wait_make_one_more_call_on_poll,
        wake_during_a_wait_makes_one_call,
        poll_that_spins_makes_several_calls,
        wake_during_a_spin_makes_no_call,
    ];
    for (name, case) in cases {
        println!("{name}");
        counter::run(case);
    }
}

#[track_caller]
fn expect_calls<T>(expected: Calls, operation: &str, f: impl FnOnce() -> T) -> T {
    let (value, calls) = counter::calls(f);
    assert_eq!(calls.len(), on_this_backend(expected), "{operation}: {calls:?}");
    value
}

/// Each operation is repeated, because the number must not grow.
const TIMES: usize = 3;

/// A poll and its buffer.
struct CountedPoll {
    poll: Poll,
    events: Events,
}

impl CountedPoll {
    fn new() -> CountedPoll {
        CountedPoll { poll: Poll::new().unwrap(), events: Events::with_capacity(8) }
    }

    fn poll_once(&mut self, timeout: Duration) -> usize {
        self.poll.poll(&mut self.events, Some(timeout)).unwrap();
        self.events.iter().count()
    }
}

/// Registers, reregisters and deregisters `source`.
fn expect_registering(name: &str, source: &mut impl Source, register: Calls, reregister: Calls, deregister: Calls) {
    let poll = CountedPoll::new();
    let registry = poll.poll.registry();
    for _ in 0..TIMES {
        expect_calls(register, &format!("registering {name}"), || registry.register(source, Token(1), BOTH)).unwrap();
        for interest in [Interest::READABLE, Interest::WRITABLE, BOTH] {
            let operation = format!("reregistering {name} for {interest:?}");
            expect_calls(reregister, &operation, || registry.reregister(source, Token(2), interest)).unwrap();
        }
        expect_calls(deregister, &format!("deregistering {name}"), || registry.deregister(source)).unwrap();
    }
}

/// One fcntl(2). The counter of C library functions does not count variadic functions.
const ACCESS: usize = cfg!(target_os = "linux") as usize;

/// One fstat(2): poll(2) of FreeBSD accepts `POLLRDHUP` for sockets only.
const KIND: usize = cfg!(target_os = "freebsd") as usize;

fn system_call_counter_counts_calls() {
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

fn registering_makes_one_call() {
    let (mut stream, _peer) = UnixStream::pair().unwrap();
    expect_registering("a stream", &mut stream, [1, 1, KIND], [1, 1, 0], [1, 1, 0]);
    let mut socket = UdpSocket::bind(loopback()).unwrap();
    expect_registering("a UDP socket", &mut socket, [1, 1, KIND], [1, 1, 0], [1, 1, 0]);
    let mut listener = TcpListener::bind(loopback()).unwrap();
    expect_registering("a listener", &mut listener, [1, 1, KIND], [1, 1, 0], [1, 1, 0]);
    let (mut sender, _receiver) = pipe::new().unwrap();
    expect_registering("a pipe", &mut sender, [1, 1, KIND], [1, 1, 0], [1, 1, 0]);
}

/// The descriptor may be a regular file, which kqueue and poll(2) would accept: one fstat(2) more. poll(2) also compares the
/// file at each change, and the access mode at registration (fcntl(2)), because `O_PATH` descriptors are not open.
fn registering_any_descriptor_probes_the_file() {
    let (stream, _peer) = UnixStream::pair().unwrap();
    expect_registering(
        "a raw descriptor",
        &mut SourceFd(&stream.as_raw_fd()),
        [2, 1, 1 + ACCESS + KIND],
        [1, 1, 1],
        [1, 1, 1],
    );
    // A file without an inode of its own is not compared.
    #[cfg(target_os = "linux")]
    {
        use std::os::fd::FromRawFd;
        // SAFETY: no pointers; the descriptor is new, and has no other owner.
        let event = unsafe { OwnedFd::from_raw_fd(libc::eventfd(0, libc::EFD_CLOEXEC)) };
        expect_registering(
            "a raw eventfd",
            &mut SourceFd(&event.as_raw_fd()),
            [2, 1, 1 + ACCESS],
            [1, 1, 0],
            [1, 1, 0],
        );
    }
    let mut source = IoSource::new(OwnedFd::from(stream));
    expect_registering("an owned descriptor", &mut source, [2, 1, 1 + ACCESS + KIND], [1, 1, 1], [1, 1, 1]);
}

fn assert_all_ok(results: Vec<std::io::Result<()>>) {
    assert!(results.iter().all(Result::is_ok), "{results:?}");
}

/// kqueue applies all changes of a batch in one call.
fn batch_makes_one_call_on_kqueue() {
    const MANY: usize = 6;
    let poll = CountedPoll::new();
    let registry = poll.poll.registry();
    let mut pairs: Vec<_> = (0..MANY).map(|_| UnixStream::pair().unwrap()).collect();
    for _ in 0..TIMES {
        let mut batch = Batch::with_capacity(MANY);
        for (a, _) in &mut pairs {
            batch.register(a, Token(1), BOTH);
        }
        assert_all_ok(expect_calls([1, MANY, MANY * KIND], "a batch that registers", || registry.submit(batch)));
        let mut batch = Batch::with_capacity(MANY);
        for (a, _) in &mut pairs {
            batch.reregister(a, Token(2), Interest::READABLE);
        }
        assert_all_ok(expect_calls([1, MANY, 0], "a batch that reregisters", || registry.submit(batch)));
        let mut batch = Batch::with_capacity(MANY);
        for (a, _) in &mut pairs {
            batch.deregister(a);
        }
        assert_all_ok(expect_calls([1, MANY, 0], "a batch that deregisters", || registry.submit(batch)));
    }
    expect_calls([0, 0, 0], "an empty batch", || registry.submit(Batch::new()));
}

fn batch_of_a_thousand_makes_two_calls_on_kqueue() {
    if kevio::BACKEND != Backend::Kqueue {
        return;
    }
    let many = 1000.min(raise_fd_limit(1500) - 200);
    let poll = CountedPoll::new();
    let socket = std::net::UdpSocket::bind(loopback()).unwrap();
    let mut copies: Vec<_> = (0..many).map(|_| UdpSocket::from_std(socket.try_clone().unwrap())).collect();
    let mut batch = Batch::with_capacity(many);
    for copy in &mut copies {
        batch.register(copy, Token(1), Interest::READABLE);
    }
    let (results, calls) = counter::calls(|| poll.poll.registry().submit(batch));
    assert_all_ok(results);
    if !is_known_failure(Check::LongChangelist) {
        assert!(calls.len() * 512 < many + 512, "{calls:?}");
    }
}

/// A source that does not close its descriptor deregisters when dropped.
fn dropping_a_borrowing_source_makes_one_call() {
    let poll = CountedPoll::new();
    let (a, _b) = UnixStream::pair().unwrap();
    for _ in 0..TIMES {
        let mut source = IoSource::new(std::os::fd::AsFd::as_fd(&a));
        poll.poll.registry().register(&mut source, Token(1), BOTH).unwrap();
        let ((), calls) = counter::calls(|| drop(source));
        let calls: Vec<_> = calls.into_iter().filter(|call| call != "getpid").collect();
        assert_eq!(calls.len(), on_this_backend([1, 1, 0]), "{calls:?}");
    }
}

fn polling_makes_one_call() {
    let mut poll = CountedPoll::new();
    for _ in 0..TIMES {
        // Timeouts: zero, less than a millisecond, a millisecond, and a fraction of milliseconds.
        for timeout in [0, 1, 1_000_000, 1_500_000].map(Duration::from_nanos) {
            // The first wait may detect that the kernel has no nanosecond waits.
            assert_eq!(poll.poll_once(timeout), 0);
            assert_eq!(expect_calls([1, 1, 1], &format!("waiting {timeout:?}"), || poll.poll_once(timeout)), 0);
        }
    }
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.poll.registry().register(&mut a, Token(1), Interest::READABLE).unwrap();
    for _ in 0..TIMES {
        b.write_all(b"x").unwrap();
        assert_eq!(expect_calls([1, 1, 1], "waiting for a ready source", || poll.poll_once(TIMEOUT)), 1);
        expect_calls([1, 1, 1], "waiting after the event", || poll.poll_once(Duration::ZERO));
        let _ = std::io::Read::read(&mut a, &mut [0; 8]);
    }
}

fn wake_makes_a_call_only_if_the_poll_may_be_blocked() {
    let mut poll = CountedPoll::new();
    let wakers = [1, 2].map(|token| Waker::new(poll.poll.registry(), Token(token)).unwrap());
    for _ in 0..TIMES {
        expect_calls([1, 1, 1], "a wake", || wakers[0].wake()).unwrap();
        expect_calls([0, 0, 0], "a coalesced wake", || wakers[0].wake()).unwrap();
        expect_calls([0, 0, 0], "a wake of another waker", || wakers[1].wake()).unwrap();
        // poll(2) drains the notification. Some systems do not count this read(2).
        let (reported, mut calls) = counter::calls(|| poll.poll_once(TIMEOUT));
        calls.retain(|call| kevio::BACKEND != Backend::Poll || call != "read");
        assert_eq!((reported, calls.len()), (2, 1), "the poll that is woken: {calls:?}");
        for waker in &wakers {
            expect_calls([0, 0, 0], "a wake of an awake poll", || waker.wake()).unwrap();
        }
        assert_eq!(expect_calls([1, 1, 1], "the poll that is woken twice", || poll.poll_once(TIMEOUT)), 2);
        assert_eq!(expect_calls([1, 1, 1], "the poll after it", || poll.poll_once(Duration::ZERO)), 0);
    }
}

fn timers_make_no_calls() {
    let mut poll = CountedPoll::new();
    let far = Duration::from_secs(3600);
    let mut first = Timer::after(far).unwrap();
    poll.poll.registry().register(&mut first, Token(1), Interest::READABLE).unwrap();
    for _ in 0..TIMES {
        let registry = poll.poll.registry();
        let mut timer = expect_calls([0, 0, 0], "creating a timer", || Timer::after(far).unwrap());
        expect_calls([0, 0, 0], "registering a timer", || registry.register(&mut timer, Token(2), Interest::READABLE))
            .unwrap();
        expect_calls([0, 0, 0], "setting a timer", || timer.set_after(far)).unwrap();
        expect_calls([0, 0, 0], "setting the earliest timer", || timer.set_at(Instant::now())).unwrap();
        expect_calls([0, 0, 0], "setting a period", || timer.set_every(far)).unwrap();
        expect_calls([0, 0, 0], "cancelling a timer", || timer.cancel()).unwrap();
        expect_calls([0, 0, 0], "reregistering a timer", || {
            registry.reregister(&mut timer, Token(3), Interest::READABLE)
        })
        .unwrap();
        timer.set_after(Duration::ZERO).unwrap();
        assert_eq!(expect_calls([1, 1, 1], "the poll that reports a timer", || poll.poll_once(Duration::ZERO)), 1);
        expect_calls([0, 0, 0], "dropping a timer", || drop(timer));
        // The first of these polls sets the timer of the kernel.
        poll.poll_once(Duration::ZERO);
        assert_eq!(expect_calls([1, 1, 1], "a poll with an armed timer", || poll.poll_once(Duration::ZERO)), 0);
    }
}

fn timer_that_becomes_the_earliest_during_a_wait_makes_one_call() {
    let blocked = BlockedPoll::new();
    let mut first = Timer::after(Duration::from_secs(3600)).unwrap();
    blocked.registry.register(&mut first, Token(1), Interest::READABLE).unwrap();
    let registered = || {
        let mut timer = Timer::new().unwrap();
        blocked.registry.register(&mut timer, Token(1), Interest::READABLE).unwrap();
        timer
    };
    // The timer of the kernel stays set for the timers of earlier rounds, so that each round sets an earlier time.
    let seconds = std::cell::Cell::new(3000);
    blocked.expect_calls([[0, 0, 0], [1, 1, 1]], "setting the earliest timer", registered, |mut timer| {
        seconds.set(seconds.get() - 10);
        timer.set_after(Duration::from_secs(seconds.get())).unwrap();
        timer
    });
    blocked.expect_calls([[0, 0, 0], [0, 0, 0]], "setting a later timer", registered, |mut timer| {
        timer.set_after(Duration::from_secs(7200)).unwrap();
        timer
    });
}

fn dropping_a_source_makes_its_close_only() {
    let poll = CountedPoll::new();
    for _ in 0..TIMES {
        let (mut registered, mut deregistered) = UnixStream::pair().unwrap();
        for source in [&mut registered, &mut deregistered] {
            poll.poll.registry().register(source, Token(1), BOTH).unwrap();
        }
        poll.poll.registry().deregister(&mut deregistered).unwrap();
        expect_calls([1, 1, 1], "dropping a registered source", || drop(registered));
        expect_calls([1, 1, 1], "dropping a deregistered source", || drop(deregistered));
    }
}

fn accepting_makes_one_call() {
    let mut poll = CountedPoll::new();
    let mut listener = TcpListener::bind(loopback()).unwrap();
    poll.poll.registry().register(&mut listener, Token(1), Interest::READABLE).unwrap();
    for _ in 0..TIMES {
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(poll.poll_once(TIMEOUT), 1);
        let (stream, _) = expect_calls([1, 1, 1], "an accept", || listener.accept()).unwrap();
        expect_calls([1, 1, 1], "an accept without a client", || listener.accept()).unwrap_err();
        drop((stream, client));
    }
}

fn writing_makes_one_call() {
    let poll = CountedPoll::new();
    let (mut sender, _receiver) = pipe::new().unwrap();
    poll.poll.registry().register(&mut sender, Token(1), Interest::WRITABLE).unwrap();
    for _ in 0..TIMES {
        assert_eq!(expect_calls([1, 1, 1], "a write", || sender.write(b"x")).unwrap(), 1);
    }
}

/// The polling thread has read the changes.
fn reading_a_watch_makes_no_call() {
    if let Err(error) = Watch::open(".") {
        // See the table of differences.
        return assert_eq!(error.kind(), std::io::ErrorKind::Unsupported, "{error}");
    }
    let mut poll = CountedPoll::new();
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    let file = std::fs::File::options().append(true).open(&path).unwrap();
    // The first watch of a poll opens the inotify instance.
    let mut first = Watch::open("/").unwrap();
    poll.poll.registry().register(&mut first, Token(2), BOTH).unwrap();
    for requested in [FileChanges::WRITTEN, FileChanges::ALL] {
        let mut watch = Watch::with_changes(&file, requested).unwrap();
        for _ in 0..TIMES {
            let registry = poll.poll.registry();
            expect_calls([1, 2, 2], "registering a watch", || registry.register(&mut watch, Token(1), BOTH)).unwrap();
            for bytes in [1, 2, 3] {
                (&file).write_all(&[b'x'; 3][..bytes]).unwrap();
                assert_eq!(poll.poll_once(TIMEOUT), 1);
                let event = poll.events.iter().next().unwrap();
                let changes = expect_calls([0, 0, 0], "reading a watch", || watch.changes(event)).unwrap();
                assert!(changes.contains(FileChanges::WRITTEN));
            }
            expect_calls([1, 1, 1], "deregistering a watch", || poll.poll.registry().deregister(&mut watch)).unwrap();
        }
    }
}

/// Operations while another thread is blocked in `poll`.
struct BlockedPoll {
    registry: kevio::Registry,
    stop: Arc<AtomicBool>,
    waker: Waker,
    thread: Option<thread::JoinHandle<()>>,
}

impl BlockedPoll {
    fn new() -> BlockedPoll {
        let mut poll = CountedPoll::new();
        let registry = poll.poll.registry().try_clone().unwrap();
        let waker = Waker::new(&registry, Token(0)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                // A wait without an end, so that every timer ends before it.
                poll.poll.poll_until(&mut poll.events, None).unwrap();
            }
        });
        BlockedPoll { registry, stop, waker, thread: Some(thread) }
    }

    /// Runs `before`, and counts the calls of `f`, which depend on whether the other thread is blocked. This thread cannot
    /// detect that, so that rounds are repeated until the second number is counted. Each round sleeps longer, because
    /// `before` may have woken the other thread.
    fn expect_calls<S, T>(
        &self,
        [idle, blocked]: [Calls; 2],
        operation: &str,
        before: impl Fn() -> S,
        f: impl Fn(S) -> T,
    ) {
        let deadline = Instant::now() + TIMEOUT;
        for round in 0.. {
            let prepared = before();
            thread::sleep(Duration::from_millis(50.min(round)));
            let (_value, mut calls) = counter::calls(|| f(prepared));
            // The traced thread is slow while it holds the lock, so that the woken thread may block on the lock.
            calls.retain(|call| call != "futex");
            assert!([on_this_backend(idle), on_this_backend(blocked)].contains(&calls.len()), "{operation}: {calls:?}");
            if calls.len() == on_this_backend(blocked) && round >= TIMES as u64 {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "{operation} never made {} calls, last {calls:?}",
                on_this_backend(blocked)
            );
        }
    }
}

impl Drop for BlockedPoll {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _ = self.waker.wake();
        if !thread::panicking() {
            self.thread.take().unwrap().join().unwrap();
        }
    }
}

/// A change wakes a blocked poll(2): one write(2) more.
fn changes_during_a_wait_make_one_more_call_on_poll() {
    let blocked = BlockedPoll::new();
    let registry = &blocked.registry;
    let pair = || UnixStream::pair().unwrap();
    let registered = || {
        let (mut a, b) = pair();
        registry.register(&mut a, Token(1), Interest::READABLE).unwrap();
        (a, b)
    };
    blocked.expect_calls([[1, 1, KIND], [1, 1, 1 + KIND]], "registering", pair, |(mut a, b)| {
        registry.register(&mut a, Token(1), Interest::READABLE).unwrap();
        (a, b)
    });
    blocked.expect_calls([[1, 1, 0], [1, 1, 1]], "reregistering", registered, |(mut a, b)| {
        registry.reregister(&mut a, Token(2), BOTH).unwrap();
        (a, b)
    });
    blocked.expect_calls([[1, 1, 0], [1, 1, 1]], "deregistering", registered, |(mut a, b)| {
        registry.deregister(&mut a).unwrap();
        (a, b)
    });
    blocked.expect_calls([[1, 1, 1], [1, 1, 2]], "dropping", registered, |(a, b)| {
        drop(a);
        b
    });
}

fn wake_during_a_wait_makes_one_call() {
    let blocked = BlockedPoll::new();
    // A new waker is not woken yet. A wake while the other thread handles the event of another wake makes no call.
    let another = || Waker::new(&blocked.registry, Token(1)).unwrap();
    blocked.expect_calls([[0, 0, 0], [1, 1, 1]], "a wake", another, |waker| {
        waker.wake().unwrap();
        waker
    });
}

fn poll_that_spins_makes_several_calls() {
    let mut polled = CountedPoll::new();
    polled.poll.set_spin(Duration::from_secs(1));
    let wait = Duration::from_millis(20);
    for _ in 0..TIMES {
        let (_, calls) = counter::calls(|| polled.poll_once(wait));
        assert!(calls.len() > 1, "{calls:?}");
    }
    expect_calls([1, 1, 1], "a poll without a timeout", || polled.poll_once(Duration::ZERO));
    polled.poll.set_spin(Duration::ZERO);
    expect_calls([1, 1, 1], "a poll that does not spin", || polled.poll_once(wait));
}

fn wake_during_a_spin_makes_no_call() {
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
    poll.set_spin(TIMEOUT);
    let waker = Waker::new(poll.registry(), Token(1)).unwrap();
    let answers = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let answered = |number| {
        let deadline = Instant::now() + TIMEOUT;
        while answers.load(Ordering::SeqCst) < number {
            assert!(Instant::now() < deadline, "wake {number} is not reported");
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::SeqCst) {
                poll.poll(&mut events, Some(TIMEOUT)).unwrap();
                answers.fetch_add(events.iter().count(), Ordering::SeqCst);
            }
        });
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            // The first wake may come before the first poll.
            waker.wake().unwrap();
            answered(1);
            for number in 2..10 {
                expect_calls([0, 0, 0], "a wake during a spin", || waker.wake()).unwrap();
                answered(number);
            }
        }));
        // Ends the thread also after a panic.
        is_over.store(true, Ordering::SeqCst);
        waker.wake().unwrap();
        result.unwrap();
    });
}
