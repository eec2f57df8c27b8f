//! One registration, and the rules that make edges of level-triggered requests.
//!
//! A request ends when one of its bits holds. An edge-triggered registration must report readiness once. Therefore an entry
//! stores the bits that it has *reported*, and makes no request for them. The rules of re-arming are those of the poll(2)
//! backend: see `src/sys/unix/poll/entry.rs`. The differences:
//!
//! * A reset or failed connection is final. Only the entry of a datagram socket is re-armed by an operation, if a probe finds that
//!   the error is gone.
//! * The request of a raw socket ends when the socket is closed (`LOCAL_CLOSE`). Therefore a raw socket always has a request, except
//!   while a result is not reported yet, and after a request has failed.
//!
//! # One request at a time
//!
//! Windows confuses two requests for one socket that end at the same port: the packet of one can have the bits of the other, and the
//! other can stay in progress for ever. This was seen on Windows Server 2016 and 2019 and Windows 10
//! (<https://github.com/piscisaureus/wepoll/issues/35>, and `notes-to-self/afd-lab.py` of <https://github.com/python-trio/trio>).
//! Therefore an entry has one request at most. If more bits are wanted than those of the request in progress, the request is
//! canceled, and the next one begins when the packet of the canceled one has come. A socket that is registered again waits for the
//! packet of its last registration. WSAPoll() makes a request too, and is called only while the entry has none.
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

use windows_sys::Win32::Networking::WinSock::{SOCK_DGRAM, SOCK_STREAM, WSAENOTSOCK};

use crate::interest::{Interest, TriggerMode};
use crate::sys::selector::IoDirection;
use crate::sys::windows::iocp::afd::{kind_of, readiness_of, Afd, BaseSocket, Pending};
use crate::sys::windows::iocp::bits;
use crate::sys::windows::iocp::entry_key::EntryKey;
use crate::sys::windows::iocp::event::IocpEvent;
use crate::sys::windows::iocp::identity::Identity;
use crate::sys::windows::iocp::port::Port;
use crate::sys::windows::iocp::probe::{has_failed, held_bits, ProbeState, PROBED};
use crate::sys::windows::iocp::readiness::Readiness;
use crate::sys::windows::iocp::request::Request;
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

fn has_kind(socket: RawSocket, kind: i32) -> bool {
    kind_of(socket).is_ok_and(|of_socket| of_socket == kind)
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
    pub(super) pending: Option<Pending>,
    /// A canceled request of an earlier registration of the socket is in progress.
    pub(super) is_blocked: bool,
    pub(super) flags: Arc<OperationFlags>,
    /// `Some` if the entry is unobserved.
    unobserved: Option<ProbeState>,
    /// The next request is made after a probe.
    is_held: bool,
    /// A request has failed since the entry was armed.
    has_failed: bool,
    /// `Some` for a raw socket, which the program can close without notice.
    raw: Option<Box<Identity>>,
}

/// What the table counts of its entries.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// The entries that need a probe.
    pub(super) probes: usize,
    /// The requests in progress.
    pub(super) requests: usize,
    /// The entries whose next request waits for the packet of a canceled one.
    pub(super) awaiting: usize,
}

impl Counts {
    /// Replaces what is counted of an entry.
    pub(super) fn replace(&mut self, before: Counts, after: Counts) {
        self.probes = self.probes + after.probes - before.probes;
        self.requests = self.requests + after.requests - before.requests;
        self.awaiting = self.awaiting + after.awaiting - before.awaiting;
    }
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

    /// `raw_kind` is the type of a raw socket.
    pub(super) fn of_socket(
        socket: RawSocket,
        base: BaseSocket,
        afd: usize,
        token: Token,
        interest: Interest,
        raw_kind: Option<i32>,
    ) -> Entry {
        let part = SocketEntry {
            socket,
            base,
            afd,
            interest: 0,
            reported: 0,
            result: 0,
            is_old: false,
            pending: None,
            is_blocked: false,
            flags: Arc::default(),
            unobserved: raw_kind.map(|_| ProbeState::new(socket)),
            is_held: false,
            has_failed: false,
            raw: raw_kind.map(|kind| Box::new(Identity::of(socket, kind == SOCK_STREAM))),
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
                (socket.reported, socket.result) = (0, 0);
                (socket.is_old, socket.is_held, socket.has_failed) = (false, false, false);
                socket.flags.set_reported(0);
            }
            Kind::Pushed(pushed) => {
                pushed.interest = Readiness::of_interest(interest);
                pushed.unreported = pushed.current;
            }
        }
    }

    /// Returns what the table counts of the entry.
    pub(super) fn counts(&self) -> Counts {
        match &self.kind {
            Kind::Socket(socket) => Counts {
                probes: usize::from(socket.needs_probe()),
                requests: usize::from(socket.pending.is_some()),
                awaiting: usize::from(
                    socket.is_blocked || socket.pending.as_ref().is_some_and(|pending| pending.is_canceled),
                ),
            },
            Kind::Pushed(_) => Counts::default(),
        }
    }

    /// Probes an entry that needs a probe, and was not probed in this round. A request in progress is canceled instead, and the
    /// entry is probed when its packet has come. Returns `true` if the entry was probed, so that it needs a request.
    pub(super) fn probe(&mut self, afd: &Afd, round: u64) -> bool {
        let Some(socket) = self.socket() else { return false };
        if !socket.needs_probe() {
            return false;
        }
        let Some(unobserved) = &mut socket.unobserved else { return false };
        if !unobserved.begin_round(round) {
            return false;
        }
        if let Some(pending) = &mut socket.pending {
            unobserved.postpone();
            socket.is_held = true;
            afd.cancel(pending);
            return false;
        }
        socket.is_held = false;
        let armed = unobserved.bits_to_arm(socket.socket, socket.reported);
        socket.set_reported(socket.reported & !armed);
        true
    }

    /// Returns `true` for a raw socket.
    pub(super) fn is_raw(&self) -> bool {
        matches!(&self.kind, Kind::Socket(socket) if socket.raw.is_some())
    }

    /// Makes the entry that of a raw socket. Returns `false` if it is one already.
    pub(super) fn switch_to_raw(&mut self) -> bool {
        let Some(socket) = self.socket() else { return false };
        socket.switch_to_probing();
        socket.has_failed = false;
        let identity = Identity::of(socket.socket, has_kind(socket.socket, SOCK_STREAM));
        socket.raw.replace(Box::new(identity)).is_none()
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

    /// Makes a request for the armed bits. A request in progress without some of these bits is canceled, so that the next call of
    /// this function makes the request.
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
        let wanted = socket.wanted(is_armed);
        if let Some(pending) = &mut socket.pending {
            if wanted & !pending.bits != 0 {
                afd.cancel(pending);
            }
            return Ok(());
        }
        if wanted == 0 || socket.is_blocked {
            return Ok(());
        }
        if socket.is_closed() {
            // The number may be that of another file now, even of the driver. wine's server ends itself at a request for that.
            return Err(io::Error::from_raw_os_error(WSAENOTSOCK));
        }
        socket.flags.clear_operations(wanted);
        let block = spare.pop().unwrap_or_default();
        socket.pending = Some(afd.request(port, socket.base, wanted, key, socket.socket, block)?);
        Ok(())
    }

    /// Ends a request of the entry.
    pub(super) fn end_request(&mut self, request: &mut Request) -> Ended {
        let is_armed = self.is_armed;
        let Some(socket) = self.socket() else { return Ended::WithoutResult };
        socket.pending = None;
        socket.has_failed |= request.has_failed();
        let result = request.result();
        if result & bits::LOCAL_CLOSE != 0 {
            return Ended::Closed;
        }
        if let Some(identity) = &mut socket.raw {
            identity.record_result(result);
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
    /// Returns the bits that the next request waits for, or 0 if no request is needed.
    fn wanted(&self, is_armed: bool) -> u32 {
        if self.result != 0 || self.is_held && self.needs_probe() {
            return 0;
        }
        let bits = if is_armed { (self.interest | bits::FAILURE) & !self.reported } else { 0 };
        // A request that only waits for the close would fail again at once.
        match bits != 0 || self.raw.is_some() && !self.has_failed {
            // wine's server ends itself if a socket is closed during a request without this bit.
            true => bits | bits::LOCAL_CLOSE,
            false => 0,
        }
    }

    /// Returns `true` if the entry must be probed before a wait.
    fn needs_probe(&self) -> bool {
        let is_final = self.reported & bits::FAILURE != 0;
        self.unobserved.is_some() && self.reported & PROBED != 0 && !is_final
    }

    /// Returns `true` if a raw socket was closed. Its number may be that of another socket.
    pub(super) fn is_closed(&mut self) -> bool {
        self.raw.as_mut().is_some_and(|identity| !identity.is_of(self.socket))
    }

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
            // An operation may have fetched the error of a datagram socket. WSAPoll() of Windows before version 10 2004 does not
            // report that a connect has failed, so that streams are not probed.
            if has_kind(self.socket, SOCK_DGRAM) && !has_failed(self.socket) {
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
        let mut result = mem::take(&mut self.result);
        if self.is_closed() {
            result = 0; // The socket was closed after its request had ended.
        }
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
            let covered = match () {
                () if is_final => self.interest | bits::FAILURE,
                // The event is readable, too.
                () if result & bits::DISCONNECT != 0 => bits::READ,
                () => 0,
            };
            self.set_reported(self.reported | result | covered);
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
