//! The public suite: the behaviour of the public API, which is the same on every backend.
//!
//! Run the suite for each backend: plainly, with `RUSTFLAGS='--cfg kevio_backend="poll"'`, and with
//! `"kqueue"` if the system has a kqueue.

// The tests that need a Unix use some of the imports.
#![cfg_attr(not(unix), allow(unused_imports))]

#[path = "../support/mod.rs"]
mod support;

mod api;
mod bad_input;
mod batches;
mod closing;
mod debug;
mod differences;
mod edges;
mod errors;
mod faults;
// On systems with a kqueue, on any backend.
#[cfg(has_kqueue)]
mod kqueue;
mod load;
mod modes;
#[cfg(unix)]
mod pipes;
#[cfg(unix)]
mod pollset;
// On backends whose queue is a descriptor; poll(2) has none.
#[cfg(selector_has_fd)]
mod queue;
mod registrations;
mod tcp;
mod threads;
mod timers;
mod udp;
#[cfg(unix)]
mod unix_sockets;
mod waits;
mod wakers;
// On systems with a kqueue or inotify.
#[cfg(any(
    kevio_backend = "kqueue",
    all(any(target_os = "linux", target_os = "android"), not(kevio_unsupported_force_fallbacks)),
    all(
        any(
            target_vendor = "apple",
            target_os = "freebsd",
            target_os = "dragonfly",
            target_os = "netbsd",
            target_os = "openbsd"
        ),
        not(any(kevio_backend = "poll", mio_unsupported_force_poll_poll))
    )
))]
mod watch;
