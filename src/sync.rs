//! The synchronization types of the state word and of the timer queue. The models in `.ci/models` compile these files with the
//! types of loom instead.

#[cfg(target_has_atomic = "64")]
pub(crate) use std::sync::atomic::AtomicU64;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
pub(crate) use std::sync::{Mutex, MutexGuard};
