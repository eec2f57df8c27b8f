//! File changes as a descriptor: inotify(7), with one inotify instance for each watch.
//!
//! The path `/proc/self/fd/N` leads to the open file, so the file is watched whatever names it has or loses.
//!
//! inotify differs from kqueue in two ways, and this file removes both differences:
//!
//! * For a directory, inotify also reports changes of the files in it. The events of such changes have a name, and are dropped.
//! * inotify does not report that a file has grown, or has one link more or less. After an event that can mean such a change,
//!   and only if the change was requested, fstat(2) is called and compared with the last state.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::sync::Mutex;

use crate::source::file_changes::FileChanges;
use crate::sys::unix::syscall::{cvt, lock_ignoring_poison, unless_refused};
use crate::sys::unix::watch::state::{watched_state, WatchedState};

/// An entry of a directory was made, removed or renamed.
const ENTRY_EVENTS: u32 = libc::IN_CREATE | libc::IN_DELETE | libc::IN_MOVED_FROM | libc::IN_MOVED_TO;

/// An event without its name: `wd`, `mask`, `cookie` and `len`, four bytes each.
const HEADER: usize = std::mem::size_of::<libc::inotify_event>();
/// The longest event: its name has at most `NAME_MAX` bytes and a zero.
const MAX_EVENT_SIZE: usize = HEADER + 256;
/// The size of the buffer for one read: 15 of the longest events, or 256 without names.
const BUFFER_SIZE: usize = 4096;

/// A descriptor that is readable from a change of a file until [`read_events`](Inotify::read_events).
#[derive(Debug)]
pub(crate) struct Inotify {
    queue: File,
    interest: FileChanges,
    /// The state of the file at the last call of [`changes`](Inotify::changes).
    last_state: Mutex<WatchedState>,
}

impl Inotify {
    /// Watches an open file, whose state is `state`.
    ///
    /// Fails with `PermissionDenied` for a file that may not be read, and with `NotFound` if `/proc` is not mounted.
    pub(crate) fn of(file: BorrowedFd<'_>, state: WatchedState, interest: FileChanges) -> io::Result<Inotify> {
        // SAFETY: no pointers.
        let fd = cvt(unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) }).map_err(unless_refused)?;
        // SAFETY: the kernel has just made this descriptor, and it has no other owner.
        let queue = unsafe { File::from_raw_fd(fd) };
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let bits = inotify_mask(interest, state.is_directory);
        // SAFETY: the path ends with a zero and outlives the call.
        cvt(unsafe { libc::inotify_add_watch(queue.as_raw_fd(), path.as_ptr(), bits) })?;
        Ok(Inotify { queue, interest, last_state: Mutex::new(state) })
    }

    /// Discards the changes before the registration.
    pub(crate) fn discard_earlier_events(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.read_events()?;
        *lock_ignoring_poison(&self.last_state) = watched_state(file)?;
        Ok(())
    }

    /// Reads the pending events, and returns their bits. Takes one read(2), or more if the events do not fit into the buffer.
    pub(crate) fn read_events(&self) -> io::Result<u32> {
        let mut buffer = [0; BUFFER_SIZE];
        let mut event_bits = 0;
        loop {
            let len = match (&self.queue).read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(event_bits),
                result => result?,
            };
            event_bits |= combined_mask(&buffer[..len]);
            // The kernel fills the buffer with whole events. If there is space for the longest event, no event is left.
            if len + MAX_EVENT_SIZE <= BUFFER_SIZE {
                return Ok(event_bits);
            }
        }
    }

    /// Returns the changes of the file that these bits stand for.
    pub(crate) fn changes(&self, event_bits: u32, file: BorrowedFd<'_>) -> io::Result<FileChanges> {
        let has_overflowed = event_bits & libc::IN_Q_OVERFLOW != 0;
        let mut state = lock_ignoring_poison(&self.last_state);
        let before = *state;
        if has_overflowed || event_bits & masks_needing_fstat(self.interest) != 0 {
            *state = watched_state(file)?;
        }
        // Lost events may have been any of the requested changes.
        let changes = if has_overflowed { self.interest } else { to_changes(event_bits, before, *state) };
        Ok(changes & self.interest)
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
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

/// Returns the bits of these events, without those of the files in a directory.
fn combined_mask(mut events: &[u8]) -> u32 {
    let number_at =
        |bytes: &[u8], at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let mut event_bits = 0;
    while events.len() >= HEADER {
        let (mask, len) = (number_at(events, 4), number_at(events, 12) as usize);
        if len == 0 || mask & ENTRY_EVENTS != 0 {
            event_bits |= mask;
        }
        events = events.get(HEADER + len..).unwrap_or(&[]);
    }
    event_bits
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

    fn event(mask: u32, name: &str) -> Vec<u8> {
        // The kernel pads names with zeroes to a multiple of the header size.
        let len = if name.is_empty() { 0 } else { (name.len() / HEADER + 1) * HEADER };
        let mut bytes: Vec<u8> = [1, mask, 0, len as u32].into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend(name.bytes());
        bytes.resize(HEADER + len, 0);
        bytes
    }

    #[test]
    fn events_of_files_in_a_directory_are_dropped() {
        assert_eq!(HEADER, 16);
        assert_eq!(combined_mask(&[]), 0);
        let of_a_file = [event(libc::IN_MODIFY, ""), event(libc::IN_ATTRIB, "")].concat();
        assert_eq!(combined_mask(&of_a_file), libc::IN_MODIFY | libc::IN_ATTRIB);
        let named = "a name that is longer than one header";
        let of_a_file_in_it = event(libc::IN_ATTRIB, named);
        let entries = [event(libc::IN_CREATE, "a"), of_a_file_in_it, event(libc::IN_MOVE_SELF, "")].concat();
        assert_eq!(combined_mask(&entries), libc::IN_CREATE | libc::IN_MOVE_SELF);
        assert_eq!(event(0, &"x".repeat(255)).len(), MAX_EVENT_SIZE);
    }

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
        let file = |size, links| WatchedState { size, links, is_directory: false };
        let directory = |links| WatchedState { size: 0, links, is_directory: true };
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

    fn watched(path: &std::path::Path) -> (File, Inotify) {
        let file = File::open(path).unwrap();
        let state = watched_state(file.as_fd()).unwrap();
        let inotify = Inotify::of(file.as_fd(), state, FileChanges::ALL).unwrap();
        (file, inotify)
    }

    #[test]
    fn events_of_several_reads_are_combined() {
        let directory = tempfile::tempdir().unwrap();
        let (file, inotify) = watched(directory.path());
        for n in 0..100 {
            File::create(directory.path().join(format!("{n:0250}"))).unwrap();
        }
        let event_bits = inotify.read_events().unwrap();
        assert_eq!(event_bits, libc::IN_CREATE);
        assert_eq!(inotify.read_events().unwrap(), 0, "no event is left");
        assert_eq!(inotify.changes(event_bits, file.as_fd()).unwrap(), FileChanges::WRITTEN);
    }

    #[test]
    fn overflow_reports_every_requested_change() {
        let max_queued = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let temporary = tempfile::NamedTempFile::new().unwrap();
        let (file, inotify) = watched(temporary.path());
        // The kernel merges two equal events in a row.
        for size in 0..max_queued.trim().parse().unwrap() {
            temporary.as_file().set_len(size).unwrap();
            temporary.as_file().set_permissions(temporary.as_file().metadata().unwrap().permissions()).unwrap();
        }
        let event_bits = inotify.read_events().unwrap();
        assert_eq!(event_bits, libc::IN_MODIFY | libc::IN_ATTRIB | libc::IN_Q_OVERFLOW);
        assert_eq!(inotify.changes(event_bits, file.as_fd()).unwrap(), FileChanges::ALL);
        assert_eq!(inotify.read_events().unwrap(), 0, "no event is left");
        temporary.as_file().set_len(0).unwrap();
        let event_bits = inotify.read_events().unwrap();
        assert_eq!(inotify.changes(event_bits, file.as_fd()).unwrap(), FileChanges::WRITTEN);
    }
}
