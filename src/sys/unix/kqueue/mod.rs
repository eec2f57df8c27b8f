//! The primary backend: kqueue(2).
//!
//! A registration is one knote for each filter of its descriptor, all of them added in one call, with the token in `udata`.
//! Edge-triggered is `EV_CLEAR`, one-shot is `EV_DISPATCH`. See <https://man.freebsd.org/kqueue/2>.
//!
//! kqueue accepts a knote that is added twice, so that the second registration of a raw descriptor replaces the first one.
//!
//! * `changelist.rs`: from a change of a registration to kevents;
//! * `receipts.rs`: from the receipts to a result, with the fallbacks;
//! * `registrations.rs`: what is remembered of registrations that are not plain;
//! * `filters.rs`: the kevents, and what an event means;
//! * `delivery.rs`: what a delivered event calls for;
//! * `libkqueue.rs`: the exceptions for a kqueue in user space.

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
use self::filters::{EXCEPT, READ, USER, WRITE};
use self::libkqueue::{CLOSE_REMOVES_KNOTES, MAX_CHANGES};
use self::registrations::{Before, Entry, Filters, Registrations, Table};
use crate::backend::Backend;
use crate::interest::Interest;
use crate::interest::TriggerMode;
use crate::sys::error::{not_found, unsupported};
use crate::sys::selector::{Change, FdRegistration, Operation, Selector, SourceKind};
use crate::sys::unix::kevent::call::{apply_and_wait, apply_one, apply_with_receipts};
use crate::sys::unix::kevent::queue::Kqueue;
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::wake_fd::self_pipe::SelfPipe;
use crate::token::Token;

#[derive(Debug)]
pub(crate) struct KqueueSelector {
    kq: Kqueue,
    /// The idents of user events are a name space of each queue.
    next_waker: AtomicUsize,
    registrations: Registrations,
}

/// Whether the write filter of a full pipe does not fire when the reader leaves: see `KqueueSelector::add_pipe_end_beside`.
const PIPE_END_BESIDE_WRITE: bool = cfg!(full_pipe_ends_silently);

/// Whether a wait may end a tick early without an event, after a spurious wake-up (kern_event.c: `kqueue_scan`).
const WAITS_END_EARLY: bool = cfg!(waits_end_early);

const REGISTER: u8 = Operation::Register as u8;
const REREGISTER: u8 = Operation::Reregister as u8;
const DEREGISTER: u8 = Operation::Deregister as u8;

impl Change {
    /// What the source was registered for last, if it knows.
    #[inline(always)]
    fn had(&self) -> Option<Interest> {
        match self.kind {
            SourceKind::Registered { interest, .. } => Some(interest),
            _ => None,
        }
    }

    fn is_borrowed(&self) -> bool {
        matches!(self.kind, SourceKind::Borrowed | SourceKind::Registered { is_borrowed: true, .. })
    }

    /// Whether `KqueueSelector::change_simple` may make the change: of a registration without other filters than those for reading and
    /// writing, of a descriptor that no other source may hold.
    #[inline]
    fn is_simple(&self) -> bool {
        let is_simple_interest = self.operation == Operation::Deregister
            || (self.interest.is_edge()
                && !self.interest.is_priority()
                && !(PIPE_END_BESIDE_WRITE && self.interest.is_writable()));
        CLOSE_REMOVES_KNOTES && self.kind == SourceKind::RawFd && is_simple_interest
    }

    fn is_filter(&self) -> bool {
        matches!(self.kind, SourceKind::Filter(_))
    }

    /// Whether this is a registration for writing of the write end of a pipe.
    fn has_write_end(&self) -> bool {
        self.interest.is_writable()
            && self.interest.mode() != TriggerMode::Disabled
            && crate::sys::unix::fstat::is_write_end_of_pipe(self.fd)
    }
}

impl KqueueSelector {
    fn fd(&self) -> RawFd {
        self.kq.as_raw_fd()
    }

    /// Refuses a change that the kernel cannot make.
    #[inline(always)]
    fn validate(&self, change: &Change) -> io::Result<()> {
        if change.is_filter() {
            return Ok(());
        }
        // An ident is unsigned: -1 would be a descriptor of its own.
        if change.fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if change.operation == Operation::Deregister {
            return Ok(());
        }
        if change.fd == self.fd() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        let interest = change.interest;
        let has_no_filter = interest.is_priority() && EXCEPT.is_none();
        if interest.is_aio() || interest.is_lio() || has_no_filter || interest.is_exclusive() {
            return Err(unsupported());
        }
        if change.operation == Operation::Register && change.kind != SourceKind::Builtin {
            crate::sys::unix::fstat::reject_regular_file(change.fd)?;
        }
        Ok(())
    }

    /// Makes one change, in one call.
    #[inline(always)] // A return after a system call costs more than the work around it: see `epoll_ctl` of epoll.
    fn change(&self, change: &Change) -> io::Result<()> {
        self.validate(change)?;
        if self.registrations.is_plain(change) {
            return self.change_plain(change);
        }
        match change.operation {
            Operation::Register => self.change_recorded::<REGISTER>(change),
            Operation::Reregister => self.change_recorded::<REREGISTER>(change),
            Operation::Deregister => self.change_recorded::<DEREGISTER>(change),
        }
    }

    /// Changes a plain registration: its source knows the filters that it has.
    #[inline(always)] // As above.
    fn change_plain(&self, change: &Change) -> io::Result<()> {
        let mut kevents = [Kevent::ZERO; 2];
        let len = plain_kevents(change, change.had(), &mut kevents);
        let receipts = apply_with_receipts(self.fd(), &mut kevents[..len])?;
        if receipts.iter().all(|receipt| receipt.errno() == 0) {
            return Ok(());
        }
        self.finish_plain(change, receipts)
    }

    /// A kevent of a plain change has failed.
    #[cold]
    fn finish_plain(&self, change: &Change, receipts: &[Kevent]) -> io::Result<()> {
        if change.operation != Operation::Register {
            // A filter that was expected is absent: the change is made again, without expectations.
            return self.change_any(change);
        }
        let before = Before::without_entry(change);
        let list = ChangeList::for_change(change, before);
        self.finish(change, before, list.with_receipts(receipts), &mut self.registrations.during_change(change))
    }

    /// Changes the edge-triggered registration of a raw descriptor, if nothing is in the way. Returns `false` if something is;
    /// then nothing has happened that `change_any` does not make right.
    #[inline(always)] // As above.
    fn change_simple(&self, change: &Change) -> io::Result<bool> {
        let mut table = self.registrations.during_change(change);
        let had = match (change.operation, table.get_mut(change.fd)) {
            (Operation::Register, None) => None,
            // Nothing is deleted, so that a failure leaves what shows that the descriptor is registered.
            (Operation::Reregister, Some(entry)) if entry.has_simple_filters() && entry.only_gains(change.interest) => {
                Some(entry.interest)
            }
            (Operation::Deregister, Some(entry)) if entry.has_simple_filters() => Some(entry.interest),
            _ => return Ok(false),
        };
        let mut kevents = [Kevent::ZERO; 2];
        let len = plain_kevents(change, had, &mut kevents);
        let receipts = apply_with_receipts(self.fd(), &mut kevents[..len])?;
        let is_done = |receipt: &Kevent| match receipt.errno() {
            0 => true,
            // FreeBSD may have removed one of two knotes: the other shows that the descriptor is registered.
            libc::ENOENT => {
                change.operation == Operation::Deregister && receipts.iter().any(|other| other.errno() == 0)
            }
            _ => false,
        };
        if !receipts.iter().all(is_done) {
            return Ok(false);
        }
        match change.operation {
            Operation::Deregister => table.remove(change.fd),
            _ => table.insert(change.fd, Entry::of(change, Filters::of_interest(change.interest))),
        }
        Ok(true)
    }

    /// `OPERATION` is that of the change: the compiler makes one function for each.
    #[inline(never)]
    fn change_recorded<const OPERATION: u8>(&self, change: &Change) -> io::Result<()> {
        if let SourceKind::Filter(filter) = change.kind {
            let mut list = ChangeList::for_change(change, Before::without_entry(change));
            return self.finish_filter(change, filter, list.submit(self.fd())?);
        }
        let simple = match OPERATION {
            REGISTER => Change { operation: Operation::Register, ..*change },
            REREGISTER => Change { operation: Operation::Reregister, ..*change },
            _ => Change::deregister(change.fd, change.kind),
        };
        if simple.is_simple() && self.change_simple(&simple)? {
            return Ok(());
        }
        self.change_any(change)
    }

    #[inline(never)]
    fn change_any(&self, change: &Change) -> io::Result<()> {
        let mut table = self.registrations.during_change(change);
        let before = self.before(change, &mut table)?;
        let mut list = ChangeList::for_change(change, before);
        self.finish(change, before, list.submit(self.fd())?, &mut table)
    }

    /// What the kernel may hold before the change; an error if the change cannot be made.
    fn before(&self, change: &Change, table: &mut Table) -> io::Result<Before> {
        if change.operation == Operation::Register {
            self.check_not_borrowed(change, table)?;
        } else if change.is_borrowed() && !table.get(change.fd).is_some_and(|entry| entry.is_borrowed) {
            // Another source has taken the descriptor over: this one must not remove what it did not register.
            return Err(not_found());
        }
        if let Some(entry) = table.get(change.fd) {
            return Ok(entry.before(change));
        }
        let before = Before::without_entry(change);
        if change.interest.is_priority() && change.operation == Operation::Reregister && before.is_certain {
            self.add_except_first(change)?;
        }
        Ok(before)
    }

    /// Makes changes of different knotes in one call.
    fn apply_changes(&self, changes: &[Change], results: &mut Vec<io::Result<()>>) {
        let needs_entry = |change: &&Change| !change.is_filter() && !self.registrations.is_plain(change);
        let recorded = changes.iter().filter(needs_entry).inspect(|change| self.registrations.announce(change)).count();
        let mut table = (recorded > 0).then(|| self.registrations.lock());
        let mut kevents = Vec::with_capacity(2 * changes.len());
        let mut pending = Vec::with_capacity(changes.len());
        for change in changes {
            let before = match &mut table {
                Some(table) if !change.is_filter() => self.before(change, table),
                _ => Ok(Before::without_entry(change)),
            };
            let start = kevents.len();
            match before {
                Ok(_) if table.is_none() && !change.is_filter() => {
                    let mut list = [Kevent::ZERO; 2];
                    let len = plain_kevents(change, change.had(), &mut list);
                    kevents.extend_from_slice(&list[..len]);
                }
                Ok(before) => kevents.extend_from_slice(ChangeList::for_change(change, before).as_slice()),
                Err(_) => {}
            }
            pending.push((before, kevents.len() - start));
        }
        let submitted = apply_with_receipts(self.fd(), &mut kevents);
        let mut receipts = submitted.as_deref().unwrap_or(&[]);
        for (change, (before, len)) in changes.iter().zip(pending) {
            let (own, rest) = receipts.split_at(len.min(receipts.len()));
            receipts = rest;
            let result = match (&submitted, before) {
                (_, Err(error)) => Err(error),
                (Err(error), _) => Err(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))),
                (Ok(_), Ok(before)) => self.finish_queued(change, before, own, table.as_deref_mut()),
            };
            results.push(result);
        }
    }

    /// Processes the receipts of a change that was made together with others.
    fn finish_queued(
        &self,
        change: &Change,
        before: Before,
        receipts: &[Kevent],
        table: Option<&mut Table>,
    ) -> io::Result<()> {
        match (change.kind, table) {
            (SourceKind::Filter(filter), _) => {
                let list = ChangeList::for_change(change, before);
                self.finish_filter(change, filter, list.with_receipts(receipts))
            }
            (_, Some(table)) => {
                let list = ChangeList::for_change(change, before);
                self.finish(change, before, list.with_receipts(receipts), table)
            }
            (_, None) if receipts.iter().all(|receipt| receipt.errno() == 0) => Ok(()),
            (_, None) => self.finish_plain(change, receipts),
        }
    }

    /// There may be an event of an entry that was made during the wait, or the last one of a knote.
    #[inline(never)] // So that a wait on a queue without entries saves no registers for it.
    fn process_first_delivered(&self, events: &mut Vec<Kevent>, timeout: Option<Duration>) -> io::Result<()> {
        match self.registrations.process_delivered(self.fd(), events) {
            true => self.wait(events, timeout),
            false => Ok(()),
        }
    }

    /// Waits until there is an event that the program is to see, or until `timeout` has passed.
    fn wait(&self, events: &mut Vec<Kevent>, timeout: Option<Duration>) -> io::Result<()> {
        let deadline = timeout.filter(|timeout| !timeout.is_zero()).map(|timeout| Instant::now() + timeout);
        let mut left = timeout;
        loop {
            apply_and_wait(self.fd(), &[], events, left)?;
            let were_dropped = self.registrations.process_delivered(self.fd(), events);
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

impl Selector for KqueueSelector {
    const BACKEND: Backend = Backend::Kqueue;
    const HAS_FILTERS: bool = true;
    const BATCHES_CHANGES: bool = true;

    type Event = Kevent;
    type Registration = FdRegistration;
    type WakeHandle = WakeHandle;

    fn new() -> io::Result<KqueueSelector> {
        let (kq, registrations) = (Kqueue::new()?, Registrations::default());
        Ok(KqueueSelector { kq, next_waker: AtomicUsize::new(0), registrations })
    }

    #[inline(always)]
    fn select(&self, events: &mut Vec<Kevent>, timeout: Option<Duration>) -> io::Result<()> {
        if WAITS_END_EARLY || self.registrations.may_drop() {
            return self.wait(events, timeout);
        }
        apply_and_wait(self.fd(), &[], events, timeout)?;
        if !events.is_empty() && self.registrations.are_any() {
            return self.process_first_delivered(events, timeout);
        }
        Ok(())
    }

    #[inline(always)]
    fn register(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind) -> io::Result<FdRegistration> {
        self.change(&Change { operation: Operation::Register, fd, token, interest, kind })?;
        Ok(FdRegistration::of(fd, interest, kind))
    }

    #[inline(always)]
    fn reregister(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind) -> io::Result<()> {
        self.change(&Change { operation: Operation::Reregister, fd, token, interest, kind })
    }

    #[inline(always)]
    fn deregister(&self, fd: RawFd, kind: SourceKind) -> io::Result<()> {
        self.change(&Change::deregister(fd, kind))
    }

    fn queue_change(&self, batch: &mut Vec<Change>, change: Change) -> io::Result<FdRegistration> {
        self.validate(&change)?;
        batch.push(change);
        Ok(FdRegistration::of(change.fd, change.interest, change.kind))
    }

    fn submit_changes(&self, batch: &[Change]) -> Vec<io::Result<()>> {
        let mut results = Vec::with_capacity(batch.len());
        let mut rest = batch;
        while !rest.is_empty() {
            let (together, others) = rest.split_at(rest.len().min(MAX_CHANGES / MAX_KEVENTS));
            self.apply_changes(together, &mut results);
            rest = others;
        }
        results
    }

    fn detach(&self, fd: RawFd, interest: Interest) {
        self.registrations.detach(fd, interest);
    }

    fn add_waker(&self, token: Token) -> io::Result<WakeHandle> {
        let ident = self.next_waker.fetch_add(1, Ordering::Relaxed);
        let mut add = [filters::add(ident, USER, 0, token, TriggerMode::Edge)];
        if apply_with_receipts(self.fd(), &mut add)?.first().map_or(0, Kevent::errno) == 0 {
            return Ok(WakeHandle::User { ident, token });
        }
        // NetBSD before 10 and OpenBSD before 7.8 do not know the filter (EINVAL), and OpenBSD has 1 024 of them for
        // each process (ENOMEM).
        let pipe = SelfPipe::new()?;
        self.register(pipe.as_raw_fd(), token, Interest::READABLE, SourceKind::Builtin)?;
        Ok(WakeHandle::Pipe(pipe))
    }

    fn wake(&self, waker: &WakeHandle) -> io::Result<()> {
        match waker {
            WakeHandle::User { ident, token } => apply_one(self.fd(), &filters::trigger(*ident, *token)),
            WakeHandle::Pipe(pipe) => pipe.notify(),
        }
    }

    fn remove_waker(&self, waker: &WakeHandle) {
        // A pipe's closing is enough.
        if let (WakeHandle::User { ident, .. }, true) = (waker, self.kq.created_by_this_process()) {
            let _ = apply_with_receipts(self.fd(), &mut [filters::delete(*ident, USER)]);
        }
    }
}

/// A user event where the kernel has them; it costs no descriptor and cannot overflow. Else a pipe.
#[derive(Debug)]
pub(crate) enum WakeHandle {
    User { ident: usize, token: Token },
    Pipe(SelfPipe),
}

impl AsFd for KqueueSelector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kq.as_fd()
    }
}

/// Writes the kevents of an edge-triggered change, where the interest before it is known, and returns their number.
#[inline(always)]
fn plain_kevents(change: &Change, had: Option<Interest>, list: &mut [Kevent; 2]) -> usize {
    let (ident, wanted) = (change.fd as usize, change.interest);
    let had = had.unwrap_or(Interest::NONE);
    let kevent = |filter, is_there: bool, is_wanted: bool| match (is_there, is_wanted) {
        (true, true) if filters::TOUCH_REPLACES_UDATA => {
            filters::touch(ident, filter, 0, change.token, TriggerMode::Edge)
        }
        (_, true) => filters::add(ident, filter, 0, change.token, TriggerMode::Edge),
        (..) => filters::delete(ident, filter),
    };
    let mut len = 0;
    if had.is_writable() || wanted.is_writable() {
        list[0] = kevent(WRITE, had.is_writable(), wanted.is_writable());
        len = 1;
    }
    if had.is_readable() || wanted.is_readable() {
        list[len] = kevent(READ, had.is_readable(), wanted.is_readable());
        len += 1;
    }
    len
}
