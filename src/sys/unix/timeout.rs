//! Timeouts as the kernel's types express them.
//!
//! No conversion shortens a timeout. A unit that is coarser than a nanosecond is rounded up, so that a timeout above zero
//! never becomes zero.

use std::time::Duration;
use std::{io, mem};

use crate::sys::selector::MAX_WAIT;

/// Returns a timeout of at most [`MAX_WAIT`] in milliseconds, rounded up.
#[inline]
#[allow(dead_code)] // Unused with the kqueue backend without `os-ext`.
pub(crate) fn to_millis_ceil(timeout: Duration) -> i32 {
    timeout.as_secs() as i32 * 1000 + ((timeout.subsec_nanos() + 999_999) / 1_000_000) as i32
}

/// Returns a timeout as a `timespec`. Seconds that do not fit into `time_t` become its greatest value.
#[inline]
#[allow(dead_code)] // Unused on systems that have neither kqueue(2), timerfd_create(2) nor ppoll(2).
pub(crate) fn timespec(timeout: Duration) -> libc::timespec {
    // SAFETY: the fields are integers, and on some systems padding. Zeroes are a value of each.
    let mut timespec: libc::timespec = unsafe { mem::zeroed() };
    timespec.tv_sec = clamped(timeout.as_secs());
    timespec.tv_nsec = timeout.subsec_nanos() as _;
    timespec
}

/// Returns the number, or the greatest value of the kernel's type.
///
/// A larger number would become negative in a `time_t` of 32 bits, which the kernel rejects with `EINVAL`. The function is
/// generic because libc deprecates the name `time_t` on musl.
#[inline]
fn clamped<T: TryFrom<u64> + TryFrom<i64> + From<i32>>(number: u64) -> T {
    let exact = T::try_from(number).ok();
    exact.or_else(|| T::try_from(i64::MAX).ok()).unwrap_or_else(|| T::from(i32::MAX))
}

/// Waits for the whole timeout with calls of `wait` that take at most [`MAX_WAIT`], which every kernel accepts.
///
/// `wait` returns the number of events. The first number above zero ends the wait and is returned.
#[allow(dead_code)] // Unused without `os-ext`.
pub(crate) fn wait_in_chunks(
    timeout: Option<Duration>,
    mut wait: impl FnMut(Option<Duration>) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut left = timeout;
    loop {
        let chunk = left.map(|left| left.min(MAX_WAIT));
        let event_count = wait(chunk)?;
        if event_count > 0 || left == chunk {
            return Ok(event_count);
        }
        left = left.zip(chunk).map(|(left, chunk)| left - chunk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conversion_never_shortens_a_timeout() {
        let table = [
            (Duration::ZERO, 0),
            (Duration::from_nanos(1), 1),
            (Duration::from_micros(999), 1),
            (Duration::from_millis(1), 1),
            (Duration::from_nanos(1_000_001), 2),
            (MAX_WAIT, 86_400_000),
        ];
        for (timeout, milliseconds) in table {
            assert_eq!(to_millis_ceil(timeout), milliseconds, "{timeout:?}");
            let timespec = timespec(timeout);
            assert_eq!((timespec.tv_sec as u64, timespec.tv_nsec as u32), (timeout.as_secs(), timeout.subsec_nanos()));
        }
    }

    #[test]
    fn seconds_beyond_the_kernels_type_are_clamped() {
        assert_eq!((clamped::<i32>(3), clamped::<i64>(3)), (3, 3));
        assert_eq!((clamped::<i32>(3_000_000_000), clamped::<i64>(3_000_000_000)), (i32::MAX, 3_000_000_000));
        assert_eq!((clamped::<i32>(u64::MAX), clamped::<i64>(u64::MAX)), (i32::MAX, i64::MAX));
        for timeout in [Duration::from_secs(3_000_000_000), Duration::MAX] {
            assert!(timespec(timeout).tv_sec >= i32::MAX.into(), "{timeout:?}");
        }
    }

    #[test]
    fn long_timeout_is_split_into_chunks() {
        /// The chunks that `wait` receives, and the result. The event arrives in the call number `event_at`.
        fn chunks_of(timeout: Option<Duration>, event_at: usize) -> (Vec<Option<Duration>>, usize) {
            let mut chunks = Vec::new();
            let event_count = wait_in_chunks(timeout, |chunk| {
                chunks.push(chunk);
                Ok(usize::from(chunks.len() == event_at))
            });
            (chunks, event_count.unwrap())
        }
        let (day, second) = (MAX_WAIT, Duration::from_secs(1));
        assert_eq!(chunks_of(None, 1), (vec![None], 1));
        assert_eq!(chunks_of(Some(Duration::ZERO), 9), (vec![Some(Duration::ZERO)], 0));
        assert_eq!(chunks_of(Some(day), 9), (vec![Some(day)], 0));
        assert_eq!(chunks_of(Some(day + second), 9), (vec![Some(day), Some(second)], 0));
        assert_eq!(chunks_of(Some(Duration::MAX), 3), (vec![Some(day); 3], 1));
        assert!(wait_in_chunks(Some(Duration::MAX), |_| Err(io::ErrorKind::InvalidInput.into())).is_err());
    }
}
