//! The changes of one watched file that its source has not returned yet.

use std::mem;
use std::sync::Mutex;

use crate::source::file_changes::FileChanges;
use crate::sys::lock::lock_ignoring_poison;

/// The changes of a file, from the callback of the pool to the source.
#[derive(Debug)]
pub(crate) struct PendingChanges {
    interest: FileChanges,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The changes that no event has reported yet.
    new: FileChanges,
    /// The changes that were reported, and that the source has not returned yet.
    reported: FileChanges,
    /// The source was reregistered before it has returned the changes.
    is_rearmed: bool,
}

impl State {
    const EMPTY: State = State { new: FileChanges::empty(), reported: FileChanges::empty(), is_rearmed: false };
}

impl PendingChanges {
    pub(super) fn new(interest: FileChanges) -> PendingChanges {
        PendingChanges { interest, state: Mutex::new(State::EMPTY) }
    }

    /// Returns the changes that were requested.
    pub(super) fn interest(&self) -> FileChanges {
        self.interest
    }

    /// Discards all changes.
    pub(super) fn clear(&self) {
        *lock_ignoring_poison(&self.state) = State::EMPTY;
    }

    /// Adds changes. Returns `true` if some of them were requested.
    pub(super) fn add(&self, changes: FileChanges) -> bool {
        let requested = changes & (self.interest | FileChanges::RESCAN);
        lock_ignoring_poison(&self.state).new |= requested;
        !requested.is_empty()
    }

    /// Reports the changes again that the source has not returned yet. Returns `false` if there are none.
    pub(crate) fn rearm(&self) -> bool {
        let mut state = lock_ignoring_poison(&self.state);
        state.is_rearmed = !state.reported.is_empty();
        state.is_rearmed || !state.new.is_empty()
    }

    /// Moves new changes to those that are reported. Returns `true` if there are any, or if the source was reregistered and has
    /// unreturned changes. Called by the polling thread.
    pub(crate) fn decode(&self) -> bool {
        let mut state = lock_ignoring_poison(&self.state);
        let new = mem::take(&mut state.new);
        if new.contains(FileChanges::RESCAN) {
            // The other changes are among those that the program finds when it looks again.
            state.reported = FileChanges::RESCAN;
        } else if state.reported != FileChanges::RESCAN {
            state.reported |= new;
        }
        let is_reported_again = mem::take(&mut state.is_rearmed) && !state.reported.is_empty();
        !new.is_empty() || is_reported_again
    }

    /// Returns the reported changes, and forgets them.
    pub(crate) fn take(&self) -> FileChanges {
        mem::take(&mut lock_ignoring_poison(&self.state).reported)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_reported_once_and_kept_until_they_are_taken() {
        let pending = PendingChanges::new(FileChanges::WRITTEN | FileChanges::RENAMED);
        assert!(!pending.add(FileChanges::ATTRIBUTES) && !pending.decode(), "not requested");
        assert!(pending.add(FileChanges::WRITTEN) && pending.decode() && !pending.decode());
        assert!(pending.add(FileChanges::RENAMED | FileChanges::LINKED) && pending.decode());
        assert!(pending.rearm() && pending.decode() && !pending.decode());
        assert_eq!(pending.take(), FileChanges::WRITTEN | FileChanges::RENAMED);
        assert!(!pending.rearm() && !pending.decode() && pending.take().is_empty());
        // Lost changes stand alone, whatever came before or after.
        pending.add(FileChanges::WRITTEN);
        pending.decode();
        assert!(pending.add(FileChanges::RESCAN) && pending.decode());
        assert!(pending.add(FileChanges::WRITTEN) && pending.decode());
        assert_eq!((pending.take(), pending.take()), (FileChanges::RESCAN, FileChanges::empty()));
        pending.add(FileChanges::WRITTEN);
        assert!(pending.rearm());
        pending.clear();
        assert!(!pending.rearm() && !pending.decode());
    }
}
