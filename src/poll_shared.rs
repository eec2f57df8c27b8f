use std::collections::HashSet;
use std::io;
use std::mem::{discriminant, Discriminant};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex};

use crate::poll_id::PollId;
use crate::sys;
use crate::sys::error;
use crate::sys::fork::{self, ForkLock};
use crate::sys::selector::{FilterSpec, Selector, SourceKind};
use crate::sys::syscall::lock_ignoring_poison;
use crate::sys::timer::TimerQueue;
use crate::wake_flags::WakeFlags;

/// The state that a `Poll` shares with its registries, its wakers and its sources.
pub(crate) struct PollShared {
    id: PollId,
    /// The generation of the process that created the poll: see `sys::fork`.
    generation: u32,
    selector: sys::ActiveSelector,
    wake_flags: WakeFlags,
    timer_queue: TimerQueue,
    filters: ClaimedFilters,
}

impl PollShared {
    pub(crate) fn new() -> io::Result<Arc<PollShared>> {
        let selector = sys::ActiveSelector::new()?;
        let shared = Arc::new(PollShared {
            id: live_polls::allocate_id(),
            generation: fork::generation(),
            selector,
            wake_flags: WakeFlags::default(),
            timer_queue: TimerQueue::default(),
            filters: ClaimedFilters::default(),
        });
        live_polls::insert(&shared);
        Ok(shared)
    }

    #[inline]
    pub(crate) fn id(&self) -> PollId {
        self.id
    }

    /// Fails in a forked child of the process that created the poll.
    ///
    /// The kernel's queue belongs to the parent, and a thread of the parent may have held a lock during the fork.
    #[inline]
    pub(crate) fn check_process(&self) -> io::Result<()> {
        if !fork::is_current(self.generation) {
            return Err(error::inherited());
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn selector(&self) -> &sys::ActiveSelector {
        &self.selector
    }

    #[inline]
    pub(crate) fn wake_flags(&self) -> &WakeFlags {
        &self.wake_flags
    }

    #[inline]
    pub(crate) fn timer_queue(&self) -> &TimerQueue {
        &self.timer_queue
    }

    pub(crate) fn filters(&self) -> &ClaimedFilters {
        &self.filters
    }
}

impl Drop for PollShared {
    fn drop(&mut self) {
        // In a forked child the table starts empty, and another poll of the child may have the same id.
        if self.check_process().is_ok() {
            live_polls::remove(self.id);
        }
    }
}

/// The polls of this process that exist, for sources that have no registry at hand:
///
/// * a source that outlived its poll, and is registered with another poll;
/// * a source that is dropped while its descriptor stays open;
/// * a timer that is set again.
mod live_polls {
    use std::collections::BTreeMap;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::Weak;

    use super::*;

    static NEXT_NUMBER: AtomicU32 = AtomicU32::new(1);
    static LIVE: ForkLock<BTreeMap<PollId, Weak<PollShared>>> = ForkLock::new();

    fn with<T>(f: impl FnOnce(&mut BTreeMap<PollId, Weak<PollShared>>) -> T) -> T {
        f(&mut LIVE.lock())
    }

    /// Reserves an identifier that no poll has.
    pub(super) fn allocate_id() -> PollId {
        loop {
            let id = PollId::from_number(NEXT_NUMBER.fetch_add(1, Ordering::Relaxed));
            let reserve = |live: &mut BTreeMap<_, _>| !live.contains_key(&id) && live.insert(id, Weak::new()).is_none();
            if !id.is_none() && with(reserve) {
                return id;
            }
        }
    }

    pub(super) fn insert(shared: &Arc<PollShared>) {
        with(|live| live.insert(shared.id(), Arc::downgrade(shared)));
    }

    pub(super) fn contains(id: PollId) -> bool {
        with(|live| live.contains_key(&id))
    }

    pub(super) fn find(id: PollId) -> Option<Arc<PollShared>> {
        with(|live| live.get(&id).and_then(Weak::upgrade))
    }

    pub(super) fn remove(id: PollId) {
        with(|live| live.remove(&id));
    }
}

/// Returns `true` if this process has a poll with this id.
pub(crate) fn is_live(id: PollId) -> bool {
    live_polls::contains(id)
}

/// Runs `f` on the state of a poll. Returns `None` if the poll was dropped, or if another process created it before a fork.
pub(crate) fn with_poll<T>(id: PollId, f: impl FnOnce(&PollShared) -> T) -> Option<T> {
    if id.is_none() {
        return None;
    }
    live_polls::find(id).map(|shared| f(&shared))
}

/// Deregisters a descriptor that its dropped source does not close.
pub(crate) fn deregister_dropped(id: PollId, fd: RawFd, kind: SourceKind) {
    // The error is ignored, because the descriptor may be closed already.
    with_poll(id, |shared| drop(shared.selector().deregister(fd, kind)));
}

/// The knotes of one poll that only one source may register.
///
/// A kqueue identifies the filter of a process, a signal or a file by (ident, filter). Without a claim, a second source would
/// replace the knote of the first without an error.
#[derive(Debug, Default)]
pub(crate) struct ClaimedFilters(Mutex<HashSet<FilterKey>>);

/// The key of a knote. Flags, `fflags`, `data` and `udata` are not part of the key.
type FilterKey = (RawFd, Discriminant<FilterSpec>);

impl ClaimedFilters {
    fn with<T>(&self, f: impl FnOnce(&mut HashSet<FilterKey>) -> T) -> T {
        f(&mut lock_ignoring_poison(&self.0))
    }

    /// Claims a filter for one source, or fails with `AlreadyExists`.
    pub(crate) fn claim(&self, ident: RawFd, filter: FilterSpec) -> io::Result<()> {
        if filter.is_exclusive_per_queue() && !self.with(|filters| filters.insert((ident, discriminant(&filter)))) {
            return Err(error::already_exists());
        }
        Ok(())
    }

    /// Releases a claimed filter.
    pub(crate) fn release(&self, ident: RawFd, filter: FilterSpec) {
        if filter.is_exclusive_per_queue() {
            self.with(|filters| filters.remove(&(ident, discriminant(&filter))));
        }
    }
}
