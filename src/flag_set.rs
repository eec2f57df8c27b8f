//! Typed sets of flags.

use std::fmt;

/// Defines a set of flags that a system call takes and returns. Bits without a name are kept. The caller defines the flags, the
/// table of their names (`NAMES`), and the conversion `as_u32`.
macro_rules! flag_set {
    ($(#[$doc:meta])* pub struct $set:ident($word:ty);) => {
        $(#[$doc])*
        #[derive(Copy, Clone, Default, PartialEq, Eq, Hash)]
        #[repr(transparent)]
        pub struct $set($word);

        impl $set {
            /// Returns the set without flags.
            #[must_use]
            pub const fn empty() -> $set {
                $set(0)
            }

            /// Returns the set of these bits. Bits without a name are kept.
            #[must_use]
            pub const fn from_bits(bits: $word) -> $set {
                $set(bits)
            }

            /// Returns the bits, as the system call defines them.
            #[must_use]
            pub const fn bits(self) -> $word {
                self.0
            }

            /// Returns `true` if the set has no flag.
            #[must_use]
            pub const fn is_empty(self) -> bool {
                self.0 == 0
            }

            /// Returns `true` if the set has all of `flags`.
            #[must_use]
            pub const fn contains(self, flags: $set) -> bool {
                self.0 & flags.0 == flags.0
            }

            /// Returns `true` if the set has any of `flags`.
            #[must_use]
            pub const fn intersects(self, flags: $set) -> bool {
                self.0 & flags.0 != 0
            }
        }

        impl std::ops::BitOr for $set {
            type Output = $set;

            fn bitor(self, other: $set) -> $set {
                $set(self.0 | other.0)
            }
        }

        impl std::ops::BitOrAssign for $set {
            fn bitor_assign(&mut self, other: $set) {
                self.0 |= other.0;
            }
        }

        impl std::ops::BitAnd for $set {
            type Output = $set;

            fn bitand(self, other: $set) -> $set {
                $set(self.0 & other.0)
            }
        }

        /// Returns the flags of the first set that are not in the second.
        impl std::ops::Sub for $set {
            type Output = $set;

            fn sub(self, other: $set) -> $set {
                $set(self.0 & !other.0)
            }
        }

        /// Writes the names of the flags, and the bits without a name in hexadecimal. An empty set has the name of its type.
        impl std::fmt::Debug for $set {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.is_empty() {
                    true => f.write_str(concat!(stringify!($set), "(empty)")),
                    false => $crate::flag_set::FlagNames(self.as_u32(), &Self::NAMES).fmt(f),
                }
            }
        }
    };
}

/// Writes a set of flags by their names, and the bits without a name in hexadecimal. In the table, a name of several bits
/// stands before the names of the single bits.
pub(crate) struct FlagNames<'a>(pub(crate) u32, pub(crate) &'a [(u32, &'a str)]);

impl fmt::Debug for FlagNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unwritten = self.0;
        for (bits, name) in self.1 {
            if *bits != 0 && unwritten & bits == *bits {
                f.write_str(if unwritten == self.0 { "" } else { "|" })?;
                f.write_str(name)?;
                unwritten &= !bits;
            }
        }
        match (unwritten, unwritten == self.0) {
            (0, false) => Ok(()),
            (_, true) => write!(f, "{unwritten:#x}"),
            (_, false) => write!(f, "|{unwritten:#x}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_written_by_name_and_other_bits_in_hexadecimal() {
        const NAMES: &[(u32, &str)] = &[(0x30, "BOTH"), (0x10, "ONE"), (1, "A"), (4, "B"), (0, "NONE")];
        let table = [(0, "0x0"), (1, "A"), (5, "A|B"), (7, "A|B|0x2"), (8, "0x8"), (0x30, "BOTH"), (0x11, "ONE|A")];
        for (bits, text) in table {
            assert_eq!(format!("{:?}", FlagNames(bits, NAMES)), text);
        }
    }
}
