//! Named pipes: readiness from overlapped operations.
//!
//! The kernel reports the end of operations, and not readiness. Therefore the crate reads ahead: while a pipe is registered, one
//! read into a buffer of the crate is in progress, and its end makes the pipe readable. A write copies the bytes into a buffer of
//! the crate, and the end of the write makes the pipe writable again.
//!
//! # The owners
//!
//! * The [`Pipe`] of the program owns the port and the registration. The port outlives the poll, until the pipe is dropped too.
//! * The [`Shared`] state owns the handle. The blocks in progress keep the shared state alive, so that a handle is never closed
//!   while the kernel uses a buffer.
//! * Nothing below the pipe owns the port. Thus a port that is dropped can wait for all blocks.
//!
//! # Locks
//!
//! The lock of a pipe comes before the lock of the table. A registration is dropped without the lock of its pipe, because this
//! may complete the operations of other pipes.

mod block;
mod calls;
mod state;

use std::ffi::OsStr;
use std::io;
use std::os::windows::io::{BorrowedHandle, OwnedHandle};
use std::sync::Arc;

use crate::interest::Interest;
use crate::sys::error;
use crate::sys::windows::iocp::readiness::Readiness;
use crate::sys::windows::iocp::IocpSelector;
use crate::sys::windows::named_pipe::state::Shared;
use crate::token::Token;

/// A pipe with overlapped operations.
pub(crate) struct Pipe(Arc<Shared>);

impl Pipe {
    /// Creates an instance of a named pipe. If `is_first`, an instance that exists is an error.
    pub(crate) fn create(name: &OsStr, is_first: bool) -> io::Result<Pipe> {
        calls::create(name, is_first).map(Pipe::new)
    }

    pub(crate) fn new(handle: OwnedHandle) -> Pipe {
        Pipe(Shared::new(handle))
    }

    pub(crate) fn handle(&self) -> BorrowedHandle<'_> {
        self.0.handle()
    }

    /// Starts to wait for a client. `Ok` means that a client is connected.
    pub(crate) fn connect(&self) -> io::Result<()> {
        self.0.lock().connect(&self.0)
    }

    /// Returns the error of a connect that has ended, once.
    pub(crate) fn take_error(&self) -> Option<io::Error> {
        let mut state = self.0.lock();
        let error = state.connect_error.take();
        if error.is_some() {
            // Without the error, a pipe without a client is not writable.
            state.report(Readiness::EMPTY);
        }
        error
    }

    /// Disconnects the client, and discards all that belongs to the client.
    pub(crate) fn disconnect(&self) -> io::Result<()> {
        self.0.lock().disconnect(&self.0)
    }

    /// Reads. `copy` takes bytes from the front of the slice, into buffers with a total of `capacity` bytes.
    pub(crate) fn read(
        &self,
        capacity: usize,
        copy: impl FnOnce(&mut &[u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        self.0.lock().read(&self.0, capacity, copy)
    }

    /// Writes all of these bytes.
    pub(crate) fn write<'a>(&self, parts: impl Iterator<Item = &'a [u8]> + Clone) -> io::Result<usize> {
        self.0.lock().write(&self.0, parts)
    }

    pub(crate) fn register(&self, selector: &IocpSelector, token: Token, interest: Interest) -> io::Result<()> {
        let mut state = self.0.lock();
        state.check_port(selector.port())?;
        if state.registration.is_some() {
            return Err(error::already_exists());
        }
        let registration = selector.register_pushed(token, interest)?;
        if state.port.is_none() {
            let port = selector.port();
            if let Err(error) = port.associate(self.handle()) {
                drop(state);
                return Err(error);
            }
            state.port = Some(Arc::clone(port));
        }
        state.registration = Some(registration);
        state.announce(&self.0);
        Ok(())
    }

    pub(crate) fn reregister(&self, selector: &IocpSelector, token: Token, interest: Interest) -> io::Result<()> {
        let mut state = self.0.lock();
        state.check_port(selector.port())?;
        state.registration.as_ref().ok_or_else(error::not_found)?.reregister(token, interest)?;
        state.announce(&self.0);
        Ok(())
    }

    pub(crate) fn deregister(&self, selector: &IocpSelector) -> io::Result<()> {
        let registration = {
            let mut state = self.0.lock();
            state.check_port(selector.port())?;
            state.registration.take()
        };
        registration.map(drop).ok_or_else(error::not_found)
    }
}

/// Cancels a connect and a read. A write in progress continues while the poll exists, because its bytes were accepted.
impl Drop for Pipe {
    fn drop(&mut self) {
        let (port, registration, is_writing) = {
            let mut state = self.0.lock();
            let is_writing = state.release(&self.0);
            (state.port.take(), state.registration.take(), is_writing)
        };
        if let (Some(port), true) = (&port, is_writing) {
            port.cancel_when_closed(Arc::downgrade(&self.0.handle));
        }
        // The operations were canceled before: dropping the registration may remove their packets.
        drop(registration);
        drop(port);
    }
}
