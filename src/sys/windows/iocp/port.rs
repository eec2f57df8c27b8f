//! The completion port.

use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, Weak};
use std::time::Duration;
use std::{fmt, io};

use windows_sys::Win32::Foundation::{INVALID_HANDLE_VALUE, WAIT_TIMEOUT};
use windows_sys::Win32::System::Threading::INFINITE;
use windows_sys::Win32::System::IO::{
    CancelIoEx, CreateIoCompletionPort, GetQueuedCompletionStatusEx, PostQueuedCompletionStatus, OVERLAPPED_ENTRY,
};

use crate::sys::lock::lock_ignoring_poison;
use crate::sys::windows::iocp::packet::PacketHeader;
use crate::sys::windows::iocp::request::Request;

/// The kinds of packets, which are the completion keys.
pub(super) mod key {
    /// A packet without an operation, which ends a wait so that the polling thread reads the table again.
    pub(crate) const INTERRUPT: usize = 0;
    /// The notifier was used.
    pub(crate) const NOTIFY: usize = 1;
    /// A request to AFD has ended.
    pub(crate) const REQUEST: usize = 2;
    /// An operation has ended, whose block begins with a `PacketHeader`.
    pub(crate) const OPERATION: usize = 3;
    /// A packet without an operation: the timeout of a wait may have passed.
    pub(crate) const TIMEOUT: usize = 4;
}

/// The time for which a port that is closed waits for the packets of canceled operations. A test fails if they do not come, also on
/// a loaded machine.
const LONGEST_DRAIN: Duration = Duration::from_secs(if cfg!(test) { 10 } else { 1 });

/// A completion port, and the number of blocks that the kernel holds.
pub(crate) struct Port {
    handle: OwnedHandle,
    in_flight: AtomicUsize,
    /// The handles whose owners are gone, and whose operations may be in progress.
    left: Mutex<Vec<Weak<OwnedHandle>>>,
    #[cfg(test)]
    pub(super) faults: Faults,
}

/// The numbers of the next calls that fail for lack of resources, without being made.
#[cfg(test)]
#[derive(Default)]
pub(super) struct Faults {
    pub(super) starts: AtomicUsize,
    pub(super) waits: AtomicUsize,
}

#[cfg(test)]
impl Faults {
    /// Fails if one of the calls is to fail.
    fn check(calls: &AtomicUsize) -> io::Result<()> {
        use windows_sys::Win32::Foundation::ERROR_NO_SYSTEM_RESOURCES;

        match calls.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)) {
            Ok(_) => Err(io::Error::from_raw_os_error(ERROR_NO_SYSTEM_RESOURCES as i32)),
            Err(_) => Ok(()),
        }
    }
}

impl Port {
    pub(super) fn new() -> io::Result<Port> {
        // With a smaller number the kernel would not give packets to a thread while another thread runs that has polled before.
        const MAX_THREADS: u32 = 1024;
        // SAFETY: without a file, the call makes a new port.
        let handle = unsafe { CreateIoCompletionPort(INVALID_HANDLE_VALUE, ptr::null_mut(), 0, MAX_THREADS) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle is new, and has no other owner.
        let handle = unsafe { OwnedHandle::from_raw_handle(handle) };
        Ok(Port {
            handle,
            in_flight: AtomicUsize::new(0),
            left: Mutex::default(),
            #[cfg(test)]
            faults: Faults::default(),
        })
    }

    /// Binds a handle to the port: the operations of the handle end with a packet of the port. A handle can be bound once, to one
    /// port. The error of another bind is `ERROR_INVALID_PARAMETER`.
    pub(crate) fn associate(&self, handle: BorrowedHandle<'_>) -> io::Result<()> {
        self.associate_with(handle, key::OPERATION)
    }

    pub(super) fn associate_with(&self, handle: BorrowedHandle<'_>, key: usize) -> io::Result<()> {
        // SAFETY: both handles are open.
        let port = unsafe { CreateIoCompletionPort(handle.as_raw_handle(), self.handle.as_raw_handle(), key, 0) };
        match port.is_null() {
            true => Err(io::Error::last_os_error()),
            false => Ok(()),
        }
    }

    /// Starts an operation: counts the block that the kernel holds from now on, and makes the call. If the call fails and thus
    /// makes no packet, the block is not counted, and still belongs to the caller. The error `ERROR_IO_PENDING` is not a failure
    /// for this purpose: `start` must return `Ok` for it.
    pub(crate) fn start<T>(&self, start: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        #[cfg(test)]
        Faults::check(&self.faults.starts)?;
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        let result = start();
        if result.is_err() {
            self.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        result
    }

    /// Returns the number of blocks that the kernel holds.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Records that the block of a packet has returned.
    pub(super) fn end_operation(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    /// Cancels the operations of this handle when the port is closed, if the handle is open then. Its owner is gone.
    #[cfg(feature = "os-ext")]
    pub(crate) fn cancel_when_closed(&self, handle: Weak<OwnedHandle>) {
        let mut left = lock_ignoring_poison(&self.left);
        if left.len() == left.capacity() {
            left.retain(|handle| handle.strong_count() > 0);
        }
        left.push(handle);
    }

    /// Appends a packet without an operation.
    pub(super) fn post(&self, key: usize) -> io::Result<()> {
        // SAFETY: the port is open, and the packet has no block.
        match unsafe { PostQueuedCompletionStatus(self.handle.as_raw_handle(), 0, key, ptr::null()) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }

    /// Replaces `packets` by at most `max` packets. Waits until there is a packet, or until `timeout` has passed, which the
    /// kernel counts in milliseconds.
    pub(super) fn dequeue(
        &self,
        packets: &mut Vec<OVERLAPPED_ENTRY>,
        max: usize,
        timeout: Option<Duration>,
    ) -> io::Result<()> {
        packets.clear();
        #[cfg(test)]
        Faults::check(&self.faults.waits)?;
        packets.reserve(max);
        let milliseconds = timeout.map_or(INFINITE, |timeout| {
            let rounded_up = (timeout.as_nanos() + 999_999) / 1_000_000;
            u32::try_from(rounded_up).unwrap_or(INFINITE - 1).min(INFINITE - 1)
        });
        let mut len = 0;
        // SAFETY: the array has space for `max` records, and the kernel writes the number of records to `len`.
        let result = unsafe {
            GetQueuedCompletionStatusEx(
                self.handle.as_raw_handle(),
                packets.as_mut_ptr(),
                u32::try_from(max).unwrap_or(u32::MAX),
                &mut len,
                milliseconds,
                0,
            )
        };
        if result == 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(WAIT_TIMEOUT as i32) { Ok(()) } else { Err(error) };
        }
        // SAFETY: the kernel has written `len` records, and `len` is at most `max`.
        unsafe { packets.set_len(len as usize) };
        Ok(())
    }

    /// Runs the functions of the operations among the packets. The caller holds no lock.
    pub(super) fn complete_operations(&self, packets: &[OVERLAPPED_ENTRY]) {
        for packet in packets.iter().filter(|packet| packet.lpCompletionKey == key::OPERATION) {
            self.end_operation();
            // SAFETY: the key is that of operations with a header, and the packet was removed just now.
            unsafe { PacketHeader::complete_packet(packet) };
        }
    }
}

/// Waits until the kernel has returned every block. The owners of the blocks have canceled their operations before.
impl Drop for Port {
    fn drop(&mut self) {
        for handle in lock_ignoring_poison(&self.left).iter().filter_map(Weak::upgrade) {
            // SAFETY: the handle is open. Without a record, the call cancels all operations of the handle.
            unsafe { CancelIoEx(handle.as_raw_handle(), ptr::null()) };
        }
        let mut packets = Vec::new();
        while *self.in_flight.get_mut() > 0 {
            match self.dequeue(&mut packets, 64, Some(LONGEST_DRAIN)) {
                Ok(()) if !packets.is_empty() => {}
                // The kernel keeps the blocks, so that they must stay allocated.
                result => {
                    let is_expected = !cfg!(test) || std::thread::panicking();
                    assert!(is_expected, "{} blocks did not return: {result:?}", self.in_flight());
                    return;
                }
            }
            for packet in packets.iter().filter(|packet| packet.lpCompletionKey == key::REQUEST) {
                self.end_operation();
                // SAFETY: the key is that of requests, and the packet was removed just now.
                drop(unsafe { Request::from_packet(packet) });
            }
            self.complete_operations(&packets);
        }
    }
}

impl fmt::Debug for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port").field("in_flight", &self.in_flight()).finish_non_exhaustive()
    }
}
