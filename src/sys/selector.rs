//! The contract of a backend.
//!
//! # What a backend must do
//!
//! A backend is a folder with one type that implements [`Selector`]. The code above (`Poll`, the sockets, the wakers) relies on
//! this page, and is the same for every backend. The compiler reports the functions that a new backend lacks. The conformance
//! tests in `conformance/` run for every backend that the host can compile.
//!
//! **Threads.** Any thread may call any function at any time, also while one thread is blocked in `select`. Only `select` has
//! a single caller, because `Poll::poll` takes `&mut self`. A change takes effect at once, in a blocked `select` too.
//!
//! **Edges.** A record is returned when readiness begins, and again when more data or space arrives. Registering and
//! reregistering report existing readiness. Spurious records are allowed, missing records are not. A backend for a
//! level-triggered system call masks the readiness that it has reported, and re-arms after an operation. The [`Registration`]
//! of a source reports each operation to the backend. The operations of a raw descriptor ([`SourceKind::RawFd`]) are
//! unobserved, so that the backend must probe it.
//!
//! **Trigger modes.** The rules for edges hold for `TriggerMode::Edge`. `Level` returns a record at each `select` while the
//! source is ready, and sources take turns if their records do not fit. `OneShot` returns one record, for all readiness or for
//! one direction, and then nothing until the source is reregistered. `Disabled` returns nothing, and keeps the registration.
//!
//! **Records.** End of file, hang-up and errors make a record readable or writable, whatever else they set.
//!
//! **Tokens** are any `usize`, and are returned bit for bit.
//!
//! **Registrations** end with `deregister`, or when the descriptor is closed. After `deregister` returns, no later `select`
//! returns the token, because programs free the memory that a token points to. A failed registration leaves nothing behind. A
//! failed reregistration leaves the registration as before. An interest that the backend does not support is `Unsupported`.
//!
//! **Errors** are the same in every build profile: `AlreadyExists`, `NotFound`, `EPERM` for a regular file or a directory,
//! `EBADF` for registering a closed or negative descriptor, `EINVAL` for the descriptor of the selector itself. Other errors
//! of the kernel are returned unchanged. If a signal ends a `select`, the error is `Interrupted`.
//!
//! **Waits** are at most [`MAX_WAIT`] long, which every kernel accepts. A timeout that is finer than the unit of the kernel is
//! rounded up, so that no wait is too short.
//!
//! **Notifier and alarm.** Wakers and timers are above the backends. A backend provides a *notifier*, with which another thread
//! ends a wait, and, if the kernel has timers that can be waited for, one *alarm*. Both end a wait with a record of their own, or
//! without a record. [`take_internal`](Selector::take_internal) removes such records, so that the program never sees them. A
//! record that was returned once is not returned again. The alarm may end a wait early, because the code above reads the clock.
//!
//! **Memory.** `select` allocates nothing after its buffers have grown to the number of registrations.

use std::time::Duration;
use std::{fmt, io};

use crate::backend::Backend;
use crate::busy_poll::BusyPoll;
use crate::interest::Interest;
use crate::source::file_changes::FileChanges;
use crate::sys::error;
use crate::sys::raw_source::RawSource;
use crate::token::Token;

/// The longest wait of a backend. For a longer timeout `Poll` waits several times.
///
/// The limit is a day. macOS up to 10.14 refuses more than 100 000 000 s, and later versions refuse more than `i32::MAX` s.
/// On DragonFly a longer timeout overflows, and the call returns at once. epoll_wait(2) and poll(2) count milliseconds in an
/// `i32`, which is 24.8 days.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// The number of different settings of timers in records. The record of epoll has 31 bits for the setting.
pub(crate) const TIMER_SETTINGS: u32 = 1 << 31;

/// A backend. The page of this module is the contract.
pub(crate) trait Selector: Sized + Send + Sync + 'static {
    const BACKEND: Backend;
    /// `true` if the backend supports [`SourceKind::Filter`].
    const HAS_FILTERS: bool = false;
    /// `true` if several changes are cheaper in one call.
    const BATCHES_CHANGES: bool = false;

    /// The record that the kernel writes for one event.
    type Event: EventRecord;
    /// The state that a source keeps while it is registered. The source drops the state before its descriptor.
    type Registration: Registration;

    /// Creates a queue. Its descriptors are close-on-exec.
    fn new() -> io::Result<Self>;

    /// Waits for events, and replaces `events` by at most `max` events. `None` waits without limit.
    ///
    /// `max` is at least 1, and at most the capacity of `events`. The records of the notifier and the alarm are among the events.
    fn select(&self, events: &mut Vec<Self::Event>, max: usize, timeout: Option<Duration>) -> io::Result<()>;

    /// Registers a descriptor or a filter.
    fn register(
        &self,
        fd: RawSource,
        token: Token,
        interest: Interest,
        kind: SourceKind,
    ) -> io::Result<Self::Registration>;
    /// Replaces token and interest. `kind` is that of the registration. Unless it is [`SourceKind::RawFd`], the caller
    /// guarantees that the descriptor is registered.
    fn reregister(&self, fd: RawSource, token: Token, interest: Interest, kind: SourceKind) -> io::Result<()>;
    /// Ends a registration.
    fn deregister(&self, fd: RawSource, kind: SourceKind) -> io::Result<()>;

    /// Queues a change until `submit_changes`. Fails with the errors that can be found before the kernel makes the change.
    /// Called only if [`Selector::BATCHES_CHANGES`] is `true`.
    fn queue_change(&self, batch: &mut Vec<Change>, change: Change) -> io::Result<Self::Registration> {
        unreachable!("this backend does not queue changes: {change:?} {}", batch.len())
    }

    /// Records that a registered descriptor leaves its source, and stays open and registered.
    fn detach(&self, fd: RawSource, interest: Interest) {
        let _ = (fd, interest);
    }

    /// Makes the queued changes in order, and returns the result of each. No two changes have the same [key](Change::key).
    fn submit_changes(&self, batch: &[Change]) -> Vec<io::Result<()>> {
        debug_assert!(batch.is_empty(), "this backend does not queue changes");
        Vec::new()
    }

    /// Creates the notifier, unless there is one. The notifier ends a wait on behalf of another thread.
    ///
    /// The first waker creates the notifier, so that an error for lack of descriptors is an error of the waker's creation.
    fn create_notifier(&self) -> io::Result<()>;
    /// Ends the blocked `select`, or the next one. Any thread may call this function, after `create_notifier`. Async-signal-safe.
    fn notify(&self) -> io::Result<()>;

    /// Fails if other code has closed the descriptor of the notifier, and `select` would not detect that. Another file may have
    /// the number since. `Poll` calls this function before a wait, if a notification is on its way that no wait has returned yet.
    fn check_notifier(&self) -> io::Result<()> {
        Ok(())
    }

    /// Creates the alarm, unless there is one. The alarm is one timer of the kernel that ends a wait.
    ///
    /// If this fails, the timeouts of the waits keep the time. The error `EBADF` means that other code has closed the queue or a
    /// descriptor of the crate, whose number the new descriptor would have. The notifier and `register_internal` fail alike.
    fn create_alarm(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Sets the alarm to end the blocked `select`, or the next one, when `delay` has passed; before that time by the resolution
    /// of the kernel's clock at most. Any thread may call this function, after `create_alarm`. The setting replaces the previous
    /// one.
    fn set_alarm(&self, delay: Duration) -> io::Result<()> {
        let _ = delay;
        Err(io::ErrorKind::Unsupported.into())
    }
    /// Stops the alarm, and discards a record of the alarm that no `select` has returned yet.
    fn clear_alarm(&self) {}

    /// Registers a descriptor of the crate, level-triggered: the queue of file changes. Called once at most. `Poll` drops the
    /// descriptor after the backend.
    fn register_internal(&self, fd: RawSource) -> io::Result<()> {
        let _ = fd;
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Fails unless the number still stands for the descriptor of `register_internal`, as far as the backend can detect that.
    fn check_internal(&self, fd: RawSource) -> io::Result<()> {
        let _ = fd;
        Ok(())
    }

    /// Sets the parameters of busy polling of the network card.
    fn set_busy_poll(&self, parameters: BusyPoll) -> io::Result<()> {
        let _ = parameters;
        Err(error::unsupported_busy_poll())
    }

    /// Returns the parameters of busy polling.
    fn busy_poll(&self) -> io::Result<BusyPoll> {
        Err(error::unsupported_busy_poll())
    }

    /// Returns the number of registered descriptors. `None` if the kernel alone has them, or if another thread holds the lock.
    fn registration_count(&self) -> Option<usize> {
        None
    }

    /// Removes the records of the notifier, of the alarm and of the queue of file changes from the result of the last `select`.
    fn take_internal(&self, events: &mut Vec<Self::Event>) -> InternalEvents;
}

/// The records that [`Selector::take_internal`] has removed.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct InternalEvents {
    /// The notifier was used.
    pub(crate) is_notified: bool,
    /// The alarm has fired.
    pub(crate) has_alarm: bool,
    /// The descriptor of [`Selector::register_internal`] is readable.
    pub(crate) has_changes: bool,
}

impl InternalEvents {
    pub(crate) fn any(self) -> bool {
        self.is_notified || self.has_alarm || self.has_changes
    }
}

/// The record of one event. The methods are documented at `crate::event::Event`.
pub(crate) trait EventRecord: Clone + fmt::Debug {
    /// Returns the readable record of a waker.
    fn of_waker(token: Token) -> Self;
    /// Returns the readable record of a timer. `setting` is below [`TIMER_SETTINGS`].
    fn of_timer(token: Token, setting: u32, expirations: u64) -> Self;
    /// Returns the setting of the record of a timer, and `None` for another record.
    fn timer_setting(&self) -> Option<u32>;

    fn token(&self) -> Token;
    fn is_readable(&self) -> bool;
    fn is_writable(&self) -> bool;
    fn is_error(&self) -> bool;
    fn is_read_closed(&self) -> bool;
    fn is_write_closed(&self) -> bool;
    fn is_priority(&self) -> bool;
    fn is_aio(&self) -> bool {
        false
    }
    fn is_lio(&self) -> bool {
        false
    }

    /// Returns (`fflags`, `data`) if the record belongs to this filter.
    fn filter_payload(&self, ident: RawSource, filter: FilterSpec) -> Option<(u32, i64)> {
        let _ = (ident, filter);
        None
    }
}

/// The registration of a source, as the source holds it.
///
/// The backend for poll(2) ends a registration when this value is dropped, because the descriptor is closed next.
pub(crate) trait Registration: Send + Sync {
    /// Re-arms after an operation in `direction`.
    #[inline(always)]
    fn rearm(&self, direction: IoDirection) {
        let _ = direction;
    }

    /// Re-arms after an operation in `direction` that failed with `WouldBlock`.
    #[inline(always)]
    fn rearm_blocked(&self, direction: IoDirection) {
        let _ = direction;
    }

    /// Re-arms after a read of 0 bytes, unless the end of file is final for this kind of file.
    #[inline(always)]
    fn rearm_ended(&self) {}

    /// Switches to probing after an operation that failed for lack of a resource (`EMFILE`, `ENOBUFS`, …). The readiness has
    /// not changed. Re-arming would report the readiness again at once, and the loop of the program would spin.
    fn probe_instead(&self) {}

    /// Returns `false` if this value records that the registration has ended. A backend whose kernel tracks registrations always
    /// returns `true`.
    #[inline(always)]
    fn is_current(&self) -> bool {
        true
    }

    /// Detaches the descriptor from its source. The descriptor stays open and registered, and its operations are unobserved
    /// from now on. Returns the descriptor and its interest if [`Selector::detach`] has to be called.
    fn detach(self) -> Option<(RawSource, Interest)>;

    /// Returns the kind of the source, for a change or the end of its registration.
    #[inline(always)]
    fn source_kind(&self, kind: SourceKind) -> SourceKind {
        kind
    }

    /// Records the interest after a reregistration.
    #[inline(always)]
    fn set_interest(&mut self, interest: Interest) {
        let _ = interest;
    }

    /// Returns the descriptor that must be deregistered when its source is dropped, because dropping does not close it.
    fn fd_to_deregister(&self) -> Option<RawSource>;
}

/// The registration for backends whose kernel tracks readiness, so that operations need no report.
#[derive(Debug)]
#[allow(dead_code)] // Unused in a build for poll(2).
pub(crate) struct FdRegistration {
    fd: RawSource,
    interest: Interest,
    is_borrowed: bool,
}

#[allow(dead_code)] // As above.
impl FdRegistration {
    #[inline]
    pub(crate) fn new(fd: RawSource, interest: Interest, kind: SourceKind) -> FdRegistration {
        FdRegistration { fd, interest, is_borrowed: kind == SourceKind::Borrowed }
    }
}

impl Registration for FdRegistration {
    #[inline]
    fn detach(self) -> Option<(RawSource, Interest)> {
        Some((self.fd, self.interest))
    }

    #[inline(always)]
    fn source_kind(&self, _: SourceKind) -> SourceKind {
        SourceKind::Registered { interest: self.interest, is_borrowed: self.is_borrowed }
    }

    #[inline(always)]
    fn set_interest(&mut self, interest: Interest) {
        self.interest = interest;
    }

    #[inline]
    fn fd_to_deregister(&self) -> Option<RawSource> {
        self.is_borrowed.then_some(self.fd)
    }
}

/// The direction of an operation.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum IoDirection {
    Read,
    Write,
    /// A closure of `do_io` may have read, written, or done both.
    Unknown,
}

/// The kind of a source, as far as the backend uses it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// A socket or pipe of this crate. The descriptor is pollable, and a `Registration` reports its operations.
    Builtin,
    /// A descriptor that an `IoSource` owns. The descriptor may be a file, and a `Registration` reports its operations.
    Owned,
    /// A descriptor that an `IoSource` borrows: dropping the source does not close it.
    Borrowed,
    /// A registered source that changes or ends its registration, with the interest of the registration.
    Registered { interest: Interest, is_borrowed: bool },
    /// A raw descriptor. The descriptor may be a file, and its operations are unobserved.
    RawFd,
    /// A filter of a kqueue, whose ident takes the place of the descriptor. Used only if [`Selector::HAS_FILTERS`] is `true`.
    /// The source records whether it is registered, and deregisters the filter when it is dropped. Its interest is `READABLE`
    /// or `NONE`.
    Filter(FilterSpec),
}

/// The event that a filter of a kqueue waits for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FilterSpec {
    /// The process with this ident has exited. The payload is (1, wait status), or (0, 0) if the status is not known.
    Process,
    /// The process of this descriptor has exited. The payload is that of a process.
    #[cfg(has_procdesc)]
    ProcessDescriptor,
    /// The signal with this ident has arrived.
    Signal,
    /// The open file with this ident was changed in one of these ways.
    #[allow(dead_code)] // Read by the kqueue backend only.
    Vnode(FileChanges),
}

impl FilterSpec {
    #[allow(dead_code)] // Used by the kqueue backend only.
    pub(crate) fn is_process(self) -> bool {
        #[cfg(has_procdesc)]
        if self == FilterSpec::ProcessDescriptor {
            return true;
        }
        self == FilterSpec::Process
    }
}

/// One change of the registrations.
#[derive(Copy, Clone, Debug)]
#[allow(dead_code)] // Some fields are read by the kqueue backend only.
pub(crate) struct Change {
    pub(crate) operation: Operation,
    pub(crate) fd: RawSource,
    pub(crate) token: Token,
    pub(crate) interest: Interest,
    pub(crate) kind: SourceKind,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Register,
    Reregister,
    Deregister,
}

/// The key of a change: a descriptor, or the ident and the type of a filter.
pub(crate) type Key = (RawSource, Option<std::mem::Discriminant<FilterSpec>>);

impl Change {
    /// Returns the key of the change. Changes with different keys do not depend on each other.
    #[allow(dead_code)] // As above.
    pub(crate) fn key(&self) -> Key {
        let filter = match &self.kind {
            SourceKind::Filter(filter) => Some(std::mem::discriminant(filter)),
            _ => None,
        };
        (self.fd, filter)
    }

    pub(crate) fn deregister(fd: RawSource, kind: SourceKind) -> Change {
        Change { operation: Operation::Deregister, fd, token: Token(0), interest: Interest::NONE, kind }
    }
}
