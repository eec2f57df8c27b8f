//! The cases, each written once for all subjects; README.md says what they mean.

#[cfg(target_os = "linux")]
mod bare;
#[cfg(all(has_kqueue, not(links_libkqueue)))]
mod bare_kqueue;
mod subject;

use std::cell::RefCell;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::subject::{Kevio, Mio, Polling, Subject, LAST};
use super::setup::allow_descriptors;

const NOW: Option<Duration> = Some(Duration::ZERO);

/// Does it so many times, and says how long that took.
pub type Turns = Box<dyn FnMut(u64) -> Duration>;

/// One of those that take part in a case: its name, and what makes it ready.
pub type Entrant = (&'static str, Box<dyn Fn() -> Turns>);

pub struct Case {
    pub name: String,
    /// How many things are done each time; it is the time of one that is told.
    pub each: u32,
    pub entrants: Vec<Entrant>,
}

pub fn all() -> Vec<Case> {
    /// All subjects; or, where the program's own table is all there is to it, without the bare poll(2).
    macro_rules! case {
        ($name:expr, $each:expr, $case:ident($($argument:expr)?), calls) => {{
            #[allow(unused_mut)] // Where there are no bare calls to compare with.
            let mut entrants: Vec<Entrant> = vec![
                (Kevio::NAME, Box::new(|| $case::<Kevio>($($argument)?))),
                (Mio::NAME, Box::new(|| $case::<Mio>($($argument)?))),
                (Polling::NAME, Box::new(|| $case::<Polling>($($argument)?))),
            ];
            #[cfg(target_os = "linux")]
            if kevio::BACKEND == kevio::Backend::Epoll {
                entrants.push((bare::Epoll::NAME, Box::new(|| $case::<bare::Epoll>($($argument)?))));
            }
            #[cfg(all(has_kqueue, not(links_libkqueue)))]
            if kevio::BACKEND == kevio::Backend::Kqueue {
                entrants.push((bare_kqueue::Kqueue::NAME, Box::new(|| $case::<bare_kqueue::Kqueue>($($argument)?))));
            }
            Case { name: $name.to_string(), each: $each, entrants }
        }};
        ($name:expr, $each:expr, $case:ident($($argument:expr)?)) => {{
            #[allow(unused_mut)]
            let mut case = case!($name, $each, $case($($argument)?), calls);
            #[cfg(target_os = "linux")]
            if kevio::BACKEND == kevio::Backend::Poll {
                case.entrants.push((bare::Poll::NAME, Box::new(|| $case::<bare::Poll>($($argument)?))));
            }
            case
        }};
    }
    vec![
        case!("register+deregister", 1, register_deregister(), calls),
        case!("register+deregister, descriptor", 1, add_remove(), calls),
        case!("reregister", 1, reregister(), calls),
        case!("reregister, descriptor", 1, change(), calls),
        case!("register 1 000", 1000, register_all(), calls),
        case!("register while waiting", 1, register_while_waiting(), calls),
        case!("poll, 1 idle", 1, poll_nothing(1)),
        case!("poll, 1 000 idle", 1, poll_nothing(1000)),
        case!("poll, 5 000 idle", 1, poll_nothing(5000)),
        case!("one ready, 1 idle", 1, one_ready(1)),
        case!("one ready, 1 000 idle", 1, one_ready(1000)),
        case!("one ready, 5 000 idle", 1, one_ready(5000)),
        case!("1 024 ready, each", 1024, many_ready()),
        case!("wake when awake", 1, wake_when_awake()),
        case!("wake, poll", 1, wake_and_poll()),
        case!("wake round trip", 1, round_trip()),
        case!("echo, 1 connection", 1, echo(1)),
        case!("echo, 256 connections, each", 256, echo(256)),
        case!("connect, accept, close", 1, accept_loop()),
    ]
}

fn time(f: impl FnOnce()) -> Duration {
    let mut f = Some(f);
    let start = Instant::now();
    timed(&mut || f.take().expect("it is called once")());
    start.elapsed()
}

/// What is timed, under a name by which `benches/instructions` finds it.
#[inline(never)]
fn timed(f: &mut dyn FnMut()) {
    f();
}

/// Ends that do not block.
fn pair() -> (OwnedFd, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    (a.into(), b)
}

/// A TCP connection: an end that does not block, and one that does.
fn connection(listener: &TcpListener) -> (OwnedFd, TcpStream) {
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

/// accept4(2), for those that leave it to the program.
fn accept(listener: &TcpListener) -> Option<TcpStream> {
    let socket = socket2::SockRef::from(listener);
    #[cfg(any(target_os = "linux", all(has_kqueue, not(links_libkqueue), not(target_vendor = "apple"))))]
    let accepted = socket.accept4(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    #[cfg(not(any(target_os = "linux", all(has_kqueue, not(links_libkqueue), not(target_vendor = "apple")))))]
    let accepted =
        socket.accept().and_then(|(socket, address)| socket.set_nonblocking(true).map(|()| (socket, address)));
    accepted.ok().map(|(socket, _)| socket.into())
}

/// Registers `n` descriptors of which nothing is heard. All subjects have the same.
fn register_idle<S: Subject>(registry: &S::Registry, n: usize) {
    static IDLE: OnceLock<Vec<UnixStream>> = OnceLock::new();
    let idle = IDLE.get_or_init(|| {
        allow_descriptors();
        (0..2500).flat_map(|_| <[UnixStream; 2]>::from(UnixStream::pair().unwrap())).collect()
    });
    for (token, fd) in idle[..n].iter().enumerate() {
        S::add(registry, fd.as_raw_fd(), token);
    }
}

/// A socket with a peer, and where it can be registered.
struct Rig<S: Subject> {
    subject: S,
    registry: S::Registry,
    socket: S::Socket,
    peer: UnixStream,
}

impl<S: Subject> Rig<S> {
    fn new() -> Rig<S> {
        let subject = S::new(1024);
        let (socket, peer) = pair();
        Rig { registry: subject.registry(), subject, socket: S::socket(socket), peer }
    }
}

fn register_deregister<S: Subject>() -> Turns {
    let mut rig = Rig::<S>::new();
    Box::new(move |count| {
        time(|| {
            for _ in 0..count {
                S::register(&rig.registry, &mut rig.socket, 1);
                S::deregister(&rig.registry, &mut rig.socket);
            }
        })
    })
}

fn reregister<S: Subject>() -> Turns {
    let mut rig = Rig::<S>::new();
    S::register(&rig.registry, &mut rig.socket, 1);
    Box::new(move |count| time(|| (0..count).for_each(|_| S::reregister(&rig.registry, &mut rig.socket, 1))))
}

fn add_remove<S: Subject>() -> Turns {
    let rig = Rig::<S>::new();
    Box::new(move |count| {
        let fd = rig.peer.as_raw_fd();
        time(|| {
            for _ in 0..count {
                S::add(&rig.registry, fd, 1);
                S::remove(&rig.registry, fd);
            }
        })
    })
}

fn change<S: Subject>() -> Turns {
    let rig = Rig::<S>::new();
    S::add(&rig.registry, rig.peer.as_raw_fd(), 1);
    Box::new(move |count| {
        let fd = rig.peer.as_raw_fd();
        time(|| (0..count).for_each(|_| S::change(&rig.registry, fd, 1)))
    })
}

fn register_all<S: Subject>() -> Turns {
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
        let mut spent = Duration::ZERO;
        for _ in 0..count {
            spent += time(|| S::register_all(&registry, &mut sockets));
            sockets.iter_mut().for_each(|socket| S::deregister(&registry, socket));
        }
        spent
    })
}

fn poll_nothing<S: Subject>(idle: usize) -> Turns {
    let mut subject = S::new(1024);
    register_idle::<S>(&subject.registry(), idle);
    Box::new(move |count| time(|| (0..count).for_each(|_| subject.turn(NOW, |_| unreachable!("nothing is ready")))))
}

fn one_ready<S: Subject>(idle: usize) -> Turns {
    let mut rig = Rig::<S>::new();
    register_idle::<S>(&rig.registry, idle);
    S::register(&rig.registry, &mut rig.socket, LAST);
    Box::new(move |count| {
        time(|| {
            for _ in 0..count {
                rig.peer.write_all(b"x").unwrap();
                let mut ready = 0;
                rig.subject.turn(None, |token| ready += usize::from(token == LAST));
                assert_eq!(ready, 1);
                while rig.socket.read(&mut [0; 8]).is_ok() {}
                S::drained(&rig.registry, &rig.socket, LAST);
            }
        })
    })
}

/// What is timed is the wait, and going through the events; not what makes them ready again.
fn many_ready<S: Subject>() -> Turns {
    allow_descriptors();
    let mut subject = S::new(1024);
    let registry = subject.registry();
    let (mut sockets, mut peers) = (Vec::new(), Vec::new());
    for token in 0..1024 {
        let (socket, mut peer) = pair();
        peer.write_all(b"x").unwrap();
        sockets.push(S::socket(socket));
        S::register(&registry, &mut sockets[token], token);
        peers.push(peer);
    }
    Box::new(move |count| {
        let _peers = &peers;
        let mut spent = Duration::ZERO;
        for _ in 0..count {
            let (mut sum, all) = (0, 1023 * 1024 / 2);
            // libkqueue returns at most 512.
            spent += time(|| {
                while sum < all {
                    subject.turn(None, |token| sum += token);
                }
            });
            assert_eq!(sum, all);
            for (token, socket) in sockets.iter_mut().enumerate() {
                S::reregister(&registry, socket, token);
            }
        }
        spent
    })
}

fn wake_when_awake<S: Subject>() -> Turns {
    let subject = S::new(1024);
    let waker = subject.waker();
    Box::new(move |count| {
        let _subject = &subject;
        time(|| (0..count).for_each(|_| S::wake(&waker)))
    })
}

fn wake_and_poll<S: Subject>() -> Turns {
    let mut subject = S::new(1024);
    let waker = subject.waker();
    Box::new(move |count| {
        time(|| {
            for _ in 0..count {
                S::wake(&waker);
                subject.turn(NOW, |_| {});
            }
        })
    })
}

/// Keeps this thread, and those it starts, on the processor it is on: what it costs to wake another one, which may be
/// asleep, is not the subject's, and hides all else. All that stay are let go together.
struct Stay;

#[cfg(target_os = "linux")]
fn affinity() -> libc::cpu_set_t {
    // SAFETY: a set of bits, which the kernel writes.
    unsafe {
        let mut set = std::mem::zeroed();
        assert_eq!(libc::sched_getaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &mut set), 0);
        set
    }
}

#[cfg(target_os = "linux")]
fn set_affinity(set: &libc::cpu_set_t) {
    // SAFETY: a set of bits, which the kernel reads.
    assert_eq!(unsafe { libc::sched_setaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), set) }, 0);
}

#[cfg(target_os = "linux")]
static FREE: OnceLock<libc::cpu_set_t> = OnceLock::new();

fn stay() -> Stay {
    #[cfg(target_os = "linux")]
    {
        FREE.get_or_init(affinity);
        // SAFETY: a set of bits, of which one is set; the number is that of a processor.
        let here = unsafe {
            let mut set = std::mem::zeroed();
            libc::CPU_SET(libc::sched_getcpu() as usize, &mut set);
            set
        };
        set_affinity(&here);
    }
    Stay
}

impl Drop for Stay {
    fn drop(&mut self) {
        #[cfg(target_os = "linux")]
        set_affinity(FREE.get().expect("it was kept before"));
    }
}

/// A thread that waits, until this is dropped.
struct Waiting<S: Subject> {
    waker: S::Waker,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Subject> Waiting<S> {
    fn new(mut subject: S, mut after: impl FnMut() + Send + 'static) -> Waiting<S> {
        let waker = subject.waker();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Acquire) {
                subject.turn(None, |_| {});
                after();
            }
        });
        Waiting { waker, stop, thread: Some(thread) }
    }
}

impl<S: Subject> Drop for Waiting<S> {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        S::wake(&self.waker);
        self.thread.take().unwrap().join().unwrap();
    }
}

fn round_trip<S: Subject>() -> Turns {
    let stay = stay();
    let mut subject = S::new(1024);
    let waker = subject.waker();
    let other = Waiting::new(S::new(1024), move || S::wake(&waker));
    Box::new(move |count| {
        let _stay = &stay;
        time(|| {
            for _ in 0..count {
                S::wake(&other.waker);
                subject.turn(None, |_| {});
            }
        })
    })
}

fn register_while_waiting<S: Subject>() -> Turns {
    let subject = S::new(1024);
    let registry = subject.registry();
    let stay = stay();
    let waiting = Waiting::new(subject, || {});
    let (socket, peer) = pair();
    let mut socket = S::socket(socket);
    Box::new(move |count| {
        let _held = (&waiting, &peer, &stay);
        time(|| {
            for _ in 0..count {
                S::register(&registry, &mut socket, 1);
                S::deregister(&registry, &mut socket);
            }
        })
    })
}

/// All in one thread, so that the scheduler has no say: each client sends, the loop answers all, each client receives.
fn echo<S: Subject>(connections: usize) -> Turns {
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
                    subject.turn(None, |token| ready.borrow_mut().push(token));
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

fn accept_loop<S: Subject>() -> Turns {
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
                // It is reset, and leaves no port behind that waits.
                socket2::SockRef::from(&client).set_linger(Some(Duration::ZERO)).unwrap();
                let mut accepted = None;
                while accepted.is_none() {
                    subject.turn(None, |_| {});
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
