//! The exit of a child, on a system without kqueue and pidfd.
//!
//! SIGCHLD reports that some child has changed its state. waitid(2) with `WNOWAIT` then returns whether this child has exited.
//! The child is left for its parent to reap.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crate::sys::notify::Notify;
use crate::sys::unix::process::child_state::ChildState;
use crate::sys::unix::process::errors::no_child;
use crate::sys::unix::signal::SignalSubscription;

/// The exit of one child, which is reported once for each registration.
#[derive(Debug)]
pub(crate) struct ChildExit {
    pid: libc::pid_t,
    is_reported: AtomicBool,
}

impl ChildExit {
    /// Fails with `Unsupported` for a process that is no child: the kernel sends SIGCHLD to the parent only.
    pub(crate) fn of(pid: libc::pid_t) -> io::Result<ChildExit> {
        match ChildState::of(pid)? {
            ChildState::NoChild => Err(no_child(pid)),
            ChildState::Running | ChildState::Exited(_) => Ok(ChildExit { pid, is_reported: AtomicBool::new(false) }),
        }
    }

    /// Notifies `registration` when a child has exited, until the subscription is dropped.
    pub(crate) fn subscribe(&self, registration: Arc<dyn Notify>) -> io::Result<SignalSubscription> {
        SignalSubscription::new(&[libc::SIGCHLD], None, Some(registration))
    }

    /// Reports the exit again. Returns `true` if the child has exited.
    pub(crate) fn rearm(&self) -> bool {
        self.is_reported.store(false, Ordering::Relaxed);
        self.has_exited()
    }

    /// Returns `true` if the child has exited, and the exit was not reported yet.
    pub(crate) fn take_exit(&self) -> bool {
        !self.is_reported.load(Ordering::Relaxed)
            && self.has_exited()
            && !self.is_reported.swap(true, Ordering::Relaxed)
    }

    fn has_exited(&self) -> bool {
        // A process that is no child any more was a child before. Therefore the process has exited and was reaped.
        !matches!(ChildState::of(self.pid), Ok(ChildState::Running))
    }
}
