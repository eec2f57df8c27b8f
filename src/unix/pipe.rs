//! Pipes: a one-way stream of bytes between threads or processes.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};

use crate::delegate::{impl_read, impl_source, impl_write};
use crate::io_source::IoSource;
use crate::sys;
use crate::sys::syscall;

/// Makes a pipe whose ends are non-blocking and close-on-exec.
///
/// # Errors
///
/// Those of pipe(2): too many descriptors.
///
/// # Examples
///
/// Dropping the sender is the end of file:
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
    let [reader, writer] = sys::unix::pipe::pipe()?;
    Ok((writer.into(), reader.into()))
}

/// The end of a pipe that is written to.
///
/// Register it for [`WRITABLE`](crate::interest::Interest::WRITABLE) only; what the other direction does differs from system to
/// system.
#[derive(Debug)]
pub struct Sender {
    inner: IoSource<File>,
}

/// The end of a pipe that is read from.
///
/// Register it for [`READABLE`](crate::interest::Interest::READABLE) only.
#[derive(Debug)]
pub struct Receiver {
    inner: IoSource<File>,
}

impl_source!(Sender, File);
impl_write!(Sender, &Sender);

impl_source!(Receiver, File);
impl_read!(Receiver, &Receiver);

/// Writes what both ends have.
macro_rules! end {
    ($end:ident, $io:ident, $($child:ty),+) => {
        impl $end {
            /// Puts the descriptor into non-blocking mode, or out of it.
            ///
            /// # Errors
            ///
            /// Those of fcntl(2).
            pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
                syscall::set_nonblocking(self.inner.as_raw_fd(), nonblocking)
            }

            /// Does an operation on the descriptor that this type has no method for, and returns its result.
            ///
            /// # Errors
            ///
            /// Those of the operation; it returns `ErrorKind::WouldBlock` when the kernel does.
            pub fn try_io<F, T>(&self, operation: F) -> io::Result<T>
            where
                F: FnOnce() -> io::Result<T>,
            {
                self.inner.$io(|_| operation())
            }
        }

        $(
            /// The pipe of a child process. It is **not** made non-blocking: call `set_nonblocking(true)`.
            impl From<$child> for $end {
                fn from(child: $child) -> $end {
                    OwnedFd::from(child).into()
                }
            }
        )+
    };
}

end!(Sender, write_io, ChildStdin);
end!(Receiver, read_io, ChildStdout, ChildStderr);
