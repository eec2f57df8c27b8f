//! The changes that a delivered event requires.
//!
//! kqueue has one knote for each filter, but a registration covers all filters of its descriptor. In five cases a change is
//! needed after the kernel has delivered an event, and before the program receives the event:
//!
//! 1. *One-shot.* A one-shot registration of several filters reports one event. `EV_DISPATCH` disables the knote that fired
//!    and no other, so that the other knotes are deleted here. If several have fired at once, the first is the event, and
//!    re-arming reports the others. The knotes are deleted and not disabled, because four BSDs do not remove a disabled knote
//!    from the list of pending knotes. The descriptor of the queue would then be readable without a cause.
//! 2. *The end of a pipe.* The read filter that substitutes for the write filter of a broken pipe fires once. For a
//!    level-triggered registration this filter is added again after each event.
//! 3. *The last event of a knote.* The kernel removes knotes when the last reader of a pipe leaves (FreeBSD:
//!    `knlist_clear`) and when a terminal is revoked (Apple, OpenBSD). The last event has `EV_EOF` and `EV_ONESHOT`. A
//!    level-triggered registration reports at every poll, so that the filter or its substitute is added again.
//! 4. *Urgent data.* On Apple the note of urgent data stays set after the data has been read. For a level-triggered
//!    registration the knote is deleted and added again.
//!
//! 5. *One-shot watches of files.* The knote is edge-triggered, and is disabled after its event. The kernel keeps the changes of
//!    a disabled knote. `EV_DISPATCH` would not disable the knote on NetBSD, and `EV_ONESHOT` would delete the knote.
//!
//! The table is locked while such a registration is changed and while delivered events are processed, never during a wait.
//! Therefore a concurrent event is processed before or after a change. If a one-shot event is processed after the change, its
//! token decides. An event with another token belongs to an earlier registration, and is dropped. An event with the same token
//! disarms the new registration, and is delivered. No readiness is lost, because the program reads and then re-arms.

use std::os::fd::RawFd;

use crate::interest::TriggerMode;
use crate::sys::selector::EventRecord;
use crate::sys::unix::kevent::call::apply_to_own_queue;
use crate::sys::unix::kevent::constants::Filter;
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::kqueue::filters;
use crate::sys::unix::kqueue::filters::{EXCEPT, WRITE};
use crate::sys::unix::kqueue::registrations::{Entry, FdFilters, Registrations, Table};

/// Returns `true` if one of the events may require a change.
#[inline]
pub(super) fn needs_processing(events: &[Kevent]) -> bool {
    events.iter().any(|event| {
        filters::is_dispatched(event)
            || filters::is_last(event)
            || event.filter() == Filter::VNODE
            || (filters::URGENT_STAYS && EventRecord::is_priority(event))
    })
}

impl Registrations {
    /// Processes delivered events, and drops those that the program must not receive.
    pub(super) fn process_delivered(&self, kq: RawFd, events: &mut Vec<Kevent>) {
        if !needs_processing(events) {
            return;
        }
        let mut table = self.lock();
        let Table { kevents, .. } = &mut *table;
        kevents.clear();
        events.retain_mut(|event| table.process(kq, event));
        // Each knote may be absent, and no caller could handle another error.
        let _ = apply_to_own_queue(kq, &mut table.kevents);
    }
}

impl Table {
    /// Processes one event, and returns `true` if the program receives it.
    fn process(&mut self, kq: RawFd, event: &mut Kevent) -> bool {
        if event.filter() == Filter::VNODE {
            self.disarm_file(event);
            return true;
        }
        let fired = FdFilters::of_filter(event.filter());
        let fd = event.ident() as RawFd;
        let mut kevents = std::mem::take(&mut self.kevents);
        let is_delivered = match self.get_mut(fd).filter(|_| !fired.is_empty()) {
            Some(entry) => entry.process(kq, event, fired, &mut kevents),
            None => true,
        };
        self.kevents = kevents;
        is_delivered
    }
}

impl Entry {
    /// Processes one event of the filters `fired`, and returns `true` if the program receives it.
    fn process(&mut self, kq: RawFd, event: &mut Kevent, fired: FdFilters, kevents: &mut Vec<Kevent>) -> bool {
        if !self.has_token {
            // The events of a detached registration have its token.
            (self.token, self.has_token) = (event.token(), true);
        }
        if self.token != event.token() {
            // An edge or a level of an earlier registration is a spurious event at worst. A one-shot event would disarm the
            // present registration.
            return !filters::is_dispatched(event);
        }
        if filters::is_last(event) {
            self.filters = self.filters.without(fired);
        }
        if self.is_disarmed && self.interest.mode() == TriggerMode::OneShot {
            return false;
        }
        self.keep_mode(kq, event, fired, kevents);
        if filters::is_pipe_end(event) && self.interest.is_readable() {
            // Pipes of FreeBSD have two directions, so that this end may be readable too.
            *event = filters::with_both_directions(event);
        }
        if self.filters.is_empty() {
            // A disabled knote shows that the descriptor is registered. Closing the descriptor removes the knote.
            kevents.push(filters::add_disabled_pipe_end(event.ident(), event.token()));
            (self.filters, self.has_pipe_end) = (FdFilters::READ, true);
        }
        true
    }

    /// Makes the changes that the trigger mode requires after an event: disarms a one-shot registration, and adds the filter of
    /// a level-triggered registration again if the filter would not report at the next wait.
    fn keep_mode(&mut self, kq: RawFd, event: &Kevent, fired: FdFilters, kevents: &mut Vec<Kevent>) {
        match self.interest.mode() {
            TriggerMode::OneShot => self.disarm(event, fired, kevents),
            TriggerMode::Level if filters::is_pipe_end(event) => {
                kevents.extend(filters::replace_for_broken_pipe(event.ident(), event.token()))
            }
            TriggerMode::Level if filters::is_last(event) => self.add_again(kq, event, fired),
            TriggerMode::Level if filters::URGENT_STAYS && event.is_priority() => {
                // A new knote has the note only while there is urgent data.
                kevents.push(filters::delete(event.ident(), event.filter()));
                let note = EXCEPT.map_or(0, |(_, note)| note);
                kevents.push(filters::add(event.ident(), event.filter(), note, event.token(), TriggerMode::Level));
            }
            TriggerMode::Level | TriggerMode::Edge | TriggerMode::Disabled => {}
        }
    }

    /// Disarms a one-shot registration: deletes every filter but the one that fired, which the kernel has disabled.
    fn disarm(&mut self, event: &Kevent, fired: FdFilters, kevents: &mut Vec<Kevent>) {
        self.has_fired = true;
        self.is_disarmed = self.filters.len() > 1;
        let others = self.filters.without(fired);
        kevents.extend(others.iter().map(|(filter, _)| filters::delete(event.ident(), filter)));
        if filters::is_pipe_end(event) {
            // NetBSD tests `EV_CLEAR` before `EV_DISPATCH`, and does not disable a filter with both (kern_event.c:
            // `kqueue_scan`).
            kevents.push(filters::disable(event.ident(), event.filter(), 0, event.token()));
        }
        self.filters = self.filters.without(others);
    }

    /// Adds a filter that the kernel has removed, or its substitute. Both fire at once, because the end of file lasts.
    fn add_again(&mut self, kq: RawFd, event: &Kevent, fired: FdFilters) {
        let add = filters::add(event.ident(), event.filter(), 0, event.token(), TriggerMode::Level);
        if is_added(kq, &mut [add]) {
            self.filters = self.filters.union(fired);
        } else if event.filter() == WRITE
            && is_added(kq, &mut filters::replace_for_broken_pipe(event.ident(), event.token()))
        {
            (self.filters, self.has_pipe_end) = (FdFilters::READ, true);
        }
    }
}

/// Returns `true` if the kernel accepted the last of these kevents, which adds a knote.
fn is_added(kq: RawFd, kevents: &mut [Kevent]) -> bool {
    apply_to_own_queue(kq, kevents).is_ok_and(|receipts| receipts.last().map_or(true, |receipt| receipt.errno() == 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interest::Interest;
    use crate::sys::selector::{Change, Operation, SourceKind};
    use crate::sys::unix::kevent::constants::Flags;
    use crate::sys::unix::kqueue::filters::READ;
    use crate::token::Token;

    const FD: RawFd = 7;
    /// No queue: these tests make no system call.
    const NO_QUEUE: RawFd = -1;
    const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

    fn event(filter: Filter, token: usize) -> Kevent {
        filters::add(FD as usize, filter, 0, Token(token), TriggerMode::OneShot)
    }

    fn entry(interest: Interest) -> Entry {
        let (operation, token, kind) = (Operation::Register, Token(1), SourceKind::RawFd);
        Entry::for_change(&Change { operation, fd: FD, token, interest, kind }, FdFilters::of_interest(interest))
    }

    /// Returns the tokens of the events that are delivered, and the number of kevents that the events require.
    fn process(table: &mut Table, events: &[Kevent]) -> (Vec<usize>, usize) {
        table.kevents.clear();
        let mut events = events.to_vec();
        events.retain_mut(|event| table.process(NO_QUEUE, event));
        (events.iter().map(|event| event.token().0).collect(), table.kevents.len())
    }

    fn table(entry: Entry) -> Table {
        let mut table = Table::default();
        table.set(FD, entry, SourceKind::RawFd);
        table
    }

    #[test]
    fn oneshot_registration_reports_one_event_for_each_arming() {
        let mut table = table(entry(BOTH.oneshot()));
        assert_eq!(process(&mut table, &[event(READ, 1), event(WRITE, 1)]), (vec![1], 1));
        assert_eq!(process(&mut table, &[event(WRITE, 1)]), (vec![], 0));
        assert_eq!(table.get(FD).unwrap().filters, FdFilters::READ, "the knote that fired is disabled, not deleted");
    }

    #[test]
    fn oneshot_event_with_an_old_token_is_dropped() {
        let mut table = table(entry(BOTH.oneshot()));
        assert_eq!(process(&mut table, &[event(READ, 2)]), (vec![], 0));
        assert!(!table.get(FD).unwrap().is_disarmed, "the registration is still armed");
        // Events of another mode and of another descriptor are delivered.
        let edge = filters::add(FD as usize, READ, 0, Token(3), TriggerMode::Edge);
        let other = filters::add(8, READ, 0, Token(4), TriggerMode::OneShot);
        assert_eq!(process(&mut table, &[edge, other]), (vec![3, 4], 0));
    }

    #[test]
    fn broken_pipe_substitute_is_added_again_in_level_mode() {
        let mut table = table(Entry { has_pipe_end: true, ..entry(Interest::WRITABLE.level()) });
        let [_, substitute] = filters::replace_for_broken_pipe(FD as usize, Token(1));
        for _ in 0..2 {
            assert_eq!(process(&mut table, &[substitute]), (vec![1], 2));
        }
    }

    #[test]
    fn knote_that_the_kernel_removed_leaves_the_entry_or_is_replaced() {
        let last = filters::add(FD as usize, WRITE, 0, Token(1), TriggerMode::Edge)
            .with_flags(Flags::CLEAR | Flags::EOF | Flags::ONESHOT);
        for (interest, kevents) in [(BOTH, 0), (Interest::WRITABLE, 1), (Interest::WRITABLE.oneshot(), 1)] {
            let mut table = table(entry(interest));
            assert_eq!(process(&mut table, &[last]), (vec![1], kevents), "{interest:?}");
            assert_eq!(
                table.get(FD).unwrap().filters,
                FdFilters::READ,
                "one knote is left, which closing the descriptor removes"
            );
        }
    }
}
