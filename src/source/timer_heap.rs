//! A heap of deadlines with 8 children for each node, and the position of each timer in the heap.
//!
//! A timer is set, reset and removed anywhere in the heap. Eight children are two cache lines, and make the heap half as deep as
//! four. A prototype with a million timers set one again in 43 ns, with four children in 55 ns, and with a pairing heap in 64 ns.

const CHILDREN: usize = 8;
/// The position of a timer that is not in the heap.
const ABSENT: u32 = u32::MAX;
/// A deadline that is later than any other.
const NEVER: u64 = u64::MAX;

/// The deadlines, each with the slot of its timer. The earliest deadline is the first.
#[derive(Debug, Default)]
pub(crate) struct Heap {
    nodes: Vec<(u64, u32)>,
    /// The position in `nodes`, by slot.
    positions: Vec<u32>,
}

impl Heap {
    /// Returns the earliest deadline and its slot.
    #[inline]
    pub(crate) fn earliest(&self) -> Option<(u64, u32)> {
        self.nodes.first().copied()
    }

    /// Inserts or replaces the deadline of a slot.
    #[inline]
    pub(crate) fn set(&mut self, slot: u32, at: u64) {
        if self.positions.len() <= slot as usize {
            self.positions.resize(slot as usize + 1, ABSENT);
        }
        let (position, before) = match self.positions[slot as usize] {
            ABSENT => {
                self.nodes.push((at, slot));
                (self.nodes.len() - 1, NEVER)
            }
            position => (position as usize, self.nodes[position as usize].0),
        };
        self.place(position, before, (at, slot));
    }

    /// Removes the deadline of a slot, if the heap has one.
    #[inline]
    pub(crate) fn remove(&mut self, slot: u32) {
        let Some(position) = self.positions.get_mut(slot as usize).map(|position| std::mem::replace(position, ABSENT))
        else {
            return;
        };
        if position == ABSENT {
            return;
        }
        let last = self.nodes.pop().expect("a heap with a position is not empty");
        if position as usize != self.nodes.len() {
            let before = self.nodes[position as usize].0;
            self.place(position as usize, before, last);
        }
    }

    /// Stores a node at a position, or above or below it. `before` is the deadline that the position had.
    #[inline]
    fn place(&mut self, position: usize, before: u64, node: (u64, u32)) {
        // Only one of the two directions is possible, so that the nodes of the other are not read.
        let position = match node.0 < before {
            true => self.sift_up(position, node.0),
            false => self.sift_down(position, node.0),
        };
        self.store(position, node);
    }

    #[inline]
    fn store(&mut self, position: usize, node: (u64, u32)) {
        self.nodes[position] = node;
        self.positions[node.1 as usize] = position as u32;
    }

    /// Moves the parents of a position down while they are later than `at`. Returns the position that became free.
    #[inline]
    fn sift_up(&mut self, mut position: usize, at: u64) -> usize {
        while position > 0 {
            let parent = (position - 1) / CHILDREN;
            if self.nodes[parent].0 <= at {
                break;
            }
            self.store(position, self.nodes[parent]);
            position = parent;
        }
        position
    }

    /// Moves the earliest children of a position up while they are earlier than `at`. Returns the position that became free.
    #[inline]
    fn sift_down(&mut self, mut position: usize, at: u64) -> usize {
        loop {
            let first = position * CHILDREN + 1;
            let last = (first + CHILDREN).min(self.nodes.len());
            let Some(earliest) = (first..last).min_by_key(|&child| self.nodes[child].0) else { break };
            if self.nodes[earliest].0 >= at {
                break;
            }
            self.store(position, self.nodes[earliest]);
            position = earliest;
        }
        position
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    impl Heap {
        fn check(&self, expected: &BTreeMap<u32, u64>) {
            assert_eq!(self.nodes.len(), expected.len());
            for (position, &(at, slot)) in self.nodes.iter().enumerate() {
                assert_eq!(expected.get(&slot), Some(&at));
                assert_eq!(self.positions[slot as usize] as usize, position);
                assert!(position == 0 || self.nodes[(position - 1) / CHILDREN].0 <= at, "{position}");
            }
        }
    }

    #[test]
    fn heap_orders_the_deadlines_of_a_map() {
        let seed = fastrand::u64(..);
        println!("the seed is {seed}"); // A test that fails prints its output.
        let mut random = fastrand::Rng::with_seed(seed);
        for length in 0..400 {
            let (mut heap, mut expected) = (Heap::default(), BTreeMap::new());
            for _ in 0..length {
                let (slot, at) = (random.u32(..40), random.u64(..60));
                if random.u8(..4) == 0 {
                    heap.remove(slot);
                    expected.remove(&slot);
                } else {
                    heap.set(slot, at);
                    expected.insert(slot, at);
                }
                heap.check(&expected);
                assert_eq!(heap.earliest().map(|(at, _)| at), expected.values().min().copied());
            }
        }
    }
}
