//! What the backend remembers of registrations.
//!
//! kqueue keeps one knote for each filter of a descriptor. The kernel has no word for the registration as a whole, and
//! `EV_ADD` changes neither the flags of a knote that exists nor its disabled state. Most registrations need no memory: a
//! *plain* registration belongs to a socket or pipe of this crate, is edge-triggered, and has no filter but `EVFILT_READ`
//! and `EVFILT_WRITE`. For a plain registration each change adds the filters that are wanted and deletes the others.
//!
//! Every other registration has an entry in this table: the filters that its knotes have, the trigger mode, and the token.
//! An entry may outlive its knotes, because closing a descriptor removes them and is not visible here. So an entry is a
//! hint: for a raw descriptor a receipt of the kernel decides whether it is registered.
//!
//! A queue without entries takes no lock: [`Registrations::are_any`] is one load.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::interest::Interest;
use crate::interest::TriggerMode;
use crate::sys::selector::{Change, Operation, SourceKind};
use crate::sys::unix::kevent::{Filter, Kevent};
use crate::sys::unix::kqueue::filters::{EXCEPT, READ, TOUCH_REPLACES_UDATA, WRITE};
use crate::sys::unix::kqueue::libkqueue::{ADD_EVALUATES_AGAIN, CLOSE_REMOVES_KNOTES};
use crate::sys::unix::kqueue::PIPE_END_BESIDE_WRITE;
use crate::sys::unix::syscall::lock_ignoring_poison;
use crate::token::Token;

/// A set of the filters that a descriptor can have.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filters(u8);

impl Filters {
    pub(super) const NONE: Filters = Filters(0);
    pub(super) const READ: Filters = Filters(1);
    pub(super) const WRITE: Filters = Filters(2);
    pub(super) const EXCEPT: Filters = Filters(4);
    /// The filters that a plain registration can have.
    pub(super) const PLAIN: Filters = Filters(3);

    /// The filters that an interest needs. A disabled registration keeps a disabled read filter.
    pub(super) fn of_interest(interest: Interest) -> Filters {
        if interest.mode() == TriggerMode::Disabled {
            return Filters::READ;
        }
        Filters::NONE
            .with_if(Filters::READ, interest.is_readable())
            .with_if(Filters::WRITE, interest.is_writable())
            .with_if(Filters::EXCEPT, interest.is_priority())
    }

    /// The set of one filter; empty if a descriptor cannot have it.
    pub(super) fn of_filter(filter: Filter) -> Filters {
        Filters::NONE
            .with_if(Filters::READ, filter == READ)
            .with_if(Filters::WRITE, filter == WRITE)
            .with_if(Filters::EXCEPT, EXCEPT.is_some_and(|(except, _)| filter == except))
    }

    fn with_if(self, other: Filters, condition: bool) -> Filters {
        if condition {
            self.union(other)
        } else {
            self
        }
    }

    pub(super) fn union(self, other: Filters) -> Filters {
        Filters(self.0 | other.0)
    }

    pub(super) fn without(self, other: Filters) -> Filters {
        Filters(self.0 & !other.0)
    }

    pub(super) fn intersection(self, other: Filters) -> Filters {
        Filters(self.0 & other.0)
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Each filter with its notes, the write filter first.
    ///
    /// libkqueue forgets what it needs to see a half-close when the write filter comes second.
    pub(super) fn iter(self) -> impl Iterator<Item = (Filter, u32)> {
        let all = [(Filters::WRITE, Some((WRITE, 0))), (Filters::READ, Some((READ, 0))), (Filters::EXCEPT, EXCEPT)];
        all.into_iter().filter(move |(one, _)| !self.intersection(*one).is_empty()).filter_map(|(_, filter)| filter)
    }
}

/// A registration that is not plain.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) token: Token,
    /// `false` if a plain registration lost its source: its token stands in the kernel only.
    pub(super) has_token: bool,
    pub(super) interest: Interest,
    /// The knotes that the kernel has, as far as is known here.
    pub(super) filters: Filters,
    /// The read filter reports the end of a pipe's reader in place of the write filter, or beside it.
    pub(super) has_pipe_end: bool,
    /// A one-shot registration of several filters has reported its event.
    pub(super) is_disarmed: bool,
    /// A one-shot registration has reported its event.
    pub(super) has_fired: bool,
    /// The source borrows its descriptor: nothing else may take the registration over.
    pub(super) is_borrowed: bool,
}

impl Entry {
    /// The entry after a successful change to `filters`.
    pub(super) fn of(change: &Change, filters: Filters) -> Entry {
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

    /// The entry of a plain registration whose source is gone while the descriptor is open.
    pub(super) fn detached(interest: Interest) -> Entry {
        Entry {
            token: Token(0),
            has_token: false,
            interest,
            filters: Filters::of_interest(interest),
            has_pipe_end: false,
            is_disarmed: false,
            has_fired: false,
            is_borrowed: false,
        }
    }

    /// Whether the registration has no filter but the plain ones, and no state but its token.
    pub(super) fn is_simple(&self) -> bool {
        self.filters.without(Filters::PLAIN).is_empty() && !self.has_pipe_end && self.interest.is_edge()
    }

    /// Whether the registration is simple, and has all filters of its interest.
    pub(super) fn has_simple_filters(&self) -> bool {
        self.has_token && self.is_simple() && self.filters == Filters::of_interest(self.interest)
    }

    /// Whether a change to `interest` touches a knote that shows that the descriptor is registered, and deletes none.
    pub(super) fn only_gains(&self, interest: Interest) -> bool {
        TOUCH_REPLACES_UDATA
            && !self.filters.is_empty()
            && self.filters.without(Filters::of_interest(interest)).is_empty()
    }

    /// Whether the registration is plain, so that it needs no entry.
    fn is_plain(&self, kind: SourceKind) -> bool {
        CLOSE_REMOVES_KNOTES && kind == SourceKind::Builtin && self.is_simple()
    }

    /// What the kernel holds for this registration.
    pub(super) fn before(&self, change: &Change) -> Before {
        let mode = Some(self.interest.mode()).filter(|_| !self.has_pipe_end && ADD_EVALUATES_AGAIN);
        let is_certain = change.operation == Operation::Register || change.kind != SourceKind::RawFd;
        Before { filters: self.filters, mode, is_certain }
    }
}

/// What the kernel may hold for a descriptor before a change.
#[derive(Copy, Clone, Debug)]
pub(super) struct Before {
    pub(super) filters: Filters,
    /// The mode of those knotes; `None` if it is not known, or if a knote has other flags.
    pub(super) mode: Option<TriggerMode>,
    /// The caller knows that the descriptor is registered.
    pub(super) is_certain: bool,
}

impl Before {
    /// What there may be without an entry: nothing, or a plain registration.
    pub(super) fn without_entry(change: &Change) -> Before {
        match (change.operation, change.kind) {
            (Operation::Register, _) => {
                Before { filters: Filters::NONE, mode: Some(TriggerMode::Edge), is_certain: true }
            }
            // The receipts of the deletions decide whether the descriptor is registered.
            (_, SourceKind::RawFd) => Before { filters: Filters::PLAIN, mode: None, is_certain: false },
            (..) => Before { filters: Filters::PLAIN, mode: Some(TriggerMode::Edge), is_certain: true },
        }
    }
}

/// The table of a queue.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    /// Whether there ever was an entry.
    are_any: AtomicBool,
    /// Whether there ever was an entry whose events may be dropped.
    may_drop: AtomicBool,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    /// By descriptor, as the kernel keeps its knotes (kern_event.c: `kqueue_expand`).
    by_fd: Vec<Option<Entry>>,
    /// Reused, so that a wait allocates nothing.
    pub(super) kevents: Vec<Kevent>,
}

impl Registrations {
    #[inline]
    pub(super) fn are_any(&self) -> bool {
        self.are_any.load(Ordering::Acquire)
    }

    /// The table, locked.
    pub(super) fn lock(&self) -> MutexGuard<'_, Table> {
        lock_ignoring_poison(&self.table)
    }

    /// The table, locked, while changes are made that need it.
    ///
    /// The lock is held while the kernel makes the changes, so that of an event and a change at the same time one comes
    /// first.
    pub(super) fn during_change(&self, change: &Change) -> MutexGuard<'_, Table> {
        self.announce(change);
        self.lock()
    }

    /// Prepares waits for the entry of a change. To be called before the kernel can deliver an event of it.
    #[inline]
    pub(super) fn announce(&self, change: &Change) {
        self.are_any.store(true, Ordering::Release);
        if change.interest.is_oneshot() {
            self.may_drop.store(true, Ordering::Release);
        }
    }

    /// Whether delivered events may be dropped, so that a wait has to go on.
    #[inline]
    pub(super) fn may_drop(&self) -> bool {
        self.may_drop.load(Ordering::Acquire)
    }

    /// Whether the change needs no entry, and there is none that it could depend on.
    #[inline]
    pub(super) fn is_plain(&self, change: &Change) -> bool {
        needs_no_entry(change) && !self.are_any()
    }

    /// The descriptor of a registration leaves its source, and stays open and registered.
    pub(super) fn detach(&self, fd: RawFd, interest: Interest) {
        self.are_any.store(true, Ordering::Release);
        let mut table = self.lock();
        match table.get_mut(fd) {
            Some(entry) => entry.is_borrowed = false,
            None => table.insert(fd, Entry::detached(interest)),
        }
    }
}

#[inline]
fn needs_no_entry(change: &Change) -> bool {
    let interest = change.interest;
    // A source that is no socket or pipe of this crate has an entry.
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

    /// Keeps the entry, unless the registration is plain.
    pub(super) fn set(&mut self, fd: RawFd, entry: Entry, kind: SourceKind) {
        if entry.is_plain(kind) {
            self.remove(fd);
        } else {
            self.insert(fd, entry);
        }
    }

    #[inline(always)] // So that no entry is copied for a call.
    pub(super) fn insert(&mut self, fd: RawFd, entry: Entry) {
        match self.by_fd.get_mut(fd as usize) {
            Some(place) => *place = Some(entry),
            None => self.append(fd, entry),
        }
    }

    #[cold]
    fn append(&mut self, fd: RawFd, entry: Entry) {
        self.by_fd.resize(fd as usize, None);
        self.by_fd.push(Some(entry));
    }

    #[inline]
    pub(super) fn remove(&mut self, fd: RawFd) {
        if let Some(entry) = self.by_fd.get_mut(fd as usize) {
            *entry = None;
        }
    }
}
