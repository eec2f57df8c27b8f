//! A system that has neither kqueue nor inotify: nothing tells that a file has changed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::source::file_changes::Changes;
use crate::sys::unix::watch::Measure;

#[derive(Debug)]
pub(crate) enum Inotify {}

impl Inotify {
    pub(crate) fn of(_: BorrowedFd<'_>, _: Measure, _: Changes) -> io::Result<Inotify> {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system does not tell of changes of files"))
    }

    pub(crate) fn begin(&mut self, _: BorrowedFd<'_>) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn take(&self) -> io::Result<u32> {
        match *self {}
    }

    pub(crate) fn changes(&mut self, _: u32, _: BorrowedFd<'_>) -> io::Result<Changes> {
        match *self {}
    }
}

impl AsFd for Inotify {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}
