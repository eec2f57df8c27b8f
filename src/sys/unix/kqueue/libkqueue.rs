//! Every exception that this backend makes for libkqueue, a kqueue in user space for Linux that serves to test the backend.
//!
//! No kernel needs any of these exceptions. `kevent/libkqueue_abi.rs` has the exceptions of the binding. The tests list the
//! faults without a workaround as known failures.
//!
//! One exception is in the code for every system: a change adds the write filter of a descriptor before its read filter
//! (`FdFilters::iter`, `plain_kevents`). If the write filter comes second, libkqueue loses the state that it needs to detect a
//! half-close.

use crate::sys::unix::kevent::constants::{Filter, VnodeNotes};

const IS_LIBKQUEUE: bool = cfg!(links_libkqueue);

/// `true` if closing a descriptor removes its knotes. libkqueue cannot detect that a descriptor was closed (its BUGS.md).
pub(super) const CLOSE_REMOVES_KNOTES: bool = !IS_LIBKQUEUE;

/// `true` if `EV_ADD` of a knote that exists evaluates its filter again. libkqueue does not, and reports no event.
pub(super) const ADD_EVALUATES_AGAIN: bool = !IS_LIBKQUEUE;

/// `true` if `EV_ADD` with `EV_DISABLE` adds a disabled knote. libkqueue adds an enabled knote, and records
/// the knote as disabled. Another kevent has to disable the knote.
pub(super) const ADD_CAN_DISABLE: bool = !IS_LIBKQUEUE;

/// The note of a revoked file, which libkqueue does not have.
#[cfg(not(links_libkqueue))]
pub(super) const REVOKE: VnodeNotes = VnodeNotes::REVOKE;
#[cfg(links_libkqueue)]
pub(super) const REVOKE: VnodeNotes = VnodeNotes::empty();

/// The filter of asynchronous operations, which libkqueue does not have.
#[cfg(not(links_libkqueue))]
pub(super) const AIO: Option<Filter> = Some(Filter::AIO);
#[cfg(links_libkqueue)]
pub(super) const AIO: Option<Filter> = None;
