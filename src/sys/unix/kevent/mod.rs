//! The binding of kqueue(2) and kevent(2), which is public as `unix::kqueue`. The kqueue backend uses the same code.
//!
//! * `abi.rs`: the record and the functions of each system, with assertions about the layout of the record;
//! * `libkqueue_abi.rs`: the record and the functions of libkqueue, a kqueue in user space for Linux, with its limits;
//! * `constants.rs`: the numbers of filters, flags and notes, one matrix for all systems;
//! * `timer_unit.rs`: the units of a timer's period;
//! * `record.rs`: [`Kevent`], one record;
//! * `call.rs`: the system call kevent(2), and the ways in which this crate uses it;
//! * `queue.rs`: [`Kqueue`], the public handle.
#![allow(dead_code)] // The kqueue backend alone uses a part, and `unix::kqueue` another, which the feature `os-ext` enables.

pub(crate) mod abi;
pub(crate) mod call;
pub(crate) mod constants;
pub(crate) mod libkqueue_abi;
pub(crate) mod queue;
pub(crate) mod record;
pub(crate) mod timer_unit;

#[cfg(feature = "os-ext")]
pub use self::abi::{RawData, RawFilter, RawFlags};
#[cfg(feature = "os-ext")]
pub use self::constants::{Filter, Flags, IoNotes, ProcNotes, TimerNotes, UserNotes, VnodeNotes};
#[cfg(feature = "os-ext")]
pub use self::queue::Kqueue;
#[cfg(feature = "os-ext")]
pub use self::record::Kevent;
#[cfg(feature = "os-ext")]
pub use self::timer_unit::TimerUnit;
