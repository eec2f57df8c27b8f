//! The system call kevent(2), and the ways in which this crate uses it.
//!
//! kevent(2) takes a changelist and an eventlist: the kernel applies the changes first, and then waits for events. A change
//! that fails, or that has `EV_RECEIPT`, makes a receipt in the eventlist: the record of the change with `EV_ERROR` and the
//! error number in `data`. A call that has written a receipt collects no events.
//!
//! * [`apply_with_receipts`] applies changes and returns their receipts, without waiting;
//! * [`apply_to_own_queue`] does the same for the backend, and takes a faster way for a single change;
//! * [`apply_one`] applies one change without space for a receipt, so that the call itself fails;
//! * [`apply_and_wait`] applies changes and waits for events.

use std::os::fd::RawFd;
use std::time::Duration;
use std::{io, ptr};

use crate::sys::error::invalid_input;
use crate::sys::unix::kevent::abi;
use crate::sys::unix::kevent::libkqueue_abi::RECEIPT_ENDS_CALL;
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::syscall::cvt;
use crate::sys::unix::timeout::timespec;

/// Calls kevent(2), and returns the number of records that the kernel has written.
///
/// # Safety
///
/// `changes` can be read, and `events` written, for the number of records beside each. There is space for as many events as
/// there are changes, or there is at most one change and no space. DragonFly writes a receipt for each change without checking
/// the space. No record has a filter that takes one of its fields for a pointer.
#[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
pub(super) unsafe fn kevent(
    kq: RawFd,
    (changes, nchanges): (*const Kevent, usize),
    (events, nevents): (*mut Kevent, usize),
    timeout: Option<Duration>,
) -> io::Result<usize> {
    if nchanges > i32::MAX as usize {
        return Err(invalid_input(format!(
            "kevent(2) cannot apply {nchanges} changes, because the call counts changes in an `int`: pass at most {}",
            i32::MAX
        )));
    }
    let nevents = nevents.min(i32::MAX as usize);
    let timeout = timeout.map(timespec);
    let timeout = timeout.as_ref().map_or(ptr::null(), |timeout| timeout as *const _);
    // SAFETY: the caller has promised the lists, and `Kevent` is transparent over `kevent`. `timeout` is null, or points to a
    // value that outlives the call.
    let count = unsafe { abi::kevent(kq, changes.cast(), nchanges as _, events.cast(), nevents as _, timeout) };
    cvt(count).map(|count| count as usize)
}

/// The timeout of a call that returns receipts.
///
/// The kernel does not wait after a receipt (kern_event.c of all five systems). A timeout would have to be copied in, which
/// takes 50 instructions on FreeBSD.
const NO_WAIT: Option<Duration> = if RECEIPT_ENDS_CALL { None } else { Some(Duration::ZERO) };

/// Applies changes that all have `EV_RECEIPT`, and overwrites each with its receipt. Returns the receipts.
///
/// The kernel collects no events in such a call. If a signal arrives, the call returns fewer receipts than changes, but every
/// change has been applied (kqueue(2), FreeBSD: EINTR).
#[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
pub(crate) fn apply_with_receipts(kq: RawFd, changes: &mut [Kevent]) -> io::Result<&[Kevent]> {
    let (records, len) = (changes.as_mut_ptr(), changes.len());
    if len == 0 {
        return Ok(&[]);
    }
    // SAFETY: the kernel reads `len` records and writes at most as many over them, each after it was read (kern_event.c
    // of all five systems copies in before it copies out). The callers reject libkqueue's filter that takes pointers.
    match unsafe { kevent(kq, (records, len), (records, len), NO_WAIT) } {
        Ok(n) => Ok(&changes[..n]),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(&[]),
        Err(error) => Err(error),
    }
}

/// `true` if a call with one change and no space for receipts reports the failure of the change, and writes no receipt.
/// DragonFly writes the receipt without checking the space (kern_event.c: `kern_kevent`).
const CALL_REPORTS_FAILURE: bool = RECEIPT_ENDS_CALL && !cfg!(target_os = "dragonfly");

/// Applies changes like [`apply_with_receipts`], to the queue of the backend.
///
/// A single change is applied without space for a receipt. The kernel then copies neither a receipt out nor a timeout in, which
/// saves 60 to 90 instructions on FreeBSD. Each returned record has the error number of its receipt. The other fields of a single
/// record are those of the change, and an error of the call becomes the error of the change. Therefore only the backend calls
/// this function, for a queue that is open.
#[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
pub(crate) fn apply_to_own_queue(kq: RawFd, changes: &mut [Kevent]) -> io::Result<&[Kevent]> {
    if !CALL_REPORTS_FAILURE || changes.len() != 1 {
        return apply_with_receipts(kq, changes);
    }
    if let Err(error) = apply_one(kq, &changes[0]) {
        changes[0] = changes[0].failed(error.raw_os_error().unwrap_or(libc::EIO));
    }
    Ok(changes)
}

/// Applies one change without space for a receipt, so that the call reports the failure of the change.
#[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
pub(crate) fn apply_one(kq: RawFd, change: &Kevent) -> io::Result<()> {
    // SAFETY: one record is read, and none is written. The callers reject libkqueue's filter that takes pointers.
    match unsafe { kevent(kq, (change, 1), (ptr::null_mut(), 0), None) } {
        Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
        _ => Ok(()),
    }
}

/// Applies changes, waits for events, and replaces `events` by at most `max` events. After an error `events` is empty.
///
/// `max` and the capacity must be at least the number of changes.
#[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
pub(crate) fn apply_and_wait(
    kq: RawFd,
    changes: &[Kevent],
    events: &mut Vec<Kevent>,
    max: usize,
    timeout: Option<Duration>,
) -> io::Result<()> {
    events.clear();
    let (max, records) = (max.min(events.capacity()), events.as_mut_ptr());
    debug_assert!(changes.len() <= max);
    // SAFETY: the slice has that many changes, and the vector has space for `max` events, which is not less. The callers
    // reject libkqueue's filter that takes pointers.
    match unsafe { kevent(kq, (changes.as_ptr(), changes.len()), (records, max), timeout) } {
        Ok(n) => {
            // SAFETY: the kernel has written the first `n` records, and `n` is at most `max`.
            unsafe { events.set_len(n) };
            Ok(())
        }
        // macOS sometimes returns ETIMEDOUT at the end of the timeout (golang/go#59679).
        Err(error) if error.raw_os_error() == Some(libc::ETIMEDOUT) => Ok(()),
        Err(error) => Err(error),
    }
}
