//! The primary backend: kqueue(2).
//!
//! One filter for each direction, both in one call; the token in `udata`; edges by `EV_CLEAR`. The kernel keeps score
//! per filter and never objects to adding one twice, so `AlreadyExists` for a bare descriptor is not to be had here.
//! See <https://man.freebsd.org/kqueue/2>.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

mod changelist;
mod delivery;
mod filters;
mod libkqueue;
mod receipts;
mod registrations;

use self::changelist::{ChangeList, MAX_KEVENTS};
use self::filters::{EXCEPT, USER};
use self::libkqueue::MAX_CHANGES;
use self::registrations::{Before, Registrations, Table};
use super::kevent::{self, Filter, Kevent};
use super::self_pipe::SelfPipe;
use super::{not_found, unsupported, Backend, Change, Engine, Number, Operation, Origin};
use crate::interest::Mode;
use crate::{Interest, Token};

#[derive(Debug)]
pub(crate) struct Kqueue {
    kq: kevent::Kqueue,
    /// The idents of user events are a name space of each queue.
    next_waker: AtomicUsize,
    registrations: Registrations,
}

/// Whether the write filter of a full pipe does not fire when the reader leaves: see `Kqueue::add_pipe_end_beside`.
const PIPE_END_BESIDE_WRITE: bool = cfg!(any(target_os = "netbsd", target_os = "openbsd"));

/// Whether a wait may end a tick early without an event, after a spurious wake-up (kern_event.c: `kqueue_scan`).
const WAITS_END_EARLY: bool = cfg!(any(target_os = "openbsd", target_os = "dragonfly"));

impl Change {
    /// Whether this is a registration for writing of the write end of a pipe.
    fn has_write_end(&self) -> bool {
        self.interest.is_writable() && self.interest.mode() != Mode::Parked && super::file::is_write_end_of_pipe(self.fd)
    }
}

impl Kqueue {
    fn raw(&self) -> RawFd {
        self.kq.as_raw_fd()
    }

    /// Refuses a change that the kernel cannot make.
    fn validate(&self, change: &Change) -> io::Result<()> {
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

    /// What the kernel may hold before the change; an error if the change cannot be made.
    fn before(&self, change: &Change, table: Option<&mut Table>) -> io::Result<Before> {
        let is_descriptor = !matches!(change.origin, Origin::Filter(_));
        let Some(table) = table.filter(|_| is_descriptor) else {
            return self.before_of_plain(change);
        };
        if change.operation == Operation::Register {
            self.check_not_borrowed(change, table)?;
        } else if change.origin == Origin::Lent && !table.get(change.fd).is_some_and(|entry| entry.is_borrowed) {
            // Another source has taken the descriptor over: this one must not remove what it did not register.
            return Err(not_found());
        }
        match table.get(change.fd) {
            Some(entry) => Ok(entry.before(change)),
            None => self.before_of_plain(change),
        }
    }

    fn before_of_plain(&self, change: &Change) -> io::Result<Before> {
        let before = Before::without_entry(change);
        if change.interest.is_priority() && change.operation == Operation::Reregister && before.is_certain {
            self.add_except_first(change)?;
        }
        Ok(before)
    }

    /// Makes one change, in one call.
    fn change(&self, change: &Change) -> io::Result<()> {
        self.validate(change)?;
        let mut table = self.registrations.during(std::slice::from_ref(change));
        let before = self.before(change, table.as_deref_mut())?;
        let list = ChangeList::for_change(change, before);
        let mut kevents = list;
        let receipts: &[Kevent] = match list.len() {
            0 => &[],
            _ => kevent::submit(self.raw(), kevents.as_mut_slice())?,
        };
        self.finish(change, before, list.receipts(receipts), table.as_deref_mut())
    }

    /// Makes changes of different descriptors in one call.
    fn change_together(&self, changes: &[Change], results: &mut Vec<io::Result<()>>) {
        let mut table = self.registrations.during(changes);
        let befores: Vec<_> = changes.iter().map(|change| self.before(change, table.as_deref_mut())).collect();
        let list_of = |(change, before): (_, &io::Result<Before>)| before.as_ref().ok().map(|&b| ChangeList::for_change(change, b));
        let lists: Vec<_> = changes.iter().zip(&befores).map(list_of).collect();
        let mut kevents: Vec<Kevent> = lists.iter().flatten().flat_map(ChangeList::as_slice).copied().collect();
        let submitted = kevent::submit(self.raw(), &mut kevents);
        let mut receipts = submitted.as_deref().unwrap_or(&[]);
        for ((change, before), list) in changes.iter().zip(befores).zip(&lists) {
            let result = before.and_then(|before| {
                let list = list.as_ref().expect("a change that can be made has a list");
                let (own, rest) = receipts.split_at(list.len().min(receipts.len()));
                receipts = rest;
                if let Err(error) = &submitted {
                    return Err(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO)));
                }
                self.finish(change, before, list.receipts(own), table.as_deref_mut())
            });
            results.push(result);
        }
    }

    /// Waits until there is an event that the program is to see, or until `timeout` has passed.
    fn wait(&self, events: &mut Vec<Kevent>, timeout: Option<Duration>) -> io::Result<()> {
        let deadline = timeout.filter(|timeout| !timeout.is_zero()).map(|timeout| Instant::now() + timeout);
        let mut left = timeout;
        loop {
            kevent::fill(self.raw(), &[], events, left)?;
            let were_dropped = self.registrations.process_delivered(self.raw(), events);
            if !events.is_empty() || (left == Some(Duration::ZERO) && !were_dropped) {
                return Ok(());
            }
            // Every event was dropped, or the kernel woke up without one.
            let remaining = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
            left = timeout.map(|_| deadline.map_or(Duration::ZERO, remaining));
            if left == Some(Duration::ZERO) && !were_dropped {
                return Ok(());
            }
        }
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
        let (kq, registrations) = (kevent::Kqueue::new()?, Registrations::default());
        Ok(Kqueue { kq, next_waker: AtomicUsize::new(0), registrations })
    }

    #[inline]
    fn select(&self, events: &mut Vec<Kevent>, timeout: Option<Duration>) -> io::Result<()> {
        if !WAITS_END_EARLY && !self.registrations.are_any() {
            kevent::fill(self.raw(), &[], events, timeout)?;
            if !self.registrations.are_any() || !self.registrations.process_delivered(self.raw(), events) {
                return Ok(());
            }
        }
        self.wait(events, timeout)
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
        self.validate(&change)?;
        batch.push(change);
        Ok(Number::of(change.fd, change.origin))
    }

    fn apply(&self, batch: &[Change]) -> Vec<io::Result<()>> {
        let mut results = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while !rest.is_empty() {
            let (together, others) = rest.split_at(independent(rest).min(MAX_CHANGES / MAX_KEVENTS));
            self.change_together(together, &mut results);
            rest = others;
        }
        results
    }

    fn detach(&self, fd: RawFd) {
        self.registrations.detach(fd);
    }

    fn add_waker(&self, token: Token) -> io::Result<Waker> {
        let ident = self.next_waker.fetch_add(1, Ordering::Relaxed);
        let mut add = [filters::add(ident, USER, 0, token, Mode::Edge)];
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
            Waker::User { ident, token } => kevent::submit_one(self.raw(), &filters::trigger(*ident, *token)),
            Waker::Pipe(pipe) => pipe.signal(),
        }
    }

    fn remove_waker(&self, waker: &Waker) {
        // A pipe's closing is enough.
        if let (Waker::User { ident, .. }, true) = (waker, self.kq.is_ours()) {
            let _ = kevent::submit(self.raw(), &mut [filters::delete(*ident, USER)]);
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

/// The number of changes at the start of `changes` that name different knotes, so that one call can make all of them.
fn independent(changes: &[Change]) -> usize {
    let mut named = std::collections::HashSet::with_capacity(changes.len());
    changes.iter().position(|change| !named.insert(change.key())).unwrap_or(changes.len())
}
