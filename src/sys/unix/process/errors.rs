//! The errors of sources of processes.

use std::io;

use crate::sys::unix::syscall::invalid_input;

pub(super) fn no_such_process() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such process, or a process that was waited for")
}

#[allow(dead_code)] // The numbers of threads and of processes are different sets outside Linux.
pub(super) fn thread_id() -> io::Error {
    invalid_input("the identifier of a thread, not of a process")
}

#[allow(dead_code)] // Unused with the kqueue backend on a system without pidfd.
pub(super) fn no_child() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this system reports the exit of children only")
}
