//! Whether a thread waits already. Shared with the tests of the engines in `src/sys/conformance`.

/// A thread that is about to wait.
#[derive(Copy, Clone, Debug)]
pub struct Waiter {
    #[cfg(target_os = "linux")]
    thread: libc::pid_t,
}

impl Waiter {
    /// This thread.
    pub fn here() -> Waiter {
        Waiter {
            // SAFETY: no arguments.
            #[cfg(target_os = "linux")]
            thread: unsafe { libc::gettid() },
        }
    }

    /// Asked of another thread: returns when it sleeps in the kernel.
    #[cfg(target_os = "linux")]
    #[track_caller]
    pub fn falls_asleep(self) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while !self.is_asleep() {
            assert!(std::time::Instant::now() < deadline, "it does not wait");
            std::thread::yield_now();
        }
    }

    /// proc_pid_stat(5): the state stands behind the name, which is in parentheses.
    #[cfg(target_os = "linux")]
    fn is_asleep(self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{}/stat", self.thread)).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('S')
    }

    /// Here that cannot be seen. A test that finds it awake passes, and has shown less.
    #[cfg(not(target_os = "linux"))]
    pub fn falls_asleep(self) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
