//! The queue of file changes: inotify(7), with one inotify instance for each poll.
//!
//! The path `/proc/thread-self/fd/N` leads to the open file, so the file is watched whatever names it has or loses. The path is
//! that of the calling thread, because a thread may have a descriptor table of its own (unshare(2), `CLONE_FILES`).
//!
//! One file has one *watch descriptor* in an instance, also if several sources watch the file. For a directory, inotify also
//! reports changes of the files in it. The events of such changes have a name, and are dropped.
//!
//! The removal of a watch descriptor leaves its unread events in the queue, and ends them with `IN_IGNORED`. Until then, events
//! of that number are those of the removed one, because the kernel may use the number again.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex, Weak};

use crate::sys::error::unsupported;
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::notify::Notify;
use crate::sys::unix::fork;
use crate::sys::unix::syscall::{cvt, is_refused};
use crate::sys::unix::watch::changes::{PendingChanges, ENTRY_EVENTS};

/// An event without its name: `wd`, `mask`, `cookie` and `len`, four bytes each.
const HEADER: usize = std::mem::size_of::<libc::inotify_event>();
/// The longest event: its name has at most `NAME_MAX` bytes and a zero.
const MAX_EVENT_SIZE: usize = HEADER + 256;
/// The size of the buffer for one read: 60 of the longest events, or 1024 without names.
const BUFFER_SIZE: usize = 16 * 1024;

/// One inotify instance, with the watches of a poll.
#[derive(Debug)]
pub(crate) struct ChangeQueue {
    queue: File,
    /// Held while the queue is read, so that events are passed on in their order.
    watches: Mutex<Watches>,
}

#[derive(Debug, Default)]
struct Watches {
    /// The sources of each watch descriptor.
    by_descriptor: HashMap<i32, Vec<Arc<Watcher>>>,
    /// The removed watch descriptors whose `IN_IGNORED` was not read yet, and how often each was removed.
    removed: HashMap<i32, u32>,
}

/// A registered source: its changes, and its registration.
struct Watcher {
    changes: Arc<PendingChanges>,
    /// Weak, because the registration shares the poll, and with it this queue.
    registration: Weak<dyn Notify>,
}

/// The watch of one registered source. Dropping this value ends the watch.
#[derive(Debug)]
pub(crate) struct ActiveWatch {
    queue: Arc<ChangeQueue>,
    descriptor: i32,
    watcher: Arc<Watcher>,
    /// The generation of the process that made the watch. A forked child shares the inotify instance.
    generation: u32,
}

impl ChangeQueue {
    pub(crate) fn new() -> io::Result<ChangeQueue> {
        // SAFETY: no pointers.
        let fd =
            cvt(unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) }).map_err(
                |error| match is_refused(&error) {
                    true => unsupported(format!(
                        "a `Watch` cannot be registered, because a sandbox or the kernel refuses inotify_init1(2) \
                     ({error}): allow that call"
                    )),
                    false => error,
                },
            )?;
        // SAFETY: the kernel has just made this descriptor, and it has no other owner.
        let queue = unsafe { File::from_raw_fd(fd) };
        Ok(ChangeQueue { queue, watches: Mutex::default() })
    }

    /// Watches an open file for a source. From now on its changes notify `registration`.
    ///
    /// Fails with `PermissionDenied` for a file that may not be read, and with `NotFound` if `/proc` is not mounted.
    pub(crate) fn watch(
        self: &Arc<ChangeQueue>,
        file: BorrowedFd<'_>,
        changes: &Arc<PendingChanges>,
        registration: &Arc<dyn Notify>,
    ) -> io::Result<ActiveWatch> {
        changes.start(file)?;
        let watcher = Arc::new(Watcher { changes: Arc::clone(changes), registration: Arc::downgrade(registration) });
        let mut watches = lock_ignoring_poison(&self.watches);
        let descriptor = self.add(file, changes.mask())?;
        if watches.by_descriptor.contains_key(&descriptor) {
            // Events before the registration are those of the other sources of the file.
            self.read_events(&mut watches)?;
        }
        watches.by_descriptor.entry(descriptor).or_default().push(Arc::clone(&watcher));
        Ok(ActiveWatch { queue: Arc::clone(self), descriptor, watcher, generation: fork::generation() })
    }

    /// Adds these bits to the watch descriptor of the file, and returns the watch descriptor.
    fn add(&self, file: BorrowedFd<'_>, mask: u32) -> io::Result<i32> {
        let path = CString::new(path_of(file))?;
        // SAFETY: the path ends with a zero and outlives the call.
        let result =
            cvt(unsafe { libc::inotify_add_watch(self.queue.as_raw_fd(), path.as_ptr(), mask | libc::IN_MASK_ADD) });
        result.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => io::Error::new(
                error.kind(),
                "a `Watch` cannot be registered, because /proc is not mounted, and inotify(7) needs the path of the \
                 open file: mount /proc",
            ),
            _ => error,
        })
    }

    /// Returns the descriptor, which is readable while there are changes.
    pub(crate) fn raw_source(&self) -> Option<RawFd> {
        Some(self.queue.as_raw_fd())
    }

    /// Reads the events that the queue contains now, and notifies the registrations of their sources.
    pub(crate) fn read(&self) -> io::Result<()> {
        self.read_events(&mut lock_ignoring_poison(&self.watches))
    }

    fn read_events(&self, watches: &mut Watches) -> io::Result<()> {
        let mut buffer = [0; BUFFER_SIZE];
        // The events that come while this thread reads are not waited for.
        let mut left: Option<usize> = None;
        loop {
            let len = match (&self.queue).read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                result => result?,
            };
            watches.pass_on(&buffer[..len]);
            // The kernel fills the buffer with whole events. If there is space for the longest event, no event is left.
            if len + MAX_EVENT_SIZE <= BUFFER_SIZE {
                return Ok(());
            }
            left = match left {
                None => Some(self.len()?),
                Some(left) => Some(left.saturating_sub(len)),
            };
            if left == Some(0) {
                return Ok(());
            }
        }
    }

    /// Returns the number of bytes of the events in the queue.
    fn len(&self) -> io::Result<usize> {
        let mut len: libc::c_int = 0;
        // SAFETY: the kernel writes one integer.
        cvt(unsafe { libc::ioctl(self.queue.as_raw_fd(), libc::FIONREAD, &mut len) })?;
        Ok(usize::try_from(len).unwrap_or(0))
    }
}

/// Fails with `Unsupported` for a file whose changes inotify does not report: a file of `/proc` or `/sys`, whose contents the
/// kernel makes when the file is read, or a file in memory (memfd_create(2)).
pub(crate) fn reject_unreported_file(file: BorrowedFd<'_>) -> io::Result<()> {
    // The values of PROC_SUPER_MAGIC and SYSFS_MAGIC (linux/magic.h).
    const MADE_BY_THE_KERNEL: [u32; 2] = [0x9fa0, 0x6265_6572];

    // SAFETY: the fields are integers. Zeroes are a value of each.
    let mut file_system: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one `statfs`, and the variable has space for one.
    cvt(unsafe { libc::fstatfs(file.as_raw_fd(), &mut file_system) })?;
    #[allow(clippy::unnecessary_cast)] // The type of the field differs from system to system.
    let magic = file_system.f_type as u32;
    if MADE_BY_THE_KERNEL.contains(&magic) {
        return Err(unsupported(
            "a `Watch` cannot report changes of a file in /proc or /sys, because the kernel makes the contents when \
             the file is read: read the file at intervals, with a `Timer`",
        ));
    }
    // Only a file in memory has this path. Without /proc the registration fails.
    let path = std::fs::read_link(path_of(file)).unwrap_or_default();
    if path.as_os_str().as_bytes().starts_with(b"/memfd:") {
        return Err(unsupported(
            "a `Watch` cannot report changes of a file in memory (memfd_create(2)), because inotify(7) does not: watch \
             a file of a file system, or use a `Waker`",
        ));
    }
    Ok(())
}

/// Returns the path that leads to an open file of this thread.
fn path_of(file: BorrowedFd<'_>) -> String {
    format!("/proc/thread-self/fd/{}", file.as_raw_fd())
}

impl Watches {
    /// Passes events on to the sources.
    fn pass_on(&mut self, mut events: &[u8]) {
        let number_at =
            |bytes: &[u8], at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        while events.len() >= HEADER {
            let (descriptor, bits) = (number_at(events, 0) as i32, number_at(events, 4));
            let len = number_at(events, 12) as usize;
            if bits & libc::IN_Q_OVERFLOW != 0 {
                // An `IN_IGNORED` may be among the lost events.
                self.removed.clear();
                self.by_descriptor.values().flatten().for_each(|watcher| watcher.pass_on(bits));
            } else if bits & libc::IN_IGNORED != 0 {
                self.end(descriptor);
            } else if len == 0 || bits & ENTRY_EVENTS != 0 {
                self.pass_on_to(descriptor, bits);
            }
            events = events.get(HEADER + len..).unwrap_or(&[]);
        }
    }

    fn pass_on_to(&self, descriptor: i32, bits: u32) {
        if !self.removed.contains_key(&descriptor) {
            self.by_descriptor.get(&descriptor).into_iter().flatten().for_each(|watcher| watcher.pass_on(bits));
        }
    }

    /// Handles `IN_IGNORED`: the last event of a watch descriptor.
    fn end(&mut self, descriptor: i32) {
        match self.removed.get_mut(&descriptor) {
            Some(1) => drop(self.removed.remove(&descriptor)),
            Some(count) => *count -= 1,
            // The kernel has removed the watch: the file system was unmounted.
            None => drop(self.by_descriptor.remove(&descriptor)),
        }
    }

    /// Removes a source. Returns `true` if the watch descriptor has no source any more.
    fn remove(&mut self, descriptor: i32, watcher: &Arc<Watcher>) -> bool {
        let Some(watchers) = self.by_descriptor.get_mut(&descriptor) else { return false };
        let Some(index) = watchers.iter().position(|other| Arc::ptr_eq(other, watcher)) else { return false };
        watchers.swap_remove(index);
        if !watchers.is_empty() {
            return false;
        }
        self.by_descriptor.remove(&descriptor);
        *self.removed.entry(descriptor).or_default() += 1;
        true
    }
}

impl Watcher {
    fn pass_on(&self, event_bits: u32) {
        if self.changes.add(event_bits) {
            if let Some(registration) = self.registration.upgrade() {
                registration.notify();
            }
        }
    }
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher").finish_non_exhaustive()
    }
}

impl Drop for ActiveWatch {
    fn drop(&mut self) {
        if !fork::is_current(self.generation) {
            return;
        }
        self.watcher.changes.stop();
        let mut watches = lock_ignoring_poison(&self.queue.watches);
        if watches.remove(self.descriptor, &self.watcher) {
            // SAFETY: no pointers. The call fails if other code has removed the watch descriptor.
            unsafe { libc::inotify_rm_watch(self.queue.queue.as_raw_fd(), self.descriptor as _) };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::source::file_changes::FileChanges;
    use crate::sys::unix::watch::{pending_changes, watched_state};

    #[derive(Default)]
    struct Notifications(AtomicUsize);

    impl Notify for Notifications {
        fn notify(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Notifications {
        fn take(&self) -> usize {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    fn event(descriptor: i32, mask: u32, name: &str) -> Vec<u8> {
        // The kernel pads names with zeroes to a multiple of the header size.
        let len = if name.is_empty() { 0 } else { (name.len() / HEADER + 1) * HEADER };
        let mut bytes: Vec<u8> =
            [descriptor as u32, mask, 0, len as u32].into_iter().flat_map(u32::to_ne_bytes).collect();
        bytes.extend(name.bytes());
        bytes.resize(HEADER + len, 0);
        bytes
    }

    fn watcher(path: &str) -> (Arc<Watcher>, Arc<Notifications>) {
        let state = watched_state(File::open(path).unwrap().as_fd()).unwrap();
        let changes = Arc::new(pending_changes(FileChanges::ALL, state).unwrap());
        let notifications = Arc::new(Notifications::default());
        let registration = Arc::clone(&notifications) as Arc<dyn Notify>;
        (Arc::new(Watcher { changes, registration: Arc::downgrade(&registration) }), notifications)
    }

    #[test]
    fn events_of_files_in_a_directory_are_dropped() {
        assert_eq!((HEADER, event(1, 0, &"x".repeat(255)).len()), (16, MAX_EVENT_SIZE));
        let (watcher, notifications) = watcher("/");
        let mut watches = Watches::default();
        watches.by_descriptor.insert(1, vec![watcher]);
        let mut pass_on = |events: &[Vec<u8>]| {
            watches.pass_on(&events.concat());
            notifications.take()
        };
        let named = "a name that is longer than one header";
        assert_eq!(pass_on(&[]), 0);
        assert_eq!(pass_on(&[event(1, libc::IN_ATTRIB, named), event(1, libc::IN_MODIFY, "a")]), 0);
        assert_eq!(pass_on(&[event(1, libc::IN_ATTRIB, named), event(1, libc::IN_CREATE, named)]), 1);
        assert_eq!(pass_on(&[event(1, libc::IN_MOVE_SELF, ""), event(2, libc::IN_ATTRIB, "")]), 1);
    }

    /// The kernel may use the number of a removed watch descriptor again, before the old events were read.
    #[test]
    fn events_of_a_removed_watch_are_not_those_of_a_new_one_with_its_number() {
        let ((old, old_notifications), (new, new_notifications)) = (watcher("/"), watcher("/"));
        let mut watches = Watches::default();
        watches.by_descriptor.insert(1, vec![Arc::clone(&old)]);
        watches.pass_on(&event(1, libc::IN_ATTRIB, ""));
        assert_eq!(old_notifications.take(), 1);
        for _ in 0..2 {
            assert!(watches.remove(1, &old) && !watches.remove(1, &old));
            watches.by_descriptor.insert(1, vec![Arc::clone(&old)]);
        }
        watches.by_descriptor.insert(1, vec![Arc::clone(&new)]);
        let (change, end) = (event(1, libc::IN_ATTRIB, ""), event(1, libc::IN_IGNORED, ""));
        watches.pass_on(&[change.clone(), end.clone(), change.clone()].concat());
        assert_eq!(new_notifications.take(), 0);
        watches.pass_on(&[end.clone(), change.clone()].concat());
        assert_eq!((new_notifications.take(), old_notifications.take()), (1, 0));
        // The kernel removes a watch when the file system is unmounted.
        watches.pass_on(&[event(1, libc::IN_UNMOUNT, ""), end, change].concat());
        assert_eq!(new_notifications.take(), 1);
        assert!(!watches.remove(1, &new) && watches.removed.is_empty());
    }

    /// An `IN_IGNORED` may be among the events that the kernel has dropped.
    #[test]
    fn overflow_reaches_every_watch_and_ends_the_wait_for_removed_ones() {
        let ((first, notifications), (second, others)) = (watcher("/"), watcher("/"));
        let mut watches = Watches::default();
        watches.by_descriptor.insert(1, vec![Arc::clone(&first)]);
        watches.by_descriptor.insert(2, vec![second]);
        assert!(watches.remove(1, &first));
        watches.by_descriptor.insert(1, vec![first]);
        watches.pass_on(&[event(-1, libc::IN_Q_OVERFLOW, ""), event(1, libc::IN_ATTRIB, "")].concat());
        assert_eq!((notifications.take(), others.take()), (2, 1));
    }
}
