//! One wait of poll(2), and what it reports.

use std::time::Duration;
use std::{fmt, io};

use libc::{c_short, pollfd};

use crate::sys::unix::poll::call;
use crate::sys::unix::poll_bits::PollBits;
use crate::token::Token;

/// The peer will send no more. Where it does not exist a half-close shows as `POLLIN` alone.
#[cfg(has_pollrdhup)]
pub(super) const POLLRDHUP: c_short = libc::POLLRDHUP;
#[cfg(not(has_pollrdhup))]
pub(super) const POLLRDHUP: c_short = 0;

/// One wait. Some systems say that a table was full for a moment.
#[inline(always)] // Returning after a call of the kernel is dear: see `epoll_ctl` of epoll.
pub(super) fn poll(fds: &mut [pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    match call::poll(fds, timeout, None) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        result => result,
    }
}

/// A token and what poll(2) returned for its descriptor.
#[derive(Copy, Clone)]
pub struct PollEvent {
    pub(super) token: Token,
    pub(super) revents: c_short,
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
}

impl fmt::Debug for PollEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug(f)
    }
}
