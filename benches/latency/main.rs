//! The latency of events, its price in CPU time, and the CPU time of short waits.
//!
//! `cargo bench --bench latency` prints the tables of one backend. In the round trips and the waits the subjects take turns.
//! README.md describes the method.

#[path = "../cases/mod.rs"]
#[allow(dead_code)] // The cases of the bench `ratios`.
mod cases;
mod loads;
mod pauses;
mod processors;
mod round_trips;
#[path = "../setup/mod.rs"]
mod setup;
#[cfg(target_os = "linux")]
mod veth;
mod wait;

use std::time::Duration;

use kevio::BACKEND;
use setup::{machine, Arguments};

const HELP: &str = "\
Measures round trips between two threads, and the CPU time of short waits; the subjects take turns.

  cargo bench --bench latency -- [OPTION…] [PART…]     all parts, or some of: loopback, late, namespaces, wakes, waits, timers

  --turn-ms=N    the time of each subject in a round, in milliseconds (100)
  --rounds=N     the number of rounds (21)";

/// The indexes of the processors of the thread that measures, and of the other one.
const MAIN: usize = 0;
const OTHER: usize = 1;

/// The time that the other thread works on a late answer.
const LATE: Duration = Duration::from_micros(200);

/// Measures and prints one part.
type Part = fn(&Effort);

struct Effort {
    /// The time of each subject in a round.
    turn: Duration,
    rounds: usize,
}

impl Effort {
    /// `cargo test --benches` passes no `--bench`. Each subject then has one short turn, which checks that its calls succeed.
    fn new(arguments: &Arguments) -> Effort {
        let (turn, rounds) = if arguments.has("--bench") { (100, 21) } else { (2, 1) };
        let turn = Duration::from_millis(arguments.number("--turn-ms").unwrap_or(turn));
        Effort { turn, rounds: arguments.number("--rounds").unwrap_or(rounds) as usize }
    }
}

#[cfg(target_os = "linux")]
fn print_namespaces(effort: &Effort) {
    match veth::sockets() {
        Ok(sockets) => round_trips::print_udp("UDP between namespaces", &sockets, Duration::ZERO, effort),
        Err(error) => println!("\nNOT MEASURED: UDP between namespaces, which needs root and iproute2: {error}"),
    }
}

#[cfg(not(target_os = "linux"))]
fn print_namespaces(_: &Effort) {
    println!("\nNOT MEASURED: UDP between namespaces, which Linux has");
}

/// Ends the process when a thread panics, because the other thread would wait forever.
fn exit_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        print(panic);
        std::process::exit(101);
    }));
}

/// Prints the machine and the warnings. A thread that is pinned sees one processor, so that this comes before the parts.
fn print_head() {
    println!("### Latency on {BACKEND}\n\n{}.", machine());
    if std::thread::available_parallelism().map_or(1, usize::from) == 1 {
        println!(
            "\nBoth threads have the same processor, because the process has no other. A spin delays the other thread."
        );
    }
    if cfg!(not(target_os = "linux")) {
        println!("\nThe threads are not pinned to processors.");
    }
}

pub fn main() {
    let arguments = Arguments::of_process();
    if arguments.has("--help") || arguments.has("-h") {
        return println!("{HELP}");
    }
    exit_on_panic();
    print_head();
    let effort = Effort::new(&arguments);
    let parts: [(&str, Part); 6] = [
        ("loopback", |effort| {
            round_trips::print_udp("UDP over loopback", &round_trips::loopback(), Duration::ZERO, effort);
        }),
        ("late", |effort| {
            round_trips::print_udp("UDP over loopback, 200 µs of work", &round_trips::loopback(), LATE, effort);
        }),
        ("namespaces", print_namespaces),
        ("wakes", round_trips::print_wakes),
        ("waits", pauses::print),
        ("timers", loads::print),
    ];
    for (_, print) in parts.iter().filter(|(name, _)| arguments.selects(name)) {
        print(&effort);
    }
}
