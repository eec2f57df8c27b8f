//! The exit of a process: a descriptor of the process, or SIGCHLD and waitid(2).
//!
//! The kqueue backend has a filter for processes.

#[cfg(has_waitid)]
mod child_state;
mod errors;
#[cfg(has_pidfd)]
mod pidfd;
#[cfg(has_procdesc)]
mod procdesc;
#[cfg(has_waitid)]
mod sigchld;
#[cfg(not(has_waitid))]
mod unsupported;

use std::io;
#[cfg(not(has_pidfd))]
use std::os::fd::OwnedFd;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use crate::sys::error::invalid_input;
use crate::sys::selector::FilterSpec;
#[cfg(has_waitid)]
pub(crate) use crate::sys::unix::process::child_state::ChildState;
use crate::sys::unix::process::errors::no_such_process;
#[cfg(has_pidfd)]
use crate::sys::unix::process::pidfd as descriptor;
#[cfg(has_pidfd)]
pub(crate) use crate::sys::unix::process::pidfd::pidfd_open;
#[cfg(has_procdesc)]
use crate::sys::unix::process::procdesc as descriptor;
#[cfg(has_waitid)]
pub(crate) use crate::sys::unix::process::sigchld::ChildExit;
#[cfg(not(has_waitid))]
pub(crate) use crate::sys::unix::process::unsupported::{ChildExit, ChildState};
pub(crate) use crate::sys::unix::signal::SignalSubscription as ExitSubscription;
use crate::sys::unix::syscall::cvt;

/// The identifier of a process, as `Process` takes and returns it.
pub(crate) type Pid = i32;
/// An exit status as wait(2) returns it.
pub(crate) type RawStatus = libc::c_int;

/// Returns the exit status with this number.
pub(crate) fn exit_status(status: RawStatus) -> ExitStatus {
    ExitStatus::from_raw(status)
}

/// A system without descriptors of processes.
#[cfg(not(any(has_pidfd, has_procdesc)))]
mod descriptor {
    use std::io;
    use std::os::fd::BorrowedFd;

    pub(crate) fn pid_of_descriptor(_: BorrowedFd<'_>) -> io::Result<libc::pid_t> {
        Err(crate::sys::error::unsupported(
            "`Process::from_fd` cannot be called, because this system has no descriptors of processes: create the \
             source with `Process::new` or `Process::from_pid`",
        ))
    }

    pub(crate) fn exit_status(_: BorrowedFd<'_>, _: libc::pid_t) -> Option<libc::c_int> {
        None
    }
}

/// Fails with `NotFound` if there is no process with this identifier, and with `InvalidInput` if there can be none.
///
/// A process that has exited exists until its parent has waited for it.
pub(crate) fn check_exists(pid: libc::pid_t) -> io::Result<()> {
    // For kill(2), zero and negative numbers are groups of processes.
    if pid <= 0 {
        return Err(invalid_input(format!(
            "`Process::from_pid` needs the identifier of one process, and {pid} stands for a group of processes: pass \
             a positive identifier"
        )));
    }
    // SAFETY: no pointers; no signal is sent.
    match cvt(unsafe { libc::kill(pid, 0) }) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
            Err(no_such_process(&format!("`Process::from_pid({pid})`")))
        }
        // Another error means that the process belongs to another user.
        _ => check_no_thread(pid),
    }
}

/// Fails with `InvalidInput` if the number stands for a thread that is not the first of its process. kill(2) of Linux accepts
/// such a number.
fn check_no_thread(pid: libc::pid_t) -> io::Result<()> {
    #[cfg(has_tgkill)]
    {
        // SAFETY: no pointers; no signal is sent.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, pid, pid, 0) };
        if let Err(error) = cvt(sent as libc::c_int) {
            if error.raw_os_error() == Some(libc::ESRCH) {
                return Err(errors::thread_id(pid));
            }
        }
    }
    let _ = pid;
    Ok(())
}

/// Fails with `NotFound` if the number is not that of a child. A child that was waited for has no number, and another process
/// may have got it.
pub(crate) fn check_is_child(pid: libc::pid_t) -> io::Result<()> {
    match ChildState::of(pid) {
        Ok(ChildState::NoChild) => Err(no_such_process(&format!("`Process::new` of the child {pid}"))),
        // If the call is refused, `check_exists` decides.
        _ => Ok(()),
    }
}

pub(crate) use descriptor::pid_of_descriptor;

/// Returns the filter and the ident for a process with this descriptor.
#[cfg(has_procdesc)]
pub(crate) fn filter_of_descriptor(fd: RawFd, _: libc::pid_t) -> (FilterSpec, RawFd) {
    (FilterSpec::ProcessDescriptor, fd)
}

/// As above, on a system without a filter of process descriptors.
#[cfg(not(has_procdesc))]
pub(crate) fn filter_of_descriptor(_: RawFd, pid: libc::pid_t) -> (FilterSpec, RawFd) {
    (FilterSpec::Process, pid)
}

/// Returns the wait status of an exited process with this descriptor. `None` if the system does not provide the status.
pub(crate) fn status_of_descriptor(fd: BorrowedFd<'_>, pid: libc::pid_t) -> Option<libc::c_int> {
    descriptor::exit_status(fd, pid)
}

/// Returns the wait status of an exited child. `None` if the child was reaped.
pub(crate) fn status_of_child(pid: libc::pid_t) -> Option<libc::c_int> {
    match ChildState::of(pid) {
        Ok(ChildState::Exited(status)) => Some(status),
        Ok(ChildState::Running | ChildState::NoChild) | Err(_) => None,
    }
}

/// Returns `None`: the system has no pidfds.
#[cfg(not(has_pidfd))]
pub(crate) fn pidfd_open(_: libc::pid_t) -> io::Result<Option<OwnedFd>> {
    Ok(None)
}
