//! The types of a socket, under the names that the portable code uses.

pub(crate) use std::os::windows::io::AsSocket as AsSource;
use std::os::windows::io::{AsRawSocket, BorrowedSocket, OwnedSocket, RawSocket};

pub(crate) type RawSource = RawSocket;
pub(crate) type OwnedSource = OwnedSocket;
#[allow(dead_code)] // Unused without the feature `net`.
pub(crate) type BorrowedSource<'a> = BorrowedSocket<'a>;

/// Returns the socket of a value.
#[inline(always)]
pub(crate) fn raw_source(source: &impl AsSource) -> RawSource {
    source.as_socket().as_raw_socket()
}

/// Borrows the socket of a value.
#[allow(dead_code)] // As above.
pub(crate) fn borrow_source(source: &impl AsSource) -> BorrowedSource<'_> {
    source.as_socket()
}
