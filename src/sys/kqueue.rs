//! The primary backend: kqueue(2).
//!
//! One filter for each direction, both in one call; the token in `udata`; edges by `EV_CLEAR`. The kernel keeps score
//! per filter and never objects to adding one twice, so `AlreadyExists` for a bare descriptor is not to be had here.
//! See <https://man.freebsd.org/kqueue/2>.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

mod knote;
mod siblings;

use self::knote::{CLOSE_FORGETS, EXCEPT, READ, USER, WRITE};
use self::siblings::{After, Siblings};
use super::call::lock;
use super::kevent::{self, Filter, Kevent};
use super::self_pipe::SelfPipe;
use super::{not_found, unsupported, Backend, Change, Engine, Filter as Watched, Number, Operation, Origin};
use crate::interest::Mode;
use crate::{Interest, Token};

#[derive(Debug)]
pub(crate) struct Kqueue {
    kq: kevent::Kqueue,
    /// The idents of user events are a name space of each queue.
    next_waker: AtomicUsize,
    siblings: Siblings,
    /// Where closing does not forget: the numbers that have been registered, and may still be.
    stale: Mutex<HashSet<RawFd>>,
}

/// The most records that one call takes: a batch needs memory for them. libkqueue has room for no more receipts.
const MOST_RECORDS: usize = if CLOSE_FORGETS { 512 * 6 } else { 512 };

/// Every filter that a descriptor can be registered with.
fn filters() -> impl Iterator<Item = Filter> {
    [READ, WRITE].into_iter().chain(EXCEPT.map(|(filter, _)| filter))
}

/// The records of one change: each filter deleted and added again is the longest.
struct Records {
    list: [Kevent; 6],
    len: usize,
    /// How many of them delete.
    deletions: usize,
}

impl Records {
    /// `is_known` if there may be filters of it.
    fn of(change: &Change, is_known: bool) -> Records {
        // No filler is ever submitted; it has to be some record.
        let mut records = Records { list: [knote::delete(0, READ); 6], len: 0, deletions: 0 };
        if let Origin::Filter(filter) = change.origin {
            records.of_filter(change, filter);
            return records;
        }
        // Adding a filter that exists would keep its mode, and whether there was one to delete tells whether the
        // descriptor was registered.
        if is_known {
            filters().for_each(|filter| records.push(knote::delete(change.fd as usize, filter)));
        }
        records.deletions = records.len;
        if change.operation != Operation::Deregister {
            records.add(change);
        }
        records
    }

    /// What is parked is not there: the source knows what it is, and the kernel could not keep it silent (NetBSD's
    /// EV_CLEAR, which timers and signals force, beats EV_DISABLE's).
    fn of_filter(&mut self, change: &Change, filter: Watched) {
        let (ident, mode) = (change.fd as usize, change.interest.mode());
        // A signal's has nothing but its token to change, and a count to keep.
        let is_kept = filter == Watched::Signal && change.operation == Operation::Reregister && mode != Mode::Parked;
        if change.operation != Operation::Register && !is_kept {
            // To change one it is deleted and added: adding again keeps flags or periods, on one system or another.
            self.push(knote::delete_watched(ident, filter));
            if filter == Watched::Process {
                self.push(knote::delete_gone(ident));
            }
        }
        self.deletions = self.len;
        if change.operation != Operation::Deregister && mode != Mode::Parked {
            self.push(knote::add_watched(ident, filter, change.token, mode));
        }
    }

    fn push(&mut self, record: Kevent) {
        self.list[self.len] = record;
        self.len += 1;
    }

    fn add(&mut self, change: &Change) {
        let (ident, interest, mode) = (change.fd as usize, change.interest, change.interest.mode());
        if mode == Mode::Parked {
            if CLOSE_FORGETS {
                self.push(knote::add(ident, READ, 0, change.token, mode));
            } else {
                // libkqueue adds a disabled filter enabled, and takes it for disabled from then on.
                self.push(knote::add(ident, READ, 0, change.token, Mode::Level));
                self.push(knote::disable(ident, READ, 0, change.token));
            }
            return;
        }
        // The write filter first: libkqueue forgets what it needs to see a half-close when that comes second.
        if interest.is_writable() {
            self.push(knote::add(ident, WRITE, 0, change.token, mode));
        }
        if interest.is_readable() {
            self.push(knote::add(ident, READ, 0, change.token, mode));
        }
        if let (true, Some((filter, note))) = (interest.is_priority(), EXCEPT) {
            self.push(knote::add(ident, filter, note, change.token, mode));
        }
    }

    fn as_slice(&self) -> &[Kevent] {
        &self.list[..self.len]
    }
}

/// Judges the receipts of deleting every filter of a descriptor: was it registered?
///
/// A source that is not bare knows that it was. Its filters may be gone all the same: FreeBSD deletes the write filter
/// of a pipe once it has told that the reader is gone (sys_pipe.c: `pipeclose` clears the list).
fn check_deleted(receipts: &[Kevent], origin: Origin) -> io::Result<()> {
    let mut found = origin != Origin::Bare || receipts.is_empty();
    for receipt in receipts {
        match receipt.errno() {
            0 => found = true,
            libc::ENOENT => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
    found.then_some(()).ok_or_else(not_found)
}

impl Kqueue {
    fn raw(&self) -> RawFd {
        self.kq.as_raw_fd()
    }

    /// Whether the change can be asked for at all.
    fn check(&self, change: &Change) -> io::Result<()> {
        if matches!(change.origin, Origin::Filter(_)) {
            return Ok(());
        }
        // An ident is unsigned: -1 would be a descriptor of its own.
        if change.fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if change.operation == Operation::Deregister {
            return Ok(());
        }
        if change.fd == self.raw() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let interest = change.interest;
        let has_no_filter = interest.is_priority() && EXCEPT.is_none();
        if interest.is_aio() || interest.is_lio() || has_no_filter || interest.is_exclusive() {
            return Err(unsupported());
        }
        if change.operation == Operation::Register && change.origin != Origin::Own {
            super::file::refuse(change.fd)?;
        }
        Ok(())
    }

    fn records(&self, change: &Change) -> Records {
        let is_known = match change.operation {
            // Its source knows that it is not.
            Operation::Register if matches!(change.origin, Origin::Filter(_)) => false,
            // A bare number may be registered already, and is to be what it is registered for now and nothing else.
            Operation::Register if CLOSE_FORGETS => change.origin == Origin::Bare,
            Operation::Register => !lock(&self.stale).insert(change.fd),
            Operation::Reregister | Operation::Deregister => true,
        };
        Records::of(change, is_known)
    }

    /// Makes one change, in one call.
    fn change(&self, change: &Change) -> io::Result<()> {
        self.check(change)?;
        let mut records = self.records(change);
        self.siblings.around(std::slice::from_ref(change), |of| {
            let receipts = kevent::submit(self.raw(), &mut records.list[..records.len]);
            let result = receipts.and_then(|receipts| self.judge(change, records.deletions, receipts));
            of.keep(change, &result);
            result.map(drop)
        })
    }

    /// Looks at the receipts of a change: what the change has come to.
    fn judge(&self, change: &Change, deletions: usize, receipts: &[Kevent]) -> io::Result<After> {
        let (deleted, added) = receipts.split_at(deletions.min(receipts.len()));
        match change.operation {
            Operation::Register => self.arm(change, added),
            Operation::Reregister => match check_deleted(deleted, change.origin) {
                Ok(()) => self.arm(change, added),
                Err(error) => {
                    if !matches!(change.origin, Origin::Filter(_)) {
                        self.forget(change.fd);
                    }
                    Err(error)
                }
            },
            Operation::Deregister => check_deleted(deleted, change.origin).map(|()| After::Nothing),
        }
    }

    /// Looks at the receipts of the added filters, and takes all of them back if one failed.
    fn arm(&self, change: &Change, receipts: &[Kevent]) -> io::Result<After> {
        let mode = change.interest.mode();
        let Some(errno) = receipts.iter().map(Kevent::errno).find(|&errno| errno != 0) else {
            return Ok(After::of(change));
        };
        if let Origin::Filter(filter) = change.origin {
            let mut records = [knote::add_gone(change.fd as usize, change.token)];
            let is_gone = filter == Watched::Process && errno == libc::ESRCH;
            if is_gone && kevent::submit(self.raw(), &mut records)?.first().map_or(0, Kevent::errno) == 0 {
                return Ok(After::Nothing);
            }
            return Err(io::Error::from_raw_os_error(errno));
        }
        if mode == Mode::Parked && errno == libc::EINVAL {
            // What can only be written keeps its place by the other filter.
            let mut records = [knote::add(change.fd as usize, WRITE, 0, change.token, mode)];
            if kevent::submit(self.raw(), &mut records)?.first().map_or(0, Kevent::errno) == 0 {
                return Ok(After::Nothing);
            }
        }
        // The write filter of a pipe whose reader has gone cannot be added: EPIPE on FreeBSD, DragonFly and older
        // macOS and OpenBSD, EBADF on NetBSD. The read filter can, and fires at once, for it is at its end too. If the
        // descriptor is really closed this fails as well.
        if matches!(errno, libc::EPIPE | libc::EBADF) {
            let mut records = knote::replace_for_broken_pipe(change.fd as usize, change.token);
            if kevent::submit(self.raw(), &mut records)?.get(1).map_or(0, Kevent::errno) == 0 {
                return Ok(match mode {
                    Mode::Level => After::Repeat,
                    // NetBSD does not disable it, for EV_CLEAR is there too.
                    Mode::OneShot => After::Mute,
                    Mode::Edge | Mode::Parked => After::Nothing,
                });
            }
        }
        self.forget(change.fd);
        Err(io::Error::from_raw_os_error(errno))
    }

    fn forget(&self, fd: RawFd) {
        let mut records = Records::of(&Change::deregister(fd, Origin::Bare), true);
        // Each may be absent, and there is nobody to tell of anything else.
        let _ = kevent::submit(self.raw(), &mut records.list[..records.len]);
    }

    /// Makes changes in one call.
    fn change_together(&self, changes: &[Change], records: &[Records], results: &mut Vec<io::Result<()>>) {
        let mut list: Vec<Kevent> = records.iter().flat_map(Records::as_slice).copied().collect();
        self.siblings.around(changes, |of| {
            let submitted = kevent::submit(self.raw(), &mut list);
            let mut receipts = submitted.as_deref().unwrap_or(&[]);
            for (change, records) in changes.iter().zip(records) {
                let (own, rest) = receipts.split_at(records.len.min(receipts.len()));
                receipts = rest;
                let result = match &submitted {
                    Ok(_) => self.judge(change, records.deletions, own),
                    Err(error) => Err(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))),
                };
                of.keep(change, &result);
                results.push(result.map(drop));
            }
        });
    }
}

impl Engine for Kqueue {
    const BACKEND: Backend = Backend::Kqueue;
    const FILTERS: bool = true;
    const DEFERS: bool = true;

    type Event = Kevent;
    type Tie = Number;
    type Waker = Waker;

    fn new() -> io::Result<Kqueue> {
        Ok(Kqueue {
            kq: kevent::Kqueue::new()?,
            next_waker: AtomicUsize::new(0),
            siblings: Siblings::default(),
            stale: Mutex::default(),
        })
    }

    fn select(&self, events: &mut Vec<Kevent>, timeout: Option<Duration>) -> io::Result<()> {
        let deadline = timeout.filter(|_| self.siblings.any()).map(|timeout| Instant::now() + timeout);
        let mut left = timeout;
        loop {
            kevent::fill(self.raw(), &[], events, left)?;
            if !self.siblings.any() || !self.siblings.settle(self.raw(), events) {
                return Ok(());
            }
            // All that came was of registrations that are no more. If there was none when the wait began, nobody looked at
            // the clock, and it ends early.
            left = timeout.map(|_| deadline.map_or(Duration::ZERO, |at| at.saturating_duration_since(Instant::now())));
        }
    }

    fn register(&self, fd: RawFd, token: Token, interest: Interest, origin: Origin) -> io::Result<Number> {
        self.change(&Change { operation: Operation::Register, fd, token, interest, origin })?;
        Ok(Number::of(fd, origin))
    }

    fn reregister(&self, fd: RawFd, token: Token, interest: Interest, origin: Origin) -> io::Result<()> {
        self.change(&Change { operation: Operation::Reregister, fd, token, interest, origin })
    }

    fn deregister(&self, fd: RawFd, origin: Origin) -> io::Result<()> {
        self.change(&Change::deregister(fd, origin))
    }

    fn defer(&self, batch: &mut Vec<Change>, change: Change) -> io::Result<Number> {
        self.check(&change)?;
        batch.push(change);
        Ok(Number::of(change.fd, change.origin))
    }

    fn apply(&self, batch: &[Change]) -> Vec<io::Result<()>> {
        let mut results = Vec::with_capacity(batch.len());
        let records: Vec<Records> = batch.iter().map(|change| self.records(change)).collect();
        let (mut batch, mut records) = (batch, &records[..]);
        while !batch.is_empty() {
            let mut room = MOST_RECORDS;
            let fits = |one: &&Records| room.checked_sub(one.len).map(|left| room = left).is_some();
            let n = records.iter().take_while(fits).count();
            self.change_together(&batch[..n], &records[..n], &mut results);
            (batch, records) = (&batch[n..], &records[n..]);
        }
        results
    }

    fn add_waker(&self, token: Token) -> io::Result<Waker> {
        let ident = self.next_waker.fetch_add(1, Ordering::Relaxed);
        let mut add = [knote::add(ident, USER, 0, token, Mode::Edge)];
        if kevent::submit(self.raw(), &mut add)?.first().map_or(0, Kevent::errno) == 0 {
            return Ok(Waker::User { ident, token });
        }
        // NetBSD before 10 and OpenBSD before 7.8 do not know the filter (EINVAL), and OpenBSD has 1 024 of them for
        // each process (ENOMEM).
        let pipe = SelfPipe::new()?;
        self.register(pipe.as_raw_fd(), token, Interest::READABLE, Origin::Own)?;
        Ok(Waker::Pipe(pipe))
    }

    fn wake(&self, waker: &Waker) -> io::Result<()> {
        match waker {
            Waker::User { ident, token } => kevent::submit_one(self.raw(), &knote::trigger(*ident, *token)),
            Waker::Pipe(pipe) => pipe.signal(),
        }
    }

    fn remove_waker(&self, waker: &Waker) {
        // A pipe's closing is enough.
        if let (Waker::User { ident, .. }, true) = (waker, self.kq.is_ours()) {
            let _ = kevent::submit(self.raw(), &mut [knote::delete(*ident, USER)]);
        }
    }
}

/// A user event where the kernel has them; it costs no descriptor and cannot overflow. Else a pipe.
#[derive(Debug)]
pub(crate) enum Waker {
    User { ident: usize, token: Token },
    Pipe(SelfPipe),
}

impl AsFd for Kqueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kq.as_fd()
    }
}
