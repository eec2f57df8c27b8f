//! The handles of the driver AFD of one table.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;

use crate::sys::windows::iocp::afd::Afd;
use crate::sys::windows::iocp::port::Port;

/// The driver keeps the requests of a handle in one list.
const SOCKETS_PER_HANDLE: usize = 32;

/// The number of unused handles that always stay open.
const UNUSED_HANDLES: usize = 32;

/// The handles of the driver.
///
/// Sockets go to the handle with the lowest number that has space, so that the others become unused and are closed. Unused
/// handles stay open up to the number of used ones and [`UNUSED_HANDLES`], so that sockets that come and go do not open and close
/// handles. A request in progress keeps its handle open too.
#[derive(Default)]
pub(super) struct Afds {
    slots: Vec<Slot>,
    /// The numbers of the slots with fewer than 32 sockets.
    vacant: BinaryHeap<Reverse<usize>>,
    /// The number of slots with a socket.
    used: usize,
    /// The number of slots with a handle.
    open: usize,
    /// The numbers of the slots with `is_idle`. The highest is closed first, because the lowest is used first.
    idle: BinaryHeap<usize>,
}

#[derive(Default)]
struct Slot {
    afd: Option<Afd>,
    sockets: usize,
    /// The slot has become unused since its number was put into the list.
    is_idle: bool,
}

impl Afds {
    /// Returns the handle of a number that was assigned, and not released.
    pub(super) fn get(&self, number: usize) -> Option<&Afd> {
        self.slots.get(number).and_then(|slot| slot.afd.as_ref())
    }

    /// Reserves a handle for a socket. Returns its number.
    pub(super) fn assign(&mut self, port: &Port) -> io::Result<usize> {
        let number = match self.vacant.peek() {
            Some(&Reverse(number)) => number,
            None => {
                self.slots.push(Slot::default());
                self.vacant.push(Reverse(self.slots.len() - 1));
                self.slots.len() - 1
            }
        };
        let slot = &mut self.slots[number];
        if slot.afd.is_none() {
            slot.afd = Some(Afd::open(port)?);
            self.open += 1;
        }
        self.used += usize::from(slot.sockets == 0);
        slot.sockets += 1;
        if slot.sockets == SOCKETS_PER_HANDLE {
            self.vacant.pop();
        }
        Ok(number)
    }

    /// Ends the use of a handle by a socket.
    pub(super) fn release(&mut self, number: usize) {
        let slot = &mut self.slots[number];
        if slot.sockets == SOCKETS_PER_HANDLE {
            self.vacant.push(Reverse(number));
        }
        slot.sockets -= 1;
        if slot.sockets == 0 {
            self.used -= 1;
            if !std::mem::replace(&mut slot.is_idle, true) {
                self.idle.push(number);
            }
            self.close_idle();
        }
    }

    fn close_idle(&mut self) {
        while self.open > 2 * self.used + UNUSED_HANDLES {
            let Some(number) = self.idle.pop() else { return };
            let slot = &mut self.slots[number];
            slot.is_idle = false;
            if slot.sockets == 0 {
                slot.afd = None;
                self.open -= 1;
            }
        }
    }

    #[cfg(test)]
    pub(super) fn open_count(&self) -> usize {
        self.slots.iter().filter(|slot| slot.afd.is_some()).count()
    }
}
