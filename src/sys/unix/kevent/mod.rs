//! kevent(2): the record, its numbers and the call, right for each system. The backend and `unix::kqueue` share them.
//!
//! The record differs in every field's width (`libc`: Apple's is that of kevent64(2), NetBSD's filters are unsigned and
//! start at 0, FreeBSD has room for extensions), the filters' numbers in all but the first two. Nothing outside
//! this file and `constants.rs` knows. On Linux the same things come from the header of libkqueue, a kqueue in user
//! space.
#![allow(dead_code)] // The backend and `unix::kqueue` may each be there without the other.

mod constants;

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
use std::{fmt, io, mem, ptr};

use crate::sys::unix::fork;
use crate::sys::unix::syscall::{cvt, invalid_input, set_cloexec};
use crate::sys::unix::timeout::timespec;

pub use self::constants::{Filter, Flags, IoNotes, ProcNotes, TimerNotes, UserNotes, VnodeNotes};

#[cfg(target_vendor = "apple")]
use self::kevent64 as abi;
#[cfg(target_os = "linux")]
use self::libkqueue as abi;
#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
use libc as abi;

/// The number of a filter: `short`; unsigned and 32 bits on NetBSD.
#[cfg(not(target_os = "netbsd"))]
pub type RawFilter = i16;
/// The number of a filter: `short`; unsigned and 32 bits on NetBSD.
#[cfg(target_os = "netbsd")]
pub type RawFilter = u32;

/// The bits of [`Flags`]: `unsigned short`; 32 bits on NetBSD.
#[cfg(not(target_os = "netbsd"))]
pub type RawFlags = u16;
/// The bits of [`Flags`]: `unsigned short`; 32 bits on NetBSD.
#[cfg(target_os = "netbsd")]
pub type RawFlags = u32;

/// The `data` of a record: as wide as a pointer on DragonFly and in libkqueue, 64 bits elsewhere.
#[cfg(any(target_os = "dragonfly", target_os = "linux"))]
pub type RawData = isize;
/// The `data` of a record: as wide as a pointer on DragonFly and in libkqueue, 64 bits elsewhere.
#[cfg(not(any(target_os = "dragonfly", target_os = "linux")))]
pub type RawData = i64;

/// One `struct kevent`: a change on the way in, an event or a receipt on the way out.
///
/// It is the kernel's own record, whatever its layout; fields are read and written by value. What they mean:
///
/// | filter | ident | notes (`fflags`) | `data` of a change | `data` of an event |
/// |---|---|---|---|---|
/// | [`READ`](Filter::READ) | descriptor | [`IoNotes`] | with `LOWAT`: how many bytes there have to be | how many bytes, or connections, there are |
/// | [`WRITE`](Filter::WRITE) | descriptor | [`IoNotes`] | with `LOWAT`: how much room there has to be | how much room there is |
/// | [`VNODE`](Filter::VNODE) | descriptor of a file | [`VnodeNotes`]: what to report, what happened | | |
/// | [`PROC`](Filter::PROC) | process | [`ProcNotes`]: what to report, what happened | | with `EXIT`: the status |
/// | [`SIGNAL`](Filter::SIGNAL) | signal | | | how often it was sent since the last event |
/// | [`TIMER`](Filter::TIMER) | any number | [`TimerNotes`] | the period | how often it has passed since the last event |
/// | [`USER`](Filter::USER) | any number | [`UserNotes`] | any number | that of the last change (libkqueue: not told) |
///
/// What identifies a filter in a queue is its number and the ident together. An end of file ([`Flags::EOF`]) of a socket
/// leaves its error number in the notes. The other filters are told in the system's kqueue(2), and made with
/// [`new`](Kevent::new).
///
/// Constructors take flags as the manual page has them: [`Flags::ADD`] to add the filter, with `CLEAR`, `ONESHOT` or
/// `DISPATCH` for what is to become of it once it has fired, and `DELETE`, `ENABLE` or `DISABLE` to change it.
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
// SAFETY: as above; a shared record is only read.
unsafe impl Sync for Kevent {}

impl Kevent {
    /// A record of zeroes, for memory that the kernel or a change will fill.
    // SAFETY: the record is integers and one pointer; all zeroes is a value of each.
    pub(crate) const ZERO: Kevent = Kevent(unsafe {
        mem::transmute::<[u8; mem::size_of::<abi::kevent>()], abi::kevent>([0; mem::size_of::<abi::kevent>()])
    });

    /// A record of these fields, as `EV_SET` makes it; what else the system's record has is zero.
    #[must_use]
    pub fn new(ident: usize, filter: Filter, flags: Flags, fflags: u32, data: RawData, udata: usize) -> Kevent {
        let record = abi::kevent {
            ident: ident as _,
            filter: filter.raw(),
            flags: flags.bits(),
            fflags,
            udata: udata as _,
            // SAFETY: the record is integers and one pointer; all zeroes is a value of each. What is left zero here is
            // `data`, and FreeBSD's `ext`, which it asks to be.
            ..unsafe { mem::zeroed() }
        };
        Kevent(record).with_data(data)
    }

    /// What it is about: a descriptor, a process, a signal, or a number of the program's own, as the filter says.
    #[must_use]
    #[allow(clippy::unnecessary_cast)] // Its width is the system's.
    pub fn ident(&self) -> usize {
        self.0.ident as usize
    }

    /// What kind of thing it is about.
    #[must_use]
    pub fn filter(&self) -> Filter {
        Filter::from_raw(self.0.filter)
    }

    /// What to do, or what became of it.
    #[must_use]
    pub fn flags(&self) -> Flags {
        Flags::from_bits(self.0.flags)
    }

    /// The notes, as the filter says: `VnodeNotes::from_bits(event.fflags())`.
    #[must_use]
    pub fn fflags(&self) -> u32 {
        self.0.fflags
    }

    /// A number, as the filter says; the error number of a receipt.
    #[must_use]
    #[allow(clippy::unnecessary_cast)] // Its width is the system's.
    pub fn data(&self) -> i64 {
        self.0.data as i64
    }

    /// The program's own number, which comes back with every event.
    #[must_use]
    pub fn udata(&self) -> usize {
        self.0.udata as usize
    }

    /// With these flags instead.
    #[must_use]
    pub fn with_flags(mut self, flags: Flags) -> Kevent {
        self.0.flags = flags.bits();
        self
    }

    /// With these notes instead.
    #[must_use]
    pub fn with_fflags(mut self, fflags: u32) -> Kevent {
        self.0.fflags = fflags;
        self
    }

    /// With this `data` instead.
    #[must_use]
    pub fn with_data(mut self, data: RawData) -> Kevent {
        self.0.data = data;
        self
    }

    /// With this `udata` instead.
    #[must_use]
    pub fn with_udata(mut self, udata: usize) -> Kevent {
        self.0.udata = udata as _;
        self
    }

    /// The error number of a receipt; 0 if the change was applied, or if it is no receipt. macOS leaves the change's own
    /// flags in it, the BSDs do not, so only this bit tells.
    pub(crate) fn errno(&self) -> i32 {
        if self.flags().contains(Flags::ERROR) {
            self.0.data as i32
        } else {
            0
        }
    }

    /// The receipt of this change, which has failed.
    fn failed(self, errno: i32) -> Kevent {
        self.with_flags(self.flags() | Flags::ERROR).with_data(errno as RawData)
    }
}

/// Names where there are any. Notes are named for what the filter makes of them.
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

/// How many receipts a call may return: libkqueue has room for no more.
pub(crate) const MAX_RECEIPTS: usize = if cfg!(target_os = "linux") { 512 } else { i32::MAX as usize };

/// The filter by which libkqueue is told where to find a function or a text; no kernel has one that takes pointers.
pub(crate) const POINTER_FILTER: Option<Filter> =
    // -12, which NetBSD's unsigned numbers cannot spell.
    if cfg!(target_os = "linux") { Some(Filter::from_raw(!11)) } else { None };

/// The notes that say that a timer's `data` is in units of so many nanoseconds; `None` where the system has none.
pub(crate) fn timer_note(nanoseconds: i64) -> Option<u32> {
    match nanoseconds {
        1_000_000 => Some(MILLISECONDS.bits()),
        #[cfg(not(any(target_os = "dragonfly", target_os = "openbsd")))]
        1_000_000_000 => Some(TimerNotes::SECONDS.bits()),
        #[cfg(not(any(target_os = "dragonfly", target_os = "openbsd")))]
        1_000 => Some(TimerNotes::USECONDS.bits()),
        #[cfg(not(any(target_os = "dragonfly", target_os = "openbsd")))]
        1 => Some(TimerNotes::NSECONDS.bits()),
        _ => None,
    }
}

/// On NetBSD it is 0; so is what stands for it elsewhere.
#[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
const MILLISECONDS: TimerNotes = TimerNotes::MSECONDS;
#[cfg(not(any(target_os = "freebsd", target_os = "netbsd")))]
const MILLISECONDS: TimerNotes = TimerNotes::empty();

/// A kernel event queue, for the system call itself: kqueue(2) and kevent(2).
///
/// It is close-on-exec, from its creation where the system can do that (NetBSD; FreeBSD from 14; OpenBSD from 7.4;
/// Apple), else right after it. Any thread may use it at any time; of several that wait, each event goes to one.
///
/// On Apple the calls are kevent64(2), and its record is this module's. A queue takes calls of one family only: one that was
/// used with kevent(2) elsewhere fails with `InvalidInput`.
///
/// A forked child does not inherit it (with libkqueue it does, and must not use it): there, calls fail with `Unsupported`,
/// and dropping it does nothing.
///
/// # Examples
///
/// A byte through a pair of sockets, and a timer for the case that it does not come:
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
/// use std::os::unix::net::UnixStream;
///
/// use kevio::unix::kqueue::{Filter, Flags, Kevent, Kqueue, TimerUnit};
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// theirs.write_all(b"!")?;
///
/// let kq = Kqueue::new()?;
/// let changes = [
///     Kevent::read(ours.as_raw_fd(), Flags::ADD | Flags::CLEAR).with_udata(42),
///     Kevent::timer(1, Flags::ADD | Flags::ONESHOT, 10, TimerUnit::Seconds)?,
/// ];
/// let mut events = Vec::with_capacity(8);
/// kq.kevent(&changes, &mut events, None)?;
/// let event = events[0];
/// event.result()?;
/// assert_eq!((event.filter(), event.udata(), event.data()), (Filter::READ, 42, 1));
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Kqueue {
    fd: ManuallyDrop<OwnedFd>,
    /// The generation of the process that made it. A forked child does not inherit the queue, and there the number may be
    /// another descriptor's.
    generation: u32,
}

impl Kqueue {
    /// Makes a queue (`kqueue`, `kqueue1`).
    ///
    /// # Errors
    ///
    /// Those of kqueue(2): too many descriptors (`EMFILE`, `ENFILE`), no memory or too many queues (`OutOfMemory`).
    pub fn new() -> io::Result<Kqueue> {
        kqueue().map(Kqueue::from)
    }

    /// Whether this is the process that made the queue. In a forked child the number may be another's by now.
    pub(crate) fn created_by_this_process(&self) -> bool {
        fork::is_current(self.generation)
    }

    /// The descriptor, in the process that made the queue. In a forked child the number may be that of another queue.
    pub(crate) fn queue(&self) -> io::Result<RawFd> {
        if self.created_by_this_process() {
            return Ok(self.as_raw_fd());
        }
        Err(crate::sys::error::inherited())
    }
}

/// Takes a descriptor over, which has to be a kqueue: calls fail otherwise.
impl From<OwnedFd> for Kqueue {
    fn from(fd: OwnedFd) -> Kqueue {
        Kqueue { fd: ManuallyDrop::new(fd), generation: fork::generation() }
    }
}

impl From<Kqueue> for OwnedFd {
    fn from(kq: Kqueue) -> OwnedFd {
        let mut kq = ManuallyDrop::new(kq);
        // SAFETY: taken once: `kq` is not dropped.
        unsafe { ManuallyDrop::take(&mut kq.fd) }
    }
}

impl AsFd for Kqueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Kqueue {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Drop for Kqueue {
    fn drop(&mut self) {
        if self.created_by_this_process() {
            // SAFETY: dropped here, once, and not used after.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

/// A new queue, close-on-exec.
fn kqueue() -> io::Result<OwnedFd> {
    #[cfg(any(target_os = "freebsd", target_os = "netbsd", target_os = "openbsd"))]
    if let Some(kqueue1) = kqueue1() {
        // SAFETY: no pointers.
        let kq = cvt(unsafe { kqueue1(libc::O_CLOEXEC) })?;
        // SAFETY: the kernel has just made this descriptor, and nobody else has it.
        return Ok(unsafe { OwnedFd::from_raw_fd(kq) });
    }
    // SAFETY: no arguments.
    let kq = cvt(unsafe { abi::kqueue() })?;
    // SAFETY: as above.
    let kq = unsafe { OwnedFd::from_raw_fd(kq) };
    set_cloexec(kq.as_raw_fd())?;
    Ok(kq)
}

#[cfg(any(target_os = "freebsd", target_os = "netbsd", target_os = "openbsd"))]
type Kqueue1 = unsafe extern "C" fn(libc::c_int) -> libc::c_int;

#[cfg(target_os = "netbsd")]
fn kqueue1() -> Option<Kqueue1> {
    Some(libc::kqueue1)
}

/// `int kqueue1(int flags)` of `<sys/event.h>`, with the flags of open(2): FreeBSD from 14.0 (lib/libc/gen/kqueue1.c) and
/// OpenBSD from 7.4. It is looked up, so that programs start on older systems too.
#[cfg(any(target_os = "freebsd", target_os = "openbsd"))]
fn kqueue1() -> Option<Kqueue1> {
    // SAFETY: the name is a C string; a symbol of that name is this function.
    unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, b"kqueue1\0".as_ptr().cast());
        mem::transmute::<*mut libc::c_void, Option<Kqueue1>>(symbol)
    }
}

/// kevent(2), the one call of it. Returns how many records were written.
///
/// # Safety
///
/// `changes` can be read and `events` written for as many records as said. There is room for as many events as there
/// are changes, or for none and one change at most: DragonFly writes a receipt for each without looking. No record has
/// a filter that takes one of its fields for a pointer.
#[inline(always)] // Returning after a call of the kernel is dear: see `epoll_ctl` of epoll.
pub(crate) unsafe fn kevent(
    kq: RawFd,
    (changes, nchanges): (*const Kevent, usize),
    (events, nevents): (*mut Kevent, usize),
    timeout: Option<Duration>,
) -> io::Result<usize> {
    if nchanges > i32::MAX as usize {
        return Err(invalid_input("kevent(2) counts changes in an `int`"));
    }
    let nevents = nevents.min(i32::MAX as usize);
    let timeout = timeout.map(timespec);
    let timeout = timeout.as_ref().map_or(ptr::null(), |timeout| timeout as *const _);
    // SAFETY: the caller's promise; `Kevent` is transparent over `kevent`; `timeout` is null or points to a value that
    // outlives the call.
    let n = unsafe { abi::kevent(kq, changes.cast(), nchanges as _, events.cast(), nevents as _, timeout) };
    cvt(n).map(|n| n as usize)
}

/// The timeout of a call that returns receipts.
///
/// The kernel does not wait when it has written a receipt (kern_event.c of all five systems), and a timeout would have to be
/// copied in: 50 instructions on FreeBSD. libkqueue does wait.
const NO_WAIT: Option<Duration> = if cfg!(target_os = "linux") { Some(Duration::ZERO) } else { None };

/// Whether a call with one change and no room for receipts reports the failure of the change, for which neither the receipt is
/// copied out nor the timeout in: 60 to 90 instructions on FreeBSD. DragonFly writes a receipt without looking at the room
/// (kern_event.c: `kern_kevent`), and libkqueue waits.
const CALL_REPORTS_FAILURE: bool = !cfg!(any(target_os = "dragonfly", target_os = "linux"));

/// Applies changes that all ask for a receipt, and overwrites them with the receipts, in the same order.
///
/// The kernel collects no events in such a call. It returns fewer receipts than changes only if a signal arrived, and
/// then every change has been applied (kqueue(2), FreeBSD: EINTR).
#[inline(always)] // Returning after a call of the kernel is dear: see `epoll_ctl` of epoll.
pub(crate) fn apply_with_receipts(kq: RawFd, changes: &mut [Kevent]) -> io::Result<&[Kevent]> {
    let (records, len) = (changes.as_mut_ptr(), changes.len());
    if len == 0 {
        return Ok(&[]);
    }
    if CALL_REPORTS_FAILURE && len == 1 {
        if let Err(error) = apply_one(kq, &changes[0]) {
            changes[0] = changes[0].failed(error.raw_os_error().unwrap_or(libc::EIO));
        }
        return Ok(changes);
    }
    // SAFETY: the kernel reads `len` records and writes at most as many over them, each after it was read (kern_event.c
    // of all five systems copies in before it copies out). Who adds filters looks at them.
    match unsafe { kevent(kq, (records, len), (records, len), NO_WAIT) } {
        Ok(n) => Ok(&changes[..n]),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
        Err(error) => Err(error),
    }
}

/// Applies one change whose failure the call itself reports, there being no room for a receipt.
#[inline(always)] // As above.
pub(crate) fn apply_one(kq: RawFd, change: &Kevent) -> io::Result<()> {
    // SAFETY: one record is read; none is written. Who adds filters looks at them.
    match unsafe { kevent(kq, (change, 1), (ptr::null_mut(), 0), None) } {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Applies changes and waits, and fills `events` up to its capacity; there has to be room for as many events as there
/// are changes. After an error it is empty.
#[inline(always)] // As above.
pub(crate) fn apply_and_wait(
    kq: RawFd,
    changes: &[Kevent],
    events: &mut Vec<Kevent>,
    timeout: Option<Duration>,
) -> io::Result<()> {
    events.clear();
    debug_assert!(changes.len() <= events.capacity());
    let (room, records) = (events.capacity(), events.as_mut_ptr());
    // SAFETY: there are that many changes, and there is room for that many events, which is not less. Who adds filters
    // looks at them.
    match unsafe { kevent(kq, (changes.as_ptr(), changes.len()), (records, room), timeout) } {
        Ok(n) => {
            // SAFETY: the kernel has written the first `n` records, and `n` is at most the capacity.
            unsafe { events.set_len(n) };
            Ok(())
        }
        // macOS has been seen to say so when the time was up (golang/go#59679).
        Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => Ok(()),
        Err(error) => Err(error),
    }
}

/// kevent64(2) of Apple's `<sys/event.h>`, in place of kevent(2).
///
/// A wait of zero with kevent(2) blocks the thread and wakes it again (bsd/kern/kern_event.c: `kqueue_scan`), 12 to 14 µs
/// although there is nothing to wait for; with `KEVENT_FLAG_IMMEDIATE` it is 0.16 µs (libuv/libuv#5032). A queue takes calls
/// of one family only (`EINVAL`), so every call is this one.
#[cfg(target_vendor = "apple")]
mod kevent64 {
    pub(super) use libc::{kevent64_s as kevent, kqueue};

    /// # Safety
    ///
    /// As kevent(2).
    #[inline(always)]
    pub(super) unsafe fn kevent(
        kq: libc::c_int,
        changes: *const kevent,
        nchanges: libc::c_int,
        events: *mut kevent,
        nevents: libc::c_int,
        timeout: *const libc::timespec,
    ) -> libc::c_int {
        // SAFETY: the caller's promise: null, or a value.
        let is_zero = unsafe { timeout.as_ref() }.is_some_and(|timeout| timeout.tv_sec == 0 && timeout.tv_nsec == 0);
        let flags = if is_zero { libc::KEVENT_FLAG_IMMEDIATE } else { libc::KEVENT_FLAG_NONE };
        // SAFETY: the caller's promise.
        unsafe { libc::kevent64(kq, changes, nchanges, events, nevents, flags, timeout) }
    }
}

/// `<kqueue/sys/event.h>` of libkqueue 2.6 and later: FreeBSD's record, without FreeBSD's `ext`.
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

/// The record as each system's `<sys/event.h>` and ABI lay it out; where `libc` says otherwise, memory would be corrupted.
///
/// `data` is a pointer's width on DragonFly and in libkqueue, and 64 bits on the others, which only x86 aligns to 4 bytes
/// where pointers have 32. Apple's is the record of kevent64(2), which is not packed as that of kevent(2) is.
macro_rules! layouts {
    ($($systems:meta => [$($offset:literal)+] $size:literal $align:literal;)+) => {$(
        #[cfg($systems)]
        const LAYOUT: ([isize; 6], usize, usize) = ([$($offset),+], $size, $align);
    )+};
}

layouts! {
    // ident, filter, flags, fflags, data, udata                                    size align
    target_vendor = "apple"                                   => [0  8 10 12 16 24] 48 8;
    all(target_os = "freebsd", target_pointer_width = "64")   => [0  8 10 12 16 24] 64 8;
    all(target_os = "freebsd", target_arch = "x86")           => [0  4  6  8 12 20] 56 4;
    all(target_os = "freebsd", target_pointer_width = "32", not(target_arch = "x86")) => [0 4 6 8 16 24] 64 8;
    all(target_os = "netbsd", target_pointer_width = "64")    => [0  8 12 16 24 32] 40 8;
    all(target_os = "netbsd", target_arch = "x86")            => [0  4  8 12 16 24] 28 4;
    all(target_os = "netbsd", target_pointer_width = "32", not(target_arch = "x86")) => [0 4 8 12 16 24] 32 8;
    all(target_os = "openbsd", target_pointer_width = "64")   => [0  8 10 12 16 24] 32 8;
    all(target_os = "openbsd", target_arch = "x86")           => [0  4  6  8 12 20] 24 4;
    all(target_os = "openbsd", target_pointer_width = "32", not(target_arch = "x86")) => [0 4 6 8 16 24] 32 8;
    target_os = "dragonfly"                                   => [0  8 10 12 16 24] 32 8;
    all(target_os = "linux", target_pointer_width = "64")     => [0  8 10 12 16 24] 32 8;
    all(target_os = "linux", target_pointer_width = "32")     => [0  4  6  8 12 16] 20 4;
}

const _: () = {
    macro_rules! offsets {
        ($($field:ident)+) => {{
            let record = mem::MaybeUninit::<abi::kevent>::uninit();
            let start = record.as_ptr();
            // SAFETY: a field is part of `record`, and its address is taken without reading it.
            [$(unsafe { ptr::addr_of!((*start).$field).cast::<u8>().offset_from(start.cast()) }),+]
        }};
    }
    let (expected, size, align) = LAYOUT;
    let found = offsets!(ident filter flags fflags data udata);
    let mut field = 0;
    while field < expected.len() {
        assert!(found[field] == expected[field], "a field of the record is not where the kernel has it");
        field += 1;
    }
    assert!(mem::size_of::<Kevent>() == size && mem::align_of::<Kevent>() == align);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_is_the_error_bit_and_nothing_else() {
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
    fn every_field_comes_back_as_it_went_in() {
        let record = Kevent::new(usize::MAX, Filter::USER, Flags::from_bits(0x8421), !0, RawData::MIN, usize::MAX);
        assert_eq!((record.ident(), record.filter(), record.flags().bits()), (usize::MAX, Filter::USER, 0x8421));
        assert_eq!((record.fflags(), record.data(), record.udata()), (!0, RawData::MIN as i64, usize::MAX));
        let other = record.with_flags(Flags::ADD).with_fflags(3).with_data(-4).with_udata(5);
        assert_eq!((other.ident(), other.filter(), other.flags()), (usize::MAX, Filter::USER, Flags::ADD));
        assert_eq!((other.fflags(), other.data(), other.udata()), (3, -4, 5));
    }

    #[test]
    fn a_record_by_name() {
        let text = |filter, flags, fflags| format!("{:?}", Kevent::new(7, filter, flags, fflags, -1, 9));
        assert_eq!(
            text(Filter::VNODE, Flags::ADD | Flags::CLEAR, VnodeNotes::DELETE.bits()),
            "kevent { ident: 7, filter: EVFILT_VNODE, flags: EV_ADD|EV_CLEAR, fflags: NOTE_DELETE, data: -1, udata: 0x9 }"
        );
        assert!(text(Filter::READ, Flags::ADD, 1).contains("fflags: NOTE_LOWAT,"));
        assert!(text(Filter::READ, Flags::EOF, 1).contains("flags: EV_EOF, fflags: 0x1,"), "an error number");
        assert!(text(Filter::PROC, Flags::ADD, ProcNotes::EXIT.bits()).contains("NOTE_EXIT,"));
        assert!(text(Filter::USER, Flags::empty(), UserNotes::TRIGGER.bits()).contains("NOTE_TRIGGER,"));
        assert!(text(Filter::from_raw(99), Flags::empty(), 8).contains("filter: 0x63, flags: 0x0, fflags: 0x8,"));
    }
}
