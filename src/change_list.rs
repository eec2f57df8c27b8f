use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;

use crate::sys::lock::lock_ignoring_poison;
use crate::sys::selector::Change;

/// The changes that the entries of a batch have queued.
///
/// A source may register several descriptors, so that an entry may be several changes. A backend without
/// `Selector::BATCHES_CHANGES` makes each change at once, and only the registrations are counted here.
#[derive(Default)]
pub(crate) struct QueuedChanges {
    /// `true` if changes are queued, `false` if each change is made at once.
    queues: bool,
    changes: Mutex<Vec<Change>>,
    /// The length of `changes`, readable without the lock, because each entry of a batch reads it.
    len: AtomicUsize,
    /// The number of registrations that returned no error.
    registered: AtomicUsize,
}

impl QueuedChanges {
    /// Creates an empty list that queues changes. The default list only counts registrations.
    pub(crate) fn queueing() -> QueuedChanges {
        QueuedChanges { queues: true, ..QueuedChanges::default() }
    }

    /// Runs `f` on the queued changes, under the lock.
    pub(crate) fn with_changes<T>(&self, f: impl FnOnce(&mut Vec<Change>) -> T) -> T {
        let mut changes = lock_ignoring_poison(&self.changes);
        let result = f(&mut changes);
        self.len.store(changes.len(), Ordering::Relaxed);
        result
    }

    /// Returns the number of queued changes.
    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// Keeps the first `len` queued changes and drops the others.
    pub(crate) fn truncate(&self, len: usize) {
        self.with_changes(|changes| changes.truncate(len));
    }

    /// Removes and returns the queued changes.
    pub(crate) fn take(&self) -> Vec<Change> {
        self.with_changes(std::mem::take)
    }

    /// Returns `true` if changes are queued.
    #[inline]
    pub(crate) fn queues(&self) -> bool {
        self.queues
    }

    /// Returns the number of registrations that returned no error, queued or made at once.
    pub(crate) fn registered(&self) -> usize {
        self.registered.load(Ordering::Relaxed)
    }

    /// Counts a registration that returned no error.
    #[inline]
    pub(crate) fn count_registration(&self) {
        self.registered.fetch_add(1, Ordering::Relaxed);
    }
}
