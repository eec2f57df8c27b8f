//! The filters, flags and notes of `<sys/event.h>`, by system: one matrix.
//!
//! A row is a constant: its name here, its name in C, its number on each system, and its meaning. A constant exists on the
//! systems that have a number for it. In tests, and with the cfg `kevio_compares_libc`, the compiler compares each number with
//! that of `libc`: `.ci/targets` does so for every target. A user's build compares nothing, because an older `libc` lacks some of
//! the constants. libkqueue has no crate; a test compares its column with its `<kqueue/sys/event.h>`.

use std::fmt;

use crate::sys::unix::kevent::abi::{RawFilter, RawFlags};

/// The number of a constant that does not exist. The system lacks the constant, or `libc` does (OpenBSD's `NOTE_SECONDS` and
/// `NOTE_ABSTIME`, and NetBSD's `NOTE_OPEN` and the like are younger than `libc`).
const ABSENT: i64 = i64::MIN;

/// The column of the system.
const COLUMN: usize = if cfg!(target_vendor = "apple") {
    0
} else if cfg!(target_os = "freebsd") {
    1
} else if cfg!(target_os = "dragonfly") {
    2
} else if cfg!(target_os = "netbsd") {
    3
} else if cfg!(target_os = "openbsd") {
    4
} else {
    5
};

/// Returns the bits of a row on this system, or 0 if the constant does not exist.
const fn row_bits(row: [i64; 6]) -> u32 {
    if row[COLUMN] == ABSENT {
        0
    } else {
        row[COLUMN] as u32
    }
}

/// Returns the number of a row on this system.
const fn row_number(row: [i64; 6]) -> i64 {
    row[COLUMN]
}

/// Defines the constant of one row on each system that has the constant, and compares the number with that of `libc`.
///
/// The macro takes one system and its number off the lists in each step.
macro_rules! constant {
    ($row:tt [] $(,)?) => {};
    ($row:tt [($system:meta) $($systems:tt)*] ABSENT $(, $($numbers:tt)*)?) => {
        constant! { $row [$($systems)*] $($($numbers)*)? }
    };
    (
        [$set:ident $name:ident $c:ident [$($doc:tt)*]]
        [($system:meta) $($systems:tt)*] $number:literal $(, $($numbers:tt)*)?
    ) => {
        #[cfg($system)]
        impl $set {
            $($doc)*
            pub const $name: $set = $set($number);
        }
        #[cfg(all($system, not(links_libkqueue), any(test, kevio_compares_libc)))]
        #[allow(deprecated)] // `EV_SYSFLAGS`, a mask that FreeBSD may change.
        const _: () = assert!(libc::$c as i64 == $number, concat!("`libc` has another number of ", stringify!($c)));
        constant! { [$set $name $c [$($doc)*]] [$($systems)*] $($($numbers)*)? }
    };
}

/// Lists the rows of each set, and makes the table of their names for `Debug`.
macro_rules! kevent_constants {
    ($($set:ident: $key:ident -> $key_type:ty { $($name:ident $c:ident [$($numbers:tt)*] $doc:literal;)+ })+) => {$(
        $(constant! {
            [$set $name $c [
                #[doc = concat!("`", stringify!($c), "`: ", $doc)]
                ///
                #[doc = concat!(
                    "On Apple, FreeBSD, DragonFly, NetBSD, OpenBSD and libkqueue: `", stringify!($($numbers)*), "`."
                )]
            ]]
            [
                (target_vendor = "apple") (target_os = "freebsd") (target_os = "dragonfly") (target_os = "netbsd")
                (target_os = "openbsd") (links_libkqueue)
            ]
            $($numbers)*
        })+

        impl $set {
            const NAMES: &'static [($key_type, &'static str)] = &[$(($key([$($numbers)*]), stringify!($c))),+];

            #[allow(clippy::unnecessary_cast)] // The width depends on the set, and on the system.
            fn as_u32(self) -> u32 {
                self.0 as u32
            }
        }
    )+};
}

kevent_constants! {
    Filter: row_number -> i64 {
        READ EVFILT_READ [-1, -1, -1, 0, -1, -1] "data can be read from a descriptor.";
        WRITE EVFILT_WRITE [-2, -2, -2, 1, -2, -2] "data can be written to a descriptor.";
        AIO EVFILT_AIO [-3, -3, -3, 2, -3, ABSENT] "an asynchronous operation; FreeBSD's aio(4) adds the filter.";
        VNODE EVFILT_VNODE [-4, -4, -4, 3, -4, -4] "a file was changed, renamed, deleted.";
        PROC EVFILT_PROC [-5, -5, -5, 4, -5, -5] "a process exited, forked, or executed a program.";
        SIGNAL EVFILT_SIGNAL [-6, -6, -6, 5, -6, -6] "a signal was sent to the process.";
        TIMER EVFILT_TIMER [-7, -7, -7, 6, -7, -7] "a period has passed.";
        PROCDESC EVFILT_PROCDESC [ABSENT, -8, ABSENT, ABSENT, ABSENT, ABSENT] "a process of pdfork(2) exited.";
        MACHPORT EVFILT_MACHPORT [-8, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "a Mach port has a message.";
        DEVICE EVFILT_DEVICE [ABSENT, ABSENT, ABSENT, ABSENT, -8, ABSENT] "a device changed.";
        FS EVFILT_FS [-9, -9, -10, 7, ABSENT, ABSENT] "a file system was mounted or unmounted.";
        LIO EVFILT_LIO [ABSENT, -10, ABSENT, ABSENT, ABSENT, ABSENT]
            "a list of asynchronous operations; lio_listio(2) adds the filter.";
        USER EVFILT_USER [-10, -11, -9, 8, -10, -11] "the program triggered the event.";
        VM EVFILT_VM [-12, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "memory pressure; current macOS rejects the filter.";
        SENDFILE EVFILT_SENDFILE [ABSENT, -12, ABSENT, ABSENT, ABSENT, ABSENT] "reserved for the kernel.";
        EMPTY EVFILT_EMPTY [ABSENT, -13, ABSENT, 9, ABSENT, ABSENT]
            "all data that was written to a socket has been acknowledged.";
        EXCEPT EVFILT_EXCEPT [-15, ABSENT, -8, ABSENT, -9, ABSENT] "urgent data arrived at a socket.";
    }
    // A constant of several bits comes before the constants of those bits.
    Flags: row_bits -> u32 {
        ADD EV_ADD [0x1, 0x1, 0x1, 0x1, 0x1, 0x1] "adds the filter, enabled; changes a filter that exists.";
        DELETE EV_DELETE [0x2, 0x2, 0x2, 0x2, 0x2, 0x2] "removes the filter.";
        ENABLE EV_ENABLE [0x4, 0x4, 0x4, 0x4, 0x4, 0x4] "enables the filter, so that it reports events.";
        DISABLE EV_DISABLE [0x8, 0x8, 0x8, 0x8, 0x8, 0x8] "disables the filter: it is kept, and reports no events.";
        ONESHOT EV_ONESHOT [0x10, 0x10, 0x10, 0x10, 0x10, 0x10] "deletes the filter after its first event.";
        CLEAR EV_CLEAR [0x20, 0x20, 0x20, 0x20, 0x20, 0x20] "resets the state of the filter after each event: an edge.";
        RECEIPT EV_RECEIPT [0x40, 0x40, 0x40, 0x40, 0x40, 0x40] "returns a receipt, even if the change succeeded.";
        DISPATCH2 EV_DISPATCH2 [0x180, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "`EV_DISPATCH` and `EV_UDATA_SPECIFIC`.";
        DISPATCH EV_DISPATCH [0x80, 0x80, 0x80, 0x80, 0x80, 0x80] "disables the filter after an event.";
        UDATA_SPECIFIC EV_UDATA_SPECIFIC [0x100, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "`udata` is part of the key of the filter.";
        FORCEONESHOT EV_FORCEONESHOT [ABSENT, 0x100, ABSENT, ABSENT, ABSENT, ABSENT] "makes the filter fire, once.";
        VANISHED EV_VANISHED [0x200, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "reports that the descriptor was closed.";
        KEEPUDATA EV_KEEPUDATA [ABSENT, 0x200, ABSENT, ABSENT, ABSENT, ABSENT] "does not replace `udata`.";
        HUP EV_HUP [ABSENT, ABSENT, 0x800, ABSENT, ABSENT, ABSENT] "in an event: both directions have ended.";
        NODATA EV_NODATA [ABSENT, ABSENT, 0x1000, ABSENT, ABSENT, ABSENT]
            "in an event: the end, and no data is left to read.";
        DROP EV_DROP [ABSENT, 0x1000, ABSENT, ABSENT, ABSENT, ABSENT] "reserved for the kernel.";
        POLL EV_POLL [0x1000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "`EVFILT_READ` and `WRITE`: as for poll(2).";
        FLAG0 EV_FLAG0 [0x1000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "the meaning depends on the filter.";
        OOBAND EV_OOBAND [0x2000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "`EVFILT_READ`: there is urgent data.";
        FLAG1 EV_FLAG1 [0x2000, 0x2000, 0x2000, 0x2000, 0x2000, 0x2000] "the meaning depends on the filter.";
        ERROR EV_ERROR [0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000]
            "in the output: a receipt; `data` is the error number.";
        FLAG2 EV_FLAG2 [ABSENT, 0x4000, ABSENT, ABSENT, ABSENT, ABSENT] "reserved for the kernel.";
        EOF EV_EOF [0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000]
            "in an event: the end; of a socket, `fflags` is its error number.";
        SYSFLAGS EV_SYSFLAGS [0xf000, 0xf000, 0xf800, 0xf000, 0xf800, 0xf000] "the flags that a change cannot set.";
    }
    IoNotes: row_bits -> u32 {
        LOWAT NOTE_LOWAT [0x1, 0x1, 0x1, 0x1, 0x1, 0x1] "`data` is the least number of bytes to report.";
        OOB NOTE_OOB [0x2, ABSENT, 0x2, ABSENT, 0x4, ABSENT] "`EVFILT_EXCEPT`: urgent data.";
        EOF NOTE_EOF [ABSENT, ABSENT, ABSENT, ABSENT, 0x2, ABSENT] "also at the end of a file.";
        FILE_POLL NOTE_FILE_POLL [ABSENT, 0x2, ABSENT, ABSENT, ABSENT, ABSENT]
            "a file is always ready, as for poll(2).";
    }
    VnodeNotes: row_bits -> u32 {
        DELETE NOTE_DELETE [0x1, 0x1, 0x1, 0x1, 0x1, 0x1] "the file was unlinked.";
        WRITE NOTE_WRITE [0x2, 0x2, 0x2, 0x2, 0x2, 0x2] "the file was written.";
        EXTEND NOTE_EXTEND [0x4, 0x4, 0x4, 0x4, 0x4, 0x4] "the file grew.";
        ATTRIB NOTE_ATTRIB [0x8, 0x8, 0x8, 0x8, 0x8, 0x8] "the attributes of the file changed.";
        LINK NOTE_LINK [0x10, 0x10, 0x10, 0x10, 0x10, 0x10] "the number of the file's links changed.";
        RENAME NOTE_RENAME [0x20, 0x20, 0x20, 0x20, 0x20, 0x20] "the file was renamed.";
        REVOKE NOTE_REVOKE [0x40, 0x40, 0x40, 0x40, 0x40, ABSENT]
            "access was revoked with revoke(2), or the file system was unmounted.";
        NONE NOTE_NONE [0x80, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "the test event.";
        OPEN NOTE_OPEN [ABSENT, 0x80, ABSENT, ABSENT, ABSENT, ABSENT] "the file was opened.";
        TRUNCATE NOTE_TRUNCATE [ABSENT, ABSENT, ABSENT, ABSENT, 0x80, 0x80] "the file was truncated.";
        CLOSE NOTE_CLOSE [ABSENT, 0x100, ABSENT, ABSENT, ABSENT, ABSENT] "a descriptor for reading only was closed.";
        FUNLOCK NOTE_FUNLOCK [0x100, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "the file was unlocked.";
        CLOSE_WRITE NOTE_CLOSE_WRITE [ABSENT, 0x200, ABSENT, ABSENT, ABSENT, ABSENT]
            "a descriptor for writing was closed.";
        LEASE_DOWNGRADE NOTE_LEASE_DOWNGRADE [0x200, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "a lease is to be downgraded.";
        READ NOTE_READ [ABSENT, 0x400, ABSENT, ABSENT, ABSENT, ABSENT] "the file was read.";
        LEASE_RELEASE NOTE_LEASE_RELEASE [0x400, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "a lease is to be released.";
    }
    ProcNotes: row_bits -> u32 {
        EXIT NOTE_EXIT [0x80000000, 0x80000000, 0x80000000, 0x80000000, 0x80000000, 0x80000000]
            "the process exited; `data` is its status (Apple: only with `NOTE_EXITSTATUS`).";
        FORK NOTE_FORK [0x40000000, 0x40000000, 0x40000000, 0x40000000, 0x40000000, 0x40000000] "the process forked.";
        EXEC NOTE_EXEC [0x20000000, 0x20000000, 0x20000000, 0x20000000, 0x20000000, 0x20000000]
            "the process executed a program.";
        SIGNAL NOTE_SIGNAL [0x08000000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "a signal was sent to the process.";
        EXITSTATUS NOTE_EXITSTATUS [0x04000000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "the exit is reported with the status, of a child.";
        EXIT_DETAIL NOTE_EXIT_DETAIL [0x02000000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "the exit is reported with more about its cause.";
        EXIT_DECRYPTFAIL NOTE_EXIT_DECRYPTFAIL [0x10000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "the program could not be decrypted.";
        EXIT_MEMORY NOTE_EXIT_MEMORY [0x20000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "the process was ended for lack of memory.";
        EXIT_CSERROR NOTE_EXIT_CSERROR [0x40000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "the signature of the program was not valid.";
        TRACK NOTE_TRACK [0x1, 0x1, 0x1, 0x1, 0x1, 0x1]
            "the filter follows child processes; Apple and libkqueue do not.";
        TRACKERR NOTE_TRACKERR [0x2, 0x2, 0x2, 0x2, 0x2, 0x2] "a child could not be followed.";
        CHILD NOTE_CHILD [0x4, 0x4, 0x4, 0x4, 0x4, 0x4] "a child that is followed; `data` is its parent.";
        EXIT_DETAIL_MASK NOTE_EXIT_DETAIL_MASK [0x70000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "the bits of the cause of an exit.";
        PDATAMASK NOTE_PDATAMASK [0xfffff, 0xfffff, 0xfffff, 0xfffff, 0xfffff, 0xfffff] "the bits of a process number.";
        PCTRLMASK NOTE_PCTRLMASK [0xfff00000, 0xf0000000, 0xf0000000, 0xf0000000, 0xf0000000, 0xf0000000]
            "the bits of the events of a process.";
    }
    TimerNotes: row_bits -> u32 {
        NSECONDS NOTE_NSECONDS [0x4, 0x8, ABSENT, 0x3, ABSENT, 0x4] "`data` is in nanoseconds.";
        SECONDS NOTE_SECONDS [0x1, 0x1, ABSENT, 0x1, ABSENT, 0x1] "`data` is in seconds.";
        MSECONDS NOTE_MSECONDS [ABSENT, 0x2, ABSENT, 0x0, ABSENT, ABSENT]
            "`data` is in milliseconds, as without a unit on every system.";
        USECONDS NOTE_USECONDS [0x2, 0x4, ABSENT, 0x2, ABSENT, 0x2] "`data` is in microseconds.";
        ABSOLUTE NOTE_ABSOLUTE [0x8, ABSENT, ABSENT, ABSENT, ABSENT, 0x8] "`data` is a time since 1970.";
        ABSTIME NOTE_ABSTIME [ABSENT, 0x10, ABSENT, 0x10, ABSENT, ABSENT] "`data` is a time since 1970.";
        LEEWAY NOTE_LEEWAY [0x10, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "the event may be late, by a time that only kevent64(2) can pass.";
        CRITICAL NOTE_CRITICAL [0x20, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "the event is as punctual as possible.";
        BACKGROUND NOTE_BACKGROUND [0x40, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "the event may be late to save energy.";
        MACH_CONTINUOUS_TIME NOTE_MACH_CONTINUOUS_TIME [0x80, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "the timer runs while the system sleeps.";
        MACHTIME NOTE_MACHTIME [0x100, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT]
            "`data` is in the units of mach_absolute_time.";
    }
    UserNotes: row_bits -> u32 {
        TRIGGER NOTE_TRIGGER [0x01000000, 0x01000000, 0x01000000, 0x01000000, 0x01000000, 0x01000000]
            "triggers the event.";
        FFNOP NOTE_FFNOP [0x0, 0x0, 0x0, 0x0, 0x0, 0x0] "leaves the lower 24 bits as they are.";
        FFCOPY NOTE_FFCOPY [0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000]
            "stores the lower 24 bits.";
        FFAND NOTE_FFAND [0x40000000, 0x40000000, 0x40000000, 0x40000000, 0x40000000, 0x40000000]
            "stores the bitwise AND of the lower 24 bits and the stored ones.";
        FFOR NOTE_FFOR [0x80000000, 0x80000000, 0x80000000, 0x80000000, 0x80000000, 0x80000000]
            "stores the bitwise OR of the lower 24 bits and the stored ones.";
        FFCTRLMASK NOTE_FFCTRLMASK [0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000]
            "the bits of `FFNOP`, `FFAND`, `FFOR` and `FFCOPY`.";
        FFLAGSMASK NOTE_FFLAGSMASK [0xffffff, 0xffffff, 0xffffff, 0xffffff, 0xffffff, 0xffffff]
            "the lower 24 bits, which belong to the program.";
    }
}

/// The filters of `<sys/event.h>`: the kind of event that a record describes.
///
/// The constants are those of the system; the numbers differ between systems. The page of
/// [`Kevent`](crate::unix::kqueue::Kevent) describes the other fields of the record for each filter.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Filter(RawFilter);

impl Filter {
    /// Returns the filter with this number, with or without a name. The kernel rejects an unknown filter (`EINVAL`).
    #[must_use]
    pub const fn from_raw(number: RawFilter) -> Filter {
        Filter(number)
    }

    /// Returns the number.
    #[must_use]
    pub const fn raw(self) -> RawFilter {
        self.0
    }
}

/// Prints the name, or the number of a filter without a name.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Filter::NAMES.iter().find(|(number, _)| *number == i64::from(self.0)) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

flag_set! {
    /// The `EV_…` flags of `<sys/event.h>`: the action of a change, the state of an event.
    ///
    /// ```
    /// use kevio::unix::kqueue::Flags;
    ///
    /// let flags = Flags::ADD | Flags::CLEAR;
    /// assert!(flags.contains(Flags::ADD) && !flags.contains(Flags::ADD | Flags::ONESHOT));
    /// assert_eq!(format!("{:?}", flags), "EV_ADD|EV_CLEAR");
    /// ```
    pub struct Flags(RawFlags);
}

flag_set! {
    /// The notes of [`Filter::READ`], `WRITE` and `EXCEPT`.
    pub struct IoNotes(u32);
}

flag_set! {
    /// The notes of [`Filter::VNODE`]: the changes of a file to report, and those that happened.
    pub struct VnodeNotes(u32);
}

flag_set! {
    /// The notes of [`Filter::PROC`]: the changes of a process to report, and those that happened.
    pub struct ProcNotes(u32);
}

flag_set! {
    /// The notes of [`Filter::TIMER`]. The units are not bits on NetBSD; [`TimerUnit`](crate::unix::kqueue::TimerUnit) is
    /// portable.
    pub struct TimerNotes(u32);
}

flag_set! {
    /// The notes of [`Filter::USER`]: `TRIGGER` triggers the event, and the lower 24 bits are the program's own.
    pub struct UserNotes(u32);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unnamed_bits_are_printed_as_a_number() {
        assert_eq!(format!("{:?}", Filter::READ), "EVFILT_READ");
        assert_eq!(format!("{:?}", Filter::from_raw(99)), "0x63");
        assert_eq!(format!("{:?}", Flags::EOF | Flags::ADD | Flags::from_bits(0x400)), "EV_ADD|EV_EOF|0x400");
        assert_eq!(format!("{:?}", Flags::empty()), "Flags(empty)");
        assert_eq!(format!("{:?}", VnodeNotes::WRITE | VnodeNotes::RENAME), "NOTE_WRITE|NOTE_RENAME");
        assert_eq!(format!("{:?}", ProcNotes::EXIT), "NOTE_EXIT");
        assert_eq!(format!("{:?}", UserNotes::FFCOPY | UserNotes::from_bits(5)), "NOTE_FFCOPY|0x5");
        assert_eq!(format!("{:?}", UserNotes::FFOR | UserNotes::TRIGGER), "NOTE_TRIGGER|NOTE_FFOR");
        #[cfg(not(any(target_os = "dragonfly", target_os = "openbsd")))]
        for (unit, name) in [(TimerNotes::NSECONDS, "NOTE_NSECONDS"), (TimerNotes::USECONDS, "NOTE_USECONDS")] {
            assert_eq!(format!("{unit:?}"), name);
        }
        #[cfg(target_vendor = "apple")]
        assert_eq!(format!("{:?}", Flags::DISPATCH2 | Flags::ADD), "EV_ADD|EV_DISPATCH2");
    }

    #[test]
    fn unknown_bits_are_kept() {
        let unknown = Flags::from_bits(0x401);
        assert_eq!(unknown.bits(), 0x401);
        assert_eq!((unknown - Flags::ADD).bits(), 0x400);
        assert_eq!(Filter::from_raw(77).raw(), 77);
    }

    /// The header of libkqueue defines each constant of its column, with the same number.
    #[cfg(links_libkqueue)]
    #[test]
    fn matrix_matches_the_header_of_libkqueue() {
        let Some(header) = header() else {
            println!("skipped: the header of libkqueue was not found");
            return;
        };
        let sets =
            [Flags::NAMES, IoNotes::NAMES, VnodeNotes::NAMES, ProcNotes::NAMES, TimerNotes::NAMES, UserNotes::NAMES];
        let flags = sets.into_iter().flatten().map(|(bits, name)| (i64::from(*bits), *name));
        let filters = Filter::NAMES.iter().filter(|(number, _)| *number != ABSENT).copied();
        let mut compared = 0;
        for (number, name) in filters.chain(flags).filter(|(number, _)| *number != 0) {
            assert_eq!(defined(&header, name), Some(number), "{name}");
            compared += 1;
        }
        assert!(compared > 40, "only {compared}");
    }

    #[cfg(links_libkqueue)]
    fn defined(header: &str, name: &str) -> Option<i64> {
        let lines = header.lines().filter_map(|line| line.trim().strip_prefix("#define"));
        let value =
            lines.map(str::split_whitespace).find_map(|mut words| (words.next()? == name).then(|| words.next()))??;
        let value = value.trim_matches(['(', ')']);
        match value.strip_prefix("0x") {
            Some(digits) => i64::from_str_radix(digits, 16).ok(),
            None => value.parse().ok(),
        }
    }

    #[cfg(links_libkqueue)]
    fn header() -> Option<String> {
        let output = std::process::Command::new("pkg-config").args(["--variable=includedir", "libkqueue"]).output();
        let directory = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).ok()?;
        ["", "/kqueue"]
            .into_iter()
            .find_map(|sub| std::fs::read_to_string(format!("{directory}{sub}/sys/event.h")).ok())
    }
}
