//! eventfd(2): the wake-up descriptor of systems that have the call.
#![allow(dead_code)] // Unused with the kqueue backend.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, RawFd};

use crate::sys::unix::syscall::{cvt, Refusal};
use crate::sys::unix::wake_fd::self_pipe::{write_wakeup, SelfPipe};

/// A counter whose descriptor is readable while the count is not 0, or a pipe if a sandbox refuses eventfd2(2).
#[derive(Debug)]
pub(crate) enum EventFd {
    Counter(File),
    Pipe(SelfPipe),
}

impl EventFd {
    pub(crate) fn new() -> io::Result<EventFd> {
        static EVENTFD: Refusal = Refusal::new();
        EVENTFD.call(EventFd::counter, || SelfPipe::new().map(EventFd::Pipe))
    }

    fn counter() -> io::Result<EventFd> {
        // SAFETY: the call has no pointers.
        let fd = cvt(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel has just made this descriptor, which has no other owner.
        Ok(EventFd::Counter(unsafe { File::from_raw_fd(fd) }))
    }

    /// Makes the descriptor readable. An edge-triggered registration reports each call.
    pub(crate) fn notify(&self) -> io::Result<()> {
        match self {
            EventFd::Counter(counter) => write_wakeup(counter, &1_u64.to_ne_bytes(), || self.drain()),
            EventFd::Pipe(pipe) => pipe.notify(),
        }
    }

    /// Makes the descriptor readable, for a caller that notifies once until the next [`drain`](EventFd::drain).
    ///
    /// Async-signal-safe. `errno` stays unchanged, because the counter has space and so the write succeeds.
    pub(crate) fn notify_from_handler(&self) {
        match self {
            EventFd::Counter(counter) => drop({ counter }.write(&1_u64.to_ne_bytes())),
            EventFd::Pipe(pipe) => pipe.notify_from_handler(),
        }
    }

    /// Makes the descriptor unreadable.
    pub(crate) fn drain(&self) {
        match self {
            // The read fails only if the count is 0 already.
            EventFd::Counter(counter) => drop({ counter }.read(&mut [0; 8])),
            EventFd::Pipe(pipe) => pipe.drain(),
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            EventFd::Counter(counter) => counter.as_fd(),
            EventFd::Pipe(pipe) => pipe.as_fd(),
        }
    }
}

impl AsRawFd for EventFd {
    #[inline]
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_counter_is_drained_and_notified() {
        let event = EventFd::new().unwrap();
        let EventFd::Counter(file) = &event else {
            panic!("a counter was expected, not {event:?}");
        };
        let mut counter = file;
        counter.write_all(&(u64::MAX - 1).to_ne_bytes()).unwrap();
        event.notify().unwrap();
        let mut count = [0; 8];
        counter.read_exact(&mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
        event.drain();
    }
}
