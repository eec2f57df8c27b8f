//! The changes that this backend asks for, and what it makes of events.

use std::os::fd::RawFd;
use std::time::Duration;

use crate::interest::TriggerMode;
use crate::source::file_changes::FileChanges;
use crate::sys::selector::{EventRecord, FilterSpec};
use crate::sys::unix::kevent::{Filter, Flags, Kevent, ProcNotes, TimerNotes, UserNotes, VnodeNotes};
use crate::sys::unix::timer;
use crate::token::Token;

pub(super) const READ: Filter = Filter::READ;
pub(super) const WRITE: Filter = Filter::WRITE;
pub(super) const USER: Filter = Filter::USER;

/// Urgent data: the filter, and the note that says it is that and nothing else. FreeBSD and NetBSD have none.
#[cfg(has_evfilt_except)]
pub(super) const EXCEPT: Option<(Filter, u32)> = Some((Filter::EXCEPT, crate::sys::unix::kevent::IoNotes::OOB.bits()));
#[cfg(not(has_evfilt_except))]
pub(super) const EXCEPT: Option<(Filter, u32)> = None;

/// Whether `NOTE_OOB` of a level-triggered knote stays set after the urgent data has been read, as in Apple's kernel.
pub(super) const URGENT_STAYS: bool = cfg!(except_stays_urgent);

/// The units of a timer, by the notes that name them: `timer::in_units`.
#[cfg(any(target_vendor = "apple", target_os = "linux"))]
const UNITS: timer::Units = &[
    (TimerNotes::NSECONDS.bits(), timer::NANOSECOND),
    (TimerNotes::USECONDS.bits(), timer::MICROSECOND),
    (0, timer::MILLISECOND),
    (TimerNotes::SECONDS.bits(), timer::SECOND),
];
#[cfg(target_os = "freebsd")]
const UNITS: timer::Units = &[
    (TimerNotes::NSECONDS.bits(), timer::NANOSECOND),
    (TimerNotes::USECONDS.bits(), timer::MICROSECOND),
    (TimerNotes::MSECONDS.bits(), timer::MILLISECOND),
    (TimerNotes::SECONDS.bits(), timer::SECOND),
];
/// DragonFly, NetBSD before 10 and OpenBSD before 7.4 have no notes and take what they are given for milliseconds; the
/// newer ones have no finer clock either, only ticks.
#[cfg(any(target_os = "dragonfly", target_os = "netbsd", target_os = "openbsd"))]
const UNITS: timer::Units = &[(TimerNotes::empty().bits(), timer::MILLISECOND)];

/// `true` if a one-shot timer needs one tick more, so that it does not fire early. NetBSD up to 9 truncates the time to ticks
/// (mstohz(9) in kern_event.c). NetBSD 10 rounds up, but ticks that were late follow each other faster than the clock: on a
/// loaded emulator (10.99) a timer of less than 70 ms was seen to fire early.
const FIRES_EARLY: bool = cfg!(timers_fire_early);
/// The tick of a kernel with 100 ticks a second, the default. With more ticks, a timer is later than necessary.
const TICK: Duration = Duration::from_millis(10);

/// The most that `data` holds.
#[allow(clippy::unnecessary_cast)] // Its width is the system's.
const MAX_DATA: i64 = crate::sys::unix::kevent::RawData::MAX as i64;

/// The ident of the timer that stands in for a process: those of timers are `i32`s.
fn exited_process_ident(pid: usize) -> usize {
    pid | 1 << 31
}

fn filter_of(spec: FilterSpec) -> Filter {
    match spec {
        FilterSpec::Timer { .. } => Filter::TIMER,
        FilterSpec::Process => Filter::PROC,
        FilterSpec::Signal => Filter::SIGNAL,
        FilterSpec::Vnode(_) => Filter::VNODE,
    }
}

/// A file that access was revoked to, or whose file system is gone, is as good as deleted. libkqueue has no such note.
#[cfg(not(links_libkqueue))]
const REVOKE: VnodeNotes = VnodeNotes::REVOKE;
#[cfg(links_libkqueue)]
const REVOKE: VnodeNotes = VnodeNotes::empty();

/// The notes are the bits of [`FileChanges`].
fn vnode_notes(changes: FileChanges) -> VnodeNotes {
    let revoke = if changes.contains(FileChanges::DELETED) { REVOKE } else { VnodeNotes::empty() };
    VnodeNotes::from_bits(changes.bits()) | revoke
}

const _: () = {
    assert!(FileChanges::WRITTEN.bits() == VnodeNotes::WRITE.bits());
    assert!(FileChanges::EXTENDED.bits() == VnodeNotes::EXTEND.bits());
    assert!(FileChanges::ATTRIBUTES.bits() == VnodeNotes::ATTRIB.bits());
    assert!(FileChanges::LINKED.bits() == VnodeNotes::LINK.bits());
    assert!(FileChanges::RENAMED.bits() == VnodeNotes::RENAME.bits());
    assert!(FileChanges::DELETED.bits() == VnodeNotes::DELETE.bits());
};

const PIPE_END: Flags = Flags::from_bits(Flags::CLEAR.bits() | Flags::DISPATCH.bits());
const LAST: Flags = Flags::from_bits(Flags::EOF.bits() | Flags::ONESHOT.bits());

#[cfg(not(links_libkqueue))]
const AIO: Option<Filter> = Some(Filter::AIO);
#[cfg(links_libkqueue)]
const AIO: Option<Filter> = None;

#[cfg(has_evfilt_lio)]
const LIO: Option<Filter> = Some(Filter::LIO);
#[cfg(not(has_evfilt_lio))]
const LIO: Option<Filter> = None;

/// Whether a change without `EV_ADD` replaces `udata` and evaluates the filter again, as one with `EV_ADD` does.
///
/// FreeBSD (kern_event.c: `kqueue_register`) and NetBSD do both, and FreeBSD saves the allocation of a knote. OpenBSD
/// replaces `udata` with `EV_ADD` only; for the other systems the second half was not seen.
pub(super) const TOUCH_REPLACES_UDATA: bool = cfg!(touch_replaces_udata);

fn change(ident: usize, filter: Filter, flags: Flags, fflags: u32, token: Token) -> Kevent {
    Kevent::new(ident, filter, flags, fflags, 0, token.0)
}

/// Adds a filter. If the knote exists, this replaces its token, enables it if it is one-shot, and keeps its other flags.
pub(super) fn add(ident: usize, filter: Filter, fflags: u32, token: Token, mode: TriggerMode) -> Kevent {
    let flags = match mode {
        TriggerMode::Edge => Flags::CLEAR,
        TriggerMode::Level => Flags::empty(),
        // Without EV_CLEAR, which NetBSD tests first, so that it never disables a filter with both (kern_event.c:
        // `kqueue_scan`). `EV_ADD` alone leaves a disabled knote disabled.
        TriggerMode::OneShot => Flags::DISPATCH | Flags::ENABLE,
        TriggerMode::Disabled => Flags::DISABLE,
    };
    change(ident, filter, Flags::ADD | Flags::RECEIPT | flags, fflags, token)
}

/// Replaces the token of a knote that exists, and evaluates its filter again (see [`TOUCH_REPLACES_UDATA`]). Fails if there is
/// none.
pub(super) fn touch(ident: usize, filter: Filter, fflags: u32, token: Token, mode: TriggerMode) -> Kevent {
    let flag = if mode == TriggerMode::Disabled { Flags::DISABLE } else { Flags::ENABLE };
    change(ident, filter, flag | Flags::RECEIPT, fflags, token)
}

/// Finds out whether a knote exists. `token` is the token that it has, because the change stores it on most systems.
pub(super) fn probe(ident: usize, filter: Filter, fflags: u32, token: Token) -> Kevent {
    change(ident, filter, Flags::RECEIPT, fflags, token)
}

/// The read filter for the end of a pipe's reader, in place of the write filter or beside it: see
/// `KqueueSelector::replace_write_filter` and `KqueueSelector::add_pipe_end_beside`. Both flags come back with the event, and together they
/// mean nothing else here.
pub(super) fn replace_for_broken_pipe(ident: usize, token: Token) -> [Kevent; 2] {
    let add = change(ident, READ, Flags::ADD | PIPE_END | Flags::RECEIPT, 0, token);
    [delete(ident, READ), add]
}

/// A one-shot filter that has fired, as `EV_DISPATCH` leaves it.
pub(super) fn add_fired(ident: usize, filter: Filter, fflags: u32, token: Token) -> Kevent {
    change(ident, filter, Flags::ADD | Flags::DISPATCH | Flags::DISABLE | Flags::RECEIPT, fflags, token)
}

/// The read filter for the end of a pipe, disabled from the start.
pub(super) fn add_disabled_pipe_end(ident: usize, token: Token) -> Kevent {
    change(ident, READ, Flags::ADD | Flags::DISABLE | PIPE_END | Flags::RECEIPT, 0, token)
}

/// Keeps a filter from firing until it is enabled, or deleted and added again.
pub(super) fn disable(ident: usize, filter: Filter, fflags: u32, token: Token) -> Kevent {
    change(ident, filter, Flags::DISABLE | Flags::RECEIPT, fflags, token)
}

pub(super) fn delete(ident: usize, filter: Filter) -> Kevent {
    change(ident, filter, Flags::DELETE | Flags::RECEIPT, 0, Token(0))
}

/// Adds what is not a descriptor's. Timers, signals and processes are edges by nature; one that fires once goes by
/// itself, also where EV_CLEAR, which they force, beats EV_DISPATCH (NetBSD).
pub(super) fn add_filter(ident: usize, spec: FilterSpec, token: Token, mode: TriggerMode) -> Kevent {
    let (filter, fflags, data, once) = match spec {
        FilterSpec::Timer { delay, periodic } => {
            let needs_tick = FIRES_EARLY && !periodic && !delay.is_zero();
            let delay = if needs_tick { delay.saturating_add(TICK) } else { delay };
            let (note, n) = timer::in_units(delay, UNITS, MAX_DATA);
            (Filter::TIMER, note, n, !periodic)
        }
        FilterSpec::Process => (Filter::PROC, ProcNotes::EXIT.bits(), 0, true),
        FilterSpec::Signal => (Filter::SIGNAL, 0, 0, false),
        FilterSpec::Vnode(changes) => (Filter::VNODE, vnode_notes(changes).bits(), 0, false),
    };
    let once = if once || mode == TriggerMode::OneShot { Flags::ONESHOT } else { Flags::CLEAR };
    Kevent::new(ident, filter, Flags::ADD | Flags::RECEIPT | once, fflags, data as _, token.0)
}

pub(super) fn delete_filter(ident: usize, spec: FilterSpec) -> Kevent {
    delete(ident, filter_of(spec))
}

/// An event at once in place of a process that is gone: macOS, NetBSD and OpenBSD cannot add a filter to a zombie. No
/// timer has its ident.
pub(super) fn add_exited_process(pid: usize, token: Token) -> Kevent {
    let now = FilterSpec::Timer { delay: Duration::ZERO, periodic: false };
    add_filter(exited_process_ident(pid), now, token, TriggerMode::Edge)
}

pub(super) fn delete_exited_process(pid: usize) -> Kevent {
    delete(exited_process_ident(pid), Filter::TIMER)
}

/// Fires a user event that was added before.
///
/// Without `EV_ADD` or `EV_CLEAR`: with the one an event triggered twice can become level-triggered
/// (polling#265), with the other the BSDs take the trigger back at once. The token is sent again because FreeBSD,
/// NetBSD and macOS store `udata` with every change.
pub(super) fn trigger(ident: usize, token: Token) -> Kevent {
    change(ident, USER, Flags::empty(), UserNotes::TRIGGER.bits(), token)
}

impl Kevent {
    /// Whether the filter was added with EV_DISPATCH, which the kernel leaves in the event.
    pub(super) fn is_dispatched(&self) -> bool {
        self.has(Flags::DISPATCH)
    }

    /// Whether the kernel has removed the knote of a descriptor and this is its last event: none is added with EV_ONESHOT.
    pub(super) fn is_last(&self) -> bool {
        self.flags().contains(LAST) && [READ, WRITE].contains(&self.filter()) && !self.is_pipe_end()
    }

    /// Whether the read filter stands for the write end of a pipe whose reader has left.
    pub(super) fn is_pipe_end(&self) -> bool {
        self.filter() == READ && self.flags().contains(PIPE_END)
    }

    /// The same event of a registration for both directions: the end is readable too.
    pub(super) fn of_both_directions(self) -> Kevent {
        self.with_flags(self.flags() | Flags::ONESHOT)
    }

    /// Whether the write end that this stands for is registered for writing only.
    fn is_write_end(&self) -> bool {
        self.is_pipe_end() && !self.has(Flags::ONESHOT)
    }

    /// macOS fires this filter for ordinary data and the end of file too.
    fn is_except_filter(&self) -> bool {
        EXCEPT.is_some_and(|(filter, _)| self.filter() == filter)
    }

    fn has(&self, flag: Flags) -> bool {
        self.flags().intersects(flag)
    }
}

impl EventRecord for Kevent {
    fn token(&self) -> Token {
        Token(self.udata())
    }

    fn is_readable(&self) -> bool {
        let without_direction = [USER, Filter::TIMER, Filter::PROC, Filter::SIGNAL, Filter::VNODE];
        let is_read = self.filter() == READ && !self.is_write_end();
        is_read || without_direction.contains(&self.filter()) || self.is_except_filter()
    }

    fn is_writable(&self) -> bool {
        self.filter() == WRITE || self.is_pipe_end()
    }

    fn is_error(&self) -> bool {
        self.has(Flags::ERROR) || (self.has(Flags::EOF) && self.fflags() != 0 && [READ, WRITE].contains(&self.filter()))
    }

    fn is_read_closed(&self) -> bool {
        self.has(Flags::EOF) && ((self.filter() == READ && !self.is_write_end()) || self.is_except_filter())
    }

    fn is_write_closed(&self) -> bool {
        (self.filter() == WRITE && self.has(Flags::EOF)) || self.is_pipe_end()
    }

    fn is_priority(&self) -> bool {
        // At the end of a socket Apple's kernel leaves its error number in `fflags`, and ECONNRESET (54) has the bit of
        // NOTE_OOB.
        self.is_except_filter() && !self.has(Flags::EOF) && EXCEPT.is_some_and(|(_, note)| self.fflags() & note != 0)
    }

    fn is_aio(&self) -> bool {
        AIO == Some(self.filter())
    }

    fn is_lio(&self) -> bool {
        LIO == Some(self.filter())
    }

    fn filter_payload(&self, ident: RawFd, filter: FilterSpec) -> Option<(u32, i64)> {
        let is_gone = filter == FilterSpec::Process
            && self.filter() == Filter::TIMER
            && self.ident() == exited_process_ident(ident as usize);
        let is_its = is_gone || (self.filter() == filter_of(filter) && self.ident() == ident as usize);
        let was_revoked = self.filter() == Filter::VNODE && VnodeNotes::from_bits(self.fflags()).intersects(REVOKE);
        let deleted = if was_revoked { VnodeNotes::DELETE.bits() } else { 0 };
        is_its.then(|| (self.fflags() | deleted, self.data()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(filter: Filter, flags: Flags, fflags: u32) -> Kevent {
        change(3, filter, flags, fflags, Token(usize::MAX))
    }

    #[test]
    fn what_each_record_answers() {
        let answers = |e: &Kevent| {
            [e.is_readable(), e.is_writable(), e.is_read_closed(), e.is_write_closed(), e.is_error()].map(u8::from)
        };
        assert_eq!(answers(&event(READ, Flags::CLEAR, 0)), [1, 0, 0, 0, 0]);
        assert_eq!(answers(&event(WRITE, Flags::CLEAR, 0)), [0, 1, 0, 0, 0]);
        assert_eq!(answers(&event(READ, Flags::CLEAR | Flags::EOF, 0)), [1, 0, 1, 0, 0]);
        let pipe_end = event(READ, Flags::CLEAR | Flags::DISPATCH | Flags::EOF, 0);
        assert_eq!(answers(&pipe_end), [0, 1, 0, 1, 0]);
        assert_eq!(answers(&pipe_end.of_both_directions()), [1, 1, 1, 1, 0]);
        assert_eq!(answers(&event(WRITE, Flags::EOF, 0)), [0, 1, 0, 1, 0]);
        assert_eq!(answers(&event(READ, Flags::EOF, libc::ECONNRESET as u32)), [1, 0, 1, 0, 1]);
        assert_eq!(answers(&event(USER, Flags::CLEAR, 0)), [1, 0, 0, 0, 0]);
        assert_eq!(event(READ, Flags::empty(), 0).token(), Token(usize::MAX));
        if let Some((filter, note)) = EXCEPT {
            assert!(
                event(filter, Flags::empty(), note).is_priority() && event(filter, Flags::empty(), note).is_readable()
            );
            let reset = event(filter, Flags::EOF, libc::ECONNRESET as u32);
            assert!(reset.is_readable() && !reset.is_priority(), "an error number is not a note");
            assert!(
                event(filter, Flags::empty(), 0).is_readable() && !event(filter, Flags::empty(), 0).is_priority(),
                "ordinary data on macOS"
            );
        }
    }

    #[test]
    fn what_a_watch_is_told() {
        let written = event(Filter::VNODE, Flags::CLEAR, VnodeNotes::WRITE.bits());
        assert!(written.is_readable() && !written.is_writable() && !written.is_error());
        let notes = |event: &Kevent, ident| {
            event
                .filter_payload(ident, FilterSpec::Vnode(FileChanges::ALL))
                .map(|(notes, _)| FileChanges::from_bits(notes) & FileChanges::ALL)
        };
        assert_eq!(notes(&written, 3), Some(FileChanges::WRITTEN));
        assert_eq!(notes(&written, 4), None, "another descriptor");
        assert_eq!(notes(&event(READ, Flags::CLEAR, 2), 3), None, "another filter");
        assert_eq!(vnode_notes(FileChanges::WRITTEN), VnodeNotes::WRITE);
        if !REVOKE.is_empty() {
            let revoked = event(Filter::VNODE, Flags::EOF, REVOKE.bits());
            assert_eq!(notes(&revoked, 3), Some(FileChanges::DELETED));
            assert!(!revoked.is_error() && vnode_notes(FileChanges::DELETED).contains(REVOKE));
        }
    }

    #[test]
    fn no_change_is_a_zero_record() {
        // On NetBSD a record of zeroes is EVFILT_READ on descriptor 0.
        let modes = [TriggerMode::Edge, TriggerMode::Level, TriggerMode::OneShot, TriggerMode::Disabled];
        let adds = modes.map(|mode| add(0, READ, 0, Token(0), mode));
        let others = [delete(0, READ), disable(0, READ, 0, Token(0)), trigger(0, Token(0))];
        for change in adds.iter().chain(&others) {
            assert!(!change.flags().is_empty() || change.filter() == USER);
        }
        let text = format!("{:?}", add(7, WRITE, 0, Token(9), TriggerMode::Edge));
        assert!(text.contains("EVFILT_WRITE") && text.contains("EV_ADD|EV_CLEAR|EV_RECEIPT"), "{text}");
    }
}
