//! Busy polling of the network card: `EPIOCSPARAMS` and `EPIOCGPARAMS` of ioctl_eventpoll(2), since Linux 6.9.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use crate::busy_poll::BusyPoll;
use crate::sys::error::unsupported_busy_poll;
use crate::sys::unix::syscall::cvt;

/// An older kernel rejects the request as unknown, and a kernel that was built without busy polling as unsupported.
fn unsupported_if_unknown(error: io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(libc::ENOTTY | libc::EOPNOTSUPP | libc::ENOSYS) => unsupported_busy_poll(),
        _ => error,
    }
}

pub(super) fn set(epoll: &OwnedFd, parameters: BusyPoll) -> io::Result<()> {
    let parameters = libc::epoll_params {
        busy_poll_usecs: parameters.microseconds,
        busy_poll_budget: parameters.budget,
        prefer_busy_poll: parameters.prefer.into(),
        __pad: 0,
    };
    // SAFETY: the kernel reads one record, which outlives the call.
    let result = unsafe { libc::ioctl(epoll.as_raw_fd(), libc::EPIOCSPARAMS as _, &parameters) };
    cvt(result).map(drop).map_err(unsupported_if_unknown)
}

pub(super) fn get(epoll: &OwnedFd) -> io::Result<BusyPoll> {
    let mut parameters = libc::epoll_params { busy_poll_usecs: 0, busy_poll_budget: 0, prefer_busy_poll: 0, __pad: 0 };
    // SAFETY: the kernel writes one record, which outlives the call.
    let result = unsafe { libc::ioctl(epoll.as_raw_fd(), libc::EPIOCGPARAMS as _, &mut parameters) };
    cvt(result).map_err(unsupported_if_unknown)?;
    Ok(BusyPoll {
        microseconds: parameters.busy_poll_usecs,
        budget: parameters.busy_poll_budget,
        prefer: parameters.prefer_busy_poll != 0,
    })
}
