//! The exit of a process. Not supported yet.

use std::io;
use std::os::windows::io::{BorrowedHandle, OwnedHandle};
use std::os::windows::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::sync::Arc;

use crate::sys::error::unsupported;
use crate::sys::notify::Notify;

/// The identifier of a process, as `Process` takes and returns it.
pub(crate) type Pid = u32;
/// An exit code.
pub(crate) type RawStatus = u32;

/// Returns the exit status with this exit code.
pub(crate) fn exit_status(status: RawStatus) -> ExitStatus {
    ExitStatus::from_raw(status)
}

#[cold]
fn no_processes() -> io::Error {
    unsupported("a `Process` cannot be created on this system: call `Child::wait` in a thread, and wake with a `Waker`")
}

/// The exit of one process. A type without values.
#[derive(Debug)]
pub(crate) enum ChildExit {}

/// The wait for the exit, which ends when this value is dropped.
#[derive(Debug)]
pub(crate) enum ExitSubscription {}

impl ChildExit {
    /// Opens the process with this identifier.
    pub(crate) fn of(_: Pid) -> io::Result<ChildExit> {
        Err(no_processes())
    }

    /// Duplicates the handle of a child.
    pub(crate) fn of_child(_: &Child) -> io::Result<ChildExit> {
        Err(no_processes())
    }

    pub(crate) fn of_handle(_: OwnedHandle) -> io::Result<ChildExit> {
        Err(no_processes())
    }

    pub(crate) fn pid(&self) -> Pid {
        match *self {}
    }

    pub(crate) fn handle(&self) -> BorrowedHandle<'_> {
        match *self {}
    }

    /// Returns the exit code. `None` if the process has not exited.
    pub(crate) fn status(&self) -> Option<RawStatus> {
        match *self {}
    }

    /// Notifies `registration` when the process has exited, until the subscription is dropped.
    pub(crate) fn subscribe(&self, _: Arc<dyn Notify>) -> io::Result<ExitSubscription> {
        match *self {}
    }

    /// Reports the exit again. Returns `true` if the process has exited.
    pub(crate) fn rearm(&self) -> bool {
        match *self {}
    }

    /// Returns `true` if the process has exited, and the exit was not reported yet.
    pub(crate) fn take_exit(&self) -> bool {
        match *self {}
    }
}
