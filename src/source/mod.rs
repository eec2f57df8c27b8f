//! Sources that the program does not see as descriptors: timers, signals, processes and file changes.

pub(crate) mod file_changes;
mod kqueue_filter;
pub(crate) mod notification;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod timer;
mod timer_heap;
pub(crate) mod timer_queue;
#[cfg_attr(kevio_selector = "kqueue", allow(dead_code))] // A kqueue has filters in place of it.
pub(crate) mod user_registration;
pub(crate) mod watch;
