//! Load and faults: many threads, many descriptors, continuous signals.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use kevio::net::TcpStream;
use kevio::{Registry, Token, Waker};

#[cfg(unix)]
use crate::support::handler;
use crate::support::limits::raise_fd_limit_to_default;
use crate::support::net::{drain, listener};
use crate::support::poll::{TestPoll, BOTH, READ, TIMEOUT};
use crate::support::process::run_alone;
use crate::support::readiness::{E, R, W};
use crate::support::streams::{kevio_pair, raw, OwnedSource, SourceFd, Stream};
use crate::support::system::is_wine;

/// Registers, reregisters and deregisters `times` times, then registers.
fn change(registry: &Registry, stream: &mut Stream, is_raw: bool, token: Token, times: usize) {
    let number = raw(stream);
    let mut raw = SourceFd(&number);
    let source: &mut dyn kevio::event::Source = if is_raw { &mut raw } else { stream };
    for _ in 0..times {
        registry.register(source, token, BOTH).unwrap();
        registry.reregister(source, token, READ).unwrap();
        registry.deregister(source).unwrap();
    }
    assert_eq!(registry.deregister(source).unwrap_err().kind(), ErrorKind::NotFound);
    registry.register(source, token, READ).unwrap();
}

#[test]
fn changes_of_eight_threads_take_effect_during_polls() {
    const THREADS: usize = 8;
    const EACH: usize = 10_000;
    let mut poll = TestPoll::new();
    let threads: Vec<_> = (0..THREADS)
        .map(|token| {
            let registry = poll.registry().try_clone().unwrap();
            thread::spawn(move || {
                let (mut a, b) = kevio_pair();
                change(&registry, &mut a, token % 2 == 0, Token(token), EACH);
                (a, b)
            })
        })
        .collect();
    while !threads.iter().all(thread::JoinHandle::is_finished) {
        for (token, reported) in poll.poll_once(Some(Duration::from_millis(5))) {
            assert!(token < THREADS && !reported.has(E), "{token}: {reported:?}");
        }
    }
    let mut pairs: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    poll.expect_no_events();
    // The last registration of each thread is in effect.
    for (_, b) in &mut pairs {
        b.write_all(b"x").unwrap();
    }
    poll.expect_all(&(0..THREADS).map(|token| (token, R)).collect::<Vec<_>>());
}

#[test]
fn five_thousand_ready_sources_are_all_reported() {
    const CAPACITY: usize = 64;
    let limit = raise_fd_limit_to_default();
    // Other tests of the process need descriptors too.
    let mut n = (limit - limit / 4).min(5_000);
    if is_wine() {
        // A request for a socket costs the server of wine a step for each other request for that socket.
        n = 1_000;
    }
    if n < 5_000 {
        println!("{n} instead of 5000: no more than {limit} descriptors are allowed");
    }
    // All are copies of one socket, so that one byte makes all of them readable.
    let (first, mut peer) = kevio_pair();
    let first = OwnedSource::from(first);
    let mut copies: Vec<_> = (0..n).map(|_| Stream::from(first.try_clone().unwrap())).collect();
    let mut poll = TestPoll::with_capacity(CAPACITY);
    for (token, copy) in copies.iter_mut().enumerate() {
        poll.register(copy, token, READ);
    }
    poll.expect_no_events();
    for round in 0..3 {
        peer.write_all(b"x").unwrap();
        let deadline = Instant::now() + TIMEOUT;
        let (mut seen, mut missing, mut events) = (vec![false; n], n, 0);
        while missing > 0 {
            assert!(Instant::now() < deadline, "round {round}: {missing} of {n} were not reported");
            for (token, reported) in poll.poll_once(Some(TIMEOUT)) {
                assert!(reported.has(R), "{token}: {reported:?}");
                missing -= usize::from(!std::mem::replace(&mut seen[token], true));
            }
            assert!(poll.events.iter().count() <= CAPACITY);
            events += poll.events.iter().count();
        }
        assert!(events <= 2 * n, "{events} events for {n} descriptors");
        // One copy reads the byte.
        assert_eq!(copies.iter_mut().map(|copy| drain(copy).0).sum::<usize>(), 1);
    }
    poll.expect_no_events();
}

/// Sends SIGUSR1 to the thread that created this value, again and again, until dropped.
///
/// The times between two signals vary, so that signals interrupt every operation. Without a pause the thread could spend all its
/// time in the handler.
#[cfg(unix)]
struct SignalSender {
    stop: Arc<AtomicBool>,
    sender: Option<thread::JoinHandle<()>>,
    /// A handler belongs to the process, so that only one test may use the signal.
    _alone: MutexGuard<'static, ()>,
}

#[cfg(unix)]
static HANDLED: AtomicUsize = AtomicUsize::new(0);

#[cfg(unix)]
impl SignalSender {
    fn new(flags: libc::c_int) -> SignalSender {
        extern "C" fn handler(_: libc::c_int) {
            HANDLED.fetch_add(1, Ordering::Relaxed);
        }
        let alone = run_alone();
        HANDLED.store(0, Ordering::Relaxed);
        handler::install(libc::SIGUSR1, handler, flags);
        // SAFETY: no arguments.
        let target = unsafe { libc::pthread_self() } as usize;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let sender = thread::spawn(move || {
            for pause in (0..3_000).step_by(37).cycle() {
                if stopped.load(Ordering::Relaxed) {
                    break;
                }
                // SAFETY: the thread joins this one before it ends.
                unsafe { libc::pthread_kill(target as libc::pthread_t, libc::SIGUSR1) };
                (0..pause).for_each(|_| std::hint::spin_loop());
            }
        });
        SignalSender { stop, sender: Some(sender), _alone: alone }
    }
}

#[cfg(unix)]
impl Drop for SignalSender {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.sender.take().unwrap().join().unwrap();
        assert!(thread::panicking() || HANDLED.load(Ordering::Relaxed) > 0, "no signal was handled");
    }
}

/// Repeats `f` under signals, with and without SA_RESTART, until enough signals were handled. The number of signals in a
/// second depends on the number of processors.
#[cfg(unix)]
fn under_signals(mut f: impl FnMut()) {
    const MIN_SIGNALS: usize = 1_000;
    for flags in [0, libc::SA_RESTART] {
        let signals = SignalSender::new(flags);
        let start = Instant::now();
        f();
        while HANDLED.load(Ordering::Relaxed) < MIN_SIGNALS && start.elapsed() < Duration::from_millis(700) {
            f();
        }
        drop(signals);
    }
}

/// Runs `f` once: Windows has no signals.
#[cfg(windows)]
fn under_signals(mut f: impl FnMut()) {
    f();
}

#[test]
fn registry_changes_succeed_under_signals() {
    const ROUNDS: usize = 50;
    under_signals(|| {
        let mut poll = TestPoll::new();
        for round in 0..ROUNDS {
            let (mut a, mut b) = kevio_pair();
            let number = raw(&a);
            let mut raw = SourceFd(&number);
            let source: &mut dyn kevio::event::Source = if round % 2 == 0 { &mut a } else { &mut raw };
            let registry = poll.registry().try_clone().unwrap();
            registry.register(source, Token(1), READ).unwrap();
            if kevio::BACKEND != kevio::Backend::Kqueue {
                let again = registry.register(source, Token(9), READ);
                assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
            }
            assert_eq!(b.write(b"x").unwrap(), 1);
            poll.expect(1, R);
            registry.reregister(source, Token(2), BOTH).unwrap();
            poll.expect(2, R | W);
            registry.deregister(source).unwrap();
            assert_eq!(registry.deregister(source).unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(registry.reregister(source, Token(3), BOTH).unwrap_err().kind(), ErrorKind::NotFound);
            assert_eq!(b.write(b"y").unwrap(), 1);
            poll.expect_no_events();
            registry.register(source, Token(4), READ).unwrap();
            poll.expect(4, R);
            assert_eq!(a.read(&mut [0; 4]).unwrap(), 2);
            if round % 2 == 0 {
                registry.deregister(&mut SourceFd(&number)).unwrap();
            }
        }
    });
}

/// Another thread, which receives no signals, registers ready sources and wakes, while this thread waits.
#[test]
fn waits_report_every_event_under_signals() {
    const ROUNDS: usize = 50;
    under_signals(|| {
        let mut poll = TestPoll::new();
        let registry = poll.registry().try_clone().unwrap();
        let waker = Waker::new(&registry, Token(ROUNDS)).unwrap();
        let (go, gone) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            for token in 0..ROUNDS {
                gone.recv().unwrap();
                let (mut a, mut b) = kevio_pair();
                b.write_all(b"x").unwrap();
                registry.register(&mut a, Token(token), READ).unwrap();
                gone.recv().unwrap();
                drop(a);
                waker.wake().unwrap();
            }
            // Dropping a waker would discard its wake.
            waker
        });
        for token in 0..ROUNDS {
            go.send(()).unwrap();
            poll.expect(token, R);
            go.send(()).unwrap();
            poll.expect(ROUNDS, R);
        }
        let _waker = other.join().unwrap();
        poll.expect_no_events();
    });
}

/// A connection of the server below: reads until the end of file, and then writes all bytes back.
struct Connection {
    stream: TcpStream,
    bytes: Vec<u8>,
    returned: Option<usize>,
}

impl Connection {
    /// Reads and writes until `WouldBlock`. Returns `true` if the connection is done.
    fn run(&mut self) -> bool {
        let is_blocked = |error: &io::Error| {
            assert_eq!(error.kind(), ErrorKind::WouldBlock);
            true
        };
        let mut buffer = [0; 4096];
        while self.returned.is_none() {
            match self.stream.read(&mut buffer) {
                Ok(0) => self.returned = Some(0),
                Ok(n) => self.bytes.extend(&buffer[..n]),
                Err(error) => return !is_blocked(&error),
            }
        }
        while let Some(rest) = self.returned.map(|n| &self.bytes[n..]).filter(|rest| !rest.is_empty()) {
            match self.stream.write(&rest[..rest.len().min(5000)]) {
                Ok(n) => self.returned = self.returned.map(|all| all + n),
                Err(error) => return !is_blocked(&error),
            }
        }
        true
    }
}

#[test]
fn every_byte_arrives_under_signals() {
    const CLIENTS: usize = 8;
    const BYTES: usize = 200_000;
    const LISTENER: usize = usize::MAX;
    under_signals(|| {
        let mut poll = TestPoll::new();
        let (mut listener, address) = listener();
        poll.register(&mut listener, LISTENER, READ);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                thread::spawn(move || {
                    let sent: Vec<u8> = (0..BYTES).map(|i| (i * (2 * client + 1) / 7) as u8).collect();
                    let mut stream = std::net::TcpStream::connect(address).unwrap();
                    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
                    stream.write_all(&sent).unwrap();
                    stream.shutdown(Shutdown::Write).unwrap();
                    let mut returned = Vec::new();
                    stream.read_to_end(&mut returned).unwrap();
                    assert!(returned == sent, "{} bytes of {BYTES}, or others", returned.len());
                })
            })
            .collect();
        let mut connections = HashMap::new();
        let (mut accepted, mut done) = (0, 0);
        while done < CLIENTS {
            let reported =
                poll.until(|reported| !reported.is_empty(), || format!("more: {accepted} accepted, {done} done"));
            for token in reported.into_keys() {
                if token != LISTENER {
                    if connections.get_mut(&token).is_some_and(Connection::run) {
                        connections.remove(&token);
                        done += 1;
                    }
                    continue;
                }
                loop {
                    let mut stream = match listener.accept() {
                        Ok((stream, _)) => stream,
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => panic!("{error}"),
                    };
                    poll.register(&mut stream, accepted, BOTH);
                    connections.insert(accepted, Connection { stream, bytes: Vec::new(), returned: None });
                    accepted += 1;
                }
            }
        }
        clients.into_iter().for_each(|client| client.join().unwrap());
        assert_eq!((accepted, connections.len()), (CLIENTS, 0));
    });
}
