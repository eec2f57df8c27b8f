flag_set! {
    /// What happened to a file or a directory, or is to be told of it. See [`Watch`](crate::Watch).
    ///
    /// The bits are those of kqueue's `NOTE_…`, on every system.
    ///
    /// ```
    /// use kevio::Changes;
    ///
    /// let gone = Changes::RENAMED | Changes::DELETED;
    /// assert!(Changes::ALL.contains(gone) && !gone.intersects(Changes::WRITTEN));
    /// assert_eq!(format!("{gone:?}"), "DELETED|RENAMED");
    /// ```
    pub struct Changes(u32);
}

impl Changes {
    /// Its last name was removed, or given to another file; on most kqueues also: one of its names. Or its file system is
    /// gone.
    pub const DELETED: Changes = Changes(0x01);
    /// Something was written to the file; of a directory, an entry was made, removed or renamed.
    pub const WRITTEN: Changes = Changes(0x02);
    /// What was written made the file longer, which is also [`WRITTEN`](Changes::WRITTEN). Not on Apple; on Linux, longer than
    /// when it was asked last: what was cut off and written again since may not show.
    pub const EXTENDED: Changes = Changes(0x04);
    /// Its mode, its owner or other attributes were set. Not the times that reading and writing leave.
    pub const ATTRIBUTES: Changes = Changes(0x08);
    /// The number of its names was changed; of a directory, that of its subdirectories, where the file system counts them.
    pub const LINKED: Changes = Changes(0x10);
    /// It was renamed or moved.
    pub const RENAMED: Changes = Changes(0x20);

    /// All of them.
    pub const ALL: Changes = Changes(0x3f);

    const NAMES: [(u32, &'static str); 6] = [
        (Changes::DELETED.0, "DELETED"),
        (Changes::WRITTEN.0, "WRITTEN"),
        (Changes::EXTENDED.0, "EXTENDED"),
        (Changes::ATTRIBUTES.0, "ATTRIBUTES"),
        (Changes::LINKED.0, "LINKED"),
        (Changes::RENAMED.0, "RENAMED"),
    ];

    fn word(self) -> u32 {
        self.0
    }
}
