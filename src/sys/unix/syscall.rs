//! Small things that system calls need. Each build uses those that its backend asks for.
#![allow(dead_code)]

use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use std::{io, mem};

use crate::sys::selector::MAX_WAIT;

/// A wait of at most [`MAX_WAIT`](super::MAX_WAIT) in milliseconds, rounded up: one that is not zero never becomes zero.
#[inline]
pub(crate) fn to_millis_ceil(wait: Duration) -> i32 {
    wait.as_secs() as i32 * 1000 + ((wait.subsec_nanos() + 999_999) / 1_000_000) as i32
}

#[inline]
pub(crate) fn timespec(wait: Duration) -> libc::timespec {
    // SAFETY: integers, and on some systems padding. Zeroes are a value of each.
    let mut timespec: libc::timespec = unsafe { mem::zeroed() };
    timespec.tv_sec = clamped(wait.as_secs());
    timespec.tv_nsec = wait.subsec_nanos() as _;
    timespec
}

/// The number, or the greatest that the kernel's type holds: a `time_t` of 32 bits would become negative, which is `EINVAL`.
/// (The type has no name here, because libc warns of it on musl.)
#[inline]
fn clamped<T: TryFrom<u64> + TryFrom<i64> + From<i32>>(number: u64) -> T {
    let exact = T::try_from(number).ok();
    exact.or_else(|| T::try_from(i64::MAX).ok()).unwrap_or_else(|| T::from(i32::MAX))
}

/// Waits as long as asked, in steps that every kernel accepts. `wait` says how many events came.
pub(crate) fn wait_in_chunks(
    timeout: Option<Duration>,
    mut wait: impl FnMut(Option<Duration>) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut left = timeout;
    loop {
        let step = left.map(|left| left.min(MAX_WAIT));
        let n = wait(step)?;
        if n > 0 || left == step {
            return Ok(n);
        }
        left = left.zip(step).map(|(left, step)| left - step);
    }
}

/// An argument that no system call should see.
pub(crate) fn invalid_input(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, why)
}

/// The result of a system call that says -1 for a failure.
#[inline]
pub(crate) fn cvt(result: libc::c_int) -> io::Result<libc::c_int> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The error number of a system call that has failed.
#[inline]
pub(crate) fn last_errno() -> libc::c_int {
    // An error of the system owns nothing, so that the error need not be dropped, which is a call.
    ManuallyDrop::new(io::Error::last_os_error()).raw_os_error().unwrap_or(libc::EIO)
}

pub(crate) fn fcntl(fd: RawFd, command: libc::c_int, argument: libc::c_int) -> io::Result<libc::c_int> {
    // SAFETY: used with commands whose argument is a number.
    cvt(unsafe { libc::fcntl(fd, command, argument) })
}

pub(crate) fn set_cloexec(fd: RawFd) -> io::Result<()> {
    fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC).map(drop)
}

pub(crate) fn set_nonblocking(fd: RawFd, nonblocking: bool) -> io::Result<()> {
    let flags = fcntl(fd, libc::F_GETFL, 0)?;
    let flags = if nonblocking { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    fcntl(fd, libc::F_SETFL, flags).map(drop)
}

/// Whether the system is short of something: it says so again and again until others give it back.
pub(crate) fn is_resource_exhausted(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

/// Whether the kernel does not know a system call, or a sandbox refuses it: seccomp filters answer with each of these.
/// Only for calls that give none of them for their arguments.
pub(crate) fn is_refused(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM | libc::EACCES | libc::EOPNOTSUPP))
}

/// What a sandbox refuses and has no fallback is not there.
pub(crate) fn unless_refused(error: io::Error) -> io::Error {
    match is_refused(&error) {
        true => io::Error::new(io::ErrorKind::Unsupported, error),
        false => error,
    }
}

/// Whether a system call was refused once: its fallback is used from then on.
pub(crate) struct Refusal(AtomicBool);

impl Refusal {
    pub(crate) const fn new() -> Refusal {
        Refusal(AtomicBool::new(false))
    }

    /// Makes the call, or its fallback if the call is refused. If the fallback is refused too, the call is tried again
    /// next time: a firewall answers accept4(2) and accept(2) with `EPERM`.
    #[inline]
    pub(crate) fn call<T>(
        &self,
        call: impl FnOnce() -> io::Result<T>,
        fallback: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        if self.has_happened() {
            return fallback();
        }
        match call() {
            Err(error) if is_refused(&error) => self.fall_back(fallback),
            result => result,
        }
    }

    #[inline]
    pub(crate) fn has_happened(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    #[cold]
    pub(crate) fn fall_back<T>(&self, fallback: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let result = fallback();
        if !result.as_ref().is_err_and(is_refused) {
            self.0.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// Writes to what wakes somebody, and makes room first if it is full of wakes that nobody had to drain.
pub(crate) fn write_wakeup(mut to: impl io::Write, wake: &[u8], drain: impl Fn()) -> io::Result<()> {
    // illumos reports an edge only when there was nothing in it (illumos.org/issues/13436 and 16700).
    if cfg!(edge_needs_empty_buffer) {
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

/// The address of the calling thread's `errno`.
///
/// # Safety
///
/// It may be used in this thread only.
pub(crate) unsafe fn errno() -> *mut libc::c_int {
    #[cfg(errno_location = "___errno")]
    use libc::___errno as location;
    #[cfg(errno_location = "__errno")]
    use libc::__errno as location;
    #[cfg(errno_location = "__errno_location")]
    use libc::__errno_location as location;
    #[cfg(errno_location = "__error")]
    use libc::__error as location;
    #[cfg(errno_location = "__get_errno_ptr")]
    use libc::__get_errno_ptr as location;
    #[cfg(errno_location = "_errnop")]
    use libc::_errnop as location;
    // SAFETY: no arguments.
    unsafe { location() }
}

/// A lock whose holder panicked is still a lock: what it guards here is never left half changed.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_is_rounded_up() {
        let table = [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(999), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_nanos(1_000_001), 2),
            (MAX_WAIT, 86_400_000),
        ];
        for (wait, milliseconds) in table {
            assert_eq!(to_millis_ceil(wait), milliseconds, "{wait:?}");
            let timespec = timespec(wait);
            assert_eq!((timespec.tv_sec as u64, timespec.tv_nsec as u32), (wait.as_secs(), wait.subsec_nanos()));
        }
    }

    #[test]
    fn time_that_is_too_long_for_the_kernels_type_is_clamped() {
        assert_eq!((clamped::<i32>(3), clamped::<i64>(3)), (3, 3));
        assert_eq!((clamped::<i32>(3_000_000_000), clamped::<i64>(3_000_000_000)), (i32::MAX, 3_000_000_000));
        assert_eq!((clamped::<i32>(u64::MAX), clamped::<i64>(u64::MAX)), (i32::MAX, i64::MAX));
        for wait in [Duration::from_secs(3_000_000_000), Duration::MAX] {
            assert!(timespec(wait).tv_sec >= i32::MAX.into(), "{wait:?}");
        }
    }

    #[test]
    fn a_wait_of_any_length() {
        let steps_of = |timeout, mut come: usize| {
            let mut steps = Vec::new();
            let n = wait_in_chunks(timeout, |step| {
                steps.push(step);
                come -= 1;
                Ok(usize::from(come == 0))
            });
            (steps, n.unwrap())
        };
        let (day, second) = (MAX_WAIT, Duration::from_secs(1));
        assert_eq!(steps_of(None, 1), (vec![None], 1));
        assert_eq!(steps_of(Some(Duration::ZERO), 9), (vec![Some(Duration::ZERO)], 0));
        assert_eq!(steps_of(Some(day), 9), (vec![Some(day)], 0));
        assert_eq!(steps_of(Some(day + second), 9), (vec![Some(day), Some(second)], 0));
        assert_eq!(steps_of(Some(Duration::MAX), 3), (vec![Some(day); 3], 1));
        assert!(wait_in_chunks(Some(Duration::MAX), |_| Err(invalid_input("no"))).is_err());
    }
}
