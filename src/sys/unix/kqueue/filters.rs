//! The kevents of this backend, and the meaning of its events.
//!
//! The first half builds the records of a changelist, with one function for each combination of flags. The name and the first
//! line of such a function state the effect of its record. The second half reads a record of the eventlist.

use std::os::fd::RawFd;
use std::time::Duration;

use crate::interest::TriggerMode;
use crate::source::file_changes::FileChanges;
use crate::sys::selector::{EventRecord, FilterSpec, InternalEvents, TIMER_SETTINGS};
use crate::sys::unix::kevent::abi::RawData;
#[cfg(has_evfilt_except)]
use crate::sys::unix::kevent::constants::IoNotes;
use crate::sys::unix::kevent::constants::{Filter, Flags, ProcNotes, TimerNotes, UserNotes, VnodeNotes};
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::kevent::timer_unit::{in_units, PORTABLE_TIMER_UNITS, PUNCTUAL};
use crate::sys::unix::kqueue::libkqueue::{AIO, REVOKE};
use crate::token::Token;

pub(super) const READ: Filter = Filter::READ;
pub(super) const WRITE: Filter = Filter::WRITE;
pub(super) const USER: Filter = Filter::USER;

/// The filter for urgent data, and the note of urgent data alone. FreeBSD and NetBSD have no such filter.
#[cfg(has_evfilt_except)]
pub(super) const EXCEPT: Option<(Filter, u32)> = Some((Filter::EXCEPT, IoNotes::OOB.bits()));
#[cfg(not(has_evfilt_except))]
pub(super) const EXCEPT: Option<(Filter, u32)> = None;

/// The filter of a process descriptor. Other systems than FreeBSD have only that of a process.
#[cfg(has_procdesc)]
const PROCDESC: Filter = Filter::PROCDESC;
#[cfg(not(has_procdesc))]
const PROCDESC: Filter = Filter::PROC;

/// `true` if `NOTE_OOB` of a level-triggered knote stays set after the urgent data has been read, as in Apple's kernel.
pub(super) const URGENT_STAYS: bool = cfg!(except_stays_urgent);

#[cfg(has_evfilt_lio)]
const LIO: Option<Filter> = Some(Filter::LIO);
#[cfg(not(has_evfilt_lio))]
const LIO: Option<Filter> = None;

/// `true` if a change without `EV_ADD` replaces `udata` and evaluates the filter again, as a change with `EV_ADD` does.
///
/// FreeBSD (kern_event.c: `kqueue_register`) and NetBSD do both. On FreeBSD the change without `EV_ADD` also saves the
/// allocation of a knote. OpenBSD replaces `udata` with `EV_ADD` only. On the other systems a second evaluation was not observed.
pub(super) const TOUCH_REPLACES_UDATA: bool = cfg!(touch_replaces_udata);

/// `true` if the write filter of a full pipe does not fire when the reader leaves: see `KqueueSelector::add_pipe_end_beside`.
pub(super) const PIPE_END_BESIDE_WRITE: bool = cfg!(full_pipe_ends_silently);

/// The flags of the read filter that reports the end of a pipe's reader. The event contains both flags, and no other knote of
/// this backend has both.
const PIPE_END: Flags = Flags::from_bits(Flags::CLEAR.bits() | Flags::DISPATCH.bits());

/// The flags of the last event of a knote that the kernel has removed.
const LAST: Flags = Flags::from_bits(Flags::EOF.bits() | Flags::ONESHOT.bits());

/// The maximum of `data`.
#[allow(clippy::unnecessary_cast)] // The width depends on the system.
const MAX_DATA: i64 = RawData::MAX as i64;

/// The ident of the timer that substitutes for an exited process. Idents of other timers are `i32`s, so that no other timer
/// has this ident.
fn exited_process_ident(pid: usize) -> usize {
    pid | 1 << 31
}

/// The notes of an exit with its status, which is in `data`. Apple reports the status only if the note requests it: for children,
/// and for processes that this process may send signals to.
#[cfg(has_note_exitstatus)]
const EXIT_WITH_STATUS: ProcNotes = ProcNotes::from_bits(ProcNotes::EXIT.bits() | ProcNotes::EXITSTATUS.bits());
#[cfg(not(has_note_exitstatus))]
const EXIT_WITH_STATUS: ProcNotes = ProcNotes::EXIT;

/// The bits of a wait status. waitpid(2) of NetBSD also returns the other bits of the number that the process passed to _exit(2).
const STATUS_MASK: i64 = 0xffff;

fn filter_of(spec: FilterSpec) -> Filter {
    match spec {
        FilterSpec::Process => Filter::PROC,
        #[cfg(has_procdesc)]
        FilterSpec::ProcessDescriptor => PROCDESC,
        FilterSpec::Signal => Filter::SIGNAL,
        FilterSpec::Vnode(_) => Filter::VNODE,
    }
}

/// Returns the notes for these changes. The bits of both types are the same.
///
/// A revoked file, or a file of an unmounted file system, counts as deleted.
pub(super) fn vnode_notes(changes: FileChanges) -> VnodeNotes {
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

fn change(ident: usize, filter: Filter, flags: Flags, fflags: u32, token: Token) -> Kevent {
    Kevent::new(ident, filter, flags, fflags, 0, token.0)
}

/// Adds a filter. If the knote exists, the kernel replaces its token, enables it if it is one-shot, and keeps its other flags.
pub(super) fn add(ident: usize, filter: Filter, fflags: u32, token: Token, mode: TriggerMode) -> Kevent {
    let flags = match mode {
        TriggerMode::Edge => Flags::CLEAR,
        TriggerMode::Level => Flags::empty(),
        // Without `EV_CLEAR`: NetBSD tests `EV_CLEAR` first, so that a filter with both flags is never disabled
        // (kern_event.c: `kqueue_scan`). `EV_ENABLE` is needed because `EV_ADD` alone leaves a disabled knote disabled.
        TriggerMode::OneShot => Flags::DISPATCH | Flags::ENABLE,
        TriggerMode::Disabled => Flags::DISABLE,
    };
    change(ident, filter, Flags::ADD | Flags::RECEIPT | flags, fflags, token)
}

/// Replaces the token of a knote that exists, and evaluates its filter again (see [`TOUCH_REPLACES_UDATA`]). Fails if the
/// knote does not exist.
pub(super) fn touch(ident: usize, filter: Filter, fflags: u32, token: Token, mode: TriggerMode) -> Kevent {
    let flag = if mode == TriggerMode::Disabled { Flags::DISABLE } else { Flags::ENABLE };
    change(ident, filter, flag | Flags::RECEIPT, fflags, token)
}

/// Tests whether a knote exists. `token` is the token of the knote, because most systems store the token of this change.
pub(super) fn probe(ident: usize, filter: Filter, fflags: u32, token: Token) -> Kevent {
    change(ident, filter, Flags::RECEIPT, fflags, token)
}

/// Adds the read filter that reports the end of a pipe's reader, instead of the write filter or beside it. The first kevent
/// deletes a read filter that exists.
///
/// See `KqueueSelector::replace_write_filter` and `KqueueSelector::add_pipe_end_beside`.
pub(super) fn replace_for_broken_pipe(ident: usize, token: Token) -> [Kevent; 2] {
    let add = change(ident, READ, Flags::ADD | PIPE_END | Flags::RECEIPT, 0, token);
    [delete(ident, READ), add]
}

/// Adds a one-shot filter in the state in which `EV_DISPATCH` leaves a filter that has fired.
pub(super) fn add_fired(ident: usize, filter: Filter, fflags: u32, token: Token) -> Kevent {
    change(ident, filter, Flags::ADD | Flags::DISPATCH | Flags::DISABLE | Flags::RECEIPT, fflags, token)
}

/// Adds the read filter for the end of a pipe, disabled from the start.
pub(super) fn add_disabled_pipe_end(ident: usize, token: Token) -> Kevent {
    change(ident, READ, Flags::ADD | Flags::DISABLE | PIPE_END | Flags::RECEIPT, 0, token)
}

/// Disables a filter until it is enabled, or deleted and added again.
pub(super) fn disable(ident: usize, filter: Filter, fflags: u32, token: Token) -> Kevent {
    change(ident, filter, Flags::DISABLE | Flags::RECEIPT, fflags, token)
}

pub(super) fn delete(ident: usize, filter: Filter) -> Kevent {
    change(ident, filter, Flags::DELETE | Flags::RECEIPT, 0, Token(0))
}

/// Adds the filter of a process, signal or file.
///
/// Signals and processes are edges by nature. A process fires once and has `EV_ONESHOT`, not `EV_DISPATCH`: the filter forces
/// `EV_CLEAR`, which NetBSD tests before `EV_DISPATCH`.
pub(super) fn add_filter(ident: usize, spec: FilterSpec, token: Token, mode: TriggerMode) -> Kevent {
    let (filter, fflags, flags) = match spec {
        FilterSpec::Process => (Filter::PROC, EXIT_WITH_STATUS.bits(), Flags::ONESHOT),
        #[cfg(has_procdesc)]
        FilterSpec::ProcessDescriptor => (PROCDESC, ProcNotes::EXIT.bits(), Flags::ONESHOT),
        FilterSpec::Signal => (Filter::SIGNAL, 0, Flags::CLEAR),
        // A one-shot watch is disabled after its event: see delivery.rs.
        FilterSpec::Vnode(changes) if mode == TriggerMode::Disabled => {
            (Filter::VNODE, vnode_notes(changes).bits(), Flags::CLEAR | Flags::DISABLE)
        }
        FilterSpec::Vnode(changes) => (Filter::VNODE, vnode_notes(changes).bits(), Flags::CLEAR | Flags::ENABLE),
    };
    Kevent::new(ident, filter, Flags::ADD | Flags::RECEIPT | flags, fflags, 0, token.0)
}

pub(super) fn delete_filter(ident: usize, spec: FilterSpec) -> Kevent {
    delete(ident, filter_of(spec))
}

/// Adds the filter of a process without the status of its exit.
pub(super) fn add_process_without_status(pid: usize, token: Token) -> Kevent {
    let flags = Flags::ADD | Flags::RECEIPT | Flags::ONESHOT;
    change(pid, Filter::PROC, flags, ProcNotes::EXIT.bits(), token)
}

/// Adds a timer that fires once after `delay`, in place of the filter of an exited process. macOS, NetBSD and OpenBSD cannot
/// add a filter to a zombie.
pub(super) fn add_exited_process(pid: usize, token: Token, delay: Duration) -> Kevent {
    add_timer(exited_process_ident(pid), delay, TimerNotes::empty(), token)
}

pub(super) fn delete_exited_process(pid: usize) -> Kevent {
    delete(exited_process_ident(pid), Filter::TIMER)
}

/// Adds a timer that fires once.
fn add_timer(ident: usize, delay: Duration, notes: TimerNotes, token: Token) -> Kevent {
    let (unit, count) = in_units(delay, PORTABLE_TIMER_UNITS, MAX_DATA);
    let flags = Flags::ADD | Flags::RECEIPT | Flags::ONESHOT;
    Kevent::new(ident, Filter::TIMER, flags, unit | notes.bits(), count as _, token.0)
}

/// The ident and the token of the notifier and of the alarm: the address of a static, which no other code uses.
fn internal() -> Token {
    static MARK: u8 = 0;
    Token(std::ptr::addr_of!(MARK) as usize)
}

/// Adds the user event of the notifier.
pub(super) fn add_notifier() -> Kevent {
    add(internal().0, USER, 0, internal(), TriggerMode::Edge)
}

/// Adds the read filter of the notifier's pipe.
pub(super) fn add_notifier_pipe(fd: RawFd) -> Kevent {
    add(fd as usize, READ, 0, internal(), TriggerMode::Edge)
}

/// Enables the read filter of the notifier's pipe, which is enabled. Fails with `ENOENT` if the knote does not exist.
pub(super) fn touch_notifier_pipe(fd: RawFd) -> Kevent {
    change(fd as usize, READ, Flags::ENABLE, 0, internal())
}

/// Triggers the user event of the notifier.
///
/// The change has neither `EV_ADD` nor `EV_CLEAR`. With `EV_ADD` an event that is triggered twice can become level-triggered
/// (polling#265). With `EV_CLEAR` the BSDs reset the trigger at once. The token is passed again because FreeBSD, NetBSD and
/// macOS store the `udata` of every change.
pub(super) fn trigger_notifier() -> Kevent {
    change(internal().0, USER, Flags::empty(), UserNotes::TRIGGER.bits(), internal())
}

/// Deletes the alarm and adds it again, because some systems keep the period of a knote that exists.
pub(super) fn replace_alarm(delay: Duration) -> [Kevent; 2] {
    [delete_alarm(), add_timer(internal().0, delay, PUNCTUAL, internal())]
}

pub(super) fn delete_alarm() -> Kevent {
    delete(internal().0, Filter::TIMER)
}

/// Removes the events of the notifier and of the alarm.
#[inline]
pub(super) fn take_internal(events: &mut Vec<Kevent>) -> InternalEvents {
    let (is_internal, mut taken) = (|event: &Kevent| event.udata() == internal().0, InternalEvents::default());
    if events.iter().any(is_internal) {
        events.retain(|event| {
            taken.has_alarm |= is_internal(event) && event.filter() == Filter::TIMER;
            taken.is_notified |= is_internal(event) && event.filter() != Filter::TIMER;
            !is_internal(event)
        });
    }
    taken
}

/// Returns the process whose exit the event reports, for the filter of a process and for its substitute.
pub(super) fn exited_process(event: &Kevent) -> Option<libc::pid_t> {
    let ident = match event.filter() {
        Filter::PROC if ProcNotes::from_bits(event.fflags()).intersects(ProcNotes::EXIT) => event.ident(),
        Filter::TIMER if event.udata() != internal().0 && event.ident() >> 31 == 1 => event.ident() & !(1 << 31),
        _ => return None,
    };
    libc::pid_t::try_from(ident).ok()
}

/// Returns the event of the exit of a process with its wait status.
pub(super) fn with_exit_status(event: &Kevent, pid: libc::pid_t, status: libc::c_int) -> Kevent {
    let flags = Flags::EOF | Flags::ONESHOT;
    Kevent::new(pid as usize, Filter::PROC, flags, EXIT_WITH_STATUS.bits(), status as _, event.udata())
}

/// Returns the wait status that the event of a process contains.
fn exit_status(event: &Kevent) -> Option<i64> {
    let has_status = match event.filter() {
        Filter::PROC => ProcNotes::from_bits(event.fflags()).contains(EXIT_WITH_STATUS),
        // The substitute is a timer.
        filter => filter != Filter::TIMER,
    };
    has_status.then(|| event.data() & STATUS_MASK)
}

fn has_flag(event: &Kevent, flag: Flags) -> bool {
    event.flags().intersects(flag)
}

/// Returns `true` if the filter was added with `EV_DISPATCH`, which the kernel leaves in the event.
pub(super) fn is_dispatched(event: &Kevent) -> bool {
    has_flag(event, Flags::DISPATCH)
}

/// Returns `true` if the kernel has removed the knote of a descriptor and this is its last event.
///
/// This backend adds no filter of a descriptor with `EV_ONESHOT`, so that only the kernel can have set the flag.
pub(super) fn is_last(event: &Kevent) -> bool {
    event.flags().contains(LAST) && [READ, WRITE].contains(&event.filter()) && !is_pipe_end(event)
}

/// Returns `true` if the read filter reports the write end of a pipe whose reader has left.
pub(super) fn is_pipe_end(event: &Kevent) -> bool {
    event.filter() == READ && event.flags().contains(PIPE_END)
}

/// Marks the end of a pipe as readable too, because its registration has both directions.
pub(super) fn with_both_directions(event: &Kevent) -> Kevent {
    event.with_flags(event.flags() | Flags::ONESHOT)
}

/// Returns `true` if the event reports a write end that is registered for writing only.
fn is_write_end(event: &Kevent) -> bool {
    is_pipe_end(event) && !has_flag(event, Flags::ONESHOT)
}

/// Returns `true` for an event of the filter of urgent data. macOS also reports ordinary data and the end of file with this
/// filter.
fn is_except_filter(event: &Kevent) -> bool {
    EXCEPT.is_some_and(|(filter, _)| event.filter() == filter)
}

impl EventRecord for Kevent {
    fn of_waker(token: Token) -> Kevent {
        change(token.0, USER, Flags::CLEAR, 0, token)
    }

    /// The ident of the record is the setting, which differs from every ident of [`exited_process_ident`].
    fn of_timer(token: Token, setting: u32, expirations: u64) -> Kevent {
        let data = RawData::try_from(expirations).unwrap_or(RawData::MAX);
        Kevent::new(setting as usize, Filter::TIMER, Flags::CLEAR, 0, data, token.0)
    }

    fn timer_setting(&self) -> Option<u32> {
        let setting = u32::try_from(self.ident()).ok().filter(|&setting| setting < TIMER_SETTINGS);
        setting.filter(|_| self.filter() == Filter::TIMER)
    }

    fn token(&self) -> Token {
        Token(self.udata())
    }

    fn is_readable(&self) -> bool {
        let without_direction = [USER, Filter::TIMER, Filter::PROC, PROCDESC, Filter::SIGNAL, Filter::VNODE];
        let is_read = self.filter() == READ && !is_write_end(self);
        is_read || without_direction.contains(&self.filter()) || is_except_filter(self)
    }

    fn is_writable(&self) -> bool {
        self.filter() == WRITE || is_pipe_end(self)
    }

    fn is_error(&self) -> bool {
        let has_errno = has_flag(self, Flags::EOF) && self.fflags() != 0 && [READ, WRITE].contains(&self.filter());
        has_flag(self, Flags::ERROR) || has_errno
    }

    fn is_read_closed(&self) -> bool {
        has_flag(self, Flags::EOF) && ((self.filter() == READ && !is_write_end(self)) || is_except_filter(self))
    }

    fn is_write_closed(&self) -> bool {
        (self.filter() == WRITE && has_flag(self, Flags::EOF)) || is_pipe_end(self)
    }

    fn is_priority(&self) -> bool {
        // At the end of a socket Apple's kernel leaves its error number in `fflags`, and ECONNRESET (54) has the bit of
        // NOTE_OOB.
        is_except_filter(self)
            && !has_flag(self, Flags::EOF)
            && EXCEPT.is_some_and(|(_, note)| self.fflags() & note != 0)
    }

    fn is_aio(&self) -> bool {
        AIO == Some(self.filter())
    }

    fn is_lio(&self) -> bool {
        LIO == Some(self.filter())
    }

    fn filter_payload(&self, ident: RawFd, filter: FilterSpec) -> Option<(u32, i64)> {
        let is_exited_process = filter == FilterSpec::Process
            && self.filter() == Filter::TIMER
            && self.ident() == exited_process_ident(ident as usize);
        let has_key = self.filter() == filter_of(filter) && self.ident() == ident as usize;
        if is_exited_process || (has_key && filter.is_process()) {
            let status = exit_status(self);
            return Some((u32::from(status.is_some()), status.unwrap_or(0)));
        }
        let was_revoked = self.filter() == Filter::VNODE && VnodeNotes::from_bits(self.fflags()).intersects(REVOKE);
        let deleted = if was_revoked { VnodeNotes::DELETE.bits() } else { 0 };
        has_key.then(|| (self.fflags() | deleted, self.data()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(filter: Filter, flags: Flags, fflags: u32) -> Kevent {
        change(3, filter, flags, fflags, Token(usize::MAX))
    }

    #[test]
    fn record_has_the_readiness_of_its_filter_and_flags() {
        let readiness = |e: &Kevent| {
            [e.is_readable(), e.is_writable(), e.is_read_closed(), e.is_write_closed(), e.is_error()].map(u8::from)
        };
        assert_eq!(readiness(&event(READ, Flags::CLEAR, 0)), [1, 0, 0, 0, 0]);
        assert_eq!(readiness(&event(WRITE, Flags::CLEAR, 0)), [0, 1, 0, 0, 0]);
        assert_eq!(readiness(&event(READ, Flags::CLEAR | Flags::EOF, 0)), [1, 0, 1, 0, 0]);
        let pipe_end = event(READ, Flags::CLEAR | Flags::DISPATCH | Flags::EOF, 0);
        assert_eq!(readiness(&pipe_end), [0, 1, 0, 1, 0]);
        assert_eq!(readiness(&with_both_directions(&pipe_end)), [1, 1, 1, 1, 0]);
        assert_eq!(readiness(&event(WRITE, Flags::EOF, 0)), [0, 1, 0, 1, 0]);
        assert_eq!(readiness(&event(READ, Flags::EOF, libc::ECONNRESET as u32)), [1, 0, 1, 0, 1]);
        assert_eq!(readiness(&event(USER, Flags::CLEAR, 0)), [1, 0, 0, 0, 0]);
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
    fn payload_has_the_file_changes_of_its_own_knote() {
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
    fn exit_of_a_process_has_the_status_that_the_kernel_provides() {
        let exit = |notes: ProcNotes, data| Kevent::new(3, Filter::PROC, Flags::EOF, notes.bits(), data, 9);
        let payload = |event: &Kevent| event.filter_payload(3, FilterSpec::Process);
        let known = exit(EXIT_WITH_STATUS, 0x1_0700);
        assert_eq!((exited_process(&known), payload(&known)), (Some(3), Some((1, 0x700))));
        let without = exit(ProcNotes::EXIT, 0);
        assert_eq!(payload(&without), Some((u32::from(EXIT_WITH_STATUS == ProcNotes::EXIT), 0)));
        let substitute = add_exited_process(3, Token(9), Duration::ZERO);
        assert_eq!((exited_process(&substitute), payload(&substitute)), (Some(3), Some((0, 0))));
        let complete = with_exit_status(&substitute, 3, 0x86);
        assert_eq!((payload(&complete), complete.token()), (Some((1, 0x86)), Token(9)));
        // Other events are no exit of this process.
        for other in [exit(ProcNotes::FORK, 0), event(READ, Flags::empty(), 0), delete_alarm()] {
            assert_eq!(exited_process(&other), None);
        }
        assert_eq!(known.filter_payload(4, FilterSpec::Process), None);
    }

    #[test]
    fn changes_are_not_zero_records() {
        // On NetBSD a record of zeroes is EVFILT_READ on descriptor 0.
        let modes = [TriggerMode::Edge, TriggerMode::Level, TriggerMode::OneShot, TriggerMode::Disabled];
        let adds = modes.map(|mode| add(0, READ, 0, Token(0), mode));
        let others = [delete(0, READ), disable(0, READ, 0, Token(0)), trigger_notifier()];
        for change in adds.iter().chain(&others) {
            assert!(!change.flags().is_empty() || change.filter() == USER);
        }
        let text = format!("{:?}", add(7, WRITE, 0, Token(9), TriggerMode::Edge));
        assert!(text.contains("EVFILT_WRITE") && text.contains("EV_ADD|EV_CLEAR|EV_RECEIPT"), "{text}");
    }
}
