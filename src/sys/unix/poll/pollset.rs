//! The set of slots that `unix::pollset` makes public.

use std::iter::{Enumerate, FusedIterator};
use std::os::fd::RawFd;
use std::time::Duration;
use std::{fmt, io, slice};

use libc::pollfd;

use crate::sys::error::invalid_input;
use crate::sys::unix::poll::call;
use crate::sys::unix::poll::call::PollFlags;
use crate::sys::unix::timeout::wait_in_chunks;

/// A slot that poll(2) ignores.
const UNSET: pollfd = pollfd { fd: -1, events: 0, revents: 0 };

/// The greatest number of slots, because poll(2) returns a number of slots as an `int`.
const MAX_SLOTS: usize = i32::MAX as usize;

/// A set of slots, each with a descriptor and the events to wait for.
///
/// An index addresses a slot. A wait ignores slots that are not set. The set does not own the descriptors. A wait returns
/// [`PollFlags::NVAL`] for a descriptor that was closed.
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
/// use std::os::unix::net::UnixStream;
///
/// use kevio::unix::pollset::{PollFlags, PollSet};
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// let mut set = PollSet::new();
/// set.grow(8)?;
/// set.set(5, ours.as_raw_fd(), PollFlags::IN)?;
///
/// theirs.write_all(b"!")?;
/// assert_eq!(set.poll(8, None)?, 1);
/// for slot in set.ready() {
///     assert_eq!((slot.index(), slot.fd(), slot.revents()), (5, ours.as_raw_fd(), PollFlags::IN));
/// }
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Default)]
pub struct PollSet {
    slots: Vec<pollfd>,
    /// The number of slots in the last wait; 0 if the wait failed.
    polled: usize,
    /// The number of slots for which the last wait returned events; 0 if the wait failed.
    ready: usize,
}

impl PollSet {
    /// Returns a set without slots.
    #[must_use]
    pub const fn new() -> PollSet {
        PollSet { slots: Vec::new(), polled: 0, ready: 0 }
    }

    /// Returns the number of slots, set or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Returns `true` if the set has no slots.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds slots, which are not set, until the set has `len` slots. A set never shrinks.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: `len` is more than `i32::MAX`.
    /// * `OutOfMemory`: the slots do not fit into memory.
    ///
    /// After an error the set is unchanged. The kernel's own limit is checked by [`poll`](PollSet::poll).
    pub fn grow(&mut self, len: usize) -> io::Result<()> {
        if len > MAX_SLOTS {
            return Err(invalid_input(format!(
                "`PollSet::grow` cannot make {len} slots, because poll(2) counts slots in an `int`: pass at most \
                 {MAX_SLOTS}"
            )));
        }
        let more = len.saturating_sub(self.slots.len());
        self.slots.try_reserve(more).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.slots.resize(self.slots.len() + more, UNSET);
        Ok(())
    }

    /// Sets the slot at `index` to wait for `events` of a descriptor. An earlier setting is replaced.
    ///
    /// [`ERR`](PollFlags::ERR), [`HUP`](PollFlags::HUP) and [`NVAL`](PollFlags::NVAL) are returned in any case.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `index` is beyond the set (see [`grow`](PollSet::grow)), or if the descriptor is negative. Then the
    /// set is unchanged. To have a slot ignored, use [`unset`](PollSet::unset). Whether the descriptor is open is checked by
    /// [`poll`](PollSet::poll).
    pub fn set(&mut self, index: usize, fd: RawFd, events: PollFlags) -> io::Result<()> {
        if fd < 0 {
            return Err(invalid_input(format!(
                "`PollSet::set` cannot wait for the descriptor {fd}, because a descriptor is not negative: clear a \
                 slot with `PollSet::unset`"
            )));
        }
        *self.slot_mut("PollSet::set", index)? = pollfd { fd, events: events.bits(), revents: 0 };
        Ok(())
    }

    /// Clears the slot at `index`. A wait ignores the slot.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `index` is beyond the set.
    pub fn unset(&mut self, index: usize) -> io::Result<()> {
        *self.slot_mut("PollSet::unset", index)? = UNSET;
        Ok(())
    }

    fn slot_mut(&mut self, method: &str, index: usize) -> io::Result<&mut pollfd> {
        let len = self.len();
        self.slots.get_mut(index).ok_or_else(|| {
            invalid_input(format!(
                "`{method}` cannot change the slot {index} of a set with {len} slots: add slots with `PollSet::grow`"
            ))
        })
    }

    /// Returns the slot at `index`, or `None` if the slot is not set or beyond the set.
    ///
    /// The [returned events](Slot::revents) are those of the last wait. They are empty if the slot was set since, was not
    /// part of the wait, or the wait failed.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Slot> {
        let mut slot = *self.slots.get(index).filter(|slot| slot.fd >= 0)?;
        if index >= self.polled {
            slot.revents = 0;
        }
        Some(Slot::new(index, &slot))
    }

    /// Waits until one of the first `n` slots has an event, and returns the number of slots with events.
    ///
    /// `None` waits forever, and zero does not wait. Another timeout is never shortened: it keeps its nanoseconds if the
    /// system has ppoll(2), and is rounded up to milliseconds otherwise. [`ready`](PollSet::ready) returns the slots.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the set has fewer than `n` slots, or the system rejects so many slots (`EINVAL`). The system's limit
    ///   is about the limit of open descriptors (`RLIMIT_NOFILE`), and slots that are not set count too.
    /// * `Interrupted`: a signal that has a handler arrived.
    /// * `WouldBlock`: some systems (Solaris, older BSDs) lack memory for a moment (`EAGAIN`).
    ///
    /// After an error no slot is ready, and the slots are unchanged.
    pub fn poll(&mut self, n: usize, timeout: Option<Duration>) -> io::Result<usize> {
        self.wait(n, timeout, None)
    }

    /// Waits like [`poll`](PollSet::poll), with `signals` as the signal mask of the thread during the wait.
    ///
    /// Signals that the mask blocks stay pending. A signal that is pending before the wait and that the mask does not block
    /// ends the wait.
    ///
    /// # Errors
    ///
    /// Those of [`poll`](PollSet::poll), and `Unsupported` if a mask is given and the system has no ppoll(2). If the mask
    /// were set before the wait, a signal between the two would be missed. kevio uses no ppoll(2) on Apple, illumos and
    /// Solaris.
    pub fn ppoll(
        &mut self,
        n: usize,
        timeout: Option<Duration>,
        signals: Option<&libc::sigset_t>,
    ) -> io::Result<usize> {
        self.wait(n, timeout, signals)
    }

    fn wait(&mut self, n: usize, timeout: Option<Duration>, signals: Option<&libc::sigset_t>) -> io::Result<usize> {
        (self.polled, self.ready) = (0, 0);
        let len = self.len();
        let slots = self.slots.get_mut(..n).ok_or_else(|| {
            invalid_input(format!(
                "`PollSet::poll` cannot wait for {n} slots of the {len} in the set: pass at most `PollSet::len`, or \
                 add slots with `PollSet::grow`"
            ))
        })?;
        self.ready = wait_in_chunks(timeout, |chunk| call::poll(slots, chunk, signals))?;
        self.polled = n;
        Ok(self.ready)
    }

    /// Returns the slots for which the last wait returned events, in the order of their indices.
    ///
    /// The iteration ends with the last such slot. A slot that was set or unset since is left out.
    #[must_use]
    pub fn ready(&self) -> Ready<'_> {
        Ready { slots: self.slots[..self.polled].iter().enumerate(), left: self.ready }
    }
}

/// Prints the slots that are set.
impl fmt::Debug for PollSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.len()).filter_map(|index| self.get(index))).finish()
    }
}

/// A slot of a [`PollSet`].
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    index: usize,
    fd: RawFd,
    events: PollFlags,
    revents: PollFlags,
}

impl Slot {
    fn new(index: usize, slot: &pollfd) -> Slot {
        let (events, revents) = (PollFlags::from_bits(slot.events), PollFlags::from_bits(slot.revents));
        Slot { index, fd: slot.fd, events, revents }
    }

    /// Returns the index of the slot in the set.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// Returns the descriptor (`fd`).
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// Returns the events to wait for (`events`).
    #[must_use]
    pub fn events(&self) -> PollFlags {
        self.events
    }

    /// Returns the events of the last wait (`revents`).
    #[must_use]
    pub fn revents(&self) -> PollFlags {
        self.revents
    }
}

/// An iterator over the slots that are [ready](PollSet::ready).
#[derive(Clone)]
pub struct Ready<'a> {
    slots: Enumerate<slice::Iter<'a, pollfd>>,
    left: usize,
}

impl Iterator for Ready<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        self.left = self.left.checked_sub(1)?;
        let (index, slot) = self.slots.find(|(_, slot)| slot.revents != 0)?;
        Some(Slot::new(index, slot))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.left))
    }
}

impl FusedIterator for Ready<'_> {}

impl fmt::Debug for Ready<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}
