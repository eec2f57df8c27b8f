//! The processors of the two threads, the CPU time of the process, and the numbers of the tables.

use std::time::{Duration, Instant};

/// Pins this thread, and the threads that it starts later, to one of the processors that the process had at its start.
#[cfg(target_os = "linux")]
pub fn pin_thread(index: usize) {
    use rustix::thread::{sched_getaffinity, sched_setaffinity, CpuSet};

    static AVAILABLE: std::sync::OnceLock<CpuSet> = std::sync::OnceLock::new();

    let available = AVAILABLE.get_or_init(|| sched_getaffinity(None).unwrap());
    let mut numbers = (0..CpuSet::MAX_CPU).filter(|&number| available.is_set(number));
    let number = numbers.nth(index % available.count() as usize).expect("the index is below the count");
    let mut set = CpuSet::new();
    set.set(number);
    sched_setaffinity(None, &set).unwrap();
}

/// The scheduler of another system places the threads.
#[cfg(not(target_os = "linux"))]
pub fn pin_thread(_: usize) {}

/// The use of processors by the process, since its start or during a measurement.
#[derive(Clone, Copy, Default)]
pub struct Usage {
    /// The time in the program and in the kernel.
    pub cpu: Duration,
    /// The number of times that a thread has blocked.
    pub switches: u64,
    pub elapsed: Duration,
}

impl Usage {
    /// Adds the use of processors by the function.
    pub fn measure(&mut self, f: impl FnOnce()) {
        let (before, start) = (rusage(), Instant::now());
        f();
        let (after, elapsed) = (rusage(), start.elapsed());
        self.cpu += cpu_time(&after) - cpu_time(&before);
        self.switches += (after.ru_nvcsw - before.ru_nvcsw) as u64;
        self.elapsed += elapsed;
    }

    /// Returns the number of processors that were busy.
    pub fn processors(&self) -> f64 {
        self.cpu.as_secs_f64() / self.elapsed.as_secs_f64()
    }
}

fn rusage() -> libc::rusage {
    // SAFETY: zeroes are a value of each field, and the kernel writes one record.
    unsafe {
        let mut usage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_SELF, &mut usage), 0);
        usage
    }
}

fn cpu_time(usage: &libc::rusage) -> Duration {
    let duration =
        |time: libc::timeval| Duration::from_secs(time.tv_sec as u64) + Duration::from_micros(time.tv_usec as u64);
    duration(usage.ru_utime) + duration(usage.ru_stime)
}

/// Returns the 50th and the 99th percentile. Both are zero without times.
pub fn percentiles(times: &mut [Duration]) -> [Duration; 2] {
    times.sort_unstable();
    [50, 99].map(|percent| times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or_default())
}

pub fn micros(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    match micros {
        few if few < 99.95 => format!("{few:.1} µs"),
        many => format!("{many:.0} µs"),
    }
}
