//! One wait of the poll(2) backend, and the record of one event.

use std::time::Duration;
use std::{fmt, io};

use libc::{c_short, pollfd};

use crate::sys::unix::poll::call;
use crate::sys::unix::poll_bits::PollBits;
use crate::token::Token;

/// The bit for a peer that has shut down writing, or 0 on systems without the bit. There a half-close sets only `POLLIN`.
#[cfg(has_pollrdhup)]
pub(super) const POLLRDHUP: c_short = libc::POLLRDHUP;
#[cfg(not(has_pollrdhup))]
pub(super) const POLLRDHUP: c_short = 0;

/// Waits once, and returns the number of records with a result. `EAGAIN`, with which some systems report that a kernel
/// table was full for a moment, becomes 0.
#[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
pub(super) fn poll(fds: &mut [pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    match call::poll(fds, timeout, None) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

/// A token, and the bits that poll(2) returned for its descriptor.
#[derive(Copy, Clone)]
pub struct PollEvent {
    pub(super) token: Token,
    pub(super) revents: c_short,
    /// The setting of a timer, or [`NO_TIMER`].
    setting: u32,
}

const NO_TIMER: u32 = u32::MAX;

impl PollEvent {
    pub(super) fn new(token: Token, revents: c_short) -> PollEvent {
        PollEvent { token, revents, setting: NO_TIMER }
    }
}

impl PollBits for PollEvent {
    const RDHUP: u32 = POLLRDHUP as u32;
    const NAME: &'static str = "pollfd";

    fn token(&self) -> Token {
        self.token
    }

    fn bits(&self) -> u32 {
        u32::from(self.revents as u16)
    }

    fn readable(token: Token) -> PollEvent {
        PollEvent::new(token, libc::POLLIN)
    }

    fn of_timer(token: Token, setting: u32) -> PollEvent {
        PollEvent { setting, ..PollEvent::readable(token) }
    }

    fn timer_setting(&self) -> Option<u32> {
        Some(self.setting).filter(|&setting| setting != NO_TIMER)
    }
}

impl fmt::Debug for PollEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug(f)
    }
}
