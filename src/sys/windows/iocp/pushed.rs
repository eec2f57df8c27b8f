//! Sources whose readiness the crate itself knows, because the crate starts their operations: named pipes.

use std::io;
use std::sync::Arc;

use crate::interest::{Interest, TriggerMode};
use crate::sys::windows::iocp::entry_key::EntryKey;
use crate::sys::windows::iocp::readiness::Readiness;
use crate::sys::windows::iocp::shared::{check_interest, Shared};
use crate::sys::windows::iocp::table::Table;
use crate::token::Token;

/// The registration of such a source. Dropping the value ends the registration: no later poll returns an event.
pub(crate) struct PushedRegistration {
    shared: Arc<Shared>,
    key: EntryKey,
}

impl PushedRegistration {
    pub(super) fn new(shared: Arc<Shared>, key: EntryKey) -> PushedRegistration {
        PushedRegistration { shared, key }
    }

    /// Replaces the token and the interest. States that last are reported again.
    pub(crate) fn reregister(&self, token: Token, interest: Interest) -> io::Result<()> {
        check_interest(interest)?;
        self.shared.with(|table| {
            table.update(self.key, |entry| entry.arm(token, interest));
            self.report(table);
        });
        Ok(())
    }

    /// Adds states. An edge-triggered registration reports them also if they last already. Any thread may call this function.
    pub(crate) fn set_ready(&self, states: Readiness) {
        self.push(states, Readiness::EMPTY);
    }

    /// Removes states: an operation of the program has ended them.
    pub(crate) fn clear_ready(&self, states: Readiness) {
        self.push(Readiness::EMPTY, states);
    }

    fn push(&self, set: Readiness, cleared: Readiness) {
        self.shared.with(|table| {
            table.update(self.key, |entry| entry.push(set, cleared));
            self.report(table);
        });
    }

    /// Queues the entry, and ends a wait, if the entry has an event.
    fn report(&self, table: &mut Table) {
        let Some(entry) = table.get(self.key) else { return };
        debug_assert!(entry.mode != TriggerMode::Disabled || !entry.has_pushed_event());
        if entry.has_pushed_event() {
            table.mark_ready(self.key);
            table.interrupt();
        }
    }
}

impl Drop for PushedRegistration {
    fn drop(&mut self) {
        self.shared.remove(self.key);
    }
}

impl std::fmt::Debug for PushedRegistration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PushedRegistration").field("key", &self.key).finish_non_exhaustive()
    }
}
