//! The limit of open descriptors, and numbers that no descriptor has.

#[cfg(unix)]
use std::os::fd::RawFd;

/// Raises the soft limit of open descriptors to `max`, or to the hard limit if that is lower. Returns the limit, at most `max`.
#[cfg(unix)]
pub fn raise_fd_limit(max: usize) -> usize {
    let max = max as libc::rlim_t;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes and reads one `rlimit`.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        if limit.rlim_cur < max {
            limit.rlim_cur = limit.rlim_max.min(max);
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
        }
    }
    limit.rlim_cur.min(max) as usize
}

/// Returns `max`: Windows has no limit that a program sets.
#[cfg(windows)]
pub fn raise_fd_limit(max: usize) -> usize {
    max
}

/// Raises the soft limit of open descriptors to 8 192 if possible. Returns the limit, at most 8 192.
pub fn raise_fd_limit_to_default() -> usize {
    raise_fd_limit(8192)
}

/// Returns the number of a closed descriptor, another one at each call. No other test receives this number, because the kernel
/// assigns the lowest number that is free.
#[cfg(unix)]
pub fn closed_descriptor() -> RawFd {
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::sync::atomic::{AtomicI32, Ordering};

    static CALLS: AtomicI32 = AtomicI32::new(0);
    let lowest = raise_fd_limit_to_default() as libc::c_int - 100 + CALLS.fetch_add(1, Ordering::Relaxed) % 100;
    let fd: OwnedFd = std::net::UdpSocket::bind(super::net::loopback()).unwrap().into();
    // SAFETY: no pointers; only this function has the copy, and closes the copy once.
    unsafe {
        let copy = libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, lowest);
        assert!(copy >= lowest);
        libc::close(copy);
        copy
    }
}
