//! kevent(2): the record, its numbers and the call, right for each system.
//!
//! The record differs in every field's width (`libc` and `reference` §1: Apple packs it, NetBSD's filters are unsigned
//! and start at 0, FreeBSD has room for extensions), the filters' numbers in all but the first two. Nothing outside
//! this file knows. On Linux the same things come from the header of libkqueue, a kqueue in user space.

use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
use std::{fmt, io, mem, ptr};

use self::abi::{EV_ADD, EV_CLEAR, EV_DELETE, EV_DISPATCH, EV_EOF, EV_ERROR, EV_RECEIPT};
use super::super::call::{check, timespec, Bits};
use super::super::Record;
use crate::Token;

#[cfg(target_os = "linux")]
use self::libkqueue as abi;
#[cfg(not(target_os = "linux"))]
use libc as abi;

#[cfg(not(target_os = "netbsd"))]
pub(super) type Filter = i16;
#[cfg(target_os = "netbsd")]
pub(super) type Filter = u32;

#[cfg(not(target_os = "netbsd"))]
type Flags = u16;
#[cfg(target_os = "netbsd")]
type Flags = u32;

pub(super) const READ: Filter = abi::EVFILT_READ;
pub(super) const WRITE: Filter = abi::EVFILT_WRITE;
pub(super) const USER: Filter = abi::EVFILT_USER;
const AIO: Filter = abi::EVFILT_AIO;

/// Urgent data: the filter, and the note that says it is that and nothing else. FreeBSD and NetBSD have none.
pub(super) const EXCEPT: Option<(Filter, u32)> =
    with_except!({ Some((abi::EVFILT_EXCEPT, abi::NOTE_OOB)) } else { None });

const BROKEN_PIPE: Flags = EV_CLEAR | EV_DISPATCH;

#[cfg(target_os = "freebsd")]
const LIO: Option<Filter> = Some(abi::EVFILT_LIO);
#[cfg(not(target_os = "freebsd"))]
const LIO: Option<Filter> = None;

/// Whether closing a descriptor removes its filters. libkqueue cannot see it close (its BUGS.md).
pub(super) const CLOSE_FORGETS: bool = cfg!(not(target_os = "linux"));

/// One `struct kevent`: a change on the way in, an event or a receipt on the way out.
///
/// Fields are only ever copied out: Apple's record is packed to 4 bytes, so a reference to one could be unaligned.
#[derive(Copy, Clone)]
#[repr(transparent)]
pub struct Kevent(abi::kevent);

// SAFETY: the record's only pointer is `udata`, which kevio writes and reads as a `Token` and never follows.
unsafe impl Send for Kevent {}
// SAFETY: as above; a shared record is only read.
unsafe impl Sync for Kevent {}

impl Kevent {
    fn new(ident: usize, filter: Filter, flags: Flags, fflags: u32, token: Token) -> Kevent {
        Kevent(abi::kevent {
            ident: ident as _,
            filter,
            flags,
            fflags,
            udata: token.0 as _,
            // SAFETY: the record is integers and one pointer; all zeroes is a value of each. What is left zero here is
            // `data`, and FreeBSD's `ext`, which it asks to be.
            ..unsafe { mem::zeroed() }
        })
    }

    /// Adds an edge-triggered filter, or replaces its token.
    pub(super) fn add(ident: usize, filter: Filter, fflags: u32, token: Token) -> Kevent {
        Kevent::new(ident, filter, EV_ADD | EV_CLEAR | EV_RECEIPT, fflags, token)
    }

    /// The read filter in place of a write filter that cannot be added: see `Kqueue::arm`. Both flags come back with the
    /// event, and together they mean nothing else here.
    pub(super) fn add_for_broken_pipe(ident: usize, token: Token) -> Kevent {
        Kevent::new(ident, READ, EV_ADD | BROKEN_PIPE | EV_RECEIPT, 0, token)
    }

    pub(super) fn delete(ident: usize, filter: Filter) -> Kevent {
        Kevent::new(ident, filter, EV_DELETE | EV_RECEIPT, 0, Token(0))
    }

    /// Fires a user event that was added before.
    ///
    /// Without `EV_ADD` or `EV_CLEAR`: with the one an event triggered twice can become level-triggered
    /// (polling#265), with the other the BSDs take the trigger back at once. The token is sent again because FreeBSD,
    /// NetBSD and macOS store `udata` with every change.
    pub(super) fn trigger(ident: usize, token: Token) -> Kevent {
        Kevent::new(ident, USER, 0, abi::NOTE_TRIGGER, token)
    }

    pub(super) fn token(&self) -> Token {
        Token(self.0.udata as usize)
    }

    fn filter(&self) -> Filter {
        self.0.filter
    }

    fn fflags(&self) -> u32 {
        self.0.fflags
    }

    /// macOS fires this filter for ordinary data and the end of file too.
    fn is_exceptional(&self) -> bool {
        EXCEPT.is_some_and(|(filter, _)| self.filter() == filter)
    }

    fn is_broken_pipe(&self) -> bool {
        self.filter() == READ && self.0.flags & BROKEN_PIPE == BROKEN_PIPE
    }

    fn has(&self, flag: Flags) -> bool {
        self.0.flags & flag != 0
    }

    /// The error number of a receipt; 0 if the change was applied. macOS leaves the change's own flags in it, the BSDs
    /// do not, so only this bit tells.
    pub(super) fn errno(&self) -> i32 {
        if self.has(EV_ERROR) {
            self.0.data as i32
        } else {
            0
        }
    }
}

impl Record for Kevent {
    fn token(&self) -> Token {
        Kevent::token(self)
    }

    fn is_readable(&self) -> bool {
        [READ, USER].contains(&self.filter()) || self.is_exceptional()
    }

    fn is_writable(&self) -> bool {
        self.filter() == WRITE || self.is_broken_pipe()
    }

    fn is_error(&self) -> bool {
        self.has(EV_ERROR) || (self.has(EV_EOF) && self.fflags() != 0 && !self.is_exceptional())
    }

    fn is_read_closed(&self) -> bool {
        self.has(EV_EOF) && (self.filter() == READ || self.is_exceptional())
    }

    fn is_write_closed(&self) -> bool {
        (self.filter() == WRITE && self.has(EV_EOF)) || self.is_broken_pipe()
    }

    fn is_priority(&self) -> bool {
        self.is_exceptional() && EXCEPT.is_some_and(|(_, note)| self.fflags() & note != 0)
    }

    fn is_aio(&self) -> bool {
        self.filter() == AIO
    }

    fn is_lio(&self) -> bool {
        LIO == Some(self.filter())
    }
}

impl fmt::Debug for Kevent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FLAGS: &[(u32, &str)] = &[
            (EV_ADD as u32, "EV_ADD"),
            (EV_DELETE as u32, "EV_DELETE"),
            (EV_CLEAR as u32, "EV_CLEAR"),
            (EV_RECEIPT as u32, "EV_RECEIPT"),
            (EV_DISPATCH as u32, "EV_DISPATCH"),
            (EV_ERROR as u32, "EV_ERROR"),
            (EV_EOF as u32, "EV_EOF"),
        ];
        let filter = match self.filter() {
            READ => "EVFILT_READ",
            WRITE => "EVFILT_WRITE",
            USER => "EVFILT_USER",
            AIO => "EVFILT_AIO",
            other if LIO == Some(other) => "EVFILT_LIO",
            _ if self.is_exceptional() => "EVFILT_EXCEPT",
            other => return write!(f, "kevent {{ filter: {other}, udata: {:#x} }}", self.token().0),
        };
        let (ident, data) = (self.0.ident, self.0.data);
        f.debug_struct("kevent")
            .field("ident", &ident)
            .field("filter", &format_args!("{filter}"))
            .field("flags", &Bits(self.0.flags as u32, FLAGS))
            .field("fflags", &format_args!("{:#x}", self.fflags()))
            .field("data", &data)
            .field("udata", &format_args!("{:#x}", self.token().0))
            .finish()
    }
}

/// A new queue, close-on-exec.
pub(super) fn kqueue() -> io::Result<OwnedFd> {
    #[cfg(target_os = "netbsd")]
    // SAFETY: no pointers.
    let kq = check(unsafe { libc::kqueue1(libc::O_CLOEXEC) })?;
    #[cfg(not(target_os = "netbsd"))]
    // SAFETY: no arguments.
    let kq = check(unsafe { abi::kqueue() })?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    let kq = unsafe { OwnedFd::from_raw_fd(kq) };
    #[cfg(not(target_os = "netbsd"))]
    super::super::call::set_cloexec(std::os::fd::AsRawFd::as_raw_fd(&kq))?;
    Ok(kq)
}

/// Applies changes that all ask for a receipt, and overwrites them with the receipts, in the same order.
///
/// The kernel collects no events in such a call. It returns fewer receipts than changes only if a signal arrived, and
/// then every change has been applied (kqueue(2), FreeBSD: EINTR).
pub(super) fn submit(kq: RawFd, changes: &mut [Kevent]) -> io::Result<&[Kevent]> {
    let records = changes.as_mut_ptr().cast::<abi::kevent>();
    let at_once = timespec(Duration::ZERO);
    // SAFETY: `Kevent` is transparent over `kevent`; the kernel reads `len` records and writes at most as many over
    // them, each after it was read (kern_event.c of all five systems copies in before it copies out).
    let n = check(unsafe {
        abi::kevent(kq, records, changes.len() as _, records, changes.len() as _, &at_once)
    });
    match n {
        Ok(n) => Ok(&changes[..n as usize]),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
        Err(error) => Err(error),
    }
}

/// Applies one change whose failure the call itself reports, there being no room for a receipt.
pub(super) fn submit_one(kq: RawFd, change: &Kevent) -> io::Result<()> {
    // SAFETY: one record is read; none is written.
    let n = check(unsafe { abi::kevent(kq, &change.0, 1, ptr::null_mut(), 0, ptr::null()) });
    match n {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Waits, and fills `events` up to its capacity.
pub(super) fn wait(kq: RawFd, events: &mut Vec<Kevent>, timeout: Option<Duration>) -> io::Result<()> {
    events.clear();
    let timeout = timeout.map(timespec);
    let timeout = timeout.as_ref().map_or(ptr::null(), |timeout| timeout as *const _);
    let room = events.capacity().min(i32::MAX as usize);
    let records = events.as_mut_ptr().cast::<abi::kevent>();
    // SAFETY: there is room for that many records, which are transparent over `kevent`; `timeout` is null or points to
    // a value that outlives the call.
    let n = check(unsafe { abi::kevent(kq, ptr::null(), 0, records, room as _, timeout) });
    match n {
        Ok(n) => {
            // SAFETY: the kernel has written the first `n` records, and `n` is at most the capacity.
            unsafe { events.set_len(n as usize) };
            Ok(())
        }
        // macOS has been seen to say so when the time was up (golang/go#59679).
        Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// `<kqueue/sys/event.h>` of libkqueue 2.6 and later: FreeBSD's numbers, without FreeBSD's `ext`.
#[cfg(target_os = "linux")]
#[allow(non_camel_case_types)]
mod libkqueue {
    use std::ffi::{c_int, c_void};

    #[derive(Copy, Clone)]
    #[repr(C)]
    pub(super) struct kevent {
        pub(super) ident: usize,
        pub(super) filter: i16,
        pub(super) flags: u16,
        pub(super) fflags: u32,
        pub(super) data: isize,
        pub(super) udata: *mut c_void,
    }

    pub(super) const EVFILT_READ: i16 = -1;
    pub(super) const EVFILT_WRITE: i16 = -2;
    pub(super) const EVFILT_AIO: i16 = -3;
    pub(super) const EVFILT_USER: i16 = -11;

    pub(super) const EV_ADD: u16 = 0x1;
    pub(super) const EV_DELETE: u16 = 0x2;
    pub(super) const EV_CLEAR: u16 = 0x20;
    pub(super) const EV_RECEIPT: u16 = 0x40;
    pub(super) const EV_DISPATCH: u16 = 0x80;
    pub(super) const EV_ERROR: u16 = 0x4000;
    pub(super) const EV_EOF: u16 = 0x8000;

    pub(super) const NOTE_TRIGGER: u32 = 0x0100_0000;

    #[link(name = "kqueue")]
    extern "C" {
        pub(super) fn kqueue() -> c_int;
        pub(super) fn kevent(
            kq: c_int,
            changelist: *const kevent,
            nchanges: c_int,
            eventlist: *mut kevent,
            nevents: c_int,
            timeout: *const libc::timespec,
        ) -> c_int;
    }
}

// The sizes that `reference` §1.1 and each system's <sys/event.h> give; a wrong one is memory corruption.
#[cfg(target_pointer_width = "64")]
const _: () = {
    const SIZE: usize = if cfg!(target_os = "freebsd") {
        64
    } else if cfg!(target_os = "netbsd") {
        40
    } else {
        32
    };
    assert!(mem::size_of::<Kevent>() == SIZE);
    assert!(mem::align_of::<Kevent>() == if cfg!(target_vendor = "apple") { 4 } else { 8 });
};

#[cfg(test)]
mod tests {
    use super::*;

    fn event(filter: Filter, flags: Flags, fflags: u32) -> Kevent {
        Kevent::new(3, filter, flags, fflags, Token(usize::MAX))
    }

    #[test]
    fn a_receipt_is_the_error_bit_and_nothing_else() {
        // (errno, the flags that the BSDs and macOS leave in the receipt of an EV_ADD)
        for flags in [EV_ERROR, EV_ERROR | EV_ADD | EV_CLEAR | EV_RECEIPT] {
            for errno in [0, libc::ENOENT, libc::EPIPE] {
                let mut receipt = event(WRITE, flags, 0);
                receipt.0.data = errno as _;
                assert_eq!(receipt.errno(), errno);
            }
        }
        let mut event = event(READ, EV_ADD | EV_RECEIPT, 0);
        event.0.data = 5;
        assert_eq!(event.errno(), 0, "an event's data is not an error");
    }

    #[test]
    fn what_each_record_answers() {
        let answers = |e: &Kevent| {
            [e.is_readable(), e.is_writable(), e.is_read_closed(), e.is_write_closed(), e.is_error()].map(u8::from)
        };
        assert_eq!(answers(&event(READ, EV_CLEAR, 0)), [1, 0, 0, 0, 0]);
        assert_eq!(answers(&event(WRITE, EV_CLEAR, 0)), [0, 1, 0, 0, 0]);
        assert_eq!(answers(&event(READ, EV_CLEAR | EV_EOF, 0)), [1, 0, 1, 0, 0]);
        assert_eq!(answers(&event(READ, EV_CLEAR | EV_DISPATCH | EV_EOF, 0)), [1, 1, 1, 1, 0]);
        assert_eq!(answers(&event(WRITE, EV_EOF, 0)), [0, 1, 0, 1, 0]);
        assert_eq!(answers(&event(READ, EV_EOF, libc::ECONNRESET as u32)), [1, 0, 1, 0, 1]);
        assert_eq!(answers(&event(USER, EV_CLEAR, 0)), [1, 0, 0, 0, 0]);
        assert_eq!(event(READ, 0, 0).token(), Token(usize::MAX));
        if let Some((filter, note)) = EXCEPT {
            assert!(event(filter, 0, note).is_priority() && event(filter, 0, note).is_readable());
            assert!(event(filter, 0, 0).is_readable() && !event(filter, 0, 0).is_priority(), "ordinary data on macOS");
        }
    }

    #[test]
    fn no_change_is_a_zero_record() {
        // On NetBSD a record of zeroes is EVFILT_READ on descriptor 0.
        for change in [Kevent::add(0, READ, 0, Token(0)), Kevent::delete(0, READ), Kevent::trigger(0, Token(0))] {
            assert!(change.0.flags != 0 || change.filter() == USER);
        }
        let text = format!("{:?}", Kevent::add(7, WRITE, 0, Token(9)));
        assert!(text.contains("EVFILT_WRITE") && text.contains("EV_ADD|EV_CLEAR|EV_RECEIPT"), "{text}");
    }
}
