use std::{fmt, io};

use crate::event::Source;
use crate::sys::{Change, Engine, Operation};
use crate::{Interest, Registry, Token};

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
    /// Asks the source for the change, through a registry that may put it off.
    fn begin(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Entry::Register(source, token, interests) => registry.register(*source, *token, *interests),
            Entry::Reregister(source, token, interests) => registry.reregister(*source, *token, *interests),
            Entry::Deregister(source) => registry.deregister(*source),
        }
    }

    /// Takes back what was registered, or what the source thinks is.
    fn undo(&mut self, registry: &Registry) {
        if let Entry::Register(source, ..) = self {
            // It lets go of what it knows; that there is nothing to deregister is no news.
            let _ = registry.deregister(*source);
        }
    }

    /// The source was told that the change had been made, and it could not be, or not all of it. Asked again, on its own,
    /// it hears the truth.
    fn again(&mut self, registry: &Registry, error: io::Error) -> io::Result<()> {
        if let Entry::Deregister(_) = self {
            // It has let go already.
            return Err(error);
        }
        self.undo(registry);
        let result = self.begin(registry);
        if result.is_err() {
            self.undo(registry);
        }
        result
    }
}

/// The registry that entries of a batch are given. If one of them panics, those before it have been told that their
/// changes are made, and so they are.
struct Collecting(Registry);

impl Collecting {
    fn begin(&self, entry: &mut Entry<'_>) -> io::Result<()> {
        let collected = self.0.collected();
        let (start, registered) = (collected.len(), collected.registered());
        let result = entry.begin(&self.0);
        if result.is_err() && collected.registered() > registered {
            // A part of it was registered, and does not stay so.
            entry.undo(&self.0);
            collected.changes().truncate(start);
        }
        result
    }

    fn apply(&self) -> (Vec<Change>, Vec<io::Result<()>>) {
        let changes = std::mem::take(&mut *self.0.collected().changes());
        let outcomes = self.0.selector().apply(&changes);
        (changes, outcomes)
    }
}

impl Drop for Collecting {
    fn drop(&mut self) {
        self.apply();
    }
}

impl Registry {
    /// Makes all the changes of a batch, in their order, and returns the result of each.
    ///
    /// On kqueue they are one kevent(2) call for each 512 of them (and one fstat(2) for each bare descriptor); elsewhere
    /// as many calls as changes. An entry that fails stops no other, and leaves nothing of itself registered. Nothing is
    /// put off beyond the return. An empty batch makes no call.
    ///
    /// Sources are asked one after the other, with a registry of their own, and must not use a clone of it. One that looks
    /// at what the registry answers may be asked a second time, after the others.
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
        let collecting = Collecting(self.collecting());
        let mut ends = Vec::with_capacity(entries.len());
        let mut results = Vec::with_capacity(entries.len());
        for entry in &mut entries {
            results.push(collecting.begin(entry));
            ends.push(collecting.0.collected().len());
        }
        let (changes, mut outcomes) = collecting.apply();
        let mut start = 0;
        for ((entry, result), end) in entries.iter_mut().zip(&mut results).zip(ends) {
            // A source may be several descriptors.
            let (own, of) = (&changes[start..end], &mut outcomes[start..end]);
            start = end;
            if let Some(failed) = of.iter().position(Result::is_err) {
                take_back(self, own, of);
                let error = std::mem::replace(&mut of[failed], Ok(())).unwrap_err();
                *result = entry.again(self, error);
            }
        }
        results
    }
}

/// Ends what was registered, of changes that have not all succeeded.
fn take_back(registry: &Registry, changes: &[Change], outcomes: &[io::Result<()>]) {
    for (change, outcome) in changes.iter().zip(outcomes) {
        if change.operation == Operation::Register && outcome.is_ok() {
            let _ = registry.selector().deregister(change.fd, change.origin);
        }
    }
}

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish()
    }
}
