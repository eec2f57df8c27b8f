//! The end of a child where the system has nothing better: SIGCHLD says that some child has changed, waitid(2) whether it
//! was this one and whether it has exited, and leaves it for its parent to reap.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::{io, mem};

use crate::sys::unix::signal::{CoalescingNotifier, SignalCounts};
use crate::sys::unix::syscall::cvt;

/// Readable when a child of this process may have exited.
#[derive(Debug)]
pub(crate) struct SigchldNotifier {
    pid: libc::pid_t,
    bell: Arc<CoalescingNotifier>,
    counts: Arc<SignalCounts>,
}

impl SigchldNotifier {
    pub(crate) fn of(pid: libc::pid_t) -> io::Result<SigchldNotifier> {
        // Others' children do not send us a signal.
        match has_exited(pid) {
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => return Err(crate::sys::error::unsupported()),
            result => result?,
        };
        let bell = CoalescingNotifier::new()?;
        let counts = SignalCounts::new(&[libc::SIGCHLD], Some(Arc::clone(&bell)))?;
        counts.subscribe_all()?;
        Ok(SigchldNotifier { pid, bell, counts })
    }

    pub(crate) fn begin(&self) {
        if self.is_over().unwrap_or(true) {
            self.bell.notify();
        }
    }

    /// Whether it has exited. If not, what exits from now on makes it readable.
    pub(crate) fn take(&self) -> io::Result<bool> {
        self.bell.clear();
        let is_over = self.is_over()?;
        if is_over {
            self.counts.unsubscribe_all();
            // What came between the two looks.
            self.bell.clear();
        }
        Ok(is_over)
    }

    fn is_over(&self) -> io::Result<bool> {
        match has_exited(self.pid) {
            // It was one, and was reaped.
            Err(error) if error.raw_os_error() == Some(libc::ECHILD) => Ok(true),
            result => result,
        }
    }
}

impl Drop for SigchldNotifier {
    fn drop(&mut self) {
        self.counts.unsubscribe_all();
    }
}

impl AsFd for SigchldNotifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

/// Whether a child has exited and was not reaped.
fn has_exited(pid: libc::pid_t) -> io::Result<bool> {
    // SAFETY: integers and addresses. Zeroes are a value of each.
    let mut info: libc::siginfo_t = unsafe { mem::zeroed() };
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    // SAFETY: the kernel writes one `siginfo_t`, and there is room for it.
    cvt(unsafe { libc::waitid(libc::P_PID, pid as _, &mut info, options) })?;
    // Else it is left as it was.
    Ok(info.si_signo == libc::SIGCHLD)
}
