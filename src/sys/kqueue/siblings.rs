//! What kqueue does for each filter and a registration wants for the descriptor.
//!
//! `EV_DISPATCH` disables the filter that fired and not the others of the descriptor, so of a one-shot registration in
//! several directions they are disabled here, after the kernel has delivered the event and before the program sees it. If
//! several have fired at once, the first is the event; arming again tells the others.
//! And the filter that stands in for a write filter that cannot be added (`Kqueue::arm`) fires once, so it is added
//! again for a registration that is level-triggered.
//!
//! The table is locked while such a registration is changed and while delivered events are settled, never while
//! somebody waits. So of an event and a change at the same time, one comes first. If it is the change, its token tells:
//! an event with another one is of a registration that is no more, and dropped. One with the same token silences the new
//! registration, and is delivered: the program reads of it after it has armed, and arms again.

use std::collections::HashMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

use super::super::call::lock;
use super::super::kevent::{self, Kevent};
use super::super::{Change, Operation, Origin, Record};
use super::knote::{self, EXCEPT, READ, WRITE};
use crate::interest::Mode;
use crate::Token;

/// What an event of a registration calls for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum After {
    Nothing,
    /// The other filters are disabled.
    Mute,
    /// The filter is added again.
    Repeat,
}

impl After {
    /// What the events of a successful change call for.
    pub(super) fn of(change: &Change) -> After {
        let interest = change.interest;
        let filters = [interest.is_readable(), interest.is_writable(), interest.is_priority()];
        let has_siblings = filters.into_iter().filter(|&has| has).count() > 1;
        if change.operation != Operation::Deregister && interest.mode() == Mode::OneShot && has_siblings {
            After::Mute
        } else {
            After::Nothing
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Siblings {
    /// Whether there ever was one. All that a queue without them looks at.
    any: AtomicBool,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Entry {
    token: Token,
    after: After,
    /// Its event has been delivered.
    spent: bool,
}

#[derive(Debug, Default)]
struct Table {
    by_fd: HashMap<RawFd, Entry>,
    /// Reused, so that a wait allocates nothing.
    records: Vec<Kevent>,
}

/// The table while changes are made; nothing where it does not matter.
pub(super) struct During<'a>(Option<MutexGuard<'a, Table>>);

impl During<'_> {
    /// Remembers what a change has come to.
    pub(super) fn keep(&mut self, change: &Change, result: &std::io::Result<After>) {
        let Some(table) = self.0.as_mut().filter(|_| !matches!(change.origin, Origin::Filter(_))) else {
            return;
        };
        match result {
            Ok(after @ (After::Mute | After::Repeat)) => {
                let entry = Entry { token: change.token, after: *after, spent: false };
                table.by_fd.insert(change.fd, entry);
            }
            _ => drop(table.by_fd.remove(&change.fd)),
        }
    }
}

impl Siblings {
    pub(super) fn any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Makes changes while no event of theirs is settled.
    pub(super) fn around<T>(&self, changes: &[Change], make: impl FnOnce(&mut During<'_>) -> T) -> T {
        let concerns = |change: &Change| matches!(change.interest.mode(), Mode::OneShot | Mode::Level);
        let first = !self.any() && changes.iter().any(concerns);
        if first {
            // Before the kernel can deliver an event of it.
            self.any.store(true, Ordering::Release);
        }
        let table = (first || self.any()).then(|| lock(&self.table));
        make(&mut During(table))
    }

    /// Does what delivered events call for. True if there were some, and none is left of them.
    pub(super) fn settle(&self, kq: RawFd, events: &mut Vec<Kevent>) -> bool {
        if !events.iter().any(Kevent::is_dispatched) {
            return false;
        }
        let mut table = lock(&self.table);
        table.settle(events);
        // Each filter may be absent, and there is nobody to tell of anything else.
        let _ = kevent::submit(kq, &mut table.records);
        events.is_empty()
    }
}

impl Table {
    /// Drops the events that are nobody's, and lists what the others call for.
    fn settle(&mut self, events: &mut Vec<Kevent>) {
        let Table { by_fd, records } = self;
        records.clear();
        events.retain(|event| {
            let ident = event.ident();
            let entry = by_fd.get_mut(&(ident as RawFd)).filter(|_| event.is_dispatched());
            let Some(entry) = entry else { return true };
            if entry.token != event.token() || entry.spent {
                return false;
            }
            if entry.after == After::Repeat {
                records.extend(knote::replace_for_broken_pipe(ident, entry.token));
                return true;
            }
            entry.spent = true;
            let filters = [(READ, 0), (WRITE, 0)].into_iter().chain(EXCEPT);
            records.extend(filters.map(|(filter, note)| knote::disable(ident, filter, note, entry.token)));
            true
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::kevent::Filter;
    use super::*;

    const FD: RawFd = 7;

    fn event(filter: Filter, token: usize) -> Kevent {
        knote::add(FD as usize, filter, 0, Token(token), Mode::OneShot)
    }

    fn table(after: After) -> Table {
        let entry = Entry { token: Token(1), after, spent: false };
        Table { by_fd: HashMap::from([(FD, entry)]), records: Vec::new() }
    }

    /// The tokens of what is left of `events`, and how many records they call for.
    fn settle(table: &mut Table, events: &[Kevent]) -> (Vec<usize>, usize) {
        let mut events = events.to_vec();
        table.settle(&mut events);
        (events.iter().map(|event| event.token().0).collect(), table.records.len())
    }

    #[test]
    fn one_event_for_each_arming() {
        let filters = 2 + usize::from(EXCEPT.is_some());
        let mut table = table(After::Mute);
        assert_eq!(settle(&mut table, &[event(READ, 1), event(WRITE, 1)]), (vec![1], filters));
        assert_eq!(settle(&mut table, &[event(WRITE, 1)]), (vec![], 0));
    }

    #[test]
    fn an_event_of_what_is_no_more() {
        let mut table = table(After::Mute);
        assert_eq!(settle(&mut table, &[event(READ, 2)]), (vec![], 0));
        assert!(!table.by_fd[&FD].spent, "it is still armed");
        // Others are none of its business: another mode, another descriptor.
        let edge = knote::add(FD as usize, READ, 0, Token(3), Mode::Edge);
        let other = knote::add(8, READ, 0, Token(4), Mode::OneShot);
        assert_eq!(settle(&mut table, &[edge, other]), (vec![3, 4], 0));
    }

    #[test]
    fn a_stand_in_is_added_again() {
        let mut table = table(After::Repeat);
        let [_, stand_in] = knote::replace_for_broken_pipe(FD as usize, Token(1));
        for _ in 0..2 {
            assert_eq!(settle(&mut table, &[stand_in]), (vec![1], 2));
        }
    }
}
