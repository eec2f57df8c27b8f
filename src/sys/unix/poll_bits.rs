//! What the bits of epoll(7) and poll(2) mean. Both say the same, the one in 32 bits and the other in 16.
#![allow(dead_code)] // kqueue speaks another language.

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

/// A record of a token and such bits.
pub(crate) trait PollBits: Clone {
    /// The peer has shut down writing. The one bit whose number epoll and poll do not always share, and that poll(2)
    /// does not have everywhere; 0 where there is none.
    const RDHUP: u32;
    const NAME: &'static str;

    fn token(&self) -> Token;
    fn bits(&self) -> u32;

    fn has(&self, bits: u32) -> bool {
        self.bits() & bits != 0
    }

    fn debug(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = FlagNames(self.bits(), &names(Self::RDHUP));
        f.debug_struct(Self::NAME).field("events", &bits).field("token", &self.token().0).finish()
    }
}

/// What each bit is called. The argument is the number of the one that is not the same everywhere.
pub(crate) const fn names(rdhup: u32) -> [(u32, &'static str); 7] {
    [(IN, "IN"), (PRI, "PRI"), (OUT, "OUT"), (ERR, "ERR"), (HUP, "HUP"), (NVAL, "NVAL"), (rdhup, "RDHUP")]
}

impl<T: PollBits + fmt::Debug> EventRecord for T {
    fn token(&self) -> Token {
        PollBits::token(self)
    }

    // A pipe whose writer has gone reports HUP alone. ERR names no direction: with OUT it is reported as writable, as
    // mio does, and a reader that waits for data does not fail. Without OUT (the registration is for reading only, or the
    // pipe is full) readable is what remains. quinn's test `handshake_timeout` shows the difference on UDP.
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

    // HUP is both directions closed; ERR with OUT, or alone, is a pipe without a reader.
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
    struct Bare(u32);

    impl PollBits for Bare {
        const RDHUP: u32 = 0x2000;
        const NAME: &'static str = "bare";

        fn token(&self) -> Token {
            Token(0)
        }

        fn bits(&self) -> u32 {
            self.0
        }
    }

    /// The rows of the truth table in `reference` §6.1, by their bits.
    #[test]
    fn what_each_combination_answers() {
        const RDHUP: u32 = Bare::RDHUP;
        #[rustfmt::skip]
        let table = [
            // bits                          r  w  rc wc e  p     the row
            (IN,                            [1, 0, 0, 0, 0, 0]), // a listener with a connection
            (OUT,                           [0, 1, 0, 0, 0, 0]), // connected and idle
            (IN | OUT,                      [1, 1, 0, 0, 0, 0]), // data
            (IN | OUT | RDHUP,              [1, 1, 1, 0, 0, 0]), // the peer shut down writing
            (IN | RDHUP,                    [1, 0, 1, 0, 0, 0]), // the same, reading only
            (IN | OUT | HUP | RDHUP,        [1, 1, 1, 1, 0, 0]), // both directions shut
            (IN | OUT | ERR | HUP | RDHUP,  [1, 1, 1, 1, 1, 0]), // reset, refused
            (OUT | HUP,                     [1, 1, 1, 1, 0, 0]), // a fresh socket
            (HUP,                           [1, 1, 1, 1, 0, 0]), // a pipe whose writer has gone
            (IN | HUP,                      [1, 1, 1, 1, 0, 0]), // the same with data left
            (OUT | ERR,                     [0, 1, 0, 1, 1, 0]), // a pipe whose reader has gone; a UDP error
            (ERR,                           [1, 1, 0, 1, 1, 0]), // the same, full, or registered for reading only
            (IN | ERR,                      [1, 1, 0, 0, 1, 0]), // a UDP error and a datagram
            (IN | OUT | ERR,                [1, 1, 0, 1, 1, 0]), // the same, registered for both
            (OUT | PRI,                     [1, 1, 0, 0, 0, 1]), // urgent data
        ];
        for (bits, answers) in table {
            let e = Bare(bits);
            let got = [
                e.is_readable(),
                e.is_writable(),
                e.is_read_closed(),
                e.is_write_closed(),
                e.is_error(),
                e.is_priority(),
            ];
            assert_eq!(got.map(u8::from), answers, "{bits:#x}");
        }
    }
}
