//! Signal actions: sigaction(2), and the actions without a handler.
#![allow(clippy::unnecessary_cast)] // The type of the field differs from system to system.

use std::{io, mem, ptr};

use libc::c_int;

use crate::sys::unix::syscall::cvt;

/// Returns the current action of a signal, and replaces the action if `new` is given.
pub(crate) fn sigaction(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: the fields are integers, addresses and a set of bits. Zeroes are a value of each.
    let mut old: libc::sigaction = unsafe { mem::zeroed() };
    let new = new.map_or(ptr::null(), |new| new as *const _);
    // SAFETY: the kernel reads one action, or none, and writes one.
    cvt(unsafe { libc::sigaction(signal, new, &mut old) })?;
    Ok(old)
}

/// Returns an action without a handler: `SIG_DFL` or `SIG_IGN`.
pub(crate) fn without_handler(disposition: usize) -> libc::sigaction {
    // SAFETY: the fields are integers, addresses and a set of bits. Zeroes are a value of each.
    let mut action: libc::sigaction = unsafe { mem::zeroed() };
    action.sa_sigaction = disposition as _;
    action
}

/// Returns `true` if the action is `SIG_DFL` or `SIG_IGN`.
pub(crate) fn has_no_handler(action: &libc::sigaction) -> bool {
    [libc::SIG_DFL, libc::SIG_IGN].contains(&(action.sa_sigaction as usize))
}

/// Returns `true` if the default action of a signal is to do nothing, or only to continue a stopped process (`SIGCONT`).
pub(crate) fn is_ignored_by_default(signal: c_int) -> bool {
    #[cfg(ignores_sigio)]
    if signal == libc::SIGIO {
        return true;
    }
    [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH].contains(&signal)
}
