//! Windows: the backend, and the mechanisms of sources.
//!
//! A folder is a backend or a mechanism.

#[cfg(feature = "net")]
pub(crate) mod conversions;
pub(crate) mod errors;
pub(crate) mod fork;
#[cfg(feature = "os-ext")]
pub(crate) mod handle;
pub(crate) mod iocp;
#[cfg(feature = "os-ext")]
pub(crate) mod named_pipe;
pub(crate) mod process;
pub(crate) mod raw_source;
pub(crate) mod signal;
#[cfg(feature = "net")]
pub(crate) mod socket;
pub(crate) mod version;
pub(crate) mod wait;
pub(crate) mod watch;

pub(crate) use self::iocp::IocpSelector as ActiveSelector;
