//! The type of a system without waitid(2), where a child cannot be checked without being reaped. No value of it exists.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::error;

#[derive(Debug)]
pub(crate) enum SigchldNotifier {}

impl SigchldNotifier {
    pub(crate) fn of(_: libc::pid_t) -> io::Result<SigchldNotifier> {
        Err(error::unsupported())
    }

    pub(crate) fn notify_if_exited(&self) {
        match *self {}
    }

    pub(crate) fn clear_and_check(&self) -> io::Result<bool> {
        match *self {}
    }
}

impl AsFd for SigchldNotifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}
