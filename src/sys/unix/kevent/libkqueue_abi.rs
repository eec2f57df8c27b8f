//! The binding of libkqueue 2.6 and later, a kqueue in user space for Linux, from its `<kqueue/sys/event.h>`.
//!
//! The constants of this file are the exceptions that a caller of kevent(2) makes for libkqueue. Every kernel has the other
//! value. The exceptions that the backend makes are in `kqueue/libkqueue.rs`.

const IS_LIBKQUEUE: bool = cfg!(links_libkqueue);

/// The greatest number of receipts that one call returns: libkqueue has space for 512.
pub(crate) const MAX_RECEIPTS: usize = if IS_LIBKQUEUE { 512 } else { i32::MAX as usize };

/// `true` if a call that has written a receipt returns without waiting. libkqueue waits until the timeout.
pub(super) const RECEIPT_ENDS_CALL: bool = !IS_LIBKQUEUE;

/// The number of the filter that passes libkqueue the address of a function or of a text. No kernel has a filter that takes
/// pointers.
pub(super) const POINTER_FILTER: Option<i64> = if IS_LIBKQUEUE { Some(-12) } else { None };

/// The record: FreeBSD's, without FreeBSD's `ext`.
#[cfg(links_libkqueue)]
#[allow(non_camel_case_types)] // The name in C.
#[derive(Copy, Clone)]
#[repr(C)]
pub(super) struct kevent {
    pub(super) ident: usize,
    pub(super) filter: i16,
    pub(super) flags: u16,
    pub(super) fflags: u32,
    pub(super) data: isize,
    pub(super) udata: *mut libc::c_void,
}

#[cfg(links_libkqueue)]
#[link(name = "kqueue")]
extern "C" {
    pub(super) fn kqueue() -> libc::c_int;
    pub(super) fn kevent(
        kq: libc::c_int,
        changelist: *const kevent,
        nchanges: libc::c_int,
        eventlist: *mut kevent,
        nevents: libc::c_int,
        timeout: *const libc::timespec,
    ) -> libc::c_int;
}
