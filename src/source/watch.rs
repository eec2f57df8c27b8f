use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use crate::event::Event;
use crate::interest::Interest;
use crate::io_source::IoSource;
use crate::registry::Registry;
use crate::registry::Source;
use crate::source::file_changes::FileChanges;
use crate::source::notification::{KqueueFilter, Mechanism, NotificationSource};
use crate::sys;
use crate::sys::selector::{FilterSpec, Selector};
use crate::sys::syscall;
use crate::sys::watch;
use crate::sys::watch::Inotify;
use crate::token::Token;

/// The changes of an open file or directory as a source: written, extended, attributes, linked, renamed, deleted.
///
/// Register it for [`READABLE`](Interest::READABLE), and ask it with the event what has changed. It is the open file that
/// is watched, not its name: it can be renamed or deleted and is watched all the same, and what gets its name is another.
/// Dropping it ends the watch. It lends the file by `Deref`, and gives it back with [`into_inner`](Watch::into_inner).
///
/// What happened before it was registered is not told, so look at the file when it is registered. FileChanges that come together
/// make one event, also for [`Interest::level`]. Ask for each event: what changes after one that was not asked for may make
/// no other. After [`Interest::oneshot`] nothing comes until it is reregistered.
///
/// Nothing tells what is written through a mapping (mmap(2)), or by another machine of a network file system. Of what is in
/// a directory only the names are watched: that there is one more or less, or another.
///
/// # Platform notes
///
/// On kqueue it is a filter and no descriptor. On Linux it is an inotify of its own, of which a user may have 128
/// (`fs.inotify.max_user_instances`); asking it is a read, and a look at the file with fstat(2) if that may have grown, or
/// have other names. Elsewhere nothing tells of files.
///
/// On kqueue a descriptor can be watched once with each `Poll`; the second is `AlreadyExists`. The systems do not agree on
/// what a change is: see [the table](crate::guide::portability#files). On Linux a directory that is removed says nothing.
///
/// # Examples
///
/// ```
/// use std::fs::File;
/// use std::io::Write;
///
/// use kevio::{FileChanges, Events, Interest, Poll, Token, Watch};
///
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("log");
/// let mut log = File::create(&path)?;
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// let mut watch = Watch::new(File::open(&path)?)?;
/// poll.registry().register(&mut watch, Token(1), Interest::READABLE)?;
///
/// log.write_all(b"something happened\n")?;
/// std::fs::remove_file(&path)?;
///
/// let mut changes = FileChanges::empty();
/// while !changes.contains(FileChanges::WRITTEN | FileChanges::DELETED) {
///     poll.poll_until(&mut events, None)?;
///     for event in &events {
///         changes |= watch.changes(event)?;
///     }
/// }
/// assert_eq!(std::io::read_to_string(&*watch)?, "something happened\n");
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Watch<T> {
    // Before the file: a filter ends before its descriptor is closed.
    watched: NotificationSource<Inotify>,
    interest: FileChanges,
    file: T,
}

impl Watch<OwnedFd> {
    /// Opens a file or a directory for nothing but to watch it.
    ///
    /// It may not be possible to read it: the flags are `O_EVTONLY` on Apple and `O_PATH` on Linux.
    ///
    /// # Errors
    ///
    /// Those of open(2) and of [`new`](Watch::new).
    pub fn open(path: impl AsRef<Path>) -> io::Result<Watch<OwnedFd>> {
        Watch::new(watch::open(path.as_ref())?)
    }
}

impl<T: AsFd> Watch<T> {
    /// All changes of an open file or directory.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: it is neither a file nor a directory.
    /// * `PermissionDenied`: on Linux, the file may not be read.
    /// * `NotFound`: on Linux, `/proc` is not mounted.
    /// * `Unsupported`: the system has no way to tell.
    /// * The system's: too many descriptors, or too many inotifies (`EMFILE`), or too many watches (`ENOSPC`).
    pub fn new(file: T) -> io::Result<Watch<T>> {
        Watch::with_changes(file, FileChanges::ALL)
    }

    /// Some changes of an open file or directory.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if it is none, or one without a name; else as [`new`](Watch::new).
    pub fn with_changes(file: T, changes: FileChanges) -> io::Result<Watch<T>> {
        if changes.is_empty() || !FileChanges::ALL.contains(changes) {
            return Err(syscall::invalid_input("no such changes"));
        }
        let fd = file.as_fd();
        let state = watch::watched_state(fd)?;
        let way = if <sys::ActiveSelector as Selector>::HAS_FILTERS {
            Mechanism::Filter(KqueueFilter::new(fd.as_raw_fd(), FilterSpec::Vnode(changes)))
        } else {
            Mechanism::Descriptor(IoSource::new(Inotify::of(fd, state, changes)?))
        };
        Ok(Watch { watched: NotificationSource::new(way), interest: changes, file })
    }

    /// What has changed, of which `event` tells. Ask once for each event.
    ///
    /// It may be nothing: an event that was asked before, or a change that was not asked for and looks alike.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the event is another source's, as far as that can be told.
    pub fn changes(&self, event: &Event) -> io::Result<FileChanges> {
        self.watched.check(event)?;
        match &self.watched.way {
            Mechanism::Filter(source) => {
                let notes = source.filter_payload(event).map_or(0, |(notes, _)| notes);
                Ok(FileChanges::from_bits(notes) & self.interest)
            }
            Mechanism::Descriptor(inotify) => {
                let happened = inotify.read_io(Inotify::read_events)?;
                inotify.changes(happened, self.file.as_fd())
            }
        }
    }

    /// The file, which is watched no more.
    pub fn into_inner(self) -> T {
        self.file
    }
}

/// The file. Its offset, locks and the rest are the file's own business.
impl<T> Deref for Watch<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.file
    }
}

/// That of the file.
impl<T: AsFd> AsFd for Watch<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl<T: AsFd> Source for Watch<T> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.watched.register(registry, token, interests)?;
        let Mechanism::Descriptor(inotify) = &self.watched.way else { return Ok(()) };
        let begun = inotify.discard_earlier_events(self.file.as_fd());
        if begun.is_err() {
            let _ = self.watched.deregister(registry);
        }
        begun
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.watched.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.watched.deregister(registry)
    }
}
