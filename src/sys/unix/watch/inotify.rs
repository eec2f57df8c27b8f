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

use crate::source::file_changes::Changes;
use crate::sys::unix::syscall::{check, unless_refused};
use crate::sys::unix::watch::{measure, Measure};

/// An entry of a directory was made, removed or renamed.
const ENTRIES: u32 = libc::IN_CREATE | libc::IN_DELETE | libc::IN_MOVED_FROM | libc::IN_MOVED_TO;

/// An event without its name: `wd`, `mask`, `cookie` and `len`, four bytes each.
const HEADER: usize = std::mem::size_of::<libc::inotify_event>();
/// The longest event: its name has at most `NAME_MAX` bytes and a zero.
const LONGEST: usize = HEADER + 256;
/// For one read; 14 of the longest, or 256 without names.
const ROOM: usize = 4096;

/// Readable when something has happened to a file, until that is taken.
#[derive(Debug)]
pub(crate) struct Inotify {
    queue: File,
    asked: Changes,
    /// The file as it was when this was asked last.
    seen: Measure,
}

impl Inotify {
    pub(crate) fn of(file: BorrowedFd<'_>, seen: Measure, asked: Changes) -> io::Result<Inotify> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) }).map_err(unless_refused)?;
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        let queue = unsafe { File::from_raw_fd(fd) };
        let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        let bits = asked_for(asked, seen.is_directory);
        // SAFETY: the path ends with a zero and outlives the call.
        check(unsafe { libc::inotify_add_watch(queue.as_raw_fd(), path.as_ptr(), bits) })?;
        Ok(Inotify { queue, asked, seen })
    }

    /// It has been registered: what happened before is not told.
    pub(crate) fn begin(&mut self, file: BorrowedFd<'_>) -> io::Result<()> {
        self.take()?;
        self.seen = measure(file)?;
        Ok(())
    }

    /// What has happened since this was asked: the bits of all events. One read, more only if there is more than fits.
    pub(crate) fn take(&self) -> io::Result<u32> {
        let mut buffer = [0; ROOM];
        let mut happened = 0;
        loop {
            let n = match (&self.queue).read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(happened),
                result => result?,
            };
            happened |= of_events(&buffer[..n]);
            // The kernel fills the buffer as far as whole events fit. If any would have fitted there was none.
            if n + LONGEST <= ROOM {
                return Ok(happened);
            }
        }
    }

    /// What these bits mean for the file.
    pub(crate) fn changes(&mut self, happened: u32, file: BorrowedFd<'_>) -> io::Result<Changes> {
        let has_overflowed = happened & libc::IN_Q_OVERFLOW != 0;
        let before = self.seen;
        if has_overflowed || happened & needs_a_look(self.asked) != 0 {
            self.seen = measure(file)?;
        }
        // Events were lost, nobody knows which.
        let changes = if has_overflowed { self.asked } else { meaning(happened, before, self.seen) };
        Ok(changes & self.asked)
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.queue.as_fd()
    }
}

/// What inotify is asked for. Of a directory not what is written, which would be told of each file in it.
fn asked_for(changes: Changes, is_directory: bool) -> u32 {
    #[rustfmt::skip]
    let table = [
        // (the change, of a file, of a directory)
        (Changes::WRITTEN,    libc::IN_MODIFY,    ENTRIES),
        (Changes::EXTENDED,   libc::IN_MODIFY,    0),
        (Changes::ATTRIBUTES, libc::IN_ATTRIB,    libc::IN_ATTRIB),
        (Changes::LINKED,     libc::IN_ATTRIB,    ENTRIES),
        (Changes::RENAMED,    libc::IN_MOVE_SELF, libc::IN_MOVE_SELF),
        // The number of its names is an attribute, and becomes 0.
        (Changes::DELETED,    libc::IN_ATTRIB,    libc::IN_ATTRIB),
    ];
    // That the file is no more never comes, for it is open; but inotify takes no empty set.
    let mut bits = libc::IN_DELETE_SELF;
    for (_, file, directory) in table.into_iter().filter(|(change, ..)| changes.contains(*change)) {
        bits |= if is_directory { directory } else { file };
    }
    bits
}

/// The bits of these events, without those of a directory's files.
fn of_events(mut events: &[u8]) -> u32 {
    let word = |bytes: &[u8], n: usize| u32::from_ne_bytes([bytes[n], bytes[n + 1], bytes[n + 2], bytes[n + 3]]);
    let mut happened = 0;
    while events.len() >= HEADER {
        let (mask, len) = (word(events, 4), word(events, 12) as usize);
        if len == 0 || mask & ENTRIES != 0 {
            happened |= mask;
        }
        events = events.get(HEADER + len..).unwrap_or(&[]);
    }
    happened
}

/// The bits after which the size or the number of links may be another, and matters.
fn needs_a_look(asked: Changes) -> u32 {
    let mut bits = 0;
    if asked.contains(Changes::EXTENDED) {
        bits |= libc::IN_MODIFY;
    }
    if asked.intersects(Changes::LINKED | Changes::DELETED) {
        bits |= libc::IN_ATTRIB;
    }
    if asked.contains(Changes::LINKED) {
        // A directory is a link to the one it is in.
        bits |= libc::IN_ISDIR;
    }
    bits
}

fn meaning(happened: u32, before: Measure, now: Measure) -> Changes {
    #[rustfmt::skip]
    let table = [
        (happened & (libc::IN_MODIFY | ENTRIES) != 0,   Changes::WRITTEN),
        (!now.is_directory && now.size > before.size,   Changes::EXTENDED),
        (happened & libc::IN_ATTRIB != 0,               Changes::ATTRIBUTES),
        (now.links != before.links,                     Changes::LINKED),
        (happened & libc::IN_MOVE_SELF != 0,            Changes::RENAMED),
        (now.links == 0 && before.links > 0,            Changes::DELETED),
        (happened & libc::IN_UNMOUNT != 0,              Changes::DELETED),
    ];
    table.into_iter().filter(|(is_so, _)| *is_so).fold(Changes::empty(), |all, (_, change)| all | change)
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
        assert_eq!(of_events(&[]), 0);
        let of_a_file = [event(libc::IN_MODIFY, ""), event(libc::IN_ATTRIB, "")].concat();
        assert_eq!(of_events(&of_a_file), libc::IN_MODIFY | libc::IN_ATTRIB);
        let named = "a name that is longer than one header";
        let of_a_file_in_it = event(libc::IN_ATTRIB, named);
        let entries = [event(libc::IN_CREATE, "a"), of_a_file_in_it, event(libc::IN_MOVE_SELF, "")].concat();
        assert_eq!(of_events(&entries), libc::IN_CREATE | libc::IN_MOVE_SELF);
        assert_eq!(event(0, &"x".repeat(255)).len(), LONGEST);
    }

    #[test]
    fn what_each_change_asks_for() {
        let all = |changes| [false, true].map(|is_directory| asked_for(changes, is_directory) - libc::IN_DELETE_SELF);
        assert_eq!(all(Changes::WRITTEN), [libc::IN_MODIFY, ENTRIES]);
        assert_eq!(all(Changes::EXTENDED), [libc::IN_MODIFY, 0]);
        assert_eq!(all(Changes::ATTRIBUTES), [libc::IN_ATTRIB; 2]);
        assert_eq!(all(Changes::LINKED), [libc::IN_ATTRIB, ENTRIES]);
        assert_eq!(all(Changes::RENAMED), [libc::IN_MOVE_SELF; 2]);
        assert_eq!(all(Changes::DELETED), [libc::IN_ATTRIB; 2]);
        assert_eq!(all(Changes::ALL)[1] & libc::IN_MODIFY, 0, "of each file in it");
    }

    #[test]
    fn what_events_mean() {
        let file = |size, links| Measure { size, links, is_directory: false };
        let directory = |links| Measure { size: 0, links, is_directory: true };
        let (written, attributes) = (Changes::WRITTEN, Changes::ATTRIBUTES);
        let gone = attributes | Changes::LINKED | Changes::DELETED;
        #[rustfmt::skip]
        let table = [
            (libc::IN_MODIFY,       file(5, 1),   file(5, 1),   written),
            (libc::IN_MODIFY,       file(5, 1),   file(6, 1),   written | Changes::EXTENDED),
            (libc::IN_MODIFY,       file(5, 1),   file(4, 1),   written),
            (libc::IN_ATTRIB,       file(5, 1),   file(5, 1),   attributes),
            (libc::IN_ATTRIB,       file(5, 1),   file(5, 2),   attributes | Changes::LINKED),
            (libc::IN_ATTRIB,       file(5, 2),   file(5, 1),   attributes | Changes::LINKED),
            (libc::IN_ATTRIB,       file(5, 1),   file(5, 0),   gone),
            (libc::IN_ATTRIB,       file(5, 0),   file(5, 0),   attributes),
            (libc::IN_MOVE_SELF,    file(5, 1),   file(5, 1),   Changes::RENAMED),
            (libc::IN_UNMOUNT,      file(5, 1),   file(5, 1),   Changes::DELETED),
            (libc::IN_IGNORED,      file(5, 1),   file(5, 1),   Changes::empty()),
            (libc::IN_CREATE,       directory(2), directory(2), written),
            (libc::IN_DELETE,       directory(3), directory(2), written | Changes::LINKED),
            (libc::IN_MOVED_TO,     directory(2), directory(2), written),
        ];
        for (happened, before, now, changes) in table {
            assert_eq!(meaning(happened, before, now), changes, "{happened:#x}");
        }
    }

    fn watched(path: &std::path::Path) -> (File, Inotify) {
        let file = File::open(path).unwrap();
        let seen = measure(file.as_fd()).unwrap();
        let inotify = Inotify::of(file.as_fd(), seen, Changes::ALL).unwrap();
        (file, inotify)
    }

    #[test]
    fn more_than_one_read() {
        let directory = tempfile::tempdir().unwrap();
        let (file, mut inotify) = watched(directory.path());
        for n in 0..100 {
            File::create(directory.path().join(format!("{n:0250}"))).unwrap();
        }
        let happened = inotify.take().unwrap();
        assert_eq!(happened, libc::IN_CREATE);
        assert_eq!(inotify.take().unwrap(), 0, "it was all taken");
        assert_eq!(inotify.changes(happened, file.as_fd()).unwrap(), Changes::WRITTEN);
    }

    #[test]
    fn more_than_the_queue_holds() {
        let most = std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
        let temporary = tempfile::NamedTempFile::new().unwrap();
        let (file, mut inotify) = watched(temporary.path());
        // The same twice in a row would be one event.
        for n in 0..most.trim().parse().unwrap() {
            temporary.as_file().set_len(n).unwrap();
            temporary.as_file().set_permissions(temporary.as_file().metadata().unwrap().permissions()).unwrap();
        }
        let happened = inotify.take().unwrap();
        assert_eq!(happened, libc::IN_MODIFY | libc::IN_ATTRIB | libc::IN_Q_OVERFLOW);
        assert_eq!(inotify.changes(happened, file.as_fd()).unwrap(), Changes::ALL);
        assert_eq!(inotify.take().unwrap(), 0, "it was all taken");
        temporary.as_file().set_len(0).unwrap();
        let happened = inotify.take().unwrap();
        assert_eq!(inotify.changes(happened, file.as_fd()).unwrap(), Changes::WRITTEN);
    }
}
