//! kevio beside mio, polling and the bare system calls: one run in which the subjects take turns.
//!
//! `cargo bench --bench ratios`, or `cargo bench --bench ratios -- wake` for some of the cases; README.md has the options, and
//! `benches/measure` keeps what it says. A drift of the machine hits all subjects of a round alike, so that the result is the
//! median of the ratios of the rounds.

#[path = "cases/mod.rs"]
mod cases;
#[path = "report/mod.rs"]
mod report;
mod setup;

use std::time::Duration;

use cases::{Case, Turns};
use report::{Line, Told};

/// The time of each subject in a round, and the number of rounds.
struct Rounds {
    each: Duration,
    number: usize,
}

impl Rounds {
    /// The default suits a machine of its own; an emulated clock takes longer rounds.
    fn of(arguments: &Arguments) -> Rounds {
        let each = arguments.number("--round-ms").unwrap_or(3);
        Rounds { each: Duration::from_millis(each), number: arguments.number("--rounds").unwrap_or(101) as usize }
    }
}

/// The arguments of the command line: flags, options with a number, and parts of the names of cases.
struct Arguments(Vec<String>);

impl Arguments {
    fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|argument| argument == flag)
    }

    /// Returns the number of the last `--option=number`.
    fn number(&self, option: &str) -> Option<u64> {
        let value = self.0.iter().rev().find_map(|argument| argument.strip_prefix(option)?.strip_prefix('='))?;
        Some(value.parse().unwrap_or_else(|_| panic!("{option}={value}: not a number")))
    }

    /// Returns `true` if the case is named whole, or by a part, or if no case is named. An underscore stands for a blank.
    fn choose(&self, case: &str) -> bool {
        let mut parts = self.0.iter().filter(|argument| !argument.starts_with('-')).peekable();
        parts.peek().is_none() || parts.any(|part| case.contains(&part.replace('_', " ")))
    }
}

/// One that has been made ready, and how often it does it in a round.
struct Runner {
    name: &'static str,
    turns: Turns,
    count: u64,
    /// Nanoseconds, round by round.
    spent: Vec<f64>,
}

impl Runner {
    fn run(&mut self, each: u32) {
        let spent = (self.turns)(self.count).as_secs_f64() * 1e9;
        self.spent.push(spent / self.count as f64 / f64::from(each));
    }

    /// As often as fits into a round; this also warms it up.
    fn calibrate(&mut self, each: Duration) {
        while (self.turns)(self.count) < each / 2 {
            self.count *= 2;
        }
    }
}

fn measure(case: &Case, rounds: &Rounds) -> Line {
    let start = |(name, make): &cases::Entrant| Runner { name, turns: make(), count: 1, spent: Vec::new() };
    let mut runners: Vec<Runner> = case.entrants.iter().map(start).collect();
    runners.iter_mut().for_each(|runner| runner.calibrate(rounds.each));
    for round in 0..rounds.number {
        // None always comes after the same one.
        runners.rotate_left(1);
        if round % runners.len() == 0 {
            runners.reverse();
        }
        runners.iter_mut().for_each(|runner| runner.run(case.each));
    }
    let ours = runners.iter().position(|runner| runner.name == "kevio").expect("kevio takes part");
    let ours = runners[ours].spent.clone();
    let tell = |name: &&str| {
        let runner = runners.iter().find(|runner| runner.name == *name).expect("none is lost");
        let ratios = ours.iter().zip(&runner.spent).map(|(ours, theirs)| ours / theirs).collect();
        Told { subject: name.to_string(), nanoseconds: quartiles(runner.spent.clone())[1], ratio: quartiles(ratios) }
    };
    let names: Vec<&str> = case.entrants.iter().map(|(name, _)| *name).collect();
    Line { case: case.name.clone(), told: names.iter().map(tell).collect() }
}

fn quartiles(mut of: Vec<f64>) -> [f64; 3] {
    of.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| of[quarter * (of.len() - 1) / 4])
}

/// One subject, one case, so many times; `benches/instructions` counts what that takes.
fn count(arguments: &[String]) {
    let [case, subject, times] = arguments else { panic!("--count CASE SUBJECT TIMES") };
    let case = cases::all().into_iter().find(|other| other.name == *case).expect("a case");
    let (_, make) = case.entrants.iter().find(|(name, _)| name == subject).expect("a subject of it");
    make()(times.parse().expect("a number"));
}

fn main() {
    let arguments = Arguments(std::env::args().skip(1).collect());
    if arguments.has("--report") {
        return report::write();
    }
    if arguments.has("--count") {
        return count(&arguments.0[1..]);
    }
    let cases = cases::all().into_iter().filter(|case| arguments.choose(&case.name));
    if !arguments.has("--bench") {
        // cargo test --benches: does each of them work?
        return cases.for_each(|case| {
            case.entrants.iter().for_each(|(_, make)| {
                let _ = make()(1);
            })
        });
    }
    println!("nanoseconds, and kevio's time over theirs [quartiles], on {}", kevio::BACKEND);
    let rounds = Rounds::of(&arguments);
    let lines: Vec<Line> = cases.map(|case| measure(&case, &rounds)).inspect(|line| println!("{line}")).collect();
    if arguments.has("--keep") {
        report::keep(&lines);
    }
    if arguments.has("--print") {
        report::print(&lines);
    }
}
