//! The poll(2) backend, the fallback for systems without kqueue(2) and epoll(7).
//!
//! The kernel keeps no registrations between calls and has no edges. Both are kept in a table, which every thread may change
//! at any time. A wait has three steps:
//!
//! 1. Under the lock: probe the entries that a wait cannot cover (`entry.rs`), and copy the records of the table.
//! 2. Without the lock: wait with the copy.
//! 3. Under the lock: deliver the results. Results of entries that were modified since step 1 are ignored.
//!
//! If nothing has changed since the last copy, and nothing needs a probe, the wait uses that copy and does not lock the table:
//! see [`WaitState`]. A wait without results does not lock the table in step 3 either.
//!
//! A change that arrives during step 2 interrupts the wait through a wake-up descriptor. `POLLNVAL` means that a descriptor
//! was closed, and ends its registration. See <https://man7.org/linux/man-pages/man2/poll.2.html>.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::OnceLock;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, io};

use libc::{c_short, pollfd, POLLIN, POLLNVAL, POLLOUT, POLLPRI};

use crate::backend::Backend;
use crate::interest::Interest;
#[cfg(has_timerfd)]
use crate::sys::error::not_found;
use crate::sys::error::{already_exists, unsupported_interest};
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::selector::{InternalEvents, IoDirection, Selector, SourceKind};
use crate::sys::unix::fstat::FileNumbers;
use crate::sys::unix::poll::entry::{Entry, NO_GENERATION};
use crate::sys::unix::poll::event::{poll, PollEvent};
use crate::sys::unix::poll::table::{Table, NOTIFY_INDEX};
#[cfg(has_timerfd)]
use crate::sys::unix::timerfd::TimerFd;
use crate::sys::unix::wake_fd::WakeFd;
use crate::sys::unix::{fork, fstat};
use crate::token::Token;

/// The longest wait while an entry needs a probe. The interval doubles from the first value to the second.
const PROBE_INTERVAL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

/// Fails with the kernel's error (`EBADF`) if the number is negative.
fn check_fd(fd: RawFd) -> io::Result<()> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(())
}

/// Fails with `EBADF` if the number stands for another file than before.
fn check_file(fd: RawFd, file: Option<&FileNumbers>) -> io::Result<()> {
    match Some(&fstat::file_numbers(fd)?) == file {
        true => Ok(()),
        false => Err(io::Error::from_raw_os_error(libc::EBADF)),
    }
}

/// Returns the bits of an interest, or `Unsupported`.
fn mask(interest: Interest) -> io::Result<c_short> {
    if interest.is_aio() || interest.is_lio() || interest.is_exclusive() {
        return Err(unsupported_interest(Backend::Poll, interest));
    }
    let mut mask = 0;
    if interest.is_readable() {
        mask |= POLLIN;
    }
    if interest.is_writable() {
        mask |= POLLOUT;
    }
    if interest.is_priority() {
        mask |= POLLPRI;
    }
    Ok(mask)
}

pub(crate) struct PollSelector {
    state: Arc<SelectorState>,
    /// The records of the last wait. The single caller of `select` locks them for the whole wait.
    snapshot: Mutex<Snapshot>,
    /// The last wait has ended because the notifier was used.
    has_notification: AtomicBool,
    /// The last wait has ended because the alarm has fired.
    has_alarm: AtomicBool,
    /// The last wait has found the queue of file changes readable.
    has_changes: AtomicBool,
}

/// A copy of the records of the table.
#[derive(Default)]
struct Snapshot {
    records: Vec<pollfd>,
    /// The generation of the table when the copy was made.
    generation: u64,
}

/// The agreement of the wait with the threads that change the table: two flags.
///
/// A thread that changes the table sets `CHANGED`, under the lock. If the thread finds `WAITING`, it interrupts the wait. A wait
/// changes 0 to `WAITING` at its begin, and `WAITING` to 0 at its end. Both fail if the table has changed: then the wait takes
/// the lock. The operations are atomic changes of one word, so that each change comes before the wait or during it.
struct WaitState(AtomicU8);

/// The thread that polls is in its wait.
const WAITING: u8 = 1;
/// The table has changed since the last copy.
const CHANGED: u8 = 2;

impl WaitState {
    /// Returns `true` if the table has not changed since the last copy, and no wait is in progress.
    #[inline(always)]
    fn is_unchanged(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }

    /// Begins a wait with the last copy. Returns `false` if another copy is needed.
    #[inline(always)]
    fn begin_again(&self) -> bool {
        self.0.compare_exchange(0, WAITING, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Begins a wait with a new copy. `probes_again`: the next wait needs another one. The caller holds the lock of the table.
    #[inline(always)]
    fn begin(&self, probes_again: bool) {
        self.0.store(if probes_again { WAITING | CHANGED } else { WAITING }, Ordering::SeqCst);
    }

    /// Ends a wait without results. Returns `false` if the table has changed.
    #[inline(always)]
    fn end_unchanged(&self) -> bool {
        self.0.compare_exchange(WAITING, 0, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// Ends a wait with results, which change the table. The caller holds the lock of the table.
    #[inline(always)]
    fn end(&self) {
        self.0.store(CHANGED, Ordering::SeqCst);
    }

    /// Records a change. Returns `true` if a wait is in progress. The caller holds the lock of the table.
    #[inline(always)]
    fn record_change(&self) -> bool {
        self.0.fetch_or(CHANGED, Ordering::SeqCst) & WAITING != 0
    }
}

struct SelectorState {
    table: Mutex<Table>,
    wait_state: WaitState,
    wake_fd: WakeFd,
    /// The file of `wake_fd`. If other code closes the descriptor, another file may get its number.
    wake_file: FileNumbers,
    /// The numbers of the queue of file changes.
    changes_file: OnceLock<FileNumbers>,
    /// Created for the first timer.
    #[cfg(has_timerfd)]
    alarm: OnceLock<TimerFd>,
    /// The notifier was used. The flag is set before the notification is written, and cleared after the notification is drained.
    is_notified: AtomicBool,
    /// The generation of the process that made the backend ([`fork::generation`]). In a forked child the lock may be held by a
    /// thread of the parent forever, and the notification belongs to the parent.
    process_generation: u32,
}

impl SelectorState {
    /// Changes the table. If `change` returns `true`, a blocked wait is interrupted.
    fn update<T>(&self, change: impl FnOnce(&mut Table) -> io::Result<(T, bool)>) -> io::Result<T> {
        let mut table = lock_ignoring_poison(&self.table);
        let result = change(&mut table);
        let is_waiting = self.wait_state.record_change();
        let (value, must_wake) = result?;
        if must_wake && is_waiting && !std::mem::replace(&mut table.notified, true) {
            // The waiting thread locks the table next. If its wait has ended meanwhile, the notification is spurious.
            drop(table);
            if self.wake_fd.notify().is_err() {
                // The program has closed the descriptor.
                lock_ignoring_poison(&self.table).notified = false;
            }
        }
        Ok(value)
    }
}

impl PollSelector {
    /// Waits, in the three steps of the module's page, until there are results or the timeout has passed.
    #[inline(never)]
    fn select_in_steps(
        &self,
        snapshot: &mut Snapshot,
        events: &mut Vec<PollEvent>,
        max: usize,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        let deadline = timeout.filter(|timeout| !timeout.is_zero()).map(|timeout| Instant::now() + timeout);
        let mut left = timeout;
        let mut probe_interval = PROBE_INTERVAL.0;
        loop {
            self.wait(snapshot, events, max, left, probe_interval)?;
            let has_internal = [&self.has_notification, &self.has_alarm, &self.has_changes];
            if has_internal.into_iter().any(|flag| flag.load(Ordering::Relaxed)) {
                return Ok(());
            }
            // Without events, the wait was interrupted for a change, or the probe interval or the timeout has passed.
            left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if !events.is_empty() || (timeout.is_some() && left.unwrap_or(Duration::ZERO).is_zero()) {
                return Ok(());
            }
            probe_interval = PROBE_INTERVAL.1.min(probe_interval * 2);
        }
    }

    /// Waits once, in the three steps of the module's page.
    #[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
    fn wait(
        &self,
        snapshot: &mut Snapshot,
        events: &mut Vec<PollEvent>,
        max: usize,
        left: Option<Duration>,
        probe_interval: Duration,
    ) -> io::Result<()> {
        let timeout = match self.state.wait_state.begin_again() {
            true => left,
            false => self.probe_and_snapshot(snapshot, events, max, left, probe_interval)?,
        };
        let ready = poll(&mut snapshot.records, timeout);
        let is_empty = matches!(ready, Ok(0));
        if is_empty && self.state.wait_state.end_unchanged() {
            return Ok(());
        }
        self.merge(snapshot, ready, events, max)
    }

    /// Probes, and copies the records of the table. Returns the timeout of the wait.
    fn probe_and_snapshot(
        &self,
        snapshot: &mut Snapshot,
        events: &mut Vec<PollEvent>,
        max: usize,
        left: Option<Duration>,
        probe_interval: Duration,
    ) -> io::Result<Option<Duration>> {
        let mut table = lock_ignoring_poison(&self.state.table);
        table.probe(events, max)?;
        snapshot.records.clone_from(&table.fds);
        snapshot.generation = table.generation;
        let timeout = match (events.is_empty(), table.probe_count) {
            (false, _) => Some(Duration::ZERO),
            (true, 0) => left,
            (true, _) => Some(left.map_or(probe_interval, |left| left.min(probe_interval))),
        };
        self.state.wait_state.begin(table.probe_count > 0);
        Ok(timeout)
    }

    /// Delivers the results of a wait.
    fn merge(
        &self,
        snapshot: &Snapshot,
        ready: io::Result<usize>,
        events: &mut Vec<PollEvent>,
        max: usize,
    ) -> io::Result<()> {
        let mut table = lock_ignoring_poison(&self.state.table);
        self.state.wait_state.end();
        let (snapshot, generation) = (&snapshot.records, snapshot.generation);
        let ready = match ready {
            Ok(ready) => ready,
            // A signal has interrupted the wait. The probe has delivered events before, which must not be lost. A notification
            // stays in its descriptor, and ends the next wait.
            Err(_) if !events.is_empty() => return Ok(()),
            Err(error) => return Err(error),
        };
        let is_notified = snapshot[NOTIFY_INDEX].revents != 0;
        let alarm = table.internal_results(table.alarm_index, snapshot, generation);
        let changes = table.internal_results(table.changes_index, snapshot, generation);
        if (snapshot[NOTIFY_INDEX].revents | alarm | changes) & POLLNVAL != 0 {
            // Other code has closed the descriptor. Without this error the waits would spin.
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if alarm != 0 {
            #[cfg(has_timerfd)]
            self.state.alarm.get().into_iter().for_each(TimerFd::drain);
            self.has_alarm.store(true, Ordering::Relaxed);
        }
        if changes != 0 {
            self.has_changes.store(true, Ordering::Relaxed);
        }
        // A forked child can notify too, because its copy of the state contains `WAITING`.
        if std::mem::take(&mut table.notified) || is_notified {
            self.state.wake_fd.drain();
            if self.state.is_notified.swap(false, Ordering::SeqCst) {
                self.has_notification.store(true, Ordering::Relaxed);
            }
        }
        let internal = [is_notified, alarm != 0, changes != 0].into_iter().filter(|&is_ready| is_ready).count();
        let ready = ready.saturating_sub(internal);
        table.deliver(snapshot, ready, generation, events, max);
        Ok(())
    }
}

impl Selector for PollSelector {
    const BACKEND: Backend = Backend::Poll;

    type Event = PollEvent;
    type Registration = PollRegistration;

    fn new() -> io::Result<PollSelector> {
        let wake_fd = WakeFd::new()?;
        let wake_file = fstat::file_numbers(wake_fd.as_raw_fd())?;
        let mut table = Table::default();
        let index = table.insert_internal(wake_fd.as_raw_fd())?;
        debug_assert_eq!(index, NOTIFY_INDEX);
        let state = SelectorState {
            table: Mutex::new(table),
            wait_state: WaitState(AtomicU8::new(CHANGED)),
            wake_fd,
            wake_file,
            changes_file: OnceLock::new(),
            #[cfg(has_timerfd)]
            alarm: OnceLock::new(),
            is_notified: AtomicBool::new(false),
            process_generation: fork::generation(),
        };
        Ok(PollSelector {
            state: Arc::new(state),
            snapshot: Mutex::new(Snapshot::default()),
            has_notification: AtomicBool::new(false),
            has_alarm: AtomicBool::new(false),
            has_changes: AtomicBool::new(false),
        })
    }

    fn registration_count(&self) -> Option<usize> {
        let table = self.state.table.try_lock().ok()?;
        Some(table.registration_count())
    }

    #[inline(always)] // As `PollSelector::wait`.
    fn select(&self, events: &mut Vec<PollEvent>, max: usize, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        let mut snapshot = lock_ignoring_poison(&self.snapshot);
        if timeout == Some(Duration::ZERO) && self.state.wait_state.is_unchanged() {
            // The wait does not block, so that no change has to interrupt it, and the notifier has a result only after `notify`.
            let first = if self.state.is_notified.load(Ordering::SeqCst) { NOTIFY_INDEX } else { NOTIFY_INDEX + 1 };
            return match poll(&mut snapshot.records[first..], timeout) {
                Ok(0) => Ok(()),
                ready => self.merge(&snapshot, ready, events, max),
            };
        }
        self.select_in_steps(&mut snapshot, events, max, timeout)
    }

    fn register(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind) -> io::Result<PollRegistration> {
        let armed_for = (mask(interest)?, interest.mode());
        check_fd(fd)?;
        let file_id = if kind == SourceKind::Builtin { None } else { fstat::pollable_file_id(fd)? };
        self.state.update(|table| {
            if let Some(&index) = table.by_fd.get(&fd) {
                if table.is_internal(index) || table.entries[index].is_definitely_same_file() {
                    return Err(already_exists());
                }
            }
            let generation = table.next_generation();
            let mut entry = Entry::new(fd, token, armed_for, file_id, generation);
            if kind == SourceKind::RawFd {
                entry.mark_raw();
            }
            let index = table.insert(entry);
            let inner = RegistrationInner { state: Arc::clone(&self.state), index, generation };
            Ok((PollRegistration(Box::new(inner)), true))
        })
    }

    fn reregister(&self, fd: RawFd, token: Token, interest: Interest, _: SourceKind) -> io::Result<()> {
        let armed_for = (mask(interest)?, interest.mode());
        check_fd(fd)?;
        self.state.update(|table| {
            let index = table.index_of(fd)?;
            let generation = table.next_generation();
            table.update_entry(index, |entry| entry.arm(token, armed_for, generation));
            Ok(((), true))
        })
    }

    fn deregister(&self, fd: RawFd, _: SourceKind) -> io::Result<()> {
        check_fd(fd)?;
        self.state.update(|table| {
            let index = table.index_of(fd)?;
            table.remove(index);
            Ok(((), true))
        })
    }

    /// The notifier exists from the start.
    fn create_notifier(&self) -> io::Result<()> {
        Ok(())
    }

    /// `select` detects a closed descriptor. A file that has its number now may never be readable.
    fn check_notifier(&self) -> io::Result<()> {
        check_file(self.state.wake_fd.as_raw_fd(), Some(&self.state.wake_file))
    }

    fn notify(&self) -> io::Result<()> {
        self.state.is_notified.store(true, Ordering::SeqCst);
        self.state.wake_fd.notify()
    }

    #[cfg(has_timerfd)]
    fn create_alarm(&self) -> io::Result<()> {
        if self.state.alarm.get().is_some() {
            return Ok(());
        }
        // If two threads race, the second timer is closed.
        let timer = TimerFd::new()?;
        self.state.update(|table| {
            if self.state.alarm.get().is_some() {
                return Ok(((), false));
            }
            table.alarm_index = Some(table.insert_internal(timer.as_raw_fd())?);
            let _ = self.state.alarm.set(timer);
            Ok(((), true))
        })
    }

    #[cfg(has_timerfd)]
    fn set_alarm(&self, delay: Duration) -> io::Result<()> {
        self.state.alarm.get().ok_or_else(not_found)?.set(Some(delay))
    }

    #[cfg(has_timerfd)]
    fn clear_alarm(&self) {
        if let Some(alarm) = self.state.alarm.get() {
            let _ = alarm.set(None);
        }
    }

    fn register_internal(&self, fd: RawFd) -> io::Result<()> {
        let _ = self.state.changes_file.set(fstat::file_numbers(fd)?);
        self.state.update(|table| {
            table.changes_index = Some(table.insert_internal(fd)?);
            Ok(((), true))
        })
    }

    fn check_internal(&self, fd: RawFd) -> io::Result<()> {
        check_file(fd, self.state.changes_file.get())
    }

    fn take_internal(&self, _: &mut Vec<PollEvent>) -> InternalEvents {
        let take = |flag: &AtomicBool| {
            let is_set = flag.load(Ordering::Relaxed);
            flag.store(false, Ordering::Relaxed);
            is_set
        };
        InternalEvents {
            is_notified: take(&self.has_notification),
            has_alarm: take(&self.has_alarm),
            has_changes: take(&self.has_changes),
        }
    }
}

/// A registration behind a pointer of eight bytes, so that sockets stay small.
pub(crate) struct PollRegistration(Box<RegistrationInner>);

struct RegistrationInner {
    state: Arc<SelectorState>,
    index: usize,
    generation: u64,
}

impl RegistrationInner {
    /// Changes the table, if the entry is still that of the registration. Does nothing in a forked child.
    fn update(&self, change: impl FnOnce(&mut Table) -> bool) {
        if !fork::is_current(self.state.process_generation) {
            return;
        }
        let _ = self.state.update(|table| {
            let is_own = table.entries.get(self.index).is_some_and(|entry| entry.generation == self.generation);
            Ok(((), self.generation != NO_GENERATION && is_own && change(table)))
        });
    }
}

impl crate::sys::selector::Registration for PollRegistration {
    fn rearm(&self, direction: IoDirection) {
        self.0.update(|table| table.update_entry(self.0.index, |entry| entry.rearm(direction)));
    }

    fn rearm_blocked(&self, direction: IoDirection) {
        self.0.update(|table| table.update_entry(self.0.index, |entry| entry.rearm_blocked(direction)));
    }

    fn rearm_ended(&self) {
        self.0.update(|table| table.update_entry(self.0.index, Entry::rearm_ended));
    }

    fn probe_instead(&self) {
        self.0.update(|table| table.update_entry(self.0.index, Entry::switch_to_probing));
    }

    fn is_current(&self) -> bool {
        if !fork::is_current(self.0.state.process_generation) {
            // In a forked child the lock may never be released. Later calls of the child fail elsewhere.
            return true;
        }
        let table = lock_ignoring_poison(&self.0.state.table);
        table.entries.get(self.0.index).is_some_and(|entry| entry.generation == self.0.generation)
    }

    fn detach(mut self) -> Option<(RawFd, Interest)> {
        self.0.update(|table| table.update_entry(self.0.index, Entry::detach));
        self.0.generation = NO_GENERATION;
        None
    }

    /// Returns `None`, because dropping the registration ends it.
    fn fd_to_deregister(&self) -> Option<RawFd> {
        None
    }
}

impl Drop for RegistrationInner {
    fn drop(&mut self) {
        self.update(|table| {
            table.remove(self.index);
            true
        });
    }
}

impl fmt::Debug for PollSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollSelector").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sys::selector::Registration as _;
    use crate::sys::unix::poll::event::POLLRDHUP;

    /// `Debug` of a poll may run in any place, also in a forked child.
    #[test]
    fn count_waits_for_no_lock() {
        let set = PollSelector::new().unwrap();
        let (a, _b) = UnixStream::pair().unwrap();
        let _registration = set.register(a.as_raw_fd(), Token(1), Interest::READABLE, SourceKind::Builtin).unwrap();
        assert_eq!(set.registration_count(), Some(1));
        let _table = lock_ignoring_poison(&set.state.table);
        assert_eq!(set.registration_count(), None);
    }

    /// Probes interrupt a wait up to 16 times a second, and nothing can follow the end of both directions.
    #[test]
    fn pipe_without_its_other_end_is_not_probed() {
        for ours in [0, 1] {
            for kind in [SourceKind::Builtin, SourceKind::RawFd] {
                let set = PollSelector::new().unwrap();
                let mut events = Vec::with_capacity(8);
                let mut ends = crate::sys::unix::pipe::pipe().unwrap().map(Some);
                let end = ends[ours].take().unwrap();
                let interest = [Interest::READABLE, Interest::WRITABLE][ours];
                let _registration = set.register(end.as_raw_fd(), Token(1), interest, kind).unwrap();
                drop(ends);
                let mut select = || {
                    set.select(&mut events, 8, Some(Duration::ZERO)).unwrap();
                    events.len()
                };
                assert_eq!((select(), select()), (1, 0));
                assert_eq!(lock_ignoring_poison(&set.state.table).probe_count, 0, "end {ours}, {kind:?}");
            }
        }
    }

    /// The alarm gets the number of a descriptor that was closed while its entry needed a probe.
    #[cfg(has_timerfd)]
    #[test]
    fn alarm_with_the_number_of_a_closed_descriptor_replaces_its_entry() {
        let set = PollSelector::new().unwrap();
        let mut events = Vec::with_capacity(8);
        let (a, b) = UnixStream::pair().unwrap();
        let fd = a.as_raw_fd();
        let interest = Interest::WRITABLE;
        let _ = set.register(fd, Token(1), interest, SourceKind::RawFd).unwrap().detach();
        set.select(&mut events, 8, Some(Duration::ZERO)).unwrap();
        assert_eq!((events.len(), lock_ignoring_poison(&set.state.table).probe_count), (1, 1));
        // The number of the alarm is that of the closed descriptor, unless another test has taken it.
        drop(a);
        set.create_alarm().unwrap();
        set.select(&mut events, 8, Some(Duration::ZERO)).unwrap();
        let table = lock_ignoring_poison(&set.state.table);
        assert!(events.is_empty(), "{events:?}");
        assert_eq!((table.probe_count, table.entries.len() - 1), (0, 1), "the notifier and the alarm are left");
        assert_eq!(table.by_fd.len(), 2);
        drop(b);
    }

    /// Between a wait and the delivery of its results, the alarm gets the number and the index of a descriptor that was closed.
    #[cfg(has_timerfd)]
    #[test]
    fn results_of_a_closed_descriptor_are_not_those_of_the_alarm_with_its_number() {
        let set = PollSelector::new().unwrap();
        let mut events = Vec::with_capacity(8);
        let (a, b) = UnixStream::pair().unwrap();
        let fd = a.as_raw_fd();
        let _ = set.register(fd, Token(1), Interest::READABLE, SourceKind::RawFd).unwrap().detach();
        let mut snapshot = Snapshot::default();
        set.probe_and_snapshot(&mut snapshot, &mut events, 8, None, PROBE_INTERVAL.0).unwrap();
        // The result of a wait that found the descriptor closed. The number may have gone to another test since.
        drop(a);
        snapshot.records[1].revents = POLLNVAL;
        set.create_alarm().unwrap();
        set.merge(&snapshot, Ok(1), &mut events, 8).unwrap();
        assert!(events.is_empty(), "{events:?}");
        assert!(!set.take_internal(&mut events).any());
        drop(b);
    }

    #[test]
    fn hung_up_socket_is_not_probed() {
        if POLLRDHUP == 0 {
            // A socket that is not connected yet has the same bits.
            return;
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        for interest in [Interest::READABLE, Interest::WRITABLE, both] {
            for kind in [SourceKind::Builtin, SourceKind::RawFd] {
                let set = PollSelector::new().unwrap();
                let mut events = Vec::with_capacity(8);
                let mut select = || {
                    set.select(&mut events, 8, Some(Duration::ZERO)).unwrap();
                    events.len()
                };
                let probe_count = || lock_ignoring_poison(&set.state.table).probe_count;
                let (a, b) = UnixStream::pair().unwrap();
                let registration = set.register(a.as_raw_fd(), Token(1), interest, kind).unwrap();
                drop(b);
                assert_eq!(select(), 1);
                assert_eq!((select(), probe_count()), (0, 0), "{interest:?}, {kind:?}");
                // An operation could have made another connection, so that one probe follows.
                registration.rearm(IoDirection::Unknown);
                assert_eq!((probe_count(), select(), probe_count()), (1, 0, 0), "{interest:?}, {kind:?}");
                set.reregister(a.as_raw_fd(), Token(2), interest, kind).unwrap();
                assert_eq!(select(), 1);
            }
        }
    }
}
