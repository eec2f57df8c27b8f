//! The system calls kqueue(2) and kevent(2).
//!
//! This module is for programs that make these calls themselves. The portable way to wait is a [`Poll`](crate::Poll).
//!
//! The module exists if the system has kqueue, for every backend of kevio. On Linux the module exists with libkqueue
//! (`kevio_backend="kqueue"`). The record, the flags and the call are those of the system: see
//! <https://man.freebsd.org/kqueue/2>. The module adds names and types, and checks that make the calls safe.
//!
//! The numbers of all constants come from the crate `libc`, which takes them from the `<sys/event.h>` of each system. The
//! numbers of libkqueue are those of its `<kqueue/sys/event.h>`. The page of each constant has the C name, and the number on
//! each system.
//!
//! # Where systems differ
//!
//! * Adding a filter that exists updates its notes, `data` and `udata`. The filter stays one-shot or edge-triggered as before.
//!   To change the mode, delete the filter and add it again.
//! * FreeBSD, NetBSD and macOS store the `udata` of every change, so pass the `udata` in every change.
//! * Closing a descriptor removes its filters, without an event. libkqueue does not detect the close. Delete the filters there
//!   before you close the descriptor.
//! * NetBSD does not disable a filter that has both `CLEAR` and `DISPATCH`.
//! * libkqueue returns at most 512 receipts in a call. If a change fails, libkqueue waits all the same, and drops the receipt
//!   if no event arrives. Therefore call [`apply`](Kqueue::apply) and then [`wait`](Kqueue::wait) there.

use std::any::Any;

use crate::event::Event;

pub use crate::sys::unix::kevent::{
    Filter, Flags, IoNotes, Kevent, Kqueue, ProcNotes, RawData, RawFilter, RawFlags, TimerNotes, TimerUnit, UserNotes,
    VnodeNotes,
};

/// Access to the kqueue record of an [`Event`], which has details that other backends do not have.
///
/// Only [`Event`] implements the trait. The method makes no system call.
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
    /// such as the number of bytes in `data`, come from the kernel.
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
