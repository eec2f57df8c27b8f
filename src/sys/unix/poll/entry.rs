//! How an edge is made of a level, for one registration.
//!
//! What is level-triggered is left as it is. What is one-shot is *disarmed* once something was reported of it, and shown to
//! nobody until it becomes something else; so is what is parked. The rest of this page is of edges.
//!
//! What has been reported of an entry is *reported*, and reported bits are not shown to the kernel again until there is reason
//! to think that something new can be seen:
//!
//! * An operation through a source re-arms its direction, whatever its result: also one that was only partly done
//!   (tokio takes a short read for a drained socket). After the peer has said that it will send no more (`POLLRDHUP`),
//!   reading re-arms nothing: no more data can arrive, and the end would be reported again and again. A read of 0 bytes
//!   re-arms, because it is not always the end: Ctrl-D at a terminal is a line of no bytes, and a FIFO may have another
//!   writer. Where there is no `POLLRDHUP`, a read of 0 bytes from a socket is the only report of the end, and final.
//!   What stays readable without a byte to read is treated as after a shortage, below.
//! * An operation that may have read or written (`do_io`) re-arms reading. Were it to re-arm writing too, an idle socket,
//!   which is always writable, would be reported for ever to a program that tries to read on each event. One that
//!   failed because the system is short of something, such as descriptors, modified nothing: re-arming would report it
//!   for ever too. From then on the entry is *unobserved*, as a bare descriptor is from the start.
//! * The operations of an unobserved entry cannot be relied on. Its reported bits are *looked at*, with a poll that does not
//!   wait, before each wait; one that is no longer true is armed again. While there is something to look at, waits are
//!   cut into ticks, for another thread may drain it meanwhile. A bit that is still true may have been used up and
//!   become true again since the last look: if the number of unread bytes is another one it has, and is reported again at
//!   once; else it is reported again after some report_interval. So no edge is lost, and a descriptor that is simply left readable
//!   makes eight spurious events a second, one that is left writable fewer and fewer, down to one.
//! * `POLLHUP` and `POLLERR` cannot be masked. An entry that has reported one of them is *stuck*: shown to nobody, and
//!   looked at as above. New bits are reported; when both are gone (a FIFO has a writer again, an error was fetched) it
//!   is as any other. An operation that fetched something re-arms `POLLERR` of a socket, because what is pending after
//!   it is another error. An operation that would have blocked does not: the error is one that it does not fetch, such
//!   as an unread error queue (`IP_RECVERR` of ip(7)).
//! * A socket that reports `POLLHUP` and `POLLRDHUP` has ended in both directions, and so has a pipe whose other end has
//!   gone. It is *final*: nothing more can arrive, and it is looked at only after an operation. A FIFO or a terminal may
//!   be opened again. (Linux can open a pipe again too, by its name in /proc; a registration that is final misses it.)

use std::os::fd::RawFd;
use std::time::{Duration, Instant};

use libc::{c_short, pollfd, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI};

use crate::interest::TriggerMode;
use crate::sys::selector::IoDirection;
use crate::sys::unix::fstat;
use crate::sys::unix::fstat::FileId;
use crate::sys::unix::poll::event::{poll, POLLRDHUP};
use crate::token::Token;

/// Reported whether asked for or not.
const UNMASKABLE: c_short = POLLERR | POLLHUP;

/// How long what an unobserved descriptor has reported is believed to be unchanged while it probe_count so; and the most that this
/// grows to while it is not readable, as an idle one is not.
const REPORT_INTERVAL: (Duration, Duration) = (Duration::from_millis(128), Duration::from_millis(1024));

/// The time of birth of no entry: the generation has struck before the first.
pub(super) const NO_GENERATION: u64 = 0;

pub(super) struct Entry {
    /// -1 in a vacant entry.
    pub(super) fd: RawFd,
    pub(super) token: Token,
    wanted: c_short,
    mode: TriggerMode,
    disarmed: bool,
    reported: c_short,
    /// What operations have re-armed since the entry is stuck: directions, and `POLLERR`.
    io_since_probe: c_short,
    /// A socket that has ended in both directions, or a pipe without its other end: only an operation can change that.
    is_final: bool,
    /// `POLLRDHUP`, if the system allows to wait for it on this kind of descriptor.
    half_close: c_short,
    /// Nothing but a number: the program may close it without the backend's knowledge.
    is_raw: bool,
    unobserved: Option<ProbeState>,
    /// To know when the number has become another's; `None` if that is not known, or cannot happen.
    file_id: Option<FileId>,
    /// When it was registered, which names it ([`NO_GENERATION`] if vacant), and when it last became something else.
    pub(super) generation: u64,
    pub(super) modified: u64,
}

struct ProbeState {
    /// How many bytes were unread when it was last reported, and when that is to be repeated.
    unread: Option<i32>,
    next_report_at: Instant,
    report_interval: Duration,
}

impl ProbeState {
    /// It has just been reported that `reported` are true.
    fn new(fd: RawFd, reported: c_short, report_interval: Duration) -> ProbeState {
        let unread = if reported & POLLIN != 0 { fstat::bytes_readable(fd) } else { None };
        ProbeState { unread, next_report_at: Instant::now() + report_interval, report_interval }
    }

    /// Which of the bits that are reported and still true to tell again.
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
            // What hung up is not writable again, and not hung up again.
            (true, true) => POLLIN,
            (true, false) => 0,
            (false, _) => reported,
        }
    }
}

/// The bits to ask for, and how often to tell.
pub(super) type ArmedFor = (c_short, TriggerMode);

/// `POLLRDHUP` where it may be part of the question. FreeBSD answers `POLLNVAL` to it unless the descriptor is a socket
/// (`poll_no_poll` in its sys_generic.c), which would read as a closed descriptor.
fn half_close(fd: RawFd) -> c_short {
    let of_files = cfg!(has_pollrdhup_of_files);
    if of_files || (fd >= 0 && fstat::is_socket(fd)) {
        POLLRDHUP
    } else {
        0
    }
}

/// What is true now of `events`, and of what is reported in any case.
fn probe(fd: RawFd, events: c_short) -> c_short {
    let mut probed = [pollfd { fd, events, revents: 0 }];
    poll(&mut probed, Some(Duration::ZERO)).map_or(0, |_| probed[0].revents)
}

impl Entry {
    pub(super) fn new(fd: RawFd, token: Token, wanted: ArmedFor, file_id: Option<FileId>, now: u64) -> Entry {
        let mut entry = Entry {
            fd,
            token,
            wanted: 0,
            mode: TriggerMode::Edge,
            disarmed: false,
            reported: 0,
            io_since_probe: 0,
            is_final: false,
            half_close: half_close(fd),
            is_raw: false,
            unobserved: None,
            file_id,
            generation: now,
            modified: now,
        };
        entry.arm(token, wanted, now);
        entry
    }

    /// It is to be something else from now on.
    pub(super) fn arm(&mut self, token: Token, (wanted, mode): ArmedFor, now: u64) {
        let half_close = if wanted & POLLIN != 0 { self.half_close } else { 0 };
        self.wanted = wanted | half_close;
        (self.token, self.mode, self.disarmed) = (token, mode, mode == TriggerMode::Disabled);
        (self.reported, self.io_since_probe, self.is_final, self.modified) = (0, 0, false, now);
    }

    pub(super) fn vacate(&mut self, now: u64) {
        *self =
            Entry { generation: NO_GENERATION, ..Entry::new(-1, self.token, (0, TriggerMode::Disabled), None, now) };
    }

    fn has_unmaskable(&self) -> bool {
        self.reported & UNMASKABLE != 0
    }

    pub(super) fn needs_probe(&self) -> bool {
        if self.is_final {
            return self.io_since_probe != 0;
        }
        self.has_unmaskable() || (self.unobserved.is_some() && self.reported != 0)
    }

    /// What the kernel is shown when it waits.
    pub(super) fn pollfd_for_wait(&self) -> pollfd {
        // poll(2) passes over negative descriptors.
        let fd = if self.has_unmaskable() || self.disarmed { -1 } else { self.fd };
        pollfd { fd, events: self.wanted & !self.reported, revents: 0 }
    }

    /// What the kernel is shown when it is looked at.
    pub(super) fn pollfd_for_probe(&self) -> pollfd {
        pollfd { fd: self.fd, events: self.wanted | self.half_close, revents: 0 }
    }

    /// Whether the number still stands for what was registered. Closing a descriptor ends its registration.
    pub(super) fn is_same_file(&self) -> bool {
        self.file_id.map_or(true, |file_id| file_id.is_of(self.fd))
    }

    /// As `is_current`, when the number is being registered again. A raw number counts only if its inode is its own: a
    /// FIFO or a terminal may have been closed and opened again, and nothing that the kernel shows would differ.
    pub(super) fn is_certain(&self) -> bool {
        (!self.is_raw || self.file_id.is_some_and(|file_id| file_id.is_unique)) && self.is_same_file()
    }

    /// The descriptor leaves its source.
    pub(super) fn detach(&mut self) {
        self.is_raw = true;
        self.switch_to_probing();
    }

    /// Operations on it tell nothing from here on.
    pub(super) fn switch_to_probing(&mut self) {
        if self.unobserved.is_some() {
            return;
        }
        if self.file_id.is_none() {
            self.file_id = fstat::pollable_file_id(self.fd).ok().flatten();
        }
        self.start_probing();
    }

    /// As `switch_to_probing`, for a raw number whose file_id is known already.
    pub(super) fn be_raw(&mut self) {
        self.is_raw = true;
        self.start_probing();
    }

    fn start_probing(&mut self) {
        self.unobserved = Some(ProbeState::new(self.fd, self.reported, REPORT_INTERVAL.0));
    }

    /// An operation was done, and may have fetched an error.
    pub(super) fn rearm(&mut self, direction: IoDirection) {
        self.rearm_bits(direction, POLLERR);
    }

    /// An operation would have blocked, so that it has fetched no error.
    pub(super) fn rearm_blocked(&mut self, direction: IoDirection) {
        // The next error of a socket whose error was fetched in a way that is not seen is another.
        if self.reported & UNMASKABLE == POLLERR && probe(self.fd, 0) & UNMASKABLE == 0 {
            self.reported &= !POLLERR;
        }
        self.rearm_bits(direction, 0);
    }

    /// A read has returned 0 bytes.
    pub(super) fn rearm_ended(&mut self) {
        if fstat::is_socket(self.fd) {
            if POLLRDHUP != 0 {
                self.rearm_blocked(IoDirection::Read);
            }
        } else if probe(self.fd, POLLIN) & (POLLIN | UNMASKABLE) == POLLIN && fstat::bytes_readable(self.fd) <= Some(0)
        {
            // Still readable, with nothing to read: an end that lasts and has no bit, as of NetBSD's FIFOs and /dev/null.
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
        if direction == IoDirection::Unknown && self.wanted & POLLOUT != 0 && self.wanted != POLLOUT {
            self.switch_to_probing();
            bits &= !POLLOUT;
        }
        if self.has_unmaskable() {
            self.io_since_probe |= bits | error;
            return;
        }
        let ended = if self.reported & POLLRDHUP != 0 { POLLIN } else { 0 };
        self.reported &= !bits | ended;
    }

    /// A look has shown what is true `now`.
    pub(super) fn apply_probe(&mut self, now: c_short) {
        if self.has_unmaskable() {
            self.looked_stuck(now);
        }
        if let Some(unobserved) = &mut self.unobserved {
            if self.reported & !now != 0 {
                unobserved.report_interval = REPORT_INTERVAL.0;
            }
            self.reported &= !unobserved.bits_due_again(self.fd, self.reported & now);
        }
        self.reported &= now;
        if !self.has_unmaskable() {
            self.reported &= !self.io_since_probe;
            self.io_since_probe = 0;
        }
    }

    fn looked_stuck(&mut self, now: c_short) {
        if self.reported & !now & POLLHUP != 0 {
            // What was readable was the end. It is over: a FIFO has another writer, and what is readable is new.
            self.io_since_probe |= POLLIN;
        }
        if self.io_since_probe != 0 && (self.reported | now) & POLLHUP == 0 && fstat::is_socket(self.fd) {
            // An error, which is not the end of a socket as it is of a pipe.
            self.reported &= !self.io_since_probe;
            self.io_since_probe = 0;
        } else if self.io_since_probe & now & POLLIN != 0 && fstat::bytes_readable(self.fd) > Some(0) {
            self.reported &= !POLLIN;
        }
        let is_over = match now & UNMASKABLE {
            0 => false,
            _ if POLLRDHUP != 0 && now & POLLRDHUP != 0 => now & POLLHUP != 0,
            _ => fstat::is_pipe(self.fd),
        };
        self.is_final = is_over && (self.unobserved.is_none() || fstat::bytes_readable(self.fd).unwrap_or(0) == 0);
        self.io_since_probe &= if self.is_final { 0 } else { !POLLIN };
    }

    /// Whether a look has shown what has to be reported, and what the wait will not tell.
    pub(super) fn has_unreported(&self, now: c_short) -> bool {
        self.has_unmaskable() && now & !self.reported != 0
    }

    /// The part of what a look has shown that a wait would report: a look asks for `POLLRDHUP` in any case.
    pub(super) fn of_interest(&self, now: c_short) -> c_short {
        now & (self.wanted | UNMASKABLE | POLLNVAL)
    }

    /// What a wait has shown, and what it was not to show: an error names no direction, but writable is part of it.
    pub(super) fn complete(&self, revents: c_short) -> c_short {
        let masked = self.wanted & self.reported & POLLOUT;
        if revents & POLLERR == 0 || masked == 0 {
            return revents;
        }
        revents | probe(self.fd, masked) & masked
    }

    /// It has been reported that `revents` are true.
    pub(super) fn mark_reported(&mut self, revents: c_short) {
        if self.mode != TriggerMode::Edge {
            self.disarmed = self.mode == TriggerMode::OneShot;
            return;
        }
        self.reported |= revents & (self.wanted | UNMASKABLE);
        if let Some(unobserved) = &mut self.unobserved {
            *unobserved = ProbeState::new(self.fd, self.reported, unobserved.report_interval);
        }
    }
}
