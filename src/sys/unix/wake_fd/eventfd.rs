//! A wake-up for one descriptor: eventfd(2).
#![allow(dead_code)] // kqueue has something better.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, RawFd};

use crate::sys::unix::syscall;
use crate::sys::unix::syscall::{cvt, Refusal};
use crate::sys::unix::wake_fd::self_pipe::SelfPipe;

/// A counter that is readable while it is not 0; a pipe where a sandbox refuses eventfd2(2).
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
        // SAFETY: no pointers.
        let fd = cvt(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        // SAFETY: the kernel has just made this descriptor, and it has no other owner.
        Ok(EventFd::Counter(unsafe { File::from_raw_fd(fd) }))
    }

    /// Makes it readable; for an edge-triggered waiter each call is a new edge.
    pub(crate) fn notify(&self) -> io::Result<()> {
        match self {
            EventFd::Counter(counter) => syscall::write_wakeup(counter, &1_u64.to_ne_bytes(), || self.drain()),
            EventFd::Pipe(pipe) => pipe.notify(),
        }
    }

    /// Makes it readable if it is not. Safe in a signal handler; it does not touch `errno`, for there is room.
    pub(crate) fn notify_from_handler(&self) {
        match self {
            EventFd::Counter(counter) => drop({ counter }.write(&1_u64.to_ne_bytes())),
            EventFd::Pipe(pipe) => pipe.notify_from_handler(),
        }
    }

    /// Makes it unreadable.
    pub(crate) fn drain(&self) {
        match self {
            // It fails only if there is nothing to drain.
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
    fn a_counter_at_its_end_is_signalled_again() {
        let event = EventFd::new().unwrap();
        let EventFd::Counter(file) = &event else {
            panic!("{event:?}");
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
