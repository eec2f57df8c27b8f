//! Registrations of descriptors that never become ready, and one socket beside them.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::OnceLock;
use std::time::Duration;

use super::cases::pair;
use super::cases::subject::{Kevio, Mio, RawSubject, Subject, LAST};
use super::fixture::{poll_one, time_each, Contestant, Fixture, Sample, Scale};

/// The largest number of sockets. A descriptor beyond them is a duplicate, because a socket takes 2 kB of the kernel's memory.
const SOCKETS: usize = 100_000;

/// The number of the files for registrations beyond the limit of descriptors.
pub const FILES: usize = 1_000;

/// epoll has a registration for each pair of a file and a number. The registration stays when the number is used for another
/// file, as long as another descriptor of the first file is open. Therefore more registrations than descriptors are possible.
const REUSES_NUMBERS: bool = cfg!(all(target_os = "linux", kevio_selector = "epoll"));

/// A descriptor that a program registers with a subject.
trait Registrable<S: Subject> {
    fn new(fd: OwnedFd) -> Self;
    fn register(&mut self, registry: &S::Registry, token: usize);
    fn reregister(&mut self, registry: &S::Registry, token: usize);
    fn deregister(&mut self, registry: &S::Registry);
}

/// A stream of the crate.
struct Stream<S: Subject>(S::Socket);

impl<S: Subject> Registrable<S> for Stream<S> {
    fn new(fd: OwnedFd) -> Stream<S> {
        Stream(S::socket(fd))
    }

    #[inline(always)]
    fn register(&mut self, registry: &S::Registry, token: usize) {
        S::register(registry, &mut self.0, token);
    }

    #[inline(always)]
    fn reregister(&mut self, registry: &S::Registry, token: usize) {
        S::reregister(registry, &mut self.0, token);
    }

    #[inline(always)]
    fn deregister(&mut self, registry: &S::Registry) {
        S::deregister(registry, &mut self.0);
    }
}

/// A raw descriptor, which keeps no state of the registration.
impl<S: RawSubject> Registrable<S> for OwnedFd {
    fn new(fd: OwnedFd) -> OwnedFd {
        fd
    }

    #[inline(always)]
    fn register(&mut self, registry: &S::Registry, token: usize) {
        S::add(registry, self.as_raw_fd(), token);
    }

    #[inline(always)]
    fn reregister(&mut self, registry: &S::Registry, token: usize) {
        S::change(registry, self.as_raw_fd(), token);
    }

    #[inline(always)]
    fn deregister(&mut self, registry: &S::Registry) {
        S::remove(registry, self.as_raw_fd());
    }
}

pub fn contestants() -> Vec<Contestant> {
    let descriptors = |n: usize| if REUSES_NUMBERS { n.min(FILES) } else { n };
    let contestant = |subject, measure| Contestant { subject, descriptors, measure };
    vec![
        contestant("kevio", all::<Kevio, Stream<Kevio>>),
        contestant("kevio, SourceFd", all::<Kevio, OwnedFd>),
        contestant("mio", all::<Mio, OwnedFd>),
        #[cfg(all(target_os = "linux", kevio_selector = "epoll"))]
        contestant("bare", all::<super::cases::bare::Epoll, OwnedFd>),
        // The table is in the program, so that a registration is no call.
        #[cfg(all(target_os = "linux", kevio_selector = "poll"))]
        contestant("bare", |scale| waits(&mut build::<super::cases::bare::Poll, OwnedFd>(scale).0, scale.budget)),
        #[cfg(all(kevio_selector = "kqueue", not(links_libkqueue)))]
        contestant("bare", all::<super::cases::bare_kqueue::Kqueue, OwnedFd>),
    ]
}

/// Returns `n` descriptors that never become ready. `n` is even.
fn idle_descriptors(n: usize) -> Vec<OwnedFd> {
    let sockets = n.min(SOCKETS);
    let mut fds = Vec::with_capacity(n);
    fds.extend((0..sockets / 2).flat_map(|_| <[UnixStream; 2]>::from(UnixStream::pair().unwrap())).map(OwnedFd::from));
    while fds.len() < n {
        fds.push(fds[fds.len() % sockets].try_clone().unwrap());
    }
    fds
}

/// Registers `n` descriptors that never become ready, whose numbers are then used for other files. Returns as many descriptors as
/// `numbers`, which are not registered.
fn register_and_reuse<S: RawSubject>(registry: &S::Registry, n: usize, numbers: usize) -> Vec<OwnedFd> {
    static OPEN: OnceLock<Vec<OwnedFd>> = OnceLock::new();
    let files = OPEN.get_or_init(|| idle_descriptors(FILES));
    let fds: Vec<OwnedFd> = (0..numbers).map(|index| files[index % FILES].try_clone().unwrap()).collect();
    for token in 0..n {
        let (index, pass) = (token % numbers, token / numbers);
        assert!(pass < FILES - 1, "each pair is registered once");
        S::add(registry, fds[index].as_raw_fd(), token);
        let file = &files[(index + pass + 1) % FILES];
        // SAFETY: no pointers; the descriptor of this number stays open, and is only used as a descriptor that is never ready.
        assert!(unsafe { libc::dup2(file.as_raw_fd(), fds[index].as_raw_fd()) } >= 0);
    }
    fds
}

/// Returns the fixture with its registrations, and the nanoseconds to register one. If there are fewer descriptors than
/// registrations, the last registrations are the members.
fn build<S: RawSubject, R: Registrable<S>>(scale: Scale) -> (Fixture<S, R>, f64) {
    let members = scale.size.min(scale.descriptors);
    Fixture::build(members, scale.budget, |registry| {
        let fds = match scale.size - members {
            0 => idle_descriptors(members),
            others => register_and_reuse::<S>(registry, others, members),
        };
        let mut fds = fds.into_iter();
        move |registry: &S::Registry, token| {
            let mut source = R::new(fds.next().expect("a descriptor for each member"));
            source.register(registry, token);
            source
        }
    })
}

fn all<S: RawSubject, R: Registrable<S>>(scale: Scale) -> Vec<Sample> {
    let budget = scale.budget;
    let (mut fixture, register) = build::<S, R>(scale);
    let reregister = |_: &mut S, registry: &S::Registry, token, source: &mut R| source.reregister(registry, token);
    let again = |_: &mut S, registry: &S::Registry, token, source: &mut R| {
        source.deregister(registry);
        source.register(registry, token);
    };
    let mut samples = vec![
        ("register", register),
        ("reregister", fixture.time_at_random(budget, reregister)),
        ("deregister, register", fixture.time_at_random(budget, again)),
    ];
    samples.extend(waits(&mut fixture, budget));
    samples
}

/// Measures the polls.
fn waits<S: Subject, R>(fixture: &mut Fixture<S, R>, budget: Duration) -> Vec<Sample> {
    let idle = fixture.time_idle_poll(budget);
    let (socket, mut peer) = pair();
    let mut socket = S::socket(socket);
    S::register(&fixture.registry, &mut socket, LAST);
    let one_ready = time_each(budget, || {
        peer.write_all(b"x").unwrap();
        poll_one(&mut fixture.subject, LAST);
        while socket.read(&mut [0; 8]).is_ok() {}
        S::drained(&fixture.registry, &socket, LAST);
    });
    vec![("poll, all idle", idle), ("poll, one ready", one_ready), ("memory of a registration", fixture.bytes)]
}
