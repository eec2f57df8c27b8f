//! One twin: a descriptor, its registration, and what is known of it.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use socket2::SockRef;

use crate::interest::Interest;
use crate::interest::Mode;
use crate::sys::conformance::differential::model::{answers, names, Excuses, Watch, R, W};
use crate::sys::conformance::differential::{Act, Amount, End, Kind};
use crate::sys::conformance::{READ, WRITE};
use crate::sys::selector::{Direction, Engine, Origin, Tie};
use crate::sys::unix::{pipe, syscall};
use crate::token::Token;

/// Both ends, non-blocking; of a pipe ours is the one of that kind.
fn open(kind: Kind) -> io::Result<(OwnedFd, OwnedFd)> {
    let (ours, theirs): (OwnedFd, OwnedFd) = match kind {
        Kind::Unix => UnixStream::pair().map(|(ours, theirs)| (ours.into(), theirs.into()))?,
        Kind::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0")?;
            let ours = TcpStream::connect(listener.local_addr()?)?;
            let theirs = listener.accept()?.0;
            ours.set_nodelay(true)?;
            theirs.set_nodelay(true)?;
            // Closed with a reset, it leaves no port in TIME_WAIT.
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

fn expect_refusal(what: &str, result: io::Result<()>, kind: ErrorKind) -> Result<(), String> {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        other => Err(format!("{what}: {other:?} instead of {kind:?}")),
    }
}

/// One twin.
pub(super) struct Source<T: Engine> {
    // Before the descriptor, as in `IoSource`.
    tie: Option<T::Tie>,
    pub(super) watch: Option<Watch>,
    pub(super) kind: Kind,
    /// Reading was shut down here.
    has_ended: bool,
    ours: File,
    theirs: Option<File>,
}

impl<T: Engine> Source<T> {
    pub(super) fn new(kind: Kind) -> Source<T> {
        let (ours, theirs) = open(kind).unwrap();
        let (ours, theirs) = (File::from(ours), Some(File::from(theirs)));
        Source { tie: None, watch: None, kind, has_ended: false, ours, theirs }
    }

    pub(super) fn fd(&self) -> RawFd {
        self.ours.as_raw_fd()
    }

    pub(super) fn act(&mut self, engine: &T, token: usize, act: Act) -> Result<(), String> {
        match act {
            Act::Register(interest, origin) => self.register(engine, Token(token), self.possible(interest), origin)?,
            Act::Reregister(interest) => self.reregister(engine, Token(token), self.possible(interest))?,
            Act::Deregister => self.deregister(engine)?,
            Act::Release => self.release(engine),
            Act::Read(end, amount) => self.transfer(end, Direction::Read, amount),
            Act::Write(end, amount) => self.transfer(end, Direction::Write, amount),
            Act::TryIo => self.transfer(End::Ours, Direction::Either, Amount::Bytes(16)),
            Act::Shortage => self.done(Direction::Either, Err(io::Error::from_raw_os_error(libc::EMFILE))),
            // Of a pipe, or of one whose peer has gone, nothing is shut down.
            Act::Shutdown(end, how) => {
                let result = self.file(end).map(|file| SockRef::from(file).shutdown(how));
                self.has_ended |= end == End::Ours && how != Shutdown::Write && matches!(result, Some(Ok(())));
            }
            Act::ClosePeer => self.theirs = None,
            Act::Close | Act::Reopen(_) => {}
        }
        let fd = self.fd();
        if let Some(watch) = &mut self.watch {
            watch.has_ended = self.has_ended;
            watch.look(fd);
            watch.touched = true;
        }
        Ok(())
    }

    /// Pipes are registered for their one direction: what the other does differs from system to system.
    fn possible(&self, interest: Interest) -> Interest {
        let direction = match self.kind {
            Kind::Reader => READ,
            Kind::Writer => WRITE,
            _ => return interest,
        };
        match interest.mode() {
            Mode::Parked => interest,
            Mode::OneShot => direction.oneshot(),
            Mode::Edge | Mode::Level => direction,
        }
    }

    fn can(&self, end: End, direction: Direction) -> bool {
        match self.kind {
            Kind::Reader => (end == End::Ours) == (direction != Direction::Write),
            Kind::Writer => (end == End::Ours) == (direction == Direction::Write),
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

    fn register(&mut self, engine: &T, token: Token, interest: Interest, origin: Origin) -> Result<(), String> {
        let fd = self.fd();
        if self.watch.is_some() {
            if !Excuses::<T>::refuses_twice(fd) {
                return Ok(());
            }
            let result = engine.register(fd, token, interest, Origin::Bare).map(|tie| _ = tie.release());
            return expect_refusal("register", result, ErrorKind::AlreadyExists);
        }
        let tie = engine.register(fd, token, interest, origin).map_err(|error| format!("register: {error}"))?;
        if origin == Origin::Bare {
            let _ = tie.release();
        } else {
            self.tie = Some(tie);
        }
        self.watch = Some(Watch::new(token.0, interest, origin, origin != Origin::Bare));
        Ok(())
    }

    fn reregister(&mut self, engine: &T, token: Token, interest: Interest) -> Result<(), String> {
        let fd = self.fd();
        let Some(watch) = &mut self.watch else {
            let result = engine.reregister(fd, token, interest, Origin::Bare);
            return expect_refusal("reregister", result, ErrorKind::NotFound);
        };
        let origin = self.tie.as_ref().map_or(watch.origin, |tie| tie.origin(watch.origin));
        let result = engine.reregister(fd, token, interest, origin);
        if let (Ok(()), Some(tie)) = (&result, &mut self.tie) {
            tie.set_interest(interest);
        }
        match result {
            Ok(()) => *watch = Watch::new(token.0, interest, watch.origin, watch.seen),
            Err(error) if error.kind() == ErrorKind::NotFound && Excuses::<T>::may_forget(fd) => self.watch = None,
            Err(error) => return Err(format!("reregister: {error}")),
        }
        Ok(())
    }

    fn deregister(&mut self, engine: &T) -> Result<(), String> {
        let fd = self.fd();
        let Some(watch) = self.watch.take() else {
            return expect_refusal("deregister", engine.deregister(fd, Origin::Bare), ErrorKind::NotFound);
        };
        let origin = self.tie.as_ref().map_or(watch.origin, |tie| tie.origin(watch.origin));
        let result = engine.deregister(fd, origin);
        self.tie = None;
        match result {
            Err(error) if error.kind() == ErrorKind::NotFound && Excuses::<T>::may_forget(fd) => Ok(()),
            result => result.map_err(|error| format!("deregister: {error}")),
        }
    }

    fn release(&mut self, engine: &T) {
        if let (Some(tie), Some(watch)) = (self.tie.take(), &mut self.watch) {
            if let Some((fd, interest)) = tie.release() {
                engine.detach(fd, interest);
            }
            watch.stop_seeing();
            watch.origin = Origin::Bare;
        }
    }

    /// Reads or writes, once or until there is no more.
    fn transfer(&mut self, end: End, direction: Direction, amount: Amount) {
        let mut buffer = vec![0; if let Amount::Bytes(bytes) = amount { bytes } else { 1 << 16 }];
        while self.can(end, direction) {
            let Some(mut file) = self.file(end) else { return };
            let result = if direction == Direction::Write { file.write(&buffer) } else { file.read(&mut buffer) };
            let is_last = !matches!((amount, &result), (Amount::All, Ok(1..)));
            if end == End::Ours {
                self.done(direction, result);
            }
            if is_last {
                return;
            }
        }
    }

    /// As `IoSource::read_stream` and `IoSource::done`.
    fn done(&mut self, direction: Direction, result: io::Result<usize>) {
        let (Some(tie), Some(watch)) = (&self.tie, &mut self.watch) else { return };
        match result {
            Ok(0) if direction == Direction::Read => tie.rearm_ended(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tie.rearm_blocked(direction);
                watch.rearm(direction);
            }
            Err(error) if syscall::is_shortage(&error) => {
                tie.doubt();
                watch.stop_seeing();
            }
            _ => {
                tie.rearm(direction);
                watch.rearm(direction);
            }
        }
    }

    /// Ends the registration first only where closing does not.
    pub(super) fn close(self, engine: &T) {
        if let Some(watch) = self.watch.as_ref().filter(|watch| Excuses::<T>::misses_closing(self.fd(), watch.origin)) {
            let _ = engine.deregister(self.fd(), watch.origin);
        }
    }

    /// Whether nothing is told twice. Packets arrive when they like; what nobody sees read is told now and then.
    pub(super) fn is_exact(&self) -> bool {
        let is_looked_at = Excuses::<T>::POLL && self.watch.as_ref().is_some_and(|watch| !watch.seen);
        let repeats = Excuses::<T>::REPEATS_PIPES && matches!(self.kind, Kind::Reader | Kind::Writer);
        self.kind != Kind::Tcp && !is_looked_at && !repeats
    }

    pub(super) fn has(&self, token: usize) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.token == token)
    }

    pub(super) fn is_late(&self) -> bool {
        self.watch.as_ref().is_some_and(|watch| watch.late() != 0)
    }

    /// FreeBSD frees room in a socket before it activates the filter: poll(2) reports it some milliseconds earlier.
    pub(super) fn is_slow(&self) -> bool {
        let owes = || self.watch.as_ref().is_some_and(|watch| watch.missing::<T>() != 0);
        self.kind == Kind::Tcp && Excuses::<T>::ACTIVATES_LATE && owes()
    }

    pub(super) fn hear(&mut self, record: &T::Event) -> Result<(), String> {
        let is_exact = self.is_exact();
        let Some(watch) = &mut self.watch else { return Ok(()) };
        if !watch.is_armed() {
            return Err(format!("told and not armed: {record:?}"));
        }
        let said = answers(record);
        let again = said & watch.said & (R | W);
        watch.said |= said;
        if is_exact && again != 0 {
            return Err(format!("{} twice: {record:?}", names(again)));
        }
        Ok(())
    }
}
