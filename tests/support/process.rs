//! Processes and threads of tests, and tests that must not run at the same time.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

#[cfg(unix)]
pub use super::forked::*;

/// Blocks until no other test of this process holds the guard.
pub fn run_alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f` while each function of `repeated` is called repeatedly, in a thread of its own. Ends the threads even if `f` panics.
pub fn while_threads_repeat<const N: usize>(repeated: [impl FnMut() + Send; N], f: impl FnOnce()) {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for mut repeat in repeated {
            let is_over = &is_over;
            scope.spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    repeat();
                }
            });
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        is_over.store(true, Ordering::Relaxed);
        result.unwrap();
    });
}

/// Runs a test again in a process of its own, and fails if the test fails there. Returns `true` in that process.
///
/// For a test whose forked child starts threads. A test that ends holds a lock of std for a moment, and so does one that begins.
/// If another test forks then, the lock stays locked in the child, and a new thread of the child blocks before its first line.
#[track_caller]
pub fn is_in_own_process<T>(test: T) -> bool {
    const VARIABLE: &str = "KEVIO_TEST_OWN_PROCESS";
    if std::env::var_os(VARIABLE).is_some() {
        return true;
    }
    let mut program = Command::new(std::env::args_os().next().unwrap());
    expect_passed(&program.args(["--exact", test_name(test)]).env(VARIABLE, "1").output().unwrap());
    false
}

/// Fails unless a test binary has run one test, which has passed.
#[track_caller]
pub fn expect_passed(output: &Output) {
    let [printed, errors] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text));
    assert!(output.status.success() && printed.contains("1 passed"), "{printed}{errors}");
}

/// Returns the name of a test, by which its binary runs only this test.
pub fn test_name<T>(_: T) -> &'static str {
    let path = std::any::type_name::<T>();
    path.split_once("::").map_or(path, |(_, name)| name)
}
