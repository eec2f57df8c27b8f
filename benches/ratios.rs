//! kevio beside mio, polling and the bare system calls: one run in which the subjects take turns.
//!
//! The run consists of rounds. In each round every subject of a case runs once, in changing order, so that a drift of the
//! machine affects all subjects of a round alike. The result is the median of the rounds' ratios. README.md describes the
//! method.

mod cases;
mod report;
mod setup;

use std::time::Duration;

use cases::{Case, Contestant, Iterations};
use report::{CaseResult, Measurement};
use setup::{quartiles, Arguments};

const HELP: &str = "\
Measures kevio beside mio, polling and bare system calls; the subjects take turns.

  cargo bench --bench ratios -- [OPTION…] [CASE…]     all cases, or those whose names contain one of these

  --round-ms=N   the time of each subject in a round, in milliseconds (3)
  --rounds=N     the number of rounds (101)
  --keep         writes the results to benches/results
  --print        prints the records of the results, with tabs between the fields
  --report       measures nothing; writes the tables of benches/README.md and the picture from benches/results
  --count CASE SUBJECT TIMES   runs one case of one subject so many times, for benches/instructions";

struct Rounds {
    /// The time of each subject in a round.
    time: Duration,
    number: usize,
}

impl Rounds {
    /// The defaults suit an idle machine. An emulated clock is coarse, and needs longer rounds.
    fn new(arguments: &Arguments) -> Rounds {
        let time = arguments.number("--round-ms").unwrap_or(3);
        Rounds { time: Duration::from_millis(time), number: arguments.number("--rounds").unwrap_or(101) as usize }
    }
}

/// A prepared contestant.
struct Runner {
    name: &'static str,
    iterations: Iterations,
    /// The number of iterations in a round.
    count: u64,
    /// The time per operation in each round, in nanoseconds.
    nanoseconds: Vec<f64>,
}

impl Runner {
    fn new((name, prepare): &Contestant) -> Runner {
        Runner { name, iterations: prepare(), count: 1, nanoseconds: Vec::new() }
    }

    /// Finds the number of iterations that fit into a round. The calls also warm up the caches.
    fn calibrate(&mut self, round: Duration) {
        while (self.iterations)(self.count) < round / 2 {
            self.count *= 2;
        }
    }

    fn run(&mut self, operations: u32) {
        let elapsed = (self.iterations)(self.count).as_secs_f64() * 1e9;
        self.nanoseconds.push(elapsed / self.count as f64 / f64::from(operations));
    }
}

fn measure(case: &Case, rounds: &Rounds) -> CaseResult {
    let mut runners: Vec<Runner> = case.contestants.iter().map(Runner::new).collect();
    runners.iter_mut().for_each(|runner| runner.calibrate(rounds.time));
    for round in 0..rounds.number {
        // The order changes, so that no subject always runs after the same one.
        runners.rotate_left(1);
        if round % runners.len() == 0 {
            runners.reverse();
        }
        runners.iter_mut().for_each(|runner| runner.run(case.operations));
    }
    let find = |name: &str| runners.iter().find(|runner| runner.name == name).expect("every contestant has a runner");
    let ours = &find("kevio").nanoseconds;
    let result = |(name, _): &Contestant| {
        let theirs = &find(name).nanoseconds;
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
        Measurement { subject: name.to_string(), nanoseconds: quartiles(theirs.clone())[1], ratio: quartiles(ratios) }
    };
    CaseResult { case: case.name.clone(), measurements: case.contestants.iter().map(result).collect() }
}

/// Runs one case of one subject so many times, while `benches/instructions` counts the instructions.
fn count(arguments: &[String]) {
    let [case, subject, times] = arguments else { panic!("--count CASE SUBJECT TIMES") };
    let case = cases::all().into_iter().find(|other| other.name == *case).expect("the name of a case");
    let (_, prepare) = case.contestants.iter().find(|(name, _)| name == subject).expect("a subject of the case");
    prepare()(times.parse().expect("a number"));
}

fn main() {
    let arguments = Arguments::of_process();
    if arguments.has("--help") || arguments.has("-h") {
        return println!("{HELP}");
    }
    if arguments.has("--report") {
        return report::write();
    }
    if arguments.has("--count") {
        return count(&arguments.all()[1..]);
    }
    let cases = cases::all().into_iter().filter(|case| arguments.selects(&case.name));
    if !arguments.has("--bench") {
        // `cargo test --benches` passes no --bench. Each contestant runs once, which checks that its calls succeed.
        for case in cases {
            for (_, prepare) in &case.contestants {
                let _ = prepare()(1);
            }
        }
        return;
    }
    println!("time per operation, and kevio's time over that time [quartiles], on {}", kevio::BACKEND);
    let rounds = Rounds::new(&arguments);
    let results: Vec<CaseResult> =
        cases.map(|case| measure(&case, &rounds)).inspect(|result| println!("{result}")).collect();
    if arguments.has("--keep") {
        report::keep(&results);
    }
    if arguments.has("--print") {
        report::print(&results);
    }
}
