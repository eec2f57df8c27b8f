//! The system call poll(2), on a set of slots that is reused.
//!
//! This module is for programs that make the call themselves. Setting, reading and waiting allocate nothing. Each wait is one
//! call of ppoll(2), or of poll(2) on systems without ppoll(2). NetBSD names ppoll(2) pollts(2). See
//! <https://man7.org/linux/man-pages/man2/poll.2.html>. The portable way to wait is a [`Poll`](crate::Poll).

pub use crate::sys::unix::poll::call::PollFlags;
pub use crate::sys::unix::poll::pollset::{PollSet, Ready, Slot};
