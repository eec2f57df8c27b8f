//! Registrations leave neither an open descriptor or handle nor memory behind, in whatever order the program ends them.

use std::time::Duration;

use kevio::event::Source;
use kevio::net::UdpSocket;
use kevio::{Events, Interest, Poll, Process, Registry, Timer, Token, Waker, Watch};

use crate::steps::{poll_events, times};
use crate::support::allocator::live_bytes;
use crate::support::net::loopback;
use crate::support::open_fds;
use crate::support::poll::{BOTH, READ};
use crate::support::process::run_alone;
use crate::support::streams::{kevio_pair, raw, SourceFd, Stream};
use crate::support::system::is_wine;

/// The memory that the program may have more after 100 000 registrations: buffers that have grown, and the test harness.
const MAX_GROWTH: isize = 100_000;

/// A registration: its source, and other ends that have to stay open.
struct Registered<'a> {
    source: Box<dyn Source + 'a>,
    _peer: Option<Stream>,
}

/// A kind of source: its name, the part of 100 000 registrations that is made, whether it is ready at once, and a new source.
struct Kind<'a> {
    name: &'static str,
    divisor: u64,
    interest: Interest,
    is_ready: bool,
    make: Box<dyn Fn() -> Registered<'a> + 'a>,
}

impl<'a> Kind<'a> {
    fn new<S: Source + 'a>(name: &'static str, is_ready: bool, make: impl Fn() -> S + 'a) -> Kind<'a> {
        let make = move || Registered { source: Box::new(make()), _peer: None };
        Kind { name, divisor: 1, interest: READ, is_ready, make: Box::new(make) }
    }

    fn rarer(self, divisor: u64) -> Kind<'a> {
        Kind { divisor, ..self }
    }

    fn for_both(self) -> Kind<'a> {
        Kind { interest: BOTH, ..self }
    }

    /// Registers, changes and ends registrations of this kind, in turn with and without an event between, and by deregistering or
    /// by dropping the source or the poll first.
    fn run(&self, slot: &mut Option<Poll>, events: &mut Events, number: u64) {
        let poll = slot.get_or_insert_with(|| Poll::new().unwrap());
        let (token, new) = (Token(number as usize), Interest::NONE);
        let Registered { mut source, _peer } = (self.make)();
        let first = if number % 3 == 0 { new } else { self.interest };
        poll.registry().register(&mut source, token, first).unwrap();
        if number % 3 == 0 {
            poll.registry().reregister(&mut source, token, self.interest).unwrap();
        }
        match number % 8 {
            0..=2 if self.is_ready => {
                poll_events(poll, events);
                assert!(events.iter().any(|event| event.token() == token), "{}: {events:?}", self.name);
            }
            0..=5 => poll.poll(events, Some(Duration::ZERO)).unwrap(),
            _ => {}
        }
        match number % 5 {
            0 => *slot = None,
            1 | 2 => poll.registry().deregister(&mut source).unwrap(),
            _ => {}
        }
        drop(source);
        let poll = slot.get_or_insert_with(|| Poll::new().unwrap());
        if number % 7 == 0 {
            // No event of an earlier source follows.
            poll.poll(events, Some(Duration::ZERO)).unwrap();
            assert!(events.is_empty(), "{}: {events:?}", self.name);
        }
    }
}

/// Runs `round` often, and fails if descriptors, handles or memory are left.
fn expect_no_growth(name: &str, rounds: u64, mut round: impl FnMut(u64)) {
    const WARM_UP: u64 = 200;
    (0..WARM_UP).for_each(&mut round);
    let (open, bytes) = (open_fds::open_files(), live_bytes());
    let start = std::time::Instant::now();
    (WARM_UP..WARM_UP + rounds).for_each(round);
    open_fds::assert_no_more(&open, name);
    let growth = live_bytes() - bytes;
    println!("{name}: {rounds} in {:?}, {growth} bytes more", start.elapsed());
    assert!(growth < MAX_GROWTH, "{name}: {growth} bytes more after {rounds} registrations");
}

/// A socket that the source does not own.
struct Raw(Stream);

impl Source for Raw {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> std::io::Result<()> {
        SourceFd(&raw(&self.0)).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> std::io::Result<()> {
        SourceFd(&raw(&self.0)).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> std::io::Result<()> {
        SourceFd(&raw(&self.0)).deregister(registry)
    }
}

#[test]
fn registrations_leave_no_descriptor_and_no_memory() {
    let _alone = run_alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    std::fs::write(&path, b"data").unwrap();
    let mut kinds = vec![
        Kind::new("UDP sockets", true, || UdpSocket::bind(loopback()).unwrap()).for_both(),
        Kind {
            make: Box::new(|| {
                let (ours, theirs) = kevio_pair();
                Registered { source: Box::new(ours), _peer: Some(theirs) }
            }),
            ..Kind::new("streams", true, || UdpSocket::bind(loopback()).unwrap()).for_both().rarer(10)
        },
        Kind {
            make: Box::new(|| {
                let (ours, theirs) = kevio_pair();
                Registered { source: Box::new(Raw(ours)), _peer: Some(theirs) }
            }),
            ..Kind::new("raw streams", true, || UdpSocket::bind(loopback()).unwrap()).for_both().rarer(10)
        },
        Kind::new("timers", true, || Timer::after(Duration::ZERO).unwrap()),
    ];
    if Process::from_pid(std::process::id() as _).is_ok() {
        kinds.push(Kind::new("processes", false, || Process::from_pid(std::process::id() as _).unwrap()).rarer(10));
    }
    if Watch::open(&path).is_ok() {
        kinds.push(Kind::new("watches", false, || Watch::open(&path).unwrap()).rarer(50));
    }
    kinds.extend(system::kinds());
    // wine opens and closes slowly. The other tests make 100 000 registrations there too.
    let divisor = if is_wine() { 20 } else { 1 };
    for kind in &kinds {
        let (mut poll, mut events) = (None, Events::with_capacity(16));
        let rounds = (times(100_000) / kind.divisor / divisor).max(50);
        expect_no_growth(kind.name, rounds, |number| kind.run(&mut poll, &mut events, number));
    }
}

#[test]
fn wakers_leave_no_descriptor_and_no_memory() {
    let _alone = run_alone();
    let (mut slot, mut events) = (None, Events::with_capacity(16));
    expect_no_growth("wakers", times(100_000), |number| {
        if number % 10 == 0 {
            slot = None;
        }
        let poll = slot.get_or_insert_with(|| Poll::new().unwrap());
        let waker = Waker::new(poll.registry(), Token(1)).unwrap();
        if number % 2 == 0 {
            waker.wake().unwrap();
        }
        if number % 3 == 0 {
            drop(waker);
            return;
        }
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events.iter().count(), usize::from(number % 2 == 0));
    });
}

/// The program registers the same sockets again and again, and polls never.
#[test]
fn registrations_without_a_poll_leave_no_memory() {
    let _alone = run_alone();
    register_again_and_again("registrations without a poll", |_, _, _| {});
}

#[test]
fn registrations_with_a_poll_leave_no_memory() {
    let _alone = run_alone();
    register_again_and_again("registrations with a poll", |poll, events, number| {
        let timeout = if number % 3 == 0 { Duration::from_secs(60) } else { Duration::ZERO };
        poll.poll(events, Some(timeout)).unwrap();
        assert!(timeout.is_zero() || events.iter().any(|event| event.token() == Token(number as usize)));
    });
}

fn register_again_and_again(name: &str, poll_once: impl Fn(&mut Poll, &mut Events, u64)) {
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(16));
    let mut sockets: Vec<_> = (0..40).map(|_| UdpSocket::bind(loopback()).unwrap()).collect();
    expect_no_growth(name, times(100_000), |number| {
        let (socket, token) = (&mut sockets[number as usize % 40], Token(number as usize));
        poll.registry().register(socket, token, READ).unwrap();
        poll.registry().reregister(socket, token, BOTH).unwrap();
        poll_once(&mut poll, &mut events, number);
        poll.registry().deregister(socket).unwrap();
    });
}

/// The sources that only this system has.
#[cfg(unix)]
mod system {
    use super::*;

    pub fn kinds<'a>() -> Vec<Kind<'a>> {
        vec![
            Kind::new("pipes", true, || kevio::unix::pipe::new().unwrap().0).writable(),
            Kind::new("signals", false, || kevio::Signals::new([libc::SIGWINCH]).unwrap()).rarer(10),
        ]
    }

    impl<'a> Kind<'a> {
        fn writable(self) -> Kind<'a> {
            Kind { interest: Interest::WRITABLE, ..self }
        }
    }
}

#[cfg(windows)]
mod system {
    use std::os::windows::io::{FromRawHandle, OwnedHandle};
    use std::ptr;

    use kevio::windows::{NamedPipe, SourceHandle, SIGBREAK};
    use windows_sys::Win32::System::Threading::CreateEventW;

    use super::*;

    pub fn kinds<'a>() -> Vec<Kind<'a>> {
        // SAFETY: null pointers stand for the default security, and for no name.
        let event = || unsafe { CreateEventW(ptr::null(), 1, 1, ptr::null()) };
        let pipe = format!(r"\\.\pipe\kevio-soak-{}", std::process::id());
        vec![
            Kind::new("handles", true, move || {
                // SAFETY: the handle is new, and has no other owner.
                SourceHandle::new(unsafe { OwnedHandle::from_raw_handle(event()) }).unwrap()
            }),
            Kind::new("named pipes", false, move || NamedPipe::new(&pipe).unwrap()).for_both().rarer(5),
            Kind::new("signals", false, || kevio::Signals::new([SIGBREAK]).unwrap()).rarer(10),
        ]
    }
}
