//! System calls counted: what each operation costs. In a process of its own.

mod support;

/// Counts true system calls. Where a word has 32 bits there are too many ways to tell the time.
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(kevio_backend = "kqueue")))]
#[path = "calls/ptrace_counter.rs"]
mod counter;

/// Counts calls of the C library's functions: on Linux too with libkqueue, whose `kevent` is many calls.
#[cfg(has_kqueue)]
#[path = "calls/libc_interposer.rs"]
mod counter;

/// Where there is a counter.
#[cfg(any(has_kqueue, all(target_os = "linux", target_pointer_width = "64")))]
#[path = "calls/expected_syscalls.rs"]
mod expected_syscalls;
