//! Unix only: any descriptor as a source, pipes, and the system calls kqueue(2) and poll(2).
//!
//! The module `kqueue` exists if the system has kqueue(2). On Linux the module exists with `kevio_backend="kqueue"`. To
//! document the module on Linux, set this cfg in `RUSTDOCFLAGS` too.

#[cfg(has_kqueue)]
pub mod kqueue;
pub mod pipe;
pub mod pollset;
mod source_fd;

pub use self::source_fd::SourceFd;
pub use crate::io_source::IoSource;
