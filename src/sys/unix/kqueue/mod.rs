//! The primary backend: kqueue(2). See <https://man.freebsd.org/kqueue/2>.
//!
//! A registration is one knote for each filter of its descriptor, with the token in `udata`. All knotes of a registration are
//! added in one kevent(2). The trigger mode is a flag of the knotes:
//!
//! | trigger mode | flags | knotes |
//! |---|---|---|
//! | edge | `EV_CLEAR` | `EVFILT_READ`, `EVFILT_WRITE`, `EVFILT_EXCEPT`, as the interest requires |
//! | level | none | the same |
//! | one-shot | `EV_DISPATCH` | the same, until one of them fires |
//! | disabled | `EV_DISABLE` | `EVFILT_READ`; `EVFILT_WRITE` if the descriptor can only be written |
//!
//! A wait is one kevent(2) without changes. A change of a registration is one kevent(2) without events, whose receipts
//! (`EV_RECEIPT`) decide the result. kqueue accepts a knote that is added twice. Therefore the second registration of a raw
//! descriptor replaces the first registration. The notifier is a user event (`EVFILT_USER`), and the alarm
//! is a timer (`EVFILT_TIMER`).
//!
//! A change takes one of three paths:
//!
//! 1. `change_plain`: an edge-triggered socket or pipe of this crate, on a queue that has had no other registration. Its source
//!    stores the interest, so that no table is needed.
//! 2. `change_simple`: an edge-triggered raw descriptor with the same filters. The table stores the interest.
//! 3. `change_any`: every other registration.
//!
//! The files:
//!
//! * `changelist.rs`: from a change of a registration to kevents;
//! * `receipts.rs`: from the receipts to a result, with the fallbacks;
//! * `registrations.rs`: the table of the registrations that are not plain;
//! * `filters.rs`: the kevents, and the meaning of an event;
//! * `delivery.rs`: the changes that a delivered event requires;
//! * `exits.rs`: the exits of children that cannot be reaped yet;
//! * `libkqueue.rs`: the exceptions for a kqueue in user space.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{MutexGuard, OnceLock};
use std::time::{Duration, Instant};

mod changelist;
mod delivery;
mod exits;
mod filters;
mod libkqueue;
mod receipts;
mod registrations;

use crate::backend::Backend;
use crate::interest::Interest;
use crate::sys::error::{not_found, unsupported_interest};
use crate::sys::selector::{Change, FdRegistration, FilterSpec, InternalEvents, Operation, Selector, SourceKind};
use crate::sys::unix::fstat::reject_regular_file;
use crate::sys::unix::kevent::call::{apply_and_wait, apply_one, apply_to_own_queue};
use crate::sys::unix::kevent::libkqueue_abi::MAX_RECEIPTS;
use crate::sys::unix::kevent::queue::Kqueue;
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::kqueue::changelist::{plain_kevents, ChangeList, MAX_KEVENTS};
use crate::sys::unix::kqueue::exits::WatchedProcesses;
use crate::sys::unix::kqueue::filters::EXCEPT;
use crate::sys::unix::kqueue::registrations::{Entry, FdFilters, KnotesBefore, Registrations, Table};
use crate::sys::unix::wake_fd::self_pipe::SelfPipe;
use crate::token::Token;

/// `true` if a wait may end a tick early without an event, after a spurious wake-up (kern_event.c: `kqueue_scan`).
/// Measured on NetBSD 10.99: a wait of 200 ms beside a thread that registers and deregisters ended after 195.7 ms.
const WAITS_END_EARLY: bool = cfg!(waits_end_early);

/// The greatest number of changes in one call, because a batch allocates memory for their kevents.
const MAX_CHANGES: usize = if MAX_RECEIPTS / MAX_KEVENTS < 512 { MAX_RECEIPTS / MAX_KEVENTS } else { 512 };

const REGISTER: u8 = Operation::Register as u8;
const REREGISTER: u8 = Operation::Reregister as u8;
const DEREGISTER: u8 = Operation::Deregister as u8;

#[derive(Debug)]
pub(crate) struct KqueueSelector {
    kq: Kqueue,
    registrations: Registrations,
    processes: WatchedProcesses,
    /// Created for the first waker or timer.
    notifier: OnceLock<Notifier>,
    /// The knote of the alarm exists, or has existed.
    has_alarm: AtomicBool,
}

/// A user event, or a pipe if the kernel adds no user event. A user event needs no descriptor, and cannot overflow.
#[derive(Debug)]
enum Notifier {
    User,
    Pipe(SelfPipe),
}

impl Selector for KqueueSelector {
    const BACKEND: Backend = Backend::Kqueue;
    const HAS_FILTERS: bool = true;
    const BATCHES_CHANGES: bool = true;

    type Event = Kevent;
    type Registration = FdRegistration;

    fn new() -> io::Result<KqueueSelector> {
        let (kq, registrations) = (Kqueue::new()?, Registrations::default());
        let (processes, has_alarm) = (WatchedProcesses::default(), AtomicBool::new(false));
        Ok(KqueueSelector { kq, registrations, processes, notifier: OnceLock::new(), has_alarm })
    }

    #[inline(always)]
    fn select(&self, events: &mut Vec<Kevent>, max: usize, timeout: Option<Duration>) -> io::Result<()> {
        if WAITS_END_EARLY || self.registrations.may_drop() {
            return self.wait(events, max, timeout);
        }
        apply_and_wait(self.fd(), &[], events, max, timeout)?;
        if !events.is_empty() && (self.registrations.ever_used() || self.registrations.may_drop()) {
            return self.process_first_delivered(events, max, timeout);
        }
        Ok(())
    }

    #[inline(always)]
    fn register(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind) -> io::Result<FdRegistration> {
        self.change(&Change { operation: Operation::Register, fd, token, interest, kind })?;
        Ok(FdRegistration::new(fd, interest, kind))
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
        Ok(FdRegistration::new(change.fd, change.interest, change.kind))
    }

    fn submit_changes(&self, batch: &[Change]) -> Vec<io::Result<()>> {
        let mut results = Vec::with_capacity(batch.len());
        let mut remaining = batch;
        while !remaining.is_empty() {
            let (in_this_call, later) = remaining.split_at(remaining.len().min(MAX_CHANGES));
            self.apply_changes(in_this_call, &mut results);
            remaining = later;
        }
        results
    }

    fn detach(&self, fd: RawFd, interest: Interest) {
        self.registrations.detach(fd, interest);
    }

    fn create_notifier(&self) -> io::Result<()> {
        if self.notifier.get().is_none() {
            // If two threads race, both have added the same user event, or the other pipe is closed.
            let _ = self.notifier.set(self.add_notifier()?);
        }
        Ok(())
    }

    fn check_notifier(&self) -> io::Result<()> {
        match self.notifier.get() {
            // If other code has closed the pipe, the knote is gone, also if another file has the number since.
            Some(Notifier::Pipe(pipe)) => apply_one(self.fd(), &filters::touch_notifier_pipe(pipe.as_raw_fd())),
            // A user event has no descriptor of its own.
            Some(Notifier::User) | None => Ok(()),
        }
    }

    #[inline]
    fn notify(&self) -> io::Result<()> {
        match self.notifier.get().ok_or_else(not_found)? {
            Notifier::User => apply_one(self.fd(), &filters::trigger_notifier()),
            Notifier::Pipe(pipe) => pipe.notify(),
        }
    }

    /// `set_alarm` adds the knote, which the kernel may reject (`ENOMEM`). Then the notifier takes the place of the alarm, and
    /// exists.
    fn create_alarm(&self) -> io::Result<()> {
        self.create_notifier()
    }

    fn clear_alarm(&self) {
        let _ = apply_to_own_queue(self.fd(), &mut [filters::delete_alarm()]);
    }

    fn set_alarm(&self, delay: Duration) -> io::Result<()> {
        let mut kevents = filters::replace_alarm(delay);
        let first = usize::from(!self.has_alarm.swap(true, Ordering::Relaxed));
        match apply_to_own_queue(self.fd(), &mut kevents[first..])?.last().map_or(0, Kevent::errno) {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    #[inline]
    fn take_internal(&self, events: &mut Vec<Kevent>) -> InternalEvents {
        let taken = filters::take_internal(events);
        if let (true, Some(Notifier::Pipe(pipe))) = (taken.is_notified, self.notifier.get()) {
            // No other notification is on its way before this one is taken from the wake state. An empty pipe makes no event when
            // `check_notifier` touches the knote.
            pipe.drain();
        }
        taken
    }
}

impl AsFd for KqueueSelector {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kq.as_fd()
    }
}

impl KqueueSelector {
    fn add_notifier(&self) -> io::Result<Notifier> {
        let mut add = [filters::add_notifier()];
        if apply_to_own_queue(self.fd(), &mut add)?.first().map_or(0, Kevent::errno) == 0 {
            return Ok(Notifier::User);
        }
        // NetBSD before 10 and OpenBSD before 7.8 do not have the filter (`EINVAL`). OpenBSD has 1 024 user events for each
        // process (`ENOMEM`).
        self.add_notifier_pipe()
    }

    fn add_notifier_pipe(&self) -> io::Result<Notifier> {
        let pipe = SelfPipe::new()?;
        let mut add = [filters::add_notifier_pipe(pipe.as_raw_fd())];
        match apply_to_own_queue(self.fd(), &mut add)?.first().map_or(0, Kevent::errno) {
            0 => Ok(Notifier::Pipe(pipe)),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    fn fd(&self) -> RawFd {
        self.kq.as_raw_fd()
    }

    /// Rejects a change that the kernel cannot make.
    #[inline(always)]
    fn validate(&self, change: &Change) -> io::Result<()> {
        if change.is_filter() {
            return Ok(());
        }
        // An ident is unsigned, so that -1 would become the greatest ident.
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
        let lacks_filter = interest.is_priority() && EXCEPT.is_none();
        if interest.is_aio() || interest.is_lio() || lacks_filter || interest.is_exclusive() {
            return Err(unsupported_interest(Backend::Kqueue, interest));
        }
        if change.operation == Operation::Register && change.kind != SourceKind::Builtin {
            reject_regular_file(change.fd)?;
        }
        Ok(())
    }

    /// Makes one change, in one call.
    #[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
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

    /// Changes a plain registration, whose source stores the interest.
    #[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
    fn change_plain(&self, change: &Change) -> io::Result<()> {
        let mut kevents = [Kevent::ZERO; 2];
        let len = plain_kevents(change, change.interest_before(), &mut kevents);
        let receipts = apply_to_own_queue(self.fd(), &mut kevents[..len])?;
        if receipts.iter().all(|receipt| receipt.errno() == 0) {
            return Ok(());
        }
        self.process_plain_receipts(change, receipts)
    }

    /// Repeats or rolls back a change of a plain registration after a kevent has failed.
    #[cold]
    fn process_plain_receipts(&self, change: &Change, receipts: &[Kevent]) -> io::Result<()> {
        if change.operation != Operation::Register {
            // A knote that had to exist is absent. `change_any` makes the change without that condition.
            return self.change_any(change);
        }
        let before = KnotesBefore::without_entry(change);
        let list = ChangeList::for_change(change, before);
        self.process_receipts(
            change,
            before,
            list.with_receipts(receipts),
            &mut self.registrations.lock_for_change(change),
        )
    }

    /// Changes the edge-triggered registration of a raw descriptor in the simple case.
    ///
    /// Returns `false` if the case is not simple, or if a kevent has failed. Then `change_any` makes the change, and corrects
    /// the effects of this function.
    #[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
    fn change_simple(&self, change: &Change) -> io::Result<bool> {
        let mut table = self.registrations.lock_for_change(change);
        let interest_before = match (change.operation, table.get_mut(change.fd)) {
            (Operation::Register, None) => None,
            // No knote is deleted, so that after a failure a knote still shows that the descriptor is registered.
            (Operation::Reregister, Some(entry)) if entry.has_simple_filters() && entry.only_gains(change.interest) => {
                Some(entry.interest)
            }
            (Operation::Deregister, Some(entry)) if entry.has_simple_filters() => Some(entry.interest),
            _ => return Ok(false),
        };
        let mut kevents = [Kevent::ZERO; 2];
        let len = plain_kevents(change, interest_before, &mut kevents);
        let receipts = apply_to_own_queue(self.fd(), &mut kevents[..len])?;
        let is_done = |receipt: &Kevent| match receipt.errno() {
            0 => true,
            // FreeBSD may have removed one of two knotes. The other knote shows that the descriptor is registered.
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
            _ => table.insert(change.fd, Entry::for_change(change, FdFilters::of_interest(change.interest))),
        }
        Ok(true)
    }

    /// Changes a registration that may need an entry.
    ///
    /// `OPERATION` is the operation of the change, so that the compiler makes one function for each operation. On FreeBSD this
    /// saves 70 instructions when a raw descriptor is registered and deregistered.
    #[inline(never)]
    fn change_recorded<const OPERATION: u8>(&self, change: &Change) -> io::Result<()> {
        if let SourceKind::Filter(filter) = change.kind {
            let _table = self.lock_for_file(change);
            self.record_process(change);
            let mut list = ChangeList::for_change(change, KnotesBefore::without_entry(change));
            return self.process_filter_receipts(change, filter, list.submit(self.fd())?);
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

    /// Records a process, whose exit may be held back. Does nothing for another kind of source.
    fn record_process(&self, change: &Change) {
        if change.kind == SourceKind::Filter(FilterSpec::Process) {
            self.registrations.mark_may_drop();
            self.processes.record(change);
        }
    }

    /// Records a watch of a file, and locks the table for the change, if there are one-shot registrations.
    fn lock_for_file(&self, change: &Change) -> Option<MutexGuard<'_, Table>> {
        if !self.needs_file_entry(change) {
            return None;
        }
        let mut table = self.registrations.lock_for_change(change);
        table.record_file(change);
        Some(table)
    }

    fn needs_file_entry(&self, change: &Change) -> bool {
        matches!(change.kind, SourceKind::Filter(FilterSpec::Vnode(_)))
            && (change.interest.is_oneshot() || self.registrations.ever_used())
    }

    /// Changes a registration of a descriptor, whatever knotes exist.
    #[inline(never)]
    fn change_any(&self, change: &Change) -> io::Result<()> {
        let mut table = self.registrations.lock_for_change(change);
        let before = self.knotes_before(change, &mut table)?;
        let mut list = ChangeList::for_change(change, before);
        self.process_receipts(change, before, list.submit(self.fd())?, &mut table)
    }

    /// Returns the knotes that the descriptor may have before the change, or an error if the change is invalid.
    fn knotes_before(&self, change: &Change, table: &mut Table) -> io::Result<KnotesBefore> {
        if change.operation == Operation::Register {
            self.check_not_borrowed(change, table)?;
        } else if change.is_borrowed() && !table.get(change.fd).is_some_and(|entry| entry.is_borrowed) {
            // Another source has registered the same descriptor since. The change must not touch the knotes of that source.
            return Err(not_found());
        }
        if let Some(entry) = table.get(change.fd) {
            return Ok(entry.knotes_before(change));
        }
        let before = KnotesBefore::without_entry(change);
        if change.interest.is_priority() && change.operation == Operation::Reregister && before.is_certain {
            self.add_except_first(change)?;
        }
        Ok(before)
    }

    /// Makes changes with different keys in one call, and appends the result of each.
    fn apply_changes(&self, changes: &[Change], results: &mut Vec<io::Result<()>>) {
        let needs_entry = |change: &&Change| match change.is_filter() {
            true => self.needs_file_entry(change),
            false => !self.registrations.is_plain(change),
        };
        let recorded_count =
            changes.iter().filter(needs_entry).inspect(|change| self.registrations.mark_used(change)).count();
        let mut table = (recorded_count > 0).then(|| self.registrations.lock());

        // The kevents of all changes, and for each change its knotes before and the number of its kevents.
        let mut kevents = Vec::with_capacity(2 * changes.len());
        let mut pending = Vec::with_capacity(changes.len());
        for change in changes {
            if let Some(table) = &mut table {
                table.record_file(change);
            }
            let start = kevents.len();
            let before = self.push_kevents(change, table.as_deref_mut(), &mut kevents);
            pending.push((before, kevents.len() - start));
        }

        let submitted = apply_to_own_queue(self.fd(), &mut kevents);
        let mut receipts = submitted.as_deref().unwrap_or(&[]);
        for (change, (before, len)) in changes.iter().zip(pending) {
            let (own_receipts, later_receipts) = receipts.split_at(len.min(receipts.len()));
            receipts = later_receipts;
            let result = match (&submitted, before) {
                (_, Err(error)) => Err(error),
                (Err(error), _) => Err(io::Error::from_raw_os_error(error.raw_os_error().unwrap_or(libc::EIO))),
                (Ok(_), Ok(before)) => {
                    self.process_batched_receipts(change, before, own_receipts, table.as_deref_mut())
                }
            };
            results.push(result);
        }
    }

    /// Appends the kevents of one change of a batch. Returns the knotes before the change, or an error if the change is invalid.
    fn push_kevents(
        &self,
        change: &Change,
        table: Option<&mut Table>,
        kevents: &mut Vec<Kevent>,
    ) -> io::Result<KnotesBefore> {
        let before = match table {
            None if !change.is_filter() => {
                let mut list = [Kevent::ZERO; 2];
                let len = plain_kevents(change, change.interest_before(), &mut list);
                kevents.extend_from_slice(&list[..len]);
                return Ok(KnotesBefore::without_entry(change));
            }
            Some(table) if !change.is_filter() => self.knotes_before(change, table)?,
            _ => {
                self.record_process(change);
                KnotesBefore::without_entry(change)
            }
        };
        kevents.extend_from_slice(ChangeList::for_change(change, before).as_slice());
        Ok(before)
    }

    /// Processes the receipts of one change of a batch.
    fn process_batched_receipts(
        &self,
        change: &Change,
        before: KnotesBefore,
        receipts: &[Kevent],
        table: Option<&mut Table>,
    ) -> io::Result<()> {
        match (change.kind, table) {
            (SourceKind::Filter(filter), _) => {
                let list = ChangeList::for_change(change, before);
                self.process_filter_receipts(change, filter, list.with_receipts(receipts))
            }
            (_, Some(table)) => {
                let list = ChangeList::for_change(change, before);
                self.process_receipts(change, before, list.with_receipts(receipts), table)
            }
            (_, None) if receipts.iter().all(|receipt| receipt.errno() == 0) => Ok(()),
            (_, None) => self.process_plain_receipts(change, receipts),
        }
    }

    /// Processes the events of a wait during which the first entry may have been added.
    #[inline(never)] // So that a wait on a queue without entries saves no registers for this call.
    fn process_first_delivered(
        &self,
        events: &mut Vec<Kevent>,
        max: usize,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        match self.process_delivered(events) {
            true => self.wait(events, max, timeout),
            false => Ok(()),
        }
    }

    /// Processes delivered events. Returns `true` if there were events, and all of them were dropped.
    fn process_delivered(&self, events: &mut Vec<Kevent>) -> bool {
        if events.is_empty() {
            return false;
        }
        self.registrations.process_delivered(self.fd(), events);
        if self.registrations.may_drop() {
            self.processes.hold_unreapable(self.fd(), events);
        }
        events.is_empty()
    }

    /// Waits until there is an event for the program, or until `timeout` has passed.
    fn wait(&self, events: &mut Vec<Kevent>, max: usize, timeout: Option<Duration>) -> io::Result<()> {
        let deadline = timeout.filter(|timeout| !timeout.is_zero()).map(|timeout| Instant::now() + timeout);
        let mut left = timeout;
        loop {
            apply_and_wait(self.fd(), &[], events, max, left)?;
            let were_dropped = self.process_delivered(events);
            if !events.is_empty() || (left == Some(Duration::ZERO) && !were_dropped) {
                return Ok(());
            }
            // Every event was dropped, or the kernel returned without an event.
            let remaining = |deadline: Instant| deadline.saturating_duration_since(Instant::now());
            left = timeout.map(|_| deadline.map_or(Duration::ZERO, remaining));
            if left == Some(Duration::ZERO) && !were_dropped {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Systems without user events use the pipe.
    #[test]
    fn pipe_notifies_once_and_its_check_makes_no_event() {
        let selector = KqueueSelector::new().unwrap();
        let mut events = Vec::with_capacity(8);
        selector.notifier.set(selector.add_notifier_pipe().unwrap()).unwrap();
        let mut is_notified = || {
            selector.select(&mut events, 8, Some(Duration::ZERO)).unwrap();
            let is_notified = selector.take_internal(&mut events).is_notified;
            assert!(events.is_empty(), "{events:?}");
            is_notified
        };
        for _ in 0..3 {
            selector.check_notifier().unwrap();
            assert!(!is_notified());
            selector.notify().unwrap();
            selector.check_notifier().unwrap();
            assert!(is_notified() && !is_notified());
        }
        if cfg!(links_libkqueue) {
            // libkqueue cannot detect that a descriptor was closed.
            return;
        }
        // Another file takes the number.
        let Some(Notifier::Pipe(pipe)) = selector.notifier.get() else { panic!("a pipe was expected") };
        let (other, fd) = (SelfPipe::new().unwrap(), pipe.as_raw_fd());
        // SAFETY: no pointers. The pipe owns the number, and closes the other file with it.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), fd) }, fd);
        assert!(selector.check_notifier().is_err());
    }
}
