//! One `struct kevent`: a change, an event or a receipt.

use std::os::fd::RawFd;
use std::{fmt, io, mem};

use crate::sys::error::invalid_input;
use crate::sys::unix::kevent::abi;
use crate::sys::unix::kevent::abi::RawData;
use crate::sys::unix::kevent::constants::{Filter, Flags, IoNotes, ProcNotes, TimerNotes, UserNotes, VnodeNotes};
use crate::sys::unix::kevent::timer_unit::TimerUnit;

/// One `struct kevent`: a change as input of kevent(2), an event or a receipt as its output.
///
/// The layout in memory is that of the system, and fields are read and written by value. The meaning of the fields:
///
/// | filter | ident | notes (`fflags`) | `data` of a change | `data` of an event |
/// |---|---|---|---|---|
/// | [`READ`](Filter::READ) | descriptor | [`IoNotes`] | with `LOWAT`: least number of bytes | number of bytes or connections |
/// | [`WRITE`](Filter::WRITE) | descriptor | [`IoNotes`] | with `LOWAT`: least space in bytes | space in bytes |
/// | [`VNODE`](Filter::VNODE) | descriptor of a file | [`VnodeNotes`]: changes to report, or that happened | | |
/// | [`PROC`](Filter::PROC) | process | [`ProcNotes`]: changes to report, or that happened | | with `EXIT`: the status |
/// | [`SIGNAL`](Filter::SIGNAL) | signal | | | how often it was sent since the last event |
/// | [`TIMER`](Filter::TIMER) | any number | [`TimerNotes`] | the period | how often it has passed since the last event |
/// | [`USER`](Filter::USER) | any number | [`UserNotes`] | any number | that of the last change (libkqueue: undefined) |
///
/// The filter's number and the ident together are the key of a filter in a queue. At the end of file
/// ([`Flags::EOF`]) of a socket, the notes hold the error number of the socket. The system's kqueue(2) describes the other
/// filters, for which [`new`](Kevent::new) makes records.
///
/// Constructors take flags as the manual page has them: [`Flags::ADD`] adds the filter, and `CLEAR`, `ONESHOT` or
/// `DISPATCH` with it choose the state of the filter after an event. `DELETE`, `ENABLE` and `DISABLE` change a filter.
///
/// ```
/// use kevio::unix::kqueue::{Filter, Flags, Kevent};
///
/// let change = Kevent::read(0, Flags::ADD | Flags::ONESHOT).with_udata(7);
/// assert_eq!((change.ident(), change.filter(), change.udata()), (0, Filter::READ, 7));
/// ```
#[derive(Copy, Clone)]
#[repr(transparent)]
pub struct Kevent(abi::kevent);

// SAFETY: the record's only pointer is `udata`, which is written and read as a number and never followed.
unsafe impl Send for Kevent {}
// SAFETY: as above. A shared record is only read.
unsafe impl Sync for Kevent {}

impl Kevent {
    /// A record of zeroes, for memory that the kernel or a change will fill.
    // SAFETY: the fields are integers and one pointer. Zeroes are a value of each.
    pub(crate) const ZERO: Kevent = Kevent(unsafe {
        mem::transmute::<[u8; mem::size_of::<abi::kevent>()], abi::kevent>([0; mem::size_of::<abi::kevent>()])
    });

    /// Returns a record of these fields, as `EV_SET` makes it. Further fields of the system's record are zero.
    #[must_use]
    pub fn new(ident: usize, filter: Filter, flags: Flags, fflags: u32, data: RawData, udata: usize) -> Kevent {
        let record = abi::kevent {
            ident: ident as _,
            filter: filter.raw(),
            flags: flags.bits(),
            fflags,
            udata: udata as _,
            // SAFETY: the fields are integers and one pointer. Zeroes are a value of each. The fields that stay zero here are
            // `data`, and FreeBSD's `ext`, which has to be zero.
            ..unsafe { mem::zeroed() }
        };
        Kevent(record).with_data(data)
    }

    /// Returns a change for a descriptor's read side: [`Filter::READ`].
    #[must_use]
    pub fn read(fd: RawFd, flags: Flags) -> Kevent {
        Kevent::new(fd as usize, Filter::READ, flags, 0, 0, 0)
    }

    /// Returns a change for a descriptor's write side: [`Filter::WRITE`].
    #[must_use]
    pub fn write(fd: RawFd, flags: Flags) -> Kevent {
        Kevent::new(fd as usize, Filter::WRITE, flags, 0, 0, 0)
    }

    /// Returns a change for a timer, which fires every `period`, or once with [`Flags::ONESHOT`]: [`Filter::TIMER`].
    ///
    /// A unit that the system does not have is converted to milliseconds, and rounded up. DragonFly has milliseconds only,
    /// and so has the `libc` of OpenBSD. A period of 0 depends on the kernel: NetBSD rejects it (`EINVAL`), Apple and FreeBSD
    /// fire at once.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the period is negative, or longer than 292 years (`i64::MAX` nanoseconds), or than the record
    /// can hold.
    pub fn timer(ident: usize, flags: Flags, period: i64, unit: TimerUnit) -> io::Result<Kevent> {
        if period < 0 {
            return Err(invalid_input(format!(
                "`Kevent::timer` cannot have the period {period}, because a period is not negative: pass 0 or more"
            )));
        }
        if period > unit.max_period() {
            return Err(invalid_input(format!(
                "`Kevent::timer` cannot have the period {period} ({unit:?}), which is longer than 292 years: pass at \
                 most {}",
                unit.max_period()
            )));
        }
        let (fflags, data) = match unit.note() {
            Some(note) => (note, period),
            None => (0, unit.in_milliseconds(period)),
        };
        let data = RawData::try_from(data).map_err(|_| {
            invalid_input(format!(
                "`Kevent::timer` cannot have the period {data}, which does not fit into the `long` of the record: pass \
                 a shorter period, or a greater unit"
            ))
        })?;
        Ok(Kevent::new(ident, Filter::TIMER, flags, fflags, data, 0))
    }

    /// Returns a change for a signal: [`Filter::SIGNAL`].
    ///
    /// The filter counts the signals that are sent to the process, and the signal's action runs as well. Ignore the signal
    /// (`SIG_IGN`) if the event is to be the only effect. Apple does not count signals that are sent to a thread. libkqueue
    /// blocks the signal in the thread that adds the filter, and takes the signal from the process. libkqueue counts the signal
    /// only if all threads have blocked it.
    #[must_use]
    pub fn signal(signal: libc::c_int, flags: Flags) -> Kevent {
        Kevent::new(signal as usize, Filter::SIGNAL, flags, 0, 0, 0)
    }

    /// Returns a change for a process: [`Filter::PROC`].
    ///
    /// If the process has exited already, the change fails with `ESRCH` on Apple, NetBSD and OpenBSD. On the other systems
    /// the filter reports an event at once.
    #[must_use]
    pub fn process(pid: libc::pid_t, flags: Flags, notes: ProcNotes) -> Kevent {
        Kevent::new(pid as usize, Filter::PROC, flags, notes.bits(), 0, 0)
    }

    /// Returns a change for an open file or directory: [`Filter::VNODE`].
    #[must_use]
    pub fn vnode(fd: RawFd, flags: Flags, notes: VnodeNotes) -> Kevent {
        Kevent::new(fd as usize, Filter::VNODE, flags, notes.bits(), 0, 0)
    }

    /// Returns a change for an event that the program triggers: [`Filter::USER`]. NetBSD has the filter from release 10,
    /// OpenBSD from 7.8.
    ///
    /// Add the filter with [`Flags::ADD`] and `CLEAR`. Trigger the event with no flag and [`UserNotes::TRIGGER`].
    #[must_use]
    pub fn user(ident: usize, flags: Flags, notes: UserNotes) -> Kevent {
        Kevent::new(ident, Filter::USER, flags, notes.bits(), 0, 0)
    }

    /// Returns the ident: a descriptor, a process, a signal, or a number of the program, depending on the filter.
    #[must_use]
    #[allow(clippy::unnecessary_cast)] // The width depends on the system.
    pub fn ident(&self) -> usize {
        self.0.ident as usize
    }

    /// Returns the filter.
    #[must_use]
    pub fn filter(&self) -> Filter {
        Filter::from_raw(self.0.filter)
    }

    /// Returns the flags: the action of a change, the state of an event.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags::from_bits(self.0.flags)
    }

    /// Returns the notes, whose type depends on the filter: `VnodeNotes::from_bits(event.fflags())`.
    #[must_use]
    pub fn fflags(&self) -> u32 {
        self.0.fflags
    }

    /// Returns a number whose meaning depends on the filter; the error number of a receipt.
    #[must_use]
    #[allow(clippy::unnecessary_cast)] // The width depends on the system.
    pub fn data(&self) -> i64 {
        self.0.data as i64
    }

    /// Returns the program's own number, which each event of the filter contains.
    #[must_use]
    pub fn udata(&self) -> usize {
        self.0.udata as usize
    }

    /// Replaces the flags.
    #[must_use]
    pub fn with_flags(mut self, flags: Flags) -> Kevent {
        self.0.flags = flags.bits();
        self
    }

    /// Replaces the notes.
    #[must_use]
    pub fn with_fflags(mut self, fflags: u32) -> Kevent {
        self.0.fflags = fflags;
        self
    }

    /// Replaces `data`.
    #[must_use]
    pub fn with_data(mut self, data: RawData) -> Kevent {
        self.0.data = data;
        self
    }

    /// Replaces `udata`.
    #[must_use]
    pub fn with_udata(mut self, udata: usize) -> Kevent {
        self.0.udata = udata as _;
        self
    }

    /// Returns the result that a receipt reports. The result of an event is `Ok`.
    ///
    /// # Errors
    ///
    /// The kernel's:
    ///
    /// * `NotFound` (`ENOENT`) for changing a filter that does not exist;
    /// * `EBADF` for a descriptor that is not open, or negative;
    /// * `InvalidInput` (`EINVAL`) for an unknown filter, or one that the descriptor cannot have;
    /// * `ESRCH` for a process that does not exist any more;
    /// * `BrokenPipe` (`EPIPE`) for the write side of a pipe without a reader, on some systems.
    pub fn result(&self) -> io::Result<()> {
        match self.errno() {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        }
    }

    /// Returns the error number of a receipt, or 0 if the change was applied or the record is no receipt.
    ///
    /// macOS leaves the flags of the change in a receipt and the BSDs do not, so that only `EV_ERROR` marks a receipt.
    pub(crate) fn errno(&self) -> i32 {
        if self.flags().contains(Flags::ERROR) {
            self.0.data as i32
        } else {
            0
        }
    }

    /// Returns the receipt of this change, which has failed.
    pub(super) fn failed(self, errno: i32) -> Kevent {
        self.with_flags(self.flags() | Flags::ERROR).with_data(errno as RawData)
    }
}

/// Prints names where there are any. The filter determines the names of the notes.
impl fmt::Debug for Kevent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fflags = self.fflags();
        let has_errno = self.flags().intersects(Flags::EOF | Flags::ERROR);
        let notes: &dyn fmt::Debug = match self.filter() {
            Filter::READ | Filter::WRITE if !has_errno => &IoNotes::from_bits(fflags),
            Filter::VNODE => &VnodeNotes::from_bits(fflags),
            Filter::PROC => &ProcNotes::from_bits(fflags),
            Filter::TIMER => &TimerNotes::from_bits(fflags),
            Filter::USER => &UserNotes::from_bits(fflags),
            _ => &format_args!("{fflags:#x}"),
        };
        f.debug_struct("kevent")
            .field("ident", &self.ident())
            .field("filter", &self.filter())
            .field("flags", &self.flags())
            .field("fflags", notes)
            .field("data", &self.data())
            .field("udata", &format_args!("{:#x}", self.udata()))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipt_has_an_errno_and_an_event_has_none() {
        // The flags that the BSDs and macOS leave in the receipt of an EV_ADD.
        for flags in [Flags::ERROR, Flags::ERROR | Flags::ADD | Flags::CLEAR | Flags::RECEIPT] {
            for errno in [0, libc::ENOENT, libc::EPIPE] {
                let receipt = Kevent::new(3, Filter::WRITE, flags, 0, errno as _, 0);
                assert_eq!(receipt.errno(), errno);
            }
        }
        let event = Kevent::new(3, Filter::READ, Flags::ADD | Flags::RECEIPT, 0, 5, 0);
        assert_eq!(event.errno(), 0, "an event's data is not an error");
    }

    #[test]
    fn fields_are_returned_as_they_were_set() {
        let record = Kevent::new(usize::MAX, Filter::USER, Flags::from_bits(0x8421), !0, RawData::MIN, usize::MAX);
        assert_eq!((record.ident(), record.filter(), record.flags().bits()), (usize::MAX, Filter::USER, 0x8421));
        assert_eq!((record.fflags(), record.data(), record.udata()), (!0, RawData::MIN as i64, usize::MAX));
        let other = record.with_flags(Flags::ADD).with_fflags(3).with_data(-4).with_udata(5);
        assert_eq!((other.ident(), other.filter(), other.flags()), (usize::MAX, Filter::USER, Flags::ADD));
        assert_eq!((other.fflags(), other.data(), other.udata()), (3, -4, 5));
    }

    #[test]
    fn record_is_printed_with_names() {
        let text = |filter, flags, fflags| format!("{:?}", Kevent::new(7, filter, flags, fflags, -1, 9));
        assert_eq!(
            text(Filter::VNODE, Flags::ADD | Flags::CLEAR, VnodeNotes::DELETE.bits()),
            "kevent { ident: 7, filter: EVFILT_VNODE, flags: EV_ADD|EV_CLEAR, fflags: NOTE_DELETE, data: -1, udata: \
             0x9 }"
        );
        assert!(text(Filter::READ, Flags::ADD, 1).contains("fflags: NOTE_LOWAT,"));
        assert!(text(Filter::READ, Flags::EOF, 1).contains("flags: EV_EOF, fflags: 0x1,"), "an error number");
        assert!(text(Filter::PROC, Flags::ADD, ProcNotes::EXIT.bits()).contains("NOTE_EXIT,"));
        assert!(text(Filter::USER, Flags::empty(), UserNotes::TRIGGER.bits()).contains("NOTE_TRIGGER,"));
        assert!(
            text(Filter::from_raw(99), Flags::empty(), 8).contains("filter: 0x63, flags: Flags(empty), fflags: 0x8,")
        );
    }
}
