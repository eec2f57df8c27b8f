//! What a `Poll`, its registries, its wakers and its sources have in common, and where a source that has only the number
//! of a poll finds it.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::mem::{discriminant, Discriminant};
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use crate::sys::fork::{self, ForkLock};
use crate::sys::timer::Deadlines;
use crate::sys::{self, Engine, Filter, Origin};

/// What a `Poll`, its registries and its wakers have in common.
pub(crate) struct Shared {
    id: u32,
    /// The generation of the process that made the poll (`sys::fork`).
    generation: u32,
    selector: sys::Selector,
    wakers: Wakers,
    deadlines: Deadlines,
    filters: Filters,
}

impl Shared {
    pub(crate) fn new() -> io::Result<Arc<Shared>> {
        let selector = sys::Selector::new()?;
        let shared = Arc::new(Shared {
            id: live::number(),
            generation: fork::generation(),
            selector,
            wakers: Wakers::default(),
            deadlines: Deadlines::default(),
            filters: Filters::default(),
        });
        live::enter(&shared);
        Ok(shared)
    }

    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Fails in a forked child of the process that made the poll. There the kernel's queue is the parent's, and a thread
    /// of the parent may hold a lock.
    #[inline]
    pub(crate) fn check_process(&self) -> io::Result<()> {
        if !fork::is_current(self.generation) {
            return Err(sys::inherited());
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn selector(&self) -> &sys::Selector {
        &self.selector
    }

    #[inline]
    pub(crate) fn wakers(&self) -> &Wakers {
        &self.wakers
    }

    #[inline]
    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    pub(crate) fn filters(&self) -> &Filters {
        &self.filters
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // In a forked child the list begins empty, and a later poll of the child may have this number.
        if self.check_process().is_ok() {
            live::leave(self.id);
        }
    }
}

/// The number of no poll.
pub(crate) const NO_POLL: u32 = 0;

/// Whether there is a poll with this number.
pub(crate) fn is_live(poll: u32) -> bool {
    live::contains(poll)
}

/// Calls `f` for the poll with the number `poll`, for a source that has no registry at hand. `None` if that poll no longer
/// exists, or another process made it.
pub(crate) fn with<T>(poll: u32, f: impl FnOnce(&Shared) -> T) -> Option<T> {
    if poll == NO_POLL {
        return None;
    }
    live::find(poll).map(|shared| f(&shared))
}

/// What dropping its source does not close leaves the poll with the number `poll`.
pub(crate) fn forget(poll: u32, fd: RawFd, origin: Origin) {
    // It may be closed already.
    with(poll, |shared| drop(shared.selector.deregister(fd, origin)));
}

/// The polls of this process that exist, by number: a source that outlived its poll can be registered with another. Only
/// used when a source is registered that was registered before, when one is dropped whose descriptor lives on, and when a
/// timer is set again.
mod live {
    use super::*;

    static NEXT: AtomicU32 = AtomicU32::new(1);
    static LIVE: ForkLock<BTreeMap<u32, Weak<Shared>>> = ForkLock::new();

    fn with<T>(f: impl FnOnce(&mut BTreeMap<u32, Weak<Shared>>) -> T) -> T {
        f(&mut LIVE.lock())
    }

    /// Takes a number.
    pub(super) fn number() -> u32 {
        loop {
            let id = NEXT.fetch_add(1, Ordering::Relaxed);
            // After four billion polls, numbers come round again.
            let take = |live: &mut BTreeMap<_, _>| !live.contains_key(&id) && live.insert(id, Weak::new()).is_none();
            if id != NO_POLL && with(take) {
                return id;
            }
        }
    }

    pub(super) fn enter(shared: &Arc<Shared>) {
        with(|live| live.insert(shared.id, Arc::downgrade(shared)));
    }

    pub(super) fn contains(id: u32) -> bool {
        with(|live| live.contains_key(&id))
    }

    pub(super) fn find(id: u32) -> Option<Arc<Shared>> {
        with(|live| live.get(&id).and_then(Weak::upgrade))
    }

    pub(super) fn leave(id: u32) {
        with(|live| live.remove(&id));
    }
}

/// Which wakers of a poll have been woken since it last returned.
///
/// A waker that finds its flag set leaves the system call to whoever set it. No wake is lost, because the flags are
/// cleared after the kernel's wait has returned and before the program sees its events. Take a wake that finds its
/// flag set. Whoever set it makes its call to the kernel before or after that wait returned. If after, the event comes
/// in a later poll. If before, and the event is not among those returned, likewise. If it is, the program sees it
/// after the flag was cleared, and so after this wake; and what was written before the wake is seen too, for the
/// clearing swap reads what the waker's swap wrote.
#[derive(Debug, Default)]
pub(crate) struct Wakers {
    /// Whether there may be a flag to clear. All that a poll without wakes looks at.
    any: AtomicBool,
    flags: Mutex<Vec<Arc<AtomicBool>>>,
}

impl Wakers {
    fn with_flags<T>(&self, f: impl FnOnce(&mut Vec<Arc<AtomicBool>>) -> T) -> T {
        f(&mut self.flags.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&self) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        self.with_flags(|flags| flags.push(Arc::clone(&flag)));
        flag
    }

    pub(crate) fn remove(&self, flag: &Arc<AtomicBool>) {
        self.with_flags(|flags| flags.retain(|other| !Arc::ptr_eq(flag, other)));
    }

    /// One of them wakes: its flag is set.
    #[inline]
    pub(crate) fn wake(&self) {
        self.any.store(true, Ordering::Release);
    }

    /// The kernel's wait has returned.
    #[inline]
    pub(crate) fn rest(&self) {
        if self.any.load(Ordering::Acquire) {
            self.clear();
        }
    }

    #[inline(never)] // So that a poll without wakes saves no registers for it.
    fn clear(&self) {
        if self.any.swap(false, Ordering::AcqRel) {
            self.with_flags(|flags| {
                for flag in flags {
                    flag.swap(false, Ordering::AcqRel);
                }
            });
        }
    }
}

/// The filters of one poll that two sources would have in common: a process, a signal or a file is one filter of a kqueue.
#[derive(Debug, Default)]
pub(crate) struct Filters(Mutex<HashSet<Name>>);

/// What identifies a filter of a kqueue: whatever else it is told, it is the same.
type Name = (RawFd, Discriminant<Filter>);

impl Filters {
    fn with<T>(&self, f: impl FnOnce(&mut HashSet<Name>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn take(&self, ident: RawFd, filter: Filter) -> io::Result<()> {
        if filter.is_shared() && !self.with(|filters| filters.insert((ident, discriminant(&filter)))) {
            return Err(sys::already_exists());
        }
        Ok(())
    }

    pub(crate) fn give_back(&self, ident: RawFd, filter: Filter) {
        if filter.is_shared() {
            self.with(|filters| filters.remove(&(ident, discriminant(&filter))));
        }
    }
}
