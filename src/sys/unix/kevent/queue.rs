//! The public handle of a kernel event queue.

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;
use std::{fmt, io, mem};

use crate::sys::error::{inherited, invalid_input};
use crate::sys::selector::MAX_WAIT;
use crate::sys::unix::fork;
use crate::sys::unix::kevent::constants::Flags;
use crate::sys::unix::kevent::libkqueue_abi::{MAX_RECEIPTS, POINTER_FILTER};
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::kevent::{abi, call};
use crate::sys::unix::syscall::{cvt, set_cloexec};
use crate::sys::unix::timeout::wait_in_chunks;

/// A kernel event queue, for the system calls themselves: kqueue(2) and kevent(2).
///
/// The descriptor is close-on-exec, from its creation where the system can do that (NetBSD; FreeBSD from 14; OpenBSD from
/// 7.4; Apple), else right after it. Any thread may use the queue at any time. If several threads wait, each event goes to
/// one of them.
///
/// On Apple the calls are kevent64(2), and its record is this module's. A queue accepts calls of one family only: a queue
/// that was used with kevent(2) elsewhere fails with `InvalidInput`.
///
/// A forked child does not inherit the queue (with libkqueue a child inherits it, and must not use it). In the child, calls
/// fail with `Unsupported`, and dropping the queue does nothing.
///
/// # Examples
///
/// A byte is sent through a pair of sockets, and a timer limits the wait:
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
pub struct Kqueue {
    fd: ManuallyDrop<OwnedFd>,
    /// The generation of the process that created the queue. A forked child does not inherit the queue, so that the same
    /// number may be another descriptor there.
    generation: u32,
}

impl Kqueue {
    /// Creates a queue (`kqueue`, `kqueue1`).
    ///
    /// # Errors
    ///
    /// Those of kqueue(2): too many descriptors (`EMFILE`, `ENFILE`), no memory or too many queues (`OutOfMemory`).
    pub fn new() -> io::Result<Kqueue> {
        create_cloexec().map(Kqueue::from)
    }

    /// Applies `changes`, waits for events, and replaces the contents of `events` with them, all in one kevent(2). Returns
    /// the number of records.
    ///
    /// The call returns no more records than the capacity of `events`, which does not grow; further events are left for the
    /// next call. `None` waits without a limit, zero does not wait, and no timeout is too long.
    ///
    /// A change that cannot be applied makes a receipt among the events, and so does a change with [`Flags::RECEIPT`]:
    /// check the [`result`](Kevent::result) of each. The other changes are applied, and the call does not wait.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the capacity is 0, or smaller than the number of changes, or a change has libkqueue's own filter (see
    ///   [`kevent_raw`](Kqueue::kevent_raw)). No change is applied. Without space for every receipt, some systems would not apply
    ///   every change, and DragonFly would write beyond the buffer.
    /// * `Interrupted`: a handler ran for a signal. All changes have been applied and must not be repeated.
    /// * Other errors of the kernel, about the queue itself: `EBADF` (`ENOENT` from libkqueue) if the descriptor is no queue.
    ///
    /// After an error `events` is empty.
    pub fn kevent(&self, changes: &[Kevent], events: &mut Vec<Kevent>, timeout: Option<Duration>) -> io::Result<usize> {
        events.clear();
        let max = events.capacity();
        if events.capacity() < changes.len().max(1) {
            return Err(invalid_input(format!(
                "`Kqueue::kevent` cannot apply {} changes with a buffer of {max} events: create `events` with \
                 `Vec::with_capacity`, with space for each change and at least one event",
                changes.len()
            )));
        }
        reject_pointer_filter(changes)?;
        let mut changes = changes;
        wait_in_chunks(timeout, |chunk| {
            // Only the first call applies the changes.
            call::apply_and_wait(self.queue()?, mem::take(&mut changes), events, max, chunk)?;
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

    /// Applies `changes` without waiting, and overwrites each with its receipt. Returns the receipts, in the order of the
    /// changes.
    ///
    /// Each change is applied even if another failed. The method adds [`Flags::RECEIPT`] to the changes, and is one
    /// kevent(2) (with libkqueue one for each 512).
    ///
    /// # Errors
    ///
    /// Those of the call itself, as for [`kevent`](Kqueue::kevent). The result of a change is in its receipt. After `Interrupted`
    /// all changes have been applied, and some receipts are lost. No system is known to return `Interrupted` from such a call.
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
    #[must_use = "the receipt of a change that failed has the error"]
    pub fn apply<'a>(&self, changes: &'a mut [Kevent]) -> io::Result<&'a [Kevent]> {
        reject_pointer_filter(changes)?;
        for change in &mut *changes {
            *change = change.with_flags(change.flags() | Flags::RECEIPT);
        }
        let mut has_lost_receipts = false;
        for part in changes.chunks_mut(MAX_RECEIPTS) {
            let change_count = part.len();
            has_lost_receipts |= call::apply_with_receipts(self.queue()?, part)?.len() < change_count;
        }
        if has_lost_receipts {
            return Err(io::ErrorKind::Interrupted.into());
        }
        Ok(changes)
    }

    /// Calls kevent(2) without any check, with any lists, which may be one and the same. Returns the number of records that
    /// were written.
    ///
    /// # Errors
    ///
    /// Those of the kernel, and `InvalidInput` for more than `i32::MAX` changes. If a change fails without space for a receipt,
    /// the call fails, and the later changes may have been applied or not.
    ///
    /// # Safety
    ///
    /// * `changes` can be read, and `events` written, for `nchanges` and `nevents` records. Either may be null if its number
    ///   is 0.
    /// * On DragonFly there is space for as many events as there are changes that may fail or have `RECEIPT`, because its kernel
    ///   does not check the space.
    /// * If a filter takes a field for a pointer, the field is a valid pointer. For example, libkqueue's own filter (-12) calls a
    ///   function whose address is in `data`.
    pub unsafe fn kevent_raw(
        &self,
        changes: *const Kevent,
        nchanges: usize,
        events: *mut Kevent,
        nevents: usize,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        let timeout = timeout.map(|timeout| timeout.min(MAX_WAIT));
        // SAFETY: the caller has promised the conditions of this function, which are those of `call::kevent`.
        unsafe { call::kevent(self.queue()?, (changes, nchanges), (events, nevents), timeout) }
    }

    /// Returns `true` in the process that created the queue. In a forked child the number may be another descriptor.
    pub(crate) fn created_by_this_process(&self) -> bool {
        fork::is_current(self.generation)
    }

    /// Returns the descriptor in the process that created the queue, and an error in a forked child.
    fn queue(&self) -> io::Result<RawFd> {
        if self.created_by_this_process() {
            return Ok(self.as_raw_fd());
        }
        Err(inherited("Kqueue"))
    }
}

/// Writes the descriptor.
impl fmt::Debug for Kqueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kqueue").field("fd", &self.as_raw_fd()).finish()
    }
}

/// Takes ownership of a descriptor. If the descriptor is no kqueue, later calls fail.
impl From<OwnedFd> for Kqueue {
    fn from(fd: OwnedFd) -> Kqueue {
        Kqueue { fd: ManuallyDrop::new(fd), generation: fork::generation() }
    }
}

impl From<Kqueue> for OwnedFd {
    fn from(kq: Kqueue) -> OwnedFd {
        let mut kq = ManuallyDrop::new(kq);
        // SAFETY: the descriptor is taken once, because `kq` is not dropped.
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
            // SAFETY: the descriptor is dropped once, and is not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

/// Rejects the filter that only [`Kqueue::kevent_raw`] may use.
fn reject_pointer_filter(changes: &[Kevent]) -> io::Result<()> {
    match POINTER_FILTER {
        Some(number) if changes.iter().any(|change| i64::from(change.filter().raw()) == number) => {
            Err(invalid_input(format!(
                "`Kqueue::kevent` and `Kqueue::apply` cannot apply a change with libkqueue's own filter ({number}), \
                 because the filter takes pointers: call `Kqueue::kevent_raw`"
            )))
        }
        _ => Ok(()),
    }
}

/// Creates a queue whose descriptor is close-on-exec.
fn create_cloexec() -> io::Result<OwnedFd> {
    #[cfg(any(target_os = "freebsd", target_os = "netbsd", target_os = "openbsd"))]
    if let Some(kqueue1) = kqueue1() {
        // SAFETY: the call has no pointers.
        let kq = cvt(unsafe { kqueue1(libc::O_CLOEXEC) })?;
        // SAFETY: the kernel has just returned this descriptor, and nothing else owns it.
        return Ok(unsafe { OwnedFd::from_raw_fd(kq) });
    }
    // SAFETY: the call has no arguments.
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

/// Returns `int kqueue1(int flags)` of `<sys/event.h>`, which takes the flags of open(2), if the system has the function.
///
/// FreeBSD has the function from release 14.0 (lib/libc/gen/kqueue1.c), OpenBSD from 7.4. The symbol is resolved at run time,
/// so that programs start on older releases too.
#[cfg(any(target_os = "freebsd", target_os = "openbsd"))]
fn kqueue1() -> Option<Kqueue1> {
    // SAFETY: the name is a C string. A symbol of that name is this function.
    unsafe {
        let symbol = libc::dlsym(libc::RTLD_DEFAULT, b"kqueue1\0".as_ptr().cast());
        mem::transmute::<*mut libc::c_void, Option<Kqueue1>>(symbol)
    }
}
