//! A hash of the numbers of sockets, which costs one multiplication. Windows chooses the numbers, so that no peer can choose numbers
//! with equal hashes.

use std::hash::{BuildHasherDefault, Hasher};

pub(super) type BuildSocketHasher = BuildHasherDefault<SocketHasher>;

#[derive(Default)]
pub(super) struct SocketHasher(u64);

impl Hasher for SocketHasher {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(number.into());
    }

    /// The factor is 2⁶⁴ divided by the golden ratio (Knuth, The Art of Computer Programming, volume 3, 6.4). The numbers are
    /// multiples of four, and the high bits of the product are the best ones. A table uses the low bits and the seven highest.
    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use super::*;

    #[test]
    fn numbers_of_sockets_have_different_low_and_high_bits() {
        const N: u64 = 4096;
        for step in [1, 4, 8, 64, 4096] {
            let hashes: Vec<u64> = (1..=N).map(|number| BuildSocketHasher::default().hash_one(number * step)).collect();
            let low: HashSet<u64> = hashes.iter().map(|hash| hash % N).collect();
            let high: HashSet<u64> = hashes.iter().map(|hash| hash >> 57).collect();
            // Random numbers would have 63 percent of the low values.
            assert!(low.len() as u64 > N / 2, "step {step}: {} of {N} low values", low.len());
            assert!(high.len() > 100, "step {step}: {} of 128 high values", high.len());
        }
    }
}
