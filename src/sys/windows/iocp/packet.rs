//! The block of memory that the kernel holds during an operation.

use std::cell::UnsafeCell;
use std::ptr::NonNull;

use windows_sys::Win32::System::IO::{OVERLAPPED, OVERLAPPED_ENTRY};

/// The beginning of the block of an overlapped operation.
///
/// The block begins with this header (`#[repr(C)]`), and is in a box. [`Port::start`](super::port::Port::start) gives the block
/// to the kernel. When the operation has ended, the polling thread removes its packet from the port, and calls `complete`, which
/// owns the block again.
#[repr(C)]
pub(crate) struct PacketHeader {
    overlapped: UnsafeCell<OVERLAPPED>,
    complete: unsafe fn(NonNull<PacketHeader>, &OVERLAPPED_ENTRY),
}

impl PacketHeader {
    /// Creates the header of an operation. `complete` receives the pointer that was given to the kernel. Its caller holds no
    /// lock, and calls the function once for each operation that was started.
    pub(crate) fn new(complete: unsafe fn(NonNull<PacketHeader>, &OVERLAPPED_ENTRY)) -> PacketHeader {
        // SAFETY: the record consists of numbers and pointers. Zeroes are a value of each.
        PacketHeader { overlapped: UnsafeCell::new(unsafe { std::mem::zeroed() }), complete }
    }

    /// Returns the record for the call that starts the operation, and for `CancelIoEx` and `GetOverlappedResult`.
    pub(crate) fn overlapped(&self) -> *mut OVERLAPPED {
        self.overlapped.get()
    }

    /// Ends the operation of a packet.
    ///
    /// # Safety
    ///
    /// The packet belongs to an operation whose block begins with a header, and was removed from the port just now.
    pub(super) unsafe fn complete_packet(packet: &OVERLAPPED_ENTRY) {
        let Some(header) = NonNull::new(packet.lpOverlapped.cast::<PacketHeader>()) else { return };
        // SAFETY: the record is the first field of the header, and the block is alive until `complete` owns it.
        let complete = unsafe { header.as_ref() }.complete;
        // SAFETY: this is the only packet of the operation.
        unsafe { complete(header, packet) };
    }
}
