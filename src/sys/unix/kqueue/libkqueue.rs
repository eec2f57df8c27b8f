//! Every exception that this backend makes for libkqueue, a kqueue in user space for Linux that serves to test the backend.
//!
//! No kernel needs any of them. `kevent/libkqueue_abi.rs` is the binding. `tests/suite/libkqueue.rs` lists the faults without
//! a workaround.

use crate::interest::TriggerMode;
use crate::sys::unix::kevent::constants::{Filter, VnodeNotes};
use crate::sys::unix::kevent::libkqueue_abi::MAX_RECEIPTS;
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::kqueue::changelist::MAX_KEVENTS;
use crate::sys::unix::kqueue::filters;
use crate::token::Token;

const IS_LIBKQUEUE: bool = cfg!(links_libkqueue);

/// Whether closing a descriptor removes its knotes. libkqueue cannot detect that a descriptor was closed (its BUGS.md).
pub(super) const CLOSE_REMOVES_KNOTES: bool = !IS_LIBKQUEUE;

/// Whether `EV_ADD` of a knote that exists evaluates its filter again. libkqueue reports no event then.
pub(super) const ADD_EVALUATES_AGAIN: bool = !IS_LIBKQUEUE;

/// The greatest number of kevents in one call, because a batch allocates memory for them.
pub(super) const MAX_CHANGES: usize = if IS_LIBKQUEUE { MAX_RECEIPTS } else { 512 * MAX_KEVENTS };

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

/// Returns the kevents that add a disabled knote.
///
/// libkqueue ignores `EV_DISABLE` in an `EV_ADD`: the knote is enabled, but libkqueue records it as disabled. So there the
/// knote is added enabled, and disabled by a second kevent.
pub(super) fn add_disabled(ident: usize, filter: Filter, token: Token) -> (Kevent, Option<Kevent>) {
    if IS_LIBKQUEUE {
        let add = filters::add(ident, filter, 0, token, TriggerMode::Level);
        return (add, Some(filters::disable(ident, filter, 0, token)));
    }
    (filters::add(ident, filter, 0, token, TriggerMode::Disabled), None)
}
