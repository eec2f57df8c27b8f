//! The events that a backend must report for a registration, and the known differences between the backends.

use std::marker::PhantomData;

use crate::backend::Backend;
use crate::interest::Interest;
use crate::sys::conformance::differential::union;
use crate::sys::conformance::support::poll::BOTH;
use crate::sys::conformance::support::readiness::{ReadinessSet, E, NONE, R, RC, W, WC};
use crate::sys::conformance::system::judge::{
    bytes_readable, has_inode, raw, readiness_for, POLLERR, POLLHUP, POLLRDHUP,
};
use crate::sys::raw_source::RawSource;
use crate::sys::selector::{IoDirection, Selector, SourceKind};

/// All known differences: rows of the table of differences in the crate docs, and failures of libkqueue.
pub(super) struct KnownDifferences<T>(PhantomData<T>);

impl<T: Selector> KnownDifferences<T> {
    const POLL: bool = matches!(T::BACKEND, Backend::Poll);
    /// The backend masks what it has reported: unread data is reported again after an operation re-armed, and unobserved
    /// descriptors are reported again after a delay.
    pub(super) const MASKS: bool = matches!(T::BACKEND, Backend::Poll | Backend::Iocp);
    const KQUEUE: bool = matches!(T::BACKEND, Backend::Kqueue);
    const LIBKQUEUE: bool = Self::KQUEUE && cfg!(target_os = "linux");

    /// The masks are those of the model: an observed registration reports nothing that is masked. Each read re-arms, also one of
    /// 0 bytes, and an operation does nothing if no readiness is masked.
    pub(super) const MASKS_EXACTLY: bool = matches!(T::BACKEND, Backend::Iocp);

    /// Reading at the end of a pipe runs its filter again, and the writer has a second filter for the end of its reader.
    pub(super) const REPORTS_PIPES_AGAIN: bool = Self::KQUEUE && cfg!(any(target_os = "netbsd", target_os = "openbsd"));
    /// The number of milliseconds after which readiness that the judge has returned is reported at the latest. FreeBSD frees
    /// space before activating the filter. The packets of Windows come from another thread.
    pub(super) const LATE_LIMIT: u64 = match T::BACKEND {
        Backend::Kqueue if !Self::LIBKQUEUE => 200,
        Backend::Iocp => 2000,
        _ => 0,
    };
    /// A write frees the space of data that the peer has discarded with a read shutdown, and does not activate the filter.
    pub(super) const FREES_SPACE_SILENTLY: bool = Self::KQUEUE && cfg!(target_os = "netbsd");

    /// Returns the readiness that must be reported. A kqueue reports no errors of pipes, and reports closed for writing after
    /// a local shutdown. Without `POLLRDHUP`, closed for reading cannot be predicted.
    fn certain() -> ReadinessSet {
        match (Self::KQUEUE && !Self::LIBKQUEUE, POLLRDHUP) {
            (false, _) => R | W | RC | WC | E,
            (true, 0) => R | W,
            (true, _) => R | W | RC,
        }
    }

    /// Returns the readiness that may be reported. Unix reports hang-ups and errors for any interest.
    pub(super) fn allowed(raw: i16, interest: Interest) -> ReadinessSet {
        if T::BACKEND == Backend::Iocp {
            return readiness_for(raw, interest);
        }
        let hints = if Self::KQUEUE && !Self::LIBKQUEUE { RC | WC | E } else { NONE };
        let is_over = raw & (POLLHUP | POLLERR) != 0;
        hints | readiness_for(raw, interest) | if is_over { readiness_for(raw, BOTH) } else { NONE }
    }

    /// Returns the readiness that both backends report alike. A kqueue reports nothing for an unregistered direction.
    pub(super) fn common<U: Selector>(interest: Interest) -> ReadinessSet {
        let directions = union([(R | RC, interest.is_readable()), (W | WC, interest.is_writable())]);
        let all = if Self::KQUEUE || KnownDifferences::<U>::KQUEUE { directions } else { R | W | RC | WC | E };
        all & Self::certain() & KnownDifferences::<U>::certain()
    }

    /// Returns the capacity of the event buffer. On libkqueue an event of both directions takes two places, and an event without
    /// a place is lost (`linux_kevent_copyout`).
    pub(super) fn capacity(capacity: usize) -> usize {
        if Self::LIBKQUEUE {
            64
        } else {
            capacity
        }
    }

    /// Returns `true` if the backend does not detect that the descriptor is closed. libkqueue never does. poll(2) does not detect
    /// that a raw number has another file without an inode of its own, such as a socket of some systems.
    pub(super) fn misses_closing(fd: RawSource, kind: SourceKind) -> bool {
        Self::LIBKQUEUE || (Self::POLL && kind == SourceKind::RawFd && !has_inode(fd))
    }

    /// Returns `true` if registering a raw descriptor twice fails: see the table of differences.
    pub(super) fn rejects_duplicates(fd: RawSource) -> bool {
        !Self::KQUEUE && has_inode(fd)
    }

    /// Returns the readiness that poll(2) does not report: after a hang-up, the backend no longer polls the socket, so that a
    /// later error is not reported.
    fn hidden(raw: i16) -> ReadinessSet {
        let has_hung_up = POLLRDHUP != 0 && raw & POLLHUP != 0 && raw & POLLRDHUP != 0;
        if Self::POLL && has_hung_up {
            E
        } else {
            NONE
        }
    }

    /// Returns `true` if the kernel may have deleted the filter: FreeBSD deletes the filter of a broken pipe, and kevio keeps no
    /// record of raw descriptors.
    pub(super) fn may_lose_filter(fd: RawSource) -> bool {
        Self::KQUEUE && !Self::LIBKQUEUE && raw(fd) & (POLLHUP | POLLERR) != 0
    }
}

/// The expected state of a registration.
pub(super) struct ExpectedState {
    pub(super) token: usize,
    pub(super) interest: Interest,
    pub(super) kind: SourceKind,
    /// `true` if every operation goes through the registration.
    pub(super) is_observed: bool,
    /// `true` after a local read shutdown: data that arrives later makes no edge. NetBSD reports nothing.
    pub(super) read_shut_down: bool,
    /// The current readiness, and the number of readable bytes.
    level: ReadinessSet,
    unread: Option<i32>,
    /// The readiness that has begun, or began again, and was not reported since.
    unreported: ReadinessSet,
    /// The readiness that poll(2) has reported, and does not report again before an operation or a change; and the number of
    /// bytes that were readable then.
    reported_before: ReadinessSet,
    unread_at_report: Option<i32>,
    /// `true` after the event of a one-shot registration.
    disarmed: bool,
    /// Since the last wait: `true` if the source was registered; `true` if an operation was applied.
    pub(super) is_new: bool,
    pub(super) operated_on: bool,
    /// For this wait: the result of the judge before, the readiness that must be reported, and the readiness that was reported.
    pub(super) raw: i16,
    expected: ReadinessSet,
    pub(super) reported: ReadinessSet,
    /// The readiness that was reported since the source was registered.
    pub(super) ever_reported: ReadinessSet,
}

impl ExpectedState {
    pub(super) fn new(token: usize, interest: Interest, kind: SourceKind, is_observed: bool) -> ExpectedState {
        let (level, reported_before, raw, expected, reported) = (NONE, NONE, 0, NONE, NONE);
        let (unread, unread_at_report, disarmed, is_new, operated_on, unreported) =
            (None, None, false, true, true, R | W | RC | WC | E);
        ExpectedState {
            token,
            interest,
            kind,
            is_observed,
            read_shut_down: false,
            level,
            unread,
            unreported,
            reported_before,
            unread_at_report,
            disarmed,
            is_new,
            operated_on,
            raw,
            expected,
            reported,
            ever_reported: NONE,
        }
    }

    /// Returns `true` if an event may be reported.
    pub(super) fn is_armed(&self) -> bool {
        !self.disarmed && !self.interest.is_none()
    }

    /// Called after the events of one `select`. Disarms a reported one-shot registration.
    pub(super) fn end_select(&mut self) {
        self.disarmed |= self.interest.is_oneshot() && self.reported != NONE;
    }

    /// Updates the readiness with the judge. Returns its result.
    pub(super) fn probe(&mut self, fd: RawSource) -> i16 {
        let (raw, unread) = (raw(fd), bytes_readable(fd));
        let level = readiness_for(raw, self.interest);
        self.unreported |= level & !self.level;
        if unread > self.unread && raw & POLLRDHUP == 0 && !self.read_shut_down {
            self.unreported |= R;
        }
        (self.level, self.unread) = (level, unread);
        raw
    }

    /// Like `probe`, after a write that may have freed space silently: space that has begun need not be reported, and the first
    /// events of the registration are not compared.
    pub(super) fn probe_silent_write(&mut self, fd: RawSource) {
        let had_space = self.level.has(W);
        self.probe(fd);
        if self.level.has(W) && !had_space {
            self.unreported = self.unreported - W;
            self.is_new = false;
        }
    }

    /// From here on the backend has to probe the descriptor.
    pub(super) fn stop_observing(&mut self) {
        if self.is_observed {
            (self.is_observed, self.unread_at_report) = (false, self.unread);
        }
    }

    /// An operation re-armed the registration.
    pub(super) fn rearm<T: Selector>(&mut self, direction: IoDirection) {
        if KnownDifferences::<T>::MASKS_EXACTLY && self.reported_before == NONE {
            return; // The backend has nothing to re-arm.
        }
        let kept = match direction {
            IoDirection::Read => !R,
            IoDirection::Write => !W,
            // The operation may have written.
            IoDirection::Unknown if self.interest == BOTH => {
                self.stop_observing();
                !R
            }
            IoDirection::Unknown => !(R | W),
        };
        self.reported_before &= kept;
    }

    /// Starts a wait. A connection `is_slow` if its state depends on packets, and so may change before the backend probes.
    pub(super) fn begin_wait(&mut self, fd: RawSource, patiently: bool, is_slow: bool) {
        self.raw = self.probe(fd);
        if !self.is_observed && !is_slow {
            // The changes that a probe detects.
            let is_same = self.unread == self.unread_at_report;
            self.reported_before &= self.level & if is_same { !NONE } else { !R };
        }
        self.reported = NONE;
        self.expected = self.level & self.unreported & !self.reported_before;
        if patiently {
            self.expected |= self.delayed();
        }
        if !self.is_armed() {
            self.expected = NONE;
        }
    }

    /// Returns the readiness that a backend that probes reports after a delay.
    pub(super) fn delayed(&self) -> ReadinessSet {
        if self.is_observed || !self.interest.is_edge() {
            NONE
        } else {
            self.level & self.unreported & self.reported_before & !self.reported
        }
    }

    /// Returns the readiness of a record that is masked: it was reported, no operation has re-armed the registration since, and the
    /// record has nothing new.
    pub(super) fn masked<T: Selector>(&self, reported: ReadinessSet) -> ReadinessSet {
        let masked = (self.reported | self.reported_before) & (R | W);
        let is_exact = KnownDifferences::<T>::MASKS_EXACTLY && self.is_observed && self.interest.is_edge();
        // The end of the stream and errors make a source readable and writable again.
        if is_exact && (reported & (RC | WC | E)) - self.ever_reported == NONE {
            reported & masked
        } else {
            NONE
        }
    }

    /// Returns the readiness that is expected and current, and was not reported.
    pub(super) fn missing<T: Selector>(&self) -> ReadinessSet {
        // A one-shot registration may report only one direction.
        let reported = if self.interest.is_oneshot() && self.reported != NONE { !NONE } else { self.reported };
        self.expected
            & self.level
            & KnownDifferences::<T>::certain()
            & !KnownDifferences::<T>::hidden(self.raw)
            & !reported
    }

    /// Compares the reported readiness with the expected and the current readiness.
    pub(super) fn end_wait<T: Selector>(&mut self, fd: RawSource, is_exact: bool) -> Result<(), String> {
        let raw = self.probe(fd);
        let missing = self.missing::<T>();
        let allowed = KnownDifferences::<T>::allowed(raw, self.interest)
            | KnownDifferences::<T>::allowed(self.raw, self.interest);
        let wrong = self.reported & !allowed;
        let fault = match () {
            () if missing != NONE => format!("did not report {missing:?}"),
            () if wrong != NONE => format!("reported {wrong:?}, which is wrong"),
            () if !self.operated_on && is_exact && self.reported != NONE => {
                format!("reported {:?} again", self.reported)
            }
            () => {
                self.record_reported::<T>();
                return Ok(());
            }
        };
        Err(format!("{fault}; the judge returned {:#x} before and {raw:#x} after", self.raw))
    }

    fn record_reported<T: Selector>(&mut self) {
        self.unreported &= !self.reported;
        (self.is_new, self.operated_on) = (false, false);
        if KnownDifferences::<T>::MASKS && self.reported != NONE {
            self.reported_before |= self.reported & (R | W);
            self.unread_at_report = self.unread;
        }
    }
}
