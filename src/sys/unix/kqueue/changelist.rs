//! From a change of a registration to the kevents that make it.

use std::io;
use std::os::fd::RawFd;

use crate::interest::Interest;
use crate::interest::TriggerMode;
use crate::sys::selector::{Change, FilterSpec, Operation, SourceKind};
use crate::sys::unix::kevent::call::apply_with_receipts;
use crate::sys::unix::kevent::constants::Filter;
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::kqueue::filters;
use crate::sys::unix::kqueue::filters::EXCEPT;
use crate::sys::unix::kqueue::libkqueue;
use crate::sys::unix::kqueue::registrations::{Before, Entry, Filters};
use crate::token::Token;

/// The most kevents of one change: each filter is deleted and added again.
pub(super) const MAX_KEVENTS: usize = 6;

/// What the receipt of a kevent is good for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Changes a knote that exists, so its receipt says whether the knote exists.
    Touch,
    /// Deletes a knote, and so does this.
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
        // No filler is ever submitted: on NetBSD it would be EVFILT_READ on descriptor 0.
        ChangeList { list: [Kevent::ZERO; MAX_KEVENTS], purposes: [Purpose::Add; MAX_KEVENTS], len: 0 }
    }

    /// The kevents of a change, where the kernel holds what `before` says.
    pub(super) fn for_change(change: &Change, before: Before) -> ChangeList {
        let mut list = ChangeList::empty();
        if let SourceKind::Filter(filter) = change.kind {
            list.push_filter_change(change, filter);
            return list;
        }
        if change.operation == Operation::Deregister {
            list.push_deletes(change.fd, before.filters);
            return list;
        }
        let wanted = Filters::of_interest(change.interest);
        if before.mode != Some(change.interest.mode()) {
            // `EV_ADD` keeps the flags of a knote that exists.
            list.push_deletes(change.fd, before.filters);
            list.push_adds(change.fd, wanted, change.token, change.interest);
            return list;
        }
        let kept = before.filters.intersection(wanted);
        let touched = if change.operation == Operation::Reregister && !before.is_certain {
            list.push_touch(change, kept)
        } else {
            Filters::NONE
        };
        list.push_deletes(change.fd, before.filters.without(wanted));
        list.push_adds(change.fd, wanted.without(touched), change.token, change.interest);
        list
    }

    /// The kevents that take back what a change added, and add what was there before.
    pub(super) fn for_roll_back(change: &Change, old: Option<Entry>) -> ChangeList {
        let mut list = ChangeList::empty();
        let added = Filters::of_interest(change.interest);
        list.push_deletes(change.fd, added.union(old.map_or(Filters::PLAIN, |old| old.filters)));
        let Some(old) = old.filter(|old| old.has_token) else {
            return list;
        };
        let token = old.token;
        if old.has_pipe_end {
            let [_, add] = filters::replace_for_broken_pipe(change.fd as usize, token);
            list.push(Purpose::Add, add);
            list.push_adds(change.fd, old.filters.without(Filters::READ), token, old.interest);
        } else if old.has_fired {
            for (filter, note) in old.filters.iter() {
                list.push(Purpose::Add, filters::add_fired(change.fd as usize, filter, note, token));
            }
        } else {
            list.push_adds(change.fd, old.filters, token, old.interest);
        }
        list
    }

    /// A disabled knote stays only as a filter of a descriptor. A timer, process, signal or file has no knote while it is
    /// disabled: its source knows the registration, and the kernel could not keep the knote silent (NetBSD's `EV_CLEAR`,
    /// which timers and signals force, is tested before `EV_DISPATCH`).
    fn push_filter_change(&mut self, change: &Change, filter: FilterSpec) {
        let (ident, mode) = (change.fd as usize, change.interest.mode());
        // The knote of a signal has nothing but its token to change, and a count to keep.
        let is_kept =
            filter == FilterSpec::Signal && change.operation == Operation::Reregister && mode != TriggerMode::Disabled;
        if change.operation != Operation::Register && !is_kept {
            // `EV_ADD` of a knote that exists keeps flags or periods, on one system or another.
            self.push(Purpose::Delete, filters::delete_filter(ident, filter));
            if filter == FilterSpec::Process {
                self.push(Purpose::Delete, filters::delete_exited_process(ident));
            }
        }
        if change.operation != Operation::Deregister && mode != TriggerMode::Disabled {
            self.push(Purpose::Add, filters::add_filter(ident, filter, change.token, mode));
        }
    }

    /// Updates one knote that is expected to exist, without `EV_ADD`, and returns the filters that need no `EV_ADD` after
    /// it.
    fn push_touch(&mut self, change: &Change, kept: Filters) -> Filters {
        let Some((filter, note)) = kept.iter().next() else {
            return Filters::NONE;
        };
        self.push(
            Purpose::Touch,
            filters::touch(change.fd as usize, filter, note, change.token, change.interest.mode()),
        );
        if filters::TOUCH_REPLACES_UDATA {
            Filters::of_filter(filter)
        } else {
            Filters::NONE
        }
    }

    fn push_deletes(&mut self, fd: RawFd, filters: Filters) {
        for (filter, _) in filters.iter() {
            self.push(Purpose::Delete, filters::delete(fd as usize, filter));
        }
    }

    fn push_adds(&mut self, fd: RawFd, filters: Filters, token: Token, interest: Interest) {
        let (ident, mode) = (fd as usize, interest.mode());
        if mode == TriggerMode::Disabled {
            for (filter, _) in filters.iter() {
                let (add, disable) = libkqueue::add_disabled(ident, filter, token);
                self.push(Purpose::Add, add);
                if let Some(disable) = disable {
                    self.push(Purpose::Add, disable);
                }
            }
            return;
        }
        for (filter, note) in filters.iter() {
            self.push(Purpose::Add, filters::add(ident, filter, note, token, mode));
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

    /// Has the kernel make the change, and returns the receipts.
    pub(super) fn submit(&mut self, kq: RawFd) -> io::Result<Receipts<'_>> {
        if self.len == 0 {
            return Ok(Receipts { purposes: &[], receipts: &[] });
        }
        let receipts = apply_with_receipts(kq, &mut self.list[..self.len])?;
        Ok(Receipts { purposes: &self.purposes[..receipts.len()], receipts })
    }

    /// Receipts of these kevents, from another call.
    pub(super) fn with_receipts<'a>(&'a self, receipts: &'a [Kevent]) -> Receipts<'a> {
        Receipts { purposes: &self.purposes[..receipts.len().min(self.len)], receipts }
    }
}

/// The receipts of one change. There are none if a signal arrived; then every kevent has been applied.
#[derive(Copy, Clone, Debug)]
pub(super) struct Receipts<'a> {
    purposes: &'a [Purpose],
    receipts: &'a [Kevent],
}

impl Receipts<'_> {
    fn with(&self, wanted: impl Fn(Purpose) -> bool) -> impl Iterator<Item = &Kevent> {
        self.purposes
            .iter()
            .zip(self.receipts)
            .filter(move |(purpose, _)| wanted(**purpose))
            .map(|(_, receipt)| receipt)
    }

    /// The receipts of the kevents that find out whether knotes exist.
    pub(super) fn probes(&self) -> impl Iterator<Item = &Kevent> {
        self.with(|purpose| purpose != Purpose::Add)
    }

    /// The filter of a knote that was expected and does not exist.
    pub(super) fn missing(&self) -> Option<Filter> {
        self.with(|purpose| purpose == Purpose::Touch)
            .find(|receipt| receipt.errno() == libc::ENOENT)
            .map(Kevent::filter)
    }

    /// The first filter that could not be added, and why.
    pub(super) fn failed_add(&self) -> Option<(Filter, i32)> {
        self.with(|purpose| purpose == Purpose::Add)
            .map(|receipt| (receipt.filter(), receipt.errno()))
            .find(|&(_, errno)| errno != 0)
    }
}

/// Whether a failure means that the system has no such filter for this descriptor.
///
/// `EVFILT_EXCEPT` of a pipe or a terminal is `EINVAL` on Apple and OpenBSD and `EOPNOTSUPP` on DragonFly.
pub(super) fn is_unsupported(filter: Filter, errno: i32) -> bool {
    EXCEPT.is_some_and(|(except, _)| filter == except) && matches!(errno, libc::EINVAL | libc::EOPNOTSUPP)
}
