//! The changes of one watched file that its source has not returned yet.
//!
//! inotify differs from kqueue in two ways, and this file removes both differences:
//!
//! * inotify reports changes of one kind that were not requested, because several kinds have one bit.
//! * inotify does not report that a file has grown, or has one link more or less. After an event that can mean such a change,
//!   and only if the change was requested, fstat(2) is called and compared with the last state.

use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::Mutex;
use std::{io, mem};

use crate::source::file_changes::FileChanges;
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::unix::watch::state::{watched_state, WatchedState};

/// An entry of a directory was made, removed or renamed.
pub(super) const ENTRY_EVENTS: u32 = libc::IN_CREATE | libc::IN_DELETE | libc::IN_MOVED_FROM | libc::IN_MOVED_TO;

/// The bits that concern every watch, whatever was requested.
const UNREQUESTED: u32 = libc::IN_Q_OVERFLOW | libc::IN_UNMOUNT;

/// The changes of a file: as the bits of inotify, and after the polling thread has decoded them.
#[derive(Debug)]
pub(crate) struct PendingChanges {
    interest: FileChanges,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The descriptor, while the source is registered. The source keeps the descriptor open until then.
    fd: Option<RawFd>,
    /// The state of the file at the last decoding.
    last: WatchedState,
    /// The bits that were not decoded yet.
    event_bits: u32,
    /// The changes that the source has not returned yet.
    changes: FileChanges,
    /// The source was reregistered before it has returned the changes.
    is_rearmed: bool,
}

/// Returns the changes of a file that is not registered yet, and has this state.
pub(crate) fn pending_changes(interest: FileChanges, last: WatchedState) -> io::Result<PendingChanges> {
    let changes = FileChanges::empty();
    let state = State { fd: None, last, event_bits: 0, changes, is_rearmed: false };
    Ok(PendingChanges { interest, state: Mutex::new(state) })
}

impl PendingChanges {
    /// Returns the inotify bits that the watch needs.
    pub(super) fn mask(&self) -> u32 {
        let is_directory = lock_ignoring_poison(&self.state).last.is_directory;
        inotify_mask(self.interest, is_directory)
    }

    /// Begins with the present state of the file. Earlier changes are discarded.
    pub(super) fn start(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        let last = watched_state(file)?;
        *lock_ignoring_poison(&self.state) =
            State { fd: Some(file.as_raw_fd()), last, event_bits: 0, changes: FileChanges::empty(), is_rearmed: false };
        Ok(())
    }

    /// Ends the use of the descriptor, which is closed next.
    pub(super) fn stop(&self) {
        lock_ignoring_poison(&self.state).fd = None;
    }

    /// Adds the bits of an event. Returns `true` if the source may have something to report.
    pub(super) fn add(&self, event_bits: u32) -> bool {
        let mut state = lock_ignoring_poison(&self.state);
        let is_relevant = event_bits & (inotify_mask(self.interest, state.last.is_directory) | UNREQUESTED) != 0;
        if is_relevant {
            state.event_bits |= event_bits;
        }
        is_relevant
    }

    /// Reports the changes again that the source has not returned yet. Returns `false` if there are none.
    pub(crate) fn rearm(&self) -> bool {
        let mut state = lock_ignoring_poison(&self.state);
        state.is_rearmed = !state.changes.is_empty();
        state.is_rearmed || state.event_bits != 0
    }

    /// Decodes the events. Returns `true` if they are changes that were requested, or if the source was reregistered and has
    /// unreturned changes. Called by the polling thread.
    pub(crate) fn decode(&self) -> bool {
        let mut state = lock_ignoring_poison(&self.state);
        let (event_bits, before) = (mem::take(&mut state.event_bits), state.last);
        let has_overflowed = event_bits & libc::IN_Q_OVERFLOW != 0;
        let mut are_lost = has_overflowed;
        if has_overflowed || event_bits & masks_needing_fstat(self.interest) != 0 {
            match state.fd.and_then(|fd| before.renewed(fd)) {
                // A write that made the file longer has an event of its own, which was not read yet.
                Some(now) if !has_overflowed && event_bits & libc::IN_MODIFY == 0 => {
                    state.last = WatchedState { size: before.size, ..now };
                }
                Some(now) => state.last = now,
                // This thread does not have the descriptor, or other code has closed it.
                None => are_lost = true,
            }
        }
        let new = match are_lost {
            true => FileChanges::RESCAN,
            false => to_changes(event_bits, before, state.last) & self.interest,
        };
        if are_lost {
            // The other changes are among those that the program finds when it looks again.
            state.changes = FileChanges::RESCAN;
        } else if state.changes != FileChanges::RESCAN {
            state.changes |= new;
        }
        let is_reported_again = mem::take(&mut state.is_rearmed) && !state.changes.is_empty();
        !new.is_empty() || is_reported_again
    }

    /// Returns the decoded changes, and forgets them.
    pub(crate) fn take(&self) -> FileChanges {
        mem::take(&mut lock_ignoring_poison(&self.state).changes)
    }
}

/// Returns the inotify bits for these changes. For a directory, `IN_MODIFY` is left out, because inotify would
/// report each change of a file in the directory.
fn inotify_mask(changes: FileChanges, is_directory: bool) -> u32 {
    #[rustfmt::skip]
    let table = [
        // (the change, of a file, of a directory)
        (FileChanges::WRITTEN,    libc::IN_MODIFY,    ENTRY_EVENTS),
        (FileChanges::EXTENDED,   libc::IN_MODIFY,    0),
        (FileChanges::ATTRIBUTES, libc::IN_ATTRIB,    libc::IN_ATTRIB),
        (FileChanges::LINKED,     libc::IN_ATTRIB,    ENTRY_EVENTS),
        (FileChanges::RENAMED,    libc::IN_MOVE_SELF, libc::IN_MOVE_SELF),
        // The number of links is an attribute, and becomes 0.
        (FileChanges::DELETED,    libc::IN_ATTRIB,    libc::IN_ATTRIB),
    ];
    // IN_DELETE_SELF never arrives while the file is open. inotify rejects an empty set.
    let mut bits = libc::IN_DELETE_SELF;
    for (_, file, directory) in table.into_iter().filter(|(change, ..)| changes.contains(*change)) {
        bits |= if is_directory { directory } else { file };
    }
    bits
}

/// Returns the bits after which a requested change of the size or of the number of links is possible.
fn masks_needing_fstat(interest: FileChanges) -> u32 {
    let mut bits = 0;
    if interest.contains(FileChanges::EXTENDED) {
        bits |= libc::IN_MODIFY;
    }
    if interest.intersects(FileChanges::LINKED | FileChanges::DELETED) {
        bits |= libc::IN_ATTRIB;
    }
    if interest.contains(FileChanges::LINKED) {
        // A subdirectory is a link to its parent directory.
        bits |= libc::IN_ISDIR;
    }
    bits
}

/// Returns the changes that these bits and the two states stand for.
fn to_changes(event_bits: u32, before: WatchedState, after: WatchedState) -> FileChanges {
    #[rustfmt::skip]
    let table = [
        (event_bits & (libc::IN_MODIFY | ENTRY_EVENTS) != 0, FileChanges::WRITTEN),
        (!after.is_directory && after.size > before.size,    FileChanges::EXTENDED),
        (event_bits & libc::IN_ATTRIB != 0,                  FileChanges::ATTRIBUTES),
        (after.links != before.links,                        FileChanges::LINKED),
        (event_bits & libc::IN_MOVE_SELF != 0,               FileChanges::RENAMED),
        (after.links == 0 && before.links > 0,               FileChanges::DELETED),
        (event_bits & libc::IN_UNMOUNT != 0,                 FileChanges::DELETED),
    ];
    table.into_iter().filter(|(holds, _)| *holds).fold(FileChanges::empty(), |all, (_, change)| all | change)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_has_inotify_bits() {
        let bits =
            |changes| [false, true].map(|is_directory| inotify_mask(changes, is_directory) - libc::IN_DELETE_SELF);
        assert_eq!(bits(FileChanges::WRITTEN), [libc::IN_MODIFY, ENTRY_EVENTS]);
        assert_eq!(bits(FileChanges::EXTENDED), [libc::IN_MODIFY, 0]);
        assert_eq!(bits(FileChanges::ATTRIBUTES), [libc::IN_ATTRIB; 2]);
        assert_eq!(bits(FileChanges::LINKED), [libc::IN_ATTRIB, ENTRY_EVENTS]);
        assert_eq!(bits(FileChanges::RENAMED), [libc::IN_MOVE_SELF; 2]);
        assert_eq!(bits(FileChanges::DELETED), [libc::IN_ATTRIB; 2]);
        assert_eq!(bits(FileChanges::ALL)[1] & libc::IN_MODIFY, 0, "inotify would report each file in it");
    }

    #[test]
    fn events_and_states_become_changes() {
        let file = |size, links| WatchedState { size, links, is_directory: false, file: (1, 2) };
        let directory = |links| WatchedState { size: 0, links, is_directory: true, file: (1, 2) };
        let (written, attributes) = (FileChanges::WRITTEN, FileChanges::ATTRIBUTES);
        let gone = attributes | FileChanges::LINKED | FileChanges::DELETED;
        #[rustfmt::skip]
        let table = [
            (libc::IN_MODIFY,       file(5, 1),   file(5, 1),   written),
            (libc::IN_MODIFY,       file(5, 1),   file(6, 1),   written | FileChanges::EXTENDED),
            (libc::IN_MODIFY,       file(5, 1),   file(4, 1),   written),
            (libc::IN_ATTRIB,       file(5, 1),   file(5, 1),   attributes),
            (libc::IN_ATTRIB,       file(5, 1),   file(5, 2),   attributes | FileChanges::LINKED),
            (libc::IN_ATTRIB,       file(5, 2),   file(5, 1),   attributes | FileChanges::LINKED),
            (libc::IN_ATTRIB,       file(5, 1),   file(5, 0),   gone),
            (libc::IN_ATTRIB,       file(5, 0),   file(5, 0),   attributes),
            (libc::IN_MOVE_SELF,    file(5, 1),   file(5, 1),   FileChanges::RENAMED),
            (libc::IN_UNMOUNT,      file(5, 1),   file(5, 1),   FileChanges::DELETED),
            (libc::IN_IGNORED,      file(5, 1),   file(5, 1),   FileChanges::empty()),
            (libc::IN_CREATE,       directory(2), directory(2), written),
            (libc::IN_DELETE,       directory(3), directory(2), written | FileChanges::LINKED),
            (libc::IN_MOVED_TO,     directory(2), directory(2), written),
        ];
        for (event_bits, before, after, changes) in table {
            assert_eq!(to_changes(event_bits, before, after), changes, "{event_bits:#x}");
        }
    }

    #[test]
    fn changes_are_reported_once_and_kept_until_they_are_taken() {
        let state = WatchedState { size: 0, links: 1, is_directory: false, file: (1, 2) };
        let pending = pending_changes(FileChanges::WRITTEN | FileChanges::RENAMED, state).unwrap();
        assert!(!pending.add(libc::IN_ATTRIB) && !pending.decode(), "not requested");
        assert!(pending.add(libc::IN_MODIFY) && pending.decode() && !pending.decode());
        assert!(pending.add(libc::IN_MOVE_SELF) && pending.decode());
        pending.rearm();
        assert!(pending.decode() && !pending.decode());
        assert_eq!(pending.take(), FileChanges::WRITTEN | FileChanges::RENAMED);
        pending.rearm();
        assert!(!pending.decode() && pending.take().is_empty());
        // Lost changes stand alone, whatever came before or after.
        pending.add(libc::IN_MODIFY);
        pending.decode();
        assert!(pending.add(libc::IN_Q_OVERFLOW) && pending.decode());
        assert!(pending.add(libc::IN_MODIFY) && pending.decode());
        assert_eq!((pending.take(), pending.take()), (FileChanges::RESCAN, FileChanges::empty()));
        pending.add(libc::IN_MODIFY);
        assert!(pending.decode());
        assert_eq!(pending.take(), FileChanges::WRITTEN);
    }
}
