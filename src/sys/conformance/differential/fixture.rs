//! A source of the differential test: a descriptor, its registration, and the expected state.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::SockRef;

use crate::interest::Interest;
use crate::interest::TriggerMode;
use crate::sys::conformance::differential::model::{ExpectedState, KnownDifferences};
use crate::sys::conformance::differential::{Act, Amount, End, Kind};
use crate::sys::conformance::readiness_of;
use crate::sys::conformance::support::poll::{READ, WRITE};
use crate::sys::conformance::support::readiness::{NONE, P, R, W};
use crate::sys::selector::{IoDirection, Registration, Selector, SourceKind};
use crate::sys::unix::{pipe, syscall};
use crate::token::Token;

/// More operations than fill any buffer.
const MAX_TRANSFERS: usize = 1000;

/// Returns both ends, non-blocking. Of a pipe, our end is the end of that kind.
fn open(kind: Kind) -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs): (OwnedFd, OwnedFd) = match kind {
        Kind::Unix => UnixStream::pair().map(|(ours, theirs)| (ours.into(), theirs.into()))?,
        Kind::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let ours = TcpStream::connect(listener.local_addr()?)?;
            let theirs = listener.accept()?.0;
            ours.set_nodelay(true)?;
            theirs.set_nodelay(true)?;
            // Closing with a reset leaves no port in TIME_WAIT.
            SockRef::from(&ours).set_linger(Some(Duration::ZERO))?;
            (ours.into(), theirs.into())
        }
        Kind::Reader => pipe::pipe().map(|[reader, writer]| (reader, writer))?,
        Kind::Writer => pipe::pipe().map(|[reader, writer]| (writer, reader))?,
    };
    syscall::set_nonblocking(ours.as_raw_fd(), true)?;
    syscall::set_nonblocking(theirs.as_raw_fd(), true)?;
    Ok((ours, theirs))
}

fn expect_error(what: &str, result: io::Result<()>, kind: ErrorKind) -> Result<(), String> {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        other => Err(format!("{what}: {other:?} instead of {kind:?}")),
    }
}

/// A source of one backend. The other backend has an equal source.
pub(super) struct TestSource<T: Selector> {
    // Dropped before the descriptor, as in `IoSource`.
    registration: Option<T::Registration>,
    pub(super) state: Option<ExpectedState>,
    pub(super) kind: Kind,
    /// `true` after a local read shutdown.
    read_shut_down: bool,
    /// `true` after the peer's read shutdown, which discards unread data.
    peer_read_shut_down: bool,
    ours: File,
    theirs: Option<File>,
}

impl<T: Selector> TestSource<T> {
    pub(super) fn new(kind: Kind) -> TestSource<T> {
        let (ours, theirs) = open(kind).unwrap();
        let (ours, theirs) = (File::from(ours), Some(File::from(theirs)));
        let (read_shut_down, peer_read_shut_down) = (false, false);
        TestSource { registration: None, state: None, kind, read_shut_down, peer_read_shut_down, ours, theirs }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.ours.as_raw_fd()
    }

    pub(super) fn act(&mut self, selector: &T, token: usize, act: Act) -> Result<(), String> {
        match act {
            Act::Register(interest, kind) => self.register(selector, Token(token), self.supported(interest), kind)?,
            Act::Reregister(interest) => self.reregister(selector, Token(token), self.supported(interest))?,
            Act::Deregister => self.deregister(selector)?,
            Act::Release => self.release(selector),
            Act::Read(end, amount) => self.transfer(end, IoDirection::Read, amount),
            Act::Write(end, amount) => self.transfer(end, IoDirection::Write, amount),
            Act::TryIo => self.transfer(End::Ours, IoDirection::Unknown, Amount::Bytes(16)),
            Act::Shortage => self.done(IoDirection::Unknown, Err(io::Error::from_raw_os_error(libc::EMFILE))),
            // shutdown(2) fails for a pipe, and for a socket whose peer has closed.
            Act::Shutdown(end, how) => {
                let result = self.file(end).map(|file| SockRef::from(file).shutdown(how));
                let ends_reading = how != Shutdown::Write && matches!(result, Some(Ok(())));
                self.read_shut_down |= end == End::Ours && ends_reading;
                self.peer_read_shut_down |= end == End::Theirs && ends_reading;
            }
            Act::ClosePeer => self.theirs = None,
            Act::Close | Act::Reopen(_) => {}
        }
        let (fd, may_free_space) = (self.fd(), self.may_free_space_silently(act));
        if let Some(state) = &mut self.state {
            state.read_shut_down = self.read_shut_down;
            if may_free_space {
                state.probe_silent_write(fd);
            } else {
                state.probe(fd);
            }
            state.operated_on = true;
        }
        Ok(())
    }

    /// Returns `true` if the operation may make the source writable without an event: see the table of differences.
    fn may_free_space_silently(&self, act: Act) -> bool {
        KnownDifferences::<T>::FREES_SPACE_SILENTLY
            && self.kind == Kind::Unix
            && self.peer_read_shut_down
            && matches!(act, Act::Write(End::Ours, _))
    }

    /// Returns the interest that the source supports. Pipes are registered for their direction only, because the other direction
    /// depends on the system.
    fn supported(&self, interest: Interest) -> Interest {
        let direction = match self.kind {
            Kind::Reader => READ,
            Kind::Writer => WRITE,
            _ => return interest,
        };
        match interest.mode() {
            TriggerMode::Disabled => interest,
            TriggerMode::OneShot => direction.oneshot(),
            TriggerMode::Edge | TriggerMode::Level => direction,
        }
    }

    fn can(&self, end: End, direction: IoDirection) -> bool {
        match self.kind {
            Kind::Reader => (end == End::Ours) == (direction != IoDirection::Write),
            Kind::Writer => (end == End::Ours) == (direction == IoDirection::Write),
            _ => true,
        }
    }

    fn file(&self, end: End) -> Option<&File> {
        if end == End::Ours {
            Some(&self.ours)
        } else {
            self.theirs.as_ref()
        }
    }

    fn register(&mut self, selector: &T, token: Token, interest: Interest, kind: SourceKind) -> Result<(), String> {
        let fd = self.fd();
        if self.state.is_some() {
            if !KnownDifferences::<T>::rejects_duplicates(fd) {
                return Ok(());
            }
            let result =
                selector.register(fd, token, interest, SourceKind::RawFd).map(|registration| _ = registration.detach());
            return expect_error("register", result, ErrorKind::AlreadyExists);
        }
        let registration =
            selector.register(fd, token, interest, kind).map_err(|error| format!("register: {error}"))?;
        if kind == SourceKind::RawFd {
            let _ = registration.detach();
        } else {
            self.registration = Some(registration);
        }
        self.state = Some(ExpectedState::new(token.0, interest, kind, kind != SourceKind::RawFd));
        Ok(())
    }

    fn reregister(&mut self, selector: &T, token: Token, interest: Interest) -> Result<(), String> {
        let fd = self.fd();
        let Some(state) = &mut self.state else {
            let result = selector.reregister(fd, token, interest, SourceKind::RawFd);
            return expect_error("reregister", result, ErrorKind::NotFound);
        };
        let kind = self.registration.as_ref().map_or(state.kind, |registration| registration.source_kind(state.kind));
        let result = selector.reregister(fd, token, interest, kind);
        if let (Ok(()), Some(registration)) = (&result, &mut self.registration) {
            registration.set_interest(interest);
        }
        match result {
            Ok(()) => *state = ExpectedState::new(token.0, interest, state.kind, state.is_observed),
            Err(error) if error.kind() == ErrorKind::NotFound && KnownDifferences::<T>::may_lose_filter(fd) => {
                self.state = None
            }
            Err(error) => return Err(format!("reregister: {error}")),
        }
        Ok(())
    }

    fn deregister(&mut self, selector: &T) -> Result<(), String> {
        let fd = self.fd();
        let Some(state) = self.state.take() else {
            return expect_error("deregister", selector.deregister(fd, SourceKind::RawFd), ErrorKind::NotFound);
        };
        let kind = self.registration.as_ref().map_or(state.kind, |registration| registration.source_kind(state.kind));
        let result = selector.deregister(fd, kind);
        self.registration = None;
        match result {
            Err(error) if error.kind() == ErrorKind::NotFound && KnownDifferences::<T>::may_lose_filter(fd) => Ok(()),
            result => result.map_err(|error| format!("deregister: {error}")),
        }
    }

    fn release(&mut self, selector: &T) {
        if let (Some(registration), Some(state)) = (self.registration.take(), &mut self.state) {
            if let Some((fd, interest)) = registration.detach() {
                selector.detach(fd, interest);
            }
            state.stop_observing();
            state.kind = SourceKind::RawFd;
        }
    }

    /// Reads or writes, once or until `WouldBlock`. The number of operations is limited, because a socket may discard all data:
    /// on NetBSD a TCP socket does after a second shutdown for writing (tcp_usrreq.c `tcp_usrclosed`).
    fn transfer(&mut self, end: End, direction: IoDirection, amount: Amount) {
        let mut buffer = vec![0; if let Amount::Bytes(bytes) = amount { bytes } else { 1 << 16 }];
        for _ in 0..MAX_TRANSFERS {
            if !self.can(end, direction) {
                return;
            }
            let Some(mut file) = self.file(end) else { return };
            let result = if direction == IoDirection::Write { file.write(&buffer) } else { file.read(&mut buffer) };
            let is_last = !matches!((amount, &result), (Amount::All, Ok(1..)));
            if end == End::Ours {
                self.done(direction, result);
            }
            if is_last {
                return;
            }
        }
    }

    /// Re-arms the registration, as `IoSource::read_stream` and `IoSource::done` do.
    fn done(&mut self, direction: IoDirection, result: io::Result<usize>) {
        let (Some(registration), Some(state)) = (&self.registration, &mut self.state) else { return };
        match result {
            Ok(0) if direction == IoDirection::Read => registration.rearm_ended(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                registration.rearm_blocked(direction);
                state.rearm(direction);
            }
            Err(error) if syscall::is_resource_exhausted(&error) => {
                registration.probe_instead();
                state.stop_observing();
            }
            _ => {
                registration.rearm(direction);
                state.rearm(direction);
            }
        }
    }

    /// Closes the descriptor. Deregisters first if closing does not end the registration.
    pub(super) fn close(self, selector: &T) {
        if let Some(state) =
            self.state.as_ref().filter(|state| KnownDifferences::<T>::misses_closing(self.fd(), state.kind))
        {
            let _ = selector.deregister(self.fd(), state.kind);
        }
    }

    /// Returns `true` if no readiness is reported twice. The arrival time of packets is unknown, and poll(2) reports unobserved
    /// descriptors from time to time.
    pub(super) fn is_exact(&self) -> bool {
        let is_probed = KnownDifferences::<T>::POLL && self.state.as_ref().is_some_and(|state| !state.is_observed);
        let repeats = KnownDifferences::<T>::REPORTS_PIPES_AGAIN && matches!(self.kind, Kind::Reader | Kind::Writer);
        self.kind != Kind::Tcp && !is_probed && !repeats
    }

    pub(super) fn has(&self, token: usize) -> bool {
        self.state.as_ref().is_some_and(|state| state.token == token)
    }

    pub(super) fn is_delayed(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.delayed() != NONE)
    }

    /// FreeBSD frees buffer space of a socket before activating the filter: poll(2) reports the space some milliseconds earlier.
    pub(super) fn is_slow(&self) -> bool {
        let is_missing = || self.state.as_ref().is_some_and(|state| state.missing::<T>() != NONE);
        self.kind == Kind::Tcp && KnownDifferences::<T>::ACTIVATES_LATE && is_missing()
    }

    pub(super) fn observe(&mut self, record: &T::Event) -> Result<(), String> {
        let is_exact = self.is_exact();
        let Some(state) = &mut self.state else { return Ok(()) };
        if !state.is_armed() {
            return Err(format!("reported and not armed: {record:?}"));
        }
        let reported = readiness_of(record) - P;
        let again = reported & state.reported & (R | W);
        state.reported |= reported;
        if is_exact && again != NONE {
            return Err(format!("{again:?} twice: {record:?}"));
        }
        Ok(())
    }
}
