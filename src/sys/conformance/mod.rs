//! The contract, case by case, for every engine that the host compiles: plain `cargo test` on Linux runs each case on
//! epoll and on poll(2).
//!
//! Each case is a function that is generic over the backend. `conformance_tests!` at the end of its file makes tests of it.
//! Cases that need the types above the backends are in `tests/suite`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use self::support::blocked_thread::BlockedThread;
use self::support::handler;
use self::support::known_failures::{self, Check};
use self::support::limits::raise_fd_limit;
use self::support::net::{blocking_tcp_pair, loopback};
use self::support::poll::{BOTH, READ, TIMEOUT, WRITE};
use self::support::readiness::{ReadinessSet, E, NONE, P, R, RC, W, WC};
use self::support::system;
use crate::backend::Backend;
use crate::interest::Interest;
use crate::sys::selector::*;
use crate::sys::unix::{fstat, pipe, syscall};
use crate::token::Token;
use std::io;

#[path = "../../../tests/support/mod.rs"]
mod support;

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
mod readiness_table;
mod registration;
mod streams;
mod structure;
mod waits;
mod wakers;

/// An engine and its buffer.
struct TestSelector<T: Selector> {
    inner: T,
    events: Vec<T::Event>,
}

impl<T: Selector> TestSelector<T> {
    fn new() -> TestSelector<T> {
        TestSelector::with_capacity(64)
    }

    fn with_capacity(capacity: usize) -> TestSelector<T> {
        TestSelector { inner: T::new().unwrap(), events: Vec::with_capacity(capacity) }
    }

    fn register_builtin(&self, fd: &impl AsRawFd, token: usize, interest: Interest) -> T::Registration {
        self.inner.register(fd.as_raw_fd(), Token(token), interest, SourceKind::Builtin).unwrap()
    }

    /// Registers `io`, whose operations the engine is told of.
    fn register_owned<S: AsRawFd>(&self, io: S, token: usize, interest: Interest) -> RegisteredIo<T, S> {
        RegisteredIo { registration: self.register_builtin(&io, token, interest), io }
    }

    fn register_raw(&self, fd: RawFd, token: usize, interest: Interest) -> io::Result<()> {
        self.inner.register(fd, Token(token), interest, SourceKind::RawFd).map(|registration| _ = registration.detach())
    }

    fn reregister(&self, fd: &impl AsRawFd, token: usize, interest: Interest) -> io::Result<()> {
        self.inner.reregister(fd.as_raw_fd(), Token(token), interest, SourceKind::RawFd)
    }

    fn deregister(&self, fd: &impl AsRawFd) -> io::Result<()> {
        self.inner.deregister(fd.as_raw_fd(), SourceKind::RawFd)
    }

    fn select(&mut self, timeout: Duration) -> BTreeMap<usize, ReadinessSet> {
        let room = self.events.capacity();
        self.inner.select(&mut self.events, Some(timeout)).unwrap();
        assert!(self.events.len() <= room && self.events.capacity() == room, "the buffer grew");
        let mut all = BTreeMap::new();
        for event in &self.events {
            *all.entry(event.token().0).or_insert(NONE) |= readiness_of(event);
        }
        all
    }

    /// What is ready, at once.
    fn now(&mut self) -> BTreeMap<usize, ReadinessSet> {
        self.select(Duration::ZERO)
    }

    /// Selects until `token` has said all of `want`, and returns what it said. Other tokens fail.
    #[track_caller]
    fn expect(&mut self, token: usize, want: ReadinessSet) -> ReadinessSet {
        let deadline = Instant::now() + TIMEOUT;
        let mut all = NONE;
        while !all.has(want) {
            assert!(Instant::now() < deadline, "wanted {want:?} of {token}, had {all:?}");
            for (reported, one) in self.select(Duration::from_millis(100)) {
                assert_eq!(reported, token, "unexpected token");
                all |= one;
            }
        }
        all
    }

    #[track_caller]
    fn expect_no_events(&mut self) {
        assert_eq!(self.now(), BTreeMap::new());
    }

    /// What `token` says now, which is none of `unwanted`.
    #[track_caller]
    fn expect_without(&mut self, token: usize, unwanted: ReadinessSet) {
        let reported = self.now().remove(&token).unwrap_or_default();
        assert!(!reported.has_any(unwanted), "unexpected {reported:?} of {token}");
    }
}

fn readiness_of(event: &impl EventRecord) -> ReadinessSet {
    ReadinessSet::of([
        event.is_readable(),
        event.is_writable(),
        event.is_read_closed(),
        event.is_write_closed(),
        event.is_error(),
        event.is_priority(),
    ])
}

/// What an `IoSource` is: it lets go of its registration first, and tells it of each operation.
struct RegisteredIo<T: Selector, S> {
    registration: T::Registration,
    io: S,
}

impl<T: Selector, S> RegisteredIo<T, S>
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

/// Returns two TCP streams, connected and non-blocking.
fn tcp_pair() -> (TcpStream, TcpStream) {
    let (a, b) = blocking_tcp_pair();
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
fn hint<T: Selector>(closed: ReadinessSet) -> ReadinessSet {
    let has_hints = T::BACKEND != Backend::Poll || !cfg!(any(target_os = "netbsd", target_os = "openbsd"));
    if has_hints {
        closed
    } else {
        NONE
    }
}

/// Whether poll(2) knows that `fd` is the same open file: sockets and pipes have inodes of their own, if the system numbers
/// them.
fn rejects_duplicates<T: Selector>(fd: RawFd) -> bool {
    let is_known = || fstat::pollable_file_id(fd).unwrap().is_some_and(|identity| identity.is_unique);
    T::BACKEND == Backend::Epoll || (T::BACKEND == Backend::Poll && is_known())
}

/// Returns `true` if `T` is libkqueue.
fn is_libkqueue<T: Selector>() -> bool {
    T::BACKEND == Backend::Kqueue && known_failures::is_libkqueue()
}

/// Returns `true` if `T` is libkqueue, which fails `check`.
fn is_known_failure<T: Selector>(check: Check) -> bool {
    is_libkqueue::<T>() && known_failures::is_known_failure(check)
}
