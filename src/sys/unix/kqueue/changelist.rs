//! From a change of a registration to the kevents of its changelist.
//!
//! The kernel holds zero or more knotes of the descriptor, which [`KnotesBefore`] describes. A changelist leads from these knotes
//! to those of the new interest:
//!
//! 1. If the trigger mode changes, every knote is deleted and each needed knote is added, because `EV_ADD` keeps the flags
//!    of a knote that exists.
//! 2. Otherwise filters that are no longer needed are deleted, and needed filters are added. An `EV_ADD` of a knote that
//!    exists replaces its token.
//! 3. A raw descriptor may not be registered. Its first kevent therefore touches a knote that has to exist, and the receipt
//!    shows whether the knote exists.
//!
//! [`plain_kevents`] returns the kevents of plain and simple registrations, which need at most two kevents and no purposes.

use std::io;
use std::os::fd::RawFd;

use crate::interest::{Interest, TriggerMode};
use crate::sys::error::unsupported;
use crate::sys::selector::{Change, FilterSpec, Operation, SourceKind};
use crate::sys::unix::fstat::is_write_end_of_pipe;
use crate::sys::unix::kevent::call::apply_to_own_queue;
use crate::sys::unix::kevent::constants::Filter;
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::kqueue::filters;
use crate::sys::unix::kqueue::filters::{EXCEPT, PIPE_END_BESIDE_WRITE, READ, TOUCH_REPLACES_UDATA, WRITE};
use crate::sys::unix::kqueue::libkqueue::{ADD_CAN_DISABLE, CLOSE_REMOVES_KNOTES};
use crate::sys::unix::kqueue::registrations::{Entry, FdFilters, KnotesBefore};
use crate::token::Token;

/// The greatest number of kevents of one change: each filter is deleted and added again.
pub(super) const MAX_KEVENTS: usize = 6;

impl Change {
    /// Returns the interest before the change, if the source stores it.
    #[inline(always)]
    pub(super) fn interest_before(&self) -> Option<Interest> {
        match self.kind {
            SourceKind::Registered { interest, .. } => Some(interest),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn is_borrowed(&self) -> bool {
        matches!(self.kind, SourceKind::Borrowed | SourceKind::Registered { is_borrowed: true, .. })
    }

    /// Returns `true` if `KqueueSelector::change_simple` may make the change. The filters are those for reading and writing,
    /// and the source is a raw descriptor.
    #[inline]
    pub(super) fn is_simple(&self) -> bool {
        let is_simple_interest = self.operation == Operation::Deregister
            || (self.interest.is_edge()
                && !self.interest.is_priority()
                && !(PIPE_END_BESIDE_WRITE && self.interest.is_writable()));
        CLOSE_REMOVES_KNOTES && self.kind == SourceKind::RawFd && is_simple_interest
    }

    #[inline]
    pub(super) fn is_filter(&self) -> bool {
        matches!(self.kind, SourceKind::Filter(_))
    }

    /// Returns `true` if the change registers the write end of a pipe for writing.
    pub(super) fn has_write_end(&self) -> bool {
        self.interest.is_writable() && self.interest.mode() != TriggerMode::Disabled && is_write_end_of_pipe(self.fd)
    }
}

/// Writes the kevents of an edge-triggered change to `list`, and returns their number. `interest_before` is the interest before
/// the change.
#[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
pub(super) fn plain_kevents(change: &Change, interest_before: Option<Interest>, list: &mut [Kevent; 2]) -> usize {
    let (ident, new) = (change.fd as usize, change.interest);
    let old = interest_before.unwrap_or(Interest::NONE);
    let kevent = |filter, exists: bool, is_needed: bool| match (exists, is_needed) {
        (true, true) if TOUCH_REPLACES_UDATA => filters::touch(ident, filter, 0, change.token, TriggerMode::Edge),
        (_, true) => filters::add(ident, filter, 0, change.token, TriggerMode::Edge),
        (..) => filters::delete(ident, filter),
    };
    let mut len = 0;
    if old.is_writable() || new.is_writable() {
        list[0] = kevent(WRITE, old.is_writable(), new.is_writable());
        len = 1;
    }
    if old.is_readable() || new.is_readable() {
        list[len] = kevent(READ, old.is_readable(), new.is_readable());
        len += 1;
    }
    len
}

/// The purpose of a kevent, which decides the meaning of its receipt.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Changes a knote that has to exist. The receipt shows whether the knote exists.
    Touch,
    /// Deletes a knote. The receipt shows whether the knote existed.
    Delete,
    Add,
}

/// The kevents of one change, in the order in which the kernel applies them.
#[derive(Debug)]
pub(super) struct ChangeList {
    list: [Kevent; MAX_KEVENTS],
    purposes: [Purpose; MAX_KEVENTS],
    len: usize,
}

impl ChangeList {
    fn empty() -> ChangeList {
        // The zero records are never submitted: on NetBSD a zero record is EVFILT_READ on descriptor 0.
        ChangeList { list: [Kevent::ZERO; MAX_KEVENTS], purposes: [Purpose::Add; MAX_KEVENTS], len: 0 }
    }

    /// Returns the kevents of a change, for a descriptor with the knotes of `before`.
    pub(super) fn for_change(change: &Change, before: KnotesBefore) -> ChangeList {
        let mut list = ChangeList::empty();
        if let SourceKind::Filter(filter) = change.kind {
            list.push_filter_change(change, filter);
            return list;
        }
        if change.operation == Operation::Deregister {
            list.push_deletes(change.fd, before.filters);
            return list;
        }
        let needed = FdFilters::of_interest(change.interest);
        if before.mode != Some(change.interest.mode()) {
            list.push_deletes(change.fd, before.filters);
            list.push_adds(change.fd, needed, change.token, change.interest);
            return list;
        }
        let kept = before.filters.intersection(needed);
        let touched = if change.operation == Operation::Reregister && !before.is_certain {
            list.push_touch(change, kept)
        } else {
            FdFilters::NONE
        };
        list.push_deletes(change.fd, before.filters.without(needed));
        list.push_adds(change.fd, needed.without(touched), change.token, change.interest);
        list
    }

    /// Returns the kevents that delete the knotes that a change added, and restore those of `old`, the entry before the change.
    pub(super) fn for_roll_back(change: &Change, old: Option<Entry>) -> ChangeList {
        let mut list = ChangeList::empty();
        let added = FdFilters::of_interest(change.interest);
        list.push_deletes(change.fd, added.union(old.map_or(FdFilters::PLAIN, |old| old.filters)));
        let Some(old) = old.filter(|old| old.has_token) else {
            return list;
        };
        let token = old.token;
        if old.has_pipe_end {
            let [_, add] = filters::replace_for_broken_pipe(change.fd as usize, token);
            list.push(Purpose::Add, add);
            list.push_adds(change.fd, old.filters.without(FdFilters::READ), token, old.interest);
        } else if old.has_fired {
            for (filter, note) in old.filters.iter() {
                list.push(Purpose::Add, filters::add_fired(change.fd as usize, filter, note, token));
            }
        } else {
            list.push_adds(change.fd, old.filters, token, old.interest);
        }
        list
    }

    /// Appends the kevents of a timer, process, signal or file.
    ///
    /// A process or signal has no knote while it is disabled, because the source itself stores its registration. A disabled knote
    /// could still report: signals force `EV_CLEAR`, which NetBSD tests before `EV_DISPATCH`. Only descriptors and files have
    /// disabled knotes.
    fn push_filter_change(&mut self, change: &Change, filter: FilterSpec) {
        let (ident, mode) = (change.fd as usize, change.interest.mode());
        if matches!(filter, FilterSpec::Vnode(_)) && change.operation != Operation::Deregister {
            self.push_file(change, filter);
            return;
        }
        // The knote of a signal is kept, because it has a count, and only its token changes.
        let is_kept =
            filter == FilterSpec::Signal && change.operation == Operation::Reregister && mode != TriggerMode::Disabled;
        if change.operation != Operation::Register && !is_kept {
            // `EV_ADD` of a knote that exists keeps its flags or its period, depending on the system.
            self.push(Purpose::Delete, filters::delete_filter(ident, filter));
            if filter == FilterSpec::Process {
                self.push(Purpose::Delete, filters::delete_exited_process(ident));
            }
        }
        if change.operation != Operation::Deregister && mode != TriggerMode::Disabled {
            self.push(Purpose::Add, filters::add_filter(ident, filter, change.token, mode));
        }
    }

    /// Appends the kevents of a file. The knote is kept, because it has the changes that no event has reported yet.
    fn push_file(&mut self, change: &Change, filter: FilterSpec) {
        let (ident, mode) = (change.fd as usize, change.interest.mode());
        self.push(Purpose::Add, filters::add_filter(ident, filter, change.token, mode));
        if mode == TriggerMode::Disabled && !ADD_CAN_DISABLE {
            self.push(Purpose::Add, filters::disable(ident, Filter::VNODE, 0, change.token));
        }
    }

    /// Appends a change without `EV_ADD` of one knote that has to exist. Returns the filters that need no `EV_ADD` afterwards.
    fn push_touch(&mut self, change: &Change, kept: FdFilters) -> FdFilters {
        let Some((filter, note)) = kept.iter().next() else {
            return FdFilters::NONE;
        };
        self.push(
            Purpose::Touch,
            filters::touch(change.fd as usize, filter, note, change.token, change.interest.mode()),
        );
        if TOUCH_REPLACES_UDATA {
            FdFilters::of_filter(filter)
        } else {
            FdFilters::NONE
        }
    }

    fn push_deletes(&mut self, fd: RawFd, filters: FdFilters) {
        for (filter, _) in filters.iter() {
            self.push(Purpose::Delete, filters::delete(fd as usize, filter));
        }
    }

    fn push_adds(&mut self, fd: RawFd, filters: FdFilters, token: Token, interest: Interest) {
        let (ident, mode) = (fd as usize, interest.mode());
        let needs_disable = mode == TriggerMode::Disabled && !ADD_CAN_DISABLE;
        for (filter, note) in filters.iter() {
            let add_mode = if needs_disable { TriggerMode::Level } else { mode };
            self.push(Purpose::Add, filters::add(ident, filter, note, token, add_mode));
            if needs_disable {
                self.push(Purpose::Add, filters::disable(ident, filter, note, token));
            }
        }
    }

    fn push(&mut self, purpose: Purpose, kevent: Kevent) {
        self.list[self.len] = kevent;
        self.purposes[self.len] = purpose;
        self.len += 1;
    }

    pub(super) fn as_slice(&self) -> &[Kevent] {
        &self.list[..self.len]
    }

    /// Applies the change, and returns the receipts.
    pub(super) fn submit(&mut self, kq: RawFd) -> io::Result<Receipts<'_>> {
        if self.len == 0 {
            return Ok(Receipts { purposes: &[], receipts: &[] });
        }
        let receipts = apply_to_own_queue(kq, &mut self.list[..self.len])?;
        Ok(Receipts { purposes: &self.purposes[..receipts.len()], receipts })
    }

    /// Returns the receipts of these kevents, which were applied in a call with others.
    pub(super) fn with_receipts<'a>(&'a self, receipts: &'a [Kevent]) -> Receipts<'a> {
        Receipts { purposes: &self.purposes[..receipts.len().min(self.len)], receipts }
    }
}

/// The receipts of one change. If a signal arrived, the list is empty, and every kevent has been applied.
#[derive(Copy, Clone, Debug)]
pub(super) struct Receipts<'a> {
    purposes: &'a [Purpose],
    receipts: &'a [Kevent],
}

impl Receipts<'_> {
    fn with_purpose(&self, is_selected: impl Fn(Purpose) -> bool) -> impl Iterator<Item = &Kevent> {
        self.purposes
            .iter()
            .zip(self.receipts)
            .filter(move |(purpose, _)| is_selected(**purpose))
            .map(|(_, receipt)| receipt)
    }

    /// Returns the receipts of the kevents that show whether knotes exist.
    pub(super) fn probes(&self) -> impl Iterator<Item = &Kevent> {
        self.with_purpose(|purpose| purpose != Purpose::Add)
    }

    /// Returns the filter of a knote that had to exist and does not.
    pub(super) fn missing(&self) -> Option<Filter> {
        self.with_purpose(|purpose| purpose == Purpose::Touch)
            .find(|receipt| receipt.errno() == libc::ENOENT)
            .map(Kevent::filter)
    }

    /// Returns the first filter that could not be added, and the error number.
    pub(super) fn failed_add(&self) -> Option<(Filter, i32)> {
        self.with_purpose(|purpose| purpose == Purpose::Add)
            .map(|receipt| (receipt.filter(), receipt.errno()))
            .find(|&(_, errno)| errno != 0)
    }
}

/// Returns `true` if the error number means that the system has no such filter for this descriptor.
///
/// `EVFILT_EXCEPT` of a pipe or a terminal is `EINVAL` on Apple and OpenBSD and `EOPNOTSUPP` on DragonFly.
pub(super) fn is_unsupported(filter: Filter, errno: i32) -> bool {
    EXCEPT.is_some_and(|(except, _)| filter == except) && matches!(errno, libc::EINVAL | libc::EOPNOTSUPP)
}

/// Returns the error of a descriptor for which [`is_unsupported`] is `true`.
#[cold]
pub(super) fn no_urgent_data() -> io::Error {
    unsupported(
        "the kqueue backend of this system cannot register this descriptor for `Interest::PRIORITY`, because only \
         sockets have urgent data: register it without that interest",
    )
}
