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

/// The error of a forked child that uses a `Poll`, a waker or a source of its parent.
#[cold]
pub(crate) fn inherited() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "inherited from the parent process by fork(2)")
}

#[cold]
pub(crate) fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this backend does not support the interest of this source")
}
