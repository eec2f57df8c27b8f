//! kevio turns kernel readiness into a stream of tokens.
//!
//! A program registers sources (sockets, pipes, any descriptor, timers, signals, processes, files) with a [`Registry`], each
//! under a [`Token`]. [`Poll::poll`] waits, and fills an [`Events`] buffer with the tokens of the sources that became ready.
//! The program matches the tokens and does its own I/O, which never blocks. There are no tasks, no callbacks and no threads in
//! this crate.
//!
//! kevio is built on kqueue(2), epoll(7) or poll(2): [`BACKEND`] names the backend. A program written for mio 1 on Unix runs
//! on kevio unchanged: see the README.
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
//! * **Operate until `WouldBlock`.** Registrations are edge-triggered, unless their [`Interest`] has another trigger mode. An
//!   event is reported when readiness begins. Another event for the rest of the data is not guaranteed.
//! * **Events may be spurious.** The first operation after an event can fail with `WouldBlock`.
//! * **`is_readable` and `is_writable` are enough.** End of file, hang-up and errors are reported as one of the two, or as
//!   both. The other methods of an event return hints. The result of the operation is exact: a read of 0 bytes,
//!   `ErrorKind::BrokenPipe`, or the error of `take_error`.
//! * **A signal ends `poll` with `ErrorKind::Interrupted`**, if the signal has a handler, and on Linux also if the signal is
//!   `SIGCONT`. Poll again, or use [`Poll::poll_until`].
//! * **Deregistering stops later polls, not the buffer of the last one.** After [`Registry::deregister`] returns, no later poll
//!   reports the token. The `Events` buffer of the previous poll may still contain it. Finish that buffer before another
//!   source gets the token.
//! * **A one-shot registration reports one event**, and then none until the source is reregistered. A level-triggered
//!   registration reports an event at every poll while the source is ready.
//! * **Dropping a source ends its registration**, and closes the descriptor if the source owns the descriptor. Only a
//!   [`SourceFd`](unix::SourceFd) keeps no registration: deregister its descriptor before you close the descriptor.
//!
//! # Threads
//!
//! | Function | Which thread may call it |
//! |---|---|
//! | [`Poll::poll`], [`Poll::poll_until`] | One thread at a time (`&mut self`). A `Poll` may move between threads. |
//! | All functions of [`Registry`] | Any thread at any time. A change takes effect at once, in a blocked wait too. |
//! | [`Waker::wake`] | Any thread at any time, also in a signal handler. |
//! | Setting and cancelling a [`Timer`] | Any thread at any time (`&mut self`). The new time takes effect at once, in a blocked wait too. |
//! | Reading and writing of sources | Any thread, through `&`. On poll(2) the operation arms the next event. |
//!
//! Other threads reach the registry through `&Poll`, or own a clone of it ([`Registry::try_clone`]).
//!
//! If several threads handle the events of one loop, register with [`Interest::oneshot`]. After an event, no thread receives
//! another event of the source until the thread with the event reregisters the source.
//!
//! # Forks
//!
//! A child of fork(2) has the memory of its parent, and on most systems it shares the queue of the kernel. If the child used
//! inherited objects, it would change the registrations of the parent. Therefore:
//!
//! * Polling, registering, reregistering, deregistering and waking fail at once with `ErrorKind::Unsupported`, and change
//!   nothing. The same holds for all methods of an inherited [`Timer`], [`Signals`], [`Process`] or [`Watch`] that can fail.
//! * Dropping, reading and writing inherited sources works, waits for no lock of the parent, and ends no registration of the
//!   parent.
//! * A child can create a [`Poll`] and sources of its own. The child can register inherited sockets, pipes and [`Signals`] with its
//!   own poll.
//!
//! A child that runs another program (`Command`) needs none of these rules, because every descriptor is close-on-exec.
//!
//! # Systems
//!
//! The pages of the [`guide`] explain [where systems differ and how each is checked](guide::portability), and [how to choose a
//! backend](guide::choosing_a_backend).
//!
//! # Features
//!
//! All features are enabled by default.
//!
//! * `net`: the sockets in [`net`].
//! * `os-ext`: the module [`unix`].
//! * `log`: a `log::trace!` record for each registration.
//! * `os-poll`: no effect. The functions that this feature enables in mio always exist.

// Without `os-ext` the code for raw descriptors is unused.
#![cfg_attr(not(feature = "os-ext"), allow(dead_code))]
// Without these features the links to their items are plain text.
#![cfg_attr(not(all(feature = "net", feature = "os-ext")), allow(rustdoc::broken_intra_doc_links))]

#[cfg(not(unix))]
compile_error!("kevio is for Unix: kqueue(2), epoll(7) and poll(2)");

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
#[cfg(feature = "os-ext")]
pub mod unix;

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
