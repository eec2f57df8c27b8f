//! The state of a pipe, which its lock protects. Operations are started, and their blocks are returned, under the lock.

use std::os::windows::io::{AsHandle, BorrowedHandle, OwnedHandle};
use std::sync::{Arc, Mutex, MutexGuard};
use std::{io, mem};

use windows_sys::Win32::Foundation::{
    ERROR_BROKEN_PIPE, ERROR_MORE_DATA, ERROR_NO_DATA, ERROR_PIPE_CONNECTED, ERROR_PIPE_LISTENING,
};

use crate::sys::error;
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::windows::errors::would_block;
use crate::sys::windows::iocp::port::Port;
use crate::sys::windows::iocp::pushed::PushedRegistration;
use crate::sys::windows::iocp::readiness::Readiness;
use crate::sys::windows::named_pipe::block::{Block, BlockId, Operation, Owner};
use crate::sys::windows::named_pipe::calls::{self, has_number};

/// The smallest and the largest size of a read.
const READ_SIZES: (usize, usize) = (4 * 1024, 64 * 1024);

/// The number of unused blocks that a pipe keeps: one for each operation that can be in progress.
const MAX_SPARE: usize = 3;

/// The largest buffer that an unused block keeps.
const MAX_SPARE_BUFFER: usize = 256 * 1024;

/// The state that a pipe shares with the blocks of its operations.
pub(super) struct Shared {
    pub(super) handle: Arc<OwnedHandle>,
    state: Mutex<State>,
}

impl Shared {
    pub(super) fn new(handle: OwnedHandle) -> Arc<Shared> {
        let state = State::new(calls::is_pipe(handle.as_handle()), calls::is_byte_pipe(handle.as_handle()));
        Arc::new(Shared { handle: Arc::new(handle), state: Mutex::new(state) })
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        lock_ignoring_poison(&self.state)
    }

    pub(super) fn handle(&self) -> BorrowedHandle<'_> {
        self.handle.as_handle()
    }
}

impl Owner for Shared {
    fn end_operation(self: Arc<Self>, block: Box<Block>, result: io::Result<()>, len: usize) {
        self.lock().end_operation(&self, block, result, len);
    }
}

pub(super) struct State {
    /// The port to which the handle is bound, from the first registration on.
    pub(super) port: Option<Arc<Port>>,
    pub(super) registration: Option<PushedRegistration>,
    /// The pipe transfers bytes, and no messages.
    has_bytes: bool,
    /// `false` while no client is connected, as far as the crate knows.
    is_open: bool,
    connect: Option<BlockId>,
    pub(super) connect_error: Option<io::Error>,
    read: ReadState,
    read_size: usize,
    /// The largest size of a read.
    max_read_size: usize,
    write: WriteState,
    #[allow(clippy::vec_box)] // The kernel has the addresses of blocks.
    spare: Vec<Box<Block>>,
}

enum ReadState {
    /// No read is in progress: the pipe was never registered, or has no client, or its read was canceled.
    Idle,
    InProgress(BlockId),
    /// Bytes wait in the buffer.
    Data(Box<Block>),
    /// The error has not been returned yet.
    Failed(io::Error),
    /// The end was returned. It lasts until another client is connected.
    Ended,
}

enum WriteState {
    Idle,
    InProgress(BlockId),
    /// The error has not been returned yet.
    Failed(io::Error),
}

impl State {
    fn new(is_pipe: bool, has_bytes: bool) -> State {
        State {
            port: None,
            registration: None,
            has_bytes,
            is_open: false,
            connect: None,
            connect_error: None,
            read: ReadState::Idle,
            read_size: READ_SIZES.0,
            // A read of a serial port may wait until the buffer is full.
            max_read_size: if is_pipe { READ_SIZES.1 } else { READ_SIZES.0 },
            write: WriteState::Idle,
            spare: Vec::new(),
        }
    }

    /// Fails with `AlreadyExists` if the handle is bound to another port. Windows binds a handle once in its life.
    pub(super) fn check_port(&self, other: &Arc<Port>) -> io::Result<()> {
        match &self.port {
            Some(port) if !Arc::ptr_eq(port, other) => Err(bound_elsewhere()),
            _ => Ok(()),
        }
    }

    /// Returns the states that last.
    fn states(&self) -> Readiness {
        let mut states = Readiness::EMPTY;
        if matches!(self.read, ReadState::Data(_) | ReadState::Failed(_) | ReadState::Ended) {
            states = states | Readiness::READABLE;
        }
        let is_writable = match self.write {
            WriteState::Idle => self.is_open || self.connect_error.is_some(),
            WriteState::InProgress(_) => false,
            WriteState::Failed(_) => true,
        };
        if is_writable {
            states = states | Readiness::WRITABLE;
        }
        states
    }

    /// Reports these states, if they last, and ends those that do not last.
    pub(super) fn report(&self, begun: Readiness) {
        let Some(registration) = &self.registration else { return };
        let states = self.states();
        let over = !states & (Readiness::READABLE | Readiness::WRITABLE);
        if !over.is_empty() {
            registration.clear_ready(over);
        }
        let begun = states & begun;
        if !begun.is_empty() {
            registration.set_ready(begun);
        }
    }

    /// Starts to read ahead, and reports every state that lasts.
    pub(super) fn announce(&mut self, pipe: &Arc<Shared>) {
        if matches!(self.read, ReadState::Ended) {
            self.read = ReadState::Idle;
        }
        self.start_read(pipe);
        self.report(Readiness::READABLE | Readiness::WRITABLE);
    }

    fn take_spare(&mut self) -> Box<Block> {
        self.spare.pop().unwrap_or_else(Block::new)
    }

    /// Keeps a block for the next operation.
    fn keep_spare(&mut self, mut block: Box<Block>) {
        if self.spare.len() < MAX_SPARE {
            match block.buffer.capacity() > MAX_SPARE_BUFFER {
                true => block.buffer = Vec::new(),
                false => block.buffer.clear(),
            }
            block.position = 0;
            self.spare.push(block);
        }
    }

    /// Starts a read, if none is in progress. Returns `true` if the pipe became readable, because the read failed at once.
    fn start_read(&mut self, pipe: &Arc<Shared>) -> bool {
        let (ReadState::Idle, Some(port), Some(_)) = (&self.read, &self.port, &self.registration) else {
            return false;
        };
        let (owner, port) = (Arc::clone(pipe) as Arc<dyn Owner>, Arc::clone(port));
        let mut block = self.take_spare();
        block.buffer.reserve_exact(self.read_size);
        let len = self.read_size as u32;
        // SAFETY: the buffer has space for the bytes and is in the block, and the block is used before the call only.
        let result = unsafe {
            block.start(Operation::Read, owner, &port, |block, overlapped| {
                calls::read(pipe.handle(), (*block).buffer.as_mut_ptr(), len, overlapped)
            })
        };
        match result {
            Ok(id) => {
                self.read = ReadState::InProgress(id);
                self.is_open = true;
                false
            }
            Err((block, error)) => {
                self.keep_spare(block);
                self.is_open = !has_number(&error, &[ERROR_PIPE_LISTENING]);
                if self.is_open {
                    self.read = ReadState::Failed(error);
                }
                self.is_open
            }
        }
    }

    /// Starts to write the rest of a buffer.
    fn start_write(&mut self, pipe: &Arc<Shared>, block: Box<Block>) -> io::Result<()> {
        let Some(port) = self.port.clone() else { return Err(error::not_found()) };
        let owner = Arc::clone(pipe) as Arc<dyn Owner>;
        let rest = u32::try_from(block.buffer.len() - block.position).unwrap_or(u32::MAX);
        // SAFETY: the bytes are in the block, and the block is used before the call only.
        let result = unsafe {
            block.start(Operation::Write, owner, &port, |block, overlapped| {
                let bytes = (*block).buffer.as_ptr().add((*block).position);
                calls::write(pipe.handle(), bytes, rest, overlapped)
            })
        };
        match result {
            Ok(id) => {
                self.write = WriteState::InProgress(id);
                Ok(())
            }
            Err((block, error)) => {
                self.keep_spare(block);
                Err(error)
            }
        }
    }

    pub(super) fn connect(&mut self, pipe: &Arc<Shared>) -> io::Result<()> {
        if self.connect.is_some() {
            return Err(would_block());
        }
        let (Some(port), Some(_)) = (self.port.clone(), &self.registration) else { return Err(error::not_found()) };
        let owner = Arc::clone(pipe) as Arc<dyn Owner>;
        // SAFETY: the call uses the record only.
        let result = unsafe {
            self.take_spare()
                .start(Operation::Connect, owner, &port, |_, overlapped| calls::connect(pipe.handle(), overlapped))
        };
        match result {
            Ok(id) => {
                self.connect = Some(id);
                self.is_open = false;
                self.report(Readiness::EMPTY);
                Err(would_block())
            }
            Err((block, error)) => {
                self.keep_spare(block);
                // A client is connected, or was connected and has gone: what it wrote can be read.
                if !has_number(&error, &[ERROR_PIPE_CONNECTED, ERROR_NO_DATA]) {
                    return Err(error);
                }
                self.announce(pipe);
                Ok(())
            }
        }
    }

    pub(super) fn disconnect(&mut self, pipe: &Arc<Shared>) -> io::Result<()> {
        match calls::disconnect(pipe.handle()) {
            // wine returns this error while the pipe waits for a client. Windows ends the wait.
            Err(error) if self.connect.is_some() && has_number(&error, &[ERROR_PIPE_LISTENING]) => {}
            result => result?,
        }
        self.cancel_read_and_connect(pipe);
        if let WriteState::InProgress(id) = mem::replace(&mut self.write, WriteState::Idle) {
            calls::cancel(pipe.handle(), id.overlapped());
        }
        (self.connect_error, self.is_open) = (None, false);
        self.report(Readiness::EMPTY);
        Ok(())
    }

    /// Cancels the operations, and discards bytes and errors. The packets of the operations only return their blocks.
    fn cancel_read_and_connect(&mut self, pipe: &Arc<Shared>) {
        if let Some(id) = self.connect.take() {
            calls::cancel(pipe.handle(), id.overlapped());
        }
        match mem::replace(&mut self.read, ReadState::Idle) {
            ReadState::InProgress(id) => calls::cancel(pipe.handle(), id.overlapped()),
            ReadState::Data(block) => self.keep_spare(block),
            ReadState::Idle | ReadState::Failed(_) | ReadState::Ended => {}
        }
    }

    /// Prepares for the end of the pipe. Returns `true` if a write is in progress.
    pub(super) fn release(&mut self, pipe: &Arc<Shared>) -> bool {
        self.cancel_read_and_connect(pipe);
        matches!(self.write, WriteState::InProgress(_))
    }

    pub(super) fn read(
        &mut self,
        pipe: &Arc<Shared>,
        capacity: usize,
        copy: impl FnOnce(&mut &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        match mem::replace(&mut self.read, ReadState::Idle) {
            ReadState::Idle if self.registration.is_none() => Err(error::not_found()),
            // Without a client, the read starts when a client is connected.
            state @ (ReadState::Idle | ReadState::InProgress(_)) => {
                self.read = state;
                Err(would_block())
            }
            ReadState::Data(mut block) => {
                let mut rest = &block.buffer[block.position..];
                let result = copy(&mut rest);
                block.position = block.buffer.len() - rest.len();
                if !rest.is_empty() {
                    self.read = ReadState::Data(block);
                    return result;
                }
                self.adapt_read_size(block.buffer.len(), capacity);
                self.keep_spare(block);
                let is_readable = self.start_read(pipe);
                self.report(if is_readable { Readiness::READABLE } else { Readiness::EMPTY });
                result
            }
            ReadState::Failed(error) if has_number(&error, &[ERROR_BROKEN_PIPE]) => {
                self.read = ReadState::Ended;
                Ok(0)
            }
            // If the next read fails too, the pipe stays readable. An edge would make a program spin that drops the error.
            ReadState::Failed(error) => {
                self.start_read(pipe);
                self.report(Readiness::EMPTY);
                Err(error)
            }
            ReadState::Ended => {
                self.read = ReadState::Ended;
                Ok(0)
            }
        }
    }

    /// Chooses the size of the next read: a read that fills its buffer doubles the size, and a read of less than a quarter halves
    /// it. A program that reads into a large buffer receives up to that size.
    fn adapt_read_size(&mut self, len: usize, capacity: usize) {
        let size = match len {
            len if len >= self.read_size => self.read_size * 2,
            len if len < self.read_size / 4 => self.read_size / 2,
            _ => self.read_size,
        };
        self.read_size = size.max(capacity).clamp(READ_SIZES.0, self.max_read_size);
    }

    pub(super) fn write<'a>(
        &mut self,
        pipe: &Arc<Shared>,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
    ) -> io::Result<usize> {
        match mem::replace(&mut self.write, WriteState::Idle) {
            WriteState::Idle if self.registration.is_none() => return Err(error::not_found()),
            WriteState::Idle => {}
            state @ WriteState::InProgress(_) => {
                self.write = state;
                return Err(would_block());
            }
            WriteState::Failed(error) => {
                self.report(Readiness::EMPTY);
                return Err(error);
            }
        }
        let total = parts.clone().map(<[u8]>::len).fold(0, usize::saturating_add);
        if total == 0 && self.has_bytes {
            // The write would end the read of the peer with no bytes, which many programs take for the end.
            return Ok(0);
        }
        let mut block = self.take_spare();
        if block.buffer.try_reserve(total).is_err() {
            self.keep_spare(block);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        parts.for_each(|part| block.buffer.extend_from_slice(part));
        self.start_write(pipe, block)?;
        self.report(Readiness::EMPTY);
        Ok(total)
    }

    /// Takes the block of an operation that has ended. The block of a canceled operation is only kept.
    pub(super) fn end_operation(&mut self, pipe: &Arc<Shared>, block: Box<Block>, result: io::Result<()>, len: usize) {
        let id = block.id();
        match block.operation {
            Operation::Connect if self.connect == Some(id) => self.end_connect(pipe, block, result),
            Operation::Read if matches!(self.read, ReadState::InProgress(other) if other == id) => {
                self.end_read(pipe, block, result, len);
            }
            Operation::Write if matches!(self.write, WriteState::InProgress(other) if other == id) => {
                self.end_write(pipe, block, result, len);
            }
            _ => self.keep_spare(block),
        }
    }

    fn end_connect(&mut self, pipe: &Arc<Shared>, block: Box<Block>, result: io::Result<()>) {
        self.connect = None;
        self.keep_spare(block);
        match result {
            Ok(()) => {
                self.is_open = true;
                if matches!(self.read, ReadState::Failed(_)) {
                    // The error belongs to the time before this client.
                    self.read = ReadState::Idle;
                }
            }
            Err(error) => self.connect_error = Some(error),
        }
        self.announce(pipe);
    }

    fn end_read(&mut self, pipe: &Arc<Shared>, mut block: Box<Block>, result: io::Result<()>, len: usize) {
        self.read = match result {
            Ok(()) if len == 0 && self.has_bytes => {
                // The peer has written no bytes. At the end of a pipe, the read fails.
                self.read = ReadState::Idle;
                self.keep_spare(block);
                let is_readable = self.start_read(pipe);
                return self.report(if is_readable { Readiness::READABLE } else { Readiness::EMPTY });
            }
            // Of a message that is longer than the buffer, the next read brings the rest.
            Err(error) if !has_number(&error, &[ERROR_MORE_DATA]) => {
                self.keep_spare(block);
                ReadState::Failed(error)
            }
            _ => {
                // SAFETY: the kernel has written `len` bytes to the buffer, which has space for them.
                unsafe { block.buffer.set_len(len) };
                ReadState::Data(block)
            }
        };
        self.report(Readiness::READABLE);
    }

    fn end_write(&mut self, pipe: &Arc<Shared>, mut block: Box<Block>, result: io::Result<()>, len: usize) {
        self.write = WriteState::Idle;
        block.position += len;
        let is_complete = block.position >= block.buffer.len();
        let result = match result {
            Err(error) => Err((block, error)),
            Ok(()) if is_complete => {
                self.keep_spare(block);
                Ok(())
            }
            // A pipe in the mode `PIPE_NOWAIT` is full. Writing the rest would end like this again.
            Ok(()) if len == 0 => Err((block, io::ErrorKind::WriteZero.into())),
            Ok(()) => match self.start_write(pipe, block) {
                Ok(()) => return,
                Err(error) => {
                    self.write = WriteState::Failed(error);
                    Ok(())
                }
            },
        };
        if let Err((block, error)) = result {
            self.keep_spare(block);
            self.write = WriteState::Failed(error);
        }
        self.report(Readiness::WRITABLE);
    }
}

/// The error of a pipe that is bound to another poll. Its text begins as that of `error::already_exists_elsewhere`.
#[cold]
fn bound_elsewhere() -> io::Error {
    let message =
        "I/O source already registered with a different `Registry`: Windows binds the handle of a pipe to its first \
                   `Poll`, so open the pipe again for another `Poll`";
    io::Error::new(io::ErrorKind::AlreadyExists, message)
}
