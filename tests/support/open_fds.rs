//! The open descriptors of this process, and the file of each.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::thread;
use std::time::{Duration, Instant};

use super::known_failures::is_libkqueue;

/// Device, inode and mode. A file that has no inode of its own, such as an eventfd on Linux, differs by its number only.
pub type FileId = (u64, u64, u32);

/// The tests have far fewer descriptors, and the kernel assigns the lowest numbers.
const MAX_FD: RawFd = 1024;

/// Returns the file of a descriptor; `None` if the descriptor is closed.
pub fn file_id(fd: RawFd) -> Option<FileId> {
    // SAFETY: the kernel writes one `stat`, which is integers, and there is room for it.
    let stat = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::fstat(fd, &mut stat) == 0).then_some(stat)
    };
    #[allow(clippy::unnecessary_cast)] // The fields' types differ from system to system.
    stat.map(|stat| (stat.st_dev as u64, stat.st_ino as u64, stat.st_mode as u32))
}

/// Returns all open descriptors. Each number is probed, because /dev/fd is not complete on every system, and because listing
/// /dev/fd opens a descriptor.
pub fn open_files() -> BTreeMap<RawFd, FileId> {
    (0..MAX_FD).filter_map(|fd| Some((fd, file_id(fd)?))).collect()
}

/// Fails if the open descriptors differ from those of `before`.
#[track_caller]
pub fn assert_same(before: &BTreeMap<RawFd, FileId>, context: &str) {
    wait_for_libkqueue(|| open_files() == *before);
    let after = open_files();
    let missing = |files: &BTreeMap<RawFd, FileId>, others: &BTreeMap<RawFd, FileId>| {
        files.clone().into_iter().filter(|(fd, file)| others.get(fd) != Some(file)).collect::<Vec<_>>()
    };
    assert!(after == *before, "{context}: opened {:?}, closed {:?}", missing(&after, before), missing(before, &after));
}

/// Fails if more descriptors are open than those of `before`. Their numbers may be others.
#[track_caller]
pub fn assert_no_more(before: &BTreeMap<RawFd, FileId>, context: &str) {
    // libkqueue keeps the descriptors of the last queues until others are closed.
    let max = before.len() + if is_libkqueue() { 16 } else { 0 };
    wait_for_libkqueue(|| open_files().len() <= max);
    let after = open_files().len();
    assert!(after <= max, "{context}: {} descriptors before, {after} after", before.len());
}

/// Waits for a state on libkqueue, which closes the descriptors of a closed queue later, in a thread of its own.
fn wait_for_libkqueue(is_over: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while is_libkqueue() && !is_over() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}
