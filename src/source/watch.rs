use std::ops::Deref;
#[cfg(unix)]
use std::os::fd::{AsFd, BorrowedFd};
#[cfg(windows)]
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::path::Path;
use std::sync::Arc;
use std::{fmt, io};

use crate::event::Event;
use crate::interest::Interest;
use crate::registry::{Registry, Source};
use crate::source::file_changes::FileChanges;
use crate::source::notification::{NotificationSource, Origin, SourceState};
use crate::source::user_registration::Reports;
use crate::sys::error;
use crate::sys::notify::Notify;
use crate::sys::selector::FilterSpec;
use crate::sys::watch;
use crate::sys::watch::{ActiveWatch, OwnedFile, PendingChanges};
use crate::token::Token;

/// The changes of an open file or directory as a source: written, extended, attributes, linked, renamed, deleted.
///
/// Register the source for [`READABLE`](Interest::READABLE), and call [`changes`](Watch::changes) for each event. The source
/// owns the file, gives access to it by `Deref`, and returns it by [`into_inner`](Watch::into_inner). Dropping the source ends
/// the watch. The page [files](crate::guide::files) explains the loop around this source.
///
/// **The open file is watched, not its path.** If the file is renamed or deleted, the file is still watched. A new file at the
/// old path is not watched. In a directory only the names are watched: a new name, a removed name, or a changed name.
///
/// **Events.** Changes before the registration are not reported, so read the file after the registration. Changes that arrive
/// together have one event, also for [`Interest::level`]. After an event of [`Interest::oneshot`], and while the interest is
/// [`NONE`](Interest::NONE), no event is reported until the source is reregistered. Then the changes since are reported.
///
/// **Not reported** are writes through a mapping (mmap(2)), and changes by another machine of a network file system.
///
/// Any thread may register the source and call its methods, if the type of the file allows that. A forked child cannot use an
/// inherited source ([forks](crate::guide::forks)).
///
/// # Platform notes
///
/// * kqueue: the source is a filter without a descriptor. A descriptor can be watched once with each `Poll`. A second
///   registration fails with `AlreadyExists`.
/// * Linux: all watches of a `Poll` share one inotify instance, of which a user may have 128 (`fs.inotify.max_user_instances`). A
///   watch has no descriptor of its own. The polling thread reads the changes, and calls fstat(2) if the file may have grown or
///   may have another number of links. If the kernel has dropped changes, every watch of the poll reports
///   [`RESCAN`](FileChanges::RESCAN) alone. A directory that is removed is not reported.
/// * Windows: threads of the [thread pool] read the changes of the directory of the file ([ReadDirectoryChangesW]), and compare
///   the properties of the open file. See [below](#windows).
/// * Other systems: `Unsupported`.
///
/// The systems differ in what they report as a change: see [the table](crate::guide::portability#files).
///
/// # Windows
///
/// The system reports the names of the changed files of a directory, and not what has changed. The watch opens the directory of
/// the file. If the program may not read the directory, registering fails with `PermissionDenied`. A watch has up to five handles
/// of its own, and a buffer of 16 KiB for each watched directory. The kernel has a second buffer of that size.
///
/// * A write is reported when the file system updates the time of the last write. Often this happens when the writing program
///   closes the file. A write can be reported twice. A program that sets the time of the last write is reported as a write.
/// * A deleted file is reported with `DELETED` if its name is removed at once. NTFS does so since Windows 10 1903. Other file
///   systems and wine keep the name until the last handle is closed, also that of the watch. Then nothing is reported.
/// * A file that is moved to another directory of the volume is reported as renamed, and is followed. If the path of the open
///   file is not known any more, as in wine, later changes are not reported.
/// * The number of links is compared when a name in the directory of the file appears or disappears. NTFS does not count
///   subdirectories. Windows refuses to rename a directory above an open file, and a watched file is open.
/// * If more changes came than fit into the buffers, [`RESCAN`](FileChanges::RESCAN) is reported. If the directory cannot be read
///   any more, for example without the network, `RESCAN` is reported once, and no other change follows.
/// * The root directory of a volume has no parent. Only its entries are reported.
///
/// [thread pool]: https://learn.microsoft.com/en-us/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-setthreadpoolwait
/// [ReadDirectoryChangesW]: https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-readdirectorychangesw
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
/// # if Watch::new(File::open(&path)?).is_err() { return Ok(()); } // The system cannot watch files.
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// let mut watch = Watch::new(File::open(&path)?)?;
/// poll.registry().register(&mut watch, Token(1), Interest::READABLE)?;
///
/// log.write_all(b"something happened\n")?;
/// drop(log); // Windows may report the write when the file is closed.
/// std::fs::rename(&path, path.with_extension("old"))?;
///
/// let mut changes = FileChanges::empty();
/// while !changes.contains(FileChanges::WRITTEN | FileChanges::RENAMED) {
///     poll.poll_until(&mut events, None)?;
///     for event in &events {
///         changes |= watch.changes(event)?;
///     }
/// }
/// assert_eq!(std::io::read_to_string(&*watch)?, "something happened\n");
/// # std::io::Result::Ok(())
/// ```
pub struct Watch<T> {
    // Dropped before `file`, because a watch ends before its descriptor is closed.
    active: Option<ActiveWatch>,
    source: NotificationSource<PendingChanges>,
    interest: FileChanges,
    file: T,
}

impl SourceState for PendingChanges {
    const NAME: &'static str = "Watch";
}

impl Reports for PendingChanges {
    fn has_report(&self) -> bool {
        self.decode()
    }

    fn rearm(&self) -> bool {
        PendingChanges::rearm(self)
    }
}

impl Watch<OwnedFile> {
    /// Opens a file or a directory only to watch it.
    ///
    /// The returned descriptor may not be able to read the file: the flags are `O_EVTONLY` on Apple and `O_PATH` on Linux, and
    /// the access right is `FILE_READ_ATTRIBUTES` on Windows.
    ///
    /// # Errors
    ///
    /// Errors of open(2) or CreateFileW, and the errors of [`new`](Watch::new).
    pub fn open(path: impl AsRef<Path>) -> io::Result<Watch<OwnedFile>> {
        Watch::new(watch::open(path.as_ref())?)
    }
}

// The documentation shows the trait of the system.
impl<#[cfg(unix)] T: AsFd, #[cfg(windows)] T: AsHandle> Watch<T> {
    /// Creates a source for all changes of an open file or directory.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: `file` is neither a file nor a directory.
    /// * `Unsupported`: the system does not report changes of files; or, on Linux, `file` is in `/proc` or `/sys`, or in memory
    ///   (memfd_create(2)), where the kernel reports no changes.
    ///
    /// On Linux, registering can fail too:
    ///
    /// * `PermissionDenied`: the program may not read the file.
    /// * `NotFound`: `/proc` is not mounted.
    /// * `Unsupported`: a sandbox refuses inotify_init1(2).
    /// * Errors of the system: too many descriptors or inotify instances (`EMFILE`), or too many watches (`ENOSPC`).
    pub fn new(file: T) -> io::Result<Watch<T>> {
        Watch::with_changes(file, FileChanges::ALL)
    }

    /// Creates a source for some changes of an open file or directory.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: `changes` is empty, or contains a bit that has no name.
    /// * The errors of [`new`](Watch::new).
    pub fn with_changes(file: T, changes: FileChanges) -> io::Result<Watch<T>> {
        if changes.is_empty() || !FileChanges::ALL.contains(changes) {
            return Err(error::invalid_input(format!(
                "a `Watch` cannot report the changes {changes:?}: pass changes that `FileChanges::ALL` contains, at \
                 least one"
            )));
        }
        let borrowed = watch::borrow_file(&file);
        let state = watch::watched_state(borrowed)?;
        watch::reject_unreported_file(borrowed)?;
        let filter = FilterSpec::Vnode(changes);
        let pending = || watch::pending_changes(changes, state).map(Origin::State);
        let source = NotificationSource::new(filter, [watch::filter_ident(borrowed)], pending)?;
        Ok(Watch { active: None, source, interest: changes, file })
    }

    /// Returns `true` if the source is registered with a poll that exists.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.source.has_live_poll()
    }

    /// Returns the changes since the last event. `event` is an event of this source.
    ///
    /// Call this function once for each event. The result may be empty: `changes` was already called for this event, or the
    /// kernel reported a change that was not requested, and that the kernel cannot distinguish from a requested change.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the event belongs to another source. Not every such event can be detected.
    pub fn changes(&self, event: &Event) -> io::Result<FileChanges> {
        self.source.read(
            "changes",
            event,
            |filter| FileChanges::from_bits(filter.fflags) & self.interest,
            || Ok(self.source.user_state().map_or(FileChanges::empty(), |(pending, _)| pending.take())),
        )
    }

    /// Ends the watch, and returns the file.
    pub fn into_inner(self) -> T {
        self.file
    }
}

/// Gives access to the file. Reading, seeking or locking the file does not change the watch.
impl<T> Deref for Watch<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.file
    }
}

/// Borrows the descriptor of the file.
#[cfg(unix)]
impl<T: AsFd> AsFd for Watch<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Borrows the handle of the file.
#[cfg(windows)]
impl<T: AsHandle> AsHandle for Watch<T> {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.file.as_handle()
    }
}

/// Writes the file, the requested changes, and if the source is registered.
impl<T: fmt::Debug> fmt::Debug for Watch<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_registered = self.source.has_live_poll();
        let mut watch = f.debug_struct("Watch");
        watch.field("file", &self.file).field("changes", &self.interest).field("is_registered", &is_registered).finish()
    }
}

impl<#[cfg(unix)] T: AsFd, #[cfg(windows)] T: AsHandle> Source for Watch<T> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        if !self.source.has_live_poll() {
            // The watch of a poll that was dropped ends first, because both use the same changes.
            self.active = None;
        }
        let (file, mut active) = (watch::borrow_file(&self.file), None);
        let result = self.source.register_and(registry, token, interests, |source| {
            if let Some((pending, Some(registration))) = source.user_state() {
                let queue = registry.shared().change_queue()?;
                let registration = Arc::clone(registration) as Arc<dyn Notify>;
                active = Some(queue.watch(file, pending, &registration)?);
            }
            Ok(())
        });
        if result.is_ok() || !self.source.is_registered() {
            // If the source was registered with a poll that was dropped, the earlier watch ends here.
            self.active = active;
        }
        result
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let result = self.source.deregister(registry);
        if !self.source.is_registered() {
            self.active = None;
        }
        result
    }
}
