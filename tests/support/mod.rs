//! Helpers of all tests: of the suite, of the other test binaries, and of the conformance tests in `src/sys/conformance`.
#![allow(dead_code, unused_imports)] // Each test binary uses some of the helpers.

/// Returns the number of repetitions: `full` if `KEVIO_SOAK=full` is set, and otherwise a part.
pub fn repetitions(full: u64, divisor: u64) -> u64 {
    match std::env::var_os("KEVIO_SOAK") {
        Some(value) if value == "full" => full,
        _ => full / divisor,
    }
}

pub mod allocator;
pub mod blocked_thread;
#[cfg(unix)]
pub mod files;
#[cfg(unix)]
pub mod forked;
#[cfg(unix)]
pub mod handler;
pub mod known_failures;
pub mod limits;
pub mod net;
#[cfg(unix)]
pub mod open_fds;
#[cfg(windows)]
#[path = "open_handles.rs"]
pub mod open_fds;
pub mod poll;
pub mod process;
pub mod readiness;
#[cfg(any(unix, feature = "net"))]
pub mod streams;
pub mod system;
