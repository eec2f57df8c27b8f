//! The name of an entry.

/// The name of an entry. A vacant index has another generation when it is used again.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct EntryKey {
    pub(super) index: u32,
    pub(super) generation: u32,
}
