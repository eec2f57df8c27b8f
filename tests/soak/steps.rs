//! The numbers and the waits of the soak.

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kevio::{Events, Poll};

use crate::support;

/// Longer than any step takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the number of repetitions.
pub fn times(full: u64) -> u64 {
    support::repetitions(full, 20)
}

/// Polls until there are events.
#[track_caller]
pub fn poll_events(poll: &mut Poll, events: &mut Events) {
    poll.poll_until(events, Some(Instant::now() + TIMEOUT)).unwrap();
    assert!(!events.is_empty(), "nothing was reported");
}

/// Yields until the number is reached.
#[track_caller]
pub fn wait_for(counter: &AtomicU64, number: u64) {
    let deadline = Instant::now() + TIMEOUT;
    while counter.load(Ordering::Acquire) < number {
        assert!(Instant::now() < deadline, "{} of {number}", counter.load(Ordering::Acquire));
        thread::yield_now();
    }
}
