//! The public suite: what a program sees, the same on every backend.
//!
//! Run it for each: plainly, with `RUSTFLAGS='--cfg kevio_backend="poll"'`, and with `"kqueue"` where there is one.

#[path = "../support/mod.rs"]
mod support;

mod api;
mod bad_input;
mod batches;
mod closing;
mod differences;
mod edges;
// Where there is a kqueue, whatever the backend.
#[cfg(has_kqueue)]
mod kqueue;
mod load;
mod modes;
mod pipes;
mod pollset;
// Where the queue is a descriptor, which poll(2)'s is not.
#[cfg(all(
    any(
        all(has_kqueue, not(links_libkqueue)),
        target_os = "linux",
        target_os = "android",
        target_os = "illumos",
        target_os = "redox"
    ),
    not(any(kevio_backend = "poll", mio_unsupported_force_poll_poll))
))]
mod queue;
mod registrations;
mod tcp;
mod threads;
mod timers;
mod udp;
mod unix_sockets;
mod waits;
mod wakers;
// Where there is a kqueue, or inotify.
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
