//! The contract of a backend, the backends, and the one place that names operating systems.
//!
//! # What a backend must do
//!
//! A backend is one file with one type that implements [`Engine`]. Everything above it (`Poll`, the sockets, the
//! wakers) is written once, against this page. The compiler says what a new backend lacks; the cases in `tests/`,
//! which run for every engine that the host compiles, say what it gets wrong.
//!
//! **Who calls.** Any thread may call anything at any time, also while one thread is inside `select`; only `select`
//! has a single caller (`Poll::poll` takes `&mut self`). Changes take effect at once for a `select` under way.
//!
//! **Edges.** A readiness is reported once, when it begins, and again when there is more of it. Registering and
//! reregistering report what is true already. An engine may report too much, never too little. One that is
//! level-triggered by nature masks what it has reported; the [`Tie`] of a source tells it of every operation, and for
//! a descriptor whose operations cannot be seen ([`Origin::Bare`]) it has to look for itself.
//!
//! **Modes.** What is said of edges holds for `Mode::Edge`. `Level` reports at each `select` what is true, and takes
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
//! **Waits** are never longer than [`LONGEST_WAIT`], which every kernel accepts, and never cut short: what is finer
//! than the kernel's unit is rounded up.
//!
//! **Nothing is allocated** by a `select` once its buffers have grown to the number of registrations.

use std::os::fd::RawFd;
use std::time::Duration;
use std::{fmt, io};

use crate::{Changes, Interest, Token};

/// What some systems have and others have to do without: `name!({ with it } else { without })`, of which only the one
/// that applies is compiled, or `name! { item … }`, an item that is compiled where they have it.
macro_rules! capabilities {
    ($($(#[$doc:meta])* $name:ident: $systems:meta;)+) => {$(
        $(#[$doc])*
        #[cfg($systems)]
        #[allow(unused_macros)]
        macro_rules! $name {
            (item $with:item) => { $with };
            ($with:block else $without:block) => { $with };
        }
        #[cfg(not($systems))]
        #[allow(unused_macros)]
        macro_rules! $name {
            (item $with:item) => {};
            ($with:block else $without:block) => { $without };
        }
    )+};
}

capabilities! {
    /// pipe2(2), socket(2) and accept4(2) make descriptors non-blocking and close-on-exec; else fcntl(2) does.
    with_flags: any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "illumos",
        target_os = "cygwin"
    );
    /// pipe(2) is a system call with its numbers in memory, and is not pipe2(2).
    with_bare_pipe: all(target_os = "linux", any(target_arch = "x86_64", target_arch = "x86"), not(miri));
    /// ppoll(2): poll(2) with nanoseconds and a signal mask. NetBSD's is called pollts(2).
    with_ppoll: any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd",
        target_os = "haiku",
        target_os = "hurd",
        target_os = "cygwin"
    );
    /// `POLLRDHUP`: poll(2) tells a half-close from data.
    with_pollrdhup: any(target_os = "linux", target_os = "android", target_os = "freebsd", target_os = "illumos");
    /// `POLLRDHUP` may be part of the question for any kind of descriptor.
    with_half_close_of_files: not(target_os = "freebsd");
    /// `O_PATH`: a descriptor that names a file and does not open it.
    with_path_descriptors: any(target_os = "linux", target_os = "android", target_os = "freebsd");
    /// Regular files that can be waited for: POSIX message queues, and some of `/proc`.
    with_files_to_wait_for: any(target_os = "linux", target_os = "android");
    /// mq_getattr(2) of a descriptor: POSIX message queues are files.
    with_message_queues: target_os = "linux";
    /// epoll_pwait2(2): epoll_wait(2) with nanoseconds. Android's filter kills a process that calls it, before Android 15.
    with_pwait2: all(target_os = "linux", not(miri));
    /// `EVFILT_EXCEPT`: kqueue tells of urgent data.
    with_except: any(target_vendor = "apple", target_os = "dragonfly", target_os = "openbsd");
    /// `FIONREAD`: how much is unread.
    with_fionread: not(target_os = "vita");
    /// `EPOLL_CTL_MOD` reports again what is ready, edge-triggered or not, and costs less than a write to an eventfd.
    with_requeue: any(target_os = "linux", target_os = "android");
    /// `EPOLLEXCLUSIVE`: of several queues that wait for one open file, not all are woken.
    with_exclusive: any(target_os = "linux", target_os = "android");
    /// pidfd_open(2): a process that is a descriptor. Android's filter kills a process that calls it, before Android 12.
    with_pidfd: all(target_os = "linux", not(any(miri, kevio_unsupported_force_fallbacks)));
    /// `SA_RESTART` and `SA_ONSTACK`: a handler does not end the calls it interrupts, and runs on a stack of its own.
    with_restart: not(target_os = "nto");
    /// `SA_NOCLDWAIT`: children are not kept for who waits for them.
    with_nocldwait: not(target_os = "hurd");
    /// SIGIO is ignored by default; elsewhere it ends the process (signal(7), signal(3) of the BSDs).
    with_ignored_sigio: any(
        target_vendor = "apple",
        target_os = "freebsd",
        target_os = "dragonfly",
        target_os = "netbsd",
        target_os = "openbsd"
    );
    /// madvise(2) with `MADV_WIPEONFORK`: a page that the kernel clears in a forked child.
    with_wipe_on_fork: any(target_os = "linux", target_os = "android");
    /// minherit(2) with `INHERIT_ZERO`: the same.
    with_inherit_zero: any(target_os = "freebsd", target_os = "netbsd", target_os = "openbsd");
    /// One of the two.
    with_cleared_pages: any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_os = "netbsd",
        target_os = "openbsd"
    );
    /// pthread_atfork(3): a function that runs in a forked child before fork(2) returns.
    with_atfork: not(any(target_os = "redox", target_os = "emscripten", target_os = "vita"));
    /// The kernel counts a zero after each name of a Unix socket, as std supposes; also after one that fills `sun_path`.
    with_whole_names: any(target_os = "linux", target_os = "android");
    /// Names of Unix sockets that are not in the file system.
    with_abstract_names: any(target_os = "linux", target_os = "android");
}

pub(crate) mod call;
mod file;
pub(crate) mod fork;
pub(crate) mod pipe;
pub(crate) mod ppoll;
pub(crate) mod process;
mod revents;
mod self_pipe;
#[cfg(feature = "net")]
pub(crate) mod socket;
#[cfg(test)]
mod tests;
pub(crate) mod timer;
pub(crate) mod watch;

/// A kernel's way to wait for many things. The module's page says what each function owes its caller.
pub(crate) trait Engine: Sized + Send + Sync + 'static {
    const BACKEND: Backend;
    /// Whether it knows [`Origin::Filter`].
    const FILTERS: bool = false;
    /// Whether several changes are cheaper together.
    const DEFERS: bool = false;

    /// One event as the kernel writes it.
    type Event: Record;
    /// What a source keeps while it is registered, and drops before its descriptor.
    type Tie: Tie;
    /// What `wake` needs.
    type Waker: Send + Sync;

    /// A close-on-exec queue.
    fn new() -> io::Result<Self>;

    /// Waits for events and fills `events` with at most its capacity, which is never 0. `None` waits for ever.
    fn select(&self, events: &mut Vec<Self::Event>, timeout: Option<Duration>) -> io::Result<()>;

    fn register(&self, fd: RawFd, token: Token, interest: Interest, origin: Origin) -> io::Result<Self::Tie>;
    /// `origin` as at registration: what is not bare is known to be registered.
    fn reregister(&self, fd: RawFd, token: Token, interest: Interest, origin: Origin) -> io::Result<()>;
    fn deregister(&self, fd: RawFd, origin: Origin) -> io::Result<()>;

    /// Puts a change off until `apply`, and says of it what can be said before. Asked only of an engine that says so
    /// ([`Engine::DEFERS`]).
    fn defer(&self, batch: &mut Vec<Change>, change: Change) -> io::Result<Self::Tie> {
        unreachable!("nothing is deferred by default: {change:?} {}", batch.len())
    }

    /// A registered descriptor leaves its source, and stays open and registered.
    fn detach(&self, fd: RawFd, interest: Interest) {
        let _ = (fd, interest);
    }

    /// Makes the changes that were put off, in their order, and returns the result of each. No two of them have the same
    /// [key](Change::key).
    fn apply(&self, batch: &[Change]) -> Vec<io::Result<()>> {
        debug_assert!(batch.is_empty(), "nothing is deferred by default");
        Vec::new()
    }

    /// A waker makes readable records with its token. Any number may exist.
    fn add_waker(&self, token: Token) -> io::Result<Self::Waker>;
    /// Makes a record for this waker, in the `select` under way or in the next one. Safe in any thread; several calls
    /// before a `select` may make one record.
    fn wake(&self, waker: &Self::Waker) -> io::Result<()>;
    /// Ends what closing its descriptors does not: the waker is dropped next.
    fn remove_waker(&self, waker: &Self::Waker);
}

/// The questions that a kernel's record answers. What each means is told at `crate::event::Event`.
pub(crate) trait Record: Clone + fmt::Debug {
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
    fn told(&self, ident: RawFd, filter: Filter) -> Option<(u32, i64)> {
        let _ = (ident, filter);
        None
    }
}

/// What ties a registered source to its engine.
///
/// Dropping a tie of a level-triggered engine ends its registration, if that has not ended yet: the descriptor is about
/// to be closed.
pub(crate) trait Tie: Send + Sync {
    /// An operation in `direction` has been done.
    #[inline(always)]
    fn rearm(&self, direction: Direction) {
        let _ = direction;
    }

    /// An operation in `direction` would have blocked.
    #[inline(always)]
    fn rearm_blocked(&self, direction: Direction) {
        let _ = direction;
    }

    /// A read has returned 0 bytes: the end, unless the descriptor is of a kind that goes on after it.
    #[inline(always)]
    fn rearm_ended(&self) {}

    /// An operation has failed and changed nothing, for want of something that others may give back at any time.
    fn doubt(&self) {}

    /// Whether the registration is still this source's, where the tie knows that and the engine does not.
    #[inline(always)]
    fn is_current(&self) -> bool {
        true
    }

    /// The descriptor leaves its source, and stays open and registered: from here on its operations cannot be observed.
    /// Returns the descriptor and its interest if the engine has to know ([`Engine::detach`]).
    fn release(self) -> Option<(RawFd, Interest)>;

    /// What a source of this kind says of itself when it changes or ends its registration.
    #[inline(always)]
    fn origin(&self, kind: Origin) -> Origin {
        kind
    }

    /// The registration has been changed to this interest.
    #[inline(always)]
    fn set_interest(&mut self, interest: Interest) {
        let _ = interest;
    }

    /// The descriptor to deregister when its source is dropped, because that will not close it.
    fn lent(&self) -> Option<RawFd>;
}

/// The tie of an engine that needs no word of operations.
#[derive(Debug)]
#[allow(dead_code)] // poll(2) has a tie of its own.
pub(crate) struct Number {
    fd: RawFd,
    interest: Interest,
    is_borrowed: bool,
}

#[allow(dead_code)] // As above.
impl Number {
    #[inline]
    pub(crate) fn of(fd: RawFd, interest: Interest, origin: Origin) -> Number {
        Number { fd, interest, is_borrowed: origin == Origin::Lent }
    }
}

impl Tie for Number {
    #[inline]
    fn release(self) -> Option<(RawFd, Interest)> {
        Some((self.fd, self.interest))
    }

    #[inline(always)]
    fn origin(&self, _: Origin) -> Origin {
        Origin::Registered { interest: self.interest, is_borrowed: self.is_borrowed }
    }

    #[inline(always)]
    fn set_interest(&mut self, interest: Interest) {
        self.interest = interest;
    }

    #[inline]
    fn lent(&self) -> Option<RawFd> {
        self.is_borrowed.then_some(self.fd)
    }
}

/// Which side of a descriptor an operation used.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
    Either,
}

/// What is known of a descriptor that is being registered.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A socket or pipe of ours: it can be waited for, and a `Tie` tells of its operations.
    Own,
    /// Any descriptor in an `IoSource`: it may be a file; a `Tie` tells of its operations.
    Wrapped,
    /// As `Wrapped`, and dropping its source does not close it.
    Lent,
    /// A source that is registered, when it changes or ends its registration: what it was registered for last.
    Registered { interest: Interest, is_borrowed: bool },
    /// A number and nothing else: it may be a file, and its operations cannot be seen.
    Bare,
    /// Not a descriptor, but something that a kqueue waits for by itself; the number is its ident. Asked only of an
    /// engine that says so ([`Engine::FILTERS`]). Its source deregisters it when dropped, knows whether it is registered,
    /// and asks for reading or parking and nothing else.
    Filter(Filter),
}

/// What a kqueue waits for besides descriptors.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Filter {
    /// The time is up: once, or again and again.
    #[allow(dead_code)] // Only a kqueue reads it.
    Timer { wait: Duration, again: bool },
    /// The process, whose number is the ident, has exited.
    Process,
    /// The signal, whose number is the ident, has come.
    Signal,
    /// The open file, whose descriptor is the ident, was changed in one of these ways.
    #[allow(dead_code)] // As above.
    Vnode(Changes),
}

impl Filter {
    /// Whether others may ask for the same ident, and would be given the same filter.
    pub(crate) fn is_shared(self) -> bool {
        !matches!(self, Filter::Timer { .. })
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
    pub(crate) origin: Origin,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Register,
    Reregister,
    Deregister,
}

/// A descriptor, or what else a change is made to.
pub(crate) type Key = (RawFd, Option<std::mem::Discriminant<Filter>>);

impl Change {
    /// What the change is made to: changes with different keys do not depend on each other.
    #[allow(dead_code)] // As above.
    pub(crate) fn key(&self) -> Key {
        let filter = match &self.origin {
            Origin::Filter(filter) => Some(std::mem::discriminant(filter)),
            _ => None,
        };
        (self.fd, filter)
    }

    pub(crate) fn deregister(fd: RawFd, origin: Origin) -> Change {
        Change { operation: Operation::Deregister, fd, token: Token(0), interest: Interest::PARKED, origin }
    }
}

/// Which of the kernel's ways to wait kevio was built on; see [`BACKEND`](crate::BACKEND).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// kqueue(2): Apple systems, the BSDs, and Linux with libkqueue.
    Kqueue,
    /// epoll(7): Linux, Android, illumos, Redox.
    Epoll,
    /// poll(2): every other Unix.
    Poll,
}

impl Backend {
    /// `"kqueue"`, `"epoll"` or `"poll"`, as in `--cfg kevio_backend="…"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Kqueue => "kqueue",
            Backend::Epoll => "epoll",
            Backend::Poll => "poll",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The longest that an engine is asked to wait; `Poll` asks again when it has passed.
///
/// A day: macOS up to 10.14 refuses more than 100 000 000 s and later ones more than `i32::MAX` s; DragonFly overflows
/// and returns at once; epoll_wait(2) and poll(2) count milliseconds in an `i32`, 24.8 days.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 60 * 60);

#[cold]
pub(crate) fn already_exists() -> io::Error {
    io::Error::new(io::ErrorKind::AlreadyExists, "I/O source already registered with a `Registry`")
}

#[cold]
pub(crate) fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "I/O source not registered with `Registry`")
}

/// A registration, a wait or a wake of a `Poll`, a timer or another source that another process made.
#[cold]
pub(crate) fn inherited() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "inherited from the parent process by fork(2)")
}

#[cold]
pub(crate) fn unsupported() -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, "this backend cannot wait for such an interest")
}

/// Compiles the chosen engine as `Selector`, and for the tests every other one that the host has.
macro_rules! choose {
    (descriptor if $descriptor:meta; $($module:ident::$engine:ident if $chosen:meta, tested if $host:meta;)+) => {
        $(
            #[cfg(any($chosen, all(test, $host)))]
            mod $module;

            /// The engine that kevio is built on.
            #[cfg($chosen)]
            pub(crate) type Selector = $module::$engine;
        )+

        #[cfg(test)]
        mod contract {
            $(
                #[cfg(any($chosen, $host))]
                mod $module {
                    crate::sys::tests::cases!(crate::sys::$module::$engine);
                }
            )+
        }

        #[cfg(test)]
        mod pairs {
            crate::sys::tests::differential::pairs! { $($module::$engine if any($chosen, $host);)+ }
        }

        /// Compiles an item where the queue is a descriptor, which poll(2)'s is not.
        #[cfg($descriptor)]
        macro_rules! queue_has_descriptor {
            ($item:item) => { $item };
        }
        #[cfg(not($descriptor))]
        macro_rules! queue_has_descriptor {
            ($item:item) => {};
        }
    };
}

/// Which systems have what: a new one is a word here. The rest of this macro is the rule of choice.
macro_rules! systems {
    (kqueue: $kqueue:meta, epoll: $epoll:meta, eventfd: $eventfd:meta, timerfd: $timerfd:meta, inotify: $inotify:meta,
     sigaction: $sigaction:meta, waitid: $waitid:meta) => {
        choose! {
            descriptor if any(
                kevio_backend = "kqueue",
                kevio_backend = "epoll",
                all(any($kqueue, $epoll), not(any(kevio_backend = "poll", mio_unsupported_force_poll_poll)))
            );
            kqueue::Kqueue if any(
                kevio_backend = "kqueue",
                all(
                    $kqueue,
                    not(any(kevio_backend = "epoll", kevio_backend = "poll", mio_unsupported_force_poll_poll))
                )
            ), tested if $kqueue;
            epoll::Epoll if any(
                kevio_backend = "epoll",
                all(
                    $epoll,
                    not(any(kevio_backend = "kqueue", kevio_backend = "poll", mio_unsupported_force_poll_poll))
                )
            ), tested if $epoll;
            poll::PollSet if any(
                kevio_backend = "poll",
                all(
                    any(mio_unsupported_force_poll_poll, not(any($kqueue, $epoll))),
                    not(any(kevio_backend = "kqueue", kevio_backend = "epoll"))
                )
            ), tested if unix;
        }

        #[cfg(any($kqueue, kevio_backend = "kqueue"))]
        pub(crate) mod kevent;

        /// Compiles an item where kevent(2) can be called.
        #[cfg(any($kqueue, kevio_backend = "kqueue"))]
        #[allow(unused_macros)] // It is for `unix::kqueue`.
        macro_rules! kqueue_exists {
            ($item:item) => {
                $item
            };
        }
        #[cfg(not(any($kqueue, kevio_backend = "kqueue")))]
        #[allow(unused_macros)] // It is for `unix::kqueue`.
        macro_rules! kqueue_exists {
            ($item:item) => {};
        }

        #[cfg(all($eventfd, any(test, not(mio_unsupported_force_waker_pipe))))]
        mod eventfd;
        #[cfg(all($eventfd, not(mio_unsupported_force_waker_pipe)))]
        #[allow(unused_imports)] // kqueue has something better.
        use self::eventfd::EventFd as Notify;
        #[cfg(not(all($eventfd, not(mio_unsupported_force_waker_pipe))))]
        #[allow(unused_imports)] // kqueue has something better.
        use self::self_pipe::SelfPipe as Notify;

        #[cfg(not(all($timerfd, not(kevio_unsupported_force_fallbacks))))]
        mod deadlines;
        #[cfg(all($timerfd, not(kevio_unsupported_force_fallbacks)))]
        mod timerfd;
        #[cfg(not(all($timerfd, not(kevio_unsupported_force_fallbacks))))]
        use self::deadlines as clock;
        #[cfg(all($timerfd, not(kevio_unsupported_force_fallbacks)))]
        use self::timerfd as clock;

        #[cfg(all($inotify, not(kevio_unsupported_force_fallbacks)))]
        mod inotify;
        #[cfg(not(all($inotify, not(kevio_unsupported_force_fallbacks))))]
        #[path = "no_inotify.rs"]
        mod inotify;

        #[cfg($waitid)]
        mod sigchld;
        #[cfg(not($waitid))]
        #[path = "no_sigchld.rs"]
        mod sigchld;
        #[cfg($sigaction)]
        pub(crate) mod signal;
        #[cfg(not($sigaction))]
        #[path = "no_signal.rs"]
        pub(crate) mod signal;
    };
}

systems! {
    // Tests and examples ask for it too: which systems these are stands in build.rs.
    kqueue: kevio_has_kqueue,
    epoll: any(target_os = "linux", target_os = "android", target_os = "illumos", target_os = "redox"),
    eventfd: any(target_os = "linux", target_os = "android", target_os = "illumos"),
    timerfd: any(target_os = "linux", target_os = "android", target_os = "illumos"),
    inotify: any(target_os = "linux", target_os = "android"),
    sigaction: not(target_os = "vita"),
    waitid: not(any(target_os = "redox", target_os = "cygwin", target_os = "vita"))
}

#[allow(clippy::single_component_path_imports)] // It gives the macro a path.
#[cfg(feature = "os-ext")]
pub(crate) use kqueue_exists;
#[allow(clippy::single_component_path_imports)] // As above.
pub(crate) use queue_has_descriptor;

pub(crate) type RawEvent = <Selector as Engine>::Event;
