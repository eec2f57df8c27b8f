use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::sys::selector::Change;

/// What the entries of a batch have asked for.
#[derive(Default)]
pub(crate) struct QueuedChanges {
    /// Whether changes are queued; else each is made at once, and counted.
    queues: bool,
    changes: Mutex<Vec<Change>>,
    /// The number of the changes, without the lock.
    len: AtomicUsize,
    registered: AtomicUsize,
}

impl QueuedChanges {
    pub(crate) fn queueing() -> QueuedChanges {
        QueuedChanges { queues: true, ..QueuedChanges::default() }
    }

    pub(crate) fn with_changes<T>(&self, f: impl FnOnce(&mut Vec<Change>) -> T) -> T {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        let result = f(&mut changes);
        self.len.store(changes.len(), Ordering::Relaxed);
        result
    }

    /// The number of queued changes.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Drops the queued changes from the number `len` on.
    pub(crate) fn truncate(&self, len: usize) {
        self.with_changes(|changes| changes.truncate(len));
    }

    /// Returns the queued changes, and leaves none.
    pub(crate) fn take(&self) -> Vec<Change> {
        self.with_changes(std::mem::take)
    }

    /// Returns `true` if changes are queued.
    #[inline]
    pub(crate) fn queues(&self) -> bool {
        self.queues
    }

    /// How many registrations, put off or not, were no error.
    pub(crate) fn registered(&self) -> usize {
        self.registered.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn count_registration(&self) {
        self.registered.fetch_add(1, Ordering::Relaxed);
    }
}
