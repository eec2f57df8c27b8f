//! Creating, registering and dropping in any order leaves no descriptor open and closes no other descriptor. In a binary of its
//! own, which lists all its descriptors.
//!
//! Windows has no list of handles. The tests of the soak drop the same sources in every order, and count handles.
#![cfg(unix)]

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use kevio::event::Source;
use kevio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use kevio::unix::{pipe, IoSource, SourceFd};
use kevio::{Interest, Poll, Process, Signals, Timer, Token, Waker, Watch};

mod support;

use crate::support::net::loopback;
use crate::support::open_fds;

/// One test runs at a time. The poll stays open so that libkqueue keeps the descriptors that serve all queues.
static ALONE: Mutex<Option<Poll>> = Mutex::new(None);

/// Returns a child that lives as long as this process.
fn child() -> &'static std::process::Child {
    static CHILD: OnceLock<std::process::Child> = OnceLock::new();
    CHILD.get_or_init(|| {
        use std::process::{Command, Stdio};
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    })
}

/// Runs `f` several times, and fails if the open descriptors change.
fn assert_leaves_nothing_open(context: &str, f: impl Fn()) {
    let mut poll = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    poll.get_or_insert_with(|| Poll::new().unwrap());
    child();
    let before = open_fds::open_files();
    for _ in 0..3 {
        f();
        open_fds::assert_same(&before, context);
    }
}

/// A path for a socket, which does not exist yet.
struct Name(tempfile::TempDir);

impl Name {
    fn new() -> Name {
        Name(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> std::path::PathBuf {
        self.0.path().join("socket")
    }
}

/// Returns a connected stream and the stream that its listener accepted.
fn accepted() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(loopback()).unwrap();
    let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (stream, until_done(|| listener.accept()).0)
}

fn until_done<T>(mut f: impl FnMut() -> io::Result<T>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match f() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && std::time::Instant::now() < deadline => {
                std::thread::yield_now();
            }
            result => return result.unwrap(),
        }
    }
}

/// A raw descriptor that is closed on drop.
struct RawSource(OwnedFd);

impl Source for RawSource {
    fn register(&mut self, registry: &kevio::Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &kevio::Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &kevio::Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}

type Sources = Vec<Box<dyn Source>>;
type Kind = (&'static str, fn() -> Sources);

/// Returns each kind of source, with its peer, which is a source too.
fn every_kind() -> Vec<Kind> {
    vec![
        ("a TCP listener", || vec![Box::new(TcpListener::bind(loopback()).unwrap())]),
        ("TCP streams", || {
            let (a, b) = accepted();
            vec![Box::new(a), Box::new(b)]
        }),
        ("a UDP socket", || vec![Box::new(UdpSocket::bind(loopback()).unwrap())]),
        ("Unix sockets with a name", || {
            let name = Name::new();
            let listener = UnixListener::bind(name.path()).unwrap();
            let stream = UnixStream::connect(name.path()).unwrap();
            let (accepted, _) = until_done(|| listener.accept());
            vec![Box::new(listener), Box::new(stream), Box::new(accepted)]
        }),
        ("a pair of Unix streams", || {
            let (a, b) = UnixStream::pair().unwrap();
            vec![Box::new(a), Box::new(b)]
        }),
        ("Unix datagrams", || {
            let name = Name::new();
            let (a, b) = UnixDatagram::pair().unwrap();
            let named = UnixDatagram::bind(name.path()).unwrap();
            vec![Box::new(a), Box::new(b), Box::new(named), Box::new(UnixDatagram::unbound().unwrap())]
        }),
        ("a pipe", || {
            let (sender, receiver) = pipe::new().unwrap();
            vec![Box::new(sender), Box::new(receiver)]
        }),
        ("owned descriptors", || {
            let (a, b) = UnixStream::pair().unwrap();
            vec![Box::new(IoSource::new(OwnedFd::from(a))), Box::new(IoSource::new(OwnedFd::from(b)))]
        }),
        ("timers", || {
            let (after, every) = (std::time::Duration::from_secs(60), std::time::Duration::from_micros(1));
            vec![Box::new(Timer::after(after).unwrap()), Box::new(Timer::every(every).unwrap())]
        }),
        ("signals", || vec![Box::new(Signals::new([libc::SIGUSR1, libc::SIGUSR2]).unwrap())]),
        ("a process", || vec![Box::new(Process::new(child()).unwrap())]),
        ("watches", || match Watch::open(".") {
            Err(error) if error.kind() == ErrorKind::Unsupported => vec![],
            first => vec![Box::new(first.unwrap()), Box::new(Watch::open("Cargo.toml").unwrap())],
        }),
        ("raw descriptors", || {
            let (a, b) = UnixStream::pair().unwrap();
            vec![Box::new(RawSource(a.into())), Box::new(RawSource(b.into()))]
        }),
    ]
}

/// The kinds for which a kqueue has a filter.
const FILTERS: &[&str] = &["timers", "signals", "a process", "watches"];

#[test]
fn dropping_sources_in_any_order_closes_every_descriptor() {
    for (what, make) in every_kind() {
        assert_leaves_nothing_open(&format!("{what}, never registered"), || drop(make()));
        for registered_for in [Interest::READABLE, Interest::WRITABLE, Interest::READABLE | Interest::WRITABLE] {
            if FILTERS.contains(&what) && !registered_for.is_readable() {
                continue;
            }
            let register = || {
                let (poll, mut sources) = (Poll::new().unwrap(), make());
                for (token, source) in sources.iter_mut().enumerate() {
                    poll.registry().register(source, Token(token), registered_for).unwrap();
                }
                (poll, sources)
            };
            assert_leaves_nothing_open(&format!("{what}, before the poll"), || {
                let (poll, sources) = register();
                drop(sources);
                drop(poll);
            });
            assert_leaves_nothing_open(&format!("{what}, after the poll"), || {
                let (poll, sources) = register();
                drop(poll);
                drop(sources);
            });
            assert_leaves_nothing_open(&format!("{what}, the last first"), || {
                let (poll, mut sources) = register();
                while sources.pop().is_some() {}
                drop(poll);
            });
            assert_leaves_nothing_open(
                &format!("{what}, deregistered, while a clone of the registry is there"),
                || {
                    let (poll, mut sources) = register();
                    let registry = poll.registry().try_clone().unwrap();
                    drop(poll);
                    for source in &mut sources {
                        registry.reregister(source, Token(9), registered_for).unwrap();
                        registry.deregister(source).unwrap();
                    }
                    drop(registry);
                    drop(sources);
                },
            );
        }
    }
}

#[test]
fn dropping_wakers_in_any_order_closes_every_descriptor() {
    for woken in [false, true] {
        let make = || {
            let poll = Poll::new().unwrap();
            let wakers = [1, 2, 3].map(|token| Waker::new(poll.registry(), Token(token)).unwrap());
            if woken {
                wakers.iter().for_each(|waker| waker.wake().unwrap());
            }
            (poll, wakers)
        };
        assert_leaves_nothing_open("wakers before the poll", || {
            let (poll, wakers) = make();
            drop(wakers);
            drop(poll);
        });
        assert_leaves_nothing_open("wakers after the poll", || {
            let (poll, wakers) = make();
            drop(poll);
            wakers.iter().for_each(|waker| waker.wake().unwrap());
            drop(wakers);
        });
        assert_leaves_nothing_open("wakers after the poll and the registry", || {
            let (poll, wakers) = make();
            let registry = poll.registry().try_clone().unwrap();
            drop(poll);
            drop(registry);
            drop(wakers);
        });
    }
}

#[test]
fn released_descriptors_stay_open() {
    assert_leaves_nothing_open("released streams", || {
        let poll = Poll::new().unwrap();
        let (mut a, mut b) = UnixStream::pair().unwrap();
        let files = open_fds::open_files();
        poll.registry().register(&mut a, Token(1), Interest::READABLE).unwrap();
        poll.registry().register(&mut b, Token(2), Interest::READABLE).unwrap();
        assert_eq!(open_fds::open_files(), files, "registering opened or closed a descriptor");
        let numbers = [a.into_raw_fd(), b.into_raw_fd()];
        assert_eq!(open_fds::open_files(), files, "releasing opened or closed a descriptor");
        for number in numbers {
            SourceFd(&number).reregister(poll.registry(), Token(3), Interest::WRITABLE).unwrap();
            SourceFd(&number).deregister(poll.registry()).unwrap();
        }
        assert_eq!(open_fds::open_files(), files, "a raw number was closed");
        // SAFETY: their owners released them above, and they have no other owner.
        drop(numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }));
    });
}

fn fails<T>(what: &str, kind: ErrorKind, result: io::Result<T>) {
    match result {
        Ok(_) => panic!("{what} succeeded"),
        Err(error) => assert_eq!(error.kind(), kind, "{what}: {error}"),
    }
}

#[test]
fn failed_registrations_open_and_close_nothing() {
    for (what, make) in every_kind() {
        assert_leaves_nothing_open(&format!("failed registrations of {what}"), || {
            let polls = [Poll::new().unwrap(), Poll::new().unwrap()];
            let registries = [polls[0].registry(), polls[1].registry()];
            let mut sources = make();
            // The first source of its kind may open a descriptor of the poll: a timer, a notifier, a queue of file changes.
            let mut timer = Timer::new().unwrap();
            registries[0].register(&mut timer, Token(2), Interest::READABLE).unwrap();
            for mut source in make() {
                registries[0].register(&mut source, Token(3), Interest::READABLE).unwrap();
            }
            let files = open_fds::open_files();
            for source in &mut sources {
                let read = Interest::READABLE;
                fails(what, ErrorKind::Unsupported, registries[0].register(source, Token(1), Interest::AIO));
                fails(what, ErrorKind::NotFound, registries[0].reregister(source, Token(1), read));
                fails(what, ErrorKind::NotFound, registries[0].deregister(source));
                registries[0].register(source, Token(1), read).unwrap();
                fails(what, ErrorKind::Unsupported, registries[0].reregister(source, Token(1), Interest::AIO));
                fails(what, ErrorKind::NotFound, registries[1].deregister(source));
            }
            // libkqueue opens a descriptor for a filter.
            if !(kevio::BACKEND == kevio::Backend::Kqueue && cfg!(target_os = "linux") && FILTERS.contains(&what)) {
                assert_eq!(open_fds::open_files(), files, "{what}");
            }
        });
    }
    assert_leaves_nothing_open("a file", || {
        let poll = Poll::new().unwrap();
        let mut file = IoSource::new(tempfile::tempfile().unwrap());
        let error = poll.registry().register(&mut file, Token(1), Interest::READABLE).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    });
}

/// The socket exists before the failing call.
#[test]
fn failed_constructors_leave_nothing_open() {
    let nowhere = Path::new("/nonexistent/socket");
    assert_leaves_nothing_open("binding to a used address", || {
        let listener = TcpListener::bind(loopback()).unwrap();
        fails("TCP", ErrorKind::AddrInUse, TcpListener::bind(listener.local_addr().unwrap()));
        let socket = UdpSocket::bind(loopback()).unwrap();
        fails("UDP", ErrorKind::AddrInUse, UdpSocket::bind(socket.local_addr().unwrap()));
        let name = Name::new();
        let _listener = UnixListener::bind(name.path()).unwrap();
        fails("a Unix listener", ErrorKind::AddrInUse, UnixListener::bind(name.path()));
        fails("a Unix datagram", ErrorKind::AddrInUse, UnixDatagram::bind(name.path()));
    });
    assert_leaves_nothing_open("binding and connecting to a missing path", || {
        fails("a Unix listener", ErrorKind::NotFound, UnixListener::bind(nowhere));
        fails("a Unix datagram", ErrorKind::NotFound, UnixDatagram::bind(nowhere));
        fails("a Unix stream", ErrorKind::NotFound, UnixStream::connect(nowhere));
        let name = Name::new();
        drop(UnixListener::bind(name.path()).unwrap());
        fails("a Unix stream", ErrorKind::ConnectionRefused, UnixStream::connect(name.path()));
    });
    assert_leaves_nothing_open("accepting without a client", || {
        fails("TCP", ErrorKind::WouldBlock, TcpListener::bind(loopback()).unwrap().accept());
        let name = Name::new();
        fails("a Unix socket", ErrorKind::WouldBlock, UnixListener::bind(name.path()).unwrap().accept());
    });
    assert_leaves_nothing_open("connecting to a closed port", || {
        let listener = TcpListener::bind(loopback()).unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        // The connection fails at once, or later.
        drop(TcpStream::connect(address));
    });
}
