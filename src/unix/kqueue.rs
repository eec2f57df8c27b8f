//! The bare system calls kqueue(2) and kevent(2).
//!
//! For programs that want the call itself: it is here where the system has it, and on Linux with libkqueue
//! (`kevio_backend="kqueue"`), whatever backend is chosen. See <https://man.freebsd.org/kqueue/2>. The record, the flags
//! and the call are the system's own; what is added are names, types and the order that makes the call safe. A
//! [`Poll`](crate::Poll) is the portable thing to wait with.
//!
//! The numbers of all constants come from the crate `libc`, which takes them from each system's `<sys/event.h>`;
//! libkqueue's are those of its `<kqueue/sys/event.h>`. Each constant's page says its C name and what it is where.
//!
//! # Where systems differ
//!
//! * Adding a filter that is there updates its notes, `data` and `udata`, not whether it is one-shot or an edge: delete
//!   it and add it again. FreeBSD, NetBSD and macOS take `udata` from every change, so say it every time.
//! * Closing a descriptor removes its filters, without an event. libkqueue does not see it: delete them first.
//! * NetBSD does not disable a filter that has both `CLEAR` and `DISPATCH`.
//! * libkqueue takes no more than 512 receipts in a call, and waits even though a change has failed (and says nothing of
//!   that if nothing comes): [`register`](Kqueue::apply) and wait there in two calls.

use std::any::Any;
use std::os::fd::RawFd;
use std::time::Duration;
use std::{io, mem};

use crate::event::Event;
use crate::sys::unix::kevent;
use crate::sys::unix::syscall::invalid_input;
use crate::sys::unix::timeout::wait_in_chunks;

pub use crate::sys::unix::kevent::{
    Filter, Flags, IoNotes, Kevent, Kqueue, ProcNotes, RawData, RawFilter, RawFlags, TimerNotes, UserNotes, VnodeNotes,
};

impl Kevent {
    /// A change for a descriptor's read side: [`Filter::READ`].
    #[must_use]
    pub fn read(fd: RawFd, flags: Flags) -> Kevent {
        Kevent::new(fd as usize, Filter::READ, flags, 0, 0, 0)
    }

    /// A change for a descriptor's write side: [`Filter::WRITE`].
    #[must_use]
    pub fn write(fd: RawFd, flags: Flags) -> Kevent {
        Kevent::new(fd as usize, Filter::WRITE, flags, 0, 0, 0)
    }

    /// A change for a timer, which fires again and again, every `period`, or once with [`Flags::ONESHOT`]:
    /// [`Filter::TIMER`].
    ///
    /// A unit that the system does not have (DragonFly has milliseconds only, and of OpenBSD `libc` knows no other) is
    /// converted to milliseconds, and rounded up. A period of 0 is for the kernel to judge: NetBSD refuses it
    /// (`EINVAL`), Apple and FreeBSD fire at once.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the period is negative, or longer than 292 years (`i64::MAX` nanoseconds), or than the record
    /// can hold.
    pub fn timer(ident: usize, flags: Flags, period: i64, unit: TimerUnit) -> io::Result<Kevent> {
        if period < 0 {
            return Err(invalid_input("a timer's period is not negative"));
        }
        if period > i64::MAX / unit.nanoseconds() {
            return Err(invalid_input("a timer's period is at most 292 years"));
        }
        let (fflags, data) = match unit.note() {
            Some(note) => (note, period),
            None => (0, unit.in_milliseconds(period)),
        };
        let data = RawData::try_from(data).map_err(|_| invalid_input("a timer's period has to fit into a `long`"))?;
        Ok(Kevent::new(ident, Filter::TIMER, flags, fflags, data, 0))
    }

    /// A change for a signal: [`Filter::SIGNAL`].
    ///
    /// It counts the signals that are sent to the process, in addition to what handles them: ignore the signal
    /// (`SIG_IGN`) if the event is to be all that happens. Apple does not see signals that are sent to a thread.
    /// libkqueue blocks it in the thread that adds it and takes it from the process, and sees it only if all threads
    /// have it blocked.
    #[must_use]
    pub fn signal(signal: libc::c_int, flags: Flags) -> Kevent {
        Kevent::new(signal as usize, Filter::SIGNAL, flags, 0, 0, 0)
    }

    /// A change for a process: [`Filter::PROC`].
    ///
    /// A process that has exited already is `ESRCH` on Apple, NetBSD and OpenBSD, and an event at once elsewhere.
    #[must_use]
    pub fn process(pid: libc::pid_t, flags: Flags, notes: ProcNotes) -> Kevent {
        Kevent::new(pid as usize, Filter::PROC, flags, notes.bits(), 0, 0)
    }

    /// A change for an open file or directory: [`Filter::VNODE`].
    #[must_use]
    pub fn vnode(fd: RawFd, flags: Flags, notes: VnodeNotes) -> Kevent {
        Kevent::new(fd as usize, Filter::VNODE, flags, notes.bits(), 0, 0)
    }

    /// A change for an event of the program's own: [`Filter::USER`]. NetBSD has it from 10, OpenBSD from 7.8.
    ///
    /// Add it with [`Flags::ADD`] and `CLEAR`, and make it fire with no flag and [`UserNotes::TRIGGER`].
    #[must_use]
    pub fn user(ident: usize, flags: Flags, notes: UserNotes) -> Kevent {
        Kevent::new(ident, Filter::USER, flags, notes.bits(), 0, 0)
    }

    /// What a receipt says: the change was applied, or why not. An event is no error.
    ///
    /// # Errors
    ///
    /// The kernel's: `NotFound` (`ENOENT`) for changing a filter that is not there; `EBADF` for a descriptor that is not
    /// open, or negative; `InvalidInput` (`EINVAL`) for an unknown filter, or one that the descriptor cannot have;
    /// `ESRCH` for a process that is no more; `BrokenPipe` (`EPIPE`) for the write side of a pipe without a reader, on
    /// some.
    pub fn result(&self) -> io::Result<()> {
        match self.errno() {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

/// What kqueue says in an [`Event`] of a [`Poll`](crate::Poll), beyond what every backend can.
///
/// It is for [`Event`] alone, and does no system call.
///
/// ```
/// use kevio::unix::kqueue::{EventExt, Filter};
/// use kevio::{Events, Poll, Token, Waker};
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// let waker = Waker::new(poll.registry(), Token(7))?;
/// waker.wake()?;
/// poll.poll(&mut events, None)?;
/// for event in &events {
///     match event.kevent() {
///         Some(record) => {
///             assert_eq!((record.filter(), record.udata()), (Filter::USER, 7));
///             println!("{} {:?} {:#x} {}", record.ident(), record.flags(), record.fflags(), record.data());
///         }
///         None => assert_ne!(kevio::BACKEND, kevio::Backend::Kqueue),
///     }
/// }
/// # std::io::Result::Ok(())
/// ```
pub trait EventExt: sealed::Sealed {
    /// The record as kevent(2) returned it, its ident, filter, flags, fflags and data; `None` if the polls of this build
    /// are not kqueues ([`BACKEND`](crate::BACKEND)).
    ///
    /// Which filters and flags stand for a registration is kevio's own matter, and may change; what they say of a filter,
    /// as the number of bytes in `data`, is the kernel's.
    fn kevent(&self) -> Option<Kevent>;
}

impl EventExt for Event {
    fn kevent(&self) -> Option<Kevent> {
        (self.record() as &dyn Any).downcast_ref().copied()
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::Event {}
}

/// The unit of a timer's period.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum TimerUnit {
    /// `NOTE_SECONDS`.
    Seconds,
    /// `NOTE_MSECONDS`, or no note.
    Milliseconds,
    /// `NOTE_USECONDS`.
    Microseconds,
    /// `NOTE_NSECONDS`.
    Nanoseconds,
}

impl TimerUnit {
    const fn nanoseconds(self) -> i64 {
        match self {
            TimerUnit::Seconds => 1_000_000_000,
            TimerUnit::Milliseconds => 1_000_000,
            TimerUnit::Microseconds => 1_000,
            TimerUnit::Nanoseconds => 1,
        }
    }

    fn note(self) -> Option<u32> {
        kevent::timer_note(self.nanoseconds())
    }

    fn in_milliseconds(self, period: i64) -> i64 {
        let nanoseconds = i128::from(period) * i128::from(self.nanoseconds());
        // It was an `i64` of nanoseconds.
        ((nanoseconds + 999_999) / 1_000_000) as i64
    }
}

impl Kqueue {
    /// Applies `changes`, then waits for events, and puts what came in place of what was in `events`; all in one
    /// kevent(2). Returns how many records came.
    ///
    /// No more come than `events` has room for (its capacity, which does not grow); the rest are for the next call.
    /// `None` waits for ever, zero does not wait, and no time is too long.
    ///
    /// A change that cannot be applied makes a receipt among the events, and so does one with [`Flags::RECEIPT`]: ask
    /// [`result`](Kevent::result) of each. The others are applied all the same, and the call does not wait.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`, and no change is applied: there is room for no event, or for fewer than there are changes (what
    ///   becomes of those without room for a receipt differs from system to system, and DragonFly writes beyond the
    ///   buffer); or a change is of libkqueue's own filter (see [`kevent_raw`](Kqueue::kevent_raw)).
    /// * `Interrupted`: a signal came that has a handler. All changes have been applied: do not repeat them.
    /// * The kernel's others, of the queue itself: `EBADF` (`ENOENT` from libkqueue) if it is none.
    ///
    /// After an error `events` is empty.
    pub fn kevent(&self, changes: &[Kevent], events: &mut Vec<Kevent>, timeout: Option<Duration>) -> io::Result<usize> {
        events.clear();
        if events.capacity() < changes.len().max(1) {
            return Err(invalid_input("room for at least one event, and for one of each change"));
        }
        reject_pointer_filter(changes)?;
        let mut changes = changes;
        wait_in_chunks(timeout, |step| {
            kevent::apply_and_wait(self.queue()?, mem::take(&mut changes), events, step)?;
            Ok(events.len())
        })
    }

    /// Waits for events: [`kevent`](Kqueue::kevent) without changes.
    ///
    /// # Errors
    ///
    /// As [`kevent`](Kqueue::kevent).
    pub fn wait(&self, events: &mut Vec<Kevent>, timeout: Option<Duration>) -> io::Result<usize> {
        self.kevent(&[], events, timeout)
    }

    /// Applies `changes`, without waiting, and puts a receipt in place of each; they are returned, in the order of the
    /// changes.
    ///
    /// Each change is applied whether or not another failed. It adds [`Flags::RECEIPT`] to them, and is one kevent(2) (with
    /// libkqueue one for each 512).
    ///
    /// # Errors
    ///
    /// That of the call itself, as for [`kevent`](Kqueue::kevent); what became of a change is told by its receipt. After
    /// `Interrupted`, which no system is known to say of such a call, all have been applied, and some receipts are lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::ErrorKind;
    /// use std::os::fd::AsRawFd;
    /// use std::os::unix::net::UnixStream;
    ///
    /// use kevio::unix::kqueue::{Flags, Kevent, Kqueue};
    ///
    /// let (a, _b) = UnixStream::pair()?;
    /// let kq = Kqueue::new()?;
    /// let mut changes = [Kevent::read(a.as_raw_fd(), Flags::ADD), Kevent::write(a.as_raw_fd(), Flags::DELETE)];
    /// let receipts = kq.apply(&mut changes)?;
    /// assert!(receipts[0].result().is_ok());
    /// assert_eq!(receipts[1].result().unwrap_err().kind(), ErrorKind::NotFound);
    /// # std::io::Result::Ok(())
    /// ```
    #[must_use = "a change that failed says so in its receipt"]
    pub fn apply<'a>(&self, changes: &'a mut [Kevent]) -> io::Result<&'a [Kevent]> {
        reject_pointer_filter(changes)?;
        for change in &mut *changes {
            *change = change.with_flags(change.flags() | Flags::RECEIPT);
        }
        let mut lost = false;
        for part in changes.chunks_mut(kevent::MAX_RECEIPTS) {
            let all = part.len();
            lost |= kevent::apply_with_receipts(self.queue()?, part)?.len() < all;
        }
        if lost {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(changes)
    }

    /// kevent(2) as it is: any lists, also one and the same. Returns how many records were written.
    ///
    /// # Errors
    ///
    /// The kernel's, and `InvalidInput` for more changes than an `int` counts. A change that failed without room for a
    /// receipt fails the call, and what became of the changes after it is not known.
    ///
    /// # Safety
    ///
    /// * `changes` can be read and `events` written for as many records as said; either may be null if that is none.
    /// * On DragonFly there is room for as many events as there are changes that may fail or ask for a receipt: its
    ///   kernel does not look.
    /// * A filter that takes a field for a pointer is given one: libkqueue's own (-12) calls a function that it finds in
    ///   `data`.
    pub unsafe fn kevent_raw(
        &self,
        changes: *const Kevent,
        nchanges: usize,
        events: *mut Kevent,
        nevents: usize,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| timeout.min(crate::sys::selector::MAX_WAIT));
        // SAFETY: the caller's promise.
        unsafe { kevent::kevent(self.queue()?, (changes, nchanges), (events, nevents), timeout) }
    }
}

/// Refuses what only the raw call may do.
fn reject_pointer_filter(changes: &[Kevent]) -> io::Result<()> {
    match kevent::POINTER_FILTER {
        Some(filter) if changes.iter().any(|change| change.filter() == filter) => {
            Err(invalid_input("libkqueue's own filter takes pointers"))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For systems without the unit, on any.
    #[test]
    fn a_period_in_milliseconds() {
        let table = [
            (TimerUnit::Seconds, 3, 3_000),
            (TimerUnit::Milliseconds, 3, 3),
            (TimerUnit::Microseconds, 0, 0),
            (TimerUnit::Microseconds, 1, 1),
            (TimerUnit::Microseconds, 2_001, 3),
            (TimerUnit::Nanoseconds, 1_000_000, 1),
            (TimerUnit::Nanoseconds, i64::MAX, 9_223_372_036_855),
            (TimerUnit::Seconds, i64::MAX / 1_000_000_000, 9_223_372_036_000),
        ];
        for (unit, period, milliseconds) in table {
            assert_eq!(unit.in_milliseconds(period), milliseconds, "{unit:?}");
        }
    }
}
