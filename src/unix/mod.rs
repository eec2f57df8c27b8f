//! What only Unix has: any descriptor as a source, pipes, and the bare system calls.
//!
//! `unix::kqueue`, the bare kqueue(2), is where the system has one; on Linux with `kevio_backend="kqueue"`, in the
//! `RUSTDOCFLAGS` too if its documentation is to be made there.

#[cfg(has_kqueue)]
pub mod kqueue;
pub mod pipe;
pub mod pollset;
mod source_fd;

pub use self::source_fd::SourceFd;
pub use crate::io_source::IoSource;
