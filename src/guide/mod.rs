//! Pages about tasks and topics, each with a program that runs.
//!
//! | Topic | Pages |
//! |---|---|
//! | the loop | [the event loop](event_loop), [draining], [trigger modes](trigger_modes), [tokens and ownership](tokens) |
//! | sockets | [connecting], [accepting], [writing with back-pressure](writing) |
//! | descriptors | [standard input and terminals](standard_input), [descriptors of other libraries](nesting#descriptors-of-other-libraries) |
//! | other sources | [many timeouts](many_timeouts), [signals and graceful shutdown](signals), [child processes](processes), [following files](files) |
//! | threads and processes | [threads and wakers](threads), [sharing a port](sharing_a_port), [forks] |
//! | building on kevio | [a poll inside another loop](nesting#a-poll-in-another-loop), [writing a source](sources), [writing an executor](executors), [tuning] |
//! | systems | [portability], [Windows](windows), [choosing a backend](choosing_a_backend) |
//! | coming from another library | [mio](coming_from_mio), [polling](coming_from_polling), [libevent and libuv](coming_from_libevent_and_libuv) |
//!
//! The order is one to read them.
//!
//! A program without `main` is the body of `fn main() -> std::io::Result<()>`, and ends with `Ok(())`. A few lines without
//! imports belong to the program above them. Some programs use the crates libc, windows-sys and socket2 (with its feature `all`).

#[doc = include_str!("event_loop.md")]
pub mod event_loop {}

#[doc = include_str!("draining.md")]
pub mod draining {}

#[doc = include_str!("trigger_modes.md")]
#[cfg_attr(unix, doc = include_str!("../doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("../doc_links/windows.md"))]
pub mod trigger_modes {}

#[doc = include_str!("tokens.md")]
pub mod tokens {}

#[doc = include_str!("connecting.md")]
pub mod connecting {}

#[doc = include_str!("accepting.md")]
pub mod accepting {}

#[doc = include_str!("writing.md")]
pub mod writing {}

#[doc = include_str!("standard_input.md")]
pub mod standard_input {}

#[doc = include_str!("many_timeouts.md")]
pub mod many_timeouts {}

#[doc = include_str!("signals.md")]
pub mod signals {}

#[doc = include_str!("processes.md")]
#[cfg_attr(unix, doc = include_str!("../doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("../doc_links/windows.md"))]
pub mod processes {}

#[doc = include_str!("files.md")]
pub mod files {}

#[doc = include_str!("threads.md")]
pub mod threads {}

#[doc = include_str!("sharing_a_port.md")]
pub mod sharing_a_port {}

#[doc = include_str!("forks.md")]
pub mod forks {}

#[doc = include_str!("nesting.md")]
#[cfg_attr(unix, doc = include_str!("../doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("../doc_links/windows.md"))]
pub mod nesting {}

#[doc = include_str!("sources.md")]
#[cfg_attr(unix, doc = include_str!("../doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("../doc_links/windows.md"))]
pub mod sources {}

#[doc = include_str!("executors.md")]
pub mod executors {}

#[doc = include_str!("tuning.md")]
#[cfg_attr(unix, doc = include_str!("../doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("../doc_links/windows.md"))]
pub mod tuning {}

#[doc = include_str!("portability.md")]
#[cfg_attr(unix, doc = include_str!("../doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("../doc_links/windows.md"))]
pub mod portability {}

#[doc = include_str!("windows.md")]
#[cfg_attr(unix, doc = include_str!("../doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("../doc_links/windows.md"))]
pub mod windows {}

#[doc = include_str!("choosing_a_backend.md")]
pub mod choosing_a_backend {}

#[doc = include_str!("coming_from_mio.md")]
#[cfg_attr(unix, doc = include_str!("../doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("../doc_links/windows.md"))]
pub mod coming_from_mio {}

#[doc = include_str!("coming_from_polling.md")]
#[cfg_attr(unix, doc = include_str!("../doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("../doc_links/windows.md"))]
pub mod coming_from_polling {}

#[doc = include_str!("coming_from_libevent_and_libuv.md")]
#[cfg_attr(unix, doc = include_str!("../doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("../doc_links/windows.md"))]
pub mod coming_from_libevent_and_libuv {}
