//! Watches in unusual surroundings: thousands of them, lost changes, other descriptor tables, missing directories.
//!
//! These tests change limits and namespaces of the process or of a thread, so that they do not run beside the suite.
#![cfg(unix)]
#![cfg(uses_inotify)]

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use kevio::{FileChanges, Interest, Poll, Token, Watch};

mod support;

use support::open_fds;
use support::poll::{TestPoll, READ};
use support::process::{in_a_child, is_in_own_process, run_alone};
use support::readiness::R;

fn overwrite(path: &Path) {
    fs::write(path, b"written").unwrap();
}

/// Returns the changes of the events of one poll for `token`.
fn changes_of<T: AsFd>(poll: &TestPoll, token: usize, watch: &Watch<T>) -> FileChanges {
    let events = poll.events.iter().filter(|event| event.token() == Token(token));
    events.fold(FileChanges::empty(), |all, event| all | watch.changes(event).unwrap())
}

#[test]
fn thousands_of_watches_share_one_descriptor() {
    const WATCHES: usize = 5000;

    let _alone = run_alone();
    let directory = tempfile::tempdir().unwrap();
    let limit = support::limits::raise_fd_limit(WATCHES + 100);
    let count = WATCHES.min(limit - 100);
    let paths: Vec<_> = (0..count).map(|n| directory.path().join(n.to_string())).collect();
    paths.iter().for_each(|path| overwrite(path));
    let mut watches: Vec<_> = paths.iter().map(|path| Watch::open(path).unwrap()).collect();
    let mut poll = TestPoll::with_capacity(count);
    poll.register(&mut watches[0], 0, READ);
    let before = open_fds::open_files();
    for (token, watch) in watches.iter_mut().enumerate().skip(1) {
        poll.register(watch, token, READ);
    }
    assert_eq!(open_fds::open_files(), before, "a watch has opened a descriptor");
    for path in &paths {
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
    let mut reported = vec![FileChanges::empty(); count];
    while reported.contains(&FileChanges::empty()) {
        poll.inner.poll(&mut poll.events, Some(Duration::from_secs(30))).unwrap();
        assert!(!poll.events.is_empty(), "changes were lost");
        for event in &poll.events {
            reported[event.token().0] |= watches[event.token().0].changes(event).unwrap();
        }
    }
    assert!(reported.iter().all(|&changes| changes == FileChanges::ATTRIBUTES));
    // Every other watch is dropped, and is silent.
    for token in (0..count).rev().step_by(2) {
        drop(watches.swap_remove(token));
    }
    paths.iter().for_each(|path| fs::remove_file(path).unwrap());
    let mut deleted = 0;
    while deleted < watches.len() {
        poll.inner.poll(&mut poll.events, Some(Duration::from_secs(30))).unwrap();
        assert!(!poll.events.is_empty(), "changes were lost");
        deleted += poll.events.iter().count();
    }
    assert_eq!(deleted, watches.len());
}

#[test]
fn overflow_is_reported_as_rescan_to_every_watch() {
    let _alone = run_alone();
    let max_queued: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let paths = ["busy", "quiet", "renamed"].map(|name| directory.path().join(name));
    paths.iter().for_each(|path| overwrite(path));
    let mut poll = TestPoll::new();
    let mut watches = [0, 1, 2].map(|token| {
        let changes = if token == 2 { FileChanges::RENAMED } else { FileChanges::ALL };
        Watch::with_changes(File::open(&paths[token]).unwrap(), changes).unwrap()
    });
    for (token, watch) in watches.iter_mut().enumerate() {
        poll.register(watch, token, READ);
    }
    let mut disabled = Watch::open(&paths[1]).unwrap();
    poll.register(&mut disabled, 3, Interest::NONE);
    for round in 0..2 {
        let file = OpenOptions::new().write(true).open(&paths[0]).unwrap();
        // The kernel merges two equal events in a row.
        for n in 0..max_queued {
            file.set_len(n as u64 % 7).unwrap();
            file.set_permissions(Permissions::from_mode(0o600)).unwrap();
        }
        let mut seen = [FileChanges::empty(); 3];
        while !poll.poll_once(Some(Duration::ZERO)).is_empty() {
            for event in &poll.events {
                let changes = watches[event.token().0].changes(event).unwrap();
                assert!(changes == FileChanges::RESCAN || !changes.contains(FileChanges::RESCAN), "{changes:?}");
                seen[event.token().0] |= changes;
            }
        }
        // The first part of the changes may have been read before the overflow.
        assert!(seen[0].contains(FileChanges::RESCAN), "round {round}: {seen:?}");
        assert_eq!(seen[1..], [FileChanges::RESCAN; 2], "round {round}");
        poll.reregister(&mut disabled, 3, READ);
        poll.expect(3, R);
        assert_eq!(changes_of(&poll, 3, &disabled), FileChanges::RESCAN);
        poll.reregister(&mut disabled, 3, Interest::NONE);
        poll.expect_no_events();
        // Afterwards changes are reported as before.
        file.set_permissions(Permissions::from_mode(0o644)).unwrap();
        poll.expect(0, R);
        assert_eq!(changes_of(&poll, 0, &watches[0]), FileChanges::ATTRIBUTES);
        poll.expect_no_events();
    }
}

/// A thread with a descriptor table of its own: the number of its file is that of another file in the first thread.
#[test]
fn watch_in_a_thread_with_its_own_descriptors_watches_its_file() {
    let _alone = run_alone();
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = (directory.path().join("ours"), directory.path().join("theirs"));
    overwrite(&ours);
    overwrite(&theirs);
    let their_file = File::open(&theirs).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // SAFETY: no pointers. The thread has a copy of the table from now on, and closes none of the inherited numbers but
            // one.
            assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
            let opened = File::open(&ours).unwrap();
            // SAFETY: as above. The number is that of the other file, and is closed in this thread's table only.
            let ours_with_their_number = unsafe {
                assert_eq!(libc::dup2(opened.as_raw_fd(), their_file.as_raw_fd()), their_file.as_raw_fd());
                std::mem::ManuallyDrop::new(OwnedFd::from_raw_fd(their_file.as_raw_fd()))
            };
            let mut poll = TestPoll::new();
            let mut watch = Watch::new(ours_with_their_number.as_fd()).unwrap();
            poll.register(&mut watch, 1, READ);
            overwrite(&theirs);
            poll.expect_no_events();
            fs::OpenOptions::new().append(true).open(&ours).unwrap().set_len(100).unwrap();
            poll.expect(1, R);
            let changes = changes_of(&poll, 1, &watch);
            assert_eq!(changes, FileChanges::WRITTEN | FileChanges::EXTENDED);
        });
    });
}

#[test]
fn missing_proc_is_an_error_with_its_reason() {
    let _alone = run_alone();
    let directory = tempfile::tempdir().unwrap();
    let root = std::ffi::CString::new(directory.path().to_str().unwrap()).unwrap();
    overwrite(&directory.path().join("file"));
    in_a_child(|| {
        // SAFETY: the path ends with a zero.
        if unsafe { libc::chroot(root.as_ptr()) } != 0 {
            // Only the superuser may change the root.
            return;
        }
        let poll = Poll::new().unwrap();
        let mut watch = Watch::open("/file").unwrap();
        let error = poll.registry().register(&mut watch, Token(1), READ).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("/proc"), "{error}");
        assert!(!watch.is_registered());
    });
}

#[test]
fn file_whose_changes_the_kernel_does_not_report_is_rejected() {
    let _alone = run_alone();
    for path in ["/proc/self/status", "/proc", "/proc/sys/kernel/hostname", "/sys/kernel", "/sys/kernel/uevent_seqnum"]
    {
        match Watch::open(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            result => assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported, "{path}"),
        }
    }
    // SAFETY: the name ends with a zero.
    let memory = unsafe { libc::syscall(libc::SYS_memfd_create, b"memory\0".as_ptr(), libc::MFD_CLOEXEC) };
    assert!(memory >= 0);
    // SAFETY: the kernel has just made this descriptor, and it has no other owner.
    let memory = unsafe { OwnedFd::from_raw_fd(memory as libc::c_int) };
    assert_eq!(Watch::new(&memory).unwrap_err().kind(), ErrorKind::Unsupported);
    // A file without a name is no file in memory.
    let mut watch = Watch::new(tempfile::tempfile().unwrap()).unwrap();
    let mut poll = TestPoll::new();
    poll.register(&mut watch, 1, READ);
    watch.set_len(10).unwrap();
    poll.expect(1, R);
    assert!(changes_of(&poll, 1, &watch).contains(FileChanges::EXTENDED));
}

/// More irrelevant events than one buffer, and behind them a change. An outer loop that is edge-triggered polls until there is no
/// event, so that the first poll must return the change.
#[cfg(selector_has_fd)]
#[test]
fn change_behind_many_other_events_is_reported_at_once() {
    let _alone = run_alone();
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..7000).map(|n| directory.path().join(format!("file-number-{n:05}"))).collect();
    paths.iter().for_each(|path| overwrite(path));
    let mut inner = TestPoll::new();
    let mut watch = Watch::open(directory.path()).unwrap();
    inner.register(&mut watch, 1, READ);
    let descriptor = inner.inner.as_raw_fd();
    for path in &paths {
        fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
    }
    overwrite(&directory.path().join("new"));
    assert!(support::poll::is_readable(descriptor, Duration::from_secs(10)));
    assert!(inner.poll_once(Some(Duration::ZERO)).contains_key(&1));
    assert!(changes_of(&inner, 1, &watch).contains(FileChanges::WRITTEN));
}

/// The polling thread does not have the descriptors of the other thread, so that it must not read them.
#[test]
fn watch_of_a_thread_with_its_own_descriptors_takes_no_data_of_another_file() {
    let _alone = run_alone();
    if !is_in_own_process(watch_of_a_thread_with_its_own_descriptors_takes_no_data_of_another_file) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    for has_queue in [false, true] {
        overwrite(&path);
        in_a_child(|| {
            let mut poll = TestPoll::new();
            let mut first = Watch::open(directory.path()).unwrap();
            if has_queue {
                poll.register(&mut first, 1, READ);
            }
            let registry = poll.registry().try_clone().unwrap();
            let watch = std::thread::scope(|scope| {
                let register = scope.spawn(|| {
                    // SAFETY: no pointers. The thread has a copy of the table from now on.
                    assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
                    let mut watch = Watch::open(&path).unwrap();
                    // On poll(2) the table of the first thread counts, as for every source.
                    registry.register(&mut watch, Token(2), READ).map(|()| watch)
                });
                register.join().unwrap()
            });
            let mut streams: Vec<_> = (0..8).map(|_| std::os::unix::net::UnixStream::pair().unwrap()).collect();
            for (a, b) in &mut streams {
                a.write_all(b"data").unwrap();
                b.write_all(b"data").unwrap();
            }
            OpenOptions::new().append(true).open(&path).unwrap().set_len(1000).unwrap();
            fs::remove_file(&path).unwrap();
            let mut changes = FileChanges::empty();
            for _ in 0..10 {
                let polled = poll.inner.poll(&mut poll.events, Some(Duration::from_millis(5)));
                let watch = watch.as_ref().map(|watch| changes_of(&poll, 2, watch));
                changes |= watch.unwrap_or(FileChanges::empty());
                assert!(polled.is_ok() || !has_queue, "{polled:?}");
            }
            for (a, b) in &mut streams {
                for stream in [a, b] {
                    stream.set_nonblocking(true).unwrap();
                    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 4);
                }
            }
            // The number of links is not known.
            assert!(!has_queue || changes.contains(FileChanges::RESCAN), "{changes:?}");
            std::mem::forget((first, watch));
        });
    }
}

/// A forked child that drops its copies keeps no descriptor of the parent's queue open.
#[test]
fn child_that_drops_a_watch_and_its_poll_closes_their_descriptors() {
    let _alone = run_alone();
    let directory = tempfile::tempdir().unwrap();
    let before = open_fds::open_files();
    let poll = Poll::new().unwrap();
    let mut watch = Watch::open(directory.path()).unwrap();
    poll.registry().register(&mut watch, Token(1), READ).unwrap();
    let mut inherited = Some((poll, watch));
    in_a_child(|| {
        drop(inherited.take());
        open_fds::assert_same(&before, "a descriptor of the parent is open");
    });
}

/// Another thread shares the queue while this one reads changes. From then on, a wake makes the queue readable.
#[cfg(selector_has_fd)]
#[test]
fn wake_after_a_queue_was_shared_beside_a_poll_makes_the_queue_readable() {
    let _alone = run_alone();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    overwrite(&path);
    for round in 0..support::repetitions(2000, 4) {
        let mut poll = TestPoll::new();
        let waker = kevio::Waker::new(poll.registry(), Token(7)).unwrap();
        let mut watch = Watch::open(&path).unwrap();
        poll.register(&mut watch, 1, READ);
        overwrite(&path);
        let registry = poll.registry().try_clone().unwrap();
        let is_ready = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                is_ready.store(true, std::sync::atomic::Ordering::SeqCst);
                for _ in 0..round * 37 % 300 {
                    std::hint::spin_loop();
                }
                registry.as_raw_fd();
            });
            while !is_ready.load(std::sync::atomic::Ordering::SeqCst) {
                std::thread::yield_now();
            }
            poll.poll_once(Some(Duration::ZERO));
        });
        waker.wake().unwrap();
        assert!(support::poll::is_readable(poll.inner.as_raw_fd(), Duration::from_secs(10)), "round {round}");
    }
}
