//! The bare system call poll(2), over a set of slots that is used again and again.
//!
//! For programs that want the call itself. Nothing is allocated by setting, reading or waiting, and each wait is one
//! call of ppoll(2), or of poll(2) where there is none (pollts(2) on NetBSD): see
//! <https://man7.org/linux/man-pages/man2/poll.2.html>. A [`Poll`](crate::Poll) is the portable thing to wait with.

use std::iter::{Enumerate, FusedIterator};
use std::os::fd::RawFd;
use std::time::Duration;
use std::{fmt, io, slice};

use libc::pollfd;

use crate::sys::unix::poll::call;
use crate::sys::unix::syscall::invalid_input;
use crate::sys::unix::timeout::wait_in_chunks;

pub use crate::sys::unix::poll::call::PollFlags;

/// What poll(2) passes over.
const UNSET: pollfd = pollfd { fd: -1, events: 0, revents: 0 };

/// The most slots: the call counts them in an `int`.
const MOST: usize = i32::MAX as usize;

/// A set of slots, each of a descriptor and what to wait for.
///
/// Slots are addressed by their index, and those that are not set are passed over. The descriptors are only numbers
/// here: they stay their owners', and one that was closed returns [`PollFlags::NVAL`].
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
    /// How many slots the last wait showed to the kernel, and how many of them it returned; 0 if it failed.
    polled: usize,
    ready: usize,
}

impl PollSet {
    /// A set without slots.
    #[must_use]
    pub const fn new() -> PollSet {
        PollSet { slots: Vec::new(), polled: 0, ready: 0 }
    }

    /// How many slots there are, set or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are no slots.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Adds slots that are not set until there are `len`. A set never shrinks.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for more than `i32::MAX`, `OutOfMemory` if there is no memory for so many; then nothing has
    /// changed. How many the kernel takes is for [`poll`](PollSet::poll) to say.
    pub fn grow(&mut self, len: usize) -> io::Result<()> {
        if len > MOST {
            return Err(invalid_input("poll(2) counts its slots in an `int`"));
        }
        let more = len.saturating_sub(self.slots.len());
        self.slots.try_reserve(more).map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.slots.resize(self.slots.len() + more, UNSET);
        Ok(())
    }

    /// Puts a descriptor into the slot at `index`, in place of what was there, to wait for `events`.
    ///
    /// [`ERR`](PollFlags::ERR), [`HUP`](PollFlags::HUP) and [`NVAL`](PollFlags::NVAL) need not be asked for.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `index` is beyond the set ([`grow`](PollSet::grow) it), or the descriptor is negative
    /// ([`unset`](PollSet::unset) is the way to have a slot passed over); then nothing has changed. Whether the
    /// descriptor is open is for [`poll`](PollSet::poll) to say.
    pub fn set(&mut self, index: usize, fd: RawFd, events: PollFlags) -> io::Result<()> {
        if fd < 0 {
            return Err(invalid_input("a descriptor is not negative"));
        }
        *self.at(index)? = pollfd { fd, events: events.bits(), revents: 0 };
        Ok(())
    }

    /// Makes the slot at `index` one that is passed over.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if `index` is beyond the set.
    pub fn unset(&mut self, index: usize) -> io::Result<()> {
        *self.at(index)? = UNSET;
        Ok(())
    }

    fn at(&mut self, index: usize) -> io::Result<&mut pollfd> {
        self.slots.get_mut(index).ok_or_else(|| invalid_input("the index is beyond the set"))
    }

    /// What is in the slot at `index`; `None` if it is not set, or beyond the set.
    ///
    /// What it [returned](Slot::revents) is of the last wait, and empty if the slot was set since, or was not among those
    /// waited for, or the wait failed.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Slot> {
        let mut slot = *self.slots.get(index).filter(|slot| slot.fd >= 0)?;
        if index >= self.polled {
            slot.revents = 0;
        }
        Some(Slot::new(index, &slot))
    }

    /// Waits until something is true of the first `n` slots, and returns of how many of them.
    ///
    /// `None` waits for ever, zero does not wait, and no other time is cut short: it keeps nanoseconds where the system
    /// has ppoll(2), and is rounded up to milliseconds elsewhere. What was returned is in [`ready`](PollSet::ready).
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: `n` is more than the set has; or (`EINVAL`) more than the system takes, which is the limit of
    ///   open descriptors (`RLIMIT_NOFILE`) or thereabouts, whether the slots are set or not.
    /// * `Interrupted`: a signal came that has a handler.
    /// * `WouldBlock`: some systems (Solaris, older BSDs) are out of memory for a moment (`EAGAIN`).
    ///
    /// Then nothing is ready, and the slots are as before.
    pub fn poll(&mut self, n: usize, timeout: Option<Duration>) -> io::Result<usize> {
        self.wait(n, timeout, None)
    }

    /// As [`poll`](PollSet::poll), and during the wait the thread's signal mask is `signals`: the signals that it blocks
    /// wait, and one that came before the wait and is not blocked by it ends it.
    ///
    /// # Errors
    ///
    /// As [`poll`](PollSet::poll); and `Unsupported` if there is a mask and the system has no ppoll(2): setting the mask
    /// before the wait would miss a signal between the two. Apple, illumos and Solaris are such systems to kevio.
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
        let slots = self.slots.get_mut(..n).ok_or_else(|| invalid_input("there are fewer slots than that"))?;
        self.ready = wait_in_chunks(timeout, |step| call::poll(slots, step, signals))?;
        self.polled = n;
        Ok(self.ready)
    }

    /// The slots of which the last wait returned something, in the order of their indices.
    ///
    /// It looks no further than the last of them. A slot that was set or unset since is not among them.
    #[must_use]
    pub fn ready(&self) -> Ready<'_> {
        Ready { slots: self.slots[..self.polled].iter().enumerate(), left: self.ready }
    }
}

/// The slots that are set.
impl fmt::Debug for PollSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.len()).filter_map(|index| self.get(index))).finish()
    }
}

/// What is in a slot of a [`PollSet`].
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

    /// Where it is in the set.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The descriptor (`fd`).
    #[must_use]
    pub fn fd(&self) -> RawFd {
        self.fd
    }

    /// What to wait for (`events`).
    #[must_use]
    pub fn events(&self) -> PollFlags {
        self.events
    }

    /// What the last wait returned (`revents`).
    #[must_use]
    pub fn revents(&self) -> PollFlags {
        self.revents
    }
}

/// Iterates over the slots that are [ready](PollSet::ready).
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
