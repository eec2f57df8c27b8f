//! What only Unix has: any descriptor as a source, and pipes.

pub mod pipe;
mod source_fd;

pub use self::source_fd::SourceFd;
pub use crate::io_source::IoSource;
