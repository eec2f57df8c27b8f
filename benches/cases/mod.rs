//! The cases. Each case is one function that is generic over the [`Subject`]; README.md describes the cases.

#[cfg(target_os = "linux")]
pub mod bare;
#[cfg(all(has_kqueue, not(links_libkqueue)))]
pub mod bare_kqueue;
mod pinned;
mod raw;
pub mod subject;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::pinned::pin_thread;
pub use self::raw::Stream;
use self::raw::{raw, Idle, OwnedSource};
use self::subject::{Kevio, Mio, Polling, RawSubject, Subject, LAST};
use super::setup::allow_descriptors;

pub const NOW: Option<Duration> = Some(Duration::ZERO);

/// Repeats the operation of a case, and returns the time of all repetitions.
pub type Iterations = Box<dyn FnMut(u64) -> Duration>;

/// The name of a subject, and the function that prepares a case for it.
pub type Contestant = (&'static str, Box<dyn Fn() -> Iterations>);

pub struct Case {
    pub name: String,
    /// The number of operations in each iteration. The reported time is the time per operation.
    pub operations: u32,
    pub contestants: Vec<Contestant>,
}

#[allow(clippy::vec_init_then_push)] // A system with a bare subject pushes more in the same place.
pub fn all() -> Vec<Case> {
    /// A case with all subjects. With `calls`, the bare poll(2) is left out, because it would make no call. mio registers no raw
    /// sockets of Windows: `mio if unix`.
    macro_rules! case {
        ($name:expr, $operations:expr, $case:ident($($argument:expr)?), calls $(, mio if $mio:meta)?) => {{
            let mut contestants: Vec<Contestant> = Vec::new();
            contestants.push((Kevio::NAME, Box::new(|| $case::<Kevio>($($argument)?))));
            $(#[cfg($mio)])?
            contestants.push((Mio::NAME, Box::new(|| $case::<Mio>($($argument)?))));
            contestants.push((Polling::NAME, Box::new(|| $case::<Polling>($($argument)?))));
            #[cfg(target_os = "linux")]
            if kevio::BACKEND == kevio::Backend::Epoll {
                contestants.push((bare::Epoll::NAME, Box::new(|| $case::<bare::Epoll>($($argument)?))));
            }
            #[cfg(all(has_kqueue, not(links_libkqueue)))]
            if kevio::BACKEND == kevio::Backend::Kqueue {
                contestants.push((bare_kqueue::Kqueue::NAME, Box::new(|| $case::<bare_kqueue::Kqueue>($($argument)?))));
            }
            Case { name: $name.to_string(), operations: $operations, contestants }
        }};
        ($name:expr, $operations:expr, $case:ident($($argument:expr)?) $(, mio if $mio:meta)?) => {{
            #[allow(unused_mut)] // Systems without a bare poll(2).
            let mut case = case!($name, $operations, $case($($argument)?), calls $(, mio if $mio)?);
            #[cfg(target_os = "linux")]
            if kevio::BACKEND == kevio::Backend::Poll {
                case.contestants.push((bare::Poll::NAME, Box::new(|| $case::<bare::Poll>($($argument)?))));
            }
            case
        }};
    }
    vec![
        case!("register+deregister", 1, register_deregister(), calls),
        case!("register+deregister, descriptor", 1, add_remove(), calls, mio if unix),
        case!("reregister", 1, reregister(), calls),
        case!("reregister, descriptor", 1, change(), calls, mio if unix),
        case!("register 1 000", 1000, register_all(), calls),
        case!("register while waiting", 1, register_while_waiting(), calls),
        case!("poll, 1 idle", 1, poll_nothing(1)),
        case!("poll, 1 000 idle", 1, poll_nothing(1000)),
        case!("poll, 5 000 idle", 1, poll_nothing(5000)),
        case!("one ready, 1 idle", 1, one_ready(1)),
        case!("one ready, 1 000 idle", 1, one_ready(1000)),
        case!("one ready, 5 000 idle", 1, one_ready(5000)),
        case!("1 024 ready, each", 1024, many_ready()),
        case!("1 024 ready descriptors, each", 1024, many_ready_descriptors(), mio if unix),
        case!("wake when awake", 1, wake_when_awake()),
        case!("wake, poll", 1, wake_and_poll()),
        case!("wake round trip", 1, round_trip()),
        case!("echo, 1 connection", 1, echo(1)),
        case!("echo, 256 connections, each", 256, echo(256)),
        case!("connect, accept, close", 1, accept_loop()),
    ]
}

pub fn time(f: impl FnOnce()) -> Duration {
    let mut f = Some(f);
    let start = Instant::now();
    timed(&mut || f.take().expect("timed calls the function once")());
    start.elapsed()
}

/// Calls the timed function. `benches/instructions` counts the instructions inside the function of this name.
#[inline(never)]
fn timed(f: &mut dyn FnMut()) {
    f();
}

/// Returns a non-blocking socket and its peer.
pub fn pair() -> (OwnedSource, Stream) {
    let (a, b) = raw::streams();
    a.set_nonblocking(true).unwrap();
    (a.into(), b)
}

/// Returns a TCP connection: the non-blocking end of the server, and the blocking end of the client.
fn connection(listener: &TcpListener) -> (OwnedSource, TcpStream) {
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (server, _) = listener.accept().unwrap();
    server.set_nonblocking(true).unwrap();
    for end in [&server, &client] {
        end.set_nodelay(true).unwrap();
    }
    (server.into(), client)
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

/// Accepts a connection with accept4(2), for subjects without a listener type.
fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let socket = socket2::SockRef::from(listener);
    #[cfg(any(target_os = "linux", all(has_kqueue, not(links_libkqueue), not(target_vendor = "apple"))))]
    let accepted = socket.accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    #[cfg(not(any(target_os = "linux", all(has_kqueue, not(links_libkqueue), not(target_vendor = "apple")))))]
    let accepted =
        socket.accept().and_then(|(socket, address)| socket.set_nonblocking(true).map(|()| (socket, address)));
    accepted.ok().map(|(socket, _)| socket.into())
}

/// Registers `n` descriptors that never become ready. All subjects share them. The returned sockets keep the registrations.
fn register_idle<S: Idle>(registry: &S::Registry, n: usize) -> Vec<S::Socket> {
    static IDLE: OnceLock<Vec<Stream>> = OnceLock::new();
    let idle = IDLE.get_or_init(|| {
        allow_descriptors();
        (0..2500).flat_map(|_| <[Stream; 2]>::from(raw::streams())).collect()
    });
    idle[..n].iter().enumerate().filter_map(|(token, stream)| S::add_idle(registry, stream, token)).collect()
}

/// A socket with its peer, and a subject for the registration.
struct Fixture<S: Subject> {
    subject: S,
    registry: S::Registry,
    socket: S::Socket,
    peer: Stream,
}

impl<S: Subject> Fixture<S> {
    fn new() -> Fixture<S> {
        let subject = S::new(1024);
        let (socket, peer) = pair();
        Fixture { registry: subject.registry(), subject, socket: S::socket(socket), peer }
    }
}

fn register_deregister<S: Subject>() -> Iterations {
    let mut fixture = Fixture::<S>::new();
    Box::new(move |count| {
        let fixture = &mut fixture; // The closure owns all parts: the other end of the connection stays open.
        time(|| {
            for _ in 0..count {
                S::register(&fixture.registry, &mut fixture.socket, 1);
                S::deregister(&fixture.registry, &mut fixture.socket);
            }
        })
    })
}

fn reregister<S: Subject>() -> Iterations {
    let mut fixture = Fixture::<S>::new();
    S::register(&fixture.registry, &mut fixture.socket, 1);
    Box::new(move |count| {
        let fixture = &mut fixture; // As above.
        time(|| (0..count).for_each(|_| S::reregister(&fixture.registry, &mut fixture.socket, 1)))
    })
}

fn add_remove<S: RawSubject>() -> Iterations {
    let fixture = Fixture::<S>::new();
    Box::new(move |count| {
        let fixture = &fixture; // As above.
        let fd = raw(&fixture.peer);
        time(|| {
            for _ in 0..count {
                S::add(&fixture.registry, fd, 1);
                S::remove(&fixture.registry, fd);
            }
        })
    })
}

fn change<S: RawSubject>() -> Iterations {
    let fixture = Fixture::<S>::new();
    S::add(&fixture.registry, raw(&fixture.peer), 1);
    Box::new(move |count| {
        let fixture = &fixture; // As above.
        let fd = raw(&fixture.peer);
        time(|| (0..count).for_each(|_| S::change(&fixture.registry, fd, 1)))
    })
}

fn register_all<S: Subject>() -> Iterations {
    allow_descriptors();
    let subject = S::new(1024);
    let registry = subject.registry();
    let mut sockets: Vec<S::Socket> = (0..500)
        .flat_map(|_| {
            let (a, b) = pair();
            b.set_nonblocking(true).unwrap();
            [a, b.into()].map(S::socket)
        })
        .collect();
    Box::new(move |count| {
        let _subject = &subject;
        let mut elapsed = Duration::ZERO;
        for _ in 0..count {
            elapsed += time(|| S::register_all(&registry, &mut sockets));
            sockets.iter_mut().for_each(|socket| S::deregister(&registry, socket));
        }
        elapsed
    })
}

fn poll_nothing<S: Idle>(idle: usize) -> Iterations {
    let mut subject = S::new(1024);
    let idle = register_idle::<S>(&subject.registry(), idle);
    Box::new(move |count| {
        let _registered = &idle;
        time(|| (0..count).for_each(|_| subject.poll_once(NOW, |_| unreachable!("nothing is ready"))))
    })
}

fn one_ready<S: Idle>(idle: usize) -> Iterations {
    let mut fixture = Fixture::<S>::new();
    let idle = register_idle::<S>(&fixture.registry, idle);
    S::register(&fixture.registry, &mut fixture.socket, LAST);
    Box::new(move |count| {
        let _registered = &idle;
        time(|| {
            for _ in 0..count {
                fixture.peer.write_all(b"x").unwrap();
                let mut ready = 0;
                fixture.subject.poll_once(None, |token| ready += usize::from(token == LAST));
                assert_eq!(ready, 1);
                while fixture.socket.read(&mut [0; 8]).is_ok() {}
                S::drained(&fixture.registry, &fixture.socket, LAST);
            }
        })
    })
}

/// Times the wait and the iteration over the events, but not the reregistration, which makes the sockets ready again.
/// Returns 1 024 sockets with a byte to read, and their peers.
fn readable_sockets() -> (Vec<OwnedSource>, Vec<Stream>) {
    allow_descriptors();
    let ready = || {
        let (socket, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        (socket, peer)
    };
    (0..1024).map(|_| ready()).unzip()
}

/// Polls until the events of the tokens 0 to 1 023 have come, again and again. `rearm` then lets the tokens be reported again.
fn poll_many<S: Subject>(mut subject: S, mut rearm: impl FnMut(usize) + 'static) -> Iterations {
    Box::new(move |count| {
        let mut elapsed = Duration::ZERO;
        for _ in 0..count {
            let (mut sum, all) = (0, 1023 * 1024 / 2);
            // libkqueue returns at most 512.
            elapsed += time(|| {
                while sum < all {
                    subject.poll_once(None, |token| sum += token);
                }
            });
            assert_eq!(sum, all);
            (0..1024).for_each(&mut rearm);
        }
        elapsed
    })
}

fn many_ready<S: Subject>() -> Iterations {
    let (subject, (sockets, peers)) = (S::new(1024), readable_sockets());
    let registry = subject.registry();
    let mut sockets: Vec<_> = sockets.into_iter().map(S::socket).collect();
    sockets.iter_mut().enumerate().for_each(|(token, socket)| S::register(&registry, socket, token));
    poll_many(subject, move |token| {
        let _open = &peers;
        S::reregister(&registry, &mut sockets[token], token);
    })
}

fn many_ready_descriptors<S: RawSubject>() -> Iterations {
    let (subject, (sockets, peers)) = (S::new(1024), readable_sockets());
    let registry = subject.registry();
    sockets.iter().enumerate().for_each(|(token, socket)| S::add(&registry, raw(socket), token));
    poll_many(subject, move |token| {
        let _open = &peers;
        S::change(&registry, raw(&sockets[token]), token);
    })
}

fn wake_when_awake<S: Subject>() -> Iterations {
    let subject = S::new(1024);
    let waker = subject.waker();
    Box::new(move |count| {
        let _subject = &subject;
        time(|| (0..count).for_each(|_| S::wake(&waker)))
    })
}

fn wake_and_poll<S: Subject>() -> Iterations {
    let mut subject = S::new(1024);
    let waker = subject.waker();
    Box::new(move |count| {
        time(|| {
            for _ in 0..count {
                S::wake(&waker);
                subject.poll_once(NOW, |_| {});
            }
        })
    })
}

/// A thread that polls until this value is dropped.
struct BlockedThread<S: Subject> {
    waker: S::Waker,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Subject> BlockedThread<S> {
    fn new(mut subject: S, mut after: impl FnMut() + Send + 'static) -> BlockedThread<S> {
        let waker = subject.waker();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                subject.poll_once(None, |_| {});
                after();
            }
        });
        BlockedThread { waker, stop, thread: Some(thread) }
    }
}

impl<S: Subject> Drop for BlockedThread<S> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        S::wake(&self.waker);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn round_trip<S: Subject>() -> Iterations {
    let pinned = pin_thread();
    let mut subject = S::new(1024);
    let waker = subject.waker();
    let other = BlockedThread::new(S::new(1024), move || S::wake(&waker));
    Box::new(move |count| {
        let _pinned = &pinned;
        time(|| {
            for _ in 0..count {
                S::wake(&other.waker);
                subject.poll_once(None, |_| {});
            }
        })
    })
}

fn register_while_waiting<S: Subject>() -> Iterations {
    let subject = S::new(1024);
    let registry = subject.registry();
    let pinned = pin_thread();
    let thread = BlockedThread::new(subject, || {});
    let (socket, peer) = pair();
    let mut socket = S::socket(socket);
    Box::new(move |count| {
        let _kept = (&thread, &peer, &pinned);
        time(|| {
            for _ in 0..count {
                S::register(&registry, &mut socket, 1);
                S::deregister(&registry, &mut socket);
            }
        })
    })
}

/// Clients and loop run in one thread, so that the scheduler has no influence. Each client sends, the loop answers all clients,
/// and each client receives.
fn echo<S: Subject>(connections: usize) -> Iterations {
    let mut subject = S::new(1024);
    let registry = subject.registry();
    let listener = listener();
    let (mut sockets, mut clients) = (Vec::new(), Vec::new());
    for token in 0..connections {
        let (socket, client) = connection(&listener);
        sockets.push(S::socket(socket));
        S::register(&registry, &mut sockets[token], token);
        clients.push(client);
    }
    let ready = RefCell::new(Vec::with_capacity(connections));
    let mut buffer = [0; 64];
    Box::new(move |count| {
        time(|| {
            for _ in 0..count {
                clients.iter_mut().for_each(|client| client.write_all(&[1; 64]).unwrap());
                let mut left = 64 * connections;
                while left > 0 {
                    subject.poll_once(None, |token| ready.borrow_mut().push(token));
                    for token in ready.borrow_mut().drain(..) {
                        while let Ok(n) = sockets[token].read(&mut buffer) {
                            sockets[token].write_all(&buffer[..n]).unwrap();
                            left -= n;
                        }
                        S::drained(&registry, &sockets[token], token);
                    }
                }
                clients.iter_mut().for_each(|client| client.read_exact(&mut buffer).unwrap());
            }
        })
    })
}

fn accept_loop<S: Subject>() -> Iterations {
    let mut subject = S::new(1024);
    let registry = subject.registry();
    let listener = listener();
    let address = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let listener = S::listen(&registry, listener, 0);
    Box::new(move |count| {
        time(|| {
            for _ in 0..count {
                let client = TcpStream::connect(address).unwrap();
                // A linger time of zero resets the connection, so that no port remains in TIME_WAIT.
                socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
                let mut accepted = None;
                while accepted.is_none() {
                    subject.poll_once(None, |_| {});
                    while let Some(mut socket) = S::accept(&listener) {
                        S::register(&registry, &mut socket, 1);
                        accepted = Some(socket);
                    }
                    S::accepted(&registry, &listener, 0);
                }
                drop(client);
                S::close(&registry, accepted.unwrap());
            }
        })
    })
}
