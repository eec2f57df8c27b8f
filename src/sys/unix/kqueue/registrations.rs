//! The table of the registrations that are not plain.
//!
//! kqueue has one knote for each filter of a descriptor, and no object for the registration as a whole. `EV_ADD` changes
//! neither the flags of a knote that exists nor its disabled state. Therefore a change depends on the knotes that exist.
//!
//! * A *plain* registration has no entry. Its source is a socket or pipe of this crate, its trigger mode is edge, and its
//!   filters are `EVFILT_READ` and `EVFILT_WRITE`. Its source stores its interest.
//! * Every other registration has an entry: the filters of its knotes, the interest with the trigger mode, and the token. An
//!   entry is *simple* if a plain registration could have the same knotes.
//!
//! An entry may outlive its knotes, because closing a descriptor removes them without a notice. Therefore an entry is only a
//! hint. For a raw descriptor, a receipt of the kernel decides whether the descriptor is registered.
//!
//! A queue without entries takes no lock: [`Registrations::ever_used`] is one load.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::interest::{Interest, TriggerMode};
use crate::source::file_changes::FileChanges;
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::selector::{Change, EventRecord, FilterSpec, Operation, SourceKind};
use crate::sys::unix::kevent::constants::Filter;
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::kqueue::filters;
use crate::sys::unix::kqueue::filters::{EXCEPT, PIPE_END_BESIDE_WRITE, READ, TOUCH_REPLACES_UDATA, WRITE};
use crate::sys::unix::kqueue::libkqueue::{ADD_EVALUATES_AGAIN, CLOSE_REMOVES_KNOTES};
use crate::token::Token;

/// A set of the filters that a descriptor can have.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FdFilters(u8);

impl FdFilters {
    pub(super) const NONE: FdFilters = FdFilters(0);
    pub(super) const READ: FdFilters = FdFilters(1);
    pub(super) const WRITE: FdFilters = FdFilters(2);
    pub(super) const EXCEPT: FdFilters = FdFilters(4);
    /// The filters that a plain registration can have.
    pub(super) const PLAIN: FdFilters = FdFilters(3);

    /// Returns the filters of an interest. A disabled registration has a disabled read filter.
    pub(super) fn of_interest(interest: Interest) -> FdFilters {
        if interest.mode() == TriggerMode::Disabled {
            return FdFilters::READ;
        }
        FdFilters::NONE
            .with_if(FdFilters::READ, interest.is_readable())
            .with_if(FdFilters::WRITE, interest.is_writable())
            .with_if(FdFilters::EXCEPT, interest.is_priority())
    }

    /// Returns the set of one filter, or the empty set if no descriptor has the filter.
    pub(super) fn of_filter(filter: Filter) -> FdFilters {
        FdFilters::NONE
            .with_if(FdFilters::READ, filter == READ)
            .with_if(FdFilters::WRITE, filter == WRITE)
            .with_if(FdFilters::EXCEPT, EXCEPT.is_some_and(|(except, _)| filter == except))
    }

    fn with_if(self, other: FdFilters, condition: bool) -> FdFilters {
        if condition {
            self.union(other)
        } else {
            self
        }
    }

    pub(super) fn union(self, other: FdFilters) -> FdFilters {
        FdFilters(self.0 | other.0)
    }

    pub(super) fn without(self, other: FdFilters) -> FdFilters {
        FdFilters(self.0 & !other.0)
    }

    pub(super) fn intersection(self, other: FdFilters) -> FdFilters {
        FdFilters(self.0 & other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Returns each filter with its notes, the write filter first (see `libkqueue.rs`).
    pub(super) fn iter(self) -> impl Iterator<Item = (Filter, u32)> {
        let all =
            [(FdFilters::WRITE, Some((WRITE, 0))), (FdFilters::READ, Some((READ, 0))), (FdFilters::EXCEPT, EXCEPT)];
        all.into_iter()
            .filter(move |(member, _)| !self.intersection(*member).is_empty())
            .filter_map(|(_, filter)| filter)
    }
}

/// A registration that is not plain.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) token: Token,
    /// `false` if a plain registration was detached from its source: only the kernel has its token.
    pub(super) has_token: bool,
    pub(super) interest: Interest,
    /// The filters of the knotes, as of the last change or event.
    pub(super) filters: FdFilters,
    /// The read filter reports the end of a pipe's reader in place of the write filter, or beside it.
    pub(super) has_pipe_end: bool,
    /// A one-shot registration of several filters has reported its event.
    pub(super) is_disarmed: bool,
    /// A one-shot registration has reported its event.
    pub(super) has_fired: bool,
    /// The source borrows its descriptor, so that no other source may replace the registration.
    pub(super) is_borrowed: bool,
}

impl Entry {
    /// Returns the entry of a registration after a successful change to `filters`.
    pub(super) fn for_change(change: &Change, filters: FdFilters) -> Entry {
        Entry {
            token: change.token,
            has_token: true,
            interest: change.interest,
            filters,
            has_pipe_end: false,
            is_disarmed: false,
            has_fired: false,
            is_borrowed: change.is_borrowed(),
        }
    }

    /// Returns the entry of a plain registration whose source was dropped while the descriptor is open.
    pub(super) fn detached(interest: Interest) -> Entry {
        Entry {
            token: Token(0),
            has_token: false,
            interest,
            filters: FdFilters::of_interest(interest),
            has_pipe_end: false,
            is_disarmed: false,
            has_fired: false,
            is_borrowed: false,
        }
    }

    /// Returns `true` if the registration has no filters but the plain ones, and no state but its token.
    pub(super) fn is_simple(&self) -> bool {
        self.filters.without(FdFilters::PLAIN).is_empty() && !self.has_pipe_end && self.interest.is_edge()
    }

    /// Returns `true` if the registration is simple, and has all filters of its interest.
    pub(super) fn has_simple_filters(&self) -> bool {
        self.has_token && self.is_simple() && self.filters == FdFilters::of_interest(self.interest)
    }

    /// Returns `true` if a change to `interest` deletes no knote and touches at least one. Its receipt shows that the descriptor
    /// is registered.
    pub(super) fn only_gains(&self, interest: Interest) -> bool {
        TOUCH_REPLACES_UDATA
            && !self.filters.is_empty()
            && self.filters.without(FdFilters::of_interest(interest)).is_empty()
    }

    /// Returns `true` if the registration is plain, so that it needs no entry.
    fn is_plain(&self, kind: SourceKind) -> bool {
        CLOSE_REMOVES_KNOTES && kind == SourceKind::Builtin && self.is_simple()
    }

    /// Returns the knotes of this registration before a change.
    pub(super) fn knotes_before(&self, change: &Change) -> KnotesBefore {
        let mode = Some(self.interest.mode()).filter(|_| !self.has_pipe_end && ADD_EVALUATES_AGAIN);
        let is_certain = change.operation == Operation::Register || change.kind != SourceKind::RawFd;
        KnotesBefore { filters: self.filters, mode, is_certain }
    }
}

/// The knotes that a descriptor may have before a change.
#[derive(Copy, Clone, Debug)]
pub(super) struct KnotesBefore {
    pub(super) filters: FdFilters,
    /// The trigger mode of those knotes; `None` if the mode is unknown, or if a knote has other flags.
    pub(super) mode: Option<TriggerMode>,
    /// The descriptor is registered, so that absent knotes are no error.
    pub(super) is_certain: bool,
}

impl KnotesBefore {
    /// Returns the knotes of a descriptor without an entry: none, or those of a plain registration.
    pub(super) fn without_entry(change: &Change) -> KnotesBefore {
        match (change.operation, change.kind) {
            (Operation::Register, _) => {
                KnotesBefore { filters: FdFilters::NONE, mode: Some(TriggerMode::Edge), is_certain: true }
            }
            // The receipts of the deletions decide whether the descriptor is registered.
            (_, SourceKind::RawFd) => KnotesBefore { filters: FdFilters::PLAIN, mode: None, is_certain: false },
            (..) => KnotesBefore { filters: FdFilters::PLAIN, mode: Some(TriggerMode::Edge), is_certain: true },
        }
    }
}

/// The entries of a queue, by descriptor, with two flags that a wait reads without the lock.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    /// Set by the first entry, and never cleared.
    ever_used: AtomicBool,
    /// Set by the first entry or process whose events may be dropped, and never cleared.
    may_drop: AtomicBool,
    table: Mutex<Table>,
}

/// The entries, and a changelist.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// Indexed by descriptor, as the kernel's table of knotes is (kern_event.c: `kqueue_expand`).
    by_fd: Vec<Option<Entry>>,
    /// The armed one-shot watches of files, by descriptor: the token and the requested changes.
    oneshot_files: HashMap<RawFd, (Token, FileChanges)>,
    /// The changes that delivered events require. The allocation is reused, so that a wait allocates nothing.
    pub(super) kevents: Vec<Kevent>,
}

impl Registrations {
    /// Returns `true` if the queue has had an entry.
    #[inline]
    pub(super) fn ever_used(&self) -> bool {
        self.ever_used.load(Ordering::Acquire)
    }

    /// Locks the table.
    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        lock_ignoring_poison(&self.table)
    }

    /// Locks the table for a change that needs an entry.
    ///
    /// The caller holds the lock while the kernel applies the change. Therefore a concurrent event is processed before or after
    /// the change, never during it.
    pub(super) fn lock_for_change(&self, change: &Change) -> MutexGuard<'_, Table> {
        self.mark_used(change);
        self.lock()
    }

    /// Sets the flags for the entry of a change. Called before the kernel can deliver an event of the change.
    #[inline]
    pub(super) fn mark_used(&self, change: &Change) {
        self.ever_used.store(true, Ordering::Release);
        if change.interest.is_oneshot() {
            self.mark_may_drop();
        }
    }

    /// Records that delivered events may be dropped. Called before the kernel can deliver such an event.
    #[inline]
    pub(super) fn mark_may_drop(&self) {
        self.may_drop.store(true, Ordering::Release);
    }

    /// Returns `true` if delivered events may be dropped, so that a wait may have to continue.
    #[inline]
    pub(super) fn may_drop(&self) -> bool {
        self.may_drop.load(Ordering::Acquire)
    }

    /// Returns `true` if the change needs no entry, and the queue has never had an entry.
    #[inline]
    pub(super) fn is_plain(&self, change: &Change) -> bool {
        needs_no_entry(change) && !self.ever_used()
    }

    /// Adds the entry of a registration whose descriptor leaves its source, and stays open and registered.
    pub(super) fn detach(&self, fd: RawFd, interest: Interest) {
        self.ever_used.store(true, Ordering::Release);
        let mut table = self.lock();
        match table.get_mut(fd) {
            Some(entry) => entry.is_borrowed = false,
            None => table.insert(fd, Entry::detached(interest)),
        }
    }
}

/// Returns `true` if the change makes, changes or ends a plain registration.
#[inline]
fn needs_no_entry(change: &Change) -> bool {
    let interest = change.interest;
    let may_be_plain = match change.operation {
        Operation::Register => change.kind == SourceKind::Builtin,
        Operation::Reregister | Operation::Deregister => matches!(change.kind, SourceKind::Registered { .. }),
    };
    CLOSE_REMOVES_KNOTES
        && may_be_plain
        && (change.operation == Operation::Deregister
            || (interest.is_edge() && !interest.is_priority() && !(PIPE_END_BESIDE_WRITE && interest.is_writable())))
}

impl Table {
    #[inline]
    pub(super) fn get(&self, fd: RawFd) -> Option<&Entry> {
        self.by_fd.get(fd as usize)?.as_ref()
    }

    #[inline]
    pub(super) fn get_mut(&mut self, fd: RawFd) -> Option<&mut Entry> {
        self.by_fd.get_mut(fd as usize)?.as_mut()
    }

    /// Stores the entry, or removes it if the registration is plain.
    pub(super) fn set(&mut self, fd: RawFd, entry: Entry, kind: SourceKind) {
        if entry.is_plain(kind) {
            self.remove(fd);
        } else {
            self.insert(fd, entry);
        }
    }

    #[inline(always)] // So that no entry is copied as an argument.
    pub(super) fn insert(&mut self, fd: RawFd, entry: Entry) {
        match self.by_fd.get_mut(fd as usize) {
            Some(slot) => *slot = Some(entry),
            None => self.append(fd, entry),
        }
    }

    #[cold]
    fn append(&mut self, fd: RawFd, entry: Entry) {
        self.by_fd.resize(fd as usize, None);
        self.by_fd.push(Some(entry));
    }

    /// Records if a watch is one-shot and armed, before the kernel makes the change. Does nothing for another kind of source.
    pub(super) fn record_file(&mut self, change: &Change) {
        let SourceKind::Filter(FilterSpec::Vnode(changes)) = change.kind else { return };
        if change.operation != Operation::Deregister && change.interest.mode() == TriggerMode::OneShot {
            self.oneshot_files.insert(change.fd, (change.token, changes));
        } else {
            self.oneshot_files.remove(&change.fd);
        }
    }

    /// Disarms a one-shot watch after its event. The changes of a disabled knote are kept, and an `EV_ENABLE` reports them.
    pub(super) fn disarm_file(&mut self, event: &Kevent) {
        let fd = event.ident() as RawFd;
        // An event with another token belongs to an earlier registration.
        if let Some(&(token, changes)) = self.oneshot_files.get(&fd).filter(|(token, _)| *token == event.token()) {
            self.oneshot_files.remove(&fd);
            let notes = filters::vnode_notes(changes).bits();
            self.kevents.push(filters::disable(event.ident(), Filter::VNODE, notes, token));
        }
    }

    #[inline]
    pub(super) fn remove(&mut self, fd: RawFd) {
        if let Some(entry) = self.by_fd.get_mut(fd as usize) {
            *entry = None;
        }
    }
}
