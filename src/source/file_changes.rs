flag_set! {
    /// Changes of a file or a directory. See [`Watch`](crate::Watch).
    ///
    /// The bits are those of kqueue's `NOTE_…` constants, on every system, except [`RESCAN`](FileChanges::RESCAN).
    ///
    /// ```
    /// use kevio::FileChanges;
    ///
    /// let gone = FileChanges::RENAMED | FileChanges::DELETED;
    /// assert!(FileChanges::ALL.contains(gone) && !gone.intersects(FileChanges::WRITTEN));
    /// assert_eq!(format!("{gone:?}"), "DELETED|RENAMED");
    /// ```
    pub struct FileChanges(u32);
}

impl FileChanges {
    /// The last name of the file was removed, or given to another file. Most kqueues also report the removal of one of several
    /// names. The unmounting of the file system is reported as deleted too.
    pub const DELETED: FileChanges = FileChanges(0x01);
    /// The file was written to. In a directory: an entry was created, removed or renamed.
    pub const WRITTEN: FileChanges = FileChanges(0x02);
    /// A write made the file longer. [`WRITTEN`](FileChanges::WRITTEN) is reported too. Never reported on Apple.
    ///
    /// On Linux: the file is longer than at the previous call of [`Watch::changes`](crate::Watch::changes). If a file was
    /// truncated and written again in between, the extension may not be reported.
    pub const EXTENDED: FileChanges = FileChanges(0x04);
    /// The mode, the owner or other attributes of the file were set. Changes of times by reads and writes are not reported.
    pub const ATTRIBUTES: FileChanges = FileChanges(0x08);
    /// The number of names of the file changed. For a directory: the number of its subdirectories, where the file system counts
    /// them.
    pub const LINKED: FileChanges = FileChanges(0x10);
    /// The file was renamed or moved.
    pub const RENAMED: FileChanges = FileChanges(0x20);

    /// Some changes were lost, so that the program has to look at the file again. No other change is set beside this one.
    ///
    /// Reported on Linux, if more changes came between two polls than the kernel queues (`fs.inotify.max_queued_events`), for
    /// every watch of the poll, and whatever was requested. One watch alone reports it if the polling thread does not have the
    /// descriptor of the file. On Windows, one watch reports it if more changes came than its buffers hold. Cannot be requested.
    pub const RESCAN: FileChanges = FileChanges(1 << 31);

    /// All changes that can be requested.
    pub const ALL: FileChanges = FileChanges(0x3f);

    const NAMES: [(u32, &'static str); 7] = [
        (FileChanges::DELETED.0, "DELETED"),
        (FileChanges::WRITTEN.0, "WRITTEN"),
        (FileChanges::EXTENDED.0, "EXTENDED"),
        (FileChanges::ATTRIBUTES.0, "ATTRIBUTES"),
        (FileChanges::LINKED.0, "LINKED"),
        (FileChanges::RENAMED.0, "RENAMED"),
        (FileChanges::RESCAN.0, "RESCAN"),
    ];

    fn as_u32(self) -> u32 {
        self.0
    }
}
