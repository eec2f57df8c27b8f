//! What only Unix has: any descriptor as a source, pipes, and the bare system calls.

crate::sys::kqueue_exists! {
    pub mod kqueue;
}
pub mod pipe;
pub mod pollset;
mod source_fd;

pub use self::source_fd::SourceFd;
pub use crate::io_source::IoSource;
