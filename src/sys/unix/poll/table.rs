//! The registrations of one poll(2) backend, and the delivery of events from the kernel's results.
//!
//! A registration has a stable index in two arrays: the `pollfd` of the next wait, and the [`Entry`] with its state. A wait
//! uses a snapshot of the first array. The table counts a *generation* for each change of a registration. A result of the
//! snapshot is ignored if the entry was modified after the snapshot's generation.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use libc::{c_short, pollfd, POLLIN, POLLNVAL};

use crate::interest::TriggerMode;
use crate::sys::error::not_found;
use crate::sys::unix::poll::entry::Entry;
use crate::sys::unix::poll::event::{poll, PollEvent};
use crate::token::Token;

/// The index of the descriptor that interrupts a wait.
pub(super) const NOTIFY_INDEX: usize = 0;

#[derive(Default)]
pub(super) struct Table {
    /// The records of the next wait.
    pub(super) fds: Vec<pollfd>,
    /// The registrations, at the same indices.
    pub(super) entries: Vec<Entry>,
    pub(super) by_fd: HashMap<RawFd, usize>,
    vacant: BTreeSet<usize>,
    /// The number of changes. A snapshot with a smaller number is older than the last change.
    pub(super) generation: u64,
    /// The number of entries that need a probe.
    pub(super) probe_count: usize,
    probe_buffer: Vec<pollfd>,
    /// The index of the alarm, if there is one.
    pub(super) alarm_index: Option<usize>,
    /// The index of the queue of file changes, if there is one.
    pub(super) changes_index: Option<usize>,
    cursor: Cursor,
    /// The notification of a wait is written and not drained.
    pub(super) notified: bool,
}

/// The index with which the next delivery begins.
///
/// A delivery that finds no space for an event stores the index of the entry. Therefore no entry waits forever for space.
#[derive(Copy, Clone, Default)]
struct Cursor(usize);

impl Cursor {
    /// The cursor after a delivery that had space for all events.
    const FIRST: Cursor = Cursor(NOTIFY_INDEX);

    /// Returns every index below `len` once, from the cursor on.
    fn indices(self, len: usize) -> impl Iterator<Item = usize> {
        let start = self.0.min(len);
        (start..start + len).map(move |step| if step < len { step } else { step - len })
    }
}

impl Table {
    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    /// Inserts an entry at the lowest vacant index, and returns the index. An entry with the same number belongs to a descriptor
    /// that was closed, and is removed.
    pub(super) fn insert(&mut self, entry: Entry) -> usize {
        if let Some(&stale) = self.by_fd.get(&entry.fd) {
            self.remove(stale);
        }
        let record = entry.pollfd_for_wait();
        let index = self.vacant.pop_first().unwrap_or(self.entries.len());
        self.by_fd.insert(entry.fd, index);
        if index == self.entries.len() {
            self.entries.push(entry);
            self.fds.push(record);
        } else {
            self.entries[index] = entry;
            self.fds[index] = record;
        }
        index
    }

    /// Inserts the entry of a descriptor of the crate, level-triggered for reading.
    ///
    /// Fails with `EBADF` if another descriptor of the crate has the number: other code has closed that descriptor.
    pub(super) fn insert_internal(&mut self, fd: RawFd) -> io::Result<usize> {
        if self.by_fd.get(&fd).is_some_and(|&index| self.is_internal(index)) {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let generation = self.next_generation();
        Ok(self.insert(Entry::new(fd, Token(0), (POLLIN, TriggerMode::Level), None, generation)))
    }

    pub(super) fn remove(&mut self, index: usize) {
        let generation = self.next_generation();
        self.by_fd.remove(&self.entries[index].fd);
        self.update_entry(index, |entry| entry.vacate(generation));
        self.vacant.insert(index);
        // poll(2) rejects more records than RLIMIT_NOFILE, and vacant ones count too.
        while self.vacant.last().is_some_and(|&last| last + 1 == self.entries.len()) {
            self.vacant.pop_last();
            self.entries.pop();
            self.fds.pop();
        }
    }

    /// Updates an entry, its record and `probe_count`. Entries change nowhere else.
    ///
    /// Returns `true` if a blocked wait must be interrupted.
    pub(super) fn update_entry(&mut self, index: usize, update: impl FnOnce(&mut Entry)) -> bool {
        let entry = &mut self.entries[index];
        let (needed_probe, old) = (entry.needs_probe(), self.fds[index]);
        update(entry);
        self.probe_count = self.probe_count + usize::from(entry.needs_probe()) - usize::from(needed_probe);
        let new = entry.pollfd_for_wait();
        self.fds[index] = new;
        entry.needs_probe() != needed_probe || (new.fd, new.events) != (old.fd, old.events)
    }

    /// Returns `true` for the index of the notifier, of the alarm or of the queue of file changes.
    #[inline]
    pub(super) fn is_internal(&self, index: usize) -> bool {
        index == NOTIFY_INDEX || Some(index) == self.alarm_index || Some(index) == self.changes_index
    }

    /// Returns the number of registrations of the program.
    pub(super) fn registration_count(&self) -> usize {
        let internal = [Some(NOTIFY_INDEX), self.alarm_index, self.changes_index];
        self.by_fd.len() - internal.into_iter().flatten().count()
    }

    /// Returns the results of a wait for the alarm or the queue of file changes.
    ///
    /// The result is 0 if the entry was inserted after the snapshot of `generation` was taken. A closed descriptor may have had
    /// its index and its number before.
    pub(super) fn internal_results(&self, index: Option<usize>, snapshot: &[pollfd], generation: u64) -> c_short {
        let index = index.filter(|&index| self.entries[index].modified <= generation);
        index.and_then(|index| snapshot.get(index)).map_or(0, |record| record.revents)
    }

    /// Returns the index of the registration of `fd`. If the number stands for another file now, the registration is
    /// removed, and the result is `NotFound`.
    pub(super) fn index_of(&mut self, fd: RawFd) -> io::Result<usize> {
        let index = self.by_fd.get(&fd).copied().filter(|&index| !self.is_internal(index)).ok_or_else(not_found)?;
        if self.entries[index].is_same_file() {
            return Ok(index);
        }
        self.remove(index);
        Err(not_found())
    }

    /// Probes the entries that need a probe. New bits are delivered, and bits that are gone are armed.
    pub(super) fn probe(&mut self, events: &mut Vec<PollEvent>, max: usize) -> io::Result<()> {
        if self.probe_count == 0 {
            return Ok(());
        }
        let mut probe_buffer = std::mem::take(&mut self.probe_buffer);
        probe_buffer.clear();
        probe_buffer.extend(self.entries.iter().filter(|entry| entry.needs_probe()).map(Entry::pollfd_for_probe));
        let result = poll(&mut probe_buffer, Some(Duration::ZERO));
        if result.is_ok() {
            for probed in &probe_buffer {
                let index = self.by_fd[&probed.fd];
                self.update_entry(index, |entry| entry.apply_probe(probed.revents));
                let revents = self.entries[index].bits_of_interest(probed.revents);
                if revents & POLLNVAL != 0 || self.entries[index].has_unreported(revents) {
                    self.deliver_event(index, revents, events, max);
                }
            }
        }
        self.probe_buffer = probe_buffer;
        result.map(drop)
    }

    /// Delivers the event of an entry, if `events` has space. The registration of a closed descriptor is removed.
    fn deliver_event(&mut self, index: usize, revents: c_short, events: &mut Vec<PollEvent>, max: usize) {
        let entry = &self.entries[index];
        if revents & POLLNVAL != 0 || !entry.is_same_file() {
            self.remove(index);
        } else if events.len() < max {
            let revents = entry.add_masked_writable(revents);
            events.push(PollEvent::new(entry.token, revents));
            self.update_entry(index, |entry| entry.mark_reported(revents));
        }
    }

    /// Delivers the results of a wait, until `events` contains `max` events.
    ///
    /// `snapshot` is the copy of the records as of `generation`, and `ready` the number of its records with a result,
    /// without those of internal descriptors.
    pub(super) fn deliver(
        &mut self,
        snapshot: &[pollfd],
        mut ready: usize,
        generation: u64,
        events: &mut Vec<PollEvent>,
        max: usize,
    ) {
        let start = std::mem::replace(&mut self.cursor, Cursor::FIRST);
        for index in start.indices(snapshot.len()) {
            if ready == 0 {
                return;
            }
            if !self.is_internal(index) && snapshot[index].revents != 0 {
                if events.len() == max {
                    self.cursor = Cursor(index);
                    return;
                }
                ready -= 1;
                if self.entries.get(index).is_some_and(|entry| entry.modified <= generation) {
                    self.deliver_event(index, snapshot[index].revents, events, max);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_for_changed_entries_are_ignored() {
        let mut table = Table::default();
        let mut events = Vec::with_capacity(8);
        // The first entry takes the index of the notification. The numbers need not be open.
        let entry = |table: &mut Table, fd, token| {
            Entry::new(fd, Token(token), (POLLIN, TriggerMode::Edge), None, table.next_generation())
        };
        for (fd, token) in [(1000, 0), (1001, 1), (1002, 2), (1003, 3)] {
            let entry = entry(&mut table, fd, token);
            table.insert(entry);
        }
        let (mut snapshot, generation) = (table.fds.clone(), table.generation);
        for record in &mut snapshot[1..] {
            record.revents = POLLIN;
        }

        // During the wait the second entry is replaced, the third is reregistered, and the fourth is removed.
        table.remove(1);
        let replacement = entry(&mut table, 1004, 4);
        assert_eq!(table.insert(replacement), 1);
        let rearmed_at = table.next_generation();
        table.update_entry(2, |entry| entry.arm(Token(5), (POLLIN, TriggerMode::Edge), rearmed_at));
        table.remove(3);
        table.deliver(&snapshot, 3, generation, &mut events, 8);
        assert!(events.is_empty(), "{events:?}");

        // Results of a new snapshot are delivered.
        let (mut snapshot, generation) = (table.fds.clone(), table.generation);
        for record in &mut snapshot[1..] {
            record.revents = POLLIN;
        }
        table.deliver(&snapshot, 2, generation, &mut events, 8);
        let tokens: Vec<_> = events.iter().map(|event| event.token.0).collect();
        assert_eq!(tokens, [4, 5]);
    }

    #[test]
    fn table_without_entries_is_valid() {
        let mut table = Table::default();
        table.insert_internal(1000).unwrap();
        table.remove(NOTIFY_INDEX);
        assert!(table.entries.is_empty() && table.fds.is_empty() && table.by_fd.is_empty());
    }

    #[test]
    fn number_of_an_internal_descriptor_is_rejected_for_another() {
        let mut table = Table::default();
        assert_eq!(table.insert_internal(1000).unwrap(), NOTIFY_INDEX);
        table.alarm_index = Some(table.insert_internal(1001).unwrap());
        table.changes_index = Some(table.insert_internal(1002).unwrap());
        for fd in [1000, 1001, 1002] {
            assert_eq!(table.insert_internal(fd).unwrap_err().raw_os_error(), Some(libc::EBADF));
        }
        assert_eq!(table.entries.len(), 3);
    }

    #[test]
    fn cursor_returns_every_index_once() {
        let indices = |start, len| Cursor(start).indices(len).collect::<Vec<_>>();
        assert_eq!(indices(0, 3), [0, 1, 2]);
        assert_eq!(indices(2, 3), [2, 0, 1]);
        // The table has shrunk since.
        assert_eq!(indices(9, 3), [0, 1, 2]);
    }
}
