//! The units of a timer's period, and the notes of `EVFILT_TIMER` that name the units.

use std::time::Duration;

use crate::sys::unix::kevent::constants::TimerNotes;

/// The unit of a timer's period.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum TimerUnit {
    /// `NOTE_SECONDS`.
    Seconds,
    /// `NOTE_MSECONDS`, or no note.
    Milliseconds,
    /// `NOTE_USECONDS`.
    Microseconds,
    /// `NOTE_NSECONDS`.
    Nanoseconds,
}

/// Notes of a timer, each with the nanoseconds of its unit; the finest unit first.
pub(crate) type TimerUnits = &'static [(u32, u64)];

const NANOSECOND: u64 = TimerUnit::Nanoseconds.nanoseconds();
const MICROSECOND: u64 = TimerUnit::Microseconds.nanoseconds();
const MILLISECOND: u64 = TimerUnit::Milliseconds.nanoseconds();
const SECOND: u64 = TimerUnit::Seconds.nanoseconds();

/// The note of a timer that must not be late. Apple's kernel coalesces other timers, and delays a timer by up to a tenth of its
/// duration.
#[cfg(target_vendor = "apple")]
pub(crate) const PUNCTUAL: TimerNotes = TimerNotes::CRITICAL;
#[cfg(not(target_vendor = "apple"))]
pub(crate) const PUNCTUAL: TimerNotes = TimerNotes::empty();

/// Returns the note of the finest unit in which the duration is at most `max`, and the duration in that unit, rounded up.
///
/// The result is at least one: zero is an error on NetBSD, and a disarmed timer on other systems.
pub(crate) fn in_units(time: Duration, units: TimerUnits, max: i64) -> (u32, i64) {
    let count = |unit: u64| ((time.as_nanos() + u128::from(unit) - 1) / u128::from(unit)).max(1);
    let fits = |(_, unit): &&(u32, u64)| count(*unit) <= max as u128;
    let (name, unit) = units.iter().find(fits).or(units.last()).copied().unwrap_or((0, MILLISECOND));
    (name, count(unit).min(max as u128) as i64)
}

/// The units of the system. DragonFly has milliseconds only, and so has the `libc` of OpenBSD.
#[cfg(not(any(target_os = "dragonfly", target_os = "openbsd")))]
const TIMER_UNITS: TimerUnits = &[
    (TimerNotes::NSECONDS.bits(), NANOSECOND),
    (TimerNotes::USECONDS.bits(), MICROSECOND),
    MILLISECONDS,
    (TimerNotes::SECONDS.bits(), SECOND),
];
#[cfg(any(target_os = "dragonfly", target_os = "openbsd"))]
const TIMER_UNITS: TimerUnits = &[MILLISECONDS];

/// The units of every release of the system.
///
/// DragonFly, NetBSD before 10 and OpenBSD before 7.4 have no notes, and read `data` as milliseconds. Newer releases have the
/// notes, but count ticks of the clock, which are no finer.
pub(crate) const PORTABLE_TIMER_UNITS: TimerUnits =
    if cfg!(target_os = "netbsd") { &[MILLISECONDS] } else { TIMER_UNITS };

#[cfg(any(target_os = "freebsd", target_os = "netbsd"))]
const MILLISECONDS: (u32, u64) = (TimerNotes::MSECONDS.bits(), MILLISECOND);
/// On the other systems a timer without a note is in milliseconds. NetBSD's note is 0 as well.
#[cfg(not(any(target_os = "freebsd", target_os = "netbsd")))]
const MILLISECONDS: (u32, u64) = (TimerNotes::empty().bits(), MILLISECOND);

impl TimerUnit {
    pub(super) const fn nanoseconds(self) -> u64 {
        match self {
            TimerUnit::Seconds => 1_000_000_000,
            TimerUnit::Milliseconds => 1_000_000,
            TimerUnit::Microseconds => 1_000,
            TimerUnit::Nanoseconds => 1,
        }
    }

    /// Returns the greatest period in this unit that `i64::MAX` nanoseconds hold, 292 years.
    pub(super) const fn max_period(self) -> i64 {
        i64::MAX / self.nanoseconds() as i64
    }

    /// Returns the notes that name the unit, or `None` if the system has no such unit.
    pub(super) fn note(self) -> Option<u32> {
        let unit = TIMER_UNITS.iter().find(|(_, nanoseconds)| *nanoseconds == self.nanoseconds());
        unit.map(|(note, _)| *note)
    }

    /// Returns a period of at most [`max_period`](TimerUnit::max_period) in milliseconds, rounded up.
    pub(super) fn in_milliseconds(self, period: i64) -> i64 {
        let nanoseconds = i128::from(period) * i128::from(self.nanoseconds());
        ((nanoseconds + 999_999) / 1_000_000) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversion for systems without the unit, which runs on every system here.
    #[test]
    fn period_in_milliseconds_is_rounded_up() {
        let table = [
            (TimerUnit::Seconds, 3, 3_000),
            (TimerUnit::Milliseconds, 3, 3),
            (TimerUnit::Microseconds, 0, 0),
            (TimerUnit::Microseconds, 1, 1),
            (TimerUnit::Microseconds, 2_001, 3),
            (TimerUnit::Nanoseconds, 1_000_000, 1),
            (TimerUnit::Nanoseconds, i64::MAX, 9_223_372_036_855),
            (TimerUnit::Seconds, i64::MAX / 1_000_000_000, 9_223_372_036_000),
        ];
        for (unit, period, milliseconds) in table {
            assert_eq!(unit.in_milliseconds(period), milliseconds, "{unit:?}");
        }
    }

    const APPLE: TimerUnits = &[(4, NANOSECOND), (2, MICROSECOND), (0, MILLISECOND), (1, SECOND)];
    const FREEBSD: TimerUnits = &[(8, NANOSECOND), (4, MICROSECOND), (2, MILLISECOND), (1, SECOND)];
    const DRAGONFLY: TimerUnits = &[(0, MILLISECOND)];

    #[test]
    fn durations_use_the_finest_unit_that_holds_them() {
        let (wide, narrow) = (i64::MAX, i64::from(i32::MAX));
        let seconds = Duration::from_secs;
        #[rustfmt::skip]
        let table = [
            (Duration::ZERO,                  APPLE,        wide,   (4, 1)),
            (Duration::ZERO,                  DRAGONFLY, wide,   (0, 1)),
            (Duration::from_nanos(1),         FREEBSD,      wide,   (8, 1)),
            (Duration::from_nanos(1),         DRAGONFLY, wide,   (0, 1)),
            (Duration::from_micros(1500),     DRAGONFLY, wide,   (0, 2)),
            (Duration::from_micros(1500),     APPLE,        wide,   (4, 1_500_000)),
            (Duration::from_micros(1_000_500), FREEBSD,      wide,   (8, 1_000_500_000)),
            // `data` has 32 bits on 32-bit systems, in the record of Apple and of libkqueue.
            (seconds(2),                      APPLE,        narrow, (4, 2_000_000_000)),
            (seconds(3),                      APPLE,        narrow, (2, 3_000_000)),
            (Duration::new(3, 1),             APPLE,        narrow, (2, 3_000_001)),
            (seconds(3_000),                  APPLE,        narrow, (0, 3_000_000)),
            (seconds(3_000_000),              APPLE,        narrow, (1, 3_000_000)),
            (Duration::new(3_000_000, 1),     APPLE,        narrow, (1, 3_000_001)),
            (Duration::MAX,                   APPLE,        narrow, (1, 2_147_483_647)),
        ];
        for (time, units, max, expected) in table {
            assert_eq!(in_units(time, units, max), expected, "{time:?}");
        }
    }
}
