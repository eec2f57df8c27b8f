//! The types of a descriptor, under the names that the portable code uses.

pub(crate) use std::os::fd::AsFd as AsSource;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

pub(crate) type RawSource = RawFd;
pub(crate) type OwnedSource = OwnedFd;
#[allow(dead_code)] // Unused without the feature `net`.
pub(crate) type BorrowedSource<'a> = BorrowedFd<'a>;

/// Returns the descriptor of a value.
#[inline(always)]
pub(crate) fn raw_source(source: &impl AsSource) -> RawSource {
    source.as_fd().as_raw_fd()
}

/// Borrows the descriptor of a value.
#[allow(dead_code)] // As above.
pub(crate) fn borrow_source(source: &impl AsSource) -> BorrowedSource<'_> {
    source.as_fd()
}
