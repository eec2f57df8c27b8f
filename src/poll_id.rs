//! The polls of this process that exist, by their numbers.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};

use crate::poll_shared::PollShared;
use crate::sys::fork::ForkLock;
use crate::sys::selector::{Selector, SourceKind};

/// The number of no poll.
pub(crate) const NO_POLL_ID: u32 = 0;

/// Whether there is a poll with this number.
pub(crate) fn is_live(poll: u32) -> bool {
    live_polls::contains(poll)
}

/// Calls `f` for the poll with the number `poll`, for a source that has no registry at hand. `None` if that poll no longer
/// exists, or another process made it.
pub(crate) fn with_poll<T>(poll: u32, f: impl FnOnce(&PollShared) -> T) -> Option<T> {
    if poll == NO_POLL_ID {
        return None;
    }
    live_polls::find(poll).map(|shared| f(&shared))
}

/// What dropping its source does not close leaves the poll with the number `poll`.
pub(crate) fn deregister_dropped(poll: u32, fd: RawFd, kind: SourceKind) {
    // It may be closed already.
    with_poll(poll, |shared| drop(shared.selector().deregister(fd, kind)));
}

/// The polls of this process that exist, by number: a source that outlived its poll can be registered with another. Only
/// used when a source is registered that was registered before, when one is dropped whose descriptor lives on, and when a
/// timer is set again.
pub(crate) mod live_polls {
    use super::*;

    static NEXT: AtomicU32 = AtomicU32::new(1);
    static LIVE: ForkLock<BTreeMap<u32, Weak<PollShared>>> = ForkLock::new();

    fn with<T>(f: impl FnOnce(&mut BTreeMap<u32, Weak<PollShared>>) -> T) -> T {
        f(&mut LIVE.lock())
    }

    /// Takes a number.
    pub(crate) fn allocate_id() -> u32 {
        loop {
            let id = NEXT.fetch_add(1, Ordering::Relaxed);
            // After four billion polls, numbers come round again.
            let take = |live: &mut BTreeMap<_, _>| !live.contains_key(&id) && live.insert(id, Weak::new()).is_none();
            if id != NO_POLL_ID && with(take) {
                return id;
            }
        }
    }

    pub(crate) fn insert(shared: &Arc<PollShared>) {
        with(|live| live.insert(shared.id(), Arc::downgrade(shared)));
    }

    pub(crate) fn contains(id: u32) -> bool {
        with(|live| live.contains_key(&id))
    }

    pub(crate) fn find(id: u32) -> Option<Arc<PollShared>> {
        with(|live| live.get(&id).and_then(Weak::upgrade))
    }

    pub(crate) fn remove(id: u32) {
        with(|live| live.remove(&id));
    }
}
