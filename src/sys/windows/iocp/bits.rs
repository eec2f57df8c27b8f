//! The bits of a request and of its result.

/// Data can be received.
pub(super) const RECEIVE: u32 = 0x001;
/// Urgent data can be received.
pub(super) const RECEIVE_EXPEDITED: u32 = 0x002;
/// Data can be sent, or a connect has succeeded.
pub(super) const SEND: u32 = 0x004;
/// The peer sends no more data.
pub(super) const DISCONNECT: u32 = 0x008;
/// The connection was reset.
pub(super) const ABORT: u32 = 0x010;
/// The last handle of the socket was closed.
pub(super) const LOCAL_CLOSE: u32 = 0x020;
/// A connection can be accepted.
pub(super) const ACCEPT: u32 = 0x080;
/// A connect has failed.
pub(super) const CONNECT_FAIL: u32 = 0x100;

/// What reading waits for.
pub(super) const READ: u32 = RECEIVE | ACCEPT | DISCONNECT;
/// What every registration waits for, whatever its interest.
pub(super) const FAILURE: u32 = ABORT | CONNECT_FAIL;
