//! Pipes: a one-way stream of bytes between threads or processes.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use crate::delegate::{impl_read, impl_source, impl_write};
use crate::io_source::IoSource;
use crate::sys::unix::{self, syscall};

/// Returns the ends of a new pipe, non-blocking and close-on-exec.
///
/// # Errors
///
/// Errors of pipe(2), such as `EMFILE`.
///
/// # Examples
///
/// The receiver reads the end of file after the sender is dropped:
///
/// ```
/// use std::io::{Read, Write};
///
/// use kevio::unix::pipe;
/// use kevio::{Events, Interest, Poll, Token};
///
/// let (mut sender, mut receiver) = pipe::new()?;
/// let mut poll = Poll::new()?;
/// poll.registry().register(&mut receiver, Token(1), Interest::READABLE)?;
///
/// sender.write_all(b"bye")?;
/// drop(sender);
///
/// let mut events = Events::with_capacity(8);
/// poll.poll(&mut events, None)?;
/// assert!(events.iter().all(|event| event.token() == Token(1) && event.is_readable()));
/// let mut text = String::new();
/// receiver.read_to_string(&mut text)?;
/// assert_eq!(text, "bye");
/// # std::io::Result::Ok(())
/// ```
pub fn new() -> io::Result<(Sender, Receiver)> {
    let [reader, writer] = unix::pipe::pipe()?;
    Ok((writer.into(), reader.into()))
}

/// The writing end of a pipe.
///
/// Register a sender for [`WRITABLE`](crate::Interest::WRITABLE) only. Events of the other direction differ between systems.
pub struct Sender {
    inner: IoSource<File>,
}

/// The reading end of a pipe.
///
/// Register a receiver for [`READABLE`](crate::Interest::READABLE) only.
pub struct Receiver {
    inner: IoSource<File>,
}

impl_source!(Sender, File);
impl_write!(Sender, &Sender);

impl_source!(Receiver, File);
impl_read!(Receiver, &Receiver);

/// Implements the methods and conversions that both ends have.
macro_rules! impl_pipe_end {
    ($end:ident, $io:ident, $($child:ty),+) => {
        impl $end {
            /// Sets or clears the non-blocking mode of the descriptor.
            ///
            /// # Errors
            ///
            /// Errors of fcntl(2).
            pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                syscall::set_nonblocking(self.inner.as_raw_fd(), nonblocking)
            }

            /// Performs an operation for which this type has no method, and returns the result.
            ///
            /// # Errors
            ///
            /// Errors of the operation. The operation must return `ErrorKind::WouldBlock` if its system call would block.
            pub fn try_io<F, T>(&self, operation: F) -> io::Result<T>
            where
                F: FnOnce() -> io::Result<T>,
            {
                self.inner.$io(|_| operation())
            }
        }

        /// Writes the descriptor.
        impl std::fmt::Debug for $end {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.debug_struct(stringify!($end)).field("fd", &self.inner.as_raw_fd()).finish()
            }
        }

        $(
            /// Converts the pipe of a child process. The mode is **not** changed to non-blocking: call
            /// `set_nonblocking(true)`.
            impl From<$child> for $end {
                fn from(child: $child) -> $end {
                    OwnedFd::from(child).into()
                }
            }
        )+
    };
}

impl_pipe_end!(Sender, write_io, ChildStdin);
impl_pipe_end!(Receiver, read_io, ChildStdout, ChildStderr);
