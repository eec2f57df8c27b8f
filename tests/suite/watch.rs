//! Watches of files and directories, and their rows of the table of differences.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kevio::net::UnixStream;
use kevio::unix::pipe;
use kevio::{Backend, Batch, FileChanges, Interest, Poll, Token, Watch, BACKEND};

use crate::support::known_failures::{is_known_failure, is_libkqueue, Check};
use crate::support::poll::{TestPoll, BOTH, READ, WRITE};
use crate::support::readiness::{R, W};

/// A temporary directory with a file.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Place {
        let place = Place { directory: tempfile::tempdir().unwrap() };
        fs::write(place.file(), b"file contents").unwrap();
        place
    }

    pub fn file(&self) -> PathBuf {
        self.at("file")
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

pub fn overwrite(path: &Path) {
    OpenOptions::new().write(true).open(path).unwrap().write_all(b"W").unwrap();
}

pub fn append(path: &Path) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
}

pub fn chmod(path: &Path) {
    let mode = path.metadata().unwrap().mode() ^ 0o040;
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Polls until all of `least` is reported for `token`. Returns all changes that were reported; fails for other tokens.
#[track_caller]
pub fn expect_changes<T: AsFd>(
    poll: &mut TestPoll,
    token: usize,
    watch: &mut Watch<T>,
    least: FileChanges,
) -> FileChanges {
    let mut changes = FileChanges::empty();
    while !changes.contains(least) {
        poll.expect(token, R);
        for event in &poll.events {
            changes |= watch.changes(event).unwrap();
        }
    }
    changes
}

/// As `expect_changes`. Fails if more than `most` is reported, or if another event follows.
#[track_caller]
fn expect_changes_within<T: AsFd>(
    poll: &mut TestPoll,
    token: usize,
    watch: &mut Watch<T>,
    least: FileChanges,
    most: FileChanges,
) {
    let changes = expect_changes(poll, token, watch, least);
    assert!(most.contains(changes), "{changes:?} instead of {least:?}");
    poll.expect_no_events();
}

/// Returns all changes that are reported without waiting; an empty set if there is no event.
fn reported_changes<T: AsFd>(poll: &mut TestPoll, watch: &mut Watch<T>) -> FileChanges {
    let mut changes = FileChanges::empty();
    while !poll.poll_once(Some(Duration::ZERO)).is_empty() {
        for event in &poll.events {
            changes |= watch.changes(event).unwrap();
        }
    }
    changes
}

/// Every change of a file, in a possible order: the operation, the changes that must be reported, and the changes that may
/// be reported.
#[allow(clippy::type_complexity)]
fn all_changes() -> Vec<(fn(&Place), FileChanges, FileChanges)> {
    let extended = if cfg!(target_vendor = "apple") { FileChanges::empty() } else { FileChanges::EXTENDED };
    let possible = FileChanges::ATTRIBUTES | FileChanges::LINKED;
    vec![
        (|place| overwrite(&place.file()), FileChanges::WRITTEN, FileChanges::WRITTEN),
        (|place| append(&place.file()), FileChanges::WRITTEN | extended, FileChanges::WRITTEN | FileChanges::EXTENDED),
        (|place| chmod(&place.file()), FileChanges::ATTRIBUTES, FileChanges::ATTRIBUTES),
        (|place| fs::hard_link(place.file(), place.at("link")).unwrap(), FileChanges::LINKED, possible),
        (|place| fs::rename(place.file(), place.at("name")).unwrap(), FileChanges::RENAMED, FileChanges::RENAMED),
        (|place| fs::rename(place.at("name"), place.file()).unwrap(), FileChanges::RENAMED, FileChanges::RENAMED),
        // Most kqueues report the removal of any name as the removal of the last.
        (|place| fs::remove_file(place.at("link")).unwrap(), FileChanges::empty(), possible | FileChanges::DELETED),
        (|place| fs::remove_file(place.file()).unwrap(), FileChanges::DELETED, possible | FileChanges::DELETED),
    ]
}

#[test]
fn each_change_of_a_file_is_reported() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watch = Watch::new(File::open(place.file()).unwrap()).unwrap();
    poll.register(&mut watch, 1, READ);
    poll.expect_no_events();
    for (operation, least, most) in all_changes() {
        operation(&place);
        if least.is_empty() {
            poll.expect(1, R);
            let event = poll.events.iter().next().unwrap();
            let changes = watch.changes(event).unwrap();
            assert!(!changes.is_empty() && most.contains(changes), "{changes:?}");
        } else {
            expect_changes_within(&mut poll, 1, &mut watch, least, most);
        }
    }
}

#[test]
fn only_requested_changes_of_a_file_are_reported() {
    let each = [
        FileChanges::WRITTEN,
        FileChanges::EXTENDED,
        FileChanges::ATTRIBUTES,
        FileChanges::LINKED,
        FileChanges::RENAMED,
    ];
    for requested in each.into_iter().chain([FileChanges::DELETED, FileChanges::WRITTEN | FileChanges::RENAMED]) {
        let mut poll = TestPoll::new();
        let place = Place::new();
        let mut watch = Watch::with_changes(File::open(place.file()).unwrap(), requested).unwrap();
        poll.register(&mut watch, 1, READ);
        for (operation, least, most) in all_changes() {
            operation(&place);
            if least.intersects(requested) {
                expect_changes_within(&mut poll, 1, &mut watch, least & requested, most & requested);
                continue;
            }
            // A change of the same kind for the kernel may make an event.
            let changes = reported_changes(&mut poll, &mut watch);
            assert!((most & requested).contains(changes), "{changes:?}, requested {requested:?}");
        }
    }
}

#[test]
fn unrequested_change_makes_no_event() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watch = Watch::with_changes(File::open(place.file()).unwrap(), FileChanges::RENAMED).unwrap();
    poll.register(&mut watch, 1, READ);
    append(&place.file());
    chmod(&place.file());
    fs::hard_link(place.file(), place.at("link")).unwrap();
    poll.expect_no_events();
    fs::rename(place.file(), place.at("name")).unwrap();
    expect_changes_within(&mut poll, 1, &mut watch, FileChanges::RENAMED, FileChanges::RENAMED);
}

#[test]
fn each_change_of_a_directory_is_reported() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let (path, file) = (place.at("directory"), place.at("directory/file"));
    fs::create_dir(&path).unwrap();
    let mut watch = Watch::new(File::open(&path).unwrap()).unwrap();
    poll.register(&mut watch, 1, READ);
    // On some systems directories have a size too.
    let (written, most) = (FileChanges::WRITTEN, FileChanges::WRITTEN | FileChanges::EXTENDED);
    File::create(&file).unwrap();
    expect_changes_within(&mut poll, 1, &mut watch, written, most);
    fs::rename(&file, place.at("directory/name")).unwrap();
    expect_changes_within(&mut poll, 1, &mut watch, written, most);
    fs::rename(place.at("directory/name"), place.at("elsewhere")).unwrap();
    expect_changes_within(&mut poll, 1, &mut watch, written, most);
    fs::rename(place.at("elsewhere"), &file).unwrap();
    expect_changes_within(&mut poll, 1, &mut watch, written, most);
    fs::remove_file(&file).unwrap();
    expect_changes_within(&mut poll, 1, &mut watch, written, most);
    let links = path.metadata().unwrap().nlink();
    fs::create_dir(&file).unwrap();
    let linked = if path.metadata().unwrap().nlink() != links { FileChanges::LINKED } else { FileChanges::empty() };
    expect_changes_within(&mut poll, 1, &mut watch, written | linked, most | linked);
    fs::remove_dir(&file).unwrap();
    expect_changes_within(&mut poll, 1, &mut watch, written | linked, most | linked);
    chmod(&path);
    expect_changes_within(&mut poll, 1, &mut watch, FileChanges::ATTRIBUTES, FileChanges::ATTRIBUTES);
    fs::rename(&path, place.at("other")).unwrap();
    expect_changes_within(&mut poll, 1, &mut watch, FileChanges::RENAMED, FileChanges::RENAMED);
}

#[test]
fn only_requested_changes_of_a_directory_are_reported() {
    let each = [
        FileChanges::EXTENDED,
        FileChanges::ATTRIBUTES,
        FileChanges::LINKED,
        FileChanges::RENAMED,
        FileChanges::DELETED,
    ];
    for requested in each {
        let mut poll = TestPoll::new();
        let place = Place::new();
        let path = place.at("directory");
        fs::create_dir(&path).unwrap();
        let mut watch = Watch::with_changes(File::open(&path).unwrap(), requested).unwrap();
        poll.register(&mut watch, 1, READ);
        File::create(path.join("file")).unwrap();
        fs::create_dir(path.join("directory")).unwrap();
        chmod(&path);
        fs::rename(&path, place.at("other")).unwrap();
        let changes = reported_changes(&mut poll, &mut watch);
        assert!(requested.contains(changes), "{changes:?}, requested {requested:?}");
        let certain = FileChanges::ATTRIBUTES | FileChanges::RENAMED;
        assert_eq!(changes & certain, requested & certain);
    }
}

#[test]
fn changes_before_a_poll_make_one_event() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watch = Watch::new(File::open(place.file()).unwrap()).unwrap();
    poll.register(&mut watch, 1, READ);
    append(&place.file());
    chmod(&place.file());
    fs::rename(place.file(), place.at("name")).unwrap();
    poll.expect(1, R);
    assert_eq!(poll.events.len(), 1, "{:?}", poll.events);
    let expected = FileChanges::WRITTEN | FileChanges::ATTRIBUTES | FileChanges::RENAMED;
    let changes = watch.changes(poll.events.iter().next().unwrap()).unwrap();
    assert!(changes.contains(expected), "{changes:?}");
    poll.expect_no_events();
}

/// More changes than one read of inotify returns.
#[test]
fn many_changes_of_a_directory_are_read() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watch = Watch::new(File::open(place.at("")).unwrap()).unwrap();
    poll.register(&mut watch, 1, READ);
    for round in 0..3 {
        for n in 0..60 {
            File::create(place.at(&format!("{round}{n:0200}"))).unwrap();
        }
        expect_changes(&mut poll, 1, &mut watch, FileChanges::WRITTEN);
        poll.expect_no_events();
    }
}

#[test]
fn watched_file_can_be_used_and_returned() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watch = Watch::new(File::open(place.file()).unwrap()).unwrap();
    (&*watch).seek(SeekFrom::End(0)).unwrap();
    poll.register(&mut watch, 1, READ);
    append(&place.file());
    expect_changes(&mut poll, 1, &mut watch, FileChanges::WRITTEN);
    assert_eq!(std::io::read_to_string(&*watch).unwrap(), "more");
    assert_eq!(watch.as_fd().as_raw_fd(), watch.as_raw_fd());
    // The returned file is open, and no change is reported any more.
    append(&place.file());
    let mut file = watch.into_inner();
    poll.expect_no_events();
    append(&place.file());
    poll.expect_no_events();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "moremore");
    // The file can be watched again, also borrowed.
    let mut watch = Watch::new(&file).unwrap();
    poll.register(&mut watch, 2, READ);
    overwrite(&place.file());
    expect_changes_within(&mut poll, 2, &mut watch, FileChanges::WRITTEN, FileChanges::WRITTEN);
    drop(watch);
    let mut watch = Watch::new(file.as_fd()).unwrap();
    poll.register(&mut watch, 3, READ);
    chmod(&place.file());
    expect_changes_within(&mut poll, 3, &mut watch, FileChanges::ATTRIBUTES, FileChanges::ATTRIBUTES);
}

#[test]
fn watch_opened_by_path_reports_changes() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut file = Watch::open(place.file()).unwrap();
    let mut directory = Watch::open(place.at("")).unwrap();
    poll.register(&mut file, 1, READ);
    append(&place.file());
    expect_changes(&mut poll, 1, &mut file, FileChanges::WRITTEN);
    poll.register(&mut directory, 2, READ);
    fs::remove_file(place.file()).unwrap();
    poll.expect_all(&[(1, R), (2, R)]);
    for event in &poll.events {
        let changes = if event.token() == Token(1) { file.changes(event) } else { directory.changes(event) }.unwrap();
        assert!(changes.intersects(FileChanges::DELETED | FileChanges::WRITTEN), "{changes:?}");
    }
    assert_eq!(Watch::open(place.at("nothing")).unwrap_err().kind(), ErrorKind::NotFound);
}

/// On Linux, the program needs no permission to read a file that it opens only to watch, and the open calls no driver.
#[cfg(has_inotify)]
#[test]
fn watch_opened_by_path_cannot_be_read() {
    let watch = Watch::open(Place::new().file()).unwrap();
    // SAFETY: there is room for one byte.
    let result = unsafe { libc::read(watch.as_fd().as_raw_fd(), [0_u8; 1].as_mut_ptr().cast(), 1) };
    assert_eq!((result, std::io::Error::last_os_error().raw_os_error()), (-1, Some(libc::EBADF)));
}

#[test]
fn unsupported_descriptors_and_changes_are_rejected() {
    let place = Place::new();
    let (stream, _peer) = UnixStream::pair().unwrap();
    let (_sender, receiver) = pipe::new().unwrap();
    let device = File::open("/dev/null").unwrap();
    for fd in [stream.as_fd(), receiver.as_fd(), device.as_fd()] {
        assert_eq!(Watch::new(fd).unwrap_err().kind(), ErrorKind::InvalidInput, "{fd:?}");
    }
    assert_eq!(Watch::open("/dev/null").unwrap_err().kind(), ErrorKind::InvalidInput);
    let file = File::open(place.file()).unwrap();
    for changes in
        [FileChanges::empty(), FileChanges::from_bits(0x40), FileChanges::ALL | FileChanges::from_bits(0x400)]
    {
        let error = Watch::with_changes(&file, changes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{changes:?}");
    }
    let poll = TestPoll::new();
    let mut watch = Watch::new(&file).unwrap();
    for foreign in [WRITE, Interest::AIO, Interest::PRIORITY, READ.exclusive()] {
        let error = poll.registry().register(&mut watch, Token(1), foreign).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn two_watches_of_one_file_report_independently() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watches = [(); 2].map(|()| Watch::new(File::open(place.file()).unwrap()).unwrap());
    for (token, watch) in watches.iter_mut().enumerate() {
        poll.register(watch, token, READ);
    }
    append(&place.file());
    poll.expect_all(&[(0, R), (1, R)]);
    for event in &poll.events {
        let changes = watches[event.token().0].changes(event).unwrap();
        assert!(changes.contains(FileChanges::WRITTEN), "{changes:?}");
    }
    poll.expect_no_events();
    // Dropping one watch does not end the other.
    let [first, mut second] = watches;
    drop(first);
    overwrite(&place.file());
    expect_changes_within(&mut poll, 1, &mut second, FileChanges::WRITTEN, FileChanges::WRITTEN);
    poll.deregister(&mut second);
    overwrite(&place.file());
    poll.expect_no_events();
}

/// Editors save this way: another file has the name now.
#[test]
fn file_replaced_by_rename_is_reported_as_deleted() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut old = Watch::new(File::open(place.file()).unwrap()).unwrap();
    poll.register(&mut old, 1, READ);
    fs::write(place.at("new"), b"new").unwrap();
    poll.expect_no_events();
    fs::rename(place.at("new"), place.file()).unwrap();
    let possible = FileChanges::DELETED | FileChanges::LINKED | FileChanges::ATTRIBUTES;
    expect_changes_within(&mut poll, 1, &mut old, FileChanges::DELETED, possible);
    let mut new = Watch::new(File::open(place.file()).unwrap()).unwrap();
    poll.register(&mut new, 2, READ);
    append(&place.file());
    expect_changes_within(&mut poll, 2, &mut new, FileChanges::WRITTEN, FileChanges::WRITTEN | FileChanges::EXTENDED);
    assert_eq!(std::io::read_to_string(&*old).unwrap(), "file contents");
}

/// A watch follows the open file, not the name.
#[test]
fn unlinked_file_is_watched_by_its_descriptor() {
    if is_known_failure(Check::UnlinkedFile) {
        return;
    }
    let mut poll = TestPoll::new();
    let place = Place::new();
    let file = OpenOptions::new().read(true).write(true).open(place.file()).unwrap();
    fs::remove_file(place.file()).unwrap();
    fs::write(place.file(), b"another").unwrap();
    let mut watch = Watch::new(file).unwrap();
    poll.register(&mut watch, 1, READ);
    overwrite(&place.file());
    fs::remove_file(place.file()).unwrap();
    poll.expect_no_events();
    (&*watch).write_all(b"W").unwrap();
    expect_changes_within(&mut poll, 1, &mut watch, FileChanges::WRITTEN, FileChanges::WRITTEN);
}

#[test]
fn watch_registers_in_one_poll_at_a_time() {
    let (mut poll, mut other) = (TestPoll::new(), TestPoll::new());
    let place = Place::new();
    let mut watch = Watch::new(File::open(place.file()).unwrap()).unwrap();
    // Changes before the registration are not reported.
    append(&place.file());
    for _ in 0..3 {
        let registry = poll.registry();
        assert_eq!(registry.reregister(&mut watch, Token(1), READ).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(registry.deregister(&mut watch).unwrap_err().kind(), ErrorKind::NotFound);
        poll.register(&mut watch, 1, READ);
        for registry in [poll.registry(), other.registry()] {
            let error = registry.register(&mut watch, Token(2), READ).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        }
        poll.expect_no_events();
        overwrite(&place.file());
        expect_changes_within(&mut poll, 1, &mut watch, FileChanges::WRITTEN, FileChanges::WRITTEN);
        poll.reregister(&mut watch, 2, READ);
        poll.expect_no_events();
        chmod(&place.file());
        expect_changes_within(&mut poll, 2, &mut watch, FileChanges::ATTRIBUTES, FileChanges::ATTRIBUTES);
        // Neither unreported changes nor changes after deregistering are reported.
        append(&place.file());
        poll.deregister(&mut watch);
        append(&place.file());
        poll.expect_no_events();
        std::mem::swap(&mut poll, &mut other);
    }
    other.register(&mut watch, 3, READ);
    overwrite(&place.file());
    expect_changes_within(&mut other, 3, &mut watch, FileChanges::WRITTEN, FileChanges::WRITTEN);
}

#[test]
fn watch_follows_the_trigger_mode() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    for interest in [READ, READ.level(), BOTH] {
        let mut watch = Watch::new(File::open(place.file()).unwrap()).unwrap();
        poll.register(&mut watch, 1, interest);
        overwrite(&place.file());
        // The change is reported once, read or unread.
        poll.expect(1, R);
        let event = poll.events.iter().next().unwrap().clone();
        poll.expect_no_events();
        assert_eq!(watch.changes(&event).unwrap(), FileChanges::WRITTEN);
        poll.expect_no_events();
        overwrite(&place.file());
        expect_changes_within(&mut poll, 1, &mut watch, FileChanges::WRITTEN, FileChanges::WRITTEN);
    }
    let mut watch = Watch::new(File::open(place.file()).unwrap()).unwrap();
    poll.register(&mut watch, 1, READ.oneshot());
    overwrite(&place.file());
    expect_changes_within(&mut poll, 1, &mut watch, FileChanges::WRITTEN, FileChanges::WRITTEN);
    chmod(&place.file());
    poll.expect_no_events();
    poll.reregister(&mut watch, 2, READ);
    overwrite(&place.file());
    expect_changes(&mut poll, 2, &mut watch, FileChanges::WRITTEN);
    for _ in 0..2 {
        poll.reregister(&mut watch, 3, Interest::NONE);
        overwrite(&place.file());
        poll.expect_no_events();
        poll.reregister(&mut watch, 4, READ);
        overwrite(&place.file());
        expect_changes_within(&mut poll, 4, &mut watch, FileChanges::WRITTEN, FileChanges::WRITTEN);
    }
}

#[test]
fn event_of_another_source_is_rejected() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watch = Watch::new(File::open(place.file()).unwrap()).unwrap();
    poll.register(&mut watch, 1, READ);
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 2, READ);
    b.write_all(b"x").unwrap();
    poll.expect(2, R);
    assert_eq!(a.read(&mut [0; 4]).unwrap(), 1);
    let event = poll.events.iter().next().unwrap().clone();
    assert_eq!(watch.changes(&event).unwrap_err().kind(), ErrorKind::InvalidInput);
    // An event of the watch itself is rejected after deregistering.
    overwrite(&place.file());
    poll.expect(1, R);
    let event = poll.events.iter().next().unwrap().clone();
    poll.deregister(&mut watch);
    assert_eq!(watch.changes(&event).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn dropped_watch_reports_nothing() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let file = File::open(place.file()).unwrap();
    // The same descriptor several times, and other descriptors with its number.
    for token in 0..3 {
        let mut borrowed = Watch::new(&file).unwrap();
        poll.register(&mut borrowed, token, READ);
        overwrite(&place.file());
        drop(borrowed);
        poll.expect_no_events();
        let mut owned = Watch::new(File::open(place.file()).unwrap()).unwrap();
        poll.register(&mut owned, token, READ);
        overwrite(&place.file());
        drop(owned);
        overwrite(&place.file());
        poll.expect_no_events();
    }
    // A watch that outlives its poll.
    let mut watch = Watch::new(file).unwrap();
    let dropped = Poll::new().unwrap();
    dropped.registry().register(&mut watch, Token(1), READ).unwrap();
    drop(dropped);
    poll.register(&mut watch, 2, READ);
    overwrite(&place.file());
    expect_changes_within(&mut poll, 2, &mut watch, FileChanges::WRITTEN, FileChanges::WRITTEN);
    append(&place.file());
    fs::remove_file(place.file()).unwrap();
    expect_changes(&mut poll, 2, &mut watch, FileChanges::WRITTEN | FileChanges::DELETED);
}

#[test]
fn batch_changes_watches() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watches: Vec<_> = (0..5).map(|_| Watch::open(place.file()).unwrap()).collect();
    let mut batch = Batch::new();
    for (token, watch) in watches.iter_mut().enumerate() {
        batch.register(watch, Token(token), READ);
    }
    assert!(poll.registry().submit(batch).iter().all(Result::is_ok));
    append(&place.file());
    poll.expect_all(&[(0, R), (1, R), (2, R), (3, R), (4, R)]);
    for event in &poll.events {
        assert!(watches[event.token().0].changes(event).unwrap().contains(FileChanges::WRITTEN));
    }
    let mut batch = Batch::new();
    for watch in &mut watches {
        batch.deregister(watch);
    }
    assert!(poll.registry().submit(batch).iter().all(Result::is_ok));
    append(&place.file());
    poll.expect_no_events();
}

/// A watch, other registrations and a later registration of the same number are independent.
#[test]
fn watch_is_independent_of_other_registrations() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, BOTH.oneshot());
    let mut watch = Watch::open(place.file()).unwrap();
    poll.register(&mut watch, 2, READ);
    poll.expect(1, W);
    b.write_all(b"x").unwrap();
    overwrite(&place.file());
    expect_changes_within(&mut poll, 2, &mut watch, FileChanges::WRITTEN, FileChanges::WRITTEN);
    poll.deregister(&mut watch);
    let fd: OwnedFd = watch.into_inner();
    drop(fd);
    poll.reregister(&mut a, 1, READ.oneshot());
    poll.expect(1, R);
}

/// Returns `true` if inotify reports the changes, to kevio or to libkqueue.
fn is_inotify() -> bool {
    BACKEND != Backend::Kqueue || is_libkqueue()
}

/// Returns a registered watch of all changes.
fn watched(poll: &TestPoll, path: &Path) -> Watch<OwnedFd> {
    let mut watch = Watch::open(path).unwrap();
    poll.register(&mut watch, 1, READ);
    watch
}

#[test]
fn descriptor_watched_twice_fails_on_kqueue_only() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let file = File::open(place.file()).unwrap();
    let mut first = Watch::with_changes(&file, FileChanges::WRITTEN).unwrap();
    let mut second = Watch::with_changes(&file, FileChanges::RENAMED).unwrap();
    poll.register(&mut first, 1, READ);
    let result = poll.registry().register(&mut second, Token(2), READ);
    if BACKEND == Backend::Kqueue {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::AlreadyExists);
        drop(first);
        poll.register(&mut second, 2, READ);
    } else {
        result.unwrap();
        overwrite(&place.file());
        expect_changes(&mut poll, 1, &mut first, FileChanges::WRITTEN);
    }
    fs::rename(place.file(), place.at("name")).unwrap();
    expect_changes_within(&mut poll, 2, &mut second, FileChanges::RENAMED, FileChanges::RENAMED);
}

#[test]
fn growing_file_is_extended_except_on_apple() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watch = watched(&poll, &place.file());
    append(&place.file());
    let changes = expect_changes(&mut poll, 1, &mut watch, FileChanges::WRITTEN);
    assert_eq!(
        changes.contains(FileChanges::EXTENDED),
        !(BACKEND == Backend::Kqueue && cfg!(target_vendor = "apple")),
        "{changes:?}"
    );
}

#[test]
fn truncated_file_is_written_or_attributes() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watch = watched(&poll, &place.file());
    OpenOptions::new().write(true).open(place.file()).unwrap().set_len(1).unwrap();
    let change = if is_inotify() { FileChanges::WRITTEN } else { FileChanges::ATTRIBUTES };
    expect_changes_within(&mut poll, 1, &mut watch, change, change);
}

#[test]
fn link_count_change_is_linked_or_deleted() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watch = watched(&poll, &place.file());
    let attributes = if is_inotify() { FileChanges::ATTRIBUTES } else { FileChanges::empty() };
    fs::hard_link(place.file(), place.at("link")).unwrap();
    expect_changes_within(&mut poll, 1, &mut watch, FileChanges::LINKED | attributes, FileChanges::LINKED | attributes);
    fs::remove_file(place.at("link")).unwrap();
    let change = if is_inotify() { FileChanges::LINKED } else { FileChanges::DELETED };
    expect_changes_within(&mut poll, 1, &mut watch, change | attributes, change | attributes | FileChanges::LINKED);
}

#[test]
fn removed_directory_is_deleted_except_on_inotify() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    for name in ["directory", "other"] {
        fs::create_dir(place.at(name)).unwrap();
    }
    let mut watch = watched(&poll, &place.at("directory"));
    // Another directory replaces the directory.
    fs::rename(place.at("other"), place.at("directory")).unwrap();
    expect_changes(&mut poll, 1, &mut watch, FileChanges::DELETED);
    let mut watch = watched(&poll, &place.at("directory"));
    fs::remove_dir(place.at("directory")).unwrap();
    if is_inotify() {
        poll.expect_no_events();
    } else {
        expect_changes(&mut poll, 1, &mut watch, FileChanges::DELETED);
    }
}

#[test]
fn change_of_a_file_in_a_directory_makes_no_event() {
    if is_known_failure(Check::FilesInDirectory) {
        return;
    }
    let mut poll = TestPoll::new();
    let place = Place::new();
    let _watch = watched(&poll, &place.at(""));
    append(&place.file());
    poll.expect_no_events();
    chmod(&place.file());
    poll.expect_no_events();
}

#[test]
fn change_while_disarmed_is_reported_after_reregistration() {
    if is_known_failure(Check::ChangesBeforeReregistration) {
        return;
    }
    let mut poll = TestPoll::new();
    let place = Place::new();
    for interest in [READ.oneshot(), Interest::NONE] {
        let mut watch = Watch::open(place.file()).unwrap();
        poll.register(&mut watch, 1, interest);
        if interest.is_oneshot() {
            overwrite(&place.file());
            expect_changes(&mut poll, 1, &mut watch, FileChanges::WRITTEN);
        }
        chmod(&place.file());
        poll.expect_no_events();
        poll.reregister(&mut watch, 1, READ);
        expect_changes_within(&mut poll, 1, &mut watch, FileChanges::ATTRIBUTES, FileChanges::ATTRIBUTES);
    }
}

#[test]
fn change_before_a_reregistration_is_reported_after_it() {
    if is_known_failure(Check::ChangesBeforeReregistration) {
        return;
    }
    let modes = [READ, READ.oneshot(), Interest::NONE];
    for (before, after) in modes.into_iter().flat_map(|before| modes.map(|after| (before, after))) {
        let mut poll = TestPoll::new();
        let place = Place::new();
        let mut watch = Watch::open(place.file()).unwrap();
        poll.register(&mut watch, 1, before);
        overwrite(&place.file());
        poll.reregister(&mut watch, 2, after);
        if after.is_none() {
            poll.expect_no_events();
            chmod(&place.file());
            poll.reregister(&mut watch, 3, READ);
            let both = FileChanges::WRITTEN | FileChanges::ATTRIBUTES;
            expect_changes_within(&mut poll, 3, &mut watch, both, both);
        } else {
            expect_changes_within(&mut poll, 2, &mut watch, FileChanges::WRITTEN, FileChanges::WRITTEN);
        }
        // A reregistration without changes reports nothing.
        poll.reregister(&mut watch, 4, READ);
        poll.expect_no_events();
    }
}

/// A change that arrives while the one event is delivered, or later, is reported by the next registration.
#[test]
fn oneshot_watch_loses_no_change_between_its_events() {
    if is_known_failure(Check::ChangesBeforeReregistration) {
        return;
    }
    let mut poll = TestPoll::new();
    let place = Place::new();
    let (file, mut watch) = (place.file(), Watch::open(place.file()).unwrap());
    poll.register(&mut watch, 0, READ.oneshot());
    let writer = std::thread::spawn(move || {
        for size in 1..=2000 {
            OpenOptions::new().write(true).open(&file).unwrap().set_len(size).unwrap();
        }
        fs::remove_file(&file).unwrap();
    });
    let (mut changes, mut token) = (FileChanges::empty(), 0);
    while !changes.contains(FileChanges::DELETED) {
        poll.expect(token, R);
        assert_eq!(poll.events.len(), 1, "{:?}", poll.events);
        changes |= watch.changes(poll.events.iter().next().unwrap()).unwrap();
        token += 1;
        poll.reregister(&mut watch, token, READ.oneshot());
    }
    writer.join().unwrap();
}

#[test]
fn watch_of_a_watched_file_reports_only_later_changes() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut first = Watch::open(place.file()).unwrap();
    poll.register(&mut first, 1, READ);
    append(&place.file());
    let mut second = Watch::with_changes(File::open(place.file()).unwrap(), FileChanges::RENAMED).unwrap();
    let mut third = Watch::open(place.file()).unwrap();
    poll.register(&mut second, 2, READ);
    poll.register(&mut third, 3, READ);
    expect_changes_within(&mut poll, 1, &mut first, FileChanges::WRITTEN, FileChanges::ALL);
    // The watch of fewer changes stays with those, also if the others end.
    drop(first);
    chmod(&place.file());
    expect_changes_within(&mut poll, 3, &mut third, FileChanges::ATTRIBUTES, FileChanges::ATTRIBUTES);
    drop(third);
    chmod(&place.file());
    poll.expect_no_events();
    fs::rename(place.file(), place.at("name")).unwrap();
    expect_changes_within(&mut poll, 2, &mut second, FileChanges::RENAMED, FileChanges::RENAMED);
}

#[test]
fn watches_end_in_any_order_and_begin_again() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watches: Vec<_> = (0..4).map(|_| Watch::open(place.file()).unwrap()).collect();
    for ended in [0, 3, 1, 2, 2, 0] {
        for (token, watch) in watches.iter_mut().enumerate() {
            poll.register(watch, token, READ);
        }
        overwrite(&place.file());
        poll.deregister(&mut watches[ended]);
        for token in poll.drain_events().into_keys() {
            assert_ne!(token, ended);
        }
        poll.register(&mut watches[ended], 9, READ);
        poll.expect_no_events();
        chmod(&place.file());
        let reported: Vec<_> = (0..4).filter(|&token| token != ended).chain([9]).map(|token| (token, R)).collect();
        poll.expect_all(&reported);
        for watch in &mut watches {
            poll.deregister(watch);
        }
        poll.expect_no_events();
    }
}

#[test]
fn change_beside_an_unread_one_is_reported() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let _watch = watched(&poll, &place.file());
    overwrite(&place.file());
    poll.expect(1, R);
    for change in [overwrite, overwrite, chmod] {
        change(&place.file());
        poll.expect(1, R);
    }
    poll.expect_no_events();
}

/// A reregistration wakes the poll of another thread, but is no event.
#[test]
fn reregistration_does_not_end_the_wait_of_another_thread() {
    let mut poll = TestPoll::new();
    let place = Place::new();
    let mut watch = Watch::open(place.file()).unwrap();
    poll.register(&mut watch, 1, READ);
    let (registry, is_over) = (poll.registry().try_clone().unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                registry.reregister(&mut watch, Token(1), READ).unwrap();
            }
        });
        for _ in 0..20 {
            let (start, timeout) = (Instant::now(), Duration::from_millis(10));
            poll.inner.poll(&mut poll.events, Some(timeout)).unwrap();
            assert!(poll.events.is_empty() && start.elapsed() >= timeout, "{:?}", poll.events);
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

/// A reregistration with another token comes before or after the event, and takes no change from the program.
#[test]
fn reregistration_beside_a_poll_loses_no_change() {
    if is_known_failure(Check::ChangesBeforeReregistration) {
        return;
    }
    let mut poll = TestPoll::new();
    let place = Place::new();
    let watch = Mutex::new(Watch::open(place.file()).unwrap());
    poll.register(&mut *watch.lock().unwrap(), 0, READ);
    let registry = poll.registry().try_clone().unwrap();
    let (seen, is_over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                poll.inner.poll(&mut poll.events, Some(Duration::ZERO)).unwrap();
                for event in &poll.events {
                    // An event with the token before belongs to no registration any more, and has no changes.
                    if watch.lock().unwrap().changes(event).is_ok_and(|changes| !changes.is_empty()) {
                        seen.fetch_add(1, Ordering::SeqCst);
                    }
                }
            }
        });
        for round in 1..2000 {
            let before = seen.load(Ordering::SeqCst);
            append(&place.file());
            for _ in 0..round * 7 % 400 {
                std::hint::spin_loop();
            }
            registry.reregister(&mut *watch.lock().unwrap(), Token(round), READ).unwrap();
            // On kqueue the kernel hands the change to a poll, whose event then has the token before.
            let deadline = Instant::now() + Duration::from_secs(if BACKEND == Backend::Kqueue { 0 } else { 10 });
            while seen.load(Ordering::SeqCst) == before && Instant::now() < deadline {
                std::thread::yield_now();
            }
            let is_lost = BACKEND != Backend::Kqueue && seen.load(Ordering::SeqCst) == before;
            is_over.store(is_lost || round == 1999, Ordering::Relaxed);
            assert!(!is_lost, "round {round}");
        }
    });
}

/// The events of a small buffer come later than the changes. A write is reported as written before it is reported as extended.
#[test]
fn extended_file_is_reported_as_written_too() {
    let mut poll = TestPoll::with_capacity(1);
    let places = [(); 3].map(|()| Place::new());
    let mut watches: Vec<_> = places.iter().map(|place| Watch::open(place.file()).unwrap()).collect();
    for (token, watch) in watches.iter_mut().enumerate() {
        poll.register(watch, token, READ);
    }
    places.iter().for_each(|place| chmod(&place.file()));
    let mut all = [FileChanges::empty(); 3];
    for round in 0.. {
        if poll.poll_once(Some(Duration::ZERO)).is_empty() && round > 3 {
            break;
        }
        for event in &poll.events {
            let changes = watches[event.token().0].changes(event).unwrap();
            let is_written = changes.contains(FileChanges::WRITTEN);
            assert!(is_written || !changes.contains(FileChanges::EXTENDED), "{changes:?}");
            all[event.token().0] |= changes;
        }
        if round == 0 {
            places.iter().for_each(|place| append(&place.file()));
        }
    }
    assert!(all.iter().all(|changes| changes.contains(FileChanges::WRITTEN | FileChanges::ATTRIBUTES)), "{all:?}");
}
