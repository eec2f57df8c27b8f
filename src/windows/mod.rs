//! Windows only: any socket as a source.

mod source_socket;

pub use self::source_socket::SourceSocket;
pub use crate::io_source::IoSource;
