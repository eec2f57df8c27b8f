//! The meaning of the bits of epoll(7) and poll(2). The bits have the same numbers, in 32 bits for epoll and 16 for poll.
#![allow(dead_code)] // Unused with the kqueue backend.

use std::fmt;

use libc::{POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI};

use crate::flag_set::FlagNames;
use crate::sys::selector::EventRecord;
use crate::token::Token;

pub(crate) const IN: u32 = POLLIN as u32;
pub(crate) const PRI: u32 = POLLPRI as u32;
pub(crate) const OUT: u32 = POLLOUT as u32;
pub(crate) const ERR: u32 = POLLERR as u32;
pub(crate) const HUP: u32 = POLLHUP as u32;
pub(crate) const NVAL: u32 = POLLNVAL as u32;

/// A record with a token and bits.
pub(crate) trait PollBits: Clone {
    /// The bit for a peer that has shut down writing, or 0 if the system has no such bit.
    ///
    /// Only the number of this bit may differ between epoll and poll, and only this bit is missing on some systems.
    const RDHUP: u32;
    const NAME: &'static str;

    fn token(&self) -> Token;
    fn bits(&self) -> u32;
    /// Returns a record with `IN`.
    fn readable(token: Token) -> Self;
    /// Returns the record of a timer, with `IN`.
    fn of_timer(token: Token, setting: u32) -> Self;
    fn timer_setting(&self) -> Option<u32>;

    fn has(&self, bits: u32) -> bool {
        self.bits() & bits != 0
    }

    fn debug(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = FlagNames(self.bits(), &names(Self::RDHUP));
        f.debug_struct(Self::NAME).field("events", &bits).field("token", &self.token().0).finish()
    }
}

/// Returns the name of each bit. `rdhup` is the number of `RDHUP`, which differs between systems.
pub(crate) const fn names(rdhup: u32) -> [(u32, &'static str); 7] {
    [(IN, "IN"), (PRI, "PRI"), (OUT, "OUT"), (ERR, "ERR"), (HUP, "HUP"), (NVAL, "NVAL"), (rdhup, "RDHUP")]
}

impl<T: PollBits + fmt::Debug> EventRecord for T {
    fn of_waker(token: Token) -> T {
        T::readable(token)
    }

    fn of_timer(token: Token, setting: u32, _: u64) -> T {
        PollBits::of_timer(token, setting)
    }

    fn timer_setting(&self) -> Option<u32> {
        PollBits::timer_setting(self)
    }

    fn token(&self) -> Token {
        PollBits::token(self)
    }

    // A pipe without a writer has HUP alone. ERR names no direction. ERR with OUT is writable, as in mio, so that a reader
    // that waits for data does not fail. ERR without OUT is readable: the registration is for reading only, or the pipe is
    // full. quinn's test `handshake_timeout` shows the difference on UDP.
    fn is_readable(&self) -> bool {
        self.has(IN | PRI | HUP | T::RDHUP) || (self.has(ERR) && !self.has(OUT))
    }

    fn is_writable(&self) -> bool {
        self.has(OUT | HUP | ERR)
    }

    fn is_error(&self) -> bool {
        self.has(ERR)
    }

    fn is_read_closed(&self) -> bool {
        self.has(HUP | T::RDHUP)
    }

    // HUP means that both directions are closed. ERR alone, or with OUT, is a pipe without a reader.
    fn is_write_closed(&self) -> bool {
        self.has(HUP) || (self.has(ERR) && (self.has(OUT) || self.bits() == ERR))
    }

    fn is_priority(&self) -> bool {
        self.has(PRI)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug)]
    struct TestEvent(u32);

    impl PollBits for TestEvent {
        const RDHUP: u32 = 0x2000;
        const NAME: &'static str = "test_event";

        fn token(&self) -> Token {
            Token(0)
        }

        fn bits(&self) -> u32 {
            self.0
        }

        fn readable(_: Token) -> TestEvent {
            TestEvent(IN)
        }

        fn of_timer(_: Token, _: u32) -> TestEvent {
            TestEvent(IN)
        }

        fn timer_setting(&self) -> Option<u32> {
            None
        }
    }

    /// The states of descriptors by their bits, as Linux returns them.
    #[test]
    fn each_combination_of_bits_has_its_readiness() {
        const RDHUP: u32 = TestEvent::RDHUP;
        #[rustfmt::skip]
        let table = [
            // bits                          r  w  rc wc e  p     state
            (IN,                            [1, 0, 0, 0, 0, 0]), // a listener with a connection
            (OUT,                           [0, 1, 0, 0, 0, 0]), // connected and idle
            (IN | OUT,                      [1, 1, 0, 0, 0, 0]), // data
            (IN | OUT | RDHUP,              [1, 1, 1, 0, 0, 0]), // the peer shut down writing
            (IN | RDHUP,                    [1, 0, 1, 0, 0, 0]), // the same, reading only
            (IN | OUT | HUP | RDHUP,        [1, 1, 1, 1, 0, 0]), // both directions shut
            (IN | OUT | ERR | HUP | RDHUP,  [1, 1, 1, 1, 1, 0]), // reset, refused
            (OUT | HUP,                     [1, 1, 1, 1, 0, 0]), // a fresh socket
            (HUP,                           [1, 1, 1, 1, 0, 0]), // a pipe without a writer
            (IN | HUP,                      [1, 1, 1, 1, 0, 0]), // the same with data left
            (OUT | ERR,                     [0, 1, 0, 1, 1, 0]), // a pipe without a reader; a UDP error
            (ERR,                           [1, 1, 0, 1, 1, 0]), // the same, full, or registered for reading only
            (IN | ERR,                      [1, 1, 0, 0, 1, 0]), // a UDP error and a datagram
            (IN | OUT | ERR,                [1, 1, 0, 1, 1, 0]), // the same, registered for both
            (OUT | PRI,                     [1, 1, 0, 0, 0, 1]), // urgent data
        ];
        for (bits, expected) in table {
            let e = TestEvent(bits);
            let got = [
                e.is_readable(),
                e.is_writable(),
                e.is_read_closed(),
                e.is_write_closed(),
                e.is_error(),
                e.is_priority(),
            ];
            assert_eq!(got.map(u8::from), expected, "{bits:#x}");
        }
    }
}
