//! The watch of one file or directory, on threads of the pool.
//!
//! A watched directory has a reader of its own, which reports new, removed and renamed entries. Every watched file or directory
//! has a reader of its parent directory too. The records of that reader have names. A record with the name of the file leads to
//! a comparison of the properties of the open file, as they are and as they were.
//!
//! # Names
//!
//! The watch follows the open file, and not its name. A record with a new name is followed, if it comes after one with the old
//! name. If the file was moved to another directory, the system reports a removed name only. Then the path of the open file leads
//! to the new parent directory, and a new reader takes the place of the old one.
//!
//! A record may have the short name of a file (8.3). A name with a tilde is therefore treated as a name of the file, if a
//! property of the file has changed.

use std::fmt;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::path::Path;
use std::sync::{Arc, Mutex, Weak};

use windows_sys::Win32::Storage::FileSystem::{
    FILE_ACTION_ADDED, FILE_ACTION_MODIFIED, FILE_ACTION_REMOVED, FILE_ACTION_RENAMED_NEW_NAME,
    FILE_ACTION_RENAMED_OLD_NAME, FILE_FLAG_OVERLAPPED, FILE_LIST_DIRECTORY, FILE_NOTIFY_CHANGE_ATTRIBUTES,
    FILE_NOTIFY_CHANGE_CREATION, FILE_NOTIFY_CHANGE_DIR_NAME, FILE_NOTIFY_CHANGE_FILE_NAME,
    FILE_NOTIFY_CHANGE_LAST_WRITE, FILE_NOTIFY_CHANGE_SECURITY, FILE_NOTIFY_CHANGE_SIZE, FILE_READ_ATTRIBUTES,
};

use crate::source::file_changes::FileChanges;
use crate::sys::error::unsupported;
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::notify::Notify;
use crate::sys::windows::watch::pending::PendingChanges;
use crate::sys::windows::watch::reader::{Changes, Reader, Record};
use crate::sys::windows::watch::state::{
    file_id, final_path, open_path, reopen, watched_state, Reported, WatchedState,
};

/// How often a registration starts again, because the file was renamed meanwhile.
const MAX_ATTEMPTS: usize = 8;

/// The watch of one registered source. Dropping this value ends the watch.
pub(crate) struct ActiveWatch {
    watcher: Arc<Watcher>,
    /// The reader of the watched directory.
    _entries: Option<Reader>,
}

struct Watcher {
    pending: Arc<PendingChanges>,
    registration: Arc<dyn Notify>,
    /// The file, opened again. A query of the handle of the program could block behind an operation of the program.
    file: OwnedHandle,
    tracked: Mutex<Tracked>,
    parent: Mutex<Parent>,
}

/// What is known about the file.
struct Tracked {
    /// The name in the parent directory. Empty if the name is not known.
    name: Vec<u16>,
    state: WatchedState,
}

/// The reader of the parent directory.
struct Parent {
    /// `None` for a root directory, which has no parent.
    reader: Option<Reader>,
    /// The watch was dropped, and no reader may follow.
    is_dropped: bool,
}

impl ActiveWatch {
    pub(super) fn start(
        file: BorrowedHandle<'_>,
        pending: &Arc<PendingChanges>,
        registration: &Arc<dyn Notify>,
    ) -> io::Result<ActiveWatch> {
        pending.clear();
        let state = watched_state(file)?;
        let again = reopen(file, FILE_READ_ATTRIBUTES, 0).or_else(|_| file.try_clone_to_owned())?;
        let watcher = Arc::new(Watcher {
            pending: Arc::clone(pending),
            registration: Arc::clone(registration),
            file: again,
            tracked: Mutex::new(Tracked { name: Vec::new(), state }),
            parent: Mutex::new(Parent { reader: None, is_dropped: false }),
        });
        let mut watch = ActiveWatch { watcher: Arc::clone(&watcher), _entries: None };
        if state.is_directory && pending.interest().intersects(FileChanges::WRITTEN | FileChanges::EXTENDED) {
            watch._entries = Some(watcher.read_entries()?);
        }
        watcher.read_parent()?;
        Ok(watch)
    }
}

impl Drop for ActiveWatch {
    fn drop(&mut self) {
        let reader = {
            let mut parent = lock_ignoring_poison(&self.watcher.parent);
            parent.is_dropped = true;
            parent.reader.take()
        };
        // Dropped without the lock, because the drop waits for a callback, which may need the lock.
        drop(reader);
    }
}

impl fmt::Debug for ActiveWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActiveWatch").finish_non_exhaustive()
    }
}

impl Watcher {
    /// Starts the reader of the watched directory.
    fn read_entries(self: &Arc<Watcher>) -> io::Result<Reader> {
        let directory = reopen(self.file.as_handle(), FILE_LIST_DIRECTORY, FILE_FLAG_OVERLAPPED)
            .or_else(|_| open_path(&final_path(self.file.as_handle())?, FILE_LIST_DIRECTORY, FILE_FLAG_OVERLAPPED))?;
        let watcher = Arc::downgrade(self);
        Reader::start(directory, FILE_NOTIFY_CHANGE_FILE_NAME | FILE_NOTIFY_CHANGE_DIR_NAME, move |changes| {
            let Some(watcher) = Weak::upgrade(&watcher) else { return };
            match changes {
                Changes::Records(_) => watcher.report(FileChanges::WRITTEN),
                Changes::Overflow => watcher.report(FileChanges::RESCAN),
                Changes::End => watcher.end(),
            }
        })
    }

    /// Starts the reader of the parent directory in the place of an earlier one. A root directory has none.
    ///
    /// The file may be renamed at any time, so that the path is compared after the start.
    fn read_parent(self: &Arc<Watcher>) -> io::Result<()> {
        for _ in 0..MAX_ATTEMPTS {
            let path = final_path(self.file.as_handle()).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => error,
                _ => unsupported(format!(
                    "a `Watch` cannot be registered, because the path of the open file is not known ({error}), and the \
                     system reports changes of directories: watch a file of another file system"
                )),
            })?;
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Ok(()) };
            let directory = open_path(parent, FILE_LIST_DIRECTORY, FILE_FLAG_OVERLAPPED)?;
            lock_ignoring_poison(&self.tracked).name = name.encode_wide().collect();
            let watcher = Arc::downgrade(self);
            let filter = filter(self.pending.interest());
            let reader = Reader::start(directory, filter, move |changes| {
                let Some(watcher) = Weak::upgrade(&watcher) else { return };
                match changes {
                    Changes::Records(records) => watcher.compare(&records),
                    Changes::Overflow => {
                        watcher.report(FileChanges::RESCAN);
                        watcher.follow();
                    }
                    Changes::End => watcher.end(),
                }
            })?;
            let has_moved = final_path(self.file.as_handle()).map_or(true, |now| now != path);
            let previous = {
                let mut parent = lock_ignoring_poison(&self.parent);
                match parent.is_dropped {
                    true => Some(reader),
                    false => parent.reader.replace(reader),
                }
            };
            // Dropped without the lock, because the drop waits for a callback, which may need the lock. The callback that runs
            // this function may be the one.
            drop(previous);
            // Changes before the reader has started.
            self.compare_with(Reported::default());
            if !has_moved {
                break;
            }
        }
        Ok(())
    }

    /// Reports the changes of the file that the records of its parent directory stand for.
    fn compare(self: &Arc<Watcher>, records: &[Record]) {
        let (changes, is_name_lost) = {
            let mut tracked = lock_ignoring_poison(&self.tracked);
            let (mut reported, is_concerned, is_name_lost) = tracked.follow_names(records, self.pending.interest());
            if !is_concerned {
                return;
            }
            let now = tracked.state.renewed(self.file.as_handle());
            // The name was removed. If the file still has as many names, the file was moved to another directory.
            reported.is_renamed |= is_name_lost && !now.is_deleted && now.links >= tracked.state.links;
            let changes = tracked.state.changes_to(now, reported);
            tracked.state = now;
            (changes, is_name_lost && !now.is_deleted)
        };
        self.report(changes);
        if is_name_lost {
            self.follow();
        }
    }

    /// Looks for the file in its present directory. If the path is not known, or is that of another file, later changes of the
    /// name are not reported.
    fn follow(self: &Arc<Watcher>) {
        let is_here = |path: &Path| -> io::Result<bool> {
            let found = open_path(path, FILE_READ_ATTRIBUTES, 0)?;
            Ok(file_id(found.as_handle())? == file_id(self.file.as_handle())?)
        };
        let path = final_path(self.file.as_handle());
        if path.and_then(|path| is_here(&path)).unwrap_or(false) {
            let _ = self.read_parent();
        }
    }

    /// Handles the end of a reader: the directory was deleted, or its file system has gone.
    fn end(&self) {
        if !self.compare_with(Reported::default()).is_deleted {
            self.report(FileChanges::RESCAN);
        }
    }

    /// Reports the changes of the properties of the file. Returns its state.
    fn compare_with(&self, reported: Reported) -> WatchedState {
        let (changes, now) = {
            let mut tracked = lock_ignoring_poison(&self.tracked);
            let now = tracked.state.renewed(self.file.as_handle());
            let changes = tracked.state.changes_to(now, reported);
            tracked.state = now;
            (changes, now)
        };
        self.report(changes);
        now
    }

    fn report(&self, changes: FileChanges) {
        if self.pending.add(changes) {
            self.registration.notify();
        }
    }
}

impl Tracked {
    /// Follows the name through the records. Returns what they report, if they concern the file, and if the file has no name in
    /// this directory any more.
    fn follow_names(&mut self, records: &[Record], interest: FileChanges) -> (Reported, bool, bool) {
        let (mut reported, mut is_concerned, mut is_name_lost) = (Reported::default(), false, false);
        let mut records = records.iter().peekable();
        while let Some(record) = records.next() {
            let is_ours = is_same_name(&record.name, &self.name);
            match record.action {
                FILE_ACTION_RENAMED_OLD_NAME if is_ours => {
                    is_concerned = true;
                    match records.next_if(|next| next.action == FILE_ACTION_RENAMED_NEW_NAME) {
                        Some(next) => {
                            self.name = next.name.clone();
                            reported.is_renamed = true;
                        }
                        None => is_name_lost = true,
                    }
                }
                FILE_ACTION_REMOVED if is_ours => (is_concerned, is_name_lost) = (true, true),
                FILE_ACTION_MODIFIED if is_ours => (is_concerned, reported.is_modified) = (true, true),
                // Another file has the name now, or the file has its name again.
                FILE_ACTION_ADDED | FILE_ACTION_RENAMED_NEW_NAME if is_ours => is_concerned = true,
                // A name of the same file may be among the others.
                FILE_ACTION_ADDED | FILE_ACTION_REMOVED if interest.contains(FileChanges::LINKED) => {
                    is_concerned = true;
                }
                _ => is_concerned |= record.name.contains(&u16::from(b'~')),
            }
        }
        (reported, is_concerned, is_name_lost)
    }
}

/// Compares two names as most file systems do: upper and lower case are the same.
fn is_same_name(a: &[u16], b: &[u16]) -> bool {
    let upper = |name: &[u16]| String::from_utf16_lossy(name).to_uppercase();
    a == b || (a.len() == b.len() && upper(a) == upper(b))
}

/// Returns the filter of the parent directory for these changes of a file or a directory.
fn filter(interest: FileChanges) -> u32 {
    // The names are needed to recognise the file.
    let mut filter = FILE_NOTIFY_CHANGE_FILE_NAME | FILE_NOTIFY_CHANGE_DIR_NAME;
    if interest.intersects(FileChanges::WRITTEN | FileChanges::EXTENDED) {
        filter |= FILE_NOTIFY_CHANGE_LAST_WRITE | FILE_NOTIFY_CHANGE_SIZE;
    }
    if interest.intersects(FileChanges::ATTRIBUTES) {
        filter |= FILE_NOTIFY_CHANGE_ATTRIBUTES | FILE_NOTIFY_CHANGE_CREATION | FILE_NOTIFY_CHANGE_SECURITY;
    }
    filter
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File, OpenOptions};
    use std::io::Write;
    use std::sync::mpsc::{channel, Receiver, Sender};
    use std::time::Duration;

    use super::*;
    use crate::sys::conformance::support::system::is_wine;
    use crate::sys::windows::watch;

    const DEADLINE: Duration = Duration::from_secs(10);

    struct Notifications(Mutex<Sender<()>>);

    impl Notify for Notifications {
        fn notify(&self) {
            let _ = self.0.lock().unwrap().send(());
        }
    }

    struct Watched {
        active: Option<ActiveWatch>,
        pending: Arc<PendingChanges>,
        notified: Receiver<()>,
    }

    fn start(path: &Path, interest: FileChanges) -> Watched {
        let file = watch::open(path).unwrap();
        let pending = Arc::new(watch::pending_changes(interest, watched_state(file.as_handle()).unwrap()).unwrap());
        let (sender, notified) = channel();
        let registration = Arc::new(Notifications(Mutex::new(sender))) as Arc<dyn Notify>;
        let queue = Arc::new(watch::ChangeQueue::new().unwrap());
        let active = Some(queue.watch(file.as_handle(), &pending, &registration).unwrap());
        Watched { active, pending, notified }
    }

    impl Watched {
        /// Waits until all of these changes were reported, and returns all that were.
        fn expect(&self, expected: FileChanges) -> FileChanges {
            let mut all = FileChanges::empty();
            while !all.contains(expected) {
                self.notified.recv_timeout(DEADLINE).unwrap_or_else(|_| panic!("{expected:?}: {all:?}"));
                if self.pending.decode() {
                    all |= self.pending.take();
                }
            }
            all
        }
    }

    fn append(path: &Path) {
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
    }

    #[test]
    fn file_is_followed_through_writes_and_renames() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("file"), directory.path().join("other"));
        fs::write(&path, b"data").unwrap();
        fs::write(&other, b"data").unwrap();
        let watched = start(&path, FileChanges::ALL);
        append(&other);
        append(&path);
        let changes = watched.expect(FileChanges::WRITTEN | FileChanges::EXTENDED);
        assert_eq!(changes, FileChanges::WRITTEN | FileChanges::EXTENDED);
        let renamed = directory.path().join("renamed");
        fs::rename(&path, &renamed).unwrap();
        let changes = watched.expect(FileChanges::RENAMED);
        assert!(!changes.contains(FileChanges::DELETED), "{changes:?}");
        // A new file at the old name is not watched, and the file is watched under its new name.
        fs::write(&path, b"a new file").unwrap();
        append(&renamed);
        watched.expect(FileChanges::WRITTEN | FileChanges::EXTENDED);
        let mut permissions = fs::metadata(&renamed).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&renamed, permissions.clone()).unwrap();
        watched.expect(FileChanges::ATTRIBUTES);
        #[allow(clippy::permissions_set_readonly_false)] // On Windows the attribute only.
        permissions.set_readonly(false);
        fs::set_permissions(&renamed, permissions).unwrap();
        watched.expect(FileChanges::ATTRIBUTES);
    }

    #[test]
    fn entries_of_a_directory_are_reported_and_their_contents_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let watched = start(directory.path(), FileChanges::ALL);
        let path = directory.path().join("entry");
        File::create(&path).unwrap();
        assert_eq!(watched.expect(FileChanges::WRITTEN), FileChanges::WRITTEN);
        append(&path);
        fs::rename(&path, directory.path().join("renamed")).unwrap();
        assert_eq!(watched.expect(FileChanges::WRITTEN), FileChanges::WRITTEN);
        fs::remove_file(directory.path().join("renamed")).unwrap();
        assert_eq!(watched.expect(FileChanges::WRITTEN), FileChanges::WRITTEN);
    }

    #[test]
    fn directory_is_followed_through_renames() {
        let directory = tempfile::tempdir().unwrap();
        let (path, renamed) = (directory.path().join("inner"), directory.path().join("renamed"));
        fs::create_dir(&path).unwrap();
        let watched = start(&path, FileChanges::ALL);
        fs::rename(&path, &renamed).unwrap();
        watched.expect(FileChanges::RENAMED);
        File::create(renamed.join("entry")).unwrap();
        watched.expect(FileChanges::WRITTEN);
    }

    #[test]
    fn names_are_followed_through_the_records() {
        let record = |action, name: &str| Record { action, name: name.encode_utf16().collect() };
        let directory = tempfile::tempdir().unwrap();
        let state = watched_state(watch::open(directory.path()).unwrap().as_handle()).unwrap();
        let follow = |records: &[Record], interest| {
            let mut tracked = Tracked { name: "Name".encode_utf16().collect(), state };
            let (reported, is_concerned, is_name_lost) = tracked.follow_names(records, interest);
            let name = String::from_utf16(&tracked.name).unwrap();
            (name, reported.is_renamed, reported.is_modified, is_concerned, is_name_lost)
        };
        let (old, new) = (FILE_ACTION_RENAMED_OLD_NAME, FILE_ACTION_RENAMED_NEW_NAME);
        let (written, linked) = (FileChanges::WRITTEN, FileChanges::LINKED);
        let other = [record(FILE_ACTION_ADDED, "other"), record(FILE_ACTION_MODIFIED, "other")];
        assert_eq!(follow(&other, written), ("Name".into(), false, false, false, false));
        assert_eq!(follow(&other, linked), ("Name".into(), false, false, true, false));
        let modified = [record(FILE_ACTION_MODIFIED, "NAME")];
        assert_eq!(follow(&modified, written), ("Name".into(), false, true, true, false));
        let renamed = [record(old, "name"), record(new, "b"), record(old, "b"), record(new, "c")];
        assert_eq!(follow(&renamed, written), ("c".into(), true, false, true, false));
        let replaced = [record(old, "other"), record(new, "name")];
        assert_eq!(follow(&replaced, written), ("Name".into(), false, false, true, false));
        let moved = [record(old, "name"), record(FILE_ACTION_ADDED, "x")];
        assert_eq!(follow(&moved, written), ("Name".into(), false, false, true, true));
        let removed = [record(FILE_ACTION_REMOVED, "name")];
        assert_eq!(follow(&removed, written), ("Name".into(), false, false, true, true));
        let short = [record(FILE_ACTION_MODIFIED, "NA~1")];
        assert_eq!(follow(&short, written), ("Name".into(), false, false, true, false));
    }

    #[test]
    fn file_is_followed_to_another_directory() {
        let directory = tempfile::tempdir().unwrap();
        let (path, inner) = (directory.path().join("file"), directory.path().join("inner"));
        fs::create_dir(&inner).unwrap();
        fs::write(&path, b"data").unwrap();
        let watched = start(&path, FileChanges::ALL);
        fs::rename(&path, inner.join("moved")).unwrap();
        assert_eq!(watched.expect(FileChanges::RENAMED), FileChanges::RENAMED);
        // The path of an open file of wine does not change.
        if !is_wine() {
            append(&inner.join("moved"));
            assert!(watched.expect(FileChanges::WRITTEN).contains(FileChanges::EXTENDED));
            fs::rename(inner.join("moved"), &path).unwrap();
            assert_eq!(watched.expect(FileChanges::RENAMED), FileChanges::RENAMED);
        }
        drop(watched);
    }

    #[test]
    fn deletion_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"data").unwrap();
        let watched = start(&path, FileChanges::ALL);
        fs::remove_file(&path).unwrap();
        // In wine the name stays until the last handle is closed, as in Windows before version 1809.
        if is_wine() {
            assert!(path.exists());
        } else {
            watched.expect(FileChanges::DELETED);
        }
        drop(watched);
        assert!(!path.exists());
    }

    #[test]
    fn second_name_is_reported() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&path, b"data").unwrap();
        let watched = start(&path, FileChanges::ALL);
        fs::hard_link(&path, &link).unwrap();
        watched.expect(FileChanges::LINKED);
        fs::remove_file(&link).unwrap();
        // In wine the name stays until the last handle of the file is closed.
        if !is_wine() {
            watched.expect(FileChanges::LINKED);
        }
    }

    #[test]
    fn nothing_is_notified_after_the_drop() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        for _ in 0..50 {
            fs::write(&path, b"data").unwrap();
            let mut watched = start(&path, FileChanges::ALL);
            append(&path);
            fs::rename(&path, directory.path().join("renamed")).unwrap();
            drop(watched.active.take());
            while watched.notified.try_recv().is_ok() {}
            assert!(watched.notified.recv_timeout(DEADLINE).is_err(), "the registration was not freed");
            fs::remove_file(directory.path().join("renamed")).unwrap();
        }
    }
}
