//! The readiness of a source, as an event reports it.

use std::ops::{BitAnd, BitOr, Not};

use crate::interest::Interest;

/// A set of the states that an event reports.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Readiness(u32);

impl Readiness {
    pub(crate) const EMPTY: Readiness = Readiness(0);
    pub(crate) const READABLE: Readiness = Readiness(1);
    pub(crate) const WRITABLE: Readiness = Readiness(2);
    pub(crate) const PRIORITY: Readiness = Readiness(4);
    pub(crate) const READ_CLOSED: Readiness = Readiness(8);
    pub(crate) const WRITE_CLOSED: Readiness = Readiness(16);
    pub(crate) const ERROR: Readiness = Readiness(32);

    pub(crate) const NAMES: [(u32, &'static str); 6] = [
        (Readiness::READABLE.0, "READABLE"),
        (Readiness::WRITABLE.0, "WRITABLE"),
        (Readiness::PRIORITY.0, "PRIORITY"),
        (Readiness::READ_CLOSED.0, "READ_CLOSED"),
        (Readiness::WRITE_CLOSED.0, "WRITE_CLOSED"),
        (Readiness::ERROR.0, "ERROR"),
    ];

    pub(crate) const fn or(self, other: Readiness) -> Readiness {
        Readiness(self.0 | other.0)
    }

    pub(crate) const fn bits(self) -> u32 {
        self.0
    }

    pub(crate) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns `true` if the sets have a state in common.
    pub(crate) const fn has(self, other: Readiness) -> bool {
        self.0 & other.0 != 0
    }

    /// Returns the states of a source that a registration with this interest reports.
    pub(crate) fn of_interest(interest: Interest) -> Readiness {
        let mut states = Readiness::EMPTY;
        if interest.is_readable() {
            states = states.or(Readiness::READABLE).or(Readiness::READ_CLOSED);
        }
        if interest.is_writable() {
            states = states.or(Readiness::WRITABLE).or(Readiness::WRITE_CLOSED);
        }
        if interest.is_priority() {
            states = states.or(Readiness::PRIORITY);
        }
        match interest.is_none() {
            true => Readiness::EMPTY,
            false => states.or(Readiness::ERROR),
        }
    }
}

impl BitOr for Readiness {
    type Output = Readiness;

    fn bitor(self, other: Readiness) -> Readiness {
        self.or(other)
    }
}

impl BitAnd for Readiness {
    type Output = Readiness;

    fn bitand(self, other: Readiness) -> Readiness {
        Readiness(self.0 & other.0)
    }
}

impl Not for Readiness {
    type Output = Readiness;

    fn not(self) -> Readiness {
        Readiness(!self.0)
    }
}
