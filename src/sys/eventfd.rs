//! A wake-up for one descriptor: eventfd(2).
#![allow(dead_code)] // kqueue has something better.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, RawFd};

use super::call::{self, check};

/// A counter that is readable while it is not 0.
#[derive(Debug)]
pub(crate) struct EventFd(File);

impl EventFd {
    pub(super) fn new() -> io::Result<EventFd> {
        // SAFETY: no pointers.
        let fd = check(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        Ok(EventFd(unsafe { File::from_raw_fd(fd) }))
    }

    /// Makes it readable; for an edge-triggered waiter each call is a new edge.
    pub(super) fn signal(&self) -> io::Result<()> {
        call::signal(&self.0, &1_u64.to_ne_bytes(), || self.drain())
    }

    /// Makes it readable if it is not. Safe in a signal handler; it does not touch `errno`, for there is room.
    pub(super) fn post(&self) {
        let _ = (&self.0).write(&1_u64.to_ne_bytes());
    }

    /// Makes it unreadable.
    pub(super) fn drain(&self) {
        // It fails only if there is nothing to drain.
        let _ = (&self.0).read(&mut [0; 8]);
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for EventFd {
    #[inline]
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_at_its_end_is_signalled_again() {
        let event = EventFd::new().unwrap();
        (&event.0).write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
        event.signal().unwrap();
        let mut count = [0; 8];
        (&event.0).read_exact(&mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
        event.drain();
    }
}
