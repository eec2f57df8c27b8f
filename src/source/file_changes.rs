flag_set! {
    /// What happened to a file or a directory, or is to be told of it. See [`Watch`](crate::Watch).
    ///
    /// The bits are those of kqueue's `NOTE_…`, on every system.
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
    /// Its last name was removed, or given to another file; on most kqueues also: one of its names. Or its file system is
    /// gone.
    pub const DELETED: FileChanges = FileChanges(0x01);
    /// Something was written to the file; of a directory, an entry was made, removed or renamed.
    pub const WRITTEN: FileChanges = FileChanges(0x02);
    /// What was written made the file longer, which is also [`WRITTEN`](FileChanges::WRITTEN). Not on Apple; on Linux, longer than
    /// when it was asked last: what was cut off and written again since may not show.
    pub const EXTENDED: FileChanges = FileChanges(0x04);
    /// Its mode, its owner or other attributes were set. Not the times that reading and writing leave.
    pub const ATTRIBUTES: FileChanges = FileChanges(0x08);
    /// The number of its names was changed; of a directory, that of its subdirectories, where the file system counts them.
    pub const LINKED: FileChanges = FileChanges(0x10);
    /// It was renamed or moved.
    pub const RENAMED: FileChanges = FileChanges(0x20);

    /// All of them.
    pub const ALL: FileChanges = FileChanges(0x3f);

    const NAMES: [(u32, &'static str); 6] = [
        (FileChanges::DELETED.0, "DELETED"),
        (FileChanges::WRITTEN.0, "WRITTEN"),
        (FileChanges::EXTENDED.0, "EXTENDED"),
        (FileChanges::ATTRIBUTES.0, "ATTRIBUTES"),
        (FileChanges::LINKED.0, "LINKED"),
        (FileChanges::RENAMED.0, "RENAMED"),
    ];

    fn as_u32(self) -> u32 {
        self.0
    }
}
