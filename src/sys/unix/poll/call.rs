//! poll(2): the call and its flags. The record is `libc::pollfd` on every system.
#![cfg_attr(not(any(feature = "os-ext", test)), allow(dead_code))] // Without `os-ext` only the poll(2) backend uses the call.

use std::io;
use std::time::Duration;

use libc::{c_short, pollfd};

use crate::sys::unix::{poll_bits, syscall, timeout};

/// Calls ppoll(2) or poll(2), and returns the number of records with a result.
///
/// The timeout is at most [`MAX_WAIT`](crate::sys::selector::MAX_WAIT). If the system has
/// ppoll(2), the timeout keeps its nanoseconds. Otherwise the timeout is rounded up to milliseconds.
///
/// A signal mask is `Unsupported` on systems without ppoll(2), because an emulation cannot be atomic. A signal that
/// arrives between setting the mask and waiting would be missed.
#[inline(always)] // A return after a system call is expensive: see `epoll_ctl` in `epoll/control.rs`.
pub(crate) fn poll(
    fds: &mut [pollfd],
    timeout: Option<Duration>,
    signals: Option<&libc::sigset_t>,
) -> io::Result<usize> {
    let in_milliseconds = timeout.map_or(true, |timeout| timeout.subsec_nanos() % 1_000_000 == 0);
    if signals.is_none() && (in_milliseconds || !cfg!(has_ppoll)) {
        // ppoll(2) would return the same. On Linux it costs a fifth more, if there are few records.
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
        Err(crate::sys::error::unsupported(
            "`PollSet::ppoll` cannot set a signal mask, because kevio uses no ppoll(2) on this system: use `Signals` \
             with a `Poll`, or call `PollSet::poll`",
        ))
    }
}

#[inline(always)] // As `poll`.
fn poll_milliseconds(fds: &mut [pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let timeout = timeout.map_or(-1, timeout::to_millis_ceil);
    // SAFETY: the kernel reads and writes `len` records, which the slice has.
    syscall::cvt(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as _, timeout) }).map(|n| n as usize)
}

#[cfg(has_ppoll)]
#[inline(always)] // As `poll`.
fn ppoll(fds: &mut [pollfd], timeout: Option<Duration>, signals: Option<&libc::sigset_t>) -> io::Result<usize> {
    #[cfg(ppoll_is_pollts)]
    use libc::pollts as ppoll;
    #[cfg(not(any(ppoll_is_pollts, libc_lacks_ppoll)))]
    use libc::ppoll;
    #[cfg(libc_lacks_ppoll)]
    extern "C" {
        fn ppoll(
            fds: *mut pollfd,
            nfds: libc::nfds_t,
            timeout: *const libc::timespec,
            signals: *const libc::sigset_t,
        ) -> libc::c_int;
    }
    let timeout = timeout.map(timeout::timespec);
    let timeout = timeout.as_ref().map_or(std::ptr::null(), |timeout| timeout as *const _);
    let signals = signals.map_or(std::ptr::null(), |signals| signals as *const _);
    // SAFETY: the kernel reads and writes `len` records, which the slice has. `timeout` and `signals` are null, or point to
    // values that outlive the call.
    syscall::cvt(unsafe { ppoll(fds.as_mut_ptr(), fds.len() as _, timeout, signals) }).map(|n| n as usize)
}

flag_set! {
    /// Events to wait for, or events that poll(2) has returned: the flags of `<poll.h>`.
    ///
    /// The numbers are those of the system, from `libc`. POSIX defines all names but `RDHUP`.
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
    /// `POLLIN`: data to read, a connection to accept, or the end of file.
    pub const IN: PollFlags = PollFlags(libc::POLLIN);
    /// `POLLPRI`: urgent data, or another exceptional condition.
    pub const PRI: PollFlags = PollFlags(libc::POLLPRI);
    /// `POLLOUT`: space to write.
    pub const OUT: PollFlags = PollFlags(libc::POLLOUT);
    /// `POLLERR`: an error, or a pipe without a reader. Returned in any case.
    pub const ERR: PollFlags = PollFlags(libc::POLLERR);
    /// `POLLHUP`: a socket that has ended in both directions, or a pipe without a writer. Returned in any case.
    pub const HUP: PollFlags = PollFlags(libc::POLLHUP);
    /// `POLLNVAL`: the descriptor is not open, or (on Apple) cannot be waited for. Returned in any case.
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
    /// `POLLRDHUP`: the peer has shut down writing. Exists on Linux, Android, FreeBSD from 14, and illumos.
    pub const RDHUP: PollFlags = PollFlags(libc::POLLRDHUP);
}
