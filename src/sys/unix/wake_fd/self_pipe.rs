//! A wake-up for one descriptor where there is no eventfd: a pipe to oneself.
#![allow(dead_code)] // Most systems have something better.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use crate::sys::unix::pipe::pipe;
use crate::sys::unix::syscall;

/// Readable while there is a byte in it.
#[derive(Debug)]
pub(crate) struct SelfPipe {
    reader: File,
    writer: File,
}

impl SelfPipe {
    pub(crate) fn new() -> io::Result<SelfPipe> {
        let [reader, writer] = pipe()?.map(File::from);
        Ok(SelfPipe { reader, writer })
    }

    /// Makes it readable; for an edge-triggered waiter each call is a new edge.
    pub(crate) fn notify(&self) -> io::Result<()> {
        syscall::write_wakeup(&self.writer, &[1], || self.drain())
    }

    /// Makes it readable if it is not. Safe in a signal handler; it does not touch `errno`, for there is room.
    pub(crate) fn notify_from_handler(&self) {
        let _ = (&self.writer).write(&[1]);
    }

    /// Makes it unreadable.
    pub(crate) fn drain(&self) {
        let mut scrap = [0; 512];
        while matches!((&self.reader).read(&mut scrap), Ok(n) if n > 0) {}
    }
}

impl AsFd for SelfPipe {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.reader.as_fd()
    }
}

impl AsRawFd for SelfPipe {
    fn as_raw_fd(&self) -> RawFd {
        self.reader.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_pipe_is_signalled_again() {
        let pipe = SelfPipe::new().unwrap();
        while (&pipe.writer).write(&[0; 4096]).is_ok() {}
        pipe.notify().unwrap();
        let mut byte = [0; 2];
        assert_eq!((&pipe.reader).read(&mut byte).unwrap(), 1);
        pipe.drain();
    }
}
