//! The model of a stream: the bytes in flight and the ends of both directions, and the readiness that follows from them.
//!
//! The model does not call the kernel. Only the results of the operations change its state.

use std::net::Shutdown;

use crate::interest::Interest;
use crate::sys::conformance::differential::{union, End};
use crate::sys::conformance::support::readiness::{ReadinessSet, E, R, RC, W, WC};
use crate::sys::conformance::support::system::is_wine;

/// The state of a stream.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The number of bytes that were written and not read: to us, and to the peer.
    to_us: usize,
    to_peer: usize,
    /// The end has shut down writing, or has closed.
    we_ended: bool,
    peer_ended: bool,
    peer_closed: bool,
    /// An operation was applied whose effect depends on the system: a read shutdown, or an operation that resets the connection.
    is_unknown: bool,
}

/// The readiness that a registration must report, and the readiness that it must not report. Other readiness depends on buffers.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Expectation {
    pub(super) must: ReadinessSet,
    pub(super) must_not: ReadinessSet,
}

impl Expectation {
    /// Returns the readiness in which `reported` differs: what is missing, and what is wrong.
    pub(super) fn differences(self, reported: ReadinessSet) -> (ReadinessSet, ReadinessSet) {
        (self.must - reported, self.must_not & reported)
    }
}

impl Traffic {
    /// An end has read some bytes.
    pub(super) fn read(&mut self, end: End, bytes: usize) {
        let unread = if end == End::Ours { &mut self.to_us } else { &mut self.to_peer };
        *unread = unread.saturating_sub(bytes);
    }

    /// An end has written some bytes.
    pub(super) fn written(&mut self, end: End, bytes: usize) {
        if end == End::Ours {
            self.to_peer += bytes;
            // The peer's system answers with a reset.
            self.is_unknown |= self.peer_closed;
        } else {
            self.to_us += bytes;
        }
    }

    pub(super) fn shut_down(&mut self, end: End, how: Shutdown) {
        let ends_writing = how != Shutdown::Read;
        self.we_ended |= ends_writing && end == End::Ours;
        self.peer_ended |= ends_writing && end == End::Theirs;
        self.is_unknown |= how != Shutdown::Write;
    }

    pub(super) fn peer_closed(&mut self) {
        // Closing a socket with unread data resets the connection.
        self.is_unknown |= self.to_peer > 0;
        (self.peer_ended, self.peer_closed) = (true, true);
    }

    /// Returns the readiness that is expected of a registration for `interest`.
    pub(super) fn expectation(&self, interest: Interest) -> Expectation {
        if self.is_unknown || interest.is_none() {
            return Expectation::default();
        }
        let is_readable = self.to_us > 0 || self.peer_ended;
        let (reads, writes) = (interest.is_readable(), interest.is_writable());
        // wine reports the end of a stream after the last byte was read.
        let has_hidden_end = is_wine() && self.to_us > 0;
        Expectation {
            must: union([
                (R, reads && is_readable),
                (RC, reads && self.peer_ended && !has_hidden_end),
                (W, writes && self.to_peer == 0 && !self.we_ended),
            ]),
            must_not: union([
                (R, !reads || !is_readable),
                (RC, !reads || !self.peer_ended),
                (W, !writes),
                (WC, !self.we_ended),
                (E, true),
            ]),
        }
    }
}
