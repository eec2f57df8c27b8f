//! The contract, case by case, for every engine that the host compiles: plain `cargo test` on Linux runs each case on
//! epoll and on poll(2).
//!
//! The list at the end names every case with its number in the conformance list of the founders' reference, and a test
//! looks that no number is missing. What needs the types above the engines is in `tests/suite`.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use self::asleep::Waiter;
use self::said::{Said, E, NOTHING, P, R, RC, W, WC};
use super::*;

#[path = "../../../tests/suite/said.rs"]
pub(crate) mod said;

#[path = "../../../tests/suite/asleep.rs"]
mod asleep;

#[path = "../../../tests/suite/system.rs"]
mod system;

#[path = "../../../tests/suite/libkqueue.rs"]
mod libkqueue;

pub(super) mod closing;
pub(super) mod datagrams;
#[allow(dead_code)] // Where there is one engine it has nothing to be compared with.
pub(super) mod differential;
pub(super) mod edges;
pub(super) mod modes;
pub(super) mod pipes;
pub(super) mod registration;
pub(super) mod streams;
pub(super) mod structure;
pub(super) mod truth;
pub(super) mod waits;
pub(super) mod wakers;

const READ: Interest = Interest::READABLE;
const WRITE: Interest = Interest::WRITABLE;
const BOTH: Interest = READ.add(WRITE);

/// Far more than any wait here needs; a test that gets there has failed.
const ENOUGH: Duration = Duration::from_secs(10);

/// An engine and its buffer.
struct Rig<T: Engine> {
    engine: T,
    events: Vec<T::Event>,
}

impl<T: Engine> Rig<T> {
    fn new() -> Rig<T> {
        Rig::with_capacity(64)
    }

    fn with_capacity(capacity: usize) -> Rig<T> {
        Rig { engine: T::new().unwrap(), events: Vec::with_capacity(capacity) }
    }

    fn own(&self, fd: &impl AsRawFd, token: usize, interest: Interest) -> T::Tie {
        self.engine.register(fd.as_raw_fd(), Token(token), interest, Origin::Own).unwrap()
    }

    /// Registers `io`, whose operations the engine is told of.
    fn hold<S: AsRawFd>(&self, io: S, token: usize, interest: Interest) -> Held<T, S> {
        Held { tie: self.own(&io, token, interest), io }
    }

    fn bare(&self, fd: RawFd, token: usize, interest: Interest) -> io::Result<()> {
        self.engine.register(fd, Token(token), interest, Origin::Bare).map(|tie| _ = tie.release())
    }

    fn reregister(&self, fd: &impl AsRawFd, token: usize, interest: Interest) -> io::Result<()> {
        self.engine.reregister(fd.as_raw_fd(), Token(token), interest, Origin::Bare)
    }

    fn deregister(&self, fd: &impl AsRawFd) -> io::Result<()> {
        self.engine.deregister(fd.as_raw_fd(), Origin::Bare)
    }

    fn select(&mut self, timeout: Duration) -> BTreeMap<usize, Said> {
        let room = self.events.capacity();
        self.engine.select(&mut self.events, Some(timeout)).unwrap();
        assert!(self.events.len() <= room && self.events.capacity() == room, "the buffer grew");
        let mut all = BTreeMap::new();
        for event in &self.events {
            *all.entry(event.token().0).or_insert(NOTHING) |= said(event);
        }
        all
    }

    /// What is ready, at once.
    fn now(&mut self) -> BTreeMap<usize, Said> {
        self.select(Duration::ZERO)
    }

    /// Selects until `token` has said all of `want`, and returns what it said. Other tokens fail.
    #[track_caller]
    fn expect(&mut self, token: usize, want: Said) -> Said {
        let deadline = Instant::now() + ENOUGH;
        let mut all = NOTHING;
        while !all.has(want) {
            assert!(Instant::now() < deadline, "wanted {want:?} of {token}, had {all:?}");
            for (said, one) in self.select(Duration::from_millis(100)) {
                assert_eq!(said, token, "unexpected token");
                all |= one;
            }
        }
        all
    }

    #[track_caller]
    fn silent(&mut self) {
        assert_eq!(self.now(), BTreeMap::new());
    }

    /// What `token` says now, which is none of `unwanted`.
    #[track_caller]
    fn not(&mut self, token: usize, unwanted: Said) {
        let said = self.now().remove(&token).unwrap_or_default();
        assert!(!said.has_any(unwanted), "unexpected {said:?} of {token}");
    }
}

fn said(event: &impl Record) -> Said {
    Said::of([
        event.is_readable(),
        event.is_writable(),
        event.is_read_closed(),
        event.is_write_closed(),
        event.is_error(),
        event.is_priority(),
    ])
}

/// What an `IoSource` is: it lets go of its tie first, and tells it of each operation.
struct Held<T: Engine, S> {
    tie: T::Tie,
    io: S,
}

impl<T: Engine, S> Held<T, S>
where
    for<'a> &'a S: Read + Write,
{
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let result = (&self.io).read(buffer);
        match &result {
            Ok(0) => self.tie.rearm_ended(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.tie.rearm_blocked(Direction::Read),
            _ => self.tie.rearm(Direction::Read),
        }
        result
    }

    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let result = (&self.io).write(bytes);
        self.tie.rearm(Direction::Write);
        result
    }

    /// Reads until there is nothing left; how many bytes, and whether the end of file came.
    fn drain(&self) -> (usize, bool) {
        let (mut total, mut buffer) = (0, [0; 16 * 1024]);
        loop {
            match self.read(&mut buffer) {
                Ok(0) => return (total, true),
                Ok(n) => total += n,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    return (total, false);
                }
            }
        }
    }

    fn fill(&self) {
        while self.write(&[0; 16 * 1024]).is_ok() {}
    }
}

/// Two Unix streams, connected and non-blocking.
fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

fn loopback() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// Two TCP streams, connected and non-blocking.
fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(loopback()).unwrap();
    let a = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (b, _) = listener.accept().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    (a, b)
}

/// Two ends of a pipe, non-blocking: where to read and where to write.
fn pipe_ends() -> (std::fs::File, std::fs::File) {
    let [reader, writer] = pipe::pipe().unwrap();
    (reader.into(), writer.into())
}

fn read_all(mut from: impl Read) -> usize {
    let mut total = 0;
    while let Ok(n @ 1..) = from.read(&mut [0; 4096]) {
        total += n;
    }
    total
}

fn fill(mut to: impl Write) {
    while to.write(&[0; 4096]).is_ok() {}
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.map(drop).unwrap_err().kind()
}

fn errno<T>(result: io::Result<T>) -> i32 {
    result.map(drop).unwrap_err().raw_os_error().unwrap()
}

/// The hints that a socket gives when its peer has gone. poll(2) of NetBSD and OpenBSD knows none: their sockets report
/// neither `POLLHUP` nor `POLLERR`. A row of the table of differences.
fn hint<T: Engine>(closed: Said) -> Said {
    let has_hints = T::BACKEND != Backend::Poll || !cfg!(any(target_os = "netbsd", target_os = "openbsd"));
    if has_hints {
        closed
    } else {
        NOTHING
    }
}

/// Whether poll(2) knows that `fd` is the same open file: sockets and pipes have inodes of their own, if the system numbers
/// them.
fn refuses_twice<T: Engine>(fd: RawFd) -> bool {
    let is_known = || file::identify(fd).unwrap().is_some_and(|identity| identity.is_unique);
    T::BACKEND == Backend::Epoll || (T::BACKEND == Backend::Poll && is_known())
}

/// A kqueue made of epoll, in user space.
fn is_libkqueue<T: Engine>() -> bool {
    T::BACKEND == Backend::Kqueue && libkqueue::is_here()
}

fn gets_wrong<T: Engine>(case: &str) -> bool {
    is_libkqueue::<T>() && libkqueue::gets_wrong(case)
}

/// Calls `$then` with all cases: each with its numbers in the conformance list, where it has any.
macro_rules! all_cases {
    ($then:ident $($argument:ty)?) => {
        crate::sys::tests::$then! { $($argument)?;
            registration {
                a_new_queue_is_silent [1],
                keeps_score [2 3 4],
                refuses_what_cannot_be [5 6 7],
                message_queue_can_be_waited_for [],
                path_descriptor_is_refused [],
                a_failed_reregistration_changes_nothing [],
                a_failed_registration_leaves_nothing [11],
                reregistering_for_writing_stops_reading [9],
                reregistering_replaces_the_token [10],
                deregistering_is_at_once [12],
                tokens_come_back [13],
                a_dropped_tie_frees_its_number [],
                a_released_tie_stays [],
                leaving_during_a_wait_loses_nothing [],
            }
            edges {
                reports_an_edge_once [15],
                more_while_unread [16],
                any_operation_rearms [],
                writing_does_not_rearm_reading [],
                reregistering_reports_again [17],
                a_full_stream_becomes_writable [22],
                an_interest_that_comes_back [23],
                a_bare_descriptor_has_a_second_wave [],
                a_bare_descriptor_left_ready_does_not_spin [],
                operations_of_either_direction [],
                a_shortage_is_no_reason_to_spin [],
            }
            waits {
                waits_are_not_short [25],
                the_longest_wait_is_one [26 27],
                a_registration_joins_a_wait [28],
                a_signal_ends_a_wait_and_nothing_else [29 30],
                everything_is_seen_through_a_small_buffer [32],
                both_directions_through_a_buffer_for_one [33],
                the_buffer_holds_no_old_events [34],
                nobody_starves [],
            }
            wakers {
                each_wake_is_one_event_among_others [],
                a_thousand_wakes_are_few_events [35],
                wakes_are_events [36 40],
                sixteen_threads_wake [37],
                a_wake_before_the_wait [38],
                more_wakes_than_fit [39],
                a_wake_ends_a_wait [],
                wakes_and_sources_take_turns [],
            }
            closing {
                a_number_is_used_again [41 42],
                a_copy_keeps_a_closed_registration [43 44],
                a_descriptor_and_its_copy_are_two [45],
                a_closed_number_ends_its_registration [],
                reopened_fifo_is_registered_anew [],
                fifo_reopened_for_the_other_direction_is_silent [],
                a_closed_peer_is_told_once [],
                a_half_closed_peer_is_told_once [],
            }
            streams {
                a_listener_and_a_client [48 70],
                one_of_two_is_accepted [49],
                a_connect_that_succeeds [50],
                a_connect_that_is_refused [51],
                data_comes_and_is_read [52],
                a_peer_shuts_down_writing [53],
                data_and_then_the_end [54],
                a_peer_closes [55 69],
                a_peer_resets [56 57],
                a_peer_closes_unread [58],
                both_shut_down_writing [59],
                shutting_down_reading [60],
                a_full_buffer_is_drained [61],
                urgent_data [62],
                registered_before_connected [63],
                registered_before_listening [64],
            }
            modes {
                nothing_is_said_of_what_is_parked [14],
                parking_keeps_the_place [],
                level_is_told_while_it_is_so [18],
                one_shot_is_told_once [19],
                one_shot_mutes_both_directions [20],
                one_shot_and_a_peer_that_closes [21],
                from_one_mode_to_another [24],
                level_takes_turns [31],
                modes_of_a_pipe_without_a_reader [],
                one_shot_in_two_threads [],
                exclusive_is_an_option [],
            }
            datagrams {
                writable_and_then_readable [65],
                an_empty_datagram [66],
                datagram_errors_come_and_go [67],
                an_unread_datagram_hides_no_other [68],
                a_full_queue [71],
                a_second_datagram_error_between_two_looks [],
                datagram_error_is_not_readable_when_writable [],
                unread_error_queue_does_not_spin [],
                level_triggered_error_repeats [],
            }
            pipes {
                a_writer_closes [72],
                a_writer_closes_with_data_left [73],
                a_reader_closes [74 77],
                a_reader_has_closed [75],
                a_full_pipe_is_read [76],
                a_fifo_has_one_writer_after_another [78],
                a_fifo_between_two_looks [],
                a_terminal [79],
                line_of_no_bytes_is_not_the_end [],
                devices_without_readiness [80],
            }
            structure {
                four_threads_register_while_one_waits [84],
                a_thousand_descriptors [85],
                a_dropped_queue_leaves_its_descriptors_alone [86],
            }
            truth {
                every_situation_when_registered [],
                every_situation_for_reading [],
                every_situation_for_writing [],
            }
        }
    };
}

/// Writes a test for each case, for one engine.
macro_rules! cases {
    ($engine:ty) => {
        crate::sys::tests::all_cases! { tests $engine }
    };
}

macro_rules! tests {
    ($engine:ty; $($group:ident { $($case:ident [$($number:literal)*],)+ })+) => {$(
        mod $group {$(
            #[test]
            fn $case() {
                crate::sys::tests::$group::$case::<$engine>();
            }
        )+}
    )+};
}

macro_rules! numbers {
    (; $($group:ident { $($case:ident [$($number:literal)*],)+ })+) => {
        &[$($($($number,)*)+)+]
    };
}

pub(super) use {all_cases, cases, numbers, tests};

/// Cases that are no matter of one engine: (number, file, test).
const ELSEWHERE: &[(u8, &str, &str)] = &[
    (8, "tests/suite/queue.rs", "a_poll_cannot_wait_for_itself"),
    (46, "tests/processes.rs", "a_child_leaves_its_parents_poll_alone"),
    (47, "tests/processes.rs", "nothing_is_left_open_in_a_program_that_is_run"),
    (81, "tests/suite/queue.rs", "a_poll_inside_a_poll"),
    (82, "tests/suite/queue.rs", "a_poll_inside_a_poll_in_two_threads"),
    (87, "tests/suite/queue.rs", "a_poll_and_its_registry_are_one"),
    (98, "src/sys/kevent.rs", "size_of::<Kevent>"),
    (99, "src/sys/kqueue/filters.rs", "no_change_is_a_zero_record"),
    (100, "src/sys/kevent.rs", "a_receipt_is_the_error_bit_and_nothing_else"),
    (88, "tests/suite/timers.rs", "a_timer_fires_once_and_not_early"),
    (89, "tests/suite/timers.rs", "a_period_counts_what_nobody_polled_for"),
    (90, "tests/suite/timers.rs", "a_timer_is_set_again"),
    (91, "tests/suite/timers.rs", "a_stopped_timer_is_silent"),
    (92, "tests/suite/timers.rs", "what_has_passed_and_zero_fire_at_once"),
    (93, "tests/suite/timers.rs", "a_period_of_zero_is_refused"),
    (94, "tests/signals.rs", "three_raises_are_one_event"),
    (95, "tests/processes_watched.rs", "a_child_exits_and_can_be_waited_for"),
    (96, "tests/processes_watched.rs", "a_zombie_is_told_at_once"),
    (97, "tests/processes_watched.rs", "what_is_no_process"),
    (101, "src/sys/call.rs", "a_wait_is_rounded_up"),
    (102, "src/sys/revents.rs", "what_each_combination_answers"),
];

/// A second waiter, which `&mut self` does not allow.
const NOT_HERE: &[u8] = &[83];

#[test]
fn no_number_is_missing() {
    const HERE: &[u8] = all_cases!(numbers);
    let missing = |number: &u8| {
        !HERE.contains(number) && !NOT_HERE.contains(number) && !ELSEWHERE.iter().any(|(other, ..)| other == number)
    };
    let missing: Vec<u8> = (1..=102).filter(missing).collect();
    assert!(missing.is_empty(), "no case has the numbers {missing:?}");
    for (number, file, test) in ELSEWHERE {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(test), "{number}: {file} has no {test}");
    }
}
