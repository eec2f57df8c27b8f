//! The bits that register an interest.

use std::io;

use crate::backend::Backend;
use crate::interest::{Interest, TriggerMode};
use crate::sys::error::unsupported_interest;

/// `EPOLLEXCLUSIVE`, or `None` on systems without the flag.
#[cfg(has_epollexclusive)]
pub(super) const EXCLUSIVE: Option<i32> = Some(libc::EPOLLEXCLUSIVE);
#[cfg(not(has_epollexclusive))]
pub(super) const EXCLUSIVE: Option<i32> = None;

/// Returns the bits of an interest, or `Unsupported`.
#[inline]
pub(super) fn mask(interest: Interest) -> io::Result<u32> {
    if interest.is_aio() || interest.is_lio() {
        return Err(unsupported_interest(Backend::Epoll, interest));
    }
    let mut mask = match interest.mode() {
        TriggerMode::Edge => libc::EPOLLET,
        TriggerMode::OneShot => libc::EPOLLONESHOT,
        TriggerMode::Level | TriggerMode::Disabled => 0,
    };
    if interest.is_readable() {
        mask |= libc::EPOLLIN | libc::EPOLLRDHUP;
    }
    if interest.is_writable() {
        mask |= libc::EPOLLOUT;
    }
    if interest.is_priority() {
        mask |= libc::EPOLLPRI;
    }
    if interest.is_exclusive() {
        let unsupported = || unsupported_interest(Backend::Epoll, interest);
        // The kernel rejects other flags beside `EPOLLEXCLUSIVE`, see epoll_ctl(2).
        mask = mask & !libc::EPOLLRDHUP | EXCLUSIVE.ok_or_else(unsupported)?;
        if interest.is_priority() || interest.is_oneshot() {
            return Err(unsupported());
        }
    }
    Ok(mask as u32)
}
