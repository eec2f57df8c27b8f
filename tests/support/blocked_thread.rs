//! Waits until another thread is blocked in a system call.

/// A thread that is about to block.
#[derive(Copy, Clone, Debug)]
pub struct BlockedThread {
    #[cfg(target_os = "linux")]
    thread: libc::pid_t,
}

impl BlockedThread {
    /// Returns the current thread.
    pub fn current() -> BlockedThread {
        BlockedThread {
            // SAFETY: no arguments.
            #[cfg(target_os = "linux")]
            thread: unsafe { libc::gettid() },
        }
    }

    /// Returns as soon as the thread sleeps in the kernel. Another thread calls this function.
    #[cfg(target_os = "linux")]
    #[track_caller]
    pub fn wait_until_blocked(self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !self.is_blocked() {
            assert!(std::time::Instant::now() < deadline, "the thread does not block");
            std::thread::yield_now();
        }
    }

    /// Reads the state in /proc/PID/task/TID/stat. The state follows the name, which is in parentheses: see proc_pid_stat(5).
    #[cfg(target_os = "linux")]
    fn is_blocked(self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", self.thread)).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('S')
    }

    /// Sleeps, because this system does not show the state of a thread. If the thread is not blocked by then, the
    /// test checks less and passes.
    #[cfg(not(target_os = "linux"))]
    pub fn wait_until_blocked(self) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
