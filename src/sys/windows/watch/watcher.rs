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
//! A record has the name by which a program has opened the file. This may be the short name (8.3), or have other upper and lower
//! case. A name with a tilde is therefore treated as a name of the file, if a property or the path of the file has changed.
//! Upper and lower case differ in a directory with that property only.
//!
//! # Readers of parents
//!
//! A callback may start the next reader, and drop its own one or a later one. The lock of the parent is held while a reader is
//! started and put into its place. So readers come in the order of their start, and a drop waits only for callbacks of later
//! readers, but never in a circle. No thread waits for a callback with that lock.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::path::{Path, PathBuf};
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
    file_id, final_path, is_case_sensitive, open_path, reopen, watched_state, Reported, WatchedState,
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
    /// The parent directory, and the name in it. Empty if they are not known.
    directory: PathBuf,
    name: Vec<u16>,
    /// Upper and lower case differ in the parent directory.
    is_case_sensitive: bool,
    state: WatchedState,
}

/// What the records of a directory have to do with the file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    reported: Reported,
    /// A property of the file may have changed.
    is_concerned: bool,
    /// The file has no name in this directory any more.
    is_name_lost: bool,
    /// A short name, which may be that of the file, was removed or replaced.
    is_name_doubtful: bool,
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
            tracked: Mutex::new(Tracked {
                directory: PathBuf::new(),
                name: Vec::new(),
                is_case_sensitive: false,
                state,
            }),
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
            let (previous, has_moved) = {
                let mut parent = lock_ignoring_poison(&self.parent);
                let path = final_path(self.file.as_handle()).map_err(no_path)?;
                let (Some(directory), Some(name), false) = (path.parent(), path.file_name(), parent.is_dropped) else {
                    return Ok(());
                };
                let reader = self.start_reader(directory, name)?;
                let has_moved = final_path(self.file.as_handle()).map_or(true, |now| now != path);
                (parent.reader.replace(reader), has_moved)
            };
            // The callback that runs this function may be that of the reader.
            drop(previous);
            // Changes before the reader has started.
            self.compare_with(Reported::default());
            if !has_moved {
                break;
            }
        }
        Ok(())
    }

    /// Starts a reader of the parent directory of the file.
    fn start_reader(self: &Arc<Watcher>, directory: &Path, name: &OsStr) -> io::Result<Reader> {
        let opened = open_path(directory, FILE_LIST_DIRECTORY, FILE_FLAG_OVERLAPPED)?;
        {
            let mut tracked = lock_ignoring_poison(&self.tracked);
            tracked.directory = directory.to_owned();
            tracked.name = name.encode_wide().collect();
            tracked.is_case_sensitive = is_case_sensitive(opened.as_handle());
        }
        let watcher = Arc::downgrade(self);
        Reader::start(opened, filter(self.pending.interest()), move |changes| {
            let Some(watcher) = Weak::upgrade(&watcher) else { return };
            match changes {
                Changes::Records(records) => watcher.compare(&records),
                Changes::Overflow => {
                    watcher.report(FileChanges::RESCAN);
                    if watcher.has_moved() {
                        watcher.follow();
                    }
                }
                Changes::End => watcher.end(),
            }
        })
    }

    /// Reports the changes of the file that the records of its parent directory stand for.
    fn compare(self: &Arc<Watcher>, records: &[Record]) {
        let mut findings = lock_ignoring_poison(&self.tracked).follow_names(records, self.pending.interest());
        if !findings.is_concerned {
            return;
        }
        let is_name_lost = findings.is_name_lost;
        let has_moved = (is_name_lost || findings.is_name_doubtful) && self.has_moved();
        let (changes, is_deleted) = {
            let mut tracked = lock_ignoring_poison(&self.tracked);
            let now = tracked.state.renewed(self.file.as_handle());
            // The name was removed. If the file still has as many names, the file was moved to another directory.
            let is_moved = is_name_lost && !now.is_deleted && now.links >= tracked.state.links;
            findings.reported.is_renamed |= is_moved || (findings.is_name_doubtful && has_moved);
            let changes = tracked.state.changes_to(now, findings.reported);
            tracked.state = now;
            (changes, now.is_deleted)
        };
        self.report(changes);
        if has_moved && !is_deleted {
            self.follow();
        }
    }

    /// Returns `true` if the file has another path than the watch knows. If the path is that of another file, as in wine, the
    /// path is out of date, and the result is `false`.
    fn has_moved(&self) -> bool {
        let is_here = |path: &Path| -> io::Result<bool> {
            let found = open_path(path, FILE_READ_ATTRIBUTES, 0)?;
            Ok(file_id(found.as_handle())? == file_id(self.file.as_handle())?)
        };
        let Ok(path) = final_path(self.file.as_handle()) else { return false };
        !lock_ignoring_poison(&self.tracked).is_at(&path) && is_here(&path).unwrap_or(false)
    }

    /// Reads the present parent directory of the file. If that fails, nothing is reported any more.
    fn follow(self: &Arc<Watcher>) {
        if self.read_parent().is_err() {
            self.report(FileChanges::RESCAN);
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

    /// Adds changes to those of the source. Nothing is added after the drop.
    fn report(&self, changes: FileChanges) {
        let parent = lock_ignoring_poison(&self.parent);
        if !parent.is_dropped && self.pending.add(changes) {
            self.registration.notify();
        }
    }
}

impl Tracked {
    /// Follows the name through the records.
    fn follow_names(&mut self, records: &[Record], interest: FileChanges) -> Findings {
        let mut findings = Findings::default();
        let mut records = records.iter().peekable();
        while let Some(record) = records.next() {
            let is_ours = self.is_name(&record.name);
            let may_be_short = record.name.contains(&u16::from(b'~'));
            match record.action {
                FILE_ACTION_RENAMED_OLD_NAME if is_ours => {
                    findings.is_concerned = true;
                    match records.next_if(|next| next.action == FILE_ACTION_RENAMED_NEW_NAME) {
                        Some(next) => {
                            self.name = next.name.clone();
                            findings.reported.is_renamed = true;
                        }
                        None => findings.is_name_lost = true,
                    }
                }
                FILE_ACTION_REMOVED if is_ours => (findings.is_concerned, findings.is_name_lost) = (true, true),
                FILE_ACTION_MODIFIED if is_ours => {
                    (findings.is_concerned, findings.reported.is_modified) = (true, true)
                }
                // Another file has the name now, or the file has its name again.
                FILE_ACTION_ADDED | FILE_ACTION_RENAMED_NEW_NAME if is_ours => findings.is_concerned = true,
                FILE_ACTION_RENAMED_OLD_NAME | FILE_ACTION_REMOVED if may_be_short => {
                    (findings.is_concerned, findings.is_name_doubtful) = (true, true);
                }
                // A name of the same file may be among the others.
                FILE_ACTION_ADDED | FILE_ACTION_REMOVED if interest.contains(FileChanges::LINKED) => {
                    findings.is_concerned = true;
                }
                _ => findings.is_concerned |= may_be_short,
            }
        }
        findings
    }

    /// Returns `true` if a record with this name may concern the file.
    fn is_name(&self, name: &[u16]) -> bool {
        let upper = |name: &[u16]| String::from_utf16_lossy(name).to_uppercase();
        let is_same_in_upper_case = || name.len() == self.name.len() && upper(name) == upper(&self.name);
        name == self.name || (!self.is_case_sensitive && is_same_in_upper_case())
    }

    /// Returns `true` if this is the path of the file, as far as the watch knows.
    fn is_at(&self, path: &Path) -> bool {
        let name = path.file_name().map(|name| name.encode_wide());
        path.parent() == Some(&self.directory) && name.is_some_and(|name| name.eq(self.name.iter().copied()))
    }
}

/// The error of a file whose path is not known.
#[cold]
fn no_path(error: io::Error) -> io::Error {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => error,
        _ => unsupported(format!(
            "a `Watch` cannot be registered, because the path of the open file is not known ({error}), and the system reports \
             changes of directories: watch a file of another file system"
        )),
    }
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
        let mut tracked = Tracked { directory: PathBuf::new(), name: Vec::new(), is_case_sensitive: false, state };
        let mut follow = |records: &[Record], interest, is_case_sensitive| {
            (tracked.name, tracked.is_case_sensitive) = ("Name".encode_utf16().collect(), is_case_sensitive);
            let findings = tracked.follow_names(records, interest);
            let flags = [
                (findings.is_concerned, "concerned"),
                (findings.reported.is_renamed, "renamed"),
                (findings.reported.is_modified, "modified"),
                (findings.is_name_lost, "lost"),
                (findings.is_name_doubtful, "doubtful"),
            ];
            let words: Vec<_> = flags.iter().filter(|(holds, _)| *holds).map(|(_, word)| *word).collect();
            (String::from_utf16(&tracked.name).unwrap(), words.join(" "))
        };
        let (old, new) = (FILE_ACTION_RENAMED_OLD_NAME, FILE_ACTION_RENAMED_NEW_NAME);
        let (added, removed, modified) = (FILE_ACTION_ADDED, FILE_ACTION_REMOVED, FILE_ACTION_MODIFIED);
        let renamed = [record(old, "name"), record(new, "b"), record(old, "b"), record(new, "c")];
        let table: [(&[Record], bool, &str, &str); 9] = [
            (&[record(added, "other"), record(modified, "other")], false, "Name", ""),
            (&[record(modified, "NAME")], false, "Name", "concerned modified"),
            (&renamed, false, "c", "concerned renamed"),
            // Another file of a directory in which upper and lower case differ.
            (&renamed, true, "Name", ""),
            (&[record(old, "other"), record(new, "name")], false, "Name", "concerned"),
            (&[record(old, "name"), record(added, "x")], false, "Name", "concerned lost"),
            (&[record(removed, "name")], false, "Name", "concerned lost"),
            // Short names.
            (&[record(modified, "NA~1")], false, "Name", "concerned"),
            (&[record(old, "NA~1"), record(new, "x")], false, "Name", "concerned doubtful"),
        ];
        for (records, is_case_sensitive, name, words) in table {
            let followed = follow(records, FileChanges::WRITTEN, is_case_sensitive);
            assert_eq!(followed, (name.to_owned(), words.to_owned()), "{records:?}");
        }
        let followed = follow(&[record(added, "other")], FileChanges::LINKED, false);
        assert_eq!(followed, ("Name".to_owned(), "concerned".to_owned()));
    }

    #[test]
    fn path_is_compared_with_the_one_that_the_watch_follows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"data").unwrap();
        let watched = start(&path, FileChanges::ALL);
        let watcher = &watched.active.as_ref().unwrap().watcher;
        assert!(!watcher.has_moved());
        // As after a rename whose record has the short name.
        lock_ignoring_poison(&watcher.tracked).name = "before".encode_utf16().collect();
        assert!(watcher.has_moved());
        let removed = Record { action: FILE_ACTION_REMOVED, name: "BEFO~1".encode_utf16().collect() };
        watcher.compare(&[removed]);
        assert_eq!(watched.expect(FileChanges::RENAMED), FileChanges::RENAMED);
        assert!(!watcher.has_moved());
        append(&path);
        watched.expect(FileChanges::WRITTEN);
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
        // In wine and before Windows 10 1903, the name stays until the last handle is closed.
        if !path.exists() {
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
        // As above, the name may stay.
        if !link.exists() {
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
