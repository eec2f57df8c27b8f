//! The overlapped operations of a named pipe.
//!
//! A pipe has no readiness. Its operations end some time after they were started, with a packet of the completion port. Therefore a
//! pipe *reads ahead*: one read is in progress, into a buffer of the crate, whenever the buffer is empty. The pipe is readable when
//! that read has ended. A write copies its bytes into another buffer, and the pipe is writable again when the kernel has taken
//! them.
//!
//! # Ownership
//!
//! [`Pipe`] belongs to the program, and [`Shared`] is the state. An [`Operation`] in progress belongs to the kernel, and keeps the
//! state and the handle alive. No operation keeps the port alive, because the port waits for the operations when it is closed.
//! Therefore the state has a weak reference to the port, and a dropped pipe takes its registration out of the state.
//!
//! # Locks
//!
//! The lock of a pipe is taken before the lock of the backend's table. A registration is dropped without the lock of the pipe,
//! because dropping may remove packets from the port, and thus end operations of the same pipe.

use std::ffi::OsStr;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::{fmt, io, mem};

use windows_sys::Win32::Foundation::{
    ERROR_BROKEN_PIPE, ERROR_IO_PENDING, ERROR_MORE_DATA, ERROR_NO_DATA, ERROR_PIPE_CONNECTED, ERROR_PIPE_LISTENING,
    ERROR_PIPE_NOT_CONNECTED, INVALID_HANDLE_VALUE,
};
use windows_sys::Win32::Storage::FileSystem::{
    ReadFile, WriteFile, FILE_FLAG_FIRST_PIPE_INSTANCE, FILE_FLAG_OVERLAPPED, PIPE_ACCESS_DUPLEX,
};
use windows_sys::Win32::System::Pipes::{
    ConnectNamedPipe, CreateNamedPipeW, DisconnectNamedPipe, PIPE_TYPE_BYTE, PIPE_UNLIMITED_INSTANCES,
};
use windows_sys::Win32::System::IO::{CancelIoEx, OVERLAPPED_ENTRY};

use crate::interest::Interest;
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::windows::errors::{nt_error, would_block};
use crate::sys::windows::iocp::packet::PacketHeader;
use crate::sys::windows::iocp::port::Port;
use crate::sys::windows::iocp::pushed::PushedRegistration;
use crate::sys::windows::iocp::readiness::Readiness;
use crate::sys::windows::iocp::IocpSelector;
use crate::token::Token;

/// The size of the buffers of the kernel for a new pipe, in bytes.
const KERNEL_BUFFER: u32 = 64 * 1024;
/// The size of the buffer of a read, in bytes. A longer message takes several reads.
const READ_BUFFER: usize = 16 * 1024;
/// The size of the largest buffer that is kept after a write, in bytes.
const LARGEST_KEPT_BUFFER: usize = 64 * 1024;

/// A named pipe, and its association with a port.
pub(crate) struct Pipe {
    shared: Arc<Shared>,
    /// Set by the first registration. A handle belongs to one port for its life.
    port: Mutex<Option<Arc<Port>>>,
}

struct Shared {
    handle: OwnedHandle,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    registration: Option<Arc<PushedRegistration>>,
    port: Weak<Port>,
    /// The number of disconnections. The result of an operation of an earlier connection is discarded.
    connection: u64,
    read: ReadState,
    write: WriteState,
    connect: ConnectState,
    connect_error: Option<io::Error>,
    /// The blocks that are not in use.
    #[allow(clippy::vec_box)] // The kernel has the addresses of blocks.
    spare: Vec<Box<Operation>>,
}

#[derive(Default)]
enum ReadState {
    /// No read is in progress, because the pipe has no peer or is not registered.
    #[default]
    Idle,
    Pending(InFlight),
    /// A read has ended. The bytes from `position` on were not returned yet.
    Data {
        block: Box<Operation>,
        position: usize,
    },
    Failed(io::Error),
}

#[derive(Default)]
enum WriteState {
    #[default]
    Idle,
    Pending(InFlight),
    Failed(io::Error),
}

#[derive(Default)]
enum ConnectState {
    #[default]
    Idle,
    Pending(InFlight),
}

/// The block of an operation in progress, which the kernel owns. The address is the name of the operation.
struct InFlight(NonNull<Operation>);

// SAFETY: the pointer is only compared, and passed to `CancelIoEx`.
unsafe impl Send for InFlight {}

/// The block of an operation.
#[repr(C)]
struct Operation {
    header: PacketHeader,
    /// The pipe, while the kernel owns the block.
    pipe: Option<Arc<Shared>>,
    connection: u64,
    buffer: Vec<u8>,
    /// The number of bytes of `buffer` that were written.
    position: usize,
}

// SAFETY: the header contains numbers and pointers for the kernel, which only the owner of the block uses.
unsafe impl Send for Operation {}

/// The kind of an operation, which is the function that ends it.
type Complete = unsafe fn(NonNull<PacketHeader>, &OVERLAPPED_ENTRY);

impl Pipe {
    /// Creates an instance of a pipe of bytes in both directions. No other instance of the name may exist.
    pub(crate) fn create(name: &OsStr) -> io::Result<Pipe> {
        let name: Vec<u16> = name.encode_wide().chain([0]).collect();
        // SAFETY: the name ends with a zero, and outlives the call. Without attributes, children do not inherit the handle.
        let handle = unsafe {
            CreateNamedPipeW(
                name.as_ptr(),
                PIPE_ACCESS_DUPLEX | FILE_FLAG_FIRST_PIPE_INSTANCE | FILE_FLAG_OVERLAPPED,
                PIPE_TYPE_BYTE,
                PIPE_UNLIMITED_INSTANCES,
                KERNEL_BUFFER,
                KERNEL_BUFFER,
                0,
                ptr::null(),
            )
        };
        if handle == INVALID_HANDLE_VALUE {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the handle is new, and has no other owner.
        Ok(Pipe::new(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    pub(crate) fn new(handle: OwnedHandle) -> Pipe {
        Pipe { shared: Arc::new(Shared { handle, state: Mutex::default() }), port: Mutex::new(None) }
    }

    /// Registers the pipe. The first registration binds the handle to the port of the backend.
    pub(crate) fn register(&self, selector: &IocpSelector, token: Token, interest: Interest) -> io::Result<()> {
        let registration = selector.register_pushed(token, interest)?;
        let mut port = lock_ignoring_poison(&self.port);
        if port.is_none() {
            selector.port().associate(self.shared.handle.as_handle())?;
            *port = Some(Arc::clone(selector.port()));
        }
        let mut state = self.shared.state();
        state.port = Arc::downgrade(selector.port());
        state.registration = Some(Arc::new(registration));
        self.shared.begin(&mut state);
        Ok(())
    }

    pub(crate) fn reregister(&self, token: Token, interest: Interest) -> io::Result<()> {
        let mut state = self.shared.state();
        if let Some(registration) = &state.registration {
            registration.reregister(token, interest)?;
        }
        self.shared.begin(&mut state);
        Ok(())
    }

    /// Ends the registration. Operations in progress go on.
    pub(crate) fn deregister(&self) {
        let registration = self.shared.state().registration.take();
        drop(registration);
    }

    /// Starts to connect a server to a client. `WouldBlock`: the pipe becomes writable when the connect has ended.
    pub(crate) fn connect(&self) -> io::Result<()> {
        let mut state = self.shared.state();
        let Some(port) = state.port.upgrade() else { return Err(would_block()) };
        if matches!(state.connect, ConnectState::Pending(_)) {
            return Err(would_block());
        }
        let operation = state.spare_block(end_connect);
        let started = self.shared.start(&port, &mut state, operation, |handle, operation| {
            // SAFETY: the handle is open, and the kernel owns the block until the packet comes.
            unsafe { ConnectNamedPipe(handle.as_raw_handle(), operation.header.overlapped()) }
        });
        match started {
            Ok(in_flight) => {
                state.connect = ConnectState::Pending(in_flight);
                Err(would_block())
            }
            // The client was faster. It may have left already, which the read reports.
            Err(error) if [ERROR_PIPE_CONNECTED, ERROR_NO_DATA].map(Some).contains(&number(&error)) => {
                self.shared.begin(&mut state);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Returns the error of the last connect, and clears it.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        self.shared.state().connect_error.take()
    }

    /// Disconnects a server from its client. Unread data is lost. The results of operations in progress are discarded.
    pub(crate) fn disconnect(&self) -> io::Result<()> {
        let mut state = self.shared.state();
        // SAFETY: the handle is open.
        if unsafe { DisconnectNamedPipe(self.shared.handle.as_raw_handle()) } == 0 {
            return Err(io::Error::last_os_error());
        }
        state.connection += 1;
        if let ReadState::Data { .. } | ReadState::Failed(_) = state.read {
            state.read = ReadState::Idle;
        }
        if let WriteState::Failed(_) = state.write {
            state.write = WriteState::Idle;
        }
        state.clear_ready(!Readiness::EMPTY);
        Ok(())
    }

    pub(crate) fn read(&self, buf: &mut [u8]) -> io::Result<usize> {
        let mut state = self.shared.state();
        if state.registration.is_none() {
            return Err(would_block());
        }
        if buf.is_empty() {
            return Ok(0);
        }
        match mem::take(&mut state.read) {
            ReadState::Idle => {
                self.shared.begin(&mut state);
                Err(would_block())
            }
            ReadState::Pending(in_flight) => {
                state.read = ReadState::Pending(in_flight);
                Err(would_block())
            }
            ReadState::Data { block, position } => {
                let unread = &block.buffer[position..];
                let len = unread.len().min(buf.len());
                buf[..len].copy_from_slice(&unread[..len]);
                if len < unread.len() {
                    state.read = ReadState::Data { block, position: position + len };
                } else {
                    state.spare.push(block);
                    state.clear_ready(Readiness::READABLE);
                    self.shared.read_ahead(&mut state);
                }
                Ok(len)
            }
            ReadState::Failed(error) => {
                // The next read has the same result, unless the pipe is connected again.
                state.read = ReadState::Failed(copy_of(&error));
                match number(&error) {
                    Some(ERROR_BROKEN_PIPE) => Ok(0),
                    _ => Err(error),
                }
            }
        }
    }

    pub(crate) fn write(&self, buf: &[u8]) -> io::Result<usize> {
        let mut state = self.shared.state();
        if state.registration.is_none() {
            return Err(would_block());
        }
        match mem::take(&mut state.write) {
            WriteState::Idle => {}
            WriteState::Pending(in_flight) => {
                state.write = WriteState::Pending(in_flight);
                return Err(would_block());
            }
            WriteState::Failed(error) => return Err(error),
        }
        let mut operation = state.spare_block(end_write);
        operation.buffer.extend_from_slice(buf);
        self.shared.start_write(&mut state, operation)?;
        state.clear_ready(Readiness::WRITABLE);
        Ok(buf.len())
    }
}

/// Cancels the connect and the read. A write goes on, so that the peer receives what was written, unless the poll was dropped:
/// then nobody ends the write.
impl Drop for Pipe {
    fn drop(&mut self) {
        self.deregister();
        let port = self.port.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let is_last = port.as_ref().is_some_and(|port| Arc::strong_count(port) == 1);
        let mut state = self.shared.state();
        if let ConnectState::Pending(in_flight) = &state.connect {
            self.shared.cancel(in_flight);
        }
        if let ReadState::Pending(in_flight) = &state.read {
            self.shared.cancel(in_flight);
        }
        if let (WriteState::Pending(in_flight), true) = (&state.write, is_last) {
            self.shared.cancel(in_flight);
        }
        // From now on, the end of an operation starts no other one, except the rest of a write.
        state.connection += 1;
    }
}

impl AsHandle for Pipe {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.shared.handle.as_handle()
    }
}

impl fmt::Debug for Pipe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.handle.fmt(f)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        lock_ignoring_poison(&self.state)
    }

    /// Reads ahead, and reports that the pipe is writable, if the pipe has a peer.
    fn begin(self: &Arc<Shared>, state: &mut State) {
        if self.read_ahead(state) && !matches!(state.write, WriteState::Pending(_)) {
            state.set_ready(Readiness::WRITABLE);
        }
    }

    /// Starts a read, unless one is in progress or has ended. Returns `false` if the pipe has no peer yet.
    fn read_ahead(self: &Arc<Shared>, state: &mut State) -> bool {
        if !matches!(state.read, ReadState::Idle) {
            return true;
        }
        let Some(port) = state.port.upgrade() else { return false };
        let mut operation = state.spare_block(end_read);
        operation.buffer.reserve(READ_BUFFER);
        let started = self.start(&port, state, operation, |handle, operation| {
            // SAFETY: the handle is open. The kernel owns the block, and with it the memory of the buffer, until the packet comes.
            unsafe {
                ReadFile(
                    handle.as_raw_handle(),
                    operation.buffer.as_mut_ptr(),
                    READ_BUFFER as u32,
                    ptr::null_mut(),
                    operation.header.overlapped(),
                )
            }
        });
        match started {
            Ok(in_flight) => state.read = ReadState::Pending(in_flight),
            Err(error) if [ERROR_PIPE_LISTENING, ERROR_PIPE_NOT_CONNECTED].map(Some).contains(&number(&error)) => {
                return false;
            }
            Err(error) => state.fail_read(error),
        }
        true
    }

    /// Starts to write the rest of the buffer.
    fn start_write(self: &Arc<Shared>, state: &mut State, operation: Box<Operation>) -> io::Result<()> {
        let port = state.port.upgrade().ok_or_else(would_block)?;
        let in_flight = self.start(&port, state, operation, |handle, operation| {
            let rest = &operation.buffer[operation.position..];
            let len = u32::try_from(rest.len()).unwrap_or(u32::MAX);
            // SAFETY: the handle is open. The kernel owns the block, and with it the memory of the buffer, until the packet comes.
            unsafe {
                WriteFile(handle.as_raw_handle(), rest.as_ptr(), len, ptr::null_mut(), operation.header.overlapped())
            }
        })?;
        state.write = WriteState::Pending(in_flight);
        Ok(())
    }

    /// Gives a block to the kernel with a call that returns 0 after an error. If the call fails, the block is kept for the next
    /// operation. The caller holds the lock, so that the end of the operation waits until its start was recorded.
    fn start(
        self: &Arc<Shared>,
        port: &Port,
        state: &mut State,
        mut operation: Box<Operation>,
        call: impl FnOnce(BorrowedHandle<'_>, &mut Operation) -> i32,
    ) -> io::Result<InFlight> {
        operation.pipe = Some(Arc::clone(self));
        operation.connection = state.connection;
        let block = NonNull::from(Box::leak(operation));
        let result = port.start(|| {
            // SAFETY: the block came from a box, and this is its only use until the kernel has it.
            let operation = unsafe { &mut *block.as_ptr() };
            if call(self.handle.as_handle(), operation) != 0 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            match number(&error) {
                // A message that is longer than the buffer makes a packet too.
                Some(ERROR_IO_PENDING | ERROR_MORE_DATA) => Ok(()),
                _ => Err(error),
            }
        });
        if let Err(error) = result {
            // SAFETY: the pointer came from a box, and no packet follows.
            state.keep(unsafe { Box::from_raw(block.as_ptr()) });
            return Err(error);
        }
        Ok(InFlight(block))
    }

    /// Cancels an operation. Its packet follows. If the operation has ended, its packet is in the port.
    fn cancel(&self, operation: &InFlight) {
        // SAFETY: the handle is open. The header is the first field, and the kernel compares its address.
        unsafe { CancelIoEx(self.handle.as_raw_handle(), operation.0.as_ptr().cast()) };
    }
}

impl State {
    fn set_ready(&self, states: Readiness) {
        if let Some(registration) = &self.registration {
            registration.set_ready(states);
        }
    }

    fn clear_ready(&self, states: Readiness) {
        if let Some(registration) = &self.registration {
            registration.clear_ready(states);
        }
    }

    fn fail_read(&mut self, error: io::Error) {
        let closed = match number(&error) {
            Some(ERROR_BROKEN_PIPE) => Readiness::READ_CLOSED,
            _ => Readiness::ERROR,
        };
        self.read = ReadState::Failed(error);
        self.set_ready(Readiness::READABLE | closed);
    }

    /// Returns a block with an empty buffer.
    fn spare_block(&mut self, complete: Complete) -> Box<Operation> {
        let header = PacketHeader::new(complete);
        match self.spare.pop() {
            Some(mut block) => {
                (block.header, block.position) = (header, 0);
                block.buffer.clear();
                block
            }
            None => Box::new(Operation { header, pipe: None, connection: 0, buffer: Vec::new(), position: 0 }),
        }
    }

    /// Keeps a block for the next operation.
    fn keep(&mut self, mut block: Box<Operation>) {
        block.pipe = None;
        if block.buffer.capacity() <= LARGEST_KEPT_BUFFER {
            self.spare.push(block);
        }
    }
}

/// Returns the number of an error of the system.
fn number(error: &io::Error) -> Option<u32> {
    error.raw_os_error().map(|number| number as u32)
}

/// Returns another error with the same number.
fn copy_of(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// Returns the block of a packet with its pipe, and the result: the number of bytes.
///
/// # Safety
///
/// The header is that of an operation whose packet was removed from the port just now.
unsafe fn take_block(
    header: NonNull<PacketHeader>,
    packet: &OVERLAPPED_ENTRY,
) -> (Box<Operation>, Option<Arc<Shared>>, io::Result<usize>) {
    // SAFETY: the header is the first field of a block that came from a box (`Shared::start`).
    let mut block = unsafe { Box::from_raw(header.cast::<Operation>().as_ptr()) };
    let pipe = block.pipe.take();
    let len = packet.dwNumberOfBytesTransferred as usize;
    let status = packet.Internal as i32;
    let result = if status < 0 { Err(nt_error(status)) } else { Ok(len) };
    let result = match result {
        Err(error) if number(&error) == Some(ERROR_MORE_DATA) => Ok(len),
        result => result,
    };
    (block, pipe, result)
}

/// Ends a connect.
///
/// # Safety
///
/// As for `take_block`.
unsafe fn end_connect(header: NonNull<PacketHeader>, packet: &OVERLAPPED_ENTRY) {
    // SAFETY: the caller fulfils the conditions.
    let (block, pipe, result) = unsafe { take_block(header, packet) };
    let Some(pipe) = pipe else { return };
    let mut state = pipe.state();
    let is_current = block.connection == state.connection;
    state.keep(block);
    state.connect = ConnectState::Idle;
    if !is_current {
        return;
    }
    match result {
        Ok(_) => pipe.begin(&mut state),
        Err(error) => {
            state.connect_error = Some(error);
            state.set_ready(Readiness::WRITABLE | Readiness::ERROR);
        }
    }
}

/// Ends a read.
///
/// # Safety
///
/// As for `take_block`.
unsafe fn end_read(header: NonNull<PacketHeader>, packet: &OVERLAPPED_ENTRY) {
    // SAFETY: the caller fulfils the conditions.
    let (mut block, pipe, result) = unsafe { take_block(header, packet) };
    let Some(pipe) = pipe else { return };
    let mut state = pipe.state();
    state.read = ReadState::Idle;
    if block.connection != state.connection {
        state.keep(block);
        if state.registration.is_some() {
            pipe.read_ahead(&mut state);
        }
        return;
    }
    match result {
        Ok(len) => {
            // SAFETY: the kernel has written `len` bytes, and the buffer has space for as many.
            unsafe { block.buffer.set_len(len.min(READ_BUFFER)) };
            state.read = ReadState::Data { block, position: 0 };
            state.set_ready(Readiness::READABLE);
        }
        Err(error) => {
            state.keep(block);
            state.fail_read(error);
        }
    }
}

/// Ends a write, or writes the rest.
///
/// # Safety
///
/// As for `take_block`.
unsafe fn end_write(header: NonNull<PacketHeader>, packet: &OVERLAPPED_ENTRY) {
    // SAFETY: the caller fulfils the conditions.
    let (mut block, pipe, result) = unsafe { take_block(header, packet) };
    let Some(pipe) = pipe else { return };
    let mut state = pipe.state();
    state.write = WriteState::Idle;
    let is_current = block.connection == state.connection;
    let result = match result {
        Ok(len) => {
            block.position += len;
            match block.position < block.buffer.len() && len > 0 {
                true => pipe.start_write(&mut state, block),
                false => {
                    state.keep(block);
                    Ok(())
                }
            }
        }
        Err(error) => {
            state.keep(block);
            Err(error)
        }
    };
    match result {
        Ok(()) if matches!(state.write, WriteState::Pending(_)) => {}
        Err(error) if is_current => {
            state.write = WriteState::Failed(error);
            state.set_ready(Readiness::WRITABLE | Readiness::WRITE_CLOSED);
        }
        _ => state.set_ready(Readiness::WRITABLE),
    }
}
