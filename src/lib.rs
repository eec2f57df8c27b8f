//! kevio turns kernel readiness into a stream of tokens.
//!
//! A program registers sources (sockets, pipes, any descriptor) with a [`Registry`], each under a [`Token`].
//! [`Poll::poll`] waits, and fills an [`Events`] buffer with the tokens of what became ready. The program matches the
//! tokens and does its own I/O, which never blocks. That is all: no tasks, no callbacks, no threads of kevio's own.
//!
//! It is built on kqueue(2) where there is one, and on epoll(7) or poll(2) elsewhere; [`BACKEND`] tells which. A
//! program written for mio 1 on Unix runs on it unchanged: see the README.
//!
//! ```
//! # #[cfg(feature = "net")] {
//! use std::io::{self, Read, Write};
//!
//! use kevio::net::{TcpListener, TcpStream};
//! use kevio::{Events, Interest, Poll, Token};
//!
//! const SERVER: Token = Token(0);
//! const CLIENT: Token = Token(1);
//!
//! let mut poll = Poll::new()?;
//! let mut events = Events::with_capacity(128);
//!
//! let mut server = TcpListener::bind("127.0.0.1:0".parse().unwrap())?;
//! let mut client = TcpStream::connect(server.local_addr()?)?;
//! poll.registry().register(&mut server, SERVER, Interest::READABLE)?;
//! poll.registry().register(&mut client, CLIENT, Interest::READABLE)?;
//!
//! let mut greeting = String::new();
//! while greeting != "hello" {
//!     poll.poll(&mut events, None)?;
//!     for event in &events {
//!         match event.token() {
//!             SERVER => match server.accept() {
//!                 Ok((mut stream, _)) => stream.write_all(b"hello")?,
//!                 Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
//!                 Err(error) => return Err(error),
//!             },
//!             _ => match client.read_to_string(&mut greeting) {
//!                 Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
//!                 result => drop(result?),
//!             },
//!         }
//!     }
//! }
//! # }
//! # std::io::Result::Ok(())
//! ```
//!
//! # The rules of an event loop
//!
//! * **Operate until `WouldBlock`.** Registrations are edge-triggered unless their [`Interest`] says otherwise: an event
//!   says that something began. Do not count on another for what is left.
//! * **Events may be spurious.** Be ready for `WouldBlock` on the first try.
//! * **`is_readable` and `is_writable` are enough.** End of file, hang-up and errors show as one of the two, or as both.
//!   The other questions are hints; `read() == 0`, `ErrorKind::BrokenPipe` and `take_error` are the truth.
//! * **A signal makes `poll` return `ErrorKind::Interrupted`**, one with a handler, and on Linux also `SIGCONT`. Poll
//!   again.
//! * **Deregistering stops later polls, not the buffer at hand**: the events of the last poll may still name the token.
//!   Before giving a token to another source, finish the buffer.
//! * **A one-shot registration is silent after its event** until it is reregistered; a level-triggered one that is not
//!   operated on is told by every poll.
//! * **Dropping a source closes its descriptor and ends its registration.**
//!
//! # Threads
//!
//! | | who may call it |
//! |---|---|
//! | [`Poll::poll`], [`Poll::poll_until`] | one thread at a time: they take `&mut self`. A `Poll` may move from thread to thread. |
//! | everything of [`Registry`] | any thread, at any time, through `&Poll`, or a clone; in the wait under way it takes effect at once |
//! | [`Waker::wake`] | any thread, at any time |
//! | reading and writing of sources | any thread, through `&`; on poll(2) it arms the next event |
//!
//! Several threads that work for one loop keep out of each other's way with [`Interest::oneshot`]: an event is nobody
//! else's until its source is reregistered.
//!
//! # Forks
//!
//! A child of fork(2) has the memory of its parent, and on most systems it shares the queue. It cannot use what it inherits
//! without changing what the parent waits for, so:
//!
//! * Polling, registering, reregistering, deregistering and waking fail at once with `ErrorKind::Unsupported`, and change
//!   nothing. So do all methods of an inherited [`Timer`], [`Signals`], [`Process`] or [`Watch`] that can fail.
//! * Dropping, reading and writing inherited sources works, waits for no lock of the parent, and ends no registration there.
//! * A child can make a [`Poll`] and sources of its own. It can register inherited sockets and pipes with its own poll.
//!
//! A child that runs another program (`Command`) needs none of this: every descriptor is close-on-exec.
//!
//! # Where systems differ
//!
//! These are the differences we know of. Tests assert the rows for the backend and system at hand: those of
//! `tests/suite/differences.rs`, `queue.rs` and `watch.rs` beside it, `tests/processes_watched.rs`, `tests/signals.rs`, and
//! `src/sys/tests/edges.rs` for the shortage.
//!
//! | What | kqueue | epoll | poll |
//! |---|---|---|---|
//! | a bare descriptor ([`SourceFd`](unix::SourceFd)) registered twice | the second registration replaces the first | `AlreadyExists` | `AlreadyExists`; replaces it if the file has no inode of its own (eventfd, timerfd, epoll, FIFO, terminal; NetBSD: pipe) |
//! | more data, while what was reported is unread | reported | reported | reported after the next operation through the source |
//! | a bare descriptor left ready | told once | told once | told again up to 8 times a second: its operations cannot be seen |
//! | a descriptor both readable and writable | two events | one event | one event |
//! | [`Interest::exclusive`] | `Unsupported` | Linux and Android; elsewhere `Unsupported` | `Unsupported` |
//! | a stream socket that was never connected | nothing (libkqueue: as epoll) | readable, writable and closed (illumos: not known) | as the system's poll(2) says; Linux as epoll |
//! | the first read at the end of a pipe | NetBSD and OpenBSD: an event; else nothing | nothing | nothing |
//! | the reader of a pipe leaves | NetBSD and OpenBSD: two events if the pipe has room, one of them without the other's hints; else one | one | one |
//! | a read that leaves something | no event until more comes | no event until more comes | an event |
//! | a hang-up, and the descriptor is registered for one direction | shows in that direction | shows in both | shows in both |
//! | an error without a hang-up (UDP: nobody there) | readable and writable, no [`is_error`](event::Event::is_error) (libkqueue: with) | writable, with `is_error` and `is_write_closed`; readable only if not registered for writing, or if there is no room | Linux as epoll; FreeBSD, NetBSD and OpenBSD: readable and writable, without `is_error` |
//! | an error that is not fetched, such as an unread error queue | once | once | once, and again after an operation that fetched one; its data up to 64 ms late |
//! | an error of a socket that has hung up already | reported | reported | not reported; `take_error` has it |
//! | the hints of a socket whose peer has gone: `is_read_closed`, `is_write_closed`, `is_error` | as described | as described | FreeBSD: no `is_error`; NetBSD and OpenBSD: none |
//! | a pipe whose reader has gone | no `is_error` (libkqueue: with) | `is_error` | `is_error`; FreeBSD, NetBSD and OpenBSD: a hang-up |
//! | shutting down writing here | [`is_write_closed`](event::Event::is_write_closed) (libkqueue: not) | not | not |
//! | the peer of a Unix stream shut down reading | Apple, DragonFly, and FreeBSD from 15: `is_write_closed`; FreeBSD up to 13, NetBSD, OpenBSD and libkqueue: not | not | not |
//! | a terminal whose master has closed | FreeBSD: registering it is `ENXIO`; NetBSD: nothing; else readable | readable and closed | as the system's poll(2) says; Linux as epoll |
//! | a Unix datagram socket whose peer has closed | as the system says; FreeBSD and NetBSD: nothing, but readable if it is registered after that, and the next operation is `ECONNRESET` | nothing | as the system's poll(2) says; Linux as epoll |
//! | a Unix datagram socket whose peer's queue is full | as the system says; most: writable, `send` is `ENOBUFS`, and no event when there is room; libkqueue as epoll | not writable; `WouldBlock` | as the system says; Linux as epoll |
//! | a listener that was shut down | FreeBSD: readable, closed and an error; NetBSD: nothing; else as the system says (libkqueue: as epoll) | readable, writable and closed | as the system's poll(2) says; Linux as epoll |
//! | files of Linux's `/proc` and `/sys` that can be waited for | libkqueue: `EPERM` | supported | those that poll(2) does not show as always ready (mount tables); else `EPERM` |
//! | a POSIX message queue | libkqueue: `EPERM` | supported | supported |
//! | [`Interest::PRIORITY`] | `Unsupported` on FreeBSD, NetBSD and libkqueue | supported | supported |
//! | `AsFd` and `AsRawFd` of [`Registry`], `AsRawFd` of [`Poll`] | the queue; Apple: other code must use kevent64(2) on it | the queue | not implemented: there is no queue |
//! | a shortage of descriptors in `accept` | no event until more connect | no event until more connect | an event up to 8 times a second |
//! | `/dev/null` and the like | Apple: `EINVAL`; libkqueue: `EPERM`; FreeBSD up to 13: `ENODEV`; FreeBSD from 15: `/dev/null` is only writable; else ready | `EPERM` | always ready |
//! | deregistering a number that was closed | `EBADF`; Apple and libkqueue: `NotFound` | `EBADF` | `NotFound` |
//! | a bare FIFO or device closed and opened again at the same number, not registered again | its registration ended | its registration ended | reported under the old token until the number is registered again |
//! | `RLIMIT_NOFILE` lowered below the number of registrations | no difference | no difference | Linux: every wait is `EINVAL`; FreeBSD: no difference |
//! | a registered descriptor closed while a copy of it is open | its registration ends | its registration lives on: deregister first | its registration ends |
//! | a [`Process`], or a signal, watched twice with one [`Poll`] | the second is `AlreadyExists` | two sources | two sources |
//! | a [`Process`] that is not a child | supported; NetBSD: `EACCES` if it is another user's, except for root; FreeBSD: `NotFound` if it is hidden from the user; OpenBSD: `EPERM` if pledge(2) forbids `proc` | Linux from 5.3; elsewhere, and where a sandbox refuses pidfd_open(2), `Unsupported` | as epoll |
//! | the end of another child | nothing | nothing; without pidfd an event of each [`Process`], which says no | as epoll |
//! | a periodic [`Timer`], or [`Signals`], never asked | an event each time | one event | one event |
//! | several signals of one [`Signals`] | an event each | one event | one event |
//! | a signal that every thread blocks | reported; DragonFly: again when one no longer does | reported when one no longer does | as epoll |
//! | a signal that was sent to one thread | Apple and libkqueue: nothing; else reported | reported | reported |
//! | a [`Watch`] | supported | Linux and Android, unless a sandbox refuses inotify_init1(2); elsewhere `Unsupported` | as epoll |
//! | a descriptor watched twice with one [`Poll`] | the second is `AlreadyExists` | two sources | two sources |
//! | a watched file is written at its end | [`WRITTEN`](Changes::WRITTEN) and [`EXTENDED`](Changes::EXTENDED); Apple: `WRITTEN` | both | both |
//! | a watched file is cut off | [`ATTRIBUTES`](Changes::ATTRIBUTES); DragonFly: `WRITTEN` too (libkqueue: as epoll) | `WRITTEN` | `WRITTEN` |
//! | a watched file has a name more | [`LINKED`](Changes::LINKED) (libkqueue: as epoll) | `LINKED` and `ATTRIBUTES` | as epoll |
//! | a watched file has a name less, and others | [`DELETED`](Changes::DELETED); Apple: `DELETED` and `LINKED` (libkqueue: as epoll) | `LINKED` and `ATTRIBUTES` | as epoll |
//! | a watched directory is removed, not replaced | `DELETED` (libkqueue: nothing) | nothing | nothing |
//! | a file in a watched directory gets other attributes | nothing (libkqueue: as if it were the directory) | an event that says nothing | as epoll |
//! | changes while a [`Watch`] is parked, or after its one-shot event | not told | told when it is reregistered | as epoll |
//! | a [`Watch`] that is never asked | an event for each change | one event, and one more for a change of another kind | one event |
//! | a source asked again with an event that it was asked with before | says it again | says that nothing happened | as epoll |
//! | a [`Timer`] set, by another thread, while the poll waits | nothing | nothing; Redox: an event without expirations | nothing; where there is no timerfd an event without expirations |
//! | the shortest time of a [`Timer`] | nanoseconds; OpenBSD and DragonFly: a millisecond, and a tick; NetBSD: a millisecond, and two ticks | nanoseconds | as the waits |
//! | a wait shorter than the system's tick | NetBSD, OpenBSD and DragonFly round up to a tick, and wait one more | nanoseconds from Linux 5.11; before, in a sandbox that refuses epoll_pwait2(2), on Android (its filter kills for that), illumos and Redox, milliseconds | nanoseconds where there is ppoll(2), else milliseconds |
//!
//! Apple's kernels never report the end of file of a FIFO, and refuse `/dev/tty` and `/dev/null` (`EINVAL`); open the
//! terminal's own name instead.
//!
//! On Linux the kqueue backend runs on libkqueue, which serves to test it. It has faults of its own, which no system's
//! kqueue has:
//!
//! * it takes the pending error of a socket, so that `take_error` is `None` (the number is in the `fflags` of the event's
//!   record) and tokio takes a refused connection for one that was made;
//! * it takes a signal before any handler, and sees none that a thread takes which does not block it;
//! * a queue is not readable by itself, so that a poll cannot be inside another;
//! * of two filters of one descriptor that fire at once, it can forget the one for which there was no room;
//! * it watches what has the name of a file now, and takes changes of the files in a directory for the directory's;
//! * it can hang in a forked child.
//!
//! # Systems
//!
//! What `.ci/run` and `.ci/targets` do for each; the second names the targets and architectures.
//!
//! | System | Backend | Checked |
//! |---|---|---|
//! | Linux, glibc on x86-64 | epoll; poll, and kqueue with libkqueue, by cfg | the tests run, on each of the three |
//! | FreeBSD | kqueue; poll by cfg | the tests and examples run on an emulated kernel (13.2, x86-64), with each of the two; type-checked on ARM and 32-bit x86 |
//! | macOS | kqueue; poll by cfg | library, tests and examples are type-checked, an example is linked for x86-64 |
//! | NetBSD | kqueue | the tests run on an emulated kernel (10.99, x86-64); other architectures: the library is type-checked |
//! | OpenBSD | kqueue | library, tests and examples are type-checked; other architectures the library |
//! | iOS, tvOS, watchOS, visionOS, DragonFly | kqueue | the library is type-checked |
//! | illumos | epoll | library, tests and examples are type-checked |
//! | Linux, glibc on 32-bit x86 | epoll | the library's tests and the suite run |
//! | Linux on other architectures (32 bit, big-endian s390x) and with musl, Android, Redox | epoll | the library is type-checked |
//! | Solaris | poll | library, tests and examples are type-checked; on SPARC the library |
//! | Haiku, Hurd, Cygwin, QNX, Fuchsia, Emscripten, Vita | poll | the library is type-checked |
//! | AIX, NuttX, VxWorks, RTEMS and other Unix | poll | nothing: std, or a dependency, does not build there with the compiler at hand |
//!
//! The sizes of kevent(2)'s record and the places of its fields are asserted for each system that has it.
//!
//! # Features
//!
//! All are on by default.
//!
//! * `net`: the sockets in [`net`].
//! * `os-ext`: the module [`unix`].
//! * `log`: a `log::trace!` line for each registration.
//! * `os-poll`: nothing; what it turns on in mio is always there.
//!
//! # Choosing a backend
//!
//! `--cfg kevio_backend="kqueue"`, `"epoll"` or `"poll"` in `RUSTFLAGS` forces one. It is a rustc cfg and not a Cargo
//! feature, because features of a crate are united over all that depend on it. On Linux `"kqueue"` links libkqueue,
//! found with pkg-config or in `KQUEUE_LIB_DIR`. mio's `mio_unsupported_force_poll_poll` and
//! `mio_unsupported_force_waker_pipe` are understood too, and `kevio_unsupported_force_fallbacks` does without timerfd, pidfd
//! and inotify.

// Bare descriptors, and what there is for them, come with `os-ext`.
#![cfg_attr(not(feature = "os-ext"), allow(dead_code))]

#[cfg(not(unix))]
compile_error!("kevio is for Unix: kqueue(2), epoll(7) and poll(2)");

#[cfg(test)]
extern crate self as kevio; // The tests of the engines share files with the public suite.

#[macro_use]
mod flag_set;

mod batch;
mod changes;
pub mod event;
mod interest;
mod io_source;
mod poll;
mod process;
mod shared;
mod signal;
mod sys;
mod timer;
mod token;
mod waker;
mod watch;
mod watched;

#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "os-ext")]
pub mod unix;

pub use batch::Batch;
pub use changes::Changes;
#[doc(no_inline)]
pub use event::Events;
pub use interest::Interest;
pub use poll::{Poll, Registry};
pub use process::Process;
pub use signal::Signals;
pub use sys::Backend;
pub use timer::Timer;
pub use token::Token;
pub use waker::Waker;
pub use watch::Watch;

/// The backend that this build of kevio uses.
///
/// ```
/// println!("kevio on {}", kevio::BACKEND);
/// ```
pub const BACKEND: Backend = <sys::Selector as sys::Engine>::BACKEND;

#[cfg(all(doctest, feature = "net"))]
#[doc = include_str!("../README.md")]
struct ReadMe;
