//! The signals that a source has not returned yet, and what the handler does for one source.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use libc::c_int;

use crate::sys::notify::Notify;

/// A count for each signal of a set.
#[derive(Debug)]
pub(crate) struct PendingSignals(Vec<(c_int, AtomicUsize)>);

impl PendingSignals {
    /// Returns counts of zero for `signals`, which are distinct.
    pub(crate) fn new(signals: &[c_int]) -> PendingSignals {
        PendingSignals(signals.iter().map(|&signal| (signal, AtomicUsize::new(0))).collect())
    }

    /// Returns `true` if a signal has arrived since the last [`take`](PendingSignals::take).
    pub(crate) fn is_any(&self) -> bool {
        self.0.iter().any(|(_, count)| count.load(Ordering::SeqCst) > 0)
    }

    /// Returns each signal that has arrived with its count. Each count that is returned becomes zero.
    pub(crate) fn take(&self) -> impl Iterator<Item = (c_int, usize)> + '_ {
        let counts = self.0.iter().map(|(signal, count)| (*signal, count.swap(0, Ordering::SeqCst)));
        counts.filter(|&(_, count)| count > 0)
    }

    fn count(&self, signal: c_int) {
        if let Some((_, count)) = self.0.iter().find(|(other, _)| *other == signal) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// What the handler changes for a signal of one source. Nothing, where a kqueue filter reports the signals.
pub(crate) struct SignalCounts {
    signals: Vec<c_int>,
    pending: Option<Arc<PendingSignals>>,
    registration: Option<Arc<dyn Notify>>,
}

impl SignalCounts {
    pub(super) fn new(
        signals: &[c_int],
        pending: Option<Arc<PendingSignals>>,
        registration: Option<Arc<dyn Notify>>,
    ) -> SignalCounts {
        SignalCounts { signals: signals.to_vec(), pending, registration }
    }

    pub(super) fn signals(&self) -> impl Iterator<Item = c_int> + '_ {
        self.signals.iter().copied()
    }

    /// Counts a signal and notifies the registration of the source. Called by the signal handler.
    pub(super) fn deliver(&self, signal: c_int) {
        if let Some(pending) = &self.pending {
            pending.count(signal);
        }
        if let Some(registration) = &self.registration {
            registration.notify();
        }
    }
}

impl std::fmt::Debug for SignalCounts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SignalCounts").field(&self.signals).finish()
    }
}
