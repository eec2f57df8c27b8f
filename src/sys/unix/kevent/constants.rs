//! The filters, flags and notes of `<sys/event.h>`, by system: one matrix.
//!
//! What a constant is on the system at hand is taken from `libc`, and the matrix has to agree with it or nothing
//! compiles; so it is checked for every target that is type-checked. libkqueue has no crate: its numbers are those of
//! its `<kqueue/sys/event.h>`, which a test reads.

use std::fmt;

use crate::sys::unix::kevent::{RawFilter, RawFlags};

/// Not there: the system lacks it, or `libc` does (OpenBSD's `NOTE_SECONDS` and `NOTE_ABSTIME`, NetBSD's `NOTE_OPEN`
/// and the like are younger than it).
const ABSENT: i64 = i64::MIN;

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

/// The bits of a row on the system at hand; none if it is not there.
const fn bits(row: [i64; 6]) -> u32 {
    if row[COLUMN] == ABSENT {
        0
    } else {
        row[COLUMN] as u32
    }
}

/// Writes a constant for one system, and compares `libc` with the matrix.
macro_rules! constant {
    (apple $($rest:tt)*) => { constant! { target_vendor = "apple"; $($rest)* } };
    (freebsd $($rest:tt)*) => { constant! { target_os = "freebsd"; $($rest)* } };
    (dragonfly $($rest:tt)*) => { constant! { target_os = "dragonfly"; $($rest)* } };
    (netbsd $($rest:tt)*) => { constant! { target_os = "netbsd"; $($rest)* } };
    (openbsd $($rest:tt)*) => { constant! { target_os = "openbsd"; $($rest)* } };
    (libkqueue $set:ident $name:ident $c:ident $value:literal [$($doc:tt)*]) => {
        #[cfg(target_os = "linux")]
        impl $set {
            $($doc)*
            pub const $name: $set = $set($value);
        }
    };
    ($system:meta; $set:ident $name:ident $c:ident $value:literal [$($doc:tt)*]) => {
        #[cfg($system)]
        #[allow(deprecated)] // A mask that FreeBSD may change.
        impl $set {
            $($doc)*
            pub const $name: $set = $set(libc::$c);
        }
        #[cfg($system)]
        #[allow(deprecated)]
        const _: () = assert!(libc::$c as i64 == $value, concat!("libc and the matrix disagree about ", stringify!($c)));
    };
}

/// Goes through the columns of a row.
macro_rules! columns {
    ($set:ident $name:ident $c:ident $doc:tt () $(,)?) => {};
    ($set:ident $name:ident $c:ident $doc:tt ($system:ident $($systems:ident)*) ABSENT $(, $($values:tt)*)?) => {
        columns! { $set $name $c $doc ($($systems)*) $($($values)*)? }
    };
    (
        $set:ident $name:ident $c:ident $doc:tt ($system:ident $($systems:ident)*) $value:literal $(, $($values:tt)*)?
    ) => {
        constant! { $system $set $name $c $value $doc }
        columns! { $set $name $c $doc ($($systems)*) $($($values)*)? }
    };
}

/// Each row: the constant, its C name, its numbers, and what it means.
macro_rules! matrix {
    ($($set:ident $names:ident $number:ident { $($name:ident $c:ident [$($values:tt)*] $doc:literal;)+ })+) => {$(
        $(
            columns! {
                $set $name $c
                [
                    #[doc = concat!("`", stringify!($c), "`: ", $doc)]
                    ///
                    #[doc = concat!(
                        "On Apple, FreeBSD, DragonFly, NetBSD, OpenBSD and libkqueue: `", stringify!($($values)*), "`."
                    )]
                ]
                (apple freebsd dragonfly netbsd openbsd libkqueue) $($values)*
            }
        )+
        const $names: &[($number, &str)] = &[$(($number!([$($values)*]), stringify!($c))),+];
    )+};
}

// What `matrix!` keeps of a row with its name.
macro_rules! u32 {
    ($row:expr) => {
        bits($row)
    };
}
macro_rules! i64 {
    ($row:expr) => {{
        let row: [i64; 6] = $row;
        row[COLUMN]
    }};
}

matrix! {
    Filter HAS_FILTERS i64 {
        READ EVFILT_READ [-1, -1, -1, 0, -1, -1] "a descriptor can be read.";
        WRITE EVFILT_WRITE [-2, -2, -2, 1, -2, -2] "a descriptor can be written.";
        AIO EVFILT_AIO [-3, -3, -3, 2, -3, ABSENT] "an asynchronous operation; FreeBSD's aio(4) adds it.";
        VNODE EVFILT_VNODE [-4, -4, -4, 3, -4, -4] "a file was changed, renamed, deleted.";
        PROC EVFILT_PROC [-5, -5, -5, 4, -5, -5] "a process exited, forked, ran a program.";
        SIGNAL EVFILT_SIGNAL [-6, -6, -6, 5, -6, -6] "a signal was sent to the process.";
        TIMER EVFILT_TIMER [-7, -7, -7, 6, -7, -7] "time has passed.";
        PROCDESC EVFILT_PROCDESC [ABSENT, -8, ABSENT, ABSENT, ABSENT, ABSENT] "a process of pdfork(2) exited.";
        MACHPORT EVFILT_MACHPORT [-8, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "a Mach port has a message.";
        DEVICE EVFILT_DEVICE [ABSENT, ABSENT, ABSENT, ABSENT, -8, ABSENT] "a device changed.";
        FS EVFILT_FS [-9, -9, -10, 7, ABSENT, ABSENT] "something was mounted or unmounted.";
        LIO EVFILT_LIO [ABSENT, -10, ABSENT, ABSENT, ABSENT, ABSENT] "a list of asynchronous operations; lio_listio(2) adds it.";
        USER EVFILT_USER [-10, -11, -9, 8, -10, -11] "the program triggered it.";
        VM EVFILT_VM [-12, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "memory pressure; macOS refuses it today.";
        SENDFILE EVFILT_SENDFILE [ABSENT, -12, ABSENT, ABSENT, ABSENT, ABSENT] "the kernel's own.";
        EMPTY EVFILT_EMPTY [ABSENT, -13, ABSENT, 9, ABSENT, ABSENT] "all that was written to a socket has been acknowledged.";
        EXCEPT EVFILT_EXCEPT [-15, ABSENT, -8, ABSENT, -9, ABSENT] "urgent data arrived at a socket.";
    }
    // A name of several bits comes before theirs.
    Flags FLAGS u32 {
        ADD EV_ADD [0x1, 0x1, 0x1, 0x1, 0x1, 0x1] "adds the filter, enabled; changes it if it is there.";
        DELETE EV_DELETE [0x2, 0x2, 0x2, 0x2, 0x2, 0x2] "removes the filter.";
        ENABLE EV_ENABLE [0x4, 0x4, 0x4, 0x4, 0x4, 0x4] "lets it return events.";
        DISABLE EV_DISABLE [0x8, 0x8, 0x8, 0x8, 0x8, 0x8] "keeps it, and lets it return no events.";
        ONESHOT EV_ONESHOT [0x10, 0x10, 0x10, 0x10, 0x10, 0x10] "deletes it after its first event.";
        CLEAR EV_CLEAR [0x20, 0x20, 0x20, 0x20, 0x20, 0x20] "resets its state when an event was returned: an edge.";
        RECEIPT EV_RECEIPT [0x40, 0x40, 0x40, 0x40, 0x40, 0x40] "answers with a receipt, also if all went well.";
        DISPATCH2 EV_DISPATCH2 [0x180, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "`EV_DISPATCH` and `EV_UDATA_SPECIFIC`.";
        DISPATCH EV_DISPATCH [0x80, 0x80, 0x80, 0x80, 0x80, 0x80] "disables it after an event.";
        UDATA_SPECIFIC EV_UDATA_SPECIFIC [0x100, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "`udata` is part of what identifies it.";
        FORCEONESHOT EV_FORCEONESHOT [ABSENT, 0x100, ABSENT, ABSENT, ABSENT, ABSENT] "makes it fire, once.";
        VANISHED EV_VANISHED [0x200, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "reports that the descriptor was closed.";
        KEEPUDATA EV_KEEPUDATA [ABSENT, 0x200, ABSENT, ABSENT, ABSENT, ABSENT] "leaves `udata` as it is.";
        HUP EV_HUP [ABSENT, ABSENT, 0x800, ABSENT, ABSENT, ABSENT] "in an event: both directions have ended.";
        NODATA EV_NODATA [ABSENT, ABSENT, 0x1000, ABSENT, ABSENT, ABSENT] "in an event: the end, and nothing left to read.";
        DROP EV_DROP [ABSENT, 0x1000, ABSENT, ABSENT, ABSENT, ABSENT] "the kernel's own.";
        POLL EV_POLL [0x1000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "`EVFILT_READ` and `WRITE`: as for poll(2).";
        FLAG0 EV_FLAG0 [0x1000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "the filter says what.";
        OOBAND EV_OOBAND [0x2000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "`EVFILT_READ`: there is urgent data.";
        FLAG1 EV_FLAG1 [0x2000, 0x2000, 0x2000, 0x2000, 0x2000, 0x2000] "the filter says what.";
        ERROR EV_ERROR [0x4000, 0x4000, 0x4000, 0x4000, 0x4000, 0x4000]
            "in what comes back: a receipt; `data` is the error number.";
        FLAG2 EV_FLAG2 [ABSENT, 0x4000, ABSENT, ABSENT, ABSENT, ABSENT] "the kernel's own.";
        EOF EV_EOF [0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000]
            "in an event: the end; of a socket, `fflags` is its error number.";
        SYSFLAGS EV_SYSFLAGS [0xf000, 0xf000, 0xf800, 0xf000, 0xf800, 0xf000] "those that a change cannot set.";
    }
    IoNotes IO_NOTES u32 {
        LOWAT NOTE_LOWAT [0x1, 0x1, 0x1, 0x1, 0x1, 0x1] "`data` is how many bytes there have to be.";
        OOB NOTE_OOB [0x2, ABSENT, 0x2, ABSENT, 0x4, ABSENT] "`EVFILT_EXCEPT`: urgent data.";
        EOF NOTE_EOF [ABSENT, ABSENT, ABSENT, ABSENT, 0x2, ABSENT] "also at the end of a file.";
        FILE_POLL NOTE_FILE_POLL [ABSENT, 0x2, ABSENT, ABSENT, ABSENT, ABSENT] "a file is always ready, as for poll(2).";
    }
    VnodeNotes VNODE_NOTES u32 {
        DELETE NOTE_DELETE [0x1, 0x1, 0x1, 0x1, 0x1, 0x1] "it was unlinked.";
        WRITE NOTE_WRITE [0x2, 0x2, 0x2, 0x2, 0x2, 0x2] "it was written.";
        EXTEND NOTE_EXTEND [0x4, 0x4, 0x4, 0x4, 0x4, 0x4] "it grew.";
        ATTRIB NOTE_ATTRIB [0x8, 0x8, 0x8, 0x8, 0x8, 0x8] "its attributes changed.";
        LINK NOTE_LINK [0x10, 0x10, 0x10, 0x10, 0x10, 0x10] "the number of its links changed.";
        RENAME NOTE_RENAME [0x20, 0x20, 0x20, 0x20, 0x20, 0x20] "it was renamed.";
        REVOKE NOTE_REVOKE [0x40, 0x40, 0x40, 0x40, 0x40, ABSENT] "revoke(2), or its file system was unmounted.";
        NONE NOTE_NONE [0x80, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "the test event.";
        OPEN NOTE_OPEN [ABSENT, 0x80, ABSENT, ABSENT, ABSENT, ABSENT] "it was opened.";
        TRUNCATE NOTE_TRUNCATE [ABSENT, ABSENT, ABSENT, ABSENT, 0x80, 0x80] "it was truncated.";
        CLOSE NOTE_CLOSE [ABSENT, 0x100, ABSENT, ABSENT, ABSENT, ABSENT] "it was closed by one that could only read it.";
        FUNLOCK NOTE_FUNLOCK [0x100, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "it was unlocked.";
        CLOSE_WRITE NOTE_CLOSE_WRITE [ABSENT, 0x200, ABSENT, ABSENT, ABSENT, ABSENT] "it was closed by one that could write it.";
        LEASE_DOWNGRADE NOTE_LEASE_DOWNGRADE [0x200, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "a lease is to be downgraded.";
        READ NOTE_READ [ABSENT, 0x400, ABSENT, ABSENT, ABSENT, ABSENT] "it was read.";
        LEASE_RELEASE NOTE_LEASE_RELEASE [0x400, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "a lease is to be released.";
    }
    ProcNotes PROC_NOTES u32 {
        EXIT NOTE_EXIT [0x80000000, 0x80000000, 0x80000000, 0x80000000, 0x80000000, 0x80000000]
            "it exited; `data` is its status (Apple: if `NOTE_EXITSTATUS` was asked for).";
        FORK NOTE_FORK [0x40000000, 0x40000000, 0x40000000, 0x40000000, 0x40000000, 0x40000000] "it forked.";
        EXEC NOTE_EXEC [0x20000000, 0x20000000, 0x20000000, 0x20000000, 0x20000000, 0x20000000] "it ran a program.";
        SIGNAL NOTE_SIGNAL [0x08000000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "a signal was sent to it.";
        EXITSTATUS NOTE_EXITSTATUS [0x04000000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "with its status, of a child.";
        EXIT_DETAIL NOTE_EXIT_DETAIL [0x02000000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "with more about why.";
        EXIT_DECRYPTFAIL NOTE_EXIT_DECRYPTFAIL [0x10000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "its program could not be decrypted.";
        EXIT_MEMORY NOTE_EXIT_MEMORY [0x20000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "it was ended for want of memory.";
        EXIT_CSERROR NOTE_EXIT_CSERROR [0x40000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "its signature was not valid.";
        TRACK NOTE_TRACK [0x1, 0x1, 0x1, 0x1, 0x1, 0x1] "follow its children; Apple and libkqueue do not.";
        TRACKERR NOTE_TRACKERR [0x2, 0x2, 0x2, 0x2, 0x2, 0x2] "a child could not be followed.";
        CHILD NOTE_CHILD [0x4, 0x4, 0x4, 0x4, 0x4, 0x4] "a child that is followed; `data` is its parent.";
        EXIT_DETAIL_MASK NOTE_EXIT_DETAIL_MASK [0x70000, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "the bits that say why.";
        PDATAMASK NOTE_PDATAMASK [0xfffff, 0xfffff, 0xfffff, 0xfffff, 0xfffff, 0xfffff] "the bits of a process number.";
        PCTRLMASK NOTE_PCTRLMASK [0xfff00000, 0xf0000000, 0xf0000000, 0xf0000000, 0xf0000000, 0xf0000000]
            "the bits that say what happened.";
    }
    TimerNotes TIMER_NOTES u32 {
        NSECONDS NOTE_NSECONDS [0x4, 0x8, ABSENT, 0x3, ABSENT, 0x4] "`data` is in nanoseconds.";
        SECONDS NOTE_SECONDS [0x1, 0x1, ABSENT, 0x1, ABSENT, 0x1] "`data` is in seconds.";
        MSECONDS NOTE_MSECONDS [ABSENT, 0x2, ABSENT, 0x0, ABSENT, ABSENT] "`data` is in milliseconds, as everywhere without a unit.";
        USECONDS NOTE_USECONDS [0x2, 0x4, ABSENT, 0x2, ABSENT, 0x2] "`data` is in microseconds.";
        ABSOLUTE NOTE_ABSOLUTE [0x8, ABSENT, ABSENT, ABSENT, ABSENT, 0x8] "`data` is a time since 1970.";
        ABSTIME NOTE_ABSTIME [ABSENT, 0x10, ABSENT, 0x10, ABSENT, ABSENT] "`data` is a time since 1970.";
        LEEWAY NOTE_LEEWAY [0x10, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "it may be late, by what only kevent64(2) can say.";
        CRITICAL NOTE_CRITICAL [0x20, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "as punctually as possible.";
        BACKGROUND NOTE_BACKGROUND [0x40, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "as late as saves energy.";
        MACH_CONTINUOUS_TIME NOTE_MACH_CONTINUOUS_TIME [0x80, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "it runs while the system sleeps.";
        MACHTIME NOTE_MACHTIME [0x100, ABSENT, ABSENT, ABSENT, ABSENT, ABSENT] "`data` is in the units of mach_absolute_time.";
    }
    UserNotes USER_NOTES u32 {
        TRIGGER NOTE_TRIGGER [0x01000000, 0x01000000, 0x01000000, 0x01000000, 0x01000000, 0x01000000] "makes it fire.";
        FFNOP NOTE_FFNOP [0x0, 0x0, 0x0, 0x0, 0x0, 0x0] "leaves the 24 bits as they are.";
        FFCOPY NOTE_FFCOPY [0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000]
            "stores the lower 24 bits.";
        FFAND NOTE_FFAND [0x40000000, 0x40000000, 0x40000000, 0x40000000, 0x40000000, 0x40000000]
            "stores what is in both.";
        FFOR NOTE_FFOR [0x80000000, 0x80000000, 0x80000000, 0x80000000, 0x80000000, 0x80000000]
            "stores what is in either.";
        FFCTRLMASK NOTE_FFCTRLMASK [0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000, 0xc0000000]
            "the bits that say what to do with the rest.";
        FFLAGSMASK NOTE_FFLAGSMASK [0xffffff, 0xffffff, 0xffffff, 0xffffff, 0xffffff, 0xffffff]
            "the 24 bits that are the program's.";
    }
}

/// What a record is about: the filters of `<sys/event.h>`.
///
/// The constants are those that the system at hand has; the numbers are not the same everywhere. The
/// [record](crate::unix::kqueue::Kevent) says what its other fields mean to each.
#[derive(Copy, Clone, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Filter(RawFilter);

impl Filter {
    /// The filter of this number, known or not. The kernel refuses one that it does not know (`EINVAL`).
    #[must_use]
    pub const fn from_raw(number: RawFilter) -> Filter {
        Filter(number)
    }

    /// Its number.
    #[must_use]
    pub const fn raw(self) -> RawFilter {
        self.0
    }
}

/// The name, or the number of one without.
impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match HAS_FILTERS.iter().find(|(number, _)| *number == i64::from(self.0)) {
            Some((_, name)) => f.write_str(name),
            None => write!(f, "{:#x}", self.0),
        }
    }
}

flag_set! {
    /// What to do with a filter, and what became of it: the `EV_…` of `<sys/event.h>`.
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
    /// The notes of [`Filter::VNODE`]: what to report of a file, and what happened.
    pub struct VnodeNotes(u32);
}

flag_set! {
    /// The notes of [`Filter::PROC`]: what to report of a process, and what happened.
    pub struct ProcNotes(u32);
}

flag_set! {
    /// The notes of [`Filter::TIMER`]. The units are not bits on NetBSD; [`TimerUnit`](crate::unix::kqueue::TimerUnit) is
    /// right everywhere.
    pub struct TimerNotes(u32);
}

flag_set! {
    /// The notes of [`Filter::USER`]: `TRIGGER` makes it fire, and the lower 24 bits are the program's own.
    pub struct UserNotes(u32);
}

/// What `flag_set!` prints with.
macro_rules! named {
    ($($set:ident $names:ident;)+) => {$(
        impl $set {
            const NAMES: &'static [(u32, &'static str)] = $names;

            #[allow(clippy::unnecessary_cast)] // Flags have 16 bits but on NetBSD.
            fn as_u32(self) -> u32 {
                self.0 as u32
            }
        }
    )+};
}

named! {
    Flags FLAGS;
    IoNotes IO_NOTES;
    VnodeNotes VNODE_NOTES;
    ProcNotes PROC_NOTES;
    TimerNotes TIMER_NOTES;
    UserNotes USER_NOTES;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_what_has_none() {
        assert_eq!(format!("{:?}", Filter::READ), "EVFILT_READ");
        assert_eq!(format!("{:?}", Filter::from_raw(99)), "0x63");
        assert_eq!(format!("{:?}", Flags::EOF | Flags::ADD | Flags::from_bits(0x400)), "EV_ADD|EV_EOF|0x400");
        assert_eq!(format!("{:?}", Flags::empty()), "0x0");
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

    /// libkqueue's header says what the matrix does, and the matrix has all that it says and means.
    #[cfg(target_os = "linux")]
    #[test]
    fn the_header_of_libkqueue() {
        let Some(header) = header() else {
            println!("left out: libkqueue's header was not found");
            return;
        };
        let sets = [FLAGS, IO_NOTES, VNODE_NOTES, PROC_NOTES, TIMER_NOTES, USER_NOTES];
        let flags = sets.into_iter().flatten().map(|(bits, name)| (i64::from(*bits), *name));
        let filters = HAS_FILTERS.iter().filter(|(number, _)| *number != ABSENT).copied();
        let mut compared = 0;
        for (number, name) in filters.chain(flags).filter(|(number, _)| *number != 0) {
            assert_eq!(defined(&header, name), Some(number), "{name}");
            compared += 1;
        }
        assert!(compared > 40, "only {compared}");
    }

    #[cfg(target_os = "linux")]
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

    #[cfg(target_os = "linux")]
    fn header() -> Option<String> {
        let output = std::process::Command::new("pkg-config").args(["--variable=includedir", "libkqueue"]).output();
        let directory = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).ok()?;
        ["", "/kqueue"]
            .into_iter()
            .find_map(|sub| std::fs::read_to_string(format!("{directory}{sub}/sys/event.h")).ok())
    }
}
