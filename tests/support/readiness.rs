//! The readiness that events report for one token.

use std::fmt;
use std::ops::{BitAnd, BitAndAssign, BitOr, BitOrAssign, Not, Sub};

/// A set of kinds of readiness.
#[derive(Copy, Clone, Default, PartialEq, Eq)]
pub struct ReadinessSet(u8);

pub const NONE: ReadinessSet = ReadinessSet(0);
/// Readable.
pub const R: ReadinessSet = ReadinessSet(1);
/// Writable.
pub const W: ReadinessSet = ReadinessSet(2);
/// Closed for reading: a hint.
pub const RC: ReadinessSet = ReadinessSet(4);
/// Closed for writing: a hint.
pub const WC: ReadinessSet = ReadinessSet(8);
/// An error: a hint.
pub const E: ReadinessSet = ReadinessSet(16);
/// Urgent data.
pub const P: ReadinessSet = ReadinessSet(32);

impl ReadinessSet {
    /// Returns the set for the results of `is_readable`, `is_writable`, `is_read_closed`, `is_write_closed`, `is_error`,
    /// `is_priority`.
    pub fn of(results: [bool; 6]) -> ReadinessSet {
        let bits = results.into_iter().enumerate();
        ReadinessSet(bits.fold(0, |bits, (index, result)| bits | u8::from(result) << index))
    }

    pub fn has(self, other: ReadinessSet) -> bool {
        self & other == other
    }

    pub fn has_any(self, other: ReadinessSet) -> bool {
        self & other != NONE
    }
}

impl BitOr for ReadinessSet {
    type Output = ReadinessSet;

    fn bitor(self, other: ReadinessSet) -> ReadinessSet {
        ReadinessSet(self.0 | other.0)
    }
}

impl BitOrAssign for ReadinessSet {
    fn bitor_assign(&mut self, other: ReadinessSet) {
        *self = *self | other;
    }
}

impl BitAnd for ReadinessSet {
    type Output = ReadinessSet;

    fn bitand(self, other: ReadinessSet) -> ReadinessSet {
        ReadinessSet(self.0 & other.0)
    }
}

impl BitAndAssign for ReadinessSet {
    fn bitand_assign(&mut self, other: ReadinessSet) {
        *self = *self & other;
    }
}

impl Not for ReadinessSet {
    type Output = ReadinessSet;

    fn not(self) -> ReadinessSet {
        ReadinessSet(!self.0)
    }
}

impl Sub for ReadinessSet {
    type Output = ReadinessSet;

    fn sub(self, other: ReadinessSet) -> ReadinessSet {
        ReadinessSet(self.0 & !other.0)
    }
}

impl fmt::Debug for ReadinessSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [(R, "r"), (W, "w"), (RC, "rc"), (WC, "wc"), (E, "e"), (P, "p")];
        let reported: Vec<_> = names.into_iter().filter(|(kind, _)| self.has(*kind)).map(|(_, name)| name).collect();
        write!(f, "[{}]", reported.join(" "))
    }
}
