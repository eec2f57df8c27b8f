//! A watch that is a descriptor: inotify(7), one queue for each.
//!
//! The open file is watched, whatever names it has or loses: `/proc/self/fd/N` leads to it. Of a directory inotify tells
//! too what happens to the files in it, which kqueue does not: those events have a name, and are left out here. What it does
//! not tell, that a file grew, has another link or none, fstat(2) does, where a change can mean it and was asked for.
#![allow(dead_code)] // A kqueue has a filter.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::sync::Mutex;

use crate::source::file_changes::FileChanges;
use crate::sys::unix::syscall::{cvt, lock_ignoring_poison, unless_refused};
use crate::sys::unix::watch::{watched_state, WatchedState};

/// An entry of a directory was made, removed or renamed.
const ENTRY_EVENTS: u32 = libc::IN_CREATE | libc::IN_DELETE | libc::IN_MOVED_FROM | libc::IN_MOVED_TO;

/// An event without its name: `wd`, `mask`, `cookie` and `len`, four bytes each.
const HEADER: usize = std::mem::size_of::<libc::inotify_event>();
/// The longest event: its name has at most `NAME_MAX` bytes and a zero.
const MAX_EVENT_SIZE: usize = HEADER + 256;
/// For one read; 14 of the longest, or 256 without names.
const BUFFER_SIZE: usize = 4096;

/// Readable when something has happened to a file, until that is taken.
#[derive(Debug)]
pub(crate) struct Inotify {
    queue: File,
    interest: FileChanges,
    /// The state of the file at the last call of [`changes`](Inotify::changes).
    last_state: Mutex<WatchedState>,
}

impl Inotify {
    pub(crate) fn of(file: BorrowedFd<'_>, state: WatchedState, interest: FileChanges) -> io::Result<Inotify> {
        // SAFETY: no pointers.
        let fd = cvt(unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) }).map_err(unless_refused)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        let queue = unsafe { File::from_raw_fd(fd) };
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let bits = inotify_mask(interest, state.is_directory);
        // SAFETY: the path ends with a zero and outlives the call.
        cvt(unsafe { libc::inotify_add_watch(queue.as_raw_fd(), path.as_ptr(), bits) })?;
        Ok(Inotify { queue, interest, last_state: Mutex::new(state) })
    }

    /// Discards what happened before the registration.
    pub(crate) fn discard_earlier_events(&self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.read_events()?;
        *lock_ignoring_poison(&self.last_state) = watched_state(file)?;
        Ok(())
    }

    /// Reads the pending events, and returns their bits. One read(2), or more if the events do not fit into the buffer.
    pub(crate) fn read_events(&self) -> io::Result<u32> {
        let mut buffer = [0; BUFFER_SIZE];
        let mut happened = 0;
        loop {
            let n = match (&self.queue).read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(happened),
                result => result?,
            };
            happened |= combined_mask(&buffer[..n]);
            // The kernel fills the buffer as far as whole events fit. If any would have fitted there was none.
            if n + MAX_EVENT_SIZE <= BUFFER_SIZE {
                return Ok(happened);
            }
        }
    }

    /// Returns the changes of the file that these bits stand for.
    pub(crate) fn changes(&self, happened: u32, file: BorrowedFd<'_>) -> io::Result<FileChanges> {
        let has_overflowed = happened & libc::IN_Q_OVERFLOW != 0;
        let mut state = lock_ignoring_poison(&self.last_state);
        let before = *state;
        if has_overflowed || happened & masks_needing_fstat(self.interest) != 0 {
            *state = watched_state(file)?;
        }
        // Events were lost, and it is not known which.
        let changes = if has_overflowed { self.interest } else { to_changes(happened, before, *state) };
        Ok(changes & self.interest)
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// What inotify is asked for. Of a directory not what is written, which would be told of each file in it.
fn inotify_mask(changes: FileChanges, is_directory: bool) -> u32 {
    #[rustfmt::skip]
    let table = [
        // (the change, of a file, of a directory)
        (FileChanges::WRITTEN,    libc::IN_MODIFY,    ENTRY_EVENTS),
        (FileChanges::EXTENDED,   libc::IN_MODIFY,    0),
        (FileChanges::ATTRIBUTES, libc::IN_ATTRIB,    libc::IN_ATTRIB),
        (FileChanges::LINKED,     libc::IN_ATTRIB,    ENTRY_EVENTS),
        (FileChanges::RENAMED,    libc::IN_MOVE_SELF, libc::IN_MOVE_SELF),
        // The number of its names is an attribute, and becomes 0.
        (FileChanges::DELETED,    libc::IN_ATTRIB,    libc::IN_ATTRIB),
    ];
    // That the file is no more never comes, for it is open; but inotify takes no empty set.
    let mut bits = libc::IN_DELETE_SELF;
    for (_, file, directory) in table.into_iter().filter(|(change, ..)| changes.contains(*change)) {
        bits |= if is_directory { directory } else { file };
    }
    bits
}

/// The bits of these events, without those of a directory's files.
fn combined_mask(mut events: &[u8]) -> u32 {
    let number = |bytes: &[u8], n: usize| u32::from_ne_bytes([bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]]);
    let mut happened = 0;
    while events.len() >= HEADER {
        let (mask, len) = (number(events, 4), number(events, 12) as usize);
        if len == 0 || mask & ENTRY_EVENTS != 0 {
            happened |= mask;
        }
        events = events.get(HEADER + len..).unwrap_or(&[]);
    }
    happened
}

/// The bits after which the size or the number of links may be another, and matters.
fn masks_needing_fstat(asked: FileChanges) -> u32 {
    let mut bits = 0;
    if asked.contains(FileChanges::EXTENDED) {
        bits |= libc::IN_MODIFY;
    }
    if asked.intersects(FileChanges::LINKED | FileChanges::DELETED) {
        bits |= libc::IN_ATTRIB;
    }
    if asked.contains(FileChanges::LINKED) {
        // A directory is a link to the one it is in.
        bits |= libc::IN_ISDIR;
    }
    bits
}

fn to_changes(happened: u32, before: WatchedState, now: WatchedState) -> FileChanges {
    #[rustfmt::skip]
    let table = [
        (happened & (libc::IN_MODIFY | ENTRY_EVENTS) != 0,   FileChanges::WRITTEN),
        (!now.is_directory && now.size > before.size,   FileChanges::EXTENDED),
        (happened & libc::IN_ATTRIB != 0,               FileChanges::ATTRIBUTES),
        (now.links != before.links,                     FileChanges::LINKED),
        (happened & libc::IN_MOVE_SELF != 0,            FileChanges::RENAMED),
        (now.links == 0 && before.links > 0,            FileChanges::DELETED),
        (happened & libc::IN_UNMOUNT != 0,              FileChanges::DELETED),
    ];
    table.into_iter().filter(|(is_so, _)| *is_so).fold(FileChanges::empty(), |all, (_, change)| all | change)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(mask: u32, name: &str) -> Vec<u8> {
        // Names are padded with zeroes to whole headers.
        let len = if name.is_empty() { 0 } else { (name.len() / HEADER + 1) * HEADER };
        let mut bytes: Vec<u8> = [1, mask, 0, len as u32].into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend(name.bytes());
        bytes.resize(HEADER + len, 0);
        bytes
    }

    #[test]
    fn events_with_and_without_names() {
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
    fn what_each_change_asks_for() {
        let all =
            |changes| [false, true].map(|is_directory| inotify_mask(changes, is_directory) - libc::IN_DELETE_SELF);
        assert_eq!(all(FileChanges::WRITTEN), [libc::IN_MODIFY, ENTRY_EVENTS]);
        assert_eq!(all(FileChanges::EXTENDED), [libc::IN_MODIFY, 0]);
        assert_eq!(all(FileChanges::ATTRIBUTES), [libc::IN_ATTRIB; 2]);
        assert_eq!(all(FileChanges::LINKED), [libc::IN_ATTRIB, ENTRY_EVENTS]);
        assert_eq!(all(FileChanges::RENAMED), [libc::IN_MOVE_SELF; 2]);
        assert_eq!(all(FileChanges::DELETED), [libc::IN_ATTRIB; 2]);
        assert_eq!(all(FileChanges::ALL)[1] & libc::IN_MODIFY, 0, "of each file in it");
    }

    #[test]
    fn what_events_mean() {
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
        for (happened, before, now, changes) in table {
            assert_eq!(to_changes(happened, before, now), changes, "{happened:#x}");
        }
    }

    fn watched(path: &std::path::Path) -> (File, Inotify) {
        let file = File::open(path).unwrap();
        let seen = watched_state(file.as_fd()).unwrap();
        let inotify = Inotify::of(file.as_fd(), seen, FileChanges::ALL).unwrap();
        (file, inotify)
    }

    #[test]
    fn more_than_one_read() {
        let directory = tempfile::tempdir().unwrap();
        let (file, inotify) = watched(directory.path());
        for n in 0..100 {
            File::create(directory.path().join(format!("{n:0250}"))).unwrap();
        }
        let happened = inotify.read_events().unwrap();
        assert_eq!(happened, libc::IN_CREATE);
        assert_eq!(inotify.read_events().unwrap(), 0, "it was all taken");
        assert_eq!(inotify.changes(happened, file.as_fd()).unwrap(), FileChanges::WRITTEN);
    }

    #[test]
    fn more_than_the_queue_holds() {
        let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let temporary = tempfile::NamedTempFile::new().unwrap();
        let (file, inotify) = watched(temporary.path());
        // The same twice in a row would be one event.
        for n in 0..most.trim().parse().unwrap() {
            temporary.as_file().set_len(n).unwrap();
            temporary.as_file().set_permissions(temporary.as_file().metadata().unwrap().permissions()).unwrap();
        }
        let happened = inotify.read_events().unwrap();
        assert_eq!(happened, libc::IN_MODIFY | libc::IN_ATTRIB | libc::IN_Q_OVERFLOW);
        assert_eq!(inotify.changes(happened, file.as_fd()).unwrap(), FileChanges::ALL);
        assert_eq!(inotify.read_events().unwrap(), 0, "it was all taken");
        temporary.as_file().set_len(0).unwrap();
        let happened = inotify.read_events().unwrap();
        assert_eq!(inotify.changes(happened, file.as_fd()).unwrap(), FileChanges::WRITTEN);
    }
}
