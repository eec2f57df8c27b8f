//! The meaning of error numbers.

use std::io;

use windows_sys::Win32::Foundation::{
    RtlNtStatusToDosError, ERROR_INVALID_HANDLE, ERROR_NOT_ENOUGH_MEMORY, ERROR_NO_SYSTEM_RESOURCES, ERROR_OUTOFMEMORY,
    ERROR_TOO_MANY_OPEN_FILES, ERROR_WORKING_SET_QUOTA, NTSTATUS,
};
use windows_sys::Win32::Networking::WinSock::{WSAEMFILE, WSAENOBUFS, WSAENOTSOCK};

/// Returns `true` if the system lacks a resource. The call fails again until the resource is freed.
pub(crate) fn is_resource_exhausted(error: &io::Error) -> bool {
    const SYSTEM: [u32; 5] = [
        ERROR_NOT_ENOUGH_MEMORY,
        ERROR_NO_SYSTEM_RESOURCES,
        ERROR_OUTOFMEMORY,
        ERROR_TOO_MANY_OPEN_FILES,
        ERROR_WORKING_SET_QUOTA,
    ];
    error.raw_os_error().is_some_and(|number| {
        [WSAEMFILE, WSAENOBUFS].contains(&number) || SYSTEM.iter().any(|&other| other as i32 == number)
    })
}

/// Returns `true` if the number stands for no handle or socket, or for one that the call does not accept.
pub(crate) fn is_closed_descriptor(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|number| number == WSAENOTSOCK || number == ERROR_INVALID_HANDLE as i32)
}

/// Converts a status of the kernel to the error that Win32 functions return.
pub(crate) fn nt_error(status: NTSTATUS) -> io::Error {
    // SAFETY: the call has no pointers.
    io::Error::from_raw_os_error(unsafe { RtlNtStatusToDosError(status) } as i32)
}

#[cold]
pub(crate) fn would_block() -> io::Error {
    io::ErrorKind::WouldBlock.into()
}
