//! One registration, and the rules that make edges of level-triggered requests.
//!
//! A request ends when one of its bits holds. An edge-triggered registration must report readiness once. Therefore an entry
//! stores the bits that it has *reported*, and makes no request for them. The rules of re-arming are those of the poll(2)
//! backend: see `src/sys/unix/poll/entry.rs`. The differences:
//!
//! * A reset or failed connection is final. An operation re-arms the entry only if a probe finds that the failure is gone.
//! * The entry of a raw socket has a request of its own for `LOCAL_CLOSE`, which ends when the socket is closed.
//!
//! # Old results
//!
//! A request ends when data comes, and its packet waits in the port until the next poll. The program may have read the data
//! meanwhile. Therefore each operation through a source sets a flag ([`OperationFlags`]). Before a result is reported, the entry
//! clears the flags, and probes the bits whose flag was set. The bits of an unobserved entry, and those that did not fit into the
//! last buffer of events, are always probed.

use std::os::windows::io::RawSocket;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::Arc;
use std::{io, mem};

use crate::interest::{Interest, TriggerMode};
use crate::sys::selector::IoDirection;
use crate::sys::windows::iocp::afd::{readiness_of, Afd, BaseSocket, Pending};
use crate::sys::windows::iocp::bits;
use crate::sys::windows::iocp::entry_key::EntryKey;
use crate::sys::windows::iocp::event::IocpEvent;
use crate::sys::windows::iocp::port::Port;
use crate::sys::windows::iocp::probe::{has_failed, held_bits, ProbeState, PROBED};
use crate::sys::windows::iocp::readiness::Readiness;
use crate::sys::windows::iocp::request::{Request, BLOCKS_PER_ENTRY};
use crate::token::Token;

/// The flags that the threads that operate share with the entry.
///
/// The low two bits are operations since the last request: reading and writing. The next two bits are directions that were
/// reported, so that an operation must re-arm them.
#[derive(Debug, Default)]
pub(super) struct OperationFlags(AtomicU8);

const READ: u8 = 1;
const WRITE: u8 = 2;
const OPERATIONS: u8 = READ | WRITE;
/// The distance between the flag of an operation and that of a reported direction.
const REPORTED_SHIFT: u8 = 2;

impl OperationFlags {
    /// Records an operation. Returns `true` if its direction has to be re-armed.
    #[inline]
    pub(super) fn record(&self, direction: IoDirection) -> bool {
        let operations = match direction {
            IoDirection::Read => READ,
            IoDirection::Write => WRITE,
            IoDirection::Unknown => READ | WRITE,
        };
        let mut flags = self.0.load(Ordering::Acquire);
        if flags & operations != operations {
            flags = self.0.fetch_or(operations, Ordering::AcqRel);
        }
        flags & (operations << REPORTED_SHIFT) != 0
    }

    /// Records that bits were reported. Returns the operations since the last request.
    fn mark_reported(&self, reported: u32) -> u8 {
        let flags = self.0.fetch_or(operations_of(reported) << REPORTED_SHIFT, Ordering::AcqRel);
        self.0.fetch_and(!OPERATIONS, Ordering::AcqRel);
        flags & OPERATIONS
    }

    /// Replaces the reported directions in one step. An operation that found none of two steps' flags would re-arm nothing.
    fn set_reported(&self, reported: u32) {
        let replace = |flags| Some(flags & OPERATIONS | operations_of(reported) << REPORTED_SHIFT);
        let _ = self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, replace);
    }

    /// Forgets the operations that these bits wait for, because a request for the bits begins now.
    fn clear_operations(&self, bits: u32) {
        self.0.fetch_and(!operations_of(bits & PROBED), Ordering::AcqRel);
    }
}

/// Returns the operations that bits wait for.
fn operations_of(bits: u32) -> u8 {
    let mut operations = 0;
    if bits & (bits::READ | bits::RECEIVE_EXPEDITED | bits::FAILURE) != 0 {
        operations |= READ;
    }
    if bits & (bits::SEND | bits::FAILURE) != 0 {
        operations |= WRITE;
    }
    operations
}

/// Returns the bits that operations can have changed.
fn bits_of(operations: u8) -> u32 {
    let read = if operations & READ != 0 { bits::RECEIVE | bits::ACCEPT | bits::RECEIVE_EXPEDITED } else { 0 };
    let write = if operations & WRITE != 0 { bits::SEND } else { 0 };
    read | write
}

/// Returns the bits of an interest.
fn bits_of_interest(interest: Interest) -> u32 {
    let mut all = 0;
    if interest.is_readable() {
        all |= bits::READ;
    }
    if interest.is_writable() {
        all |= bits::SEND;
    }
    if interest.is_priority() {
        all |= bits::RECEIVE_EXPEDITED;
    }
    all
}

/// A registration.
pub(super) struct Entry {
    pub(super) token: Token,
    pub(super) mode: TriggerMode,
    /// `false` for a disabled entry, and for a one-shot entry after its event.
    is_armed: bool,
    /// The entry is in the list of entries that may need a request.
    pub(super) is_queued: bool,
    /// The entry is in the queue of entries with a result.
    pub(super) is_ready: bool,
    pub(super) kind: Kind,
}

pub(super) enum Kind {
    Socket(SocketEntry),
    /// The readiness comes from the crate itself.
    Pushed(PushedEntry),
}

/// The part of a socket.
pub(super) struct SocketEntry {
    pub(super) socket: RawSocket,
    base: BaseSocket,
    /// The number of the handle of AFD.
    pub(super) afd: usize,
    /// The bits of the interest.
    interest: u32,
    /// The bits that are reported and not re-armed. Edge-triggered entries only.
    reported: u32,
    /// The bits of ended requests that are not reported yet.
    result: u32,
    /// `result` did not fit into a buffer of events, and is old.
    is_old: bool,
    pub(super) pending: Vec<Pending>,
    pub(super) flags: Arc<OperationFlags>,
    /// `Some` if the entry is unobserved.
    unobserved: Option<ProbeState>,
    /// The program can close the socket without notice.
    is_raw: bool,
}

/// The part of a source whose readiness the crate knows.
#[derive(Default)]
pub(super) struct PushedEntry {
    interest: Readiness,
    /// The states that last.
    current: Readiness,
    /// The states that an edge-triggered entry has not reported.
    unreported: Readiness,
}

impl Entry {
    fn new(token: Token, interest: Interest, kind: Kind) -> Entry {
        let mut entry =
            Entry { token, mode: TriggerMode::Edge, is_armed: true, is_queued: false, is_ready: false, kind };
        entry.arm(token, interest);
        entry
    }

    pub(super) fn of_socket(
        socket: RawSocket,
        base: BaseSocket,
        afd: usize,
        token: Token,
        interest: Interest,
        is_raw: bool,
    ) -> Entry {
        let part = SocketEntry {
            socket,
            base,
            afd,
            interest: 0,
            reported: 0,
            result: 0,
            is_old: false,
            pending: Vec::with_capacity(BLOCKS_PER_ENTRY),
            flags: Arc::default(),
            unobserved: is_raw.then(|| ProbeState::new(socket)),
            is_raw,
        };
        Entry::new(token, interest, Kind::Socket(part))
    }

    pub(super) fn pushed(token: Token, interest: Interest) -> Entry {
        Entry::new(token, interest, Kind::Pushed(PushedEntry::default()))
    }

    /// Returns the part of a socket.
    pub(super) fn socket(&mut self) -> Option<&mut SocketEntry> {
        match &mut self.kind {
            Kind::Socket(socket) => Some(socket),
            Kind::Pushed(_) => None,
        }
    }

    /// Starts again with this token and interest. All that was reported can be reported again.
    pub(super) fn arm(&mut self, token: Token, interest: Interest) {
        (self.token, self.mode) = (token, interest.mode());
        self.is_armed = self.mode != TriggerMode::Disabled;
        match &mut self.kind {
            Kind::Socket(socket) => {
                socket.interest = bits_of_interest(interest);
                (socket.reported, socket.result, socket.is_old) = (0, 0, false);
                socket.flags.set_reported(0);
            }
            Kind::Pushed(pushed) => {
                pushed.interest = Readiness::of_interest(interest);
                pushed.unreported = pushed.current;
            }
        }
    }

    /// Returns `true` if the entry must be probed before a wait.
    pub(super) fn needs_probe(&self) -> bool {
        match &self.kind {
            Kind::Socket(socket) => {
                let is_final = socket.reported & bits::FAILURE != 0;
                socket.unobserved.is_some() && socket.reported & PROBED != 0 && !is_final
            }
            Kind::Pushed(_) => false,
        }
    }

    /// Probes an unobserved entry. Returns `true` if a bit was armed.
    pub(super) fn probe(&mut self) -> bool {
        let Kind::Socket(socket) = &mut self.kind else { return false };
        let Some(unobserved) = &mut socket.unobserved else { return false };
        let armed = unobserved.bits_to_arm(socket.socket, socket.reported);
        socket.set_reported(socket.reported & !armed);
        armed != 0
    }

    /// Returns `true` for a raw socket.
    pub(super) fn is_raw(&self) -> bool {
        matches!(&self.kind, Kind::Socket(socket) if socket.is_raw)
    }

    /// Makes the entry that of a raw socket. Returns `false` if it is one already.
    pub(super) fn switch_to_raw(&mut self) -> bool {
        let Some(socket) = self.socket() else { return false };
        socket.switch_to_probing();
        !mem::replace(&mut socket.is_raw, true)
    }

    /// Makes the entry unobserved, so that it is probed.
    pub(super) fn switch_to_probing(&mut self) {
        if let Some(socket) = self.socket() {
            socket.switch_to_probing();
        }
    }

    /// Re-arms after an operation. Returns `true` if a bit was armed.
    pub(super) fn rearm(&mut self, direction: IoDirection) -> bool {
        if self.mode != TriggerMode::Edge {
            return false;
        }
        self.socket().is_some_and(|socket| socket.rearm(direction))
    }

    /// Makes a request for the armed bits that no request in progress covers.
    ///
    /// `spare` are blocks for requests, so that a request allocates nothing.
    #[allow(clippy::vec_box)] // The kernel has the addresses of blocks.
    pub(super) fn request(
        &mut self,
        afd: &Afd,
        port: &Port,
        key: EntryKey,
        spare: &mut Vec<Box<Request>>,
    ) -> io::Result<()> {
        let is_armed = self.is_armed;
        let Some(socket) = self.socket() else { return Ok(()) };
        let armed = if is_armed { socket.interest | bits::FAILURE } else { 0 };
        let wanted = (armed & !socket.reported & !socket.result) | bits::LOCAL_CLOSE;
        let covered = socket.pending.iter().fold(0, |all, pending| all | pending.bits);
        let missing = wanted & !covered;
        if missing != 0 {
            if socket.is_raw {
                // The number may be that of another file now, even of the driver. wine's server ends itself at a request for that.
                BaseSocket::check_open(socket.socket)?;
            }
            // wine's server ends itself if a socket is closed during a request without this bit.
            let missing = missing | bits::LOCAL_CLOSE;
            socket.flags.clear_operations(missing);
            let block = spare.pop().unwrap_or_default();
            let pending = afd.request(port, socket.base, missing, key, block)?;
            socket.pending.push(pending);
        }
        Ok(())
    }

    /// Makes a request that ends only when the socket is closed, for a raw socket, which the program can close without notice.
    /// Without this request, the number might be that of another socket when the next request is made.
    pub(super) fn guard(&mut self, afd: &Afd, port: &Port, key: EntryKey) -> io::Result<()> {
        let Some(socket) = self.socket() else { return Ok(()) };
        let pending = afd.request(port, socket.base, bits::LOCAL_CLOSE, key, Box::default())?;
        socket.pending.push(pending);
        Ok(())
    }

    /// Ends a request of the entry.
    pub(super) fn end_request(&mut self, request: &mut Request) -> Ended {
        let is_armed = self.is_armed;
        let Some(socket) = self.socket() else { return Ended::WithoutResult };
        socket.pending.retain(|pending| !pending.is(request));
        let result = request.result();
        if result & bits::LOCAL_CLOSE != 0 {
            return Ended::Closed;
        }
        if is_armed {
            socket.result |= result & (socket.interest | bits::FAILURE) & !socket.reported;
        }
        match socket.result {
            0 => Ended::WithoutResult,
            _ => Ended::WithResult,
        }
    }

    /// Returns the event of the entry, if the entry has something to report, and records that it was reported.
    pub(super) fn take_event(&mut self) -> Option<IocpEvent> {
        if !self.is_armed {
            return None;
        }
        let mode = self.mode;
        let readiness = match &mut self.kind {
            Kind::Socket(socket) => socket.take_result(mode),
            Kind::Pushed(pushed) => pushed.take(mode),
        };
        if readiness.is_empty() {
            return None;
        }
        self.is_armed = mode != TriggerMode::OneShot;
        Some(IocpEvent::new(self.token, readiness))
    }

    /// Records that the event of the entry did not fit into the buffer.
    pub(super) fn mark_old(&mut self) {
        if let Some(socket) = self.socket() {
            socket.is_old = true;
        }
    }

    /// Returns `true` if a pushed entry has an event now.
    pub(super) fn has_pushed_event(&self) -> bool {
        match &self.kind {
            Kind::Socket(_) => false,
            Kind::Pushed(pushed) => self.is_armed && pushed.states(self.mode).has(pushed.interest),
        }
    }

    /// Adds states to a pushed entry, and removes others.
    pub(super) fn push(&mut self, set: Readiness, cleared: Readiness) {
        if let Kind::Pushed(pushed) = &mut self.kind {
            pushed.current = pushed.current & !cleared | set;
            pushed.unreported = pushed.unreported & !cleared | set;
        }
    }
}

/// The end of a request.
pub(super) enum Ended {
    WithResult,
    WithoutResult,
    /// The socket was closed, so that the registration has ended.
    Closed,
}

impl SocketEntry {
    fn set_reported(&mut self, reported: u32) {
        self.reported = reported;
        self.flags.set_reported(reported);
    }

    fn switch_to_probing(&mut self) {
        if self.unobserved.is_none() {
            self.unobserved = Some(ProbeState::new(self.socket));
        }
    }

    fn rearm(&mut self, direction: IoDirection) -> bool {
        let before = self.reported;
        if before & bits::FAILURE != 0 {
            // An operation may have fetched the error of a datagram socket.
            if !has_failed(self.socket) {
                self.set_reported(0);
            }
            return self.reported != before;
        }
        let mut armed = match direction {
            IoDirection::Read => bits_of(READ),
            IoDirection::Write => bits_of(WRITE),
            IoDirection::Unknown => bits_of(READ | WRITE),
        };
        if direction == IoDirection::Unknown && self.interest & bits::SEND != 0 && self.interest != bits::SEND {
            self.switch_to_probing();
            armed &= !bits::SEND;
        }
        if before & bits::DISCONNECT != 0 {
            // No more data can arrive.
            armed &= !(bits::RECEIVE | bits::ACCEPT);
        }
        self.set_reported(before & !armed);
        self.reported != before
    }

    fn take_result(&mut self, mode: TriggerMode) -> Readiness {
        let result = mem::take(&mut self.result);
        let operations = match mode {
            TriggerMode::Edge => self.flags.mark_reported(self.reported | result),
            _ => self.flags.mark_reported(0),
        };
        let is_old = mem::take(&mut self.is_old) || self.unobserved.is_some();
        let uncertain = result & if is_old { PROBED } else { bits_of(operations) };
        let result = match uncertain {
            0 => result,
            _ => result & !uncertain | held_bits(self.socket, uncertain),
        };
        if mode == TriggerMode::Edge {
            let is_final = result & bits::FAILURE != 0;
            self.set_reported(self.reported | result | if is_final { self.interest | bits::FAILURE } else { 0 });
            if let (Some(unobserved), true) = (&mut self.unobserved, result != 0) {
                unobserved.restart(self.socket);
            }
        }
        readiness_of(result)
    }
}

impl PushedEntry {
    fn states(&self, mode: TriggerMode) -> Readiness {
        match mode {
            TriggerMode::Edge => self.unreported,
            _ => self.current,
        }
    }

    fn take(&mut self, mode: TriggerMode) -> Readiness {
        if !self.states(mode).has(self.interest) {
            return Readiness::EMPTY;
        }
        self.unreported = Readiness::EMPTY;
        // The event has every state that lasts, so that one event has both directions.
        self.current & (self.interest | Readiness::READ_CLOSED | Readiness::WRITE_CLOSED | Readiness::ERROR)
    }
}
