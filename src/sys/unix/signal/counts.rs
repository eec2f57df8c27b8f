//! The counts of signals that a source has not read yet.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use libc::c_int;

use crate::sys::unix::signal::notifier::CoalescingNotifier;

/// A count for each signal of a set, and the notifier of the source.
#[derive(Debug)]
pub(crate) struct SignalCounts {
    counts: Vec<(c_int, AtomicUsize)>,
    /// `None` where a kqueue filter reports the signals.
    notifier: Option<Arc<CoalescingNotifier>>,
}

impl SignalCounts {
    /// Returns counts of zero for `signals`, which are distinct.
    pub(crate) fn new(signals: &[c_int], notifier: Option<Arc<CoalescingNotifier>>) -> SignalCounts {
        let counts = signals.iter().map(|&signal| (signal, AtomicUsize::new(0))).collect();
        SignalCounts { counts, notifier }
    }

    pub(crate) fn signals(&self) -> impl Iterator<Item = c_int> + '_ {
        self.counts.iter().map(|(signal, _)| *signal)
    }

    /// Clears the notifier, and returns each signal that has arrived with its count. Each count that is returned becomes zero.
    pub(crate) fn take_counts(&self) -> impl Iterator<Item = (c_int, usize)> + '_ {
        if let Some(notifier) = &self.notifier {
            notifier.clear();
        }
        self.counts
            .iter()
            .map(|(signal, count)| (*signal, count.swap(0, Ordering::SeqCst)))
            .filter(|&(_, count)| count > 0)
    }

    /// Counts a signal and notifies the source. Called by the signal handler.
    pub(crate) fn deliver(&self, signal: c_int) {
        if let Some((_, count)) = self.counts.iter().find(|(other, _)| *other == signal) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(notifier) = &self.notifier {
            notifier.notify();
        }
    }
}
