//! What a backend registers: a descriptor on Unix, a socket on Windows.

#[cfg(unix)]
pub(crate) use crate::sys::unix::raw_source::*;
#[cfg(windows)]
pub(crate) use crate::sys::windows::raw_source::*;
