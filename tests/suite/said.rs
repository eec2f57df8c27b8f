//! What events have said of one token. Shared with the tests of the engines in `src/sys/conformance`.

use std::fmt;
use std::ops::{BitAnd, BitOr, BitOrAssign, Sub};

/// A set of answers.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub struct Said(u8);

pub const NOTHING: Said = Said(0);
/// Readable.
pub const R: Said = Said(1);
/// Writable.
pub const W: Said = Said(2);
/// Closed for reading, a hint.
pub const RC: Said = Said(4);
/// Closed for writing, a hint.
pub const WC: Said = Said(8);
/// An error, a hint.
pub const E: Said = Said(16);
/// Urgent data.
pub const P: Said = Said(32);

impl Said {
    /// Of the answers to `is_readable`, `is_writable`, `is_read_closed`, `is_write_closed`, `is_error`, `is_priority`.
    pub fn of(answers: [bool; 6]) -> Said {
        let bits = answers.into_iter().enumerate();
        Said(bits.fold(0, |bits, (place, answer)| bits | u8::from(answer) << place))
    }

    pub fn has(self, other: Said) -> bool {
        self & other == other
    }

    pub fn has_any(self, other: Said) -> bool {
        self & other != NOTHING
    }
}

impl BitOr for Said {
    type Output = Said;

    fn bitor(self, other: Said) -> Said {
        Said(self.0 | other.0)
    }
}

impl BitOrAssign for Said {
    fn bitor_assign(&mut self, other: Said) {
        *self = *self | other;
    }
}

impl BitAnd for Said {
    type Output = Said;

    fn bitand(self, other: Said) -> Said {
        Said(self.0 & other.0)
    }
}

impl Sub for Said {
    type Output = Said;

    fn sub(self, other: Said) -> Said {
        Said(self.0 & !other.0)
    }
}

impl fmt::Debug for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(R, "r"), (W, "w"), (RC, "rc"), (WC, "wc"), (E, "e"), (P, "p")];
        let said: Vec<_> = names.into_iter().filter(|(one, _)| self.has(*one)).map(|(_, name)| name).collect();
        write!(f, "[{}]", said.join(" "))
    }
}
