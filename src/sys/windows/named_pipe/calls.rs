//! The system calls of a pipe.
//!
//! A call that starts an operation returns `Ok` if a packet follows, also if the operation has ended already. After `Err`, no
//! packet follows.

use std::ffi::OsStr;
use std::io;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr;

use windows_sys::Win32::Foundation::{ERROR_IO_PENDING, ERROR_MORE_DATA, INVALID_HANDLE_VALUE};
use windows_sys::Win32::Storage::FileSystem::{
    GetFileType, ReadFile, WriteFile, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, FILE_TYPE_PIPE,
    PIPE_ACCESS_DUPLEX,
};
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, CreateNamedPipeW, DisconnectNamedPipe, GetNamedPipeInfo, PIPE_READMODE_BYTE, PIPE_TYPE_BYTE,
    PIPE_TYPE_MESSAGE, PIPE_UNLIMITED_INSTANCES, PIPE_WAIT,
};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED};

use crate::sys::error::invalid_input;

/// The size of each buffer of the kernel.
const KERNEL_BUFFER: u32 = 64 * 1024;

/// Creates an instance of a pipe: bytes in both directions. If `is_first`, an instance that exists is an error.
pub(super) fn create(name: &OsStr, is_first: bool) -> io::Result<OwnedHandle> {
    let mut wide: Vec<u16> = name.encode_wide().collect();
    if wide.contains(&0) {
        return Err(invalid_input(format!("the name {name:?} of a pipe contains a zero: choose a name without")));
    }
    wide.push(0);
    let first = if is_first { FILE_FLAG_FIRST_PIPE_INSTANCE } else { 0 };
    // SAFETY: the name ends with a zero. Without attributes, the handle is not inherited.
    let handle = unsafe {
        CreateNamedPipeW(
            wide.as_ptr(),
            PIPE_ACCESS_DUPLEX | FILE_FLAG_OVERLAPPED | first,
            PIPE_TYPE_BYTE | PIPE_READMODE_BYTE | PIPE_WAIT,
            PIPE_UNLIMITED_INSTANCES,
            KERNEL_BUFFER,
            KERNEL_BUFFER,
            0,
            ptr::null(),
        )
    };
    match handle {
        INVALID_HANDLE_VALUE => Err(io::Error::last_os_error()),
        // SAFETY: the handle is new, and has no other owner.
        handle => Ok(unsafe { OwnedHandle::from_raw_handle(handle) }),
    }
}

/// Returns `true` for a pipe that transfers bytes, and `false` for one that transfers messages, and for another file.
pub(super) fn is_byte_pipe(handle: BorrowedHandle<'_>) -> bool {
    let mut flags = 0;
    // SAFETY: the handle is open, and the call writes the first number only.
    let result = unsafe {
        GetNamedPipeInfo(handle.as_raw_handle(), &mut flags, ptr::null_mut(), ptr::null_mut(), ptr::null_mut())
    };
    result != 0 && flags & PIPE_TYPE_MESSAGE == 0
}

/// Returns `true` for a pipe, and `false` for another file, such as a serial port.
pub(super) fn is_pipe(handle: BorrowedHandle<'_>) -> bool {
    // SAFETY: the handle is open.
    unsafe { GetFileType(handle.as_raw_handle()) == FILE_TYPE_PIPE }
}

/// Returns the result of a call that starts an operation. A message that is longer than the buffer is a warning, so that a packet
/// follows.
fn started(result: i32) -> io::Result<()> {
    if result != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match has_number(&error, &[ERROR_IO_PENDING, ERROR_MORE_DATA]) {
        true => Ok(()),
        false => Err(error),
    }
}

/// Returns `true` if the error has one of these numbers.
pub(super) fn has_number(error: &io::Error, numbers: &[u32]) -> bool {
    error.raw_os_error().is_some_and(|number| numbers.contains(&(number as u32)))
}

/// Starts to wait for a client.
///
/// # Safety
///
/// The record stays alive until the packet of the operation, and no other operation uses the record.
pub(super) unsafe fn connect(handle: BorrowedHandle<'_>, overlapped: *mut OVERLAPPED) -> io::Result<()> {
    // SAFETY: as the caller guarantees.
    started(unsafe { ConnectNamedPipe(handle.as_raw_handle(), overlapped) })
}

/// Starts to read at most `len` bytes.
///
/// # Safety
///
/// As for [`connect`]. The buffer has space for `len` bytes, and stays alive until the packet.
pub(super) unsafe fn read(
    handle: BorrowedHandle<'_>,
    buffer: *mut u8,
    len: u32,
    overlapped: *mut OVERLAPPED,
) -> io::Result<()> {
    // SAFETY: as the caller guarantees.
    started(unsafe { ReadFile(handle.as_raw_handle(), buffer.cast(), len, ptr::null_mut(), overlapped) })
}

/// Starts to write `len` bytes.
///
/// # Safety
///
/// As for [`connect`]. The buffer contains `len` bytes, and stays alive and unchanged until the packet.
pub(super) unsafe fn write(
    handle: BorrowedHandle<'_>,
    buffer: *const u8,
    len: u32,
    overlapped: *mut OVERLAPPED,
) -> io::Result<()> {
    // SAFETY: as the caller guarantees.
    started(unsafe { WriteFile(handle.as_raw_handle(), buffer.cast(), len, ptr::null_mut(), overlapped) })
}

/// Disconnects the client of a server.
pub(super) fn disconnect(handle: BorrowedHandle<'_>) -> io::Result<()> {
    // SAFETY: the handle is open.
    match unsafe { DisconnectNamedPipe(handle.as_raw_handle()) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Cancels an operation. The packet follows in any case. If the operation has ended already, the call has no effect.
pub(super) fn cancel(handle: BorrowedHandle<'_>, overlapped: *const OVERLAPPED) {
    // SAFETY: the handle is open, and the kernel only compares the pointer with those of its operations.
    unsafe { CancelIoEx(handle.as_raw_handle(), overlapped) };
}
