//! The system calls kqueue(2) and kevent(2).
//!
//! For programs that want the calls themselves. The module exists where the system has kqueue, and on Linux with libkqueue
//! (`kevio_backend="kqueue"`), whatever the backend. See <https://man.freebsd.org/kqueue/2>. The record, the flags
//! and the call are the system's own. This module adds names, types and the order that makes the call safe. The portable
//! way to wait is a [`Poll`](crate::Poll).
//!
//! The numbers of all constants come from the crate `libc`, which takes them from each system's `<sys/event.h>`.
//! libkqueue's are those of its `<kqueue/sys/event.h>`. The page of each constant has its C name and its number on each
//! system.
//!
//! # Where systems differ
//!
//! * Adding a filter that exists updates its notes, `data` and `udata`. It does not change whether the filter is one-shot or
//!   an edge: delete the filter and add it again. FreeBSD, NetBSD and macOS store the `udata` of every change, so pass it in
//!   every change.
//! * Closing a descriptor removes its filters, without an event. libkqueue does not detect the close: delete the filters
//!   first.
//! * NetBSD does not disable a filter that has both `CLEAR` and `DISPATCH`.
//! * libkqueue takes no more than 512 receipts in a call, and waits even though a change has failed (and drops the receipt
//!   if no event comes). Call [`apply`](Kqueue::apply) and [`wait`](Kqueue::wait) there, in two calls.

use std::any::Any;

use crate::event::Event;

pub use crate::sys::unix::kevent::{
    Filter, Flags, IoNotes, Kevent, Kqueue, ProcNotes, RawData, RawFilter, RawFlags, TimerNotes, TimerUnit, UserNotes,
    VnodeNotes,
};

/// The kqueue record of an [`Event`] of a [`Poll`](crate::Poll), with more detail than every backend has.
///
/// Only [`Event`] implements the trait. The method does no system call.
///
/// ```
/// use kevio::unix::kqueue::{EventExt, Filter};
/// use kevio::{Events, Poll, Token, Waker};
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// let waker = Waker::new(poll.registry(), Token(7))?;
/// waker.wake()?;
/// poll.poll(&mut events, None)?;
/// for event in &events {
///     match event.kevent() {
///         Some(record) => {
///             assert_eq!((record.filter(), record.udata()), (Filter::USER, 7));
///             println!("{} {:?} {:#x} {}", record.ident(), record.flags(), record.fflags(), record.data());
///         }
///         None => assert_ne!(kevio::BACKEND, kevio::Backend::Kqueue),
///     }
/// }
/// # std::io::Result::Ok(())
/// ```
pub trait EventExt: sealed::Sealed {
    /// Returns the record as kevent(2) returned it, with ident, filter, flags, fflags and data. Returns `None` if the polls of
    /// this build are not kqueues ([`BACKEND`](crate::BACKEND)).
    ///
    /// The filters and flags of a registration are an implementation detail of kevio, and may change. The values of a filter,
    /// such as the number of bytes in `data`, are the kernel's.
    fn kevent(&self) -> Option<Kevent>;
}

impl EventExt for Event {
    fn kevent(&self) -> Option<Kevent> {
        (self.record() as &dyn Any).downcast_ref().copied()
    }
}

mod sealed {
    pub trait Sealed {}

    impl Sealed for super::Event {}
}
