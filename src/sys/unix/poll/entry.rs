//! How an edge is made of a level, for one registration.
//!
//! What is level-triggered is left as it is. What is one-shot is *spent* once something was reported of it, and shown to
//! nobody until it becomes something else; so is what is parked. The rest of this page is of edges.
//!
//! What has been reported of an entry is *told*, and told bits are not shown to the kernel again until there is reason
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
//!   failed because the system is short of something, such as descriptors, changed nothing: re-arming would report it
//!   for ever too. From then on the entry is *unseen*, as a bare descriptor is from the start.
//! * The operations of an unseen entry cannot be relied on. Its told bits are *looked at*, with a poll that does not
//!   wait, before each wait; one that is no longer true is armed again. While there is something to look at, waits are
//!   cut into ticks, for another thread may drain it meanwhile. A bit that is still true may have been used up and
//!   become true again since the last look: if the number of unread bytes is another one it has, and is told again at
//!   once; else it is told again after some patience. So no edge is lost, and a descriptor that is simply left readable
//!   makes eight spurious events a second, one that is left writable fewer and fewer, down to one.
//! * `POLLHUP` and `POLLERR` cannot be masked. An entry that has told one of them is *stuck*: shown to nobody, and
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

use crate::interest::Mode;
use crate::sys::selector::Direction;
use crate::sys::unix::fstat;
use crate::sys::unix::fstat::Identity;
use crate::sys::unix::poll::event::{poll, POLLRDHUP};
use crate::token::Token;

/// Reported whether asked for or not.
const UNMASKABLE: c_short = POLLERR | POLLHUP;

/// How long what an unseen descriptor has told is believed to be unchanged while it looks so; and the most that this
/// grows to while it is not readable, as an idle one is not.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(128), Duration::from_millis(1024));

/// The time of birth of no entry: the clock has struck before the first.
pub(super) const NOBODY: u64 = 0;

pub(super) struct Entry {
    /// -1 in a vacant entry.
    pub(super) fd: RawFd,
    pub(super) token: Token,
    wanted: c_short,
    mode: Mode,
    spent: bool,
    told: c_short,
    /// What operations have re-armed since the entry is stuck: directions, and `POLLERR`.
    touched: c_short,
    /// A socket that has ended in both directions, or a pipe without its other end: only an operation can change that.
    is_final: bool,
    /// `POLLRDHUP`, if the system allows to wait for it on this kind of descriptor.
    half_close: c_short,
    /// Nothing but a number: the program may close it without the backend's knowledge.
    is_raw: bool,
    unseen: Option<Unseen>,
    /// To know when the number has become another's; `None` if that is not known, or cannot happen.
    identity: Option<Identity>,
    /// When it was registered, which names it ([`NOBODY`] if vacant), and when it last became something else.
    pub(super) born: u64,
    pub(super) changed: u64,
}

struct Unseen {
    /// How many bytes were unread when it was last reported, and when that is to be repeated.
    unread: Option<i32>,
    again: Instant,
    patience: Duration,
}

impl Unseen {
    /// It has just been reported that `told` are true.
    fn new(fd: RawFd, told: c_short, patience: Duration) -> Unseen {
        let unread = if told & POLLIN != 0 { fstat::unread(fd) } else { None };
        Unseen { unread, again: Instant::now() + patience, patience }
    }

    /// Which of the bits that are told and still true to tell again.
    fn retell(&mut self, fd: RawFd, told: c_short) -> c_short {
        let unread = if told & POLLIN != 0 { fstat::unread(fd) } else { None };
        if unread != self.unread && told & POLLIN != 0 {
            self.patience = PATIENCE.0;
            return POLLIN;
        }
        if Instant::now() < self.again {
            return 0;
        }
        let is_readable = told & POLLIN != 0 && (told & POLLHUP == 0 || unread > Some(0));
        self.patience = if is_readable { PATIENCE.0 } else { PATIENCE.1.min(self.patience * 2) };
        self.again = Instant::now() + self.patience;
        match (told & POLLHUP != 0, is_readable) {
            // What hung up is not writable again, and not hung up again.
            (true, true) => POLLIN,
            (true, false) => 0,
            (false, _) => told,
        }
    }
}

/// The bits to ask for, and how often to tell.
pub(super) type Wanted = (c_short, Mode);

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
    pub(super) fn new(fd: RawFd, token: Token, wanted: Wanted, identity: Option<Identity>, now: u64) -> Entry {
        let mut entry = Entry {
            fd,
            token,
            wanted: 0,
            mode: Mode::Edge,
            spent: false,
            told: 0,
            touched: 0,
            is_final: false,
            half_close: half_close(fd),
            is_raw: false,
            unseen: None,
            identity,
            born: now,
            changed: now,
        };
        entry.reset(token, wanted, now);
        entry
    }

    /// It is to be something else from now on.
    pub(super) fn reset(&mut self, token: Token, (wanted, mode): Wanted, now: u64) {
        let half_close = if wanted & POLLIN != 0 { self.half_close } else { 0 };
        self.wanted = wanted | half_close;
        (self.token, self.mode, self.spent) = (token, mode, mode == Mode::Parked);
        (self.told, self.touched, self.is_final, self.changed) = (0, 0, false, now);
    }

    pub(super) fn vacate(&mut self, now: u64) {
        *self = Entry { born: NOBODY, ..Entry::new(-1, self.token, (0, Mode::Parked), None, now) };
    }

    fn is_stuck(&self) -> bool {
        self.told & UNMASKABLE != 0
    }

    pub(super) fn is_looked_at(&self) -> bool {
        if self.is_final {
            return self.touched != 0;
        }
        self.is_stuck() || (self.unseen.is_some() && self.told != 0)
    }

    /// What the kernel is shown when it waits.
    pub(super) fn to_wait(&self) -> pollfd {
        // poll(2) passes over negative descriptors.
        let fd = if self.is_stuck() || self.spent { -1 } else { self.fd };
        pollfd { fd, events: self.wanted & !self.told, revents: 0 }
    }

    /// What the kernel is shown when it is looked at.
    pub(super) fn to_look(&self) -> pollfd {
        pollfd { fd: self.fd, events: self.wanted | self.half_close, revents: 0 }
    }

    /// Whether the number still stands for what was registered. Closing a descriptor ends its registration.
    pub(super) fn is_current(&self) -> bool {
        self.identity.map_or(true, |identity| identity.is_of(self.fd))
    }

    /// As `is_current`, when the number is being registered again. A raw number counts only if its inode is its own: a
    /// FIFO or a terminal may have been closed and opened again, and nothing that the kernel shows would differ.
    pub(super) fn is_certain(&self) -> bool {
        (!self.is_raw || self.identity.is_some_and(|identity| identity.is_unique)) && self.is_current()
    }

    /// The descriptor leaves its source.
    pub(super) fn detach(&mut self) {
        self.is_raw = true;
        self.stop_seeing();
    }

    /// Operations on it tell nothing from here on.
    pub(super) fn stop_seeing(&mut self) {
        if self.unseen.is_some() {
            return;
        }
        if self.identity.is_none() {
            self.identity = fstat::identify(self.fd).ok().flatten();
        }
        self.be_unseen();
    }

    /// As `stop_seeing`, for a raw number whose identity is known already.
    pub(super) fn be_raw(&mut self) {
        self.is_raw = true;
        self.be_unseen();
    }

    fn be_unseen(&mut self) {
        self.unseen = Some(Unseen::new(self.fd, self.told, PATIENCE.0));
    }

    /// An operation was done, and may have fetched an error.
    pub(super) fn rearm(&mut self, direction: Direction) {
        self.rearm_bits(direction, POLLERR);
    }

    /// An operation would have blocked, so that it has fetched no error.
    pub(super) fn rearm_blocked(&mut self, direction: Direction) {
        // The next error of a socket whose error was fetched in a way that is not seen is another.
        if self.told & UNMASKABLE == POLLERR && probe(self.fd, 0) & UNMASKABLE == 0 {
            self.told &= !POLLERR;
        }
        self.rearm_bits(direction, 0);
    }

    /// A read has returned 0 bytes.
    pub(super) fn rearm_ended(&mut self) {
        if fstat::is_socket(self.fd) {
            if POLLRDHUP != 0 {
                self.rearm_blocked(Direction::Read);
            }
        } else if probe(self.fd, POLLIN) & (POLLIN | UNMASKABLE) == POLLIN && fstat::unread(self.fd) <= Some(0) {
            // Still readable, with nothing to read: an end that lasts and has no bit, as of NetBSD's FIFOs and /dev/null.
            self.stop_seeing();
        } else {
            self.rearm_blocked(Direction::Read);
        }
    }

    fn rearm_bits(&mut self, direction: Direction, error: c_short) {
        if self.mode != Mode::Edge {
            return;
        }
        let mut bits = match direction {
            Direction::Read => POLLIN | POLLPRI,
            Direction::Write => POLLOUT,
            Direction::Either => POLLIN | POLLPRI | POLLOUT,
        };
        if direction == Direction::Either && self.wanted & POLLOUT != 0 && self.wanted != POLLOUT {
            self.stop_seeing();
            bits &= !POLLOUT;
        }
        if self.is_stuck() {
            self.touched |= bits | error;
            return;
        }
        let ended = if self.told & POLLRDHUP != 0 { POLLIN } else { 0 };
        self.told &= !bits | ended;
    }

    /// A look has shown what is true `now`.
    pub(super) fn looked(&mut self, now: c_short) {
        if self.is_stuck() {
            self.looked_stuck(now);
        }
        if let Some(unseen) = &mut self.unseen {
            if self.told & !now != 0 {
                unseen.patience = PATIENCE.0;
            }
            self.told &= !unseen.retell(self.fd, self.told & now);
        }
        self.told &= now;
        if !self.is_stuck() {
            self.told &= !self.touched;
            self.touched = 0;
        }
    }

    fn looked_stuck(&mut self, now: c_short) {
        if self.told & !now & POLLHUP != 0 {
            // What was readable was the end. It is over: a FIFO has another writer, and what is readable is new.
            self.touched |= POLLIN;
        }
        if self.touched != 0 && (self.told | now) & POLLHUP == 0 && fstat::is_socket(self.fd) {
            // An error, which is not the end of a socket as it is of a pipe.
            self.told &= !self.touched;
            self.touched = 0;
        } else if self.touched & now & POLLIN != 0 && fstat::unread(self.fd) > Some(0) {
            self.told &= !POLLIN;
        }
        let is_over = match now & UNMASKABLE {
            0 => false,
            _ if POLLRDHUP != 0 && now & POLLRDHUP != 0 => now & POLLHUP != 0,
            _ => fstat::is_pipe(self.fd),
        };
        self.is_final = is_over && (self.unseen.is_none() || fstat::unread(self.fd).unwrap_or(0) == 0);
        self.touched &= if self.is_final { 0 } else { !POLLIN };
    }

    /// Whether a look has shown what has to be told, and what the wait will not tell.
    pub(super) fn has_news(&self, now: c_short) -> bool {
        self.is_stuck() && now & !self.told != 0
    }

    /// The part of what a look has shown that a wait would report: a look asks for `POLLRDHUP` in any case.
    pub(super) fn of_interest(&self, now: c_short) -> c_short {
        now & (self.wanted | UNMASKABLE | POLLNVAL)
    }

    /// What a wait has shown, and what it was not to show: an error names no direction, but writable is part of it.
    pub(super) fn complete(&self, revents: c_short) -> c_short {
        let masked = self.wanted & self.told & POLLOUT;
        if revents & POLLERR == 0 || masked == 0 {
            return revents;
        }
        revents | probe(self.fd, masked) & masked
    }

    /// It has been reported that `revents` are true.
    pub(super) fn tell(&mut self, revents: c_short) {
        if self.mode != Mode::Edge {
            self.spent = self.mode == Mode::OneShot;
            return;
        }
        self.told |= revents & (self.wanted | UNMASKABLE);
        if let Some(unseen) = &mut self.unseen {
            *unseen = Unseen::new(self.fd, self.told, unseen.patience);
        }
    }
}
