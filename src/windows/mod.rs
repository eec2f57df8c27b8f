//! Windows only: named pipes, any socket and any handle as a source, and the numbers of signals.

mod named_pipe;
mod source_handle;
mod source_socket;

pub use self::named_pipe::NamedPipe;
pub use self::source_handle::SourceHandle;
pub use self::source_socket::SourceSocket;
pub use crate::io_source::IoSource;
pub use crate::sys::signal::{SIGBREAK, SIGHUP, SIGINT, SIGTERM};
