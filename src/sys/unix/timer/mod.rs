//! The mechanism of a [`Timer`](crate::Timer).
//!
//! The kqueue backend has a filter for each timer. On a system with timerfd, each timer is such a descriptor. On other systems,
//! each timer is a descriptor that the wait itself makes readable when the time has passed.

#[cfg_attr(has_timerfd, path = "timerfd.rs")]
#[cfg_attr(not(has_timerfd), path = "deadlines.rs")]
mod clock;

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

#[allow(dead_code)] // Unused without the kqueue backend.
mod units {
    use super::Duration;

    pub(crate) const NANOSECOND: u64 = 1;
    pub(crate) const MICROSECOND: u64 = 1_000;
    pub(crate) const MILLISECOND: u64 = 1_000_000;
    pub(crate) const SECOND: u64 = 1_000_000_000;

    /// The notes that name the units, with the nanoseconds of each unit; the finest first.
    pub(crate) type Units = &'static [(u32, u64)];

    /// Returns a duration in the finest unit in which it is at most `max`, rounded up. Longer durations than
    /// [`MAX_TIMEOUT`](super::MAX_TIMEOUT) are shortened to it.
    ///
    /// The result is at least one: zero is an error on NetBSD, and a disarmed timer on other systems.
    pub(crate) fn in_units(time: Duration, units: Units, max: i64) -> (u32, i64) {
        let time = time.min(super::MAX_TIMEOUT);
        let count = |unit: u64| ((time.as_nanos() + u128::from(unit) - 1) / u128::from(unit)).max(1);
        let fits = |(_, unit): &&(u32, u64)| count(*unit) <= max as u128;
        let (name, unit) = units.iter().find(fits).or(units.last()).copied().unwrap_or((0, MILLISECOND));
        (name, count(unit).min(max as u128) as i64)
    }
}
#[allow(unused_imports)] // Unused without the kqueue backend.
pub(crate) use units::*;

/// The duration from which on a timer is never armed: 34 years. FreeBSD adds the uptime to the duration without a check, so that
/// a timer of 2^31 s less the uptime fires at once (kern_event.c: `filt_timerexpire` and `timer2sbintime`).
pub(crate) const MAX_TIMEOUT: Duration = Duration::from_secs(1 << 30);

pub(crate) use crate::sys::unix::timer::clock::{TimerFd, TimerQueue};

/// Returns an ident for a timer that is a filter. Each queue has its own idents of timers, and no ident is negative.
pub(crate) fn allocate_ident() -> RawFd {
    static NEXT: AtomicI32 = AtomicI32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) & i32::MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    const APPLE: Units = &[(4, NANOSECOND), (2, MICROSECOND), (0, MILLISECOND), (1, SECOND)];
    const FREEBSD: Units = &[(8, NANOSECOND), (4, MICROSECOND), (2, MILLISECOND), (1, SECOND)];
    const MILLISECONDS: Units = &[(0, MILLISECOND)];

    #[test]
    fn durations_use_the_finest_unit_that_holds_them() {
        let (wide, narrow) = (i64::MAX, i64::from(i32::MAX));
        let seconds = Duration::from_secs;
        #[rustfmt::skip]
        let table = [
            (Duration::ZERO,                  APPLE,        wide,   (4, 1)),
            (Duration::ZERO,                  MILLISECONDS, wide,   (0, 1)),
            (Duration::from_nanos(1),         FREEBSD,      wide,   (8, 1)),
            (Duration::from_nanos(1),         MILLISECONDS, wide,   (0, 1)),
            (Duration::from_micros(1500),     MILLISECONDS, wide,   (0, 2)),
            (Duration::from_micros(1500),     APPLE,        wide,   (4, 1_500_000)),
            (Duration::from_micros(1_000_500), FREEBSD,      wide,   (8, 1_000_500_000)),
            // `data` has 32 bits on 32-bit systems, in the record of Apple and of libkqueue.
            (seconds(2),                      APPLE,        narrow, (4, 2_000_000_000)),
            (seconds(3),                      APPLE,        narrow, (2, 3_000_000)),
            (Duration::new(3, 1),             APPLE,        narrow, (2, 3_000_001)),
            (seconds(3_000),                  APPLE,        narrow, (0, 3_000_000)),
            (seconds(3_000_000),              APPLE,        narrow, (1, 3_000_000)),
            (Duration::new(3_000_000, 1),     APPLE,        narrow, (1, 3_000_001)),
            (MAX_TIMEOUT,                     FREEBSD,      wide,   (8, 1_073_741_824_000_000_000)),
            (MAX_TIMEOUT * 3,                 FREEBSD,      wide,   (8, 1_073_741_824_000_000_000)),
            (Duration::MAX,                   APPLE,        narrow, (1, 1_073_741_824)),
            (MAX_TIMEOUT,                     MILLISECONDS, wide,   (0, 1_073_741_824_000)),
        ];
        for (time, units, max, expected) in table {
            assert_eq!(in_units(time, units, max), expected, "{time:?}");
        }
    }
}
