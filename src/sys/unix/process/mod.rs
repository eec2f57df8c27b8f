//! The exit of a process as a descriptor: a pidfd, or SIGCHLD and waitid(2).
//!
//! The kqueue backend has a filter for processes, and uses [`check_exists`] only.

mod pidfd;
#[cfg(has_waitid)]
mod sigchld;
#[cfg(not(has_waitid))]
mod unsupported;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::interest::Interest;
use crate::sys::unix::process::pidfd::pidfd_open;
#[cfg(has_waitid)]
use crate::sys::unix::process::sigchld::SigchldNotifier;
#[cfg(not(has_waitid))]
use crate::sys::unix::process::unsupported::SigchldNotifier;
use crate::sys::unix::syscall::cvt;

/// Fails with `NotFound` if there is no process with this identifier, and with `InvalidInput` if there can be none.
///
/// A process that has exited exists until its parent has waited for it.
pub(crate) fn check_exists(pid: libc::pid_t) -> io::Result<()> {
    // For kill(2), zero and negative numbers are groups of processes.
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: no pointers; no signal is sent.
    match cvt(unsafe { libc::kill(pid, 0) }) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(no_such_process()),
        // Another error means that the process belongs to another user.
        _ => Ok(()),
    }
}

fn no_such_process() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such process")
}

/// A descriptor that is readable when a process has exited.
#[derive(Debug)]
pub(crate) enum ExitNotifier {
    Pidfd(OwnedFd),
    /// Also readable when another child of this process has exited.
    Sigchld(SigchldNotifier),
}

impl ExitNotifier {
    pub(crate) fn of(pid: libc::pid_t) -> io::Result<ExitNotifier> {
        match pidfd_open(pid) {
            Ok(Some(pidfd)) => Ok(ExitNotifier::Pidfd(pidfd)),
            Ok(None) => SigchldNotifier::of(pid).map(ExitNotifier::Sigchld),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(no_such_process()),
            Err(error) => Err(error),
        }
    }

    /// Returns `true` if the descriptor is readable for no other reason than the exit of the process.
    pub(crate) fn reports_only_exit(&self) -> bool {
        matches!(self, ExitNotifier::Pidfd(_))
    }

    /// Returns `interest` with the trigger mode that reports the exit once.
    ///
    /// A pidfd stays readable after the exit, so it is registered one-shot. SIGCHLD also arrives for other children; an event
    /// for another child must not disarm the registration, so it is level-triggered. Also in that mode the exit of the watched
    /// child is reported once, because [`has_exited`](ExitNotifier::has_exited) then makes the descriptor unreadable.
    pub(crate) fn with_trigger_mode(&self, interest: Interest) -> Interest {
        match self {
            ExitNotifier::Pidfd(_) => interest.oneshot(),
            ExitNotifier::Sigchld(_) => interest.level(),
        }
    }

    /// Makes the descriptor readable if the process has exited already. Called after each registration.
    pub(crate) fn notify_if_exited(&self) {
        if let ExitNotifier::Sigchld(child) = self {
            child.notify_if_exited();
        }
    }

    /// Returns `true` if the process has exited. If not, the descriptor becomes unreadable until the next SIGCHLD.
    pub(crate) fn has_exited(&self) -> io::Result<bool> {
        match self {
            ExitNotifier::Pidfd(_) => Ok(true),
            ExitNotifier::Sigchld(child) => child.clear_and_check(),
        }
    }
}

impl AsFd for ExitNotifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            ExitNotifier::Pidfd(pidfd) => pidfd.as_fd(),
            ExitNotifier::Sigchld(child) => child.as_fd(),
        }
    }
}
