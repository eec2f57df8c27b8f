//! The contract, case by case, for every engine that the host compiles.
//!
//! What needs sockets of this crate, or only shows through `Poll`, is in `tests/suite`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::{Duration, Instant};

use super::*;

const READ: Interest = Interest::READABLE;
const WRITE: Interest = Interest::WRITABLE;
const BOTH: Interest = READ.add(WRITE);

/// Far more than any wait here needs; a test that gets there has failed.
const ENOUGH: Duration = Duration::from_secs(10);

/// An engine and its buffer.
struct Rig<T: Engine> {
    engine: T,
    events: Vec<T::Event>,
}

/// What was said of a token: (readable, writable, closed or error).
type Said = (bool, bool, bool);

impl<T: Engine> Rig<T> {
    fn new() -> Rig<T> {
        Rig::with_capacity(64)
    }

    fn with_capacity(capacity: usize) -> Rig<T> {
        Rig { engine: T::new().unwrap(), events: Vec::with_capacity(capacity) }
    }

    fn own(&self, fd: &impl AsRawFd, token: usize, interest: Interest) -> T::Tie {
        self.engine.register(fd.as_raw_fd(), Token(token), interest, Origin::Own).unwrap()
    }

    fn bare(&self, fd: RawFd, token: usize, interest: Interest) -> io::Result<()> {
        self.engine.register(fd, Token(token), interest, Origin::Bare).map(Tie::release)
    }

    fn select(&mut self, timeout: Duration) -> BTreeMap<usize, Said> {
        let room = self.events.capacity();
        self.engine.select(&mut self.events, Some(timeout)).unwrap();
        assert!(self.events.len() <= room && self.events.capacity() == room, "the buffer grew");
        let mut said = BTreeMap::new();
        for event in &self.events {
            let one: &mut Said = said.entry(event.token().0).or_default();
            one.0 |= event.is_readable();
            one.1 |= event.is_writable();
            one.2 |= event.is_read_closed() || event.is_write_closed() || event.is_error();
        }
        said
    }

    /// What is ready, at once.
    fn now(&mut self) -> BTreeMap<usize, Said> {
        self.select(Duration::ZERO)
    }

    /// Selects until `token` has said it is readable or writable, as wanted.
    #[track_caller]
    fn expect(&mut self, token: usize, interest: Interest) -> Said {
        let deadline = Instant::now() + ENOUGH;
        let mut all = Said::default();
        while (interest.is_readable() && !all.0) || (interest.is_writable() && !all.1) {
            assert!(Instant::now() < deadline, "wanted {interest:?} of {token}, had {all:?}");
            for (said, one) in self.select(Duration::from_millis(100)) {
                assert_eq!(said, token, "unexpected token");
                all = (all.0 | one.0, all.1 | one.1, all.2 | one.2);
            }
        }
        all
    }

    #[track_caller]
    fn silent(&mut self) {
        assert_eq!(self.now(), BTreeMap::new());
    }
}

fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

fn read_all(mut stream: &UnixStream) -> usize {
    let mut total = 0;
    while let Ok(n @ 1..) = stream.read(&mut [0; 256]) {
        total += n;
    }
    total
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.map(drop).unwrap_err().kind()
}

fn errno<T>(result: io::Result<T>) -> i32 {
    result.map(drop).unwrap_err().raw_os_error().unwrap()
}

pub(super) fn keeps_score<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    let fd = a.as_raw_fd();
    assert_eq!(kind(rig.engine.reregister(fd, Token(1), BOTH, Origin::Bare)), ErrorKind::NotFound);
    assert_eq!(kind(rig.engine.deregister(fd, Origin::Bare)), ErrorKind::NotFound);
    b.write_all(b"x").unwrap();
    rig.silent();
    rig.bare(fd, 1, READ).unwrap();
    if T::BACKEND != Backend::Kqueue {
        assert_eq!(kind(rig.bare(fd, 2, READ)), ErrorKind::AlreadyExists);
    }
    rig.expect(1, READ);
    rig.engine.deregister(fd, Origin::Bare).unwrap();
    assert_eq!(kind(rig.engine.deregister(fd, Origin::Bare)), ErrorKind::NotFound);
    assert_eq!(kind(rig.engine.reregister(fd, Token(1), BOTH, Origin::Bare)), ErrorKind::NotFound);
    rig.silent();
}

pub(super) fn refuses_what_cannot_be<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    for interest in [Interest::AIO, Interest::LIO, READ | Interest::LIO] {
        assert_eq!(kind(rig.bare(a.as_raw_fd(), 1, interest)), ErrorKind::Unsupported);
    }
    assert_eq!(errno(rig.bare(-1, 1, READ)), libc::EBADF);
    assert_eq!(errno(rig.bare(RawFd::MAX, 1, BOTH)), libc::EBADF);
    let file = tempfile::tempfile().unwrap();
    assert_eq!(errno(rig.bare(file.as_raw_fd(), 1, READ)), libc::EPERM);
    assert_eq!(
        errno(rig.engine.register(file.as_raw_fd(), Token(1), WRITE, Origin::Wrapped).map(Tie::release)),
        libc::EPERM
    );
    b.write_all(b"x").unwrap();
    rig.silent();
}

pub(super) fn a_failed_reregistration_changes_nothing<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    rig.bare(a.as_raw_fd(), 1, READ).unwrap();
    assert_eq!(
        kind(rig.engine.reregister(a.as_raw_fd(), Token(2), Interest::AIO, Origin::Bare)),
        ErrorKind::Unsupported
    );
    b.write_all(b"x").unwrap();
    rig.expect(1, READ);
}

pub(super) fn tokens_come_back<T: Engine>() {
    for token in [0, 1, usize::MAX] {
        let mut rig = Rig::<T>::new();
        let (a, _b) = pair();
        rig.bare(a.as_raw_fd(), token, WRITE).unwrap();
        rig.expect(token, WRITE);
    }
}

pub(super) fn reports_an_edge_once<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    let tie = rig.own(&a, 1, READ);
    rig.silent();
    for _ in 0..3 {
        b.write_all(b"x").unwrap();
        rig.expect(1, READ);
        rig.silent();
        assert_eq!(read_all(&a), 1);
        tie.rearm(Direction::Read);
        rig.silent();
    }
}

pub(super) fn any_operation_rearms<T: Engine>() {
    for direction in [Direction::Read, Direction::Either] {
        let mut rig = Rig::<T>::new();
        let (mut a, mut b) = pair();
        let tie = rig.own(&a, 1, READ);
        b.write_all(b"xy").unwrap();
        rig.expect(1, READ);
        // A short read, and more to come.
        assert_eq!(a.read(&mut [0; 1]).unwrap(), 1);
        tie.rearm(direction);
        rig.now();
        b.write_all(b"z").unwrap();
        if T::BACKEND == Backend::Poll {
            tie.rearm(direction);
        }
        rig.expect(1, READ);
    }
}

pub(super) fn writing_does_not_rearm_reading<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (mut a, mut b) = pair();
    let tie = rig.own(&a, 1, READ);
    b.write_all(b"x").unwrap();
    rig.expect(1, READ);
    a.write_all(b"y").unwrap();
    tie.rearm(Direction::Write);
    rig.silent();
}

pub(super) fn reregistering_reports_again<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    rig.bare(a.as_raw_fd(), 1, READ).unwrap();
    b.write_all(b"x").unwrap();
    rig.expect(1, READ);
    rig.engine.reregister(a.as_raw_fd(), Token(2), BOTH, Origin::Bare).unwrap();
    rig.expect(2, BOTH);
    rig.engine.reregister(a.as_raw_fd(), Token(3), WRITE, Origin::Bare).unwrap();
    let said = rig.expect(3, WRITE);
    assert!(!said.0, "reading was not asked for");
}

pub(super) fn deregistering_is_at_once<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    rig.bare(a.as_raw_fd(), 1, BOTH).unwrap();
    rig.engine.deregister(a.as_raw_fd(), Origin::Bare).unwrap();
    rig.silent();
}

pub(super) fn a_dropped_tie_frees_its_number<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, _keep) = pair();
    for token in 0..3 {
        let tie = rig.own(&a, token, WRITE);
        rig.expect(token, WRITE);
        if T::BACKEND != Backend::Poll {
            // For these the tie is nothing, and closing the descriptor is what ends it.
            rig.engine.deregister(a.as_raw_fd(), Origin::Bare).unwrap();
        }
        drop(tie);
        rig.silent();
    }
}

pub(super) fn a_released_tie_stays<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    rig.own(&a, 1, READ).release();
    for _ in 0..2 {
        b.write_all(b"wave").unwrap();
        rig.expect(1, READ);
        assert_eq!(read_all(&a), 4);
    }
}

pub(super) fn a_bare_descriptor_has_a_second_wave<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    rig.bare(a.as_raw_fd(), 1, BOTH).unwrap();
    rig.expect(1, WRITE);
    for looked in [true, true, false, false] {
        b.write_all(b"wave").unwrap();
        rig.expect(1, READ);
        assert_eq!(read_all(&a), 4);
        if looked {
            rig.now();
        }
    }
}

pub(super) fn a_bare_descriptor_left_ready_does_not_spin<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    rig.bare(a.as_raw_fd(), 1, BOTH).unwrap();
    b.write_all(b"unread").unwrap();
    rig.expect(1, BOTH);
    let start = Instant::now();
    let mut events = 0;
    while start.elapsed() < Duration::from_millis(60) {
        events += rig.select(Duration::from_millis(60)).len();
    }
    assert!(events <= 1, "{events} events in 60 ms");
}

pub(super) fn a_full_stream_becomes_writable<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (mut a, b) = pair();
    let tie = rig.own(&a, 1, WRITE);
    rig.expect(1, WRITE);
    while a.write(&[0; 4096]).is_ok() {}
    tie.rearm(Direction::Write);
    rig.silent();
    read_all(&b);
    rig.expect(1, WRITE);
}

pub(super) fn a_closed_peer_is_told_once<T: Engine>() {
    for origin in [Origin::Own, Origin::Bare] {
        let mut rig = Rig::<T>::new();
        let (mut a, b) = pair();
        let tie = rig.engine.register(a.as_raw_fd(), Token(1), BOTH, origin).unwrap();
        rig.expect(1, WRITE);
        drop(b);
        let said = rig.expect(1, READ);
        assert!(said.2, "closed");
        rig.now();
        for _ in 0..5 {
            assert_eq!(a.read(&mut [0; 8]).unwrap(), 0);
            tie.rearm(Direction::Read);
            let _ = a.write(b"x");
            tie.rearm(Direction::Write);
            rig.silent();
        }
    }
}

pub(super) fn a_half_closed_peer_is_told_once<T: Engine>() {
    if T::BACKEND == Backend::Poll && with_pollrdhup!({ false } else { true }) {
        // Without POLLRDHUP only the reading source knows; see `IoSource::read_stream`.
        return;
    }
    let mut rig = Rig::<T>::new();
    let (mut a, b) = pair();
    let tie = rig.own(&a, 1, READ);
    (&b).write_all(b"last").unwrap();
    b.shutdown(std::net::Shutdown::Write).unwrap();
    rig.expect(1, READ);
    assert_eq!(read_all(&a), 4);
    for _ in 0..5 {
        assert_eq!(a.read(&mut [0; 8]).unwrap(), 0);
        tie.rearm(Direction::Read);
        rig.silent();
    }
}

pub(super) fn pipes_say_when_the_other_end_goes<T: Engine>() {
    for late in [false, true] {
        let mut rig = Rig::<T>::new();
        let [reader, writer] = pipe::pipe().unwrap();
        let [other_reader, other_writer] = pipe::pipe().unwrap();
        let register = |rig: &Rig<T>| {
            rig.bare(reader.as_raw_fd(), 1, READ).unwrap();
            rig.bare(other_writer.as_raw_fd(), 2, WRITE).unwrap();
        };
        if !late {
            register(&rig);
            rig.expect(2, WRITE);
        }
        // A full pipe says that its reader has gone and nothing else.
        while std::fs::File::from(other_writer.try_clone().unwrap()).write(&[0; 4096]).is_ok() {}
        rig.now();
        drop((writer, other_reader));
        if late {
            register(&rig);
        }
        let deadline = Instant::now() + ENOUGH;
        let (mut read, mut written) = (false, false);
        while !(read && written) {
            assert!(Instant::now() < deadline, "late: {late}, read: {read}, written: {written}");
            let said = rig.select(Duration::from_millis(100));
            read |= said.get(&1).is_some_and(|said| said.0);
            written |= said.get(&2).is_some_and(|said| said.1);
        }
    }
}

pub(super) fn a_closed_number_ends_its_registration<T: Engine>() {
    if !closing_is_seen::<T>() {
        return;
    }
    let mut rig = Rig::<T>::new();
    let (a, b) = pair();
    let number = OwnedFd::from(a).as_raw_fd();
    drop(b);
    // Somebody else of this process may have been given the number; then this says so, and not that it is closed.
    let result = rig.bare(number, 1, READ);
    if result.is_ok() {
        let _ = rig.engine.deregister(number, Origin::Bare);
    }
    let (a, mut b) = pair();
    let (c, mut d) = pair();
    let number = std::os::fd::IntoRawFd::into_raw_fd(a);
    rig.bare(number, 1, READ).unwrap();
    // SAFETY: the number is this test's own. It becomes a copy of `c`, and is closed by nobody else.
    unsafe {
        assert_eq!(libc::dup2(c.as_raw_fd(), number), number);
    }
    d.write_all(b"x").unwrap();
    assert!(b.write_all(b"x").is_err(), "its peer was closed");
    // Not what was registered, and not registered: silent, and the wait is one.
    let start = Instant::now();
    assert_eq!(rig.select(Duration::from_millis(20)), BTreeMap::new());
    assert!(start.elapsed() >= Duration::from_millis(20));
    rig.bare(number, 2, READ).unwrap();
    rig.expect(2, READ);
    // SAFETY: as above.
    unsafe { libc::close(number) };
    let start = Instant::now();
    rig.silent();
    assert_eq!(rig.select(Duration::from_millis(20)), BTreeMap::new());
    assert!(start.elapsed() >= Duration::from_millis(20));
}

/// libkqueue cannot see a descriptor close.
fn closing_is_seen<T: Engine>() -> bool {
    T::BACKEND != Backend::Kqueue || cfg!(not(target_os = "linux"))
}

pub(super) fn everything_is_seen_through_a_small_buffer<T: Engine>() {
    for capacity in [1, 3, 7] {
        let mut rig = Rig::<T>::with_capacity(capacity);
        let mut pairs: Vec<_> = (0..20).map(|_| pair()).collect();
        let ties: Vec<_> = pairs.iter().enumerate().map(|(token, (a, _))| rig.own(a, token, READ)).collect();
        for _ in 0..3 {
            for (_, b) in &mut pairs {
                b.write_all(b"x").unwrap();
            }
            let mut seen = std::collections::BTreeSet::new();
            while seen.len() < pairs.len() {
                let said = rig.now();
                assert!(!said.is_empty(), "{capacity}: only {seen:?}");
                for token in said.into_keys() {
                    assert!(seen.insert(token), "{token} twice");
                }
            }
            for ((a, _), tie) in pairs.iter().zip(&ties) {
                read_all(a);
                tie.rearm(Direction::Read);
            }
        }
    }
}

/// One source that is always ready again must not hide another behind a buffer for one.
pub(super) fn nobody_starves<T: Engine>() {
    let mut rig = Rig::<T>::with_capacity(1);
    let mut pairs: Vec<_> = (0..3).map(|_| pair()).collect();
    let ties: Vec<_> = pairs.iter().enumerate().map(|(token, (a, _))| rig.own(a, token, READ)).collect();
    for (_, b) in &mut pairs {
        b.write_all(b"x").unwrap();
    }
    let mut seen = [false; 3];
    for _ in 0..20 {
        for token in rig.now().into_keys() {
            seen[token] = true;
            read_all(&pairs[token].0);
            pairs[token].1.write_all(b"x").unwrap();
            ties[token].rearm(Direction::Read);
        }
    }
    assert_eq!(seen, [true; 3]);
}

/// Neither do wakes hide sources, nor sources wakes, when there is more of both than room for them.
pub(super) fn wakes_and_sources_take_turns<T: Engine>() {
    for (wakers, sources) in [(1, 3), (3, 1), (3, 3)] {
        let mut rig = Rig::<T>::with_capacity(1);
        let wakers: Vec<_> = (0..wakers).map(|token| rig.engine.add_waker(Token(token)).unwrap()).collect();
        let mut pairs: Vec<_> = (0..sources).map(|_| pair()).collect();
        let ties: Vec<_> = pairs.iter().enumerate().map(|(token, (a, _))| rig.own(a, 100 + token, READ)).collect();
        for (_, b) in &mut pairs {
            b.write_all(b"x").unwrap();
        }
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..50 {
            for waker in &wakers {
                rig.engine.wake(waker).unwrap();
            }
            for token in rig.now().into_keys() {
                seen.insert(token);
                if token >= 100 {
                    read_all(&pairs[token - 100].0);
                    pairs[token - 100].1.write_all(b"x").unwrap();
                    ties[token - 100].rearm(Direction::Read);
                }
            }
        }
        assert_eq!(seen.len(), wakers.len() + pairs.len(), "only {seen:?}");
        // What is left over is one event for each.
        let left = (0..20).map(|_| rig.now().len()).sum::<usize>();
        assert!(left <= seen.len(), "{left} events were left");
    }
}

/// What may have been read or written re-arms both, and keeps nobody busy.
pub(super) fn operations_of_either_direction<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (mut a, mut b) = pair();
    let tie = rig.own(&a, 1, BOTH);
    // A program that tries to read on each event.
    let start = Instant::now();
    let mut events = 0;
    while start.elapsed() < Duration::from_millis(50) {
        events += rig.select(Duration::from_millis(50)).len();
        assert_eq!(a.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::WouldBlock);
        tie.rearm(Direction::Either);
    }
    assert!(events <= 2, "{events} events of an idle stream");
    // One that writes until there is no room, and is read before anybody looks.
    for _ in 0..2 {
        while a.write(&[0; 4096]).is_ok() {
            tie.rearm(Direction::Either);
        }
        tie.rearm(Direction::Either);
        read_all(&b);
        rig.expect(1, WRITE);
    }
    b.write_all(b"x").unwrap();
    rig.expect(1, READ);
}

/// accept(2) without descriptors fails again and again, and is asked again from time to time, not all the time.
pub(super) fn a_shortage_is_no_reason_to_spin<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    let tie = rig.own(&a, 1, READ);
    b.write_all(b"x").unwrap();
    rig.expect(1, READ);
    let start = Instant::now();
    let mut events = 0;
    while start.elapsed() < Duration::from_millis(50) {
        tie.doubt();
        events += rig.select(Duration::from_millis(50)).len();
    }
    assert!(events <= 1, "{events} events");
    assert_eq!(read_all(&a), 1);
    tie.rearm(Direction::Read);
    rig.now();
    b.write_all(b"y").unwrap();
    rig.expect(1, READ);
}

/// A FIFO that hung up has another writer, which has gone again before anybody looks.
pub(super) fn a_fifo_between_two_looks<T: Engine>() {
    if cfg!(target_vendor = "apple") {
        // Apple's kernels do not report the end of file of a FIFO.
        return;
    }
    for origin in [Origin::Own, Origin::Bare] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        // SAFETY: a string that ends with a zero byte.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
        let mut options = std::fs::File::options();
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, libc::O_NONBLOCK);
        let mut reader = options.read(true).open(&path).unwrap();
        let mut rig = Rig::<T>::new();
        let tie = rig.engine.register(reader.as_raw_fd(), Token(1), READ, origin).unwrap();
        for _ in 0..3 {
            std::fs::File::options().write(true).open(&path).unwrap().write_all(b"line\n").unwrap();
            rig.expect(1, READ);
            while reader.read(&mut [0; 64]).unwrap() > 0 {}
            if origin == Origin::Own {
                tie.rearm(Direction::Read);
            }
        }
        if origin == Origin::Bare {
            tie.release();
        }
    }
}

pub(super) fn a_second_datagram_error_between_two_looks<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    socket.connect(gone).unwrap();
    let tie = rig.own(&socket, 1, READ);
    for _ in 0..3 {
        socket.send(b"anybody?").unwrap();
        tie.rearm(Direction::Write);
        rig.expect(1, READ);
        let _ = socket.recv(&mut [0; 4]);
        tie.rearm(Direction::Read);
    }
}

pub(super) fn leaving_during_a_wait_loses_nothing<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    let tie = rig.own(&a, 1, READ);
    b.write_all(b"x").unwrap();
    rig.expect(1, READ);
    std::thread::scope(|scope| {
        let (a, b) = (&a, &mut b);
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            tie.release();
            assert_eq!(read_all(a), 1);
            b.write_all(b"y").unwrap();
        });
        rig.engine.select(&mut rig.events, Some(ENOUGH)).unwrap();
    });
    assert_eq!(rig.events.len(), 1);
}

pub(super) fn wakes_are_events<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let first = rig.engine.add_waker(Token(1)).unwrap();
    let second = rig.engine.add_waker(Token(usize::MAX)).unwrap();
    rig.silent();
    for _ in 0..3 {
        rig.engine.wake(&first).unwrap();
        assert_eq!(rig.now(), BTreeMap::from([(1, (true, false, false))]));
        rig.silent();
    }
    rig.engine.wake(&second).unwrap();
    assert_eq!(rig.now().len(), 1);
    rig.engine.wake(&first).unwrap();
    rig.engine.remove_waker(&first);
    drop(first);
    rig.silent();
    rig.engine.wake(&second).unwrap();
    rig.expect(usize::MAX, READ);
}

pub(super) fn a_wake_ends_a_wait<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let waker = rig.engine.add_waker(Token(1)).unwrap();
    std::thread::scope(|scope| {
        let (engine, waker) = (&rig.engine, &waker);
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            engine.wake(waker).unwrap();
        });
        rig.engine.select(&mut rig.events, Some(ENOUGH)).unwrap();
    });
    assert_eq!(rig.events.len(), 1);
}

pub(super) fn a_registration_joins_a_wait<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    std::thread::scope(|scope| {
        let engine = &rig.engine;
        let fd = a.as_raw_fd();
        scope.spawn(move || {
            std::thread::sleep(Duration::from_millis(10));
            engine.register(fd, Token(1), READ, Origin::Bare).map(Tie::release).unwrap();
        });
        rig.engine.select(&mut rig.events, Some(ENOUGH)).unwrap();
    });
    assert_eq!(rig.events[0].token(), Token(1));
}

pub(super) fn waits_are_not_short<T: Engine>() {
    let mut rig = Rig::<T>::new();
    for wait in [1, 200_000, 1_000_001, 12_000_000].map(Duration::from_nanos) {
        let start = Instant::now();
        assert!(rig.select(wait).is_empty());
        assert!(start.elapsed() >= wait, "{wait:?}");
    }
}

pub(super) fn the_longest_wait_is_one<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, _b) = pair();
    let _tie = rig.own(&a, 1, WRITE);
    assert_eq!(rig.select(LONGEST_WAIT).len(), 1);
}

pub(super) fn datagram_errors_come_and_go<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let gone = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    socket.connect(gone).unwrap();
    let tie = rig.own(&socket, 1, READ);
    for _ in 0..2 {
        socket.send(b"anybody?").unwrap();
        tie.rearm(Direction::Write);
        rig.expect(1, READ);
        // libkqueue has taken the error, everybody else reports it here.
        let _ = socket.recv(&mut [0; 4]);
        tie.rearm(Direction::Read);
        rig.now();
    }
    let peer = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(peer.local_addr().unwrap()).unwrap();
    peer.send_to(b"me", socket.local_addr().unwrap()).unwrap();
    rig.expect(1, READ);
    assert_eq!(socket.recv(&mut [0; 4]).unwrap(), 2);
}

pub(super) fn an_unread_datagram_hides_no_other<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, b) = UnixDatagram::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    let tie = rig.own(&a, 1, READ);
    b.send(b"1").unwrap();
    b.send(b"2").unwrap();
    rig.expect(1, READ);
    a.recv(&mut [0; 4]).unwrap();
    tie.rearm(Direction::Read);
    b.send(b"3").unwrap();
    rig.expect(1, READ);
}

/// Writes a test for each case, for one engine.
macro_rules! cases {
    ($engine:ty) => {
        crate::sys::tests::cases! { $engine,
            keeps_score
            refuses_what_cannot_be
            a_failed_reregistration_changes_nothing
            tokens_come_back
            reports_an_edge_once
            any_operation_rearms
            writing_does_not_rearm_reading
            reregistering_reports_again
            deregistering_is_at_once
            a_dropped_tie_frees_its_number
            a_released_tie_stays
            a_bare_descriptor_has_a_second_wave
            a_bare_descriptor_left_ready_does_not_spin
            a_full_stream_becomes_writable
            a_closed_peer_is_told_once
            a_half_closed_peer_is_told_once
            pipes_say_when_the_other_end_goes
            a_closed_number_ends_its_registration
            everything_is_seen_through_a_small_buffer
            nobody_starves
            wakes_and_sources_take_turns
            operations_of_either_direction
            a_shortage_is_no_reason_to_spin
            a_fifo_between_two_looks
            a_second_datagram_error_between_two_looks
            leaving_during_a_wait_loses_nothing
            wakes_are_events
            a_wake_ends_a_wait
            a_registration_joins_a_wait
            waits_are_not_short
            the_longest_wait_is_one
            datagram_errors_come_and_go
            an_unread_datagram_hides_no_other
        }
    };
    ($engine:ty, $($case:ident)+) => {
        $(
            #[test]
            fn $case() {
                crate::sys::tests::$case::<$engine>();
            }
        )+
    };
}

pub(super) use cases;
