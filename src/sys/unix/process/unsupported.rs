//! The type of a system without waitid(2), where a child cannot be checked without being reaped. No value of it exists.

use std::io;
use std::sync::Arc;

use crate::sys::error;
use crate::sys::notify::Notify;
use crate::sys::unix::signal::SignalSubscription;

#[derive(Debug)]
pub(crate) enum ChildExit {}

impl ChildExit {
    pub(crate) fn of(_: libc::pid_t) -> io::Result<ChildExit> {
        Err(error::unsupported())
    }

    pub(crate) fn subscribe(&self, _: Arc<dyn Notify>) -> io::Result<SignalSubscription> {
        match *self {}
    }

    pub(crate) fn rearm(&self) {
        match *self {}
    }

    pub(crate) fn take_exit(&self) -> bool {
        match *self {}
    }
}
