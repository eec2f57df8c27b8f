//! The errors of sources of processes.

use std::io;

use crate::sys::error::{invalid_input, unsupported};

/// The error of a process that does not exist. `request` is the function and its argument.
#[cold]
pub(super) fn no_such_process(request: &str) -> io::Error {
    let message = format!(
        "{request} found no process, because it was waited for after its exit, or is hidden from this process: create \
         the source before the process is waited for"
    );
    io::Error::new(io::ErrorKind::NotFound, message)
}

#[cold]
#[allow(dead_code)] // The numbers of threads and of processes are different sets outside Linux.
pub(super) fn thread_id(pid: libc::pid_t) -> io::Error {
    invalid_input(format!(
        "`Process::from_pid` needs the identifier of a process, and {pid} is the identifier of a thread: pass the \
         identifier of its process"
    ))
}

/// The error of a descriptor of another kind. `needed` is the kind that the system has.
#[cold]
#[allow(dead_code)] // Unused on systems without descriptors of processes.
pub(super) fn no_process_descriptor(needed: &str) -> io::Error {
    invalid_input(format!(
        "`Process::from_fd` needs {needed}, and the descriptor is of another kind: create the source with \
         `Process::from_pid`"
    ))
}

#[cold]
#[allow(dead_code)] // Unused with the kqueue backend on a system without pidfd.
pub(super) fn no_child(pid: libc::pid_t) -> io::Error {
    unsupported(format!(
        "`Process::from_pid` cannot create a source for the process {pid}, because the system reports the exit of \
         children only, or a sandbox refuses pidfd_open(2): create the source in the parent of that process"
    ))
}
