//! One registration of the poll(2) backend, and the rules that make edges of levels.
//!
//! poll(2) is level-triggered and keeps no state. An edge-triggered registration must report readiness once. Therefore an
//! entry stores the bits that it has reported, and a wait leaves these bits out.
//!
//! # States
//!
//! ```text
//!                 reregistered
//!         +------------------------+
//!         |                        v
//!   +----------+  one-shot    +---------+  edge: an event    +----------------+
//!   | Disarmed |<-------------|  Armed  |------------------->| Reported(bits) |
//!   +----------+  event       +---------+<-------------------+----------------+
//!                                ^   |     all bits re-armed      |      ^
//!                                |   |                            |      |
//!                                |   | edge: POLLERR or POLLHUP   |      | probe: both
//!                                |   v                            v      | are gone
//!                                |  +----------------------------------------+
//!                                +--|            Unmaskable(bits)            |
//!                                   +----------------------------------------+
//! ```
//!
//! * `Armed`: a wait covers the whole interest. A level-triggered entry is always in this state.
//! * `Reported(bits)`: a wait covers the interest without these bits. Edge-triggered entries only.
//! * `Unmaskable(bits)`: the entry has reported `POLLERR` or `POLLHUP`, which a wait cannot leave out and would return at
//!   once. Therefore a wait leaves out the descriptor, and the entry is *probed*: poll(2) without waiting, before each
//!   wait. New bits of a probe are reported. If both bits are gone, the wait covers the entry again. Two causes are
//!   possible: a FIFO has a writer again, or an error was fetched.
//! * `Disarmed`: a wait leaves out the descriptor until the entry is reregistered. A one-shot entry is disarmed by its
//!   event. A disabled entry is disarmed from the start.
//!
//! Reregistering in any state makes the entry armed, or disarmed if the new interest is `Interest::NONE`.
//!
//! # What re-arms a reported bit
//!
//! 1. An operation through a source re-arms the bits of its direction, whatever its result. An operation that was done
//!    only in part re-arms too, because tokio takes a short read for a drained socket.
//! 2. After `POLLRDHUP` a read re-arms nothing. No more data can arrive, and the end would be reported again and again.
//! 3. A read of 0 bytes re-arms, because 0 bytes are not always the end: Ctrl-D at a terminal is a line of no bytes, and
//!    a FIFO may have another writer. On systems without `POLLRDHUP`, a read of 0 bytes from a socket is the only report
//!    of the end, and re-arms nothing. A descriptor that stays readable without a byte to read becomes unobserved.
//! 4. An operation of unknown direction (`do_io`) re-arms reading only, and the entry becomes unobserved. An idle socket
//!    is always writable. If writing were re-armed too, a program that tries to read at each event would receive events
//!    forever.
//! 5. An operation that failed because the system lacks a resource, such as descriptors, re-arms nothing, because it
//!    changed nothing. Re-arming would report the readiness forever. The entry becomes unobserved.
//! 6. An operation that did not fail with `WouldBlock` re-arms `POLLERR` of a socket, because an error that is pending
//!    afterwards is another error. An operation that failed with `WouldBlock` does not re-arm `POLLERR`, because the operation
//!    cannot fetch this error. An example is an unread error queue (`IP_RECVERR` of ip(7)).
//!
//! # Unobserved entries
//!
//! The operations on an *unobserved* entry do not all go through a source. A raw descriptor is unobserved from the start.
//! Reported bits of such an entry are probed before each wait. While a bit needs a probe, waits are cut into intervals,
//! because another thread may drain the descriptor meanwhile. A probe has three results:
//!
//! 1. The bit is gone: the bit is armed.
//! 2. The bit is set, and the number of unread bytes has changed: the bit is reported at once.
//! 3. The bit is set, and nothing differs: readiness may have ended and begun again since the last probe. The bit is
//!    reported when the report interval has passed.
//!
//! Therefore no edge is lost. A descriptor that stays readable makes eight spurious events a second. A descriptor that stays
//! writable makes fewer and fewer, down to one a second.
//!
//! # Final entries
//!
//! A socket that reports `POLLHUP` and `POLLRDHUP` has ended in both directions. A pipe without its other end has ended
//! too. Such an entry is *final*: nothing more can arrive, so that the entry is probed only after an operation. A FIFO or a
//! terminal is never final, because it can be opened again. (Linux can also open a pipe again, by its name in /proc. A
//! final registration misses that.)

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use libc::{c_short, pollfd, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI};

use crate::interest::TriggerMode;
use crate::sys::selector::IoDirection;
use crate::sys::unix::fstat;
use crate::sys::unix::fstat::FileId;
use crate::sys::unix::poll::event::{poll, POLLRDHUP};
use crate::token::Token;

/// The bits that poll(2) reports in any case.
const UNMASKABLE: c_short = POLLERR | POLLHUP;

/// The time after which a reported bit of an unobserved entry is reported again, although no change was found. While the
/// descriptor is not readable, the interval doubles from the first value to the second.
const REPORT_INTERVAL: (Duration, Duration) = (Duration::from_millis(128), Duration::from_millis(1024));

/// The generation of a vacant entry. The table counts from 1.
pub(super) const NO_GENERATION: u64 = 0;

pub(super) struct Entry {
    /// -1 in a vacant entry.
    pub(super) fd: RawFd,
    pub(super) token: Token,
    interest: c_short,
    mode: TriggerMode,
    state: State,
    /// The bits that operations have re-armed since the entry became unmaskable: directions, and `POLLERR`. The next probe
    /// applies these bits.
    io_since_probe: c_short,
    /// The last probe found a socket that has ended in both directions, or a pipe without its other end.
    is_final: bool,
    /// `POLLRDHUP`, or 0 if the system cannot wait for `POLLRDHUP` on this kind of descriptor.
    half_close: c_short,
    /// The descriptor is a raw number, which the program can close without notice.
    is_raw: bool,
    /// `Some` if the entry is unobserved.
    unobserved: Option<ProbeState>,
    /// The identity of the open file, which detects a reused number. `None` if the identity is unknown, or the number
    /// cannot be reused.
    file_id: Option<FileId>,
    /// The generation of the registration, which identifies it ([`NO_GENERATION`] if vacant).
    pub(super) generation: u64,
    /// The generation of the last registration or reregistration.
    pub(super) modified: u64,
}

/// The state of an entry, see the module's page. The bits are those that are reported and not re-armed.
#[derive(Copy, Clone)]
enum State {
    Armed,
    Reported(c_short),
    Unmaskable(c_short),
    Disarmed,
}

impl State {
    /// Returns the state of an edge-triggered entry that has reported `bits`.
    fn with_reported(bits: c_short) -> State {
        match bits {
            0 => State::Armed,
            _ if bits & UNMASKABLE != 0 => State::Unmaskable(bits),
            _ => State::Reported(bits),
        }
    }
}

/// The data that decides when a reported bit of an unobserved entry is reported again.
struct ProbeState {
    /// The number of unread bytes at the last report.
    unread: Option<i32>,
    next_report_at: Instant,
    report_interval: Duration,
}

impl ProbeState {
    /// Returns the data of an entry that has just reported the bits in `reported`.
    fn new(fd: RawFd, reported: c_short, report_interval: Duration) -> ProbeState {
        let unread = if reported & POLLIN != 0 { fstat::bytes_readable(fd) } else { None };
        ProbeState { unread, next_report_at: Instant::now() + report_interval, report_interval }
    }

    /// Returns the bits of `reported` that are due to be reported again. All bits of `reported` are set in the last probe.
    fn bits_due_again(&mut self, fd: RawFd, reported: c_short) -> c_short {
        let unread = if reported & POLLIN != 0 { fstat::bytes_readable(fd) } else { None };
        if unread != self.unread && reported & POLLIN != 0 {
            self.report_interval = REPORT_INTERVAL.0;
            return POLLIN;
        }
        if Instant::now() < self.next_report_at {
            return 0;
        }
        let is_readable = reported & POLLIN != 0 && (reported & POLLHUP == 0 || unread > Some(0));
        self.report_interval =
            if is_readable { REPORT_INTERVAL.0 } else { REPORT_INTERVAL.1.min(self.report_interval * 2) };
        self.next_report_at = Instant::now() + self.report_interval;
        match (reported & POLLHUP != 0, is_readable) {
            // After a hang-up neither writing nor the hang-up itself can begin again.
            (true, true) => POLLIN,
            (true, false) => 0,
            (false, _) => reported,
        }
    }
}

/// The bits of the interest, and the trigger mode.
pub(super) type ArmedFor = (c_short, TriggerMode);

/// Returns `POLLRDHUP` if poll(2) accepts it for the descriptor, else 0.
///
/// FreeBSD returns `POLLNVAL` unless the descriptor is a socket (`poll_no_poll` in its sys_generic.c). The backend would take
/// that for a closed descriptor.
fn half_close(fd: RawFd) -> c_short {
    let of_files = cfg!(has_pollrdhup_of_files);
    if of_files || (fd >= 0 && fstat::is_socket(fd)) {
        POLLRDHUP
    } else {
        0
    }
}

/// Returns the bits of `events`, and the unmaskable bits, that hold now.
fn probe(fd: RawFd, events: c_short) -> c_short {
    let mut probed = [pollfd { fd, events, revents: 0 }];
    poll(&mut probed, Some(Duration::ZERO)).map_or(0, |_| probed[0].revents)
}

impl Entry {
    pub(super) fn new(fd: RawFd, token: Token, armed_for: ArmedFor, file_id: Option<FileId>, generation: u64) -> Entry {
        let mut entry = Entry {
            fd,
            token,
            interest: 0,
            mode: TriggerMode::Edge,
            state: State::Armed,
            io_since_probe: 0,
            is_final: false,
            half_close: half_close(fd),
            is_raw: false,
            unobserved: None,
            file_id,
            generation,
            modified: generation,
        };
        entry.arm(token, armed_for, generation);
        entry
    }

    /// Starts again with this token, interest and mode. All that was reported can be reported again.
    pub(super) fn arm(&mut self, token: Token, (interest, mode): ArmedFor, generation: u64) {
        let half_close = if interest & POLLIN != 0 { self.half_close } else { 0 };
        self.interest = interest | half_close;
        (self.token, self.mode) = (token, mode);
        self.state = if mode == TriggerMode::Disabled { State::Disarmed } else { State::Armed };
        (self.io_since_probe, self.is_final, self.modified) = (0, false, generation);
    }

    /// Ends the registration. A wait leaves out a vacant entry.
    pub(super) fn vacate(&mut self, generation: u64) {
        let vacant = Entry::new(-1, self.token, (0, TriggerMode::Disabled), None, generation);
        *self = Entry { generation: NO_GENERATION, ..vacant };
    }

    fn reported(&self) -> c_short {
        match self.state {
            State::Armed | State::Disarmed => 0,
            State::Reported(bits) | State::Unmaskable(bits) => bits,
        }
    }

    fn set_reported(&mut self, bits: c_short) {
        self.state = State::with_reported(bits);
    }

    fn has_unmaskable(&self) -> bool {
        matches!(self.state, State::Unmaskable(_))
    }

    /// Returns `true` if the entry must be probed before a wait.
    pub(super) fn needs_probe(&self) -> bool {
        if self.is_final {
            return self.io_since_probe != 0;
        }
        match self.state {
            State::Armed | State::Disarmed => false,
            State::Reported(_) => self.unobserved.is_some(),
            State::Unmaskable(_) => true,
        }
    }

    /// Returns the record of the entry for a wait.
    pub(super) fn pollfd_for_wait(&self) -> pollfd {
        // poll(2) ignores negative descriptors.
        let fd = match self.state {
            State::Armed | State::Reported(_) => self.fd,
            State::Unmaskable(_) | State::Disarmed => -1,
        };
        pollfd { fd, events: self.interest & !self.reported(), revents: 0 }
    }

    /// Returns the record of the entry for a probe.
    pub(super) fn pollfd_for_probe(&self) -> pollfd {
        pollfd { fd: self.fd, events: self.interest | self.half_close, revents: 0 }
    }

    /// Returns `true` if the number still stands for the registered file. Closing a descriptor ends its registration.
    pub(super) fn is_same_file(&self) -> bool {
        self.file_id.map_or(true, |file_id| file_id.is_of(self.fd))
    }

    /// Like `is_same_file`, for a number that is registered again.
    ///
    /// A raw number needs a unique inode. If a FIFO or a terminal was closed and opened again, nothing that the kernel
    /// returns differs.
    pub(super) fn is_definitely_same_file(&self) -> bool {
        (!self.is_raw || self.file_id.is_some_and(|file_id| file_id.is_unique)) && self.is_same_file()
    }

    /// Makes the entry raw and unobserved, because its descriptor leaves its source and stays registered.
    pub(super) fn detach(&mut self) {
        self.is_raw = true;
        self.switch_to_probing();
    }

    /// Makes the entry unobserved.
    pub(super) fn switch_to_probing(&mut self) {
        if self.unobserved.is_some() {
            return;
        }
        if self.file_id.is_none() {
            self.file_id = fstat::pollable_file_id(self.fd).ok().flatten();
        }
        self.start_probing();
    }

    /// Makes the new entry of a raw descriptor unobserved. Its `file_id` is set already.
    pub(super) fn mark_raw(&mut self) {
        self.is_raw = true;
        self.start_probing();
    }

    fn start_probing(&mut self) {
        self.unobserved = Some(ProbeState::new(self.fd, self.reported(), REPORT_INTERVAL.0));
    }

    /// Re-arms after an operation, which may have fetched an error.
    pub(super) fn rearm(&mut self, direction: IoDirection) {
        self.rearm_bits(direction, POLLERR);
    }

    /// Re-arms after an operation that would have blocked, and so has fetched no error.
    pub(super) fn rearm_blocked(&mut self, direction: IoDirection) {
        // If an unobserved operation has fetched the reported error, the next error is another error.
        if self.reported() & UNMASKABLE == POLLERR && probe(self.fd, 0) & UNMASKABLE == 0 {
            self.set_reported(self.reported() & !POLLERR);
        }
        self.rearm_bits(direction, 0);
    }

    /// Re-arms after a read of 0 bytes.
    pub(super) fn rearm_ended(&mut self) {
        if fstat::is_socket(self.fd) {
            if POLLRDHUP != 0 {
                self.rearm_blocked(IoDirection::Read);
            }
        } else if probe(self.fd, POLLIN) & (POLLIN | UNMASKABLE) == POLLIN && fstat::bytes_readable(self.fd) <= Some(0)
        {
            // Still readable without a byte to read: the end lasts and has no bit, as of NetBSD's FIFOs and /dev/null.
            self.switch_to_probing();
        } else {
            self.rearm_blocked(IoDirection::Read);
        }
    }

    fn rearm_bits(&mut self, direction: IoDirection, error: c_short) {
        if self.mode != TriggerMode::Edge {
            return;
        }
        let mut bits = match direction {
            IoDirection::Read => POLLIN | POLLPRI,
            IoDirection::Write => POLLOUT,
            IoDirection::Unknown => POLLIN | POLLPRI | POLLOUT,
        };
        if direction == IoDirection::Unknown && self.interest & POLLOUT != 0 && self.interest != POLLOUT {
            self.switch_to_probing();
            bits &= !POLLOUT;
        }
        if self.has_unmaskable() {
            self.io_since_probe |= bits | error;
            return;
        }
        // After `POLLRDHUP` no more data can arrive.
        let ended_bits = if self.reported() & POLLRDHUP != 0 { POLLIN } else { 0 };
        self.set_reported(self.reported() & (!bits | ended_bits));
    }

    /// Applies a probe, whose bits are `probed`. Bits that are gone, or due to be reported again, are armed.
    pub(super) fn apply_probe(&mut self, probed: c_short) {
        if self.has_unmaskable() {
            self.apply_probe_to_unmaskable(probed);
        }
        let mut reported = self.reported();
        if let Some(unobserved) = &mut self.unobserved {
            if reported & !probed != 0 {
                unobserved.report_interval = REPORT_INTERVAL.0;
            }
            reported &= !unobserved.bits_due_again(self.fd, reported & probed);
        }
        self.set_reported(reported & probed);
        if !self.has_unmaskable() {
            self.apply_io_since_probe();
        }
    }

    fn apply_io_since_probe(&mut self) {
        self.set_reported(self.reported() & !self.io_since_probe);
        self.io_since_probe = 0;
    }

    fn apply_probe_to_unmaskable(&mut self, probed: c_short) {
        if self.reported() & !probed & POLLHUP != 0 {
            // `POLLIN` was the end, which is over: a FIFO has another writer, and `POLLIN` is new data.
            self.io_since_probe |= POLLIN;
        }
        if self.io_since_probe != 0 && (self.reported() | probed) & POLLHUP == 0 && fstat::is_socket(self.fd) {
            // `POLLERR` alone: an error is not the end of a socket, but of a pipe.
            self.apply_io_since_probe();
        } else if self.io_since_probe & probed & POLLIN != 0 && fstat::bytes_readable(self.fd) > Some(0) {
            self.set_reported(self.reported() & !POLLIN);
        }
        let has_ended = match probed & UNMASKABLE {
            0 => false,
            _ if POLLRDHUP != 0 && probed & POLLRDHUP != 0 => probed & POLLHUP != 0,
            _ => fstat::is_pipe(self.fd),
        };
        self.is_final = has_ended && (self.unobserved.is_none() || fstat::bytes_readable(self.fd).unwrap_or(0) == 0);
        self.io_since_probe &= if self.is_final { 0 } else { !POLLIN };
    }

    /// Returns `true` if a probe with the bits `probed` has to report, because the wait leaves out the descriptor.
    pub(super) fn has_unreported(&self, probed: c_short) -> bool {
        self.has_unmaskable() && probed & !self.reported() != 0
    }

    /// Returns the bits of a probe that a wait would return. A probe contains `POLLRDHUP` in any case.
    pub(super) fn bits_of_interest(&self, probed: c_short) -> c_short {
        probed & (self.interest | UNMASKABLE | POLLNVAL)
    }

    /// Returns the bits of a wait, with the `POLLOUT` that the wait left out. An error names no direction, and `POLLOUT` is
    /// part of an error's meaning (see `poll_bits`).
    pub(super) fn add_masked_writable(&self, revents: c_short) -> c_short {
        let masked = self.interest & self.reported() & POLLOUT;
        if revents & POLLERR == 0 || masked == 0 {
            return revents;
        }
        revents | probe(self.fd, masked) & masked
    }

    /// Records that an event with the bits `revents` was delivered.
    pub(super) fn mark_reported(&mut self, revents: c_short) {
        if self.mode != TriggerMode::Edge {
            self.state = if self.mode == TriggerMode::OneShot { State::Disarmed } else { State::Armed };
            return;
        }
        self.set_reported(self.reported() | revents & (self.interest | UNMASKABLE));
        let reported = self.reported();
        if let Some(unobserved) = &mut self.unobserved {
            *unobserved = ProbeState::new(self.fd, reported, unobserved.report_interval);
        }
    }
}
