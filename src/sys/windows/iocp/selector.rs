//! The backend: registrations, and the wait for packets.

use std::os::windows::io::RawSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, io};

use windows_sys::Win32::System::IO::OVERLAPPED_ENTRY;

use crate::backend::Backend;
use crate::interest::Interest;
use crate::sys::error::{already_exists, not_found};
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::selector::{InternalEvents, IoDirection, Registration, Selector, SourceKind};
use crate::sys::windows::iocp::afd::{kind_of, BaseSocket};
use crate::sys::windows::iocp::entry::{Entry, OperationFlags};
use crate::sys::windows::iocp::entry_key::EntryKey;
use crate::sys::windows::iocp::event::IocpEvent;
use crate::sys::windows::iocp::port::{key, Port};
use crate::sys::windows::iocp::pushed::PushedRegistration;
use crate::sys::windows::iocp::shared::{check_interest, Shared, MAX_PACKETS};
use crate::sys::windows::iocp::table::Table;
use crate::sys::windows::iocp::wait_timer::WaitTimer;
use crate::sys::windows::version;
use crate::token::Token;

/// The longest wait while an entry needs a probe. The interval doubles from the first value to the second.
const PROBE_INTERVAL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

/// The longest wait for the packets of canceled requests, before the wait begins without them. They come at once.
const CANCELLATION: Duration = Duration::from_millis(1);

/// The number of short batches of packets after which a wait begins, although other threads have canceled more requests.
pub(super) const MAX_FLUSHES: usize = 8;

pub(crate) struct IocpSelector {
    shared: Arc<Shared>,
    /// The single caller of `select` locks the state for the whole wait.
    wait: Mutex<WaitState>,
}

#[derive(Default)]
struct WaitState {
    /// The packets of the last wait.
    packets: Vec<OVERLAPPED_ENTRY>,
    timer: WaitTimer,
}

// SAFETY: the records contain pointers, which only the thread that has the lock uses.
unsafe impl Send for IocpSelector {}
// SAFETY: as above.
unsafe impl Sync for IocpSelector {}

impl IocpSelector {
    /// Returns the port, for overlapped operations.
    pub(crate) fn port(&self) -> &Arc<Port> {
        &self.shared.port
    }

    /// Registers a source whose readiness the crate itself knows.
    pub(crate) fn register_pushed(&self, token: Token, interest: Interest) -> io::Result<PushedRegistration> {
        check_interest(interest)?;
        let key = self.shared.with(|table| table.insert(Entry::pushed(token, interest)));
        Ok(PushedRegistration::new(Arc::clone(&self.shared), key))
    }

    /// Ends the registration of a raw socket that was closed. The packet of its request may be in the port, and another socket may
    /// have the number.
    fn end_closed(&self, socket: RawSocket, kind: SourceKind) {
        if kind == SourceKind::RawFd && self.shared.with(|table| table.key_of(socket)).is_some() {
            self.shared.drain_all();
            self.shared.with(|table| table.remove_closed(socket));
        }
    }

    /// Makes the requests for all that is armed. Waits for the packets of the requests that must be canceled for that.
    fn make_requests(&self, packets: &mut Vec<OVERLAPPED_ENTRY>) -> io::Result<()> {
        self.shared.with(Table::begin_probes);
        let mut flushes = 0;
        while flushes < MAX_FLUSHES {
            let is_awaiting = self.shared.with(|table| {
                table.probe();
                table.flush()?;
                if table.counts.awaiting > 0 {
                    table.begin_round(false);
                }
                io::Result::Ok(table.counts.awaiting > 0)
            })?;
            if !is_awaiting {
                return Ok(());
            }
            let result = self.shared.port.dequeue(packets, MAX_PACKETS, Some(CANCELLATION));
            // Behind a full batch there may be more packets of this flush.
            flushes += usize::from(packets.len() < MAX_PACKETS);
            self.shared.end_packets(packets, Table::end_round);
            self.shared.round_over.notify_all();
            result?;
        }
        Ok(())
    }

    /// Begins a wait. Returns its timeout, and the number of entries with a result.
    fn begin_wait(&self, left: Option<Duration>, probe_interval: Duration) -> io::Result<(Option<Duration>, usize)> {
        self.shared.with(|table| {
            table.flush()?;
            let timeout = match (table.ready_count(), table.counts.probes) {
                (0, _) if self.shared.is_notified.load(Ordering::SeqCst) => Some(Duration::ZERO),
                (0, 0) => left,
                (0, _) => Some(left.map_or(probe_interval, |left| left.min(probe_interval))),
                _ => Some(Duration::ZERO),
            };
            table.begin_round(timeout != Some(Duration::ZERO));
            Ok((timeout, table.ready_count()))
        })
    }
}

#[cfg(test)]
impl IocpSelector {
    pub(super) fn is_waiting(&self) -> bool {
        self.shared.with(|table| table.is_waiting())
    }

    /// Returns the number of begins and ends of waits.
    pub(super) fn round(&self) -> u64 {
        self.shared.with(|table| table.round)
    }

    /// Returns the lengths of the lists of keys.
    pub(super) fn list_lengths(&self) -> [usize; 2] {
        self.shared.with(|table| table.list_lengths())
    }
}

impl Selector for IocpSelector {
    const BACKEND: Backend = Backend::Iocp;

    type Event = IocpEvent;
    type Registration = IocpRegistration;

    fn new() -> io::Result<IocpSelector> {
        version::check()?;
        let port = Arc::new(Port::new()?);
        let mut table = Table::new(Arc::clone(&port));
        // The first handle of the driver is opened here, so that a system without the driver fails here.
        let afd = table.afds.assign(&port).map_err(|error| {
            let reason = format!(
                "a `Poll` cannot be created, because the driver AFD cannot be opened ({error}): a sandbox must permit \
                 `\\Device\\Afd`"
            );
            io::Error::new(error.kind(), reason)
        })?;
        table.afds.release(afd);
        let (is_posted, is_notified) = (AtomicBool::new(false), AtomicBool::new(false));
        let (draining, round_over) = (Mutex::default(), Condvar::new());
        let shared = Shared { port, table: Mutex::new(table), draining, round_over, is_posted, is_notified };
        Ok(IocpSelector { shared: Arc::new(shared), wait: Mutex::default() })
    }

    fn registration_count(&self) -> Option<usize> {
        self.shared.table.try_lock().ok().map(|table| table.len())
    }

    fn select(&self, events: &mut Vec<IocpEvent>, max: usize, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        let mut state = lock_ignoring_poison(&self.wait);
        let WaitState { packets, timer } = &mut *state;
        let deadline = timeout.filter(|timeout| !timeout.is_zero()).map(|timeout| Instant::now() + timeout);
        let (mut left, mut probe_interval) = (timeout, PROBE_INTERVAL.0);
        loop {
            self.make_requests(packets)?;
            let (wait, ready) = self.begin_wait(left, probe_interval)?;
            if let Some(wait) = wait.filter(|wait| !wait.is_zero()) {
                timer.arm(&self.shared.port, wait);
            }
            // Entries with a result leave space for at least one packet, so that sources take turns.
            let space = max.saturating_sub(ready).clamp(1, MAX_PACKETS);
            let result = self.shared.port.dequeue(packets, space, wait);
            if packets.iter().any(|packet| packet.lpCompletionKey != key::NOTIFY) {
                // The changes that follow must not interrupt a wait that is over, nor make requests that the next flush makes.
                self.shared.with(Table::end_wait);
            }
            let has_more = packets.len() == space;
            self.shared.end_packets(packets, |table| {
                table.end_round();
                if result.is_ok() {
                    // With an error, the program would not see the events.
                    table.deliver(events, max);
                }
            });
            self.shared.round_over.notify_all();
            result?;
            left = timeout.map(|_| time_until(deadline));
            // Packets without an event may have taken the place of others.
            let is_over = left == Some(Duration::ZERO) && !has_more;
            // Without events, the packets were late ones, or the probe interval has passed, or the kernel has returned early.
            if !events.is_empty() || self.shared.is_notified.load(Ordering::SeqCst) || is_over {
                return Ok(());
            }
            probe_interval = PROBE_INTERVAL.1.min(probe_interval * 2);
        }
    }

    fn register(
        &self,
        socket: RawSocket,
        token: Token,
        interest: Interest,
        kind: SourceKind,
    ) -> io::Result<IocpRegistration> {
        check_interest(interest)?;
        // Fails if the number is that of no open socket.
        let raw_kind = (kind == SourceKind::RawFd).then(|| kind_of(socket)).transpose()?;
        let base = BaseSocket::of(socket)?;
        let shared = Arc::clone(&self.shared);
        if self.shared.with(|table| table.key_of(socket)).is_some() {
            // The socket of the registration may have been closed, and the packet of its request may be on its way.
            self.shared.process_packets();
            self.shared.with(|table| table.remove_closed(socket));
        }
        self.shared.with(|table| {
            if table.key_of(socket).is_some() {
                return Err(already_exists());
            }
            let afd = table.afds.assign(&self.shared.port)?;
            let mut entry = Entry::of_socket(socket, base, afd, token, interest, raw_kind);
            let flags = entry.socket().map(|socket| Arc::clone(&socket.flags)).unwrap_or_default();
            let key = table.insert(entry);
            if let Err(error) = table.try_queue(key) {
                table.remove(key);
                return Err(error);
            }
            Ok(IocpRegistration(Box::new(RegistrationInner { shared, key, flags, is_detached: false })))
        })
    }

    fn reregister(&self, socket: RawSocket, token: Token, interest: Interest, kind: SourceKind) -> io::Result<()> {
        check_interest(interest)?;
        self.end_closed(socket, kind);
        self.shared.with(|table| {
            let key = table.key_of(socket).ok_or_else(not_found)?;
            table.update(key, |entry| entry.arm(token, interest));
            table.queue(key);
            Ok(())
        })
    }

    fn deregister(&self, socket: RawSocket, kind: SourceKind) -> io::Result<()> {
        self.end_closed(socket, kind);
        let key = self.shared.with(|table| table.key_of(socket)).ok_or_else(not_found)?;
        match self.shared.remove(key) {
            true => Ok(()),
            false => Err(not_found()),
        }
    }

    /// The port is the notifier.
    fn create_notifier(&self) -> io::Result<()> {
        Ok(())
    }

    fn notify(&self) -> io::Result<()> {
        // Each operation writes, so that the thread that returns the notification sees all that came before this call.
        if self.shared.is_notified.fetch_or(false, Ordering::SeqCst)
            || self.shared.is_posted.swap(true, Ordering::SeqCst)
        {
            return Ok(());
        }
        self.shared.port.post(key::NOTIFY).map_err(|error| {
            self.shared.is_posted.store(false, Ordering::SeqCst);
            error
        })
    }

    fn take_internal(&self, _: &mut Vec<IocpEvent>) -> InternalEvents {
        InternalEvents {
            is_notified: self.shared.is_notified.swap(false, Ordering::SeqCst),
            ..InternalEvents::default()
        }
    }
}

/// Returns the time until a deadline. `None` is the deadline of a wait that does not block.
fn time_until(deadline: Option<Instant>) -> Duration {
    deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()))
}

/// Cancels all requests. The port waits for their packets when it is closed.
impl Drop for IocpSelector {
    fn drop(&mut self) {
        self.shared.with(Table::clear);
    }
}

impl fmt::Debug for IocpSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IocpSelector").field("port", &self.shared.port).finish_non_exhaustive()
    }
}

/// A registration behind a pointer of eight bytes that is never null, so that sockets stay small.
pub(crate) struct IocpRegistration(Box<RegistrationInner>);

struct RegistrationInner {
    shared: Arc<Shared>,
    key: EntryKey,
    flags: Arc<OperationFlags>,
    /// Dropping the registration does not end it.
    is_detached: bool,
}

impl IocpRegistration {
    #[inline]
    fn record(&self, direction: IoDirection) {
        if self.0.flags.record(direction) {
            self.0.rearm(direction);
        }
    }
}

impl RegistrationInner {
    #[cold]
    fn rearm(&self, direction: IoDirection) {
        self.shared.with(|table| {
            if table.update(self.key, |entry| entry.rearm(direction)) == Some(true) {
                table.queue(self.key);
            }
        });
    }

    fn detach(&self) {
        self.shared.with(|table| {
            if table.update(self.key, Entry::switch_to_raw) == Some(true) {
                table.queue(self.key);
            }
        });
    }

    fn switch_to_probing(&self) {
        self.shared.with(|table| table.update(self.key, Entry::switch_to_probing));
    }
}

impl Registration for IocpRegistration {
    #[inline]
    fn rearm(&self, direction: IoDirection) {
        self.record(direction);
    }

    #[inline]
    fn rearm_blocked(&self, direction: IoDirection) {
        self.record(direction);
    }

    #[inline]
    fn rearm_ended(&self) {
        self.record(IoDirection::Read);
    }

    fn probe_instead(&self) {
        self.0.switch_to_probing();
    }

    fn is_current(&self) -> bool {
        self.0.shared.with(|table| table.get(self.0.key).is_some())
    }

    fn detach(mut self) -> Option<(RawSocket, Interest)> {
        self.0.detach();
        self.0.is_detached = true;
        None
    }

    /// Returns `None`, because dropping the registration ends it.
    fn fd_to_deregister(&self) -> Option<RawSocket> {
        None
    }
}

impl Drop for IocpRegistration {
    fn drop(&mut self) {
        if !self.0.is_detached {
            self.0.shared.remove(self.0.key);
        }
    }
}
