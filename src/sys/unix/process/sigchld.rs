//! The exit of a child, on a system without kqueue and pidfd.
//!
//! SIGCHLD reports that some child has changed its state. waitid(2) with `WNOWAIT` then returns whether this child has exited.
//! The child is left for its parent to reap.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::{io, mem};

use crate::sys::error;
use crate::sys::notify::Notify;
use crate::sys::unix::signal::SignalSubscription;
use crate::sys::unix::syscall::cvt;

/// The exit of one child, which is reported once for each registration.
#[derive(Debug)]
pub(crate) struct ChildExit {
    pid: libc::pid_t,
    is_reported: AtomicBool,
}

impl ChildExit {
    /// Fails with `Unsupported` for a process that is no child: the kernel sends SIGCHLD to the parent only.
    pub(crate) fn of(pid: libc::pid_t) -> io::Result<ChildExit> {
        match is_zombie(pid) {
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Err(error::unsupported()),
            result => result.map(|_| ChildExit { pid, is_reported: AtomicBool::new(false) }),
        }
    }

    /// Notifies `registration` when a child has exited, until the subscription is dropped.
    pub(crate) fn subscribe(&self, registration: Arc<dyn Notify>) -> io::Result<SignalSubscription> {
        SignalSubscription::new(&[libc::SIGCHLD], None, Some(registration))
    }

    /// Reports the exit again.
    pub(crate) fn rearm(&self) {
        self.is_reported.store(false, Ordering::Relaxed);
    }

    /// Returns `true` if the child has exited, and the exit was not reported yet.
    pub(crate) fn take_exit(&self) -> bool {
        !self.is_reported.load(Ordering::Relaxed)
            && self.has_exited()
            && !self.is_reported.swap(true, Ordering::Relaxed)
    }

    fn has_exited(&self) -> bool {
        // If waitid(2) fails with ECHILD, the child has exited and was reaped since, because the process was a child before.
        is_zombie(self.pid).unwrap_or(true)
    }
}

/// Returns `true` if a child has exited and was not reaped.
fn is_zombie(pid: libc::pid_t) -> io::Result<bool> {
    // SAFETY: the fields are integers and addresses. Zeroes are a value of each.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel writes one `siginfo_t`, and the variable has space for one.
    cvt(unsafe { libc::waitid(libc::P_PID, pid as _, &mut info, options) })?;
    // If the child has not exited, the kernel leaves the zeroes.
    Ok(info.si_signo == libc::SIGCHLD)
}
