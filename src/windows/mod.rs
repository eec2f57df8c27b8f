//! Windows only: named pipes, and any socket as a source.

mod named_pipe;
mod source_socket;

pub use self::named_pipe::NamedPipe;
pub use self::source_socket::SourceSocket;
pub use crate::io_source::IoSource;
