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
//! * **Operate until `WouldBlock`.** Registrations are edge-triggered: an event says that something began. Do not count
//!   on another for what is left.
//! * **Events may be spurious.** Be ready for `WouldBlock` on the first try.
//! * **`is_readable` and `is_writable` are enough.** End of file, hang-up and errors show as one of the two, or as both.
//!   The other questions are hints; `read() == 0`, `ErrorKind::BrokenPipe` and `take_error` are the truth.
//! * **A signal makes `poll` return `ErrorKind::Interrupted`**, one with a handler, and on Linux also `SIGCONT`. Poll
//!   again.
//! * **Deregistering stops later polls, not the buffer at hand**: the events of the last poll may still name the token.
//!   Before giving a token to another source, finish the buffer.
//! * **One thread polls; any thread registers and wakes.**
//! * **Dropping a source closes its descriptor and ends its registration.**
//!
//! # Where systems differ
//!
//! These are the differences we know of. Tests assert the rows for the backend and system at hand: those of
//! `tests/suite/differences.rs`, `queue.rs` beside it, and `src/sys/tests.rs` for the shortage.
//!
//! | What | kqueue | epoll | poll |
//! |---|---|---|---|
//! | a bare descriptor ([`SourceFd`](unix::SourceFd)) registered twice | the second registration replaces the first | `AlreadyExists` | `AlreadyExists`; replaces it if the file has no inode of its own (eventfd, timerfd, epoll) |
//! | more data, while what was reported is unread | reported | reported | reported after the next operation through the source |
//! | a bare descriptor left ready | told once | told once | told again up to 8 times a second: its operations cannot be seen |
//! | a descriptor both readable and writable | two events | one event | one event |
//! | a stream socket that was never connected | nothing (libkqueue: as epoll) | readable, writable and closed (illumos: not known) | as the system's poll(2) says; Linux as epoll |
//! | a read that leaves something | no event until more comes | no event until more comes | an event |
//! | an error on UDP (nobody there) | readable and writable, no [`is_error`](event::Event::is_error) (libkqueue: with) | with `is_error` | with `is_error` |
//! | shutting down writing here | [`is_write_closed`](event::Event::is_write_closed) (libkqueue: not) | not | not |
//! | [`Interest::PRIORITY`] | `Unsupported` on FreeBSD, NetBSD and libkqueue | supported | supported |
//! | `AsFd` and `AsRawFd` of [`Registry`], `AsRawFd` of [`Poll`] | the queue | the queue | not implemented: there is no queue |
//! | a shortage of descriptors in `accept` | no event until more connect | no event until more connect | an event up to 8 times a second |
//! | `/dev/null` and the like | Apple: `EINVAL`; libkqueue: `EPERM` | `EPERM` | always ready |
//! | deregistering a number that was closed | `EBADF`; Apple and libkqueue: `NotFound` | `EBADF` | `NotFound` |
//! | dropping an [`IoSource`](unix::IoSource) that does not own its descriptor | it stays registered: deregister first | it stays registered | its registration ends |
//! | a registered descriptor closed while a copy of it is open | its registration ends | its registration lives on: deregister first | its registration ends |
//! | a wait shorter than the system's tick | NetBSD, OpenBSD and DragonFly round up to a tick | nanoseconds from Linux 5.11; before, and on illumos and Redox, milliseconds | nanoseconds where there is ppoll(2), else milliseconds |
//!
//! Apple's kernels never report the end of file of a FIFO, and refuse `/dev/tty` and `/dev/null` (`EINVAL`); open the
//! terminal's own name instead.
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
//! `mio_unsupported_force_waker_pipe` are understood too.

// Bare descriptors, and what there is for them, come with `os-ext`.
#![cfg_attr(not(feature = "os-ext"), allow(dead_code))]

#[cfg(not(unix))]
compile_error!("kevio is for Unix: kqueue(2), epoll(7) and poll(2)");

macro_rules! trace {
    ($($arguments:tt)*) => {
        #[cfg(feature = "log")]
        log::trace!($($arguments)*);
    };
}

pub mod event;
mod interest;
mod io_source;
mod poll;
mod sys;
mod token;
mod waker;

#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "os-ext")]
pub mod unix;

#[doc(no_inline)]
pub use event::Events;
pub use interest::Interest;
pub use poll::{Poll, Registry};
pub use sys::Backend;
pub use token::Token;
pub use waker::Waker;

/// The backend that this build of kevio uses.
///
/// ```
/// println!("kevio on {}", kevio::BACKEND);
/// ```
pub const BACKEND: Backend = <sys::Selector as sys::Engine>::BACKEND;

#[cfg(all(doctest, feature = "net"))]
#[doc = include_str!("../README.md")]
struct ReadMe;
