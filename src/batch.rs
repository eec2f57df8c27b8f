use std::{fmt, io};

use crate::event::Source;
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

pub(crate) enum Entry<'a> {
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

    pub(crate) fn into_entries(self) -> Vec<Entry<'a>> {
        self.entries
    }
}

impl Entry<'_> {
    /// Asks the source for the change, through a registry that may put it off.
    pub(crate) fn begin(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Entry::Register(source, token, interests) => registry.register(*source, *token, *interests),
            Entry::Reregister(source, token, interests) => registry.reregister(*source, *token, *interests),
            Entry::Deregister(source) => registry.deregister(*source),
        }
    }

    /// Takes back what was registered, or what the source thinks is.
    pub(crate) fn undo(&mut self, registry: &Registry) {
        if let Entry::Register(source, ..) = self {
            // It lets go of what it knows; that there is nothing to deregister is no news.
            let _ = registry.deregister(*source);
        }
    }

    /// The source was told that the change had been made, and it could not be, or not all of it. Asked again, on its own,
    /// it hears the truth.
    pub(crate) fn again(&mut self, registry: &Registry, error: io::Error) -> io::Result<()> {
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

impl fmt::Debug for Batch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("len", &self.len()).finish()
    }
}
