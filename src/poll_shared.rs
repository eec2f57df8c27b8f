use std::collections::HashSet;
use std::mem::{discriminant, Discriminant};
#[cfg(selector_has_fd)]
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, io};

use crate::poll_id::PollId;
use crate::source::timer_queue::{Driver, TimerQueue, NEVER};
use crate::sys;
use crate::sys::error;
use crate::sys::fork::{self, ForkLock};
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::raw_source::RawSource;
use crate::sys::selector::{FilterSpec, Selector, SourceKind, MAX_WAIT};
use crate::sys::watch::ChangeQueue;
use crate::wake_state::{WakeState, WakerNode};

/// The state that a `Poll` shares with its registries, its wakers and its sources.
pub(crate) struct PollShared {
    id: PollId,
    /// The generation of the process that created the poll: see `sys::fork`.
    generation: u32,
    selector: sys::ActiveSelector,
    wake_state: WakeState,
    timers: TimerQueue,
    /// The origin of the times of `timers`.
    created_at: Instant,
    filters: ClaimedFilters,
    /// The queue of file changes, made for the first watch.
    changes: Mutex<Option<Arc<ChangeQueue>>>,
    /// The number of registrations whose events are made in user space, and one more if there is a queue of file changes.
    user_sources: AtomicUsize,
}

impl PollShared {
    pub(crate) fn new() -> io::Result<Arc<PollShared>> {
        let selector = sys::ActiveSelector::new()?;
        let id = live_polls::allocate_id();
        Ok(Arc::new(PollShared {
            id,
            generation: fork::generation(),
            selector,
            wake_state: WakeState::new(),
            timers: TimerQueue::new(id.number()),
            created_at: Instant::now(),
            filters: ClaimedFilters::default(),
            changes: Mutex::new(None),
            user_sources: AtomicUsize::new(0),
        }))
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
        if !self.is_of_this_process() {
            return Err(error::inherited("Poll"));
        }
        Ok(())
    }

    /// Returns `false` in a forked child of the process that created the poll.
    #[inline]
    pub(crate) fn is_of_this_process(&self) -> bool {
        fork::is_current(self.generation)
    }

    #[inline]
    pub(crate) fn selector(&self) -> &sys::ActiveSelector {
        &self.selector
    }

    #[inline]
    pub(crate) fn wake_state(&self) -> &WakeState {
        &self.wake_state
    }

    #[inline]
    pub(crate) fn timers(&self) -> &TimerQueue {
        &self.timers
    }

    /// Wakes the poll on behalf of a waker. Async-signal-safe.
    #[inline]
    pub(crate) fn wake(&self, waker: &WakerNode) -> io::Result<()> {
        self.wake_state.wake(waker, || self.selector.notify())
    }

    /// Makes the descriptor of the queue readable for other code, or ends the wait of this poll.
    ///
    /// Returns `false` if no descriptor is left for the notifier, or if other code has closed the notifier.
    pub(crate) fn notify(&self) -> bool {
        let result = self.selector.create_notifier();
        result.and_then(|()| self.wake_state.notify(|| self.selector.notify())).is_ok()
    }

    /// Prepares the poll for its first timer: creates the alarm, or else the notifier.
    ///
    /// If no descriptor is left for either, waits are short. Another thread cannot end a wait that is in progress, so that the
    /// registration fails, unless `excludes_polling` proves that no wait is. If other code waits for the queue, and no descriptor
    /// is left for the alarm, the registration fails too.
    pub(crate) fn prepare_timers(&self, excludes_polling: bool) -> io::Result<()> {
        let result = match self.selector.create_alarm() {
            Ok(()) => {
                self.timers.set_alarm_available();
                Ok(())
            }
            // Other code has closed the queue or a descriptor whose number the alarm would have.
            Err(error) if sys::is_closed_descriptor(&error) => return Err(error),
            // Only the alarm makes the descriptor of the queue readable for other code.
            Err(error) if self.wake_state.is_shared() && sys::is_resource_exhausted(&error) => return Err(error),
            Err(_) => self.selector.create_notifier().map(|()| self.timers.set_no_alarm(true)),
        };
        match result {
            Err(error) if !excludes_polling => return Err(error),
            Err(_) => self.timers.set_no_alarm(false),
            Ok(()) => {}
        }
        self.wake_state.set_sources(true);
        Ok(())
    }

    /// Prepares the poll for other code that waits for the descriptor of the queue.
    #[cfg(selector_has_fd)]
    pub(crate) fn share(&self) {
        if self.is_of_this_process() && self.wake_state.share() {
            // If the alarm cannot be created now, the next poll tries again. The notification makes other code poll.
            let is_armed = self.timers.arm_for_other_code(self);
            if !is_armed || self.wake_state.has_events() {
                let _ = self.notify();
            }
        }
    }

    /// Returns a time on the clock of the timers.
    #[inline]
    pub(crate) fn time_of(&self, time: Instant) -> u64 {
        let since = time.saturating_duration_since(self.created_at);
        u64::try_from(since.as_nanos()).unwrap_or(NEVER)
    }

    /// Returns the timeout of a wait that ends at this time. 0 is a wait that does not block.
    pub(crate) fn timeout_until(&self, end: u64) -> Option<Duration> {
        match end {
            0 => Some(Duration::ZERO),
            NEVER => None,
            end => Some(Duration::from_nanos(end.saturating_sub(self.now())).min(MAX_WAIT)),
        }
    }

    /// Returns the queue of file changes, and creates the queue for the first watch.
    pub(crate) fn change_queue(&self) -> io::Result<Arc<ChangeQueue>> {
        let queue = {
            let mut changes = lock_ignoring_poison(&self.changes);
            if changes.is_none() {
                let queue = ChangeQueue::new()?;
                if let Some(source) = queue.raw_source() {
                    self.selector.register_internal(source)?;
                }
                *changes = Some(Arc::new(queue));
                // Never removed from the count, because each record of the queue is for the poll and not for the program.
                self.add_user_source();
            }
            changes.clone()
        };
        queue.ok_or_else(error::not_found)
    }

    /// Reads the changes of files, and wakes the registrations of their watches. The caller is the polling thread, and takes the
    /// woken nodes next.
    pub(crate) fn read_changes(&self) -> io::Result<()> {
        self.wake_state.expect_take();
        let Some(queue) = lock_ignoring_poison(&self.changes).clone() else { return Ok(()) };
        // In this thread the number may stand for another file: a thread may have a descriptor table of its own, and other code
        // may have closed the descriptor. A read would take the data of that file, or block.
        if let Some(source) = queue.raw_source() {
            self.selector.check_internal(source)?;
        }
        queue.read()
    }

    /// Counts a source whose events are made in user space. From now on the polls measure their waits, which a wake without an
    /// event may end.
    pub(crate) fn add_user_source(&self) {
        self.user_sources.fetch_add(1, Ordering::SeqCst);
        self.wake_state.set_sources(true);
    }

    pub(crate) fn remove_user_source(&self) {
        self.user_sources.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn has_user_sources(&self) -> bool {
        self.user_sources.load(Ordering::SeqCst) != 0
    }

    /// Records that the poll has no timers any more.
    pub(crate) fn set_no_timers(&self) {
        self.wake_state.set_sources(false);
        // Another thread counts a source before it sets the flag, so that the flag is not lost.
        if self.has_user_sources() {
            self.wake_state.set_sources(true);
        }
    }

    pub(crate) fn filters(&self) -> &ClaimedFilters {
        &self.filters
    }

    /// Writes the poll, as a value of the type `name`. Waits for no lock, because the caller may hold one.
    pub(crate) fn debug(&self, name: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut poll = f.debug_struct(name);
        poll.field("id", &self.id.number()).field("backend", &sys::ActiveSelector::BACKEND);
        #[cfg(selector_has_fd)]
        poll.field("fd", &self.selector.as_fd().as_raw_fd());
        let user_sources = match sys::ActiveSelector::HAS_FILTERS {
            true => None,
            false => Some(self.user_sources.load(Ordering::Relaxed)),
        };
        let counts = [
            ("descriptors", self.selector.registration_count()),
            ("timers", self.timers.count()),
            ("filters", if sys::ActiveSelector::HAS_FILTERS { self.filters.count() } else { None }),
            ("user_sources", user_sources),
        ];
        for (name, count) in counts {
            if let Some(count) = count {
                poll.field(name, &count);
            }
        }
        poll.finish()
    }
}

impl Driver for PollShared {
    #[inline]
    fn now(&self) -> u64 {
        self.time_of(Instant::now())
    }

    fn set_alarm(&self, delay: Duration) -> io::Result<()> {
        self.selector.set_alarm(delay)
    }

    fn create_alarm(&self) -> bool {
        self.selector.create_alarm().is_ok()
    }

    fn clear_alarm(&self) {
        self.selector.clear_alarm();
    }

    fn create_notifier(&self) -> bool {
        self.selector.create_notifier().is_ok()
    }

    fn notify(&self) {
        let _ = PollShared::notify(self);
    }

    #[inline]
    fn is_shared(&self) -> bool {
        self.wake_state.is_shared()
    }
}

/// The entry of a poll in the table of live polls, which its `Poll` and its registries share. Wakers and sources do not keep a
/// poll alive.
pub(crate) struct LivePoll {
    id: PollId,
    generation: u32,
}

impl LivePoll {
    pub(crate) fn new(shared: &Arc<PollShared>) -> Arc<LivePoll> {
        live_polls::insert(shared);
        Arc::new(LivePoll { id: shared.id, generation: shared.generation })
    }
}

impl Drop for LivePoll {
    fn drop(&mut self) {
        // In a forked child the table starts empty, and another poll of the child may have the same id.
        if fork::is_current(self.generation) {
            live_polls::remove(self.id);
        }
    }
}

/// The polls of this process that exist, for sources that have no registry at hand:
///
/// * a source that outlived its poll, and is registered with another poll;
/// * a source that is dropped while its descriptor stays open.
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
pub(crate) fn deregister_dropped(id: PollId, fd: RawSource, kind: SourceKind) {
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
type FilterKey = (RawSource, Discriminant<FilterSpec>);

impl ClaimedFilters {
    fn with<T>(&self, f: impl FnOnce(&mut HashSet<FilterKey>) -> T) -> T {
        f(&mut lock_ignoring_poison(&self.0))
    }

    /// Returns the number of claimed filters. `None` if another thread holds the lock.
    fn count(&self) -> Option<usize> {
        self.0.try_lock().ok().map(|filters| filters.len())
    }

    /// Claims a filter for one source, or fails with `AlreadyExists`.
    pub(crate) fn claim(&self, ident: RawSource, filter: FilterSpec) -> io::Result<()> {
        match self.with(|filters| filters.insert((ident, discriminant(&filter)))) {
            true => Ok(()),
            false => Err(error::already_exists_as_filter()),
        }
    }

    /// Releases a claimed filter.
    pub(crate) fn release(&self, ident: RawSource, filter: FilterSpec) {
        self.with(|filters| filters.remove(&(ident, discriminant(&filter))));
    }
}
