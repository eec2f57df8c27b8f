//! The growth of times and of memory with the number of registrations, timers and wakers: kevio beside mio and bare calls.
//!
//! The run consists of rounds. In each round every subject is measured once with each size, in changing order. A result is the
//! median of the rounds. README.md describes the method.

#[path = "../cases/mod.rs"]
#[allow(dead_code)] // The growth uses the subjects, and not the cases.
mod cases;
mod fixture;
mod memory;
mod picture;
mod registrations;
#[path = "../report/mod.rs"]
#[allow(dead_code)] // The growth has results of another form.
mod report;
mod results;
#[path = "../setup/mod.rs"]
mod setup;
mod timers;
mod wakers;

use std::time::Duration;

use fixture::{Contestant, Scale};
use results::{grouped, Growth};
use setup::Arguments;

const HELP: &str = "\
Measures how times and memory grow with the number of registrations, timers and wakers.

  cargo bench --bench growth -- [OPTION…] [GROUP…]   all groups, or some of: registrations, timers, wakers

  --rounds=N     the number of rounds (5)
  --round-ms=N   the time of each operation, subject and size in a round, in milliseconds (10)
  --max=N        the largest size (1000000)
  --keep         writes the results to benches/results
  --report       measures nothing; writes the tables of benches/README.md and the picture from benches/results

The largest size needs 2 GB of memory. On a system with a limit of descriptors, the superuser should run the bench.";

const SIZES: [usize; 5] = [100, 1_000, 10_000, 100_000, 1_000_000];

/// The descriptors that are not those of members.
const OTHER_DESCRIPTORS: usize = registrations::FILES + 100;

/// Returns each group with its subjects.
fn groups() -> [(&'static str, Vec<Contestant>); 3] {
    [
        ("registrations", registrations::contestants()),
        ("timers", timers::contestants()),
        ("wakers", wakers::contestants()),
    ]
}

/// Measures each subject of a group once, if the descriptors suffice.
fn measure(growth: &mut Growth, group: &str, contestants: &[Contestant], scale: Scale) {
    for Contestant { subject, descriptors, measure } in contestants {
        let (needed, limit) = (descriptors(scale.size), scale.descriptors);
        if needed > limit {
            let (size, needed, limit) = (grouped(scale.size), grouped(needed), grouped(limit));
            let reason = format!("{size} or more, because {size} need {needed} descriptors, and {limit} are allowed");
            growth.add_not_measured(&format!("{group} of {subject}"), &reason);
            continue;
        }
        for (operation, value) in measure(scale) {
            growth.add(operation, subject, scale.size, value);
        }
    }
}

fn run(arguments: &Arguments, rounds: u64, budget: Duration, sizes: &[usize]) -> Growth {
    let mut growth = Growth::new();
    let descriptors = setup::allow_many_descriptors().saturating_sub(OTHER_DESCRIPTORS);
    let mut groups = groups();
    for round in 1..=rounds {
        for (group, contestants) in groups.iter_mut().filter(|(group, _)| arguments.selects(group)) {
            eprintln!("round {round} of {rounds}: {group}");
            for &size in sizes {
                measure(&mut growth, group, contestants, Scale { size, budget, descriptors });
            }
            contestants.rotate_left(1);
        }
    }
    growth
}

pub fn main() {
    let arguments = Arguments::of_process();
    if arguments.has("--help") || arguments.has("-h") {
        return println!("{HELP}");
    }
    if arguments.has("--report") {
        return results::write();
    }
    if !arguments.has("--bench") {
        // `cargo test --benches` passes no --bench. Each operation runs twice, which checks that its calls succeed.
        run(&arguments, 1, Duration::ZERO, &[10]);
        return;
    }
    let largest = arguments.number("--max").map_or(usize::MAX, |largest| largest as usize);
    let sizes: Vec<usize> = SIZES.into_iter().filter(|&size| size <= largest).collect();
    let budget = Duration::from_millis(arguments.number("--round-ms").unwrap_or(10));
    let growth = run(&arguments, arguments.number("--rounds").unwrap_or(5), budget, &sizes);
    println!("time of each operation and memory of each member, on {}\n\n{}", growth.backend, growth.table());
    if arguments.has("--keep") {
        growth.keep();
    }
}
