//! The block of a request to AFD.

use std::cell::UnsafeCell;
use std::mem;
use std::os::windows::io::{OwnedHandle, RawSocket};
use std::sync::Arc;

use windows_sys::Win32::Foundation::{HANDLE, NTSTATUS, STATUS_CANCELLED};
use windows_sys::Win32::System::IO::{IO_STATUS_BLOCK, OVERLAPPED_ENTRY};

use crate::sys::windows::iocp::bits;
use crate::sys::windows::iocp::entry_key::EntryKey;

/// `AFD_POLL_INFO` with one socket.
#[repr(C)]
#[derive(Copy, Clone)]
pub(super) struct PollInfo {
    pub(super) timeout: i64,
    pub(super) handle_count: u32,
    pub(super) is_exclusive: u32,
    pub(super) handle: HANDLE,
    pub(super) events: u32,
    pub(super) status: NTSTATUS,
}

/// A request that the kernel holds while it is in progress.
#[repr(C)]
pub(super) struct Request {
    /// The first field, because its address is the name of the request for `CancelIoEx`, and is in the packet.
    pub(super) status: UnsafeCell<IO_STATUS_BLOCK>,
    pub(super) info: UnsafeCell<PollInfo>,
    pub(super) key: EntryKey,
    /// The socket, whose entry may have been removed.
    pub(super) socket: RawSocket,
    /// The handle of the driver, which stays open until the request has ended.
    pub(super) afd: Option<Arc<OwnedHandle>>,
}

// SAFETY: the pointers are handles, which are valid in every thread, and only the owner of the block uses its cells.
unsafe impl Send for Request {}

impl Default for Request {
    fn default() -> Request {
        // SAFETY: the fields consist of numbers and pointers. Zeroes are a value of each, and `None` for the handle.
        unsafe { mem::zeroed() }
    }
}

impl Request {
    /// Returns the request of a packet.
    ///
    /// # Safety
    ///
    /// The packet has the key of requests, and was removed from the port just now.
    pub(super) unsafe fn from_packet(packet: &OVERLAPPED_ENTRY) -> Box<Request> {
        // SAFETY: the pointer came from a box (`Afd::request`). The kernel has returned the block with its only packet.
        unsafe { Box::from_raw(packet.lpOverlapped.cast::<Request>()) }
    }

    /// Returns the entry that the request was made for.
    pub(super) fn key(&self) -> EntryKey {
        self.key
    }

    fn status(&mut self) -> NTSTATUS {
        // SAFETY: the kernel has written one of the variants, which is a number.
        unsafe { self.status.get_mut().Anonymous.Status }
    }

    /// Returns `true` if the request has failed, and was not canceled. The next request would fail at once.
    pub(super) fn has_failed(&mut self) -> bool {
        let status = self.status();
        status < 0 && status != STATUS_CANCELLED
    }

    /// Returns the bits that hold. The result is 0 if the request was canceled. A failure is reported as that of a connection.
    pub(super) fn result(&mut self) -> u32 {
        let (status, has_failed) = (self.status(), self.has_failed());
        let info = self.info.get_mut();
        match status {
            STATUS_CANCELLED => 0,
            _ if has_failed => bits::CONNECT_FAIL,
            _ if info.handle_count == 0 => 0,
            _ => info.events,
        }
    }
}

#[cfg(test)]
mod tests {
    use windows_sys::Win32::Foundation::{STATUS_INSUFFICIENT_RESOURCES, STATUS_SUCCESS, STATUS_TIMEOUT};

    use super::*;

    #[test]
    fn result_of_a_request_depends_on_its_status() {
        let result = |status, handle_count| {
            let mut request = Request::default();
            request.status.get_mut().Anonymous.Status = status;
            (request.info.get_mut().handle_count, request.info.get_mut().events) = (handle_count, bits::RECEIVE);
            request.result()
        };
        assert_eq!(result(STATUS_SUCCESS, 1), bits::RECEIVE);
        assert_eq!(result(STATUS_SUCCESS, 0), 0);
        assert_eq!(result(STATUS_TIMEOUT, 0), 0);
        // The block still has the bits of the request.
        assert_eq!(result(STATUS_CANCELLED, 1), 0);
        assert_eq!(result(STATUS_INSUFFICIENT_RESOURCES, 1), bits::CONNECT_FAIL);
    }
}
