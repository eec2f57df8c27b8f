//! The conformance tests: each case of the contract of [`Selector`], for every backend that the host compiles. Plain
//! `cargo test` on Linux runs each case on epoll and on poll(2).
//!
//! A case is a function that is generic over the backend. `conformance_tests!`, at the end of each file, writes one test for
//! each case and backend. Cases that need the types above the backends are in `tests/suite`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use self::support::blocked_thread::BlockedThread;
use self::support::known_failures::{self, Check};
use self::support::limits::raise_fd_limit;
use self::support::net::{blocking_tcp_pair, loopback, reset_on_close, stream_pair as pair, WRITE_FAILS_AT_ONCE};
use self::support::poll::{BOTH, READ, TIMEOUT, WRITE};
use self::support::readiness::{ReadinessSet, E, NONE, P, R, RC, W, WC};
use self::support::system::is_wine;
#[cfg(unix)]
use self::unix as system;
#[cfg(windows)]
use self::windows as system;
use crate::backend::Backend;
use crate::interest::Interest;
use crate::sys::raw_source::{raw_source, AsSource, OwnedSource, RawSource};
use crate::sys::selector::*;
use crate::token::Token;
use std::io;

#[path = "../../../tests/support/mod.rs"]
pub(super) mod support;

/// Writes a test of each case, for each backend that the host compiles.
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
        #[cfg(unix)]
        mod poll {
            $(#[test] fn $case() { super::$case::<crate::sys::unix::poll::selector::PollSelector>(); })+
        }
        #[cfg(windows)]
        mod iocp {
            $(#[test] fn $case() { super::$case::<crate::sys::windows::iocp::IocpSelector>(); })+
        }
    };
}

mod alarm;
mod closing;
mod datagrams;
#[allow(dead_code)] // Systems use either the second backend or the model.
mod differential;
mod edges;
mod modes;
mod notifier;
mod registration;
mod streams;
mod structure;
#[cfg(unix)]
mod unix;
mod waits;
#[cfg(windows)]
mod windows;

/// A selector and its event buffer.
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

    fn register_builtin(&self, source: &impl AsSource, token: usize, interest: Interest) -> T::Registration {
        self.inner.register(raw_source(source), Token(token), interest, SourceKind::Builtin).unwrap()
    }

    /// Registers `io`. Reads and writes through the returned value re-arm the registration.
    fn register_owned<S: AsSource>(&self, io: S, token: usize, interest: Interest) -> RegisteredIo<T, S> {
        RegisteredIo { registration: self.register_builtin(&io, token, interest), io }
    }

    fn register_raw(&self, source: RawSource, token: usize, interest: Interest) -> io::Result<()> {
        self.inner
            .register(source, Token(token), interest, SourceKind::RawFd)
            .map(|registration| _ = registration.detach())
    }

    fn reregister(&self, source: &impl AsSource, token: usize, interest: Interest) -> io::Result<()> {
        self.inner.reregister(raw_source(source), Token(token), interest, SourceKind::RawFd)
    }

    fn deregister(&self, source: &impl AsSource) -> io::Result<()> {
        self.inner.deregister(raw_source(source), SourceKind::RawFd)
    }

    /// Selects once. Returns the result, with the records of the notifier and of the alarm.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<InternalEvents> {
        let capacity = self.events.capacity();
        self.inner.select(&mut self.events, capacity, timeout)?;
        assert!(self.events.len() <= capacity && self.events.capacity() == capacity, "the buffer grew");
        Ok(self.inner.take_internal(&mut self.events))
    }

    /// Selects once. Returns the readiness that is reported for each token.
    fn select(&mut self, timeout: Duration) -> BTreeMap<usize, ReadinessSet> {
        self.wait(Some(timeout)).unwrap();
        let mut all = BTreeMap::new();
        for event in &self.events {
            *all.entry(event.token().0).or_insert(NONE) |= readiness_of(event);
        }
        all
    }

    /// Selects once, without blocking.
    fn select_now(&mut self) -> BTreeMap<usize, ReadinessSet> {
        self.select(Duration::ZERO)
    }

    /// Selects until all of `expected` is reported for `token`. Returns all that was reported; fails for other tokens.
    #[track_caller]
    fn expect(&mut self, token: usize, expected: ReadinessSet) -> ReadinessSet {
        let deadline = Instant::now() + TIMEOUT;
        let mut all = NONE;
        while !all.has(expected) {
            assert!(Instant::now() < deadline, "expected {expected:?} of {token}, reported {all:?}");
            for (other, readiness) in self.select(Duration::from_millis(100)) {
                assert_eq!(other, token, "unexpected token");
                all |= readiness;
            }
        }
        all
    }

    #[track_caller]
    fn expect_no_events(&mut self) {
        assert_eq!(self.select_now(), BTreeMap::new());
    }

    /// Fails if any of `unexpected` is reported for `token`.
    #[track_caller]
    fn expect_without(&mut self, token: usize, unexpected: ReadinessSet) {
        let reported = self.select_now().remove(&token).unwrap_or_default();
        assert!(!reported.has_any(unexpected), "unexpected {reported:?} of {token}");
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

/// A descriptor with its registration, as in `IoSource`: the registration is dropped first, and each operation re-arms.
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

    /// Reads until `WouldBlock` or the end of file. Returns the number of bytes, and `true` if the end of file came.
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

/// Returns two TCP streams, connected and non-blocking.
fn tcp_pair() -> (TcpStream, TcpStream) {
    let (a, b) = blocking_tcp_pair();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

/// Returns a TCP socket that is neither connected nor bound, and does not block.
fn tcp_socket() -> Socket {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
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

/// Returns the hints that a socket reports when its peer has closed. poll(2) of NetBSD and OpenBSD reports none, because
/// their sockets set neither `POLLHUP` nor `POLLERR`. See the table of differences in the crate docs.
fn hint<T: Selector>(closed: ReadinessSet) -> ReadinessSet {
    let has_hints = T::BACKEND != Backend::Poll || !cfg!(any(target_os = "netbsd", target_os = "openbsd"));
    if has_hints {
        closed
    } else {
        NONE
    }
}

/// Returns the hint for a stream whose peer has closed, and that has unread data. wine reports the end of a stream after the last
/// byte was read (`recv` with `MSG_PEEK` in `sock_poll_event` of server/sock.c).
fn hint_before_data<T: Selector>(closed: ReadinessSet) -> ReadinessSet {
    if is_wine() {
        NONE
    } else {
        hint::<T>(closed)
    }
}

/// Returns `true` if the backend masks readiness that it has reported, until an operation re-arms the registration.
fn masks_readiness<T: Selector>() -> bool {
    matches!(T::BACKEND, Backend::Poll | Backend::Iocp)
}

/// Returns `true` if the backend waits with wine, which takes the error of a socket from the program (`sock_error` in
/// `sock_poll_event` of server/sock.c).
fn takes_errors<T: Selector>() -> bool {
    is_libkqueue::<T>() || is_wine()
}

/// Returns `true` if `T` is libkqueue.
fn is_libkqueue<T: Selector>() -> bool {
    T::BACKEND == Backend::Kqueue && known_failures::is_libkqueue()
}

/// Returns `true` if `T` is libkqueue, which fails `check`.
fn is_known_failure<T: Selector>(check: Check) -> bool {
    is_libkqueue::<T>() && known_failures::is_known_failure(check)
}
