//! A pipe of which this process holds both ends: the wake-up descriptor of systems without eventfd(2).
#![allow(dead_code)] // Unused with the kqueue backend, except that libkqueue needs the pipe for its wakers.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};

use crate::sys::unix::pipe::pipe;

/// A descriptor that is readable while the pipe contains a byte.
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

    /// Makes the descriptor readable. An edge-triggered registration reports each call.
    pub(crate) fn notify(&self) -> io::Result<()> {
        write_wakeup(&self.writer, &[1], || self.drain())
    }

    /// Makes the descriptor readable, for a caller that notifies once until the next [`drain`](SelfPipe::drain).
    ///
    /// Async-signal-safe. `errno` stays unchanged, because the pipe has space and so the write succeeds.
    pub(crate) fn notify_from_handler(&self) {
        let _ = (&self.writer).write(&[1]);
    }

    /// Makes the descriptor unreadable.
    pub(crate) fn drain(&self) {
        let mut discarded = [0; 512];
        while matches!((&self.reader).read(&mut discarded), Ok(len) if len > 0) {}
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

/// Writes `wakeup` to a wake-up descriptor. If the descriptor is full of wake-ups that were not drained, drains first.
pub(super) fn write_wakeup(mut descriptor: impl io::Write, wakeup: &[u8], drain: impl Fn()) -> io::Result<()> {
    // illumos reports an edge only if the buffer was empty before the write (illumos.org/issues/13436 and 16700).
    if cfg!(edge_needs_empty_buffer) {
        drain();
    }
    loop {
        match descriptor.write(wakeup) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => drain(),
            result => return result.map(drop),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_pipe_is_drained_and_notified() {
        let pipe = SelfPipe::new().unwrap();
        while (&pipe.writer).write(&[0; 4096]).is_ok() {}
        pipe.notify().unwrap();
        let mut byte = [0; 2];
        assert_eq!((&pipe.reader).read(&mut byte).unwrap(), 1);
        pipe.drain();
    }
}
