//! The errors that every backend returns alike.

use std::io;

#[cold]
pub(crate) fn already_exists() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "I/O source already registered with a `Registry`")
}

#[cold]
pub(crate) fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "I/O source not registered with `Registry`")
}

/// A registration, a wait or a wake of a `Poll`, a timer or another source that another process made.
#[cold]
pub(crate) fn inherited() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "inherited from the parent process by fork(2)")
}

#[cold]
pub(crate) fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this backend cannot wait for such an interest")
}
