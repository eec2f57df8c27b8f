//! The types of a system without waitid(2), where a child cannot be checked without being reaped.

use std::io;
use std::sync::Arc;

use crate::sys::notify::Notify;
use crate::sys::unix::process::errors::no_child;
use crate::sys::unix::signal::SignalSubscription;

/// The state of a process, which is not known.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[allow(dead_code)] // The states are those of `child_state.rs`.
pub(crate) enum ChildState {
    Running,
    Exited(libc::c_int),
    NoChild,
}

impl ChildState {
    pub(crate) fn of(_: libc::pid_t) -> io::Result<ChildState> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

/// A type without values.
#[derive(Debug)]
pub(crate) enum ChildExit {}

impl ChildExit {
    pub(crate) fn of(pid: libc::pid_t) -> io::Result<ChildExit> {
        Err(no_child(pid))
    }

    pub(crate) fn subscribe(&self, _: Arc<dyn Notify>) -> io::Result<SignalSubscription> {
        match *self {}
    }

    pub(crate) fn rearm(&self) -> bool {
        match *self {}
    }

    pub(crate) fn take_exit(&self) -> bool {
        match *self {}
    }
}
