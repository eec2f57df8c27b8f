//! The driver AFD: its handles, and requests for the readiness of a socket.
//!
//! Windows does not document the driver. The declarations are those of ReactOS (`sdk/include/reactos/drivers/afd`), and programs
//! rely on them: wepoll, libuv, mio, Go.

use std::mem;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle, RawSocket};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::{fmt, io};

use windows_sys::Wdk::Foundation::OBJECT_ATTRIBUTES;
use windows_sys::Wdk::Storage::FileSystem::{NtCreateFile, FILE_OPEN};
use windows_sys::Wdk::System::IO::NtDeviceIoControlFile;
use windows_sys::Win32::Foundation::{HANDLE, NTSTATUS, STATUS_PENDING, UNICODE_STRING};
use windows_sys::Win32::Networking::WinSock::{
    getsockopt, WSAGetLastError, WSAIoctl, SIO_BASE_HANDLE, SIO_BSP_HANDLE_POLL, SOCKET_ERROR, SOL_SOCKET,
    SO_ACCEPTCONN, SO_TYPE,
};
use windows_sys::Win32::Storage::FileSystem::{
    SetFileCompletionNotificationModes, FILE_SHARE_READ, FILE_SHARE_WRITE, SYNCHRONIZE,
};
use windows_sys::Win32::System::IO::{CancelIoEx, IO_STATUS_BLOCK, OVERLAPPED};

use crate::sys::windows::errors::nt_error;
use crate::sys::windows::iocp::bits;
use crate::sys::windows::iocp::entry_key::EntryKey;
use crate::sys::windows::iocp::port::{key, Port};
use crate::sys::windows::iocp::readiness::Readiness;
use crate::sys::windows::iocp::request::{PollInfo, Request};

/// Returns the readiness that the bits of a result stand for.
pub(super) fn readiness_of(result: u32) -> Readiness {
    const CLOSED: Readiness = Readiness::READ_CLOSED.or(Readiness::WRITE_CLOSED);
    let table = [
        (bits::RECEIVE | bits::ACCEPT, Readiness::READABLE),
        (bits::SEND, Readiness::WRITABLE),
        (bits::RECEIVE_EXPEDITED, Readiness::PRIORITY),
        (bits::DISCONNECT, Readiness::READABLE | Readiness::READ_CLOSED),
        (bits::FAILURE, CLOSED | Readiness::ERROR),
    ];
    let held = table.iter().filter(|(bits, _)| result & bits != 0);
    held.fold(Readiness::EMPTY, |readiness, &(_, states)| readiness | states)
}

/// `IOCTL_AFD_POLL`: function 9 of the driver, with buffered input and output.
const IOCTL_AFD_POLL: u32 = 0x0001_2024;

/// The flag of the same name in `winbase.h`: the end of an operation does not signal the handle.
const FILE_SKIP_SET_EVENT_ON_HANDLE: u8 = 2;

/// The time that does not pass.
const NO_TIMEOUT: i64 = i64::MAX;

/// A request in progress, seen by its entry. The kernel owns the block.
#[derive(Debug)]
pub(super) struct Pending {
    block: NonNull<Request>,
    /// The bits that the request waits for.
    pub(super) bits: u32,
    pub(super) is_canceled: bool,
}

// SAFETY: the pointer is only compared and passed to the kernel. See `Afd::cancel` for its validity.
unsafe impl Send for Pending {}

/// A handle of the driver, which is bound to a port.
pub(super) struct Afd {
    /// A request in progress keeps the handle open.
    handle: Arc<OwnedHandle>,
}

impl Afd {
    /// Opens the driver, and binds the handle to the port.
    pub(super) fn open(port: &Port) -> io::Result<Afd> {
        // The driver ignores the name behind its own, which tools show.
        Afd::open_device(r"\Device\Afd\kevio", port)
    }

    fn open_device(name: &str, port: &Port) -> io::Result<Afd> {
        let mut name: Vec<u16> = name.encode_utf16().collect();
        let len = (name.len() * mem::size_of::<u16>()) as u16;
        let name = UNICODE_STRING { Length: len, MaximumLength: len, Buffer: name.as_mut_ptr() };
        let attributes = OBJECT_ATTRIBUTES {
            Length: mem::size_of::<OBJECT_ATTRIBUTES>() as u32,
            RootDirectory: ptr::null_mut(),
            ObjectName: ptr::addr_of!(name).cast_mut(),
            Attributes: 0,
            SecurityDescriptor: ptr::null_mut(),
            SecurityQualityOfService: ptr::null_mut(),
        };
        let mut handle: HANDLE = ptr::null_mut();
        // SAFETY: the record consists of numbers and pointers. Zeroes are a value of each.
        let mut status: IO_STATUS_BLOCK = unsafe { mem::zeroed() };
        // SAFETY: every pointer is to a local value that outlives the call.
        let result = unsafe {
            NtCreateFile(
                &mut handle,
                SYNCHRONIZE,
                &attributes,
                &mut status,
                ptr::null(),
                0,
                FILE_SHARE_READ | FILE_SHARE_WRITE,
                FILE_OPEN,
                0,
                ptr::null(),
                0,
            )
        };
        if result < 0 {
            return Err(nt_error(result));
        }
        // SAFETY: the handle is new, and has no other owner.
        let afd = Afd { handle: Arc::new(unsafe { OwnedHandle::from_raw_handle(handle) }) };
        port.associate_with(afd.handle.as_handle(), key::REQUEST)?;
        // No thread waits for the handle itself. An error is ignored, because the flag only saves time.
        // SAFETY: the handle is open.
        unsafe { SetFileCompletionNotificationModes(handle, FILE_SKIP_SET_EVENT_ON_HANDLE) };
        Ok(afd)
    }

    /// Makes a request for a socket and its number, with the memory of `block`. The kernel appends a packet to the port when one
    /// of the bits holds, or when the request is canceled.
    ///
    /// # Errors
    ///
    /// Errors of the kernel. Then no packet follows.
    pub(super) fn request(
        &self,
        port: &Port,
        socket: BaseSocket,
        bits: u32,
        key: EntryKey,
        number: RawSocket,
        mut block: Box<Request>,
    ) -> io::Result<Pending> {
        let info = PollInfo {
            timeout: NO_TIMEOUT,
            handle_count: 1,
            is_exclusive: 0,
            handle: socket.0,
            events: bits,
            status: 0,
        };
        block.status.get_mut().Anonymous.Status = STATUS_PENDING;
        (*block.info.get_mut(), block.key, block.socket) = (info, key, number);
        block.afd = Some(Arc::clone(&self.handle));
        let block = NonNull::from(Box::leak(block));
        let started = port.start(|| {
            // SAFETY: the block stays allocated until its packet is removed, or is freed below if no packet follows.
            let (status, info) = unsafe { (block.as_ref().status.get(), block.as_ref().info.get()) };
            let size = mem::size_of::<PollInfo>() as u32;
            // SAFETY: the handle is open. The kernel reads and writes the block, which this function does not use any more.
            let result = unsafe {
                NtDeviceIoControlFile(
                    self.handle.as_raw_handle(),
                    ptr::null_mut(),
                    None,
                    block.as_ptr().cast(),
                    status,
                    IOCTL_AFD_POLL,
                    info.cast(),
                    size,
                    info.cast(),
                    size,
                )
            };
            match has_packet(result) {
                true => Ok(()),
                false => Err(nt_error(result)),
            }
        });
        if let Err(error) = started {
            // SAFETY: the pointer came from a box, and the kernel has not taken the block.
            drop(unsafe { Box::from_raw(block.as_ptr()) });
            return Err(error);
        }
        Ok(Pending { block, bits, is_canceled: false })
    }

    /// Cancels a request, once. Its packet follows. The caller holds the lock under which packets return their blocks, so that
    /// the block of a `Pending` is allocated.
    pub(super) fn cancel(&self, pending: &mut Pending) {
        if mem::replace(&mut pending.is_canceled, true) {
            return;
        }
        let name = pending.block.as_ptr().cast::<OVERLAPPED>();
        // The call fails if the request has ended, and its packet is in the port.
        // SAFETY: the handle is open. The kernel compares the address, and does not read the block.
        unsafe { CancelIoEx(self.handle.as_raw_handle(), name) };
    }
}

#[cfg(test)]
impl Afd {
    pub(super) fn downgrade(&self) -> std::sync::Weak<OwnedHandle> {
        Arc::downgrade(&self.handle)
    }
}

impl fmt::Debug for Afd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}

/// The handle of a socket that AFD knows.
#[derive(Copy, Clone, Debug)]
pub(super) struct BaseSocket(HANDLE);

// SAFETY: a handle is a number, and is valid in every thread.
unsafe impl Send for BaseSocket {}

impl BaseSocket {
    /// Returns the base socket of a socket. A layered service provider has handles of its own above it. wine returns a base
    /// socket for a number without a socket too.
    pub(super) fn of(socket: RawSocket) -> io::Result<BaseSocket> {
        base_of(socket, handle_of).map(|base| BaseSocket(base as HANDLE))
    }
}

/// Returns the type of a socket: stream or datagram. Fails with `WSAENOTSOCK` if the number is that of no open socket.
pub(super) fn kind_of(socket: RawSocket) -> io::Result<i32> {
    option_of(socket, SO_TYPE)
}

/// Returns `true` if the socket accepts connections.
pub(super) fn is_listener(socket: RawSocket) -> bool {
    option_of(socket, SO_ACCEPTCONN).is_ok_and(|is_listener| is_listener != 0)
}

fn option_of(socket: RawSocket, option: i32) -> io::Result<i32> {
    let (mut value, mut len) = (0_i32, mem::size_of::<i32>() as i32);
    // SAFETY: the pointers are to local values of this size.
    let result = unsafe { getsockopt(socket as _, SOL_SOCKET, option, ptr::addr_of_mut!(value).cast(), &mut len) };
    match result {
        // SAFETY: the call has no pointers.
        SOCKET_ERROR => Err(io::Error::from_raw_os_error(unsafe { WSAGetLastError() })),
        _ => Ok(value),
    }
}

/// Returns the handle of the base socket. `handle_of` returns one of the handles of a socket.
///
/// Some providers refuse `SIO_BASE_HANDLE`. They return the socket of the layer below for `SIO_BSP_HANDLE_POLL`, which select()
/// uses. Such providers can be on top of each other.
fn base_of(socket: RawSocket, handle_of: impl Fn(RawSocket, u32) -> io::Result<RawSocket>) -> io::Result<RawSocket> {
    // Windows limits a chain of providers to 7 (`MAX_PROTOCOL_CHAIN`).
    const LONGEST_CHAIN: usize = 7;
    let first_error = match handle_of(socket, SIO_BASE_HANDLE) {
        Ok(base) => return Ok(base),
        Err(error) => error,
    };
    let mut layer = socket;
    for _ in 1..LONGEST_CHAIN {
        match handle_of(layer, SIO_BSP_HANDLE_POLL) {
            Ok(below) if below != layer => layer = below,
            _ => break,
        }
        if let Ok(base) = handle_of(layer, SIO_BASE_HANDLE) {
            return Ok(base);
        }
    }
    Err(first_error)
}

/// Returns `true` if a packet follows a call with this result: success, pending, and warnings. Only an error has no packet.
fn has_packet(status: NTSTATUS) -> bool {
    const SEVERITY_SHIFT: u32 = 30;
    const ERROR: u32 = 3;
    (status as u32) >> SEVERITY_SHIFT != ERROR
}

/// Calls WSAIoctl() for one of the handles of a socket.
fn handle_of(socket: RawSocket, code: u32) -> io::Result<RawSocket> {
    let (mut handle, mut len): (RawSocket, u32) = (0, 0);
    // SAFETY: the pointers are to local values of these sizes.
    let result = unsafe {
        WSAIoctl(
            socket as _,
            code,
            ptr::null(),
            0,
            ptr::addr_of_mut!(handle).cast(),
            mem::size_of::<RawSocket>() as u32,
            &mut len,
            ptr::null_mut(),
            None,
        )
    };
    match result {
        // SAFETY: the call has no pointers.
        SOCKET_ERROR => Err(io::Error::from_raw_os_error(unsafe { WSAGetLastError() })),
        _ => Ok(handle),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_driver_is_an_error() {
        let port = Port::new().unwrap();
        let error = Afd::open_device(r"\Device\KevioHasNoSuchDriver\kevio", &port).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        Afd::open(&port).unwrap();
    }

    #[test]
    fn base_socket_is_found_below_providers_that_refuse() {
        use windows_sys::Win32::Networking::WinSock::{WSAEINVAL, WSAENOTSOCK};

        let refused = |number| io::Error::from_raw_os_error(number);
        // Sockets 1 to 3 refuse `SIO_BASE_HANDLE`. Socket 4 is the base. Socket 5 has no socket below, and 6 only itself.
        let handle_of = |socket: RawSocket, code| match (socket, code) {
            (4, SIO_BASE_HANDLE) => Ok(4),
            (1..=3, SIO_BSP_HANDLE_POLL) => Ok(socket + 1),
            (6, SIO_BSP_HANDLE_POLL) => Ok(6),
            (7, _) => Err(refused(WSAENOTSOCK)),
            _ => Err(refused(WSAEINVAL)),
        };
        for socket in 1..=4 {
            assert_eq!(base_of(socket, handle_of).unwrap(), 4, "{socket}");
        }
        for (socket, number) in [(5, WSAEINVAL), (6, WSAEINVAL), (7, WSAENOTSOCK)] {
            assert_eq!(base_of(socket, handle_of).unwrap_err().raw_os_error(), Some(number), "{socket}");
        }
        // A chain that ends nowhere.
        let endless = |socket: RawSocket, code| match code {
            SIO_BSP_HANDLE_POLL => Ok(socket + 1),
            _ => Err(refused(WSAEINVAL)),
        };
        assert_eq!(base_of(1, endless).unwrap_err().raw_os_error(), Some(WSAEINVAL));
    }

    #[test]
    fn only_an_error_has_no_packet() {
        use windows_sys::Win32::Foundation::{
            STATUS_BUFFER_OVERFLOW, STATUS_INVALID_HANDLE, STATUS_SUCCESS, STATUS_TIMEOUT,
        };

        for status in [STATUS_SUCCESS, STATUS_PENDING, STATUS_TIMEOUT, STATUS_BUFFER_OVERFLOW] {
            assert!(has_packet(status), "{status:x}");
        }
        assert!(!has_packet(STATUS_INVALID_HANDLE));
    }
}
