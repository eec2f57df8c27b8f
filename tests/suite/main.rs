//! The public suite: what a program sees, the same on every backend.
//!
//! Run it for each: plainly, with `RUSTFLAGS='--cfg kevio_backend="poll"'`, and with `"kqueue"` where there is one.

mod harness;
mod libkqueue;

mod api;
mod bad_input;
mod closing;
mod differences;
mod edges;
mod pipes;
mod tcp;
mod threads;
mod udp;
mod unix_sockets;
mod waits;
mod wakers;
