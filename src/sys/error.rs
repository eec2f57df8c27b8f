//! The errors that the crate makes itself, and that several files return.
//!
//! A message has three parts: the request that failed, the source or the type that it was made for, and what to do instead. The
//! texts of `AlreadyExists` and `NotFound` begin as those of mio, whose tests search for "already registered" and "not
//! registered". An error number of the kernel is returned unchanged, because programs compare `raw_os_error`. Only a number that
//! is no signal has a text in its place.

use std::io;

use crate::backend::Backend;
use crate::interest::Interest;

/// The error for an argument that is rejected before a system call.
#[cold]
pub(crate) fn invalid_input(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, reason.into())
}

#[cold]
pub(crate) fn unsupported(reason: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, reason.into())
}

#[cold]
pub(crate) fn already_exists() -> io::Error {
    let message = "I/O source already registered with a `Registry`: call `reregister` to change the registration, or \
                   `deregister` before `register`";
    io::Error::new(io::ErrorKind::AlreadyExists, message)
}

/// The error of a source that is registered with another poll.
#[cold]
pub(crate) fn already_exists_elsewhere() -> io::Error {
    let message = "I/O source already registered with a different `Registry`: call `deregister` of that registry first";
    io::Error::new(io::ErrorKind::AlreadyExists, message)
}

/// The error of a second source that needs the same filter of a kqueue.
#[cold]
pub(crate) fn already_exists_as_filter() -> io::Error {
    let message =
        "the signal, process or file is already registered by another source of this `Poll`, and a kqueue has \
                   one filter for each: use one source, or a second `Poll`";
    io::Error::new(io::ErrorKind::AlreadyExists, message)
}

#[cold]
pub(crate) fn not_found() -> io::Error {
    let message = "I/O source not registered with `Registry`: call `register` of this registry first (closing the \
                   descriptor ends a registration)";
    io::Error::new(io::ErrorKind::NotFound, message)
}

/// The error for a source that is registered with another poll, if this poll is to deregister the source.
#[cold]
pub(crate) fn not_found_here() -> io::Error {
    let message =
        "I/O source not registered with `Registry`, but with a different one: call `deregister` of that registry";
    io::Error::new(io::ErrorKind::NotFound, message)
}

/// The error of a forked child that uses a value of its parent. `name` is the type of the value.
#[cold]
pub(crate) fn inherited(name: &str) -> io::Error {
    unsupported(format!(
        "this `{name}` was inherited from the parent process by fork(2), and its registration belongs to the parent: create \
         another `{name}` in the child"
    ))
}

/// The error of a backend for an interest that no descriptor can have. The backend itself returns the error of an interest that
/// some descriptors can have.
#[cold]
pub(crate) fn unsupported_interest(backend: Backend, interest: Interest) -> io::Error {
    let (part, instead) = if interest.is_aio() || interest.is_lio() {
        let part = if interest.is_aio() { "`Interest::AIO`" } else { "`Interest::LIO`" };
        (
            part,
            "register without it, because only a kqueue has that filter, which an operation with `SIGEV_KEVENT` adds",
        )
    } else if interest.is_exclusive() && backend == Backend::Epoll && cfg!(has_epollexclusive) {
        ("`Interest::exclusive`", "register without `oneshot` and `PRIORITY`, on a kernel with `EPOLLEXCLUSIVE`")
    } else if interest.is_exclusive() {
        ("`Interest::exclusive`", "register without that option, which only epoll of Linux has")
    } else {
        let instead = "set `SO_OOBINLINE` and register for `Interest::READABLE`, or build with \
                       `--cfg kevio_backend=\"poll\"`";
        ("urgent data (`Interest::PRIORITY`)", instead)
    };
    unsupported(format!("the {backend} backend of this system cannot register a descriptor for {part}: {instead}"))
}

/// The error of a backend or a kernel without busy polling.
#[cold]
pub(crate) fn unsupported_busy_poll() -> io::Error {
    unsupported(
        "the parameters of `Poll::set_busy_poll` and `Poll::busy_poll` need the epoll backend, and Linux 6.9 or later \
         with `CONFIG_NET_RX_BUSY_POLL`: use `Poll::set_spin` to shorten the latency elsewhere",
    )
}

/// The error of a source that is no descriptor, for an interest that such a source cannot have.
#[cold]
pub(crate) fn unsupported_by_source(name: &str, interest: Interest) -> io::Error {
    unsupported(format!(
        "a `{name}` cannot be registered for the interest {interest:?}, because its events are readable: register it \
         for `Interest::READABLE` or `Interest::NONE`"
    ))
}

/// The error of a method (`Timer::expirations`) that decodes the events of its source.
#[cold]
pub(crate) fn other_source(method: &str) -> io::Error {
    invalid_input(format!(
        "the event that was passed to `{method}` belongs to another source: pass an event whose token is the token of \
         this registration"
    ))
}
