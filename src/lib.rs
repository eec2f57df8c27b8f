//! An event notification library: one [`Poll`] waits for sockets, pipes, timers, signals, child processes and file changes.
//!
//! A program registers sources with a [`Registry`], each under a [`Token`]. [`Poll::poll`] waits, and fills an [`Events`] buffer
//! with the tokens of the sources that became ready. The program matches the tokens and does its own I/O, which never blocks.
//! There are no tasks, no callbacks and no threads in this crate.
//!
//! kevio is built on kqueue(2), epoll(7), poll(2) or, on [Windows](guide::windows), a completion port, with one behaviour on all
//! of them: [`BACKEND`] names the backend. A program that was written for mio 1 runs on kevio unchanged: see [coming from
//! mio](guide::coming_from_mio).
//!
//! # The loop
//!
//! An echo server for UDP, which stops after a quiet while:
//!
//! ```
//! # #[cfg(feature = "net")] {
//! use std::io::{self, ErrorKind};
//! use std::time::Duration;
//!
//! use kevio::net::UdpSocket;
//! use kevio::{Events, Interest, Poll, Timer, Token};
//!
//! const SOCKET: Token = Token(0);
//! const QUIET: Token = Token(1);
//! const LIMIT: Duration = Duration::from_millis(50);
//!
//! /// An event is reported when readiness begins. Operate until `WouldBlock`, because one event may stand for many datagrams.
//! /// Returns `true` if a datagram was received.
//! fn echo(socket: &UdpSocket) -> io::Result<bool> {
//!     let mut buffer = [0; 65_536]; // No datagram is longer.
//!     let mut has_received = false;
//!     loop {
//!         match socket.recv_from(&mut buffer) {
//!             Ok((n, from)) => {
//!                 has_received = true;
//!                 // UDP may lose a datagram, so that an answer that cannot be sent is dropped.
//!                 if let Err(error) = socket.send_to(&buffer[..n], from) {
//!                     eprintln!("{from}: {error}");
//!                 }
//!             }
//!             Err(error) => match error.kind() {
//!                 ErrorKind::WouldBlock => return Ok(has_received),
//!                 // An earlier answer was rejected, or a signal arrived. The next call receives the next datagram.
//!                 ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::Interrupted => {}
//!                 // Another error may last: trying again at once would spin.
//!                 _ => return Err(error),
//!             },
//!         }
//!     }
//! }
//!
//! let mut poll = Poll::new()?;
//! let mut events = Events::with_capacity(128);
//! let mut socket = UdpSocket::bind("127.0.0.1:0".parse().unwrap())?;
//! let mut quiet = Timer::after(LIMIT)?;
//! poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
//! poll.registry().register(&mut quiet, QUIET, Interest::READABLE)?;
//!
//! # let client = std::net::UdpSocket::bind("127.0.0.1:0")?;
//! # client.send_to(b"hello", socket.local_addr()?)?;
//! 'serve: loop {
//!     // Waits without a deadline. Unlike `poll`, `poll_until` is not interrupted by signals.
//!     poll.poll_until(&mut events, None)?;
//!     for event in &events {
//!         match event.token() {
//!             SOCKET => {
//!                 if echo(&socket)? {
//!                     quiet.set_after(LIMIT)?; // The time begins again.
//!                 }
//!             }
//!             // An event from before `set_after` has no expirations.
//!             QUIET if quiet.expirations(event)? > 0 => break 'serve,
//!             _ => {}
//!         }
//!     }
//! }
//! # assert_eq!(client.recv(&mut [0; 8])?, 5);
//! # }
//! # std::io::Result::Ok(())
//! ```
//!
//! [The event loop](guide::event_loop) has the rules of such a loop.
//!
//! # The sources
//!
//! | Source | Type | An event is reported when | Page |
//! |---|---|---|---|
//! | TCP, UDP and Unix sockets | [`net`] | data, space, a connection or an error arrives | [connecting](guide::connecting), [accepting](guide::accepting), [writing](guide::writing) |
//! | pipes | [`unix::pipe`] | data, space or the end arrives | [standard input](guide::standard_input) |
//! | named pipes of Windows | [`windows::NamedPipe`] | data, space, a client or the end arrives | [Windows](guide::windows) |
//! | any other descriptor, on Windows any socket | [`IoSource`], [`unix::SourceFd`], [`windows::SourceSocket`] | the descriptor is ready | [nesting](guide::nesting) |
//! | any handle of Windows | [`windows::SourceHandle`] | the object of the handle is signalled | [Windows](guide::windows) |
//! | time | [`Timer`] | a delay or a period has passed | [many timeouts](guide::many_timeouts) |
//! | signals | [`Signals`] | the process receives one of the signals | [signals](guide::signals) |
//! | the end of a process | [`Process`] | a child or another process has exited | [processes](guide::processes) |
//! | changes of files | [`Watch`] | a file or a directory is written, renamed or deleted | [files](guide::files) |
//! | a wake | [`Waker`] | another thread or a signal handler has called [`wake`](Waker::wake) | [threads](guide::threads) |
//! | a type of your own | [`event::Source`] | one of its parts is ready | [sources](guide::sources) |
//!
//! # Where to read on
//!
//! * The [`guide`] has a page for each task, in an order to read them.
//! * Coming [from mio](guide::coming_from_mio), [from polling](guide::coming_from_polling), or [from libevent or
//!   libuv](guide::coming_from_libevent_and_libuv): tables of what has which name here.
//! * [Portability](guide::portability): what is guaranteed on every system, and where systems differ. [Windows](guide::windows)
//!   has a page of its own.
//! * [`features`]: the features of Cargo, all of which are enabled by default.
//! * The minimum supported Rust version is 1.71. A minor version of kevio may raise it, to a version that is at least a year old.
// The targets of links to items that only some systems have. An item of another system is a page of docs.rs.
#![cfg_attr(unix, doc = include_str!("doc_links/unix.md"))]
#![cfg_attr(windows, doc = include_str!("doc_links/windows.md"))]
// Without `os-ext` the code for raw descriptors is unused. On Windows, only the types of `net` read and write in an `IoSource`.
#![cfg_attr(any(not(feature = "os-ext"), all(windows, not(feature = "net"))), allow(dead_code))]
// Without these features, the links to their items are plain text.
#![cfg_attr(not(all(feature = "net", feature = "os-ext")), allow(rustdoc::broken_intra_doc_links))]

#[cfg(not(any(unix, windows)))]
compile_error!("kevio is for Unix (kqueue(2), epoll(7) and poll(2)) and for Windows (I/O completion ports)");

#[cfg(test)]
extern crate self as kevio; // The conformance tests share files with the public suite.

#[macro_use]
mod flag_set;

mod backend;
mod batch;
mod busy_poll;
mod change_list;
mod delegate;
pub mod event;
#[doc = include_str!("features.md")]
#[cfg_attr(unix, doc = include_str!("doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("doc_links/windows.md"))]
pub mod features {}
pub mod guide;
mod interest;
mod io_source;
mod poll;
mod poll_id;
mod poll_shared;
mod registry;
mod source;
mod sync;
mod sys;
mod time_cell;
mod token;
mod user_events;
mod wake_state;
mod waker;

#[cfg(feature = "net")]
pub mod net;
#[cfg(all(unix, feature = "os-ext"))]
pub mod unix;
#[cfg(all(windows, feature = "os-ext"))]
pub mod windows;

pub use backend::Backend;
pub use batch::Batch;
pub use busy_poll::BusyPoll;
#[doc(no_inline)]
pub use event::Events;
pub use interest::Interest;
pub use poll::Poll;
pub use registry::Registry;
pub use source::file_changes::FileChanges;
pub use source::process::Process;
pub use source::signals::Signals;
pub use source::timer::Timer;
pub use source::watch::Watch;
pub use token::Token;
pub use waker::Waker;

/// The backend that this build of kevio uses.
///
/// ```
/// println!("kevio on {}", kevio::BACKEND);
/// ```
pub const BACKEND: Backend = <sys::ActiveSelector as sys::selector::Selector>::BACKEND;

#[cfg(all(doctest, feature = "net"))]
#[doc = include_str!("../README.md")]
struct ReadMe;

#[cfg(all(doctest, feature = "net"))]
#[doc = include_str!("../CRATE.md")]
struct CratePage;
