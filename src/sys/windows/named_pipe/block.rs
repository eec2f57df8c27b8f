//! The block of an operation: its record for the kernel, and its buffer.

use std::io;
use std::ptr::NonNull;
use std::sync::Arc;

use windows_sys::Win32::Foundation::NTSTATUS;
use windows_sys::Win32::System::IO::{OVERLAPPED, OVERLAPPED_ENTRY};

use crate::sys::windows::errors::nt_error;
use crate::sys::windows::iocp::packet::PacketHeader;
use crate::sys::windows::iocp::port::Port;

/// The pipe of a block, which keeps its handle open.
pub(super) trait Owner: Send + Sync {
    /// Takes the block of an operation that has ended, with the number of bytes.
    fn end_operation(self: Arc<Self>, block: Box<Block>, result: io::Result<()>, len: usize);
}

/// The operation of a block.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Connect,
    Read,
    Write,
}

/// The block of an operation.
///
/// While the operation is in progress, the kernel owns the block, and the block keeps the handle of its pipe open. The packet of
/// the operation returns the block.
#[repr(C)]
pub(super) struct Block {
    header: PacketHeader,
    pub(super) operation: Operation,
    /// `Some` while the operation is in progress.
    owner: Option<Arc<dyn Owner>>,
    /// The bytes that were read, or that are written.
    pub(super) buffer: Vec<u8>,
    /// The number of bytes of the buffer that were returned to the program, or that the kernel has written.
    pub(super) position: usize,
}

// SAFETY: the record of the header contains pointers, which only the kernel uses.
unsafe impl Send for Block {}

/// The name of a block that the kernel owns. The pointer is compared, and names the operation to be canceled.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct BlockId(NonNull<Block>);

// SAFETY: the pointer is never dereferenced.
unsafe impl Send for BlockId {}

impl BlockId {
    pub(super) fn overlapped(self) -> *const OVERLAPPED {
        self.0.as_ptr().cast()
    }
}

impl Block {
    pub(super) fn new() -> Box<Block> {
        Box::new(Block {
            header: PacketHeader::new(complete),
            operation: Operation::Connect,
            owner: None,
            buffer: Vec::new(),
            position: 0,
        })
    }

    /// Returns the name that the block has while the kernel owns it.
    pub(super) fn id(&self) -> BlockId {
        BlockId(NonNull::from(self))
    }

    /// Gives the block to the kernel, and starts its operation. If no operation was started, the block returns with the error.
    ///
    /// # Safety
    ///
    /// `start` starts an operation on the handle of the pipe, with the record that it receives. If `start` returns `Ok`, one
    /// packet of the operation follows at `port`, and `start` uses the block no more after the call of the system. If `start`
    /// returns `Err`, nothing uses the block.
    pub(super) unsafe fn start(
        mut self: Box<Self>,
        operation: Operation,
        owner: Arc<dyn Owner>,
        port: &Port,
        start: impl FnOnce(*mut Block, *mut OVERLAPPED) -> io::Result<()>,
    ) -> Result<BlockId, (Box<Block>, io::Error)> {
        self.operation = operation;
        self.owner = Some(owner);
        let block = Box::into_raw(self);
        // SAFETY: the pointer is that of the box.
        let overlapped = unsafe { (*block).header.overlapped() };
        match port.start(|| start(block, overlapped)) {
            // SAFETY: a box is not null.
            Ok(()) => Ok(BlockId(unsafe { NonNull::new_unchecked(block) })),
            Err(error) => {
                // SAFETY: the pointer is that of the box, and nothing else uses the block.
                let mut block = unsafe { Box::from_raw(block) };
                block.owner = None;
                Err((block, error))
            }
        }
    }
}

/// Ends an operation: returns its block to the pipe.
///
/// # Safety
///
/// The header is that of a block that [`Block::start`] has given to the kernel, and the packet is that of the block.
unsafe fn complete(header: NonNull<PacketHeader>, packet: &OVERLAPPED_ENTRY) {
    // SAFETY: the header is the first field of the block, and the kernel uses the block no more.
    let mut block = unsafe { Box::from_raw(header.as_ptr().cast::<Block>()) };
    // SAFETY: the record is that of an operation that has ended.
    let status = unsafe { (*packet.lpOverlapped).Internal } as NTSTATUS;
    let result = if status < 0 { Err(nt_error(status)) } else { Ok(()) };
    if let Some(owner) = block.owner.take() {
        owner.end_operation(block, result, packet.dwNumberOfBytesTransferred as usize);
    }
}
