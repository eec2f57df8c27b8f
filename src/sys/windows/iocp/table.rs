//! The entries of a backend, and the lists of those that need a request or have a result.

use std::collections::hash_map::Entry::Occupied;
use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::windows::io::RawSocket;
use std::sync::Arc;

use windows_sys::Win32::Foundation::ERROR_INVALID_HANDLE;
use windows_sys::Win32::Networking::WinSock::WSAENOTSOCK;
use windows_sys::Win32::System::IO::OVERLAPPED_ENTRY;

use crate::interest::TriggerMode;
use crate::sys::windows::iocp::afd::Afd;
use crate::sys::windows::iocp::afds::Afds;
use crate::sys::windows::iocp::entry::{Counts, Ended, Entry, Kind};
use crate::sys::windows::iocp::entry_key::EntryKey;
use crate::sys::windows::iocp::event::IocpEvent;
use crate::sys::windows::iocp::port::{key, Port};
use crate::sys::windows::iocp::request::Request;
use crate::sys::windows::iocp::socket_hasher::BuildSocketHasher;

#[derive(Default)]
struct Slot {
    generation: u32,
    entry: Option<Entry>,
}

pub(super) struct Table {
    pub(super) port: Arc<Port>,
    slots: Vec<Slot>,
    vacant: Vec<u32>,
    by_socket: HashMap<RawSocket, EntryKey, BuildSocketHasher>,
    /// An entry of a socket has a number of one of these handles, which is open as long as the entry exists.
    pub(super) afds: Afds,
    /// The entries that may need a request.
    queued: Vec<EntryKey>,
    /// The entries with a result, in the order of their packets.
    ready: VecDeque<EntryKey>,
    /// The blocks of requests that have ended, for the next requests.
    #[allow(clippy::vec_box)] // The kernel has the addresses of blocks.
    spare: Vec<Box<Request>>,
    pub(super) counts: Counts,
    /// The number of canceled requests of removed entries, for each socket.
    late: HashMap<RawSocket, usize, BuildSocketHasher>,
    /// The sum of these numbers.
    late_count: usize,
    /// Counts the rounds of probes.
    probe_round: u64,
    /// Counts the begins and ends of waits: odd while a thread waits for packets, or has packets that it has not processed.
    pub(super) round: u64,
    /// A thread waits for packets, and holds no lock.
    is_waiting: bool,
    /// The wait was interrupted already.
    is_interrupted: bool,
}

impl Table {
    pub(super) fn new(port: Arc<Port>) -> Table {
        Table {
            port,
            slots: Vec::new(),
            vacant: Vec::new(),
            by_socket: HashMap::default(),
            afds: Afds::default(),
            queued: Vec::new(),
            ready: VecDeque::new(),
            spare: Vec::new(),
            counts: Counts::default(),
            late: HashMap::default(),
            late_count: 0,
            probe_round: 0,
            round: 0,
            is_waiting: false,
            is_interrupted: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.vacant.len()
    }

    pub(super) fn get(&mut self, key: EntryKey) -> Option<&mut Entry> {
        let slot = self.slots.get_mut(key.index as usize)?;
        slot.entry.as_mut().filter(|_| slot.generation == key.generation)
    }

    pub(super) fn key_of(&self, socket: RawSocket) -> Option<EntryKey> {
        self.by_socket.get(&socket).copied()
    }

    /// Ends the registration of a raw socket that was closed, although no packet has reported that: the entry had no request, or
    /// the polling thread has the packet, or the socket is open under another number.
    pub(super) fn remove_closed(&mut self, socket: RawSocket) {
        let Some(key) = self.key_of(socket) else { return };
        let entry = self.get(key).and_then(Entry::socket);
        if entry.is_some_and(|entry| entry.is_closed()) {
            self.remove(key);
        }
    }

    /// Inserts an entry, which has no request yet.
    pub(super) fn insert(&mut self, mut entry: Entry) -> EntryKey {
        let index = self.vacant.pop().unwrap_or(self.slots.len() as u32);
        if index as usize == self.slots.len() {
            self.slots.push(Slot::default());
        }
        let slot = &mut self.slots[index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        let key = EntryKey { index, generation: slot.generation };
        if let Some(socket) = entry.socket() {
            self.by_socket.insert(socket.socket, key);
        }
        slot.entry = Some(entry);
        self.reserve();
        key
    }

    /// Allocates all that the entries need in polls, so that a poll allocates nothing.
    fn reserve(&mut self) {
        let entries = self.len();
        self.queued.reserve(entries.saturating_sub(self.queued.len()));
        self.ready.reserve(entries.saturating_sub(self.ready.len()));
        self.spare.reserve(entries.saturating_sub(self.spare.len()));
        while self.spare.len() + self.counts.requests < entries {
            self.spare.push(Box::default());
        }
    }

    /// Removes an entry, and cancels its requests.
    pub(super) fn remove(&mut self, key: EntryKey) -> bool {
        if self.get(key).is_none() {
            return false;
        }
        let slot = &mut self.slots[key.index as usize];
        let Some(mut entry) = slot.entry.take() else { return false };
        self.vacant.push(key.index);
        self.counts.replace(entry.counts(), Counts::default());
        if let Some(socket) = entry.socket() {
            if self.by_socket.get(&socket.socket) == Some(&key) {
                self.by_socket.remove(&socket.socket);
            }
            if let (Some(afd), Some(pending)) = (self.afds.get(socket.afd), &mut socket.pending) {
                afd.cancel(pending);
                *self.late.entry(socket.socket).or_insert(0) += 1;
                self.late_count += 1;
            }
            self.afds.release(socket.afd);
        }
        true
    }

    /// Changes an entry, and counts again. Entries change nowhere else.
    pub(super) fn update<T>(&mut self, key: EntryKey, update: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        let entry = self.get(key)?;
        let before = entry.counts();
        let result = update(entry);
        let after = entry.counts();
        self.counts.replace(before, after);
        if after.probes > before.probes {
            // A wait without limit does not probe.
            self.interrupt();
        }
        Some(result)
    }

    /// Changes the entry of a socket with its handle of the driver and the spare blocks, and counts again.
    #[allow(clippy::vec_box)] // As above.
    fn with_afd<T>(
        &mut self,
        key: EntryKey,
        update: impl FnOnce(&mut Entry, &Afd, &Port, &mut Vec<Box<Request>>) -> T,
    ) -> Option<T> {
        let slot = &mut self.slots[key.index as usize];
        let entry = slot.entry.as_mut().filter(|_| slot.generation == key.generation)?;
        let Kind::Socket(socket) = &mut entry.kind else { return None };
        let afd = self.afds.get(socket.afd)?;
        let before = entry.counts();
        let result = update(entry, afd, &self.port, &mut self.spare);
        self.counts.replace(before, entry.counts());
        Some(result)
    }

    /// Makes the requests of a changed entry: now if a thread waits, else before the next wait.
    ///
    /// If a request fails now, the wait ends, and makes the request again. `select` returns the error if it lasts.
    pub(super) fn queue(&mut self, key: EntryKey) {
        if self.try_queue(key).is_err() {
            self.queue_for_flush(key);
            self.interrupt();
        }
    }

    /// Makes the request of a changed entry, as `queue`, but returns the error of a request that fails now.
    ///
    /// The request of a raw socket is made now, because it detects that the program closes the socket.
    pub(super) fn try_queue(&mut self, key: EntryKey) -> io::Result<()> {
        if self.is_waiting || self.get(key).is_some_and(|entry| entry.is_raw()) {
            return self.request(key);
        }
        self.queue_for_flush(key);
        Ok(())
    }

    fn queue_for_flush(&mut self, key: EntryKey) {
        if self.queued.len() == self.queued.capacity() {
            // A program that never waits would collect the keys of removed entries.
            let slots = &self.slots;
            self.queued.retain(|&key| is_live(slots, key));
        }
        if let Some(entry) = self.get(key).filter(|entry| !entry.is_queued) {
            entry.is_queued = true;
            self.queued.push(key);
        }
    }

    /// Makes the requests of the queued entries.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while let Some(key) = self.queued.pop() {
            if let Some(entry) = self.get(key) {
                entry.is_queued = false;
                if let Err(error) = self.request(key) {
                    self.queue_for_flush(key);
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Makes the request of an entry. The registration of a closed socket ends.
    fn request(&mut self, key: EntryKey) -> io::Result<()> {
        let socket = self.get(key).and_then(Entry::socket).map(|socket| socket.socket);
        let is_blocked = socket.is_some_and(|socket| self.late.contains_key(&socket));
        let result = self.with_afd(key, |entry, afd, port, spare| {
            if let Some(socket) = entry.socket() {
                socket.is_blocked = is_blocked;
            }
            entry.request(afd, port, key, spare)
        });
        match result {
            Some(Err(error)) if is_closed(&error) => {
                self.remove(key);
                Ok(())
            }
            result => result.unwrap_or(Ok(())),
        }
    }

    /// Begins a round of probes: each entry is probed once at most.
    pub(super) fn begin_probes(&mut self) {
        self.probe_round += 1;
    }

    /// Probes the entries that need a probe and have no request in progress. Cancels the requests of the others.
    pub(super) fn probe(&mut self) {
        if self.counts.probes == 0 {
            return;
        }
        let round = self.probe_round;
        for index in 0..self.slots.len() {
            let key = EntryKey { index: index as u32, generation: self.slots[index].generation };
            if self.with_afd(key, |entry, afd, _, _| entry.probe(afd, round)) == Some(true) {
                self.queue(key);
            }
        }
    }

    /// Adds an entry to the queue of those with a result.
    pub(super) fn mark_ready(&mut self, key: EntryKey) {
        if self.ready.len() == self.ready.capacity() {
            let slots = &self.slots;
            self.ready.retain(|&key| is_live(slots, key));
        }
        if let Some(entry) = self.get(key).filter(|entry| !entry.is_ready) {
            entry.is_ready = true;
            self.ready.push_back(key);
        }
    }

    pub(super) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    #[cfg(test)]
    pub(super) fn list_lengths(&self) -> [usize; 2] {
        [self.queued.len(), self.ready.len()]
    }

    /// Returns `true` if the kernel holds many blocks of entries that were removed.
    pub(super) fn has_many_late_packets(&self) -> bool {
        const MAX_LATE: usize = 256;
        self.late_count > MAX_LATE
    }

    /// Returns the requests of the packets to their entries.
    pub(super) fn end_requests(&mut self, packets: &[OVERLAPPED_ENTRY]) {
        for packet in packets.iter().filter(|packet| packet.lpCompletionKey == key::REQUEST) {
            self.port.end_operation();
            // SAFETY: the key is that of requests, and the packet was removed from the port just now.
            let mut request = unsafe { Request::from_packet(packet) };
            let key = request.key();
            match self.update(key, |entry| entry.end_request(&mut request)) {
                Some(Ended::WithResult) => self.mark_ready(key),
                Some(Ended::WithoutResult) => self.queue(key),
                Some(Ended::Closed) => drop(self.remove(key)),
                None => self.end_late(request.socket),
            }
            request.afd = None;
            if self.spare.len() < self.slots.len() {
                self.spare.push(request);
            }
        }
    }

    /// Records the late packet of an entry that was removed. The socket may be registered again, and wait for the packet.
    fn end_late(&mut self, socket: RawSocket) {
        let Occupied(mut late) = self.late.entry(socket) else { return };
        self.late_count -= 1;
        *late.get_mut() -= 1;
        if *late.get() == 0 {
            late.remove();
            if let Some(key) = self.key_of(socket) {
                self.queue(key);
            }
        }
    }

    /// Delivers the events of entries with a result, until `events` contains `max` events.
    pub(super) fn deliver(&mut self, events: &mut Vec<IocpEvent>, max: usize) {
        for _ in 0..self.ready.len() {
            if events.len() == max {
                break;
            }
            let Some(key) = self.ready.pop_front() else { break };
            let Some(event) = self.update(key, |entry| {
                entry.is_ready = false;
                entry.take_event()
            }) else {
                continue;
            };
            events.extend(event);
            self.queue(key);
            // A level-triggered entry takes its turn again in the next poll.
            if self.get(key).is_some_and(|entry| entry.mode == TriggerMode::Level && entry.has_pushed_event()) {
                self.mark_ready(key);
            }
        }
        for index in 0..self.ready.len() {
            let key = self.ready[index];
            let _ = self.update(key, Entry::mark_old);
        }
    }

    /// Records that a thread removes packets from now on, without the lock, and waits for them if `is_waiting`.
    pub(super) fn begin_round(&mut self, is_waiting: bool) {
        // A round that has panicked has left an odd number.
        self.round = (self.round + 1) | 1;
        (self.is_waiting, self.is_interrupted) = (is_waiting, false);
    }

    /// Records that the thread waits no more.
    pub(super) fn end_wait(&mut self) {
        self.is_waiting = false;
    }

    /// Records that the thread has processed its packets.
    pub(super) fn end_round(&mut self) {
        self.is_waiting = false;
        self.round += 1;
    }

    pub(super) fn is_waiting(&self) -> bool {
        self.is_waiting
    }

    /// Records that another thread may have removed the packet of an interruption.
    pub(super) fn interrupt_again(&mut self) {
        self.is_interrupted = false;
        self.interrupt();
    }

    /// Ends the wait of the polling thread, so that it reads the table again.
    pub(super) fn interrupt(&mut self) {
        if self.is_waiting && !self.is_interrupted {
            self.is_interrupted = self.port.post(key::INTERRUPT).is_ok();
        }
    }

    /// Removes all entries.
    pub(super) fn clear(&mut self) {
        for index in 0..self.slots.len() {
            let key = EntryKey { index: index as u32, generation: self.slots[index].generation };
            self.remove(key);
        }
    }
}

/// Returns `true` if the entry of a key was not removed.
fn is_live(slots: &[Slot], key: EntryKey) -> bool {
    slots.get(key.index as usize).is_some_and(|slot| slot.generation == key.generation && slot.entry.is_some())
}

/// Returns `true` if a request failed because the socket was closed. Another file may have its number.
fn is_closed(error: &io::Error) -> bool {
    let closed = [ERROR_INVALID_HANDLE as i32, WSAENOTSOCK];
    error.raw_os_error().is_some_and(|number| closed.contains(&number))
}
