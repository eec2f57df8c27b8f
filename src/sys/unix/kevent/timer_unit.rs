//! The units of a timer's period, and the notes of `EVFILT_TIMER` that name the units.

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

/// The units of the system. DragonFly has milliseconds only, and so has the `libc` of OpenBSD.
#[cfg(not(any(target_os = "dragonfly", target_os = "openbsd")))]
const TIMER_UNITS: TimerUnits = &[
    (TimerNotes::NSECONDS.bits(), TimerUnit::Nanoseconds.nanoseconds()),
    (TimerNotes::USECONDS.bits(), TimerUnit::Microseconds.nanoseconds()),
    MILLISECONDS,
    (TimerNotes::SECONDS.bits(), TimerUnit::Seconds.nanoseconds()),
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
const MILLISECONDS: (u32, u64) = (TimerNotes::MSECONDS.bits(), TimerUnit::Milliseconds.nanoseconds());
/// On the other systems a timer without a note is in milliseconds. NetBSD's note is 0 as well.
#[cfg(not(any(target_os = "freebsd", target_os = "netbsd")))]
const MILLISECONDS: (u32, u64) = (TimerNotes::empty().bits(), TimerUnit::Milliseconds.nanoseconds());

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
}
