//! The number of system calls of each operation. In a binary of its own.
#![cfg(unix)]

mod support;

/// Counts system calls. On 32-bit targets too many calls read the clock.
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(kevio_backend = "kqueue")))]
#[path = "calls/ptrace_counter.rs"]
mod counter;

/// Counts calls of functions of the C library: also on Linux with libkqueue, whose `kevent` makes many system calls.
#[cfg(has_kqueue)]
#[path = "calls/libc_interposer.rs"]
mod counter;

/// On systems with a counter.
#[cfg(any(has_kqueue, all(target_os = "linux", target_pointer_width = "64")))]
#[path = "calls/expected_syscalls.rs"]
mod expected_syscalls;
