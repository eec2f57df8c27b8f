//! Every exception that this backend makes for libkqueue, a kqueue in user space for Linux that serves to test it.
//!
//! No kernel needs any of them. `kevent.rs` has the binding; `tests/suite/libkqueue.rs` lists the faults that have no cure.

use crate::sys::unix::kevent::Kevent;
use crate::sys::unix::kqueue::filters;
use crate::token::Token;

const IS_LIBKQUEUE: bool = cfg!(links_libkqueue);

/// Whether closing a descriptor removes its knotes. libkqueue cannot see a descriptor close (its BUGS.md).
pub(super) const CLOSE_REMOVES_KNOTES: bool = !IS_LIBKQUEUE;

/// Whether `EV_ADD` of a knote that exists evaluates its filter again. libkqueue reports nothing then.
pub(super) const ADD_EVALUATES_AGAIN: bool = !IS_LIBKQUEUE;

/// The number of kevents in one call: a batch needs memory for them. libkqueue has room for 512 receipts.
pub(super) const MAX_CHANGES: usize = if IS_LIBKQUEUE { 512 } else { 512 * crate::sys::unix::kqueue::MAX_KEVENTS };

/// The kevents that add a disabled knote. libkqueue adds a disabled knote enabled, and takes it for disabled from then on.
pub(super) fn add_disabled(
    ident: usize,
    filter: crate::sys::unix::kqueue::Filter,
    token: Token,
) -> (Kevent, Option<Kevent>) {
    if IS_LIBKQUEUE {
        let add = filters::add(ident, filter, 0, token, crate::sys::unix::kqueue::TriggerMode::Level);
        return (add, Some(filters::disable(ident, filter, 0, token)));
    }
    (filters::add(ident, filter, 0, token, crate::sys::unix::kqueue::TriggerMode::Disabled), None)
}
