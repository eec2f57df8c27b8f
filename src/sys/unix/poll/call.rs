//! poll(2): the call and its flags. The record is `libc::pollfd`, the same everywhere.
#![cfg_attr(not(any(feature = "os-ext", test)), allow(dead_code))]

use std::io;
use std::time::Duration;

use libc::{c_short, pollfd};

use crate::sys::unix::{poll_bits, syscall, timeout};

/// poll(2), with nanoseconds where the system has ppoll(2), for at most [`MAX_WAIT`](super::MAX_WAIT). Returns
/// how many records have something to tell.
///
/// A signal mask cannot be emulated: a signal that came between setting it and waiting would be missed, and that is what
/// the mask is for.
#[inline(always)] // Returning after a call of the kernel is dear: see `epoll_ctl` of epoll.
pub(crate) fn poll(
    fds: &mut [pollfd],
    timeout: Option<Duration>,
    signals: Option<&libc::sigset_t>,
) -> io::Result<usize> {
    let in_milliseconds = timeout.map_or(true, |timeout| timeout.subsec_nanos() % 1_000_000 == 0);
    if signals.is_none() && (in_milliseconds || !cfg!(has_ppoll)) {
        // ppoll(2) could say the same and costs more: on Linux a fifth, if there is little to wait for.
        return poll_milliseconds(fds, timeout);
    }
    #[cfg(has_ppoll)]
    {
        static PPOLL: syscall::Refusal = syscall::Refusal::new();
        if signals.is_some() {
            return ppoll(fds, timeout, signals);
        }
        if !PPOLL.has_happened() {
            match ppoll(fds, timeout, None) {
                Err(error) if syscall::is_refused(&error) => {}
                result => return result,
            }
        }
        PPOLL.fall_back(|| poll_milliseconds(fds, timeout))
    }
    #[cfg(not(has_ppoll))]
    {
        Err(io::Error::new(io::ErrorKind::Unsupported, "this system has no ppoll(2)"))
    }
}

#[inline(always)] // As `poll`.
fn poll_milliseconds(fds: &mut [pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = timeout.map_or(-1, timeout::to_millis_ceil);
    // SAFETY: the kernel reads and writes `len` records.
    syscall::cvt(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as _, timeout) }).map(|n| n as usize)
}

#[cfg(has_ppoll)]
#[inline(always)] // As `poll`.
fn ppoll(fds: &mut [pollfd], timeout: Option<Duration>, signals: Option<&libc::sigset_t>) -> io::Result<usize> {
    #[cfg(ppoll_is_pollts)]
    use libc::pollts as ppoll;
    #[cfg(not(ppoll_is_pollts))]
    use libc::ppoll;
    let timeout = timeout.map(timeout::timespec);
    let timeout = timeout.as_ref().map_or(std::ptr::null(), |timeout| timeout as *const _);
    let signals = signals.map_or(std::ptr::null(), |signals| signals as *const _);
    // SAFETY: the kernel reads and writes `len` records; `timeout` and `signals` are null or point to values that
    // outlive the call.
    syscall::cvt(unsafe { ppoll(fds.as_mut_ptr(), fds.len() as _, timeout, signals) }).map(|n| n as usize)
}

flag_set! {
    /// What poll(2) is asked for, and what it returned: the flags of `<poll.h>`.
    ///
    /// Their numbers are the system's own, from `libc`; POSIX names all but `RDHUP`.
    ///
    /// ```
    /// # #[cfg(feature = "os-ext")] {
    /// use kevio::unix::pollset::PollFlags;
    ///
    /// let flags = PollFlags::IN | PollFlags::HUP;
    /// assert!(flags.contains(PollFlags::IN) && !flags.intersects(PollFlags::OUT));
    /// assert_eq!(format!("{flags:?}"), "IN|HUP");
    /// # }
    /// ```
    pub struct PollFlags(c_short);
}

impl PollFlags {
    /// `POLLIN`: there is something to read or to accept, or the end of file.
    pub const IN: PollFlags = PollFlags(libc::POLLIN);
    /// `POLLPRI`: urgent data, or another exceptional condition.
    pub const PRI: PollFlags = PollFlags(libc::POLLPRI);
    /// `POLLOUT`: there is room to write.
    pub const OUT: PollFlags = PollFlags(libc::POLLOUT);
    /// `POLLERR`: an error, or a pipe whose reader has gone. Returned whether asked for or not.
    pub const ERR: PollFlags = PollFlags(libc::POLLERR);
    /// `POLLHUP`: hung up: both directions have ended, or a pipe's writer has gone. Returned whether asked for or not.
    pub const HUP: PollFlags = PollFlags(libc::POLLHUP);
    /// `POLLNVAL`: the descriptor is not open (on Apple also: it cannot be waited for). Returned whether asked for or not.
    pub const NVAL: PollFlags = PollFlags(libc::POLLNVAL);

    #[cfg(has_pollrdhup)]
    const NAMES: [(u32, &'static str); 7] = poll_bits::names(libc::POLLRDHUP as u32);
    #[cfg(not(has_pollrdhup))]
    const NAMES: [(u32, &'static str); 7] = poll_bits::names(0);

    fn as_u32(self) -> u32 {
        u32::from(self.0 as u16)
    }
}

#[cfg(has_pollrdhup)]
impl PollFlags {
    /// `POLLRDHUP`: the peer will send no more. Linux, Android, FreeBSD from 14, and illumos have it.
    pub const RDHUP: PollFlags = PollFlags(libc::POLLRDHUP);
}
