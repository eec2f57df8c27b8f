//! The type of a system without waitid(2), where a child cannot be checked without being reaped. No value of it exists.

use std::io;

use crate::sys::error;

#[derive(Debug)]
pub(crate) enum ChildExit {}

impl ChildExit {
    pub(crate) fn of(_: libc::pid_t) -> io::Result<ChildExit> {
        Err(error::unsupported())
    }

    pub(crate) fn rearm(&self) {
        match *self {}
    }

    pub(crate) fn take_exit(&self) -> bool {
        match *self {}
    }
}
