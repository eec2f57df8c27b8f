//! A descriptor that a signal handler makes readable.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crate::sys::unix::wake_fd::WakeFd;

/// A wake-up descriptor to which only the first of several notifications writes.
#[derive(Debug)]
pub(crate) struct CoalescingNotifier {
    wake_fd: WakeFd,
    /// `true` while `wake_fd` is readable. The descriptor is written to once, so it is never full.
    pending: AtomicBool,
}

impl CoalescingNotifier {
    pub(crate) fn new() -> io::Result<Arc<CoalescingNotifier>> {
        Ok(Arc::new(CoalescingNotifier { wake_fd: WakeFd::new()?, pending: AtomicBool::new(false) }))
    }

    /// Makes the descriptor readable. Safe in a signal handler.
    pub(crate) fn notify(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) {
            self.wake_fd.notify_from_handler();
        }
    }

    /// Makes the descriptor unreadable.
    ///
    /// The caller clears first and reads the state of its source afterwards. A later change makes the descriptor readable again.
    pub(crate) fn clear(&self) {
        self.wake_fd.drain();
        self.pending.store(false, Ordering::SeqCst);
    }
}

impl AsFd for CoalescingNotifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake_fd.as_fd()
    }
}
