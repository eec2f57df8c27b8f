//! The contract of a backend.
//!
//! # What a backend must do
//!
//! A backend is one folder with one type that implements [`Selector`]. Everything above it (`Poll`, the sockets, the
//! wakers) is written once, against this page. The compiler says what a new backend lacks; the cases in `conformance/`,
//! which run for every engine that the host compiles, say what it gets wrong.
//!
//! **Who calls.** Any thread may call anything at any time, also while one thread is inside `select`; only `select`
//! has a single caller (`Poll::poll` takes `&mut self`). FileChanges take effect at once for a `select` under way.
//!
//! **Edges.** A readiness is reported once, when it begins, and again when there is more of it. Registering and
//! reregistering report what is true already. An engine may report too much, never too little. One that is
//! level-triggered by nature masks what it has reported; the [`Registration`] of a source tells it of every operation, and for
//! a descriptor whose operations cannot be seen ([`SourceKind::RawFd`]) it has to look for itself.
//!
//! **Modes.** What is said of edges holds for `TriggerMode::Edge`. `Level` reports at each `select` what is true, and takes
//! turns when events do not fit. `OneShot` makes one record, of all that is true by then or of one direction of it, and
//! nothing more until reregistered. `Parked` reports nothing, and keeps the place.
//!
//! **Truth.** End of file, hang-up and errors make a record readable or writable, whatever else they set.
//!
//! **Tokens** are any `usize` and come back as they went in.
//!
//! **Registrations** end with `deregister`, or when the descriptor is closed. After `deregister` returned, no later
//! `select` may return that token (programs free what it points to). One that fails leaves nothing behind. An interest
//! that cannot be armed is `Unsupported`.
//!
//! **Errors** are the same in every build profile: `AlreadyExists`, `NotFound`, `EPERM` for a regular file or a
//! directory, `EBADF` for registering a closed or negative descriptor, `EINVAL` for the engine's own. Others are the kernel's,
//! untouched; a `select` that a signal ended is `Interrupted`.
//!
//! **Waits** are never longer than [`MAX_WAIT`], which every kernel accepts, and never cut short: what is finer
//! than the kernel's unit is rounded up.
//!
//! **Nothing is allocated** by a `select` once its buffers have grown to the number of registrations.

use std::os::fd::RawFd;
use std::time::Duration;
use std::{fmt, io};

use crate::backend::Backend;
use crate::interest::Interest;
use crate::source::file_changes::FileChanges;
use crate::token::Token;

/// The longest that an engine is asked to wait; `Poll` asks again when it has passed.
///
/// A day: macOS up to 10.14 refuses more than 100 000 000 s and later ones more than `i32::MAX` s; DragonFly overflows
/// and returns at once; epoll_wait(2) and poll(2) count milliseconds in an `i32`, 24.8 days.
pub(crate) const MAX_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

/// A kernel's way to wait for many things. The module's page says what each function owes its caller.
pub(crate) trait Selector: Sized + Send + Sync + 'static {
    const BACKEND: Backend;
    /// Whether it knows [`SourceKind::Filter`].
    const HAS_FILTERS: bool = false;
    /// Whether several changes are cheaper together.
    const BATCHES_CHANGES: bool = false;

    /// One event as the kernel writes it.
    type Event: EventRecord;
    /// What a source keeps while it is registered, and drops before its descriptor.
    type Registration: Registration;
    /// What `wake` needs.
    type WakeHandle: Send + Sync;

    /// A close-on-exec queue.
    fn new() -> io::Result<Self>;

    /// Waits for events and fills `events` with at most its capacity, which is never 0. `None` waits for ever.
    fn select(&self, events: &mut Vec<Self::Event>, timeout: Option<Duration>) -> io::Result<()>;

    fn register(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind)
        -> io::Result<Self::Registration>;
    /// `kind` as at registration: what is not bare is known to be registered.
    fn reregister(&self, fd: RawFd, token: Token, interest: Interest, kind: SourceKind) -> io::Result<()>;
    fn deregister(&self, fd: RawFd, kind: SourceKind) -> io::Result<()>;

    /// Puts a change off until `apply`, and says of it what can be said before. Asked only of an engine that says so
    /// ([`Selector::BATCHES_CHANGES`]).
    fn queue_change(&self, batch: &mut Vec<Change>, change: Change) -> io::Result<Self::Registration> {
        unreachable!("nothing is deferred by default: {change:?} {}", batch.len())
    }

    /// A registered descriptor leaves its source, and stays open and registered.
    fn detach(&self, fd: RawFd, interest: Interest) {
        let _ = (fd, interest);
    }

    /// Makes the changes that were put off, in their order, and returns the result of each. No two of them have the same
    /// [key](Change::key).
    fn submit_changes(&self, batch: &[Change]) -> Vec<io::Result<()>> {
        debug_assert!(batch.is_empty(), "nothing is deferred by default");
        Vec::new()
    }

    /// A waker makes readable records with its token. Any number may exist.
    fn add_waker(&self, token: Token) -> io::Result<Self::WakeHandle>;
    /// Makes a record for this waker, in the `select` under way or in the next one. Safe in any thread; several calls
    /// before a `select` may make one record.
    fn wake(&self, waker: &Self::WakeHandle) -> io::Result<()>;
    /// Ends what closing its descriptors does not: the waker is dropped next.
    fn remove_waker(&self, waker: &Self::WakeHandle);
}

/// The questions that a kernel's record answers. What each means is told at `crate::event::Event`.
pub(crate) trait EventRecord: Clone + fmt::Debug {
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

    /// What it says of this filter, if it is one of its: (`fflags`, `data`).
    fn filter_payload(&self, ident: RawFd, filter: FilterSpec) -> Option<(u32, i64)> {
        let _ = (ident, filter);
        None
    }
}

/// What registrations a registered source to its engine.
///
/// Dropping a registration of a level-triggered engine ends its registration, if that has not ended yet: the descriptor is about
/// to be closed.
pub(crate) trait Registration: Send + Sync {
    /// An operation in `direction` has been done.
    #[inline(always)]
    fn rearm(&self, direction: IoDirection) {
        let _ = direction;
    }

    /// An operation in `direction` would have blocked.
    #[inline(always)]
    fn rearm_blocked(&self, direction: IoDirection) {
        let _ = direction;
    }

    /// A read has returned 0 bytes: the end, unless the descriptor is of a kind that goes on after it.
    #[inline(always)]
    fn rearm_ended(&self) {}

    /// An operation has failed and changed nothing, for want of something that others may give back at any time.
    fn probe_instead(&self) {}

    /// Whether the registration is still this source's, where the registration knows that and the engine does not.
    #[inline(always)]
    fn is_current(&self) -> bool {
        true
    }

    /// The descriptor leaves its source, and stays open and registered: from here on its operations cannot be observed.
    /// Returns the descriptor and its interest if the engine has to know ([`Selector::detach`]).
    fn detach(self) -> Option<(RawFd, Interest)>;

    /// What a source of this kind says of itself when it changes or ends its registration.
    #[inline(always)]
    fn source_kind(&self, kind: SourceKind) -> SourceKind {
        kind
    }

    /// The registration has been changed to this interest.
    #[inline(always)]
    fn set_interest(&mut self, interest: Interest) {
        let _ = interest;
    }

    /// The descriptor to deregister when its source is dropped, because that will not close it.
    fn fd_to_deregister(&self) -> Option<RawFd>;
}

/// The registration of an engine that needs no word of operations.
#[derive(Debug)]
#[allow(dead_code)] // poll(2) has a registration of its own.
pub(crate) struct FdRegistration {
    fd: RawFd,
    interest: Interest,
    is_borrowed: bool,
}

#[allow(dead_code)] // As above.
impl FdRegistration {
    #[inline]
    pub(crate) fn of(fd: RawFd, interest: Interest, kind: SourceKind) -> FdRegistration {
        FdRegistration { fd, interest, is_borrowed: kind == SourceKind::Borrowed }
    }
}

impl Registration for FdRegistration {
    #[inline]
    fn detach(self) -> Option<(RawFd, Interest)> {
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
    fn fd_to_deregister(&self) -> Option<RawFd> {
        self.is_borrowed.then_some(self.fd)
    }
}

/// Which side of a descriptor an operation used.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum IoDirection {
    Read,
    Write,
    Unknown,
}

/// What is known of a descriptor that is being registered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// A socket or pipe of ours: it can be waited for, and a `Registration` tells of its operations.
    Builtin,
    /// Any descriptor in an `IoSource`: it may be a file; a `Registration` tells of its operations.
    Owned,
    /// As `Wrapped`, and dropping its source does not close it.
    Borrowed,
    /// A source that is registered, when it changes or ends its registration: what it was registered for last.
    Registered { interest: Interest, is_borrowed: bool },
    /// A number and nothing else: it may be a file, and its operations cannot be seen.
    RawFd,
    /// Not a descriptor, but something that a kqueue waits for by itself; the number is its ident. Asked only of an
    /// engine that says so ([`Selector::HAS_FILTERS`]). Its source deregisters it when dropped, knows whether it is registered,
    /// and asks for reading or parking and nothing else.
    Filter(FilterSpec),
}

/// What a kqueue waits for besides descriptors.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FilterSpec {
    /// The time is up: once, or again and again.
    #[allow(dead_code)] // Only a kqueue reads it.
    Timer { delay: Duration, periodic: bool },
    /// The process, whose number is the ident, has exited.
    Process,
    /// The signal, whose number is the ident, has come.
    Signal,
    /// The open file, whose descriptor is the ident, was changed in one of these ways.
    #[allow(dead_code)] // As above.
    Vnode(FileChanges),
}

impl FilterSpec {
    /// Whether others may ask for the same ident, and would be given the same filter.
    pub(crate) fn is_exclusive_per_queue(self) -> bool {
        !matches!(self, FilterSpec::Timer { .. })
    }
}

/// One change of the registrations.
#[derive(Copy, Clone, Debug)]
#[allow(dead_code)] // Only engines that can defer it read all of it.
pub(crate) struct Change {
    pub(crate) operation: Operation,
    pub(crate) fd: RawFd,
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

/// A descriptor, or what else a change is made to.
pub(crate) type Key = (RawFd, Option<std::mem::Discriminant<FilterSpec>>);

impl Change {
    /// What the change is made to: changes with different keys do not depend on each other.
    #[allow(dead_code)] // As above.
    pub(crate) fn key(&self) -> Key {
        let filter = match &self.kind {
            SourceKind::Filter(filter) => Some(std::mem::discriminant(filter)),
            _ => None,
        };
        (self.fd, filter)
    }

    pub(crate) fn deregister(fd: RawFd, kind: SourceKind) -> Change {
        Change { operation: Operation::Deregister, fd, token: Token(0), interest: Interest::NONE, kind }
    }
}
