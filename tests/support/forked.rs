//! Forked children.

use std::time::{Duration, Instant};

/// Longer than a child of any test runs.
const CHILD_TIMEOUT: Duration = Duration::from_secs(60);

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
