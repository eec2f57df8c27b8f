//! Which descriptors this process has open, and what each stands for.
#![allow(dead_code)] // Not every test asks all of it.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::thread;
use std::time::{Duration, Instant};

/// Device, inode and mode. Without an inode of its own, as an eventfd on Linux, a file is told by its number alone.
pub type Identity = (u64, u64, u32);

/// The tests that ask have far fewer descriptors, and those are numbered from below.
const MOST: RawFd = 1024;

pub fn identity(fd: RawFd) -> Option<Identity> {
    // SAFETY: the kernel writes one `stat`, which is integers, and there is room for it.
    let stat = unsafe {
        let mut stat: libc::stat = std::mem::zeroed();
        (libc::fstat(fd, &mut stat) == 0).then_some(stat)
    };
    #[allow(clippy::unnecessary_cast)] // The fields' types differ from system to system.
    stat.map(|stat| (stat.st_dev as u64, stat.st_ino as u64, stat.st_mode as u32))
}

/// Asked of each number: /dev/fd is not complete everywhere, and listing it opens a descriptor.
pub fn files() -> BTreeMap<RawFd, Identity> {
    (0..MOST).filter_map(|fd| Some((fd, identity(fd)?))).collect()
}

/// What is open is what was open `before`. libkqueue closes the descriptors of a closed queue later, in a thread of its
/// own; it is waited for, and nobody else.
#[track_caller]
pub fn assert_same(before: &BTreeMap<RawFd, Identity>, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    let is_late = kevio::BACKEND == kevio::Backend::Kqueue && cfg!(target_os = "linux");
    while is_late && files() != *before && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let now = files();
    let of_one = |some: &BTreeMap<RawFd, Identity>, others: &BTreeMap<RawFd, Identity>| {
        some.clone().into_iter().filter(|(fd, file)| others.get(fd) != Some(file)).collect::<Vec<_>>()
    };
    assert!(now == *before, "{what}: more are {:?}, fewer are {:?}", of_one(&now, before), of_one(before, &now));
}
