use std::cell::Cell;
use std::collections::HashSet;
use std::ops::Range;
use std::os::fd::RawFd;
use std::{fmt, io};

use crate::interest::Interest;
use crate::registry::Registry;
use crate::registry::Source;
use crate::sys::selector::{Change, Key, Operation, Selector};
use crate::token::Token;

/// Changes to make together, with [`Registry::submit`].
///
/// Any number of sources of any kind, this crate's and others', each to be registered, reregistered or deregistered. On
/// kqueue that is one system call for all; elsewhere it saves nothing and costs nothing.
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
    /// An empty batch.
    #[must_use]
    pub fn new() -> Batch<'a> {
        Batch::default()
    }

    /// An empty batch with room for `capacity` changes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Batch<'a> {
        Batch { entries: Vec::with_capacity(capacity) }
    }

    /// Adds what [`Registry::register`] does.
    pub fn register(&mut self, source: &'a mut dyn Source, token: Token, interests: Interest) -> &mut Batch<'a> {
        self.entries.push(Entry::Register(source, token, interests));
        self
    }

    /// Adds what [`Registry::reregister`] does.
    pub fn reregister(&mut self, source: &'a mut dyn Source, token: Token, interests: Interest) -> &mut Batch<'a> {
        self.entries.push(Entry::Reregister(source, token, interests));
        self
    }

    /// Adds what [`Registry::deregister`] does.
    pub fn deregister(&mut self, source: &'a mut dyn Source) -> &mut Batch<'a> {
        self.entries.push(Entry::Deregister(source));
        self
    }

    /// How many changes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

impl Entry<'_> {
    /// Makes the change through `registry`, which may queue it.
    fn apply(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Entry::Register(source, token, interests) => registry.register(*source, *token, *interests),
            Entry::Reregister(source, token, interests) => registry.reregister(*source, *token, *interests),
            Entry::Deregister(source) => registry.deregister(*source),
        }
    }

    /// Deregisters what the entry has registered.
    fn roll_back(&mut self, registry: &Registry) {
        if let Entry::Register(source, ..) = self {
            // The source forgets its registration. Whether there was one makes no difference here.
            let _ = registry.deregister(*source);
        }
    }

    /// Makes the change at once, and leaves nothing of it registered if it fails.
    fn apply_alone(&mut self, registry: &Registry) -> io::Result<()> {
        let direct = registry.counting_clone();
        let result = self.apply(&direct);
        if result.is_err() && direct.queued_changes().registered() > 0 {
            self.roll_back(registry);
        }
        result
    }
}

/// The entries of a batch, and the changes that they have queued.
///
/// The results are those of the same calls one by one: before an entry can depend on an earlier one, the queued changes are
/// submitted, and the entries that failed are brought to an end.
struct Submission<'e, 'a> {
    registry: &'e Registry,
    queueing: Registry,
    entries: &'e mut [Entry<'a>],
    results: Vec<io::Result<()>>,
    /// For each entry with a result, the number of changes queued up to its end. A source may be several descriptors.
    ends: Vec<usize>,
    /// The first entry whose queued changes are not submitted.
    first_pending: usize,
}

impl Submission<'_, '_> {
    /// Applies one entry through the registry that queues changes.
    fn queue(&mut self, index: usize) {
        let start = self.start_of(index, self.first_pending);
        let entry = &mut self.entries[index];
        let collected = self.queueing.queued_changes();
        let registered = collected.registered();
        let result = entry.apply(&self.queueing);
        if result.is_ok() {
            self.results.push(result);
            self.ends.push(self.queueing.queued_changes().len());
            return;
        }
        if collected.registered() > registered {
            // A part of the source was registered, and does not stay so.
            entry.roll_back(&self.queueing);
        }
        collected.truncate(start);
        // The failure may be the effect of an earlier entry whose outcome is not known yet.
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

    /// Submits the queued changes, in groups of entries that name no descriptor twice.
    ///
    /// A single entry that names one twice is a group, too; its changes are submitted in several calls.
    fn submit_queued(&mut self) {
        let changes = self.queueing.queued_changes().take();
        let base = std::mem::replace(&mut self.first_pending, self.ends.len());
        let queued = Queued { registry: self.registry, changes, submitted: Cell::new(0) };
        let (mut first, mut start) = (base, 0);
        let mut named = Keys::default();
        for index in base..self.ends.len() {
            let own = self.start_of(index, base)..self.ends[index];
            if named.insert_all(&queued.changes[own.clone()]) {
                continue;
            }
            // A descriptor is named again: by this entry after an earlier one, or by this entry twice.
            self.submit_group(&queued, first..index, start..own.start, base);
            (first, start) = (index, own.start);
            named.clear();
            if !named.insert_all(&queued.changes[own.clone()]) {
                self.submit_group(&queued, index..index + 1, own.clone(), base);
                (first, start) = (index + 1, own.end);
                named.clear();
            }
        }
        self.submit_group(&queued, first..self.ends.len(), start..queued.changes.len(), base);
    }

    /// The number of queued changes before those of an entry; `base` is the first entry that has some.
    fn start_of(&self, index: usize, base: usize) -> usize {
        match index == base {
            true => 0,
            false => self.ends[index - 1],
        }
    }

    /// Submits the changes of some entries, and brings those that failed to an end.
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
            let (own, of) = (&changes[range.clone()], &mut outcomes[range]);
            if let Some(failed) = of.iter().position(Result::is_err) {
                roll_back_registered(self.registry, own, of);
                let error = std::mem::replace(&mut of[failed], Ok(())).unwrap_err();
                self.results[index] = self.retry_alone(index, error);
            }
        }
    }

    /// Applies again, alone, an entry whose source has seen success although a change failed. Now the source sees the error.
    fn retry_alone(&mut self, index: usize, error: io::Error) -> io::Result<()> {
        let entry = &mut self.entries[index];
        if let Entry::Deregister(_) = entry {
            // The source has forgotten its registration already.
            return Err(error);
        }
        // The kernel holds nothing of a failed registration: only the source is rolled back.
        entry.roll_back(&self.queueing);
        self.queueing.queued_changes().truncate(0);
        entry.apply_alone(self.registry)
    }
}

/// Changes that are being submitted. If a source panics that is called again, the sources of the other changes have seen
/// success. So their changes are made.
struct Queued<'r> {
    registry: &'r Registry,
    changes: Vec<Change>,
    submitted: Cell<usize>,
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let rest = &self.changes[self.submitted.get()..];
        if !rest.is_empty() {
            apply(self.registry, rest);
        }
    }
}

/// If a source panics, the entries before it have seen success. So their changes are made.
impl Drop for Submission<'_, '_> {
    fn drop(&mut self) {
        self.submit_queued();
    }
}

impl Registry {
    /// Makes all the changes of a batch, in their order, and returns the result of each. The outcome is that of the same calls
    /// one by one.
    ///
    /// On kqueue, up to 512 changes are one kevent(2) call (and one pread(2) for each raw descriptor that is registered).
    /// A descriptor that is named a second time begins another call. On other backends there are as many calls as changes.
    /// An entry that fails stops no other, and leaves nothing of itself registered. Every change is made before this
    /// returns. An empty batch makes no call.
    ///
    /// Each source is called with a registry of its own, and must not use a clone of that registry. A source may be called a
    /// second time, if its first call or one of its changes failed.
    ///
    /// # Errors
    ///
    /// In the results: for each entry those of [`register`](Registry::register), [`reregister`](Registry::reregister)
    /// or [`deregister`](Registry::deregister).
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

/// Makes changes in their order, in as few calls as possible.
fn apply(registry: &Registry, changes: &[Change]) -> Vec<io::Result<()>> {
    let (mut outcomes, mut start) = (Vec::with_capacity(changes.len()), 0);
    let mut named = Keys::default();
    for (index, change) in changes.iter().enumerate() {
        if !named.insert(change) {
            outcomes.extend(registry.selector().submit_changes(&changes[start..index]));
            start = index;
            named.clear();
            named.insert(change);
        }
    }
    outcomes.extend(registry.selector().submit_changes(&changes[start..]));
    outcomes
}

/// The keys of changes: a bit for each descriptor, and the others in a set.
#[derive(Default)]
struct Keys {
    descriptors: Vec<u64>,
    others: HashSet<Key>,
}

impl Keys {
    /// A number that is larger may be no descriptor at all, and would need a large table.
    const MAX_BIT: RawFd = 1 << 16;

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

/// Ends what was registered, of changes that have not all succeeded.
fn roll_back_registered(registry: &Registry, changes: &[Change], outcomes: &[io::Result<()>]) {
    for (change, outcome) in changes.iter().zip(outcomes) {
        if change.operation == Operation::Register && outcome.is_ok() {
            let _ = registry.selector().deregister(change.fd, change.kind);
        }
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish()
    }
}
