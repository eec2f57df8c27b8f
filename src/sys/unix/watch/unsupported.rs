//! The type of a system that has neither kqueue nor inotify. No value of it exists.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::source::file_changes::FileChanges;
use crate::sys::unix::watch::state::WatchedState;

#[derive(Debug)]
pub(crate) enum Inotify {}

impl Inotify {
    pub(crate) fn of(_: BorrowedFd<'_>, _: WatchedState, _: FileChanges) -> io::Result<Inotify> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system does not report changes of files"))
    }

    pub(crate) fn discard_earlier_events(&self, _: BorrowedFd<'_>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn read_events(&self) -> io::Result<u32> {
        match *self {}
    }

    pub(crate) fn changes(&self, _: u32, _: BorrowedFd<'_>) -> io::Result<FileChanges> {
        match *self {}
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}
