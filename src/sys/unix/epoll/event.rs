//! An event of epoll.

use std::{fmt, mem};

use crate::sys::selector::{InternalEvents, TIMER_SETTINGS};
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

/// The bit of a timer's record. The other bits are its setting. The kernel never returns `EPOLLET` in a record.
const TIMER: u32 = libc::EPOLLET as u32;
const _: () = assert!(TIMER == TIMER_SETTINGS);

/// The data of a record that is not for the program: the address of a static, which no program uses as a token.
///
/// On systems with addresses of 32 bits, bit 63 is set too, which exceeds every token.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Internal {
    Trial,
    Notifier,
    Alarm,
    Changes,
}

impl Internal {
    #[inline]
    pub(super) fn data(self) -> u64 {
        static MARKS: [u8; 4] = [0; 4];
        std::ptr::addr_of!(MARKS[self as usize]) as u64 | u64::from(usize::BITS < u64::BITS) << 63
    }
}

/// Removes the records of the notifier, the alarm and the queue of file changes.
#[inline]
pub(super) fn take_internal(events: &mut Vec<EpollEvent>) -> InternalEvents {
    let [notifier, alarm, changes] = [Internal::Notifier, Internal::Alarm, Internal::Changes].map(Internal::data);
    let is_internal = |event: &EpollEvent| [notifier, alarm, changes].contains(&event.data());
    let mut taken = InternalEvents::default();
    if events.iter().any(is_internal) {
        events.retain(|event| {
            taken.is_notified |= event.data() == notifier;
            taken.has_alarm |= event.data() == alarm;
            taken.has_changes |= event.data() == changes;
            !is_internal(event)
        });
    }
    taken
}

impl EpollEvent {
    fn new(bits: u32, token: Token) -> EpollEvent {
        // SAFETY: the fields are integers, and on Redox padding. Zeroes are a value of each.
        let mut event: libc::epoll_event = unsafe { mem::zeroed() };
        (event.events, event.u64) = (bits, token.0 as u64);
        EpollEvent(event)
    }

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
        if self.0.events & TIMER == 0 {
            self.0.events
        } else {
            poll_bits::IN
        }
    }

    fn readable(token: Token) -> EpollEvent {
        EpollEvent::new(poll_bits::IN, token)
    }

    fn of_timer(token: Token, setting: u32) -> EpollEvent {
        EpollEvent::new(TIMER | setting, token)
    }

    fn timer_setting(&self) -> Option<u32> {
        let bits = self.0.events;
        (bits & TIMER != 0).then_some(bits & !TIMER)
    }
}

impl fmt::Debug for EpollEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug(f)
    }
}
