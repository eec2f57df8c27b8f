//! What several benches begin with.
#![allow(dead_code)] // Not each of them with all of it.

use std::time::Duration;

use criterion::Criterion;

/// As many descriptors as may be; where that is too few, making them says so.
pub fn allow_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes and reads one `rlimit`.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        // Apple refuses its own idea of infinity; then what there is has to do.
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

pub fn short() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}
