//! The state that a backend shares with its registrations.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;

use windows_sys::Win32::System::IO::OVERLAPPED_ENTRY;

use crate::backend::Backend;
use crate::interest::Interest;
use crate::sys::error::unsupported_interest;
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::windows::iocp::entry_key::EntryKey;
use crate::sys::windows::iocp::port::{key, Port};
use crate::sys::windows::iocp::table::Table;

/// The number of packets that one call of the kernel removes at most. Tests have fewer sockets.
pub(super) const MAX_PACKETS: usize = if cfg!(test) { 16 } else { 1024 };

/// The same, without a wait. Usually there are none.
const MAX_DRAINED: usize = if cfg!(test) { 16 } else { 64 };

/// The longest time for which a registration waits until the polling thread has processed the packets that it has.
const LONGEST_ROUND: Duration = Duration::from_secs(1);

/// The state that a backend shares with its registrations.
pub(super) struct Shared {
    pub(super) port: Arc<Port>,
    pub(super) table: Mutex<Table>,
    /// Locked while a thread drains the port.
    pub(super) draining: Mutex<()>,
    /// A round of the polling thread is over: see [`Table::round`].
    pub(super) round_over: Condvar,
    /// A packet of the notifier is in the port.
    pub(super) is_posted: AtomicBool,
    /// A packet of the notifier was removed, and no `select` has returned that.
    pub(super) is_notified: AtomicBool,
}

impl Shared {
    /// Changes the table.
    pub(super) fn with<T>(&self, change: impl FnOnce(&mut Table) -> T) -> T {
        change(&mut lock_ignoring_poison(&self.table))
    }

    /// Ends a registration.
    pub(super) fn remove(&self, key: EntryKey) -> bool {
        let (was_registered, must_drain) = self.with(|table| {
            let was_registered = table.remove(key);
            (was_registered, !table.is_waiting() && table.has_many_late_packets())
        });
        if must_drain {
            // The function of an operation that is drained may end a registration.
            if let Ok(draining) = self.draining.try_lock() {
                self.drain(&draining);
            }
        }
        was_registered
    }

    /// Processes the packets that are in the port.
    #[cold]
    pub(super) fn drain_all(&self) {
        let draining = lock_ignoring_poison(&self.draining);
        while self.drain(&draining) {}
    }

    /// Processes the packets that exist now, also those that another thread has removed from the port.
    #[cold]
    pub(super) fn process_packets(&self) {
        self.drain_all();
        let mut table = lock_ignoring_poison(&self.table);
        let round = table.round;
        table.interrupt();
        while table.round == round && round % 2 == 1 {
            let (guard, result) = match self.round_over.wait_timeout(table, LONGEST_ROUND) {
                Ok(waited) => waited,
                Err(poisoned) => poisoned.into_inner(),
            };
            if result.timed_out() {
                return;
            }
            table = guard;
        }
    }

    /// Processes a batch of packets without waiting. Returns `true` if there may be more. A program that registers and
    /// deregisters without polling would collect packets without limit.
    #[cold]
    fn drain(&self, _draining: &MutexGuard<'_, ()>) -> bool {
        let mut packets = Vec::new();
        let result = self.port.dequeue(&mut packets, MAX_DRAINED, Some(Duration::ZERO));
        if result.is_ok() && !packets.is_empty() {
            // The packets may have been those that end the wait of the polling thread.
            self.end_packets(&packets, Table::interrupt_again);
        }
        packets.len() == MAX_DRAINED
    }

    /// Ends the requests and the operations of packets that were removed from the port. Runs `then` on the table.
    pub(super) fn end_packets<T>(&self, packets: &[OVERLAPPED_ENTRY], then: impl FnOnce(&mut Table) -> T) -> T {
        if packets.iter().any(|packet| packet.lpCompletionKey == key::NOTIFY) {
            self.is_posted.store(false, Ordering::SeqCst);
            self.is_notified.store(true, Ordering::SeqCst);
        }
        // The functions of the operations take the lock.
        self.port.complete_operations(packets);
        self.with(|table| {
            table.end_requests(packets);
            then(table)
        })
    }
}

/// Fails with `Unsupported` for an interest that Windows does not have.
pub(super) fn check_interest(interest: Interest) -> io::Result<()> {
    match interest.is_aio() || interest.is_lio() || interest.is_exclusive() {
        true => Err(unsupported_interest(Backend::Iocp, interest)),
        false => Ok(()),
    }
}
