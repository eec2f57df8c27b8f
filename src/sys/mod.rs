//! The systems: the contract of a backend, and the mechanisms of the system that this build is for.
//!
//! A platform is a folder. The folder provides the type `ActiveSelector`, which implements the contract of [`selector`], and the
//! modules that are named below.

#[cfg(test)]
mod conformance;
pub(crate) mod error;
pub(crate) mod lock;
pub(crate) mod notify;
pub(crate) mod raw_source;
pub(crate) mod selector;
pub(crate) mod signal_names;
#[cfg(unix)]
pub(crate) mod unix;
#[cfg(windows)]
pub(crate) mod windows;

#[cfg(all(unix, any(feature = "net", feature = "os-ext")))]
pub(crate) use self::unix::conversions;
#[cfg(all(unix, feature = "net"))]
pub(crate) use self::unix::socket;
#[cfg(unix)]
pub(crate) use self::unix::{
    fork, process, signal,
    syscall::{is_closed_descriptor, is_resource_exhausted},
    watch, ActiveSelector,
};
#[cfg(all(windows, feature = "net"))]
pub(crate) use self::windows::{conversions, socket};
#[cfg(windows)]
pub(crate) use self::windows::{
    errors::{is_closed_descriptor, is_resource_exhausted},
    fork, process, signal, watch, ActiveSelector,
};

pub(crate) type RawEvent = <ActiveSelector as selector::Selector>::Event;
