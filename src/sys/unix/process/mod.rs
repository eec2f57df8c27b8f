//! The end of a process, where there is no kqueue: a pidfd, or SIGCHLD and a look at the child.
#![allow(dead_code)] // A kqueue has a filter.

#[cfg_attr(not(has_waitid), path = "unsupported.rs")]
mod sigchld;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::unix::process::sigchld::SigchldNotifier;

/// Whether there is, or has not been waited for, a process with this number.
pub(crate) fn check_exists(pid: libc::pid_t) -> io::Result<()> {
    // 0 and negative numbers are groups of processes.
    if pid <= 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: no pointers; no signal is sent.
    match crate::sys::unix::syscall::cvt(unsafe { libc::kill(pid, 0) }) {
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Err(no_such_process()),
        // It is there and another user's.
        _ => Ok(()),
    }
}

fn no_such_process() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "no such process")
}

/// Readable when a process has exited.
#[derive(Debug)]
pub(crate) enum ExitNotifier {
    /// And of nothing else.
    Pidfd(OwnedFd),
    /// And perhaps of something else.
    Sigchld(SigchldNotifier),
}

impl ExitNotifier {
    pub(crate) fn of(pid: libc::pid_t) -> io::Result<ExitNotifier> {
        match pidfd_open(pid)? {
            Some(pidfd) => Ok(ExitNotifier::Pidfd(pidfd)),
            None => SigchldNotifier::of(pid).map(ExitNotifier::Sigchld),
        }
    }

    /// Whether an event says it all.
    pub(crate) fn is_certain(&self) -> bool {
        matches!(self, ExitNotifier::Pidfd(_))
    }

    /// It has been registered: what is true already is to be told.
    pub(crate) fn begin(&self) {
        if let ExitNotifier::Sigchld(child) = self {
            child.begin();
        }
    }

    pub(crate) fn is_over(&self) -> io::Result<bool> {
        match self {
            ExitNotifier::Pidfd(_) => Ok(true),
            ExitNotifier::Sigchld(child) => child.take(),
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

/// pidfd_open(2), close-on-exec; `None` where there is none: before Linux 5.3, or in a sandbox that is older than the call.
fn pidfd_open(pid: libc::pid_t) -> io::Result<Option<OwnedFd>> {
    #[cfg(has_pidfd)]
    {
        // SAFETY: no pointers.
        let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        match crate::sys::unix::syscall::cvt(fd as libc::c_int) {
            // SAFETY: the kernel has just made this descriptor, and nobody else has it.
            Ok(fd) => Ok(Some(unsafe { std::os::fd::FromRawFd::from_raw_fd(fd) })),
            Err(error) if crate::sys::unix::syscall::is_refused(&error) => Ok(None),
            Err(error) => match error.raw_os_error() {
                Some(libc::ESRCH) => Err(no_such_process()),
                _ => Err(error),
            },
        }
    }
    #[cfg(not(has_pidfd))]
    {
        let _ = pid;
        Ok(None)
    }
}
