//! Small things that system calls need. Each build uses those that its backend asks for.
#![allow(dead_code)]

use std::os::fd::RawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{fmt, io, mem};

/// A wait of at most [`LONGEST_WAIT`](super::LONGEST_WAIT) in milliseconds, rounded up: one that is not zero never becomes zero.
pub(super) fn whole_milliseconds(wait: Duration) -> i32 {
    ((wait.as_nanos() + 999_999) / 1_000_000) as i32
}

pub(super) fn timespec(wait: Duration) -> libc::timespec {
    // SAFETY: integers, and on some systems padding. Zeroes are a value of each.
    let mut timespec: libc::timespec = unsafe { mem::zeroed() };
    timespec.tv_sec = wait.as_secs() as _;
    timespec.tv_nsec = wait.subsec_nanos() as _;
    timespec
}

/// The result of a system call that says -1 for a failure.
pub(super) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

pub(super) fn fcntl(fd: RawFd, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: used with commands whose argument is a number.
    check(unsafe { libc::fcntl(fd, command, argument) })
}

pub(super) fn set_cloexec(fd: RawFd) -> io::Result<()> {
    fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC).map(drop)
}

pub(crate) fn set_nonblocking(fd: RawFd, nonblocking: bool) -> io::Result<()> {
    let flags = fcntl(fd, libc::F_GETFL, 0)?;
    let flags = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    fcntl(fd, libc::F_SETFL, flags).map(drop)
}

/// Prints a set of flags by their names, and what has none in hexadecimal.
pub(super) struct Bits<'a>(pub(super) u32, pub(super) &'a [(u32, &'a str)]);

impl fmt::Debug for Bits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        for (bit, name) in self.1.iter().filter(|(bit, _)| self.0 & bit != 0) {
            f.write_str(if rest == self.0 { "" } else { "|" })?;
            f.write_str(name)?;
            rest &= !bit;
        }
        match (rest, rest == self.0) {
            (0, false) => Ok(()),
            (rest, true) => write!(f, "{rest:#x}"),
            (rest, false) => write!(f, "|{rest:#x}"),
        }
    }
}

/// Whether the system is short of something: it says so again and again until others give it back.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Writes to what wakes somebody, and makes room first if it is full of wakes that nobody had to drain.
pub(super) fn signal(mut to: impl io::Write, wake: &[u8], drain: impl Fn()) -> io::Result<()> {
    // illumos reports an edge only when there was nothing in it (illumos.org/issues/13436 and 16700).
    if cfg!(target_os = "illumos") {
        drain();
    }
    loop {
        match to.write(wake) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => drain(),
            result => return result.map(drop),
        }
    }
}

/// A lock whose holder panicked is still a lock: what it guards here is never left half changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::LONGEST_WAIT;

    #[test]
    fn a_wait_is_rounded_up() {
        let table = [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(999), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_nanos(1_000_001), 2),
            (LONGEST_WAIT, 86_400_000),
        ];
        for (wait, milliseconds) in table {
            assert_eq!(whole_milliseconds(wait), milliseconds, "{wait:?}");
            let timespec = timespec(wait);
            assert_eq!((timespec.tv_sec as u64, timespec.tv_nsec as u32), (wait.as_secs(), wait.subsec_nanos()));
        }
    }

    #[test]
    fn flags_by_name() {
        const NAMES: &[(u32, &str)] = &[(1, "A"), (4, "B"), (0, "NONE")];
        for (bits, text) in [(0, "0x0"), (1, "A"), (5, "A|B"), (7, "A|B|0x2"), (8, "0x8")] {
            assert_eq!(format!("{:?}", Bits(bits, NAMES)), text);
        }
    }
}
