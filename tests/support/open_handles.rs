//! The number of open handles of this process, in place of the open descriptors of Unix.

use std::thread;
use std::time::{Duration, Instant};

/// The pool of the system opens handles for its threads, and closes them when a thread ends.
const OF_THE_SYSTEM: u32 = 40;

extern "system" {
    fn GetCurrentProcess() -> *mut u8;
    fn GetProcessHandleCount(process: *mut u8, count: *mut u32) -> i32;
}

/// Returns the number of open handles.
pub fn open_files() -> u32 {
    let mut count = 0;
    // SAFETY: the handle stands for this process, and the function writes one number.
    assert_ne!(unsafe { GetProcessHandleCount(GetCurrentProcess(), &mut count) }, 0);
    count
}

/// Fails if more handles are open than those of `before`, and those that the system itself may open. A caller repeats its
/// operation often, so that a handle that is left open each time is detected. A canceled operation keeps its handle until the
/// kernel has ended it, so that the check is repeated for some time.
#[track_caller]
pub fn assert_no_more(before: &u32, context: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while open_files() > before + OF_THE_SYSTEM && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
    let after = open_files();
    assert!(after <= before + OF_THE_SYSTEM, "{context}: {before} handles before, {after} after");
}
