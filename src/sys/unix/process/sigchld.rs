//! The exit of a child as a descriptor, on a system without kqueue and pidfd.
//!
//! SIGCHLD reports that some child has changed its state. waitid(2) with `WNOWAIT` then returns whether this child has exited.
//! The child is left for its parent to reap.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::{io, mem};

use crate::sys::error;
use crate::sys::unix::signal::{CoalescingNotifier, SignalSubscription};
use crate::sys::unix::syscall::cvt;

/// A descriptor that is readable when a child of this process may have exited.
#[derive(Debug)]
pub(crate) struct SigchldNotifier {
    pid: libc::pid_t,
    subscription: SignalSubscription,
    notifier: Arc<CoalescingNotifier>,
}

impl SigchldNotifier {
    /// Fails with `Unsupported` for a process that is no child: the kernel sends SIGCHLD to the parent only.
    pub(crate) fn of(pid: libc::pid_t) -> io::Result<SigchldNotifier> {
        match is_zombie(pid) {
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Err(error::unsupported()),
            result => result?,
        };
        let notifier = CoalescingNotifier::new()?;
        let subscription = SignalSubscription::new(&[libc::SIGCHLD], Some(Arc::clone(&notifier)))?;
        subscription.subscribe_all()?;
        Ok(SigchldNotifier { pid, subscription, notifier })
    }

    /// Makes the descriptor readable if the child has exited, or if waitid(2) fails.
    pub(crate) fn notify_if_exited(&self) {
        if self.has_exited().unwrap_or(true) {
            self.notifier.notify();
        }
    }

    /// Returns `true` if the child has exited. If not, the next SIGCHLD makes the descriptor readable.
    pub(crate) fn clear_and_check(&self) -> io::Result<bool> {
        self.notifier.clear();
        let has_exited = self.has_exited()?;
        if has_exited {
            self.subscription.unsubscribe_all();
            // A SIGCHLD between the check and the end of the subscription may have made the descriptor readable.
            self.notifier.clear();
        }
        Ok(has_exited)
    }

    fn has_exited(&self) -> io::Result<bool> {
        match is_zombie(self.pid) {
            // The process was a child when this notifier was made. Therefore the child has exited and was reaped since.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(true),
            result => result,
        }
    }
}

impl AsFd for SigchldNotifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notifier.as_fd()
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
