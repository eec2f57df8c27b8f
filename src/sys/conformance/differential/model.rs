//! What an engine owes, and what it is excused from.

use std::marker::PhantomData;
use std::os::fd::RawFd;

use libc::{c_short, POLLERR, POLLHUP, POLLIN, POLLOUT};

use crate::backend::Backend;
use crate::interest::Interest;
use crate::sys::conformance::support::poll::BOTH;
use crate::sys::selector::{EventRecord, IoDirection, Selector, SourceKind};
use crate::sys::unix::{fstat, syscall};

#[cfg(has_pollrdhup)]
const POLLRDHUP: c_short = libc::POLLRDHUP;
#[cfg(not(has_pollrdhup))]
const POLLRDHUP: c_short = 0;

/// A set of answers to the questions of a `EventRecord`.
pub(super) type Answers = u8;
pub(super) const R: Answers = 1;
pub(super) const W: Answers = 2;
pub(super) const RC: Answers = 4;
pub(super) const WC: Answers = 8;
pub(super) const E: Answers = 16;
pub(super) const ALL: Answers = R | W | RC | WC | E;

fn sum<const N: usize>(list: [(Answers, bool); N]) -> Answers {
    list.iter().filter(|(_, is_true)| *is_true).fold(0, |all, (answer, _)| all | answer)
}

pub(super) fn answers(record: &impl EventRecord) -> Answers {
    sum([
        (R, record.is_readable()),
        (W, record.is_writable()),
        (RC, record.is_read_closed()),
        (WC, record.is_write_closed()),
        (E, record.is_error()),
    ])
}

pub(super) fn names(answers: Answers) -> String {
    let names = [(R, "readable"), (W, "writable"), (RC, "read closed"), (WC, "write closed"), (E, "error")];
    let reported: Vec<_> =
        names.into_iter().filter(|(answer, _)| answers & answer != 0).map(|(_, name)| name).collect();
    if reported.is_empty() {
        "nothing".to_owned()
    } else {
        reported.join(", ")
    }
}

/// What the system says of a descriptor now.
pub(super) fn raw(fd: RawFd) -> c_short {
    let mut one = libc::pollfd { fd, events: POLLIN | POLLOUT | POLLRDHUP, revents: 0 };
    // SAFETY: one record is read and written.
    syscall::cvt(unsafe { libc::poll(&mut one, 1, 0) }).unwrap();
    one.revents
}

/// The answers that are right for one who asks for `interest`.
pub(super) fn expected_answers(raw: c_short, interest: Interest) -> Answers {
    let has = |bits| raw & bits != 0;
    let is_broken_pipe = raw & (POLLERR | POLLIN) == POLLERR;
    // An error names no direction: it is readable unless writable is reported with it.
    let is_error_of_reading = has(POLLERR) && !(interest.is_writable() && has(POLLOUT));
    sum([
        (R, interest.is_readable() && (has(POLLIN | POLLRDHUP | POLLHUP) || is_error_of_reading)),
        (W, interest.is_writable() && has(POLLOUT | POLLHUP | POLLERR)),
        (RC, interest.is_readable() && has(POLLHUP | POLLRDHUP)),
        (WC, interest.is_writable() && (has(POLLHUP) || is_broken_pipe)),
        (E, has(POLLERR)),
    ])
}

fn has_inode(fd: RawFd) -> bool {
    fstat::pollable_file_id(fd).unwrap().is_some_and(|identity| identity.is_unique)
}

/// All that is excused: rows of the table of differences in the crate docs, and faults of libkqueue.
pub(super) struct KnownDifferences<T>(PhantomData<T>);

impl<T: Selector> KnownDifferences<T> {
    /// It says again what was not read when an operation re-armed it, and of what it does not see, after some patience.
    pub(super) const POLL: bool = matches!(T::BACKEND, Backend::Poll);
    const KQUEUE: bool = matches!(T::BACKEND, Backend::Kqueue);
    const LIBKQUEUE: bool = Self::KQUEUE && cfg!(target_os = "linux");

    /// Reading at the end of a pipe runs its filter again, and a pipe writer has a second filter for the end of its reader.
    pub(super) const REPORTS_PIPES_AGAIN: bool = Self::KQUEUE && cfg!(any(target_os = "netbsd", target_os = "openbsd"));
    pub(super) const ACTIVATES_LATE: bool = Self::KQUEUE && !Self::LIBKQUEUE;

    /// The answers that it is to give. A kqueue knows no errors of pipes, and says that writing is closed when it was
    /// shut down here; where there is no `POLLRDHUP`, when it says that reading is cannot be foreseen.
    const CERTAIN: Answers = match (Self::KQUEUE && !Self::LIBKQUEUE, POLLRDHUP) {
        (false, _) => ALL,
        (true, 0) => R | W,
        (true, _) => R | W | RC,
    };

    /// Those it may give. Hang-ups and errors are told to everybody.
    pub(super) fn allowed(raw: c_short, interest: Interest) -> Answers {
        let hints = if Self::KQUEUE && !Self::LIBKQUEUE { RC | WC | E } else { 0 };
        let is_over = raw & (POLLHUP | POLLERR) != 0;
        hints | expected_answers(raw, interest) | if is_over { expected_answers(raw, BOTH) } else { 0 }
    }

    /// Those that two engines give alike: a kqueue says nothing of a direction that was not asked for.
    pub(super) fn common<U: Selector>(interest: Interest) -> Answers {
        let asked = sum([(R | RC, interest.is_readable()), (W | WC, interest.is_writable())]);
        let all = if Self::KQUEUE || KnownDifferences::<U>::KQUEUE { asked } else { ALL };
        all & Self::CERTAIN & KnownDifferences::<U>::CERTAIN
    }

    /// libkqueue: an event of both directions takes two places, and what has no place is lost (`linux_kevent_copyout`).
    pub(super) fn capacity(capacity: usize) -> usize {
        if Self::LIBKQUEUE {
            64
        } else {
            capacity
        }
    }

    /// libkqueue sees no descriptor close. poll(2) does not see that a bare number is another's, if the file has no
    /// inode of its own, as the sockets of some systems.
    pub(super) fn misses_closing(fd: RawFd, kind: SourceKind) -> bool {
        Self::LIBKQUEUE || (Self::POLL && kind == SourceKind::RawFd && !has_inode(fd))
    }

    /// "a bare descriptor registered twice"
    pub(super) fn rejects_duplicates(fd: RawFd) -> bool {
        !Self::KQUEUE && has_inode(fd)
    }

    /// poll(2) looks no more at a socket that has hung up, and an error that follows is not reported.
    fn hidden(raw: c_short) -> Answers {
        let read_shut_down = POLLRDHUP != 0 && raw & POLLHUP != 0 && raw & POLLRDHUP != 0;
        if Self::POLL && read_shut_down {
            E
        } else {
            0
        }
    }

    /// FreeBSD deletes the filter of a pipe that broke, and that a bare descriptor had one is not known.
    pub(super) fn may_lose_filter(fd: RawFd) -> bool {
        Self::KQUEUE && !Self::LIBKQUEUE && raw(fd) & (POLLHUP | POLLERR) != 0
    }
}

/// What is known of a registration.
pub(super) struct ExpectedState {
    pub(super) token: usize,
    pub(super) interest: Interest,
    pub(super) kind: SourceKind,
    /// Whether the engine is told of every operation.
    pub(super) is_observed: bool,
    /// Reading was shut down here: what arrives after the end is not news. NetBSD reports nothing of it.
    pub(super) read_shut_down: bool,
    /// What is true, and how much can be read.
    level: Answers,
    unread: Option<i32>,
    /// What has begun, or began anew, and was not said since.
    unreported: Answers,
    /// What poll(2) has said, and does not say again before there is reason to; and how much could be read then.
    reported_before: Answers,
    unread_at_report: Option<i32>,
    /// It is one-shot and was told.
    disarmed: bool,
    /// Since the last wait: it was registered; something was done to it.
    pub(super) is_new: bool,
    pub(super) operated_on: bool,
    /// Of this wait: what was true before, what has to be said, and what was said.
    pub(super) raw: c_short,
    expected: Answers,
    pub(super) reported: Answers,
}

impl ExpectedState {
    pub(super) fn new(token: usize, interest: Interest, kind: SourceKind, is_observed: bool) -> ExpectedState {
        let (level, reported_before, raw, expected, reported) = (0, 0, 0, 0, 0);
        let (unread, unread_at_report, disarmed, is_new, operated_on, unreported) =
            (None, None, false, true, true, ALL);
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
        }
    }

    /// Whether there may be an event of it.
    pub(super) fn is_armed(&self) -> bool {
        !self.disarmed && !self.interest.is_none()
    }

    /// The events of one `select` have been heard.
    pub(super) fn observed(&mut self) {
        self.disarmed |= self.interest.is_oneshot() && self.reported != 0;
    }

    /// Looks at what is true.
    pub(super) fn probe(&mut self, fd: RawFd) -> c_short {
        let (raw, unread) = (raw(fd), fstat::bytes_readable(fd));
        let level = expected_answers(raw, self.interest);
        self.unreported |= level & !self.level;
        if unread > self.unread && raw & POLLRDHUP == 0 && !self.read_shut_down {
            self.unreported |= R;
        }
        (self.level, self.unread) = (level, unread);
        raw
    }

    /// From here on the engine has to look for itself.
    pub(super) fn stop_observing(&mut self) {
        if self.is_observed {
            (self.is_observed, self.unread_at_report) = (false, self.unread);
        }
    }

    /// The engine was told of an operation.
    pub(super) fn rearm(&mut self, direction: IoDirection) {
        self.reported_before &= match direction {
            IoDirection::Read => !R,
            IoDirection::Write => !W,
            // Nobody knows whether it wrote.
            IoDirection::Unknown if self.interest == BOTH => {
                self.stop_observing();
                !R
            }
            IoDirection::Unknown => !(R | W),
        };
    }

    /// A connection `is_slow` if packets make its state, which may change before the engine looks.
    pub(super) fn begin_wait(&mut self, fd: RawFd, patiently: bool, is_slow: bool) {
        self.raw = self.probe(fd);
        if !self.is_observed && !is_slow {
            // What the engine finds out when it looks.
            let is_same = self.unread == self.unread_at_report;
            self.reported_before &= self.level & if is_same { ALL } else { !R };
        }
        self.reported = 0;
        self.expected = self.level & self.unreported & !self.reported_before;
        if patiently {
            self.expected |= self.delayed();
        }
        if !self.is_armed() {
            self.expected = 0;
        }
    }

    /// What an engine that has to look for itself says after some patience.
    pub(super) fn delayed(&self) -> Answers {
        if self.is_observed || !self.interest.is_edge() {
            0
        } else {
            self.level & self.unreported & self.reported_before & !self.reported
        }
    }

    /// What is owed, true and was not said.
    pub(super) fn missing<T: Selector>(&self) -> Answers {
        // A one-shot registration may say but one direction.
        let reported = if self.interest.is_oneshot() && self.reported != 0 { ALL } else { self.reported };
        self.expected
            & self.level
            & KnownDifferences::<T>::CERTAIN
            & !KnownDifferences::<T>::hidden(self.raw)
            & !reported
    }

    /// Holds what was said against what was owed and what is true.
    pub(super) fn end_wait<T: Selector>(&mut self, fd: RawFd, is_exact: bool) -> Result<(), String> {
        let raw = self.probe(fd);
        let missing = self.missing::<T>();
        let allowed = KnownDifferences::<T>::allowed(raw, self.interest)
            | KnownDifferences::<T>::allowed(self.raw, self.interest);
        let wrong = self.reported & !allowed;
        let fault = match () {
            () if missing != 0 => format!("does not say {}", names(missing)),
            () if wrong != 0 => format!("says {}, which is wrong", names(wrong)),
            () if !self.operated_on && is_exact && self.reported != 0 => format!("says {} again", names(self.reported)),
            () => {
                self.remember::<T>();
                return Ok(());
            }
        };
        Err(format!("{fault}; poll(2) says {:#x} before and {raw:#x} after", self.raw))
    }

    fn remember<T: Selector>(&mut self) {
        self.unreported &= !self.reported;
        (self.is_new, self.operated_on) = (false, false);
        if KnownDifferences::<T>::POLL && self.reported != 0 {
            self.reported_before |= self.reported & (R | W);
            self.unread_at_report = self.unread;
        }
    }
}
