//! All registrations of one poll set, and what to make of the kernel's answers.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use libc::{c_short, pollfd, POLLIN, POLLNVAL};

use crate::sys::error::not_found;
use crate::sys::unix::poll::entry::Entry;
use crate::sys::unix::poll::event::{poll, PollEvent};
use crate::token::Token;

/// Where in the table the descriptor stands that interrupts a wait.
pub(super) const NOTIFY_INDEX: usize = 0;

#[derive(Copy, Clone, Debug)]
pub(crate) struct WakeHandle {
    pub(super) id: u64,
    token: Token,
}

/// Registrations at stable indices, each twice: as the kernel is to see it, and what else is known of it.
#[derive(Default)]
pub(super) struct Table {
    pub(super) fds: Vec<pollfd>,
    pub(super) entries: Vec<Entry>,
    pub(super) by_fd: HashMap<RawFd, usize>,
    vacant: BTreeSet<usize>,
    /// Counts changes; tells what is newer than what the kernel was shown.
    pub(super) generation: u64,
    /// How many entries have to be probe_buffer at.
    pub(super) probe_count: usize,
    probe_buffer: Vec<pollfd>,
    pub(super) wakes: VecDeque<WakeHandle>,
    /// Where the next round of reports begins, so that no entry waits for ever for room among the events.
    cursor: usize,
    /// Somebody is inside poll(2), and whether it has been told to come out.
    pub(super) waiting: bool,
    pub(super) notified: bool,
    pub(super) last_waker: u64,
}

impl Table {
    pub(super) fn next_generation(&mut self) -> u64 {
        self.generation += 1;
        self.generation
    }

    pub(super) fn insert(&mut self, entry: Entry) -> usize {
        let shown = entry.pollfd_for_wait();
        let index = self.vacant.pop_first().unwrap_or(self.entries.len());
        self.by_fd.insert(entry.fd, index);
        if index == self.entries.len() {
            self.entries.push(entry);
            self.fds.push(shown);
        } else {
            self.entries[index] = entry;
            self.fds[index] = shown;
        }
        index
    }

    pub(super) fn remove(&mut self, index: usize) {
        let now = self.next_generation();
        self.by_fd.remove(&self.entries[index].fd);
        self.change(index, |entry| entry.vacate(now));
        self.vacant.insert(index);
        // poll(2) refuses more than RLIMIT_NOFILE entries, vacant ones too.
        while self.vacant.last() == self.entries.len().checked_sub(1).as_ref() {
            self.vacant.pop_last();
            self.entries.pop();
            self.fds.pop();
        }
    }

    /// The one way to change an entry: keeps what depends on it. True if the waiter has to know.
    pub(super) fn change(&mut self, index: usize, change: impl FnOnce(&mut Entry)) -> bool {
        let entry = &mut self.entries[index];
        let (was_looked_at, was_shown) = (entry.needs_probe(), self.fds[index]);
        change(entry);
        self.probe_count = self.probe_count + usize::from(entry.needs_probe()) - usize::from(was_looked_at);
        let shown = entry.pollfd_for_wait();
        self.fds[index] = shown;
        entry.needs_probe() != was_looked_at || (shown.fd, shown.events) != (was_shown.fd, was_shown.events)
    }

    /// Where `fd` is registered. A number that has become another's is not, and is forgotten.
    pub(super) fn index(&mut self, fd: RawFd) -> io::Result<usize> {
        let index = self.by_fd.get(&fd).copied().filter(|&index| index != NOTIFY_INDEX).ok_or_else(not_found)?;
        if self.entries[index].is_same_file() {
            return Ok(index);
        }
        self.remove(index);
        Err(not_found())
    }

    /// Looks at what cannot be waited for: reports what is new in it, and arms what is no longer true.
    pub(super) fn probe(&mut self, events: &mut Vec<PollEvent>) -> io::Result<()> {
        if self.probe_count == 0 {
            return Ok(());
        }
        let mut probe_buffer = std::mem::take(&mut self.probe_buffer);
        probe_buffer.clear();
        probe_buffer.extend(self.entries.iter().filter(|entry| entry.needs_probe()).map(Entry::pollfd_for_probe));
        let result = poll(&mut probe_buffer, Some(Duration::ZERO));
        if result.is_ok() {
            for seen in &probe_buffer {
                let index = self.by_fd[&seen.fd];
                self.change(index, |entry| entry.apply_probe(seen.revents));
                let revents = self.entries[index].of_interest(seen.revents);
                if revents & POLLNVAL != 0 || self.entries[index].has_unreported(revents) {
                    self.report(index, revents, events);
                }
            }
        }
        self.probe_buffer = probe_buffer;
        result.map(drop)
    }

    /// Reports what the kernel says of an entry, if there is room for it.
    fn report(&mut self, index: usize, revents: c_short, events: &mut Vec<PollEvent>) {
        let entry = &self.entries[index];
        if revents & POLLNVAL != 0 || !entry.is_same_file() {
            self.remove(index);
        } else if events.len() < events.capacity() {
            let revents = entry.complete(revents);
            events.push(PollEvent { token: entry.token, revents });
            self.change(index, |entry| entry.mark_reported(revents));
        }
    }

    /// Reports what the kernel said of what it was shown as of `generation`, `ready` entries, and the wakes in their turn.
    pub(super) fn deliver(&mut self, shown: &[pollfd], mut ready: usize, generation: u64, events: &mut Vec<PollEvent>) {
        let start = self.cursor.min(shown.len());
        self.cursor = NOTIFY_INDEX;
        for step in start..start + shown.len() {
            let index = if step < shown.len() { step } else { step - shown.len() };
            if ready == 0 && self.wakes.is_empty() {
                return;
            }
            if index == NOTIFY_INDEX {
                self.deliver_wakes(events);
                if !self.wakes.is_empty() {
                    // They are first next time, unless they were now.
                    self.cursor = if start == NOTIFY_INDEX { NOTIFY_INDEX + 1 } else { NOTIFY_INDEX };
                    return;
                }
            } else if shown[index].revents != 0 {
                if events.len() == events.capacity() {
                    self.cursor = index;
                    return;
                }
                ready -= 1;
                if self.entries.get(index).is_some_and(|entry| entry.modified <= generation) {
                    self.report(index, shown[index].revents, events);
                }
            }
        }
    }

    fn deliver_wakes(&mut self, events: &mut Vec<PollEvent>) {
        while events.len() < events.capacity() {
            let Some(WakeHandle { token, .. }) = self.wakes.pop_front() else {
                return;
            };
            events.push(PollEvent { token, revents: POLLIN });
        }
    }

    pub(super) fn wake(&mut self, waker: WakeHandle) {
        if !self.wakes.iter().any(|pending| pending.id == waker.id) {
            self.wakes.push_back(waker);
        }
    }

    pub(super) fn add_waker(&mut self, token: Token) -> WakeHandle {
        self.last_waker += 1;
        WakeHandle { id: self.last_waker, token }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interest::TriggerMode;

    /// What the kernel said of an entry that has become something else while it was asked is not believed.
    #[test]
    fn an_answer_to_an_old_question() {
        let mut table = Table::default();
        let mut events = Vec::with_capacity(8);
        // The first stands where the notification would; the numbers need not be open.
        let entry = |table: &mut Table, fd, token| {
            Entry::new(fd, Token(token), (POLLIN, TriggerMode::Edge), None, table.next_generation())
        };
        for (fd, token) in [(1000, 0), (1001, 1), (1002, 2), (1003, 3)] {
            let entry = entry(&mut table, fd, token);
            table.insert(entry);
        }
        let (mut shown, generation) = (table.fds.clone(), table.generation);
        for shown in &mut shown[1..] {
            shown.revents = POLLIN;
        }

        // Meanwhile the second goes and another takes its place, the third becomes another, the fourth goes.
        table.remove(1);
        let new = entry(&mut table, 1004, 4);
        assert_eq!(table.insert(new), 1);
        let now = table.next_generation();
        table.change(2, |entry| entry.arm(Token(5), (POLLIN, TriggerMode::Edge), now));
        table.remove(3);
        table.deliver(&shown, 3, generation, &mut events);
        assert!(events.is_empty(), "{events:?}");

        // An answer to the new question is.
        let (mut shown, generation) = (table.fds.clone(), table.generation);
        for shown in &mut shown[1..] {
            shown.revents = POLLIN;
        }
        table.deliver(&shown, 2, generation, &mut events);
        let tokens: Vec<_> = events.iter().map(|event| event.token.0).collect();
        assert_eq!(tokens, [4, 5]);
    }
}
