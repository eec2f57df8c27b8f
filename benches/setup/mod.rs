//! The common setup of the benches.
#![allow(dead_code)] // `ratios` does not use criterion.

use std::time::Duration;

use criterion::Criterion;

/// Raises the limit of descriptors to its maximum. If that is too few, creating descriptors fails.
pub fn allow_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes and reads one `rlimit`.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        // Apple's systems report a maximum that they reject. The limit stays as it is then.
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// Returns a configuration with a short measurement.
pub fn short() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}
