//! What an engine owes, and what it is excused from.

use std::marker::PhantomData;
use std::os::fd::RawFd;

use libc::{c_short, POLLERR, POLLHUP, POLLIN, POLLOUT};

use crate::backend::Backend;
use crate::interest::Interest;
use crate::sys::conformance::BOTH;
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
    let said: Vec<_> = names.into_iter().filter(|(answer, _)| answers & answer != 0).map(|(_, name)| name).collect();
    if said.is_empty() {
        "nothing".to_owned()
    } else {
        said.join(", ")
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
pub(super) fn truth(raw: c_short, interest: Interest) -> Answers {
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
pub(super) struct Excuses<T>(PhantomData<T>);

impl<T: Selector> Excuses<T> {
    /// It says again what was not read when an operation re-armed it, and of what it does not see, after some patience.
    pub(super) const POLL: bool = matches!(T::BACKEND, Backend::Poll);
    const KQUEUE: bool = matches!(T::BACKEND, Backend::Kqueue);
    const LIBKQUEUE: bool = Self::KQUEUE && cfg!(target_os = "linux");

    /// Reading at the end of a pipe runs its filter again, and a pipe writer has a second filter for the end of its reader.
    pub(super) const REPEATS_PIPES: bool = Self::KQUEUE && cfg!(any(target_os = "netbsd", target_os = "openbsd"));
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
        hints | truth(raw, interest) | if is_over { truth(raw, BOTH) } else { 0 }
    }

    /// Those that two engines give alike: a kqueue says nothing of a direction that was not asked for.
    pub(super) fn common<U: Selector>(interest: Interest) -> Answers {
        let asked = sum([(R | RC, interest.is_readable()), (W | WC, interest.is_writable())]);
        let all = if Self::KQUEUE || Excuses::<U>::KQUEUE { asked } else { ALL };
        all & Self::CERTAIN & Excuses::<U>::CERTAIN
    }

    /// libkqueue: an event of both directions takes two places, and what has no place is lost (`linux_kevent_copyout`).
    pub(super) fn room(room: usize) -> usize {
        if Self::LIBKQUEUE {
            64
        } else {
            room
        }
    }

    /// libkqueue sees no descriptor close. poll(2) does not see that a bare number is another's, if the file has no
    /// inode of its own, as the sockets of some systems.
    pub(super) fn misses_closing(fd: RawFd, kind: SourceKind) -> bool {
        Self::LIBKQUEUE || (Self::POLL && kind == SourceKind::RawFd && !has_inode(fd))
    }

    /// "a bare descriptor registered twice"
    pub(super) fn refuses_twice(fd: RawFd) -> bool {
        !Self::KQUEUE && has_inode(fd)
    }

    /// poll(2) looks no more at a socket that has hung up, and an error that follows is not reported.
    fn hidden(raw: c_short) -> Answers {
        let has_ended = POLLRDHUP != 0 && raw & POLLHUP != 0 && raw & POLLRDHUP != 0;
        if Self::POLL && has_ended {
            E
        } else {
            0
        }
    }

    /// FreeBSD deletes the filter of a pipe that broke, and that a bare descriptor had one is not known.
    pub(super) fn may_forget(fd: RawFd) -> bool {
        Self::KQUEUE && !Self::LIBKQUEUE && raw(fd) & (POLLHUP | POLLERR) != 0
    }
}

/// What is known of a registration.
pub(super) struct Watch {
    pub(super) token: usize,
    pub(super) interest: Interest,
    pub(super) kind: SourceKind,
    /// Whether the engine is told of every operation.
    pub(super) seen: bool,
    /// Reading was shut down here: what arrives after the end is not news. NetBSD reports nothing of it.
    pub(super) has_ended: bool,
    /// What is true, and how much can be read.
    level: Answers,
    unread: Option<i32>,
    /// What has begun, or began anew, and was not said since.
    news: Answers,
    /// What poll(2) has said, and does not say again before there is reason to; and how much could be read then.
    told: Answers,
    told_unread: Option<i32>,
    /// It is one-shot and was told.
    spent: bool,
    /// Since the last wait: it was registered; something was done to it.
    pub(super) fresh: bool,
    pub(super) touched: bool,
    /// Of this wait: what was true before, what has to be said, and what was said.
    pub(super) raw: c_short,
    owed: Answers,
    pub(super) said: Answers,
}

impl Watch {
    pub(super) fn new(token: usize, interest: Interest, kind: SourceKind, seen: bool) -> Watch {
        let (level, told, raw, owed, said) = (0, 0, 0, 0, 0);
        let (unread, told_unread, spent, fresh, touched, news) = (None, None, false, true, true, ALL);
        Watch {
            token,
            interest,
            kind,
            seen,
            has_ended: false,
            level,
            unread,
            news,
            told,
            told_unread,
            spent,
            fresh,
            touched,
            raw,
            owed,
            said,
        }
    }

    /// Whether there may be an event of it.
    pub(super) fn is_armed(&self) -> bool {
        !self.spent && !self.interest.is_none()
    }

    /// The events of one `select` have been heard.
    pub(super) fn heard(&mut self) {
        self.spent |= self.interest.is_oneshot() && self.said != 0;
    }

    /// Looks at what is true.
    pub(super) fn look(&mut self, fd: RawFd) -> c_short {
        let (raw, unread) = (raw(fd), fstat::bytes_readable(fd));
        let level = truth(raw, self.interest);
        self.news |= level & !self.level;
        if unread > self.unread && raw & POLLRDHUP == 0 && !self.has_ended {
            self.news |= R;
        }
        (self.level, self.unread) = (level, unread);
        raw
    }

    /// From here on the engine has to look for itself.
    pub(super) fn stop_seeing(&mut self) {
        if self.seen {
            (self.seen, self.told_unread) = (false, self.unread);
        }
    }

    /// The engine was told of an operation.
    pub(super) fn rearm(&mut self, direction: IoDirection) {
        self.told &= match direction {
            IoDirection::Read => !R,
            IoDirection::Write => !W,
            // Nobody knows whether it wrote.
            IoDirection::Unknown if self.interest == BOTH => {
                self.stop_seeing();
                !R
            }
            IoDirection::Unknown => !(R | W),
        };
    }

    /// A connection `is_slow` if packets make its state, which may change before the engine looks.
    pub(super) fn begin_wait(&mut self, fd: RawFd, patiently: bool, is_slow: bool) {
        self.raw = self.look(fd);
        if !self.seen && !is_slow {
            // What the engine finds out when it looks.
            let is_same = self.unread == self.told_unread;
            self.told &= self.level & if is_same { ALL } else { !R };
        }
        self.said = 0;
        self.owed = self.level & self.news & !self.told;
        if patiently {
            self.owed |= self.late();
        }
        if !self.is_armed() {
            self.owed = 0;
        }
    }

    /// What an engine that has to look for itself says after some patience.
    pub(super) fn late(&self) -> Answers {
        if self.seen || !self.interest.is_edge() {
            0
        } else {
            self.level & self.news & self.told & !self.said
        }
    }

    /// What is owed, true and was not said.
    pub(super) fn missing<T: Selector>(&self) -> Answers {
        // A one-shot registration may say but one direction.
        let said = if self.interest.is_oneshot() && self.said != 0 { ALL } else { self.said };
        self.owed & self.level & Excuses::<T>::CERTAIN & !Excuses::<T>::hidden(self.raw) & !said
    }

    /// Holds what was said against what was owed and what is true.
    pub(super) fn end_wait<T: Selector>(&mut self, fd: RawFd, is_exact: bool) -> Result<(), String> {
        let raw = self.look(fd);
        let missing = self.missing::<T>();
        let allowed = Excuses::<T>::allowed(raw, self.interest) | Excuses::<T>::allowed(self.raw, self.interest);
        let wrong = self.said & !allowed;
        let fault = match () {
            () if missing != 0 => format!("does not say {}", names(missing)),
            () if wrong != 0 => format!("says {}, which is wrong", names(wrong)),
            () if !self.touched && is_exact && self.said != 0 => format!("says {} again", names(self.said)),
            () => {
                self.remember::<T>();
                return Ok(());
            }
        };
        Err(format!("{fault}; poll(2) says {:#x} before and {raw:#x} after", self.raw))
    }

    fn remember<T: Selector>(&mut self) {
        self.news &= !self.said;
        (self.fresh, self.touched) = (false, false);
        if Excuses::<T>::POLL && self.said != 0 {
            self.told |= self.said & (R | W);
            self.told_unread = self.unread;
        }
    }
}
