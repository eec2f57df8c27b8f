use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;
use std::{fmt, io};

use crate::interest::Interest;
use crate::registry::{Registry, Source};
use crate::sys::raw_source::RawSource;
use crate::sys::selector::{Change, Key, Operation, Selector};
use crate::token::Token;

/// Changes of registrations that are submitted together, with [`Registry::submit`].
///
/// A batch contains any number of sources of any type. Each entry registers, reregisters or deregisters one source. On kqueue,
/// up to 512 changes are one system call. On other backends a batch is as fast as the single calls.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "net")] {
/// use kevio::net::UdpSocket;
/// use kevio::{Batch, Interest, Poll, Token};
///
/// let poll = Poll::new()?;
/// let mut sockets = Vec::new();
/// for _ in 0..3 {
///     sockets.push(UdpSocket::bind("127.0.0.1:0".parse().unwrap())?);
/// }
///
/// let mut batch = Batch::new();
/// for (token, socket) in sockets.iter_mut().enumerate() {
///     batch.register(socket, Token(token), Interest::READABLE);
/// }
/// for result in poll.registry().submit(batch) {
///     result?;
/// }
/// # }
/// # std::io::Result::Ok(())
/// ```
#[derive(Default)]
pub struct Batch<'a> {
    entries: Vec<Entry<'a>>,
}

enum Entry<'a> {
    Register(&'a mut dyn Source, Token, Interest),
    Reregister(&'a mut dyn Source, Token, Interest),
    Deregister(&'a mut dyn Source),
}

impl<'a> Batch<'a> {
    /// Creates an empty batch.
    #[must_use]
    pub fn new() -> Batch<'a> {
        Batch::default()
    }

    /// Creates an empty batch that holds `capacity` changes without an allocation.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Batch<'a> {
        Batch { entries: Vec::with_capacity(capacity) }
    }

    /// Adds a registration: see [`Registry::register`].
    pub fn register(&mut self, source: &'a mut dyn Source, token: Token, interests: Interest) -> &mut Batch<'a> {
        self.entries.push(Entry::Register(source, token, interests));
        self
    }

    /// Adds a reregistration: see [`Registry::reregister`].
    pub fn reregister(&mut self, source: &'a mut dyn Source, token: Token, interests: Interest) -> &mut Batch<'a> {
        self.entries.push(Entry::Reregister(source, token, interests));
        self
    }

    /// Adds a deregistration: see [`Registry::deregister`].
    pub fn deregister(&mut self, source: &'a mut dyn Source) -> &mut Batch<'a> {
        self.entries.push(Entry::Deregister(source));
        self
    }

    /// Returns the number of changes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns `true` if the batch has no changes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry<'_> {
    /// Makes the change through `registry`, which may queue the change.
    fn apply(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Entry::Register(source, token, interests) => registry.register(*source, *token, *interests),
            Entry::Reregister(source, token, interests) => registry.reregister(*source, *token, *interests),
            Entry::Deregister(source) => registry.deregister(*source),
        }
    }

    /// Deregisters the source of the entry, if the entry has registered it.
    fn roll_back(&mut self, registry: &Registry) {
        if let Entry::Register(source, ..) = self {
            // The source clears its state. `NotFound` is expected, because the kernel may have rejected the change.
            let _ = registry.deregister(*source);
        }
    }

    /// Makes the change at once. If the change fails, nothing of the source stays registered.
    fn apply_alone(&mut self, registry: &Registry) -> io::Result<()> {
        let direct = registry.counting_clone();
        let result = self.apply(&direct);
        if result.is_err() && direct.queued_changes().registered() > 0 {
            self.roll_back(registry);
        }
        result
    }
}

/// A batch that is being submitted.
///
/// The results equal those of the same calls one by one:
///
/// 1. Each entry calls its source with a registry that queues the changes.
/// 2. The queued changes are submitted in groups. No group contains two changes with the same key (a descriptor or a filter).
/// 3. After each group, each entry with a failed change is rolled back, and repeated alone. A later entry can depend on the
///    result.
struct Submission<'e, 'a> {
    registry: &'e Registry,
    queueing: Registry,
    entries: &'e mut [Entry<'a>],
    results: Vec<io::Result<()>>,
    /// For each entry with a result, the number of queued changes after it. A source may register several descriptors.
    ends: Vec<usize>,
    /// The first entry whose changes are not submitted yet.
    first_pending: usize,
}

impl Submission<'_, '_> {
    /// Applies one entry through the registry that queues changes.
    fn queue(&mut self, index: usize) {
        let start = self.start_of(index, self.first_pending);
        let entry = &mut self.entries[index];
        let queued = self.queueing.queued_changes();
        let registered = queued.registered();
        let result = entry.apply(&self.queueing);
        if result.is_ok() {
            self.results.push(result);
            self.ends.push(queued.len());
            return;
        }
        if queued.registered() > registered {
            // A part of the source was registered. The source deregisters that part, and clears its state.
            entry.roll_back(&self.queueing);
        }
        queued.truncate(start);
        // The cause of the failure may be an earlier entry whose changes are not submitted yet.
        let result = if start > 0 {
            self.submit_queued();
            self.entries[index].apply_alone(self.registry)
        } else {
            result
        };
        self.results.push(result);
        self.ends.push(self.queueing.queued_changes().len());
        if self.ends.len() == self.first_pending + 1 {
            self.first_pending = self.ends.len();
        }
    }

    /// Submits the queued changes, in groups of entries that contain no key twice.
    ///
    /// An entry that contains a key twice is a group of its own. The changes of such a group are submitted in several calls.
    fn submit_queued(&mut self) {
        let changes = self.queueing.queued_changes().take();
        let base = std::mem::replace(&mut self.first_pending, self.ends.len());
        let queued = Queued { registry: self.registry, changes, submitted: Cell::new(0) };
        let (mut first, mut start) = (base, 0);
        let mut group_keys = Keys::default();
        for index in base..self.ends.len() {
            let range = self.start_of(index, base)..self.ends[index];
            if group_keys.insert_all(&queued.changes[range.clone()]) {
                continue;
            }
            // A key occurs again: in this entry and an earlier one, or twice in this entry.
            self.submit_group(&queued, first..index, start..range.start, base);
            (first, start) = (index, range.start);
            group_keys.clear();
            if !group_keys.insert_all(&queued.changes[range.clone()]) {
                self.submit_group(&queued, index..index + 1, range.clone(), base);
                (first, start) = (index + 1, range.end);
                group_keys.clear();
            }
        }
        self.submit_group(&queued, first..self.ends.len(), start..queued.changes.len(), base);
    }

    /// Returns the number of queued changes before those of an entry. `base` is the first entry with queued changes.
    fn start_of(&self, index: usize, base: usize) -> usize {
        match index == base {
            true => 0,
            false => self.ends[index - 1],
        }
    }

    /// Submits the changes of some entries. Then repeats each entry with a failed change alone.
    fn submit_group(&mut self, queued: &Queued<'_>, entries: Range<usize>, changes: Range<usize>, base: usize) {
        queued.submitted.set(changes.end);
        let offset = changes.start;
        let changes = &queued.changes[changes];
        let mut outcomes = match entries.len() {
            1 => apply(self.registry, changes),
            _ => self.registry.selector().submit_changes(changes),
        };
        for index in entries {
            let range = self.start_of(index, base) - offset..self.ends[index] - offset;
            let (entry_changes, entry_outcomes) = (&changes[range.clone()], &mut outcomes[range]);
            if let Some(failed) = entry_outcomes.iter().position(Result::is_err) {
                roll_back_registered(self.registry, entry_changes, entry_outcomes);
                let error = std::mem::replace(&mut entry_outcomes[failed], Ok(())).unwrap_err();
                self.results[index] = self.retry_alone(index, error);
            }
        }
    }

    /// Repeats an entry outside of the batch. The source received `Ok` when its change was queued, and the kernel rejected at
    /// least a part of the change. Now the source receives the real error.
    fn retry_alone(&mut self, index: usize, error: io::Error) -> io::Result<()> {
        let entry = &mut self.entries[index];
        if let Entry::Deregister(_) = entry {
            // The source has cleared its state already.
            return Err(error);
        }
        // The kernel has no registration of the source. The source clears its state, and its queued deregistration is dropped.
        entry.roll_back(&self.queueing);
        self.queueing.queued_changes().truncate(0);
        entry.apply_alone(self.registry)
    }
}

/// The queued changes, while they are submitted.
///
/// If a repeated call of a source panics, the other sources have received `Ok` already. Therefore dropping this value submits
/// the remaining changes.
struct Queued<'r> {
    registry: &'r Registry,
    changes: Vec<Change>,
    /// The number of changes that were submitted.
    submitted: Cell<usize>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let remaining = &self.changes[self.submitted.get()..];
        if !remaining.is_empty() {
            apply(self.registry, remaining);
        }
    }
}

/// If a source panics, the sources before it have received `Ok` already. Therefore dropping this value submits the queued
/// changes.
impl Drop for Submission<'_, '_> {
    fn drop(&mut self) {
        self.submit_queued();
    }
}

impl Registry {
    /// Makes all changes of a batch in order, and returns the result of each. The results equal those of the same calls one by
    /// one.
    ///
    /// On kqueue, up to 512 changes are one kevent(2) call, and one pread(2) for each raw descriptor that is registered. If a
    /// descriptor occurs a second time, its second change is in another call. On other backends each change is a call. If an
    /// entry fails, nothing of its source stays registered, and the other entries are not affected. All changes are made when
    /// `submit` returns. An empty batch makes no call.
    ///
    /// `submit` calls each source in order, with a registry that queues changes. An implementation of [`Source`] must use the
    /// registry that it receives, and not a clone. If the call or one of its changes fails, `submit` may call the source a
    /// second time.
    ///
    /// # Errors
    ///
    /// The results contain the errors of [`register`](Registry::register), [`reregister`](Registry::reregister) and
    /// [`deregister`](Registry::deregister).
    ///
    /// # Examples
    ///
    /// See [`Batch`].
    pub fn submit(&self, batch: Batch<'_>) -> Vec<io::Result<()>> {
        let mut entries = batch.entries;
        let len = entries.len();
        let mut submission = Submission {
            registry: self,
            queueing: self.queueing_clone(),
            entries: &mut entries,
            results: Vec::with_capacity(len),
            ends: Vec::with_capacity(len),
            first_pending: 0,
        };
        for index in 0..len {
            submission.queue(index);
        }
        submission.submit_queued();
        std::mem::take(&mut submission.results)
    }
}

/// Makes changes in order, in as few calls as possible.
fn apply(registry: &Registry, changes: &[Change]) -> Vec<io::Result<()>> {
    let (mut outcomes, mut start) = (Vec::with_capacity(changes.len()), 0);
    let mut call_keys = Keys::default();
    for (index, change) in changes.iter().enumerate() {
        if !call_keys.insert(change) {
            outcomes.extend(registry.selector().submit_changes(&changes[start..index]));
            start = index;
            call_keys.clear();
            call_keys.insert(change);
        }
    }
    outcomes.extend(registry.selector().submit_changes(&changes[start..]));
    outcomes
}

/// A set of keys of changes: a bit for each descriptor, and a hash set for other keys.
#[derive(Default)]
struct Keys {
    descriptors: Vec<u64>,
    others: HashSet<Key>,
}

impl Keys {
    /// The limit of the table of bits. A larger number may not be a descriptor, and would make the table large.
    const MAX_BIT: RawSource = 1 << 16;

    /// Returns `true` if the key is new.
    fn insert(&mut self, change: &Change) -> bool {
        let (fd, None) = change.key() else {
            return self.others.insert(change.key());
        };
        if fd >= Keys::MAX_BIT {
            return self.others.insert(change.key());
        }
        let (index, bit) = (fd as usize / 64, 1 << (fd % 64));
        if index >= self.descriptors.len() {
            self.descriptors.resize(index + 1, 0);
        }
        let is_new = self.descriptors[index] & bit == 0;
        self.descriptors[index] |= bit;
        is_new
    }

    /// Returns `true` if all keys are new.
    fn insert_all(&mut self, changes: &[Change]) -> bool {
        changes.iter().fold(true, |are_new, change| self.insert(change) & are_new)
    }

    fn clear(&mut self) {
        self.descriptors.fill(0);
        self.others.clear();
    }
}

/// Deregisters the registered descriptors of an entry, because another change of the entry failed.
fn roll_back_registered(registry: &Registry, changes: &[Change], outcomes: &[io::Result<()>]) {
    for (change, outcome) in changes.iter().zip(outcomes) {
        if change.operation == Operation::Register && outcome.is_ok() {
            let _ = registry.selector().deregister(change.fd, change.kind);
        }
    }
}

/// Writes the number of changes of each kind.
impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mut register, mut reregister, mut deregister) = (0, 0, 0);
        for entry in &self.entries {
            match entry {
                Entry::Register(..) => register += 1,
                Entry::Reregister(..) => reregister += 1,
                Entry::Deregister(_) => deregister += 1,
            }
        }
        let mut batch = f.debug_struct("Batch");
        batch.field("register", &register).field("reregister", &reregister).field("deregister", &deregister).finish()
    }
}
