//! An event of epoll.

use std::fmt;

use crate::sys::unix::poll_bits;
use crate::sys::unix::poll_bits::PollBits;
use crate::token::Token;

// `PollBits` decodes the bits of epoll and of poll(2) alike.
const _: () = {
    assert!(libc::EPOLLIN as u32 == poll_bits::IN && libc::EPOLLPRI as u32 == poll_bits::PRI);
    assert!(libc::EPOLLOUT as u32 == poll_bits::OUT);
    assert!(libc::EPOLLERR as u32 == poll_bits::ERR && libc::EPOLLHUP as u32 == poll_bits::HUP);
};

/// A `struct epoll_event`. The struct is packed on x86-64, so that its fields are copied and never borrowed.
#[derive(Copy, Clone)]
#[repr(transparent)]
pub struct EpollEvent(libc::epoll_event);

impl EpollEvent {
    /// Returns the 64 bits that were registered with the descriptor.
    pub(super) fn data(&self) -> u64 {
        self.0.u64
    }
}

impl PollBits for EpollEvent {
    const RDHUP: u32 = libc::EPOLLRDHUP as u32;
    const NAME: &'static str = "epoll_event";

    fn token(&self) -> Token {
        Token(self.0.u64 as usize)
    }

    fn bits(&self) -> u32 {
        self.0.events
    }
}

impl fmt::Debug for EpollEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug(f)
    }
}
