//! A source of the differential test: a descriptor, its registration, and the expected state.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;

use socket2::SockRef;

use crate::interest::Interest;
use crate::interest::TriggerMode;
use crate::sys::conformance::differential::model::{ExpectedState, KnownDifferences};
use crate::sys::conformance::differential::traffic::Traffic;
use crate::sys::conformance::differential::{Act, Amount, End};
use crate::sys::conformance::readiness_of;
use crate::sys::conformance::support::poll::{READ, WRITE};
use crate::sys::conformance::support::readiness::{NONE, P, R, W};
use crate::sys::conformance::system::judge::{open, Kind, Stream, SHORTAGE};
use crate::sys::is_resource_exhausted;
use crate::sys::raw_source::{raw_source, RawSource};
use crate::sys::selector::{IoDirection, Registration, Selector, SourceKind};
use crate::token::Token;

/// More operations than fill any buffer.
const MAX_TRANSFERS: usize = 1000;

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
    pub(super) traffic: Traffic,
    ours: Stream,
    theirs: Option<Stream>,
}

impl<T: Selector> TestSource<T> {
    pub(super) fn new(kind: Kind) -> TestSource<T> {
        let (ours, theirs) = open(kind).unwrap();
        TestSource {
            registration: None,
            state: None,
            kind,
            read_shut_down: false,
            peer_read_shut_down: false,
            traffic: Traffic::default(),
            ours,
            theirs: Some(theirs),
        }
    }

    pub(super) fn fd(&self) -> RawSource {
        raw_source(&self.ours)
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
            Act::Shortage => self.done(IoDirection::Unknown, Err(io::Error::from_raw_os_error(SHORTAGE))),
            // shutdown(2) fails for a pipe, and for a socket whose peer has closed.
            Act::Shutdown(end, how) => {
                let result = self.stream(end).map(|stream| SockRef::from(stream).shutdown(how));
                let is_done = matches!(result, Some(Ok(())));
                if is_done {
                    self.traffic.shut_down(end, how);
                }
                let ends_reading = how != Shutdown::Write && is_done;
                self.read_shut_down |= end == End::Ours && ends_reading;
                self.peer_read_shut_down |= end == End::Theirs && ends_reading;
            }
            Act::ClosePeer => {
                self.theirs = None;
                self.traffic.peer_closed();
            }
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
            && self.kind.is_unix_stream()
            && self.peer_read_shut_down
            && matches!(act, Act::Write(End::Ours, _))
    }

    /// Returns the interest that the source supports. Pipes are registered for their direction only, because the other direction
    /// depends on the system.
    fn supported(&self, interest: Interest) -> Interest {
        let direction = match self.kind.only_direction() {
            Some(IoDirection::Read) => READ,
            Some(_) => WRITE,
            None => return interest,
        };
        match interest.mode() {
            TriggerMode::Disabled => interest,
            TriggerMode::OneShot => direction.oneshot(),
            TriggerMode::Edge | TriggerMode::Level => direction,
        }
    }

    fn can(&self, end: End, direction: IoDirection) -> bool {
        let writes = direction == IoDirection::Write;
        match self.kind.only_direction() {
            Some(of_ours) => (end == End::Ours) == (writes == (of_ours == IoDirection::Write)),
            None => true,
        }
    }

    fn stream(&self, end: End) -> Option<&Stream> {
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
            let Some(mut stream) = self.stream(end) else { return };
            let writes = direction == IoDirection::Write;
            let result = if writes { stream.write(&buffer) } else { stream.read(&mut buffer) };
            match result {
                Ok(bytes) if writes => self.traffic.written(end, bytes),
                Ok(bytes) => self.traffic.read(end, bytes),
                Err(_) => {}
            }
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
            Ok(0) if direction == IoDirection::Read => {
                registration.rearm_ended();
                if KnownDifferences::<T>::MASKS_EXACTLY {
                    state.rearm::<T>(direction);
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                registration.rearm_blocked(direction);
                state.rearm::<T>(direction);
            }
            Err(error) if is_resource_exhausted(&error) => {
                registration.probe_instead();
                state.stop_observing();
            }
            _ => {
                registration.rearm(direction);
                state.rearm::<T>(direction);
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
        let is_probed = KnownDifferences::<T>::MASKS && self.state.as_ref().is_some_and(|state| !state.is_observed);
        let repeats = KnownDifferences::<T>::REPORTS_PIPES_AGAIN && self.kind.only_direction().is_some();
        !self.kind.takes_time() && !is_probed && !repeats
    }

    pub(super) fn has(&self, token: usize) -> bool {
        self.state.as_ref().is_some_and(|state| state.token == token)
    }

    pub(super) fn is_delayed(&self) -> bool {
        self.state.as_ref().is_some_and(|state| state.delayed() != NONE)
    }

    /// Returns `true` if readiness is missing that the backend may report some milliseconds later than the judge.
    pub(super) fn is_slow(&self) -> bool {
        let is_missing = || self.state.as_ref().is_some_and(|state| state.missing::<T>() != NONE);
        self.kind.takes_time() && KnownDifferences::<T>::LATE_LIMIT != 0 && is_missing()
    }

    pub(super) fn observe(&mut self, record: &T::Event) -> Result<(), String> {
        let is_exact = self.is_exact();
        let Some(state) = &mut self.state else { return Ok(()) };
        if !state.is_armed() {
            return Err(format!("reported and not armed: {record:?}"));
        }
        let reported = readiness_of(record) - P;
        let again = reported & state.reported & (R | W);
        let masked = state.masked::<T>(reported);
        state.reported |= reported;
        state.ever_reported |= reported;
        if masked != NONE {
            return Err(format!("{masked:?} is masked: {record:?}"));
        }
        if is_exact && again != NONE {
            return Err(format!("{again:?} twice: {record:?}"));
        }
        Ok(())
    }
}
