//! The contract, case by case, for every engine that the host compiles: plain `cargo test` on Linux runs each case on
//! epoll and on poll(2).
//!
//! Each case is a function that is generic over the backend. `conformance_tests!` at the end of its file makes tests of it.
//! Cases that need the types above the backends are in `tests/suite`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use self::asleep::Waiter;
use self::said::{Said, E, NOTHING, P, R, RC, W, WC};
use crate::backend::Backend;
use crate::interest::Interest;
use crate::sys::selector::*;
use crate::sys::unix::{fstat, pipe, syscall};
use crate::token::Token;
use std::io;

#[path = "../../../tests/suite/said.rs"]
pub(crate) mod said;

#[path = "../../../tests/suite/asleep.rs"]
mod asleep;

#[path = "../../../tests/suite/system.rs"]
mod system;

#[path = "../../../tests/suite/libkqueue.rs"]
mod libkqueue;

/// Writes a test of each case for each backend that the host has.
macro_rules! conformance_tests {
    ($($case:ident,)+) => {
        #[cfg(has_kqueue)]
        mod kqueue {
            $(#[test] fn $case() { super::$case::<crate::sys::unix::kqueue::KqueueSelector>(); })+
        }
        #[cfg(has_epoll)]
        mod epoll {
            $(#[test] fn $case() { super::$case::<crate::sys::unix::epoll::EpollSelector>(); })+
        }
        mod poll {
            $(#[test] fn $case() { super::$case::<crate::sys::unix::poll::selector::PollSelector>(); })+
        }
    };
}

mod closing;
mod datagrams;
#[allow(dead_code)] // Where there is one engine it has nothing to be compared with.
mod differential;
mod edges;
mod modes;
mod pipes;
mod registration;
mod streams;
mod structure;
mod truth;
mod waits;
mod wakers;

const READ: Interest = Interest::READABLE;
const WRITE: Interest = Interest::WRITABLE;
const BOTH: Interest = READ.add(WRITE);

/// Far more than any wait here needs; a test that gets there has failed.
const ENOUGH: Duration = Duration::from_secs(10);

/// An engine and its buffer.
struct Rig<T: Selector> {
    engine: T,
    events: Vec<T::Event>,
}

impl<T: Selector> Rig<T> {
    fn new() -> Rig<T> {
        Rig::with_capacity(64)
    }

    fn with_capacity(capacity: usize) -> Rig<T> {
        Rig { engine: T::new().unwrap(), events: Vec::with_capacity(capacity) }
    }

    fn own(&self, fd: &impl AsRawFd, token: usize, interest: Interest) -> T::Registration {
        self.engine.register(fd.as_raw_fd(), Token(token), interest, SourceKind::Builtin).unwrap()
    }

    /// Registers `io`, whose operations the engine is told of.
    fn hold<S: AsRawFd>(&self, io: S, token: usize, interest: Interest) -> Held<T, S> {
        Held { registration: self.own(&io, token, interest), io }
    }

    fn bare(&self, fd: RawFd, token: usize, interest: Interest) -> io::Result<()> {
        self.engine
            .register(fd, Token(token), interest, SourceKind::RawFd)
            .map(|registration| _ = registration.detach())
    }

    fn reregister(&self, fd: &impl AsRawFd, token: usize, interest: Interest) -> io::Result<()> {
        self.engine.reregister(fd.as_raw_fd(), Token(token), interest, SourceKind::RawFd)
    }

    fn deregister(&self, fd: &impl AsRawFd) -> io::Result<()> {
        self.engine.deregister(fd.as_raw_fd(), SourceKind::RawFd)
    }

    fn select(&mut self, timeout: Duration) -> BTreeMap<usize, Said> {
        let room = self.events.capacity();
        self.engine.select(&mut self.events, Some(timeout)).unwrap();
        assert!(self.events.len() <= room && self.events.capacity() == room, "the buffer grew");
        let mut all = BTreeMap::new();
        for event in &self.events {
            *all.entry(event.token().0).or_insert(NOTHING) |= said(event);
        }
        all
    }

    /// What is ready, at once.
    fn now(&mut self) -> BTreeMap<usize, Said> {
        self.select(Duration::ZERO)
    }

    /// Selects until `token` has said all of `want`, and returns what it said. Other tokens fail.
    #[track_caller]
    fn expect(&mut self, token: usize, want: Said) -> Said {
        let deadline = Instant::now() + ENOUGH;
        let mut all = NOTHING;
        while !all.has(want) {
            assert!(Instant::now() < deadline, "wanted {want:?} of {token}, had {all:?}");
            for (said, one) in self.select(Duration::from_millis(100)) {
                assert_eq!(said, token, "unexpected token");
                all |= one;
            }
        }
        all
    }

    #[track_caller]
    fn silent(&mut self) {
        assert_eq!(self.now(), BTreeMap::new());
    }

    /// What `token` says now, which is none of `unwanted`.
    #[track_caller]
    fn not(&mut self, token: usize, unwanted: Said) {
        let said = self.now().remove(&token).unwrap_or_default();
        assert!(!said.has_any(unwanted), "unexpected {said:?} of {token}");
    }
}

fn said(event: &impl EventRecord) -> Said {
    Said::of([
        event.is_readable(),
        event.is_writable(),
        event.is_read_closed(),
        event.is_write_closed(),
        event.is_error(),
        event.is_priority(),
    ])
}

/// What an `IoSource` is: it lets go of its registration first, and tells it of each operation.
struct Held<T: Selector, S> {
    registration: T::Registration,
    io: S,
}

impl<T: Selector, S> Held<T, S>
where
    for<'a> &'a S: Read + Write,
{
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = (&self.io).read(buffer);
        match &result {
            Ok(0) => self.registration.rearm_ended(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.registration.rearm_blocked(IoDirection::Read),
            _ => self.registration.rearm(IoDirection::Read),
        }
        result
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let result = (&self.io).write(bytes);
        self.registration.rearm(IoDirection::Write);
        result
    }

    /// Reads until there is nothing left; how many bytes, and whether the end of file came.
    fn drain(&self) -> (usize, bool) {
        let (mut total, mut buffer) = (0, [0; 16 * 1024]);
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return (total, true),
                Ok(n) => total += n,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    return (total, false);
                }
            }
        }
    }

    fn fill(&self) {
        while self.write(&[0; 16 * 1024]).is_ok() {}
    }
}

/// Two Unix streams, connected and non-blocking.
fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Two TCP streams, connected and non-blocking.
fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(loopback()).unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (b, _) = listener.accept().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

/// Two ends of a pipe, non-blocking: where to read and where to write.
fn pipe_ends() -> (std::fs::File, std::fs::File) {
    let [reader, writer] = pipe::pipe().unwrap();
    (reader.into(), writer.into())
}

fn read_all(mut from: impl Read) -> usize {
    let mut total = 0;
    while let Ok(n @ 1..) = from.read(&mut [0; 4096]) {
        total += n;
    }
    total
}

fn fill(mut to: impl Write) {
    while to.write(&[0; 4096]).is_ok() {}
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.map(drop).unwrap_err().kind()
}

fn errno<T>(result: io::Result<T>) -> i32 {
    result.map(drop).unwrap_err().raw_os_error().unwrap()
}

/// The hints that a socket gives when its peer has gone. poll(2) of NetBSD and OpenBSD knows none: their sockets report
/// neither `POLLHUP` nor `POLLERR`. A row of the table of differences.
fn hint<T: Selector>(closed: Said) -> Said {
    let has_hints = T::BACKEND != Backend::Poll || !cfg!(any(target_os = "netbsd", target_os = "openbsd"));
    if has_hints {
        closed
    } else {
        NOTHING
    }
}

/// Whether poll(2) knows that `fd` is the same open file: sockets and pipes have inodes of their own, if the system numbers
/// them.
fn refuses_twice<T: Selector>(fd: RawFd) -> bool {
    let is_known = || fstat::pollable_file_id(fd).unwrap().is_some_and(|identity| identity.is_unique);
    T::BACKEND == Backend::Epoll || (T::BACKEND == Backend::Poll && is_known())
}

/// A kqueue made of epoll, in user space.
fn is_libkqueue<T: Selector>() -> bool {
    T::BACKEND == Backend::Kqueue && libkqueue::is_here()
}

fn gets_wrong<T: Selector>(case: &str) -> bool {
    is_libkqueue::<T>() && libkqueue::gets_wrong(case)
}
