//! Forked children, and tests that must not run at the same time.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longer than a child of any test runs.
const CHILD_TIMEOUT: Duration = Duration::from_secs(60);

/// Blocks until no other test of this process holds the guard.
pub fn run_alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `f` in a forked child, and fails if the child does not succeed.
#[track_caller]
pub fn in_a_child(f: impl FnOnce()) {
    assert_eq!(status_of_child(f), 0, "the child failed");
}

/// Runs `f` in a forked child. Returns the status of the child.
#[track_caller]
pub fn status_of_child(f: impl FnOnce()) -> libc::c_int {
    wait_for_child(start_child(f))
}

/// Runs closures in forked children at the same time, one for each value.
#[track_caller]
pub fn in_children<T>(values: impl IntoIterator<Item = T>, f: impl Fn(T)) {
    let children: Vec<_> = values.into_iter().map(|value| start_child(|| f(value))).collect();
    let statuses: Vec<_> = children.into_iter().map(wait_for_child).collect();
    assert!(statuses.iter().all(|&status| status == 0), "a child failed: {statuses:?}");
}

/// Runs `f` in a forked child, and returns the process identifier of the child.
fn start_child(f: impl FnOnce()) -> libc::pid_t {
    // SAFETY: the child only runs `f`, and exits without running anything else of this process. No thread of these tests holds
    // a lock that the child needs, unless the test checks that.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // SAFETY: no pointers. The alarm ends a child whose parent was killed.
        unsafe { libc::alarm(CHILD_TIMEOUT.as_secs() as libc::c_uint) };
        // The hook of the test harness would keep the message in the memory of the child.
        std::panic::set_hook(Box::new(|panic| {
            let text = format!("in the child: {panic}\n");
            // SAFETY: the text lives until the call returns.
            unsafe { libc::write(2, text.as_ptr().cast(), text.len()) };
        }));
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(f));
        // SAFETY: the child exits without running anything else of this process.
        unsafe { libc::_exit(i32::from(result.is_err())) };
    }
    pid
}

/// Waits for the end of a child, and kills the child if that takes too long. Returns the status of the child.
#[track_caller]
pub fn wait_for_child(pid: libc::pid_t) -> libc::c_int {
    let deadline = Instant::now() + CHILD_TIMEOUT;
    let mut status = 0;
    // SAFETY: the kernel writes one `int`.
    while unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) } != pid {
        if Instant::now() > deadline {
            // SAFETY: no pointers.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        std::thread::yield_now();
    }
    status
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
