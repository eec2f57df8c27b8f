//! The descriptors whose registrations belong to sources that borrow them.
//!
//! A source that owns its descriptor closes it, which ends its registration. A borrowed descriptor may be closed by its owner,
//! and its number may be registered by another source. The set of borrowed numbers prevents the first source from changing or
//! removing the registration of the second.

use std::collections::HashSet;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Mutex;

use crate::sys::error::not_found;
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::selector::SourceKind;

#[derive(Debug, Default)]
pub(super) struct Borrowed {
    /// A borrowed descriptor was registered at some time. Until then the set is not locked.
    ever_used: AtomicBool,
    fds: Mutex<HashSet<RawFd>>,
}

impl Borrowed {
    /// Records whether the registration of the descriptor belongs to a source that borrows. Called after a registration was
    /// added, ended or detached.
    #[inline]
    pub(super) fn set(&self, fd: RawFd, is_borrowed: bool) {
        if is_borrowed || self.ever_used.load(Ordering::SeqCst) {
            self.set_slowly(fd, is_borrowed);
        }
    }

    #[cold]
    fn set_slowly(&self, fd: RawFd, is_borrowed: bool) {
        self.ever_used.store(true, Ordering::SeqCst);
        let mut fds = lock_ignoring_poison(&self.fds);
        match is_borrowed {
            true => fds.insert(fd),
            false => fds.remove(&fd),
        };
    }

    /// Fails with `NotFound` if the source borrows, and the registration of the number belongs to a source that does not.
    #[inline(always)] // A source that owns its descriptor pays for the comparison only.
    pub(super) fn check_owner(&self, fd: RawFd, kind: SourceKind) -> io::Result<()> {
        match kind {
            SourceKind::Borrowed | SourceKind::Registered { is_borrowed: true, .. } => self.check_borrowed(fd),
            _ => Ok(()),
        }
    }

    #[cold]
    fn check_borrowed(&self, fd: RawFd) -> io::Result<()> {
        match lock_ignoring_poison(&self.fds).contains(&fd) {
            true => Ok(()),
            false => Err(not_found()),
        }
    }
}
