//! kevio beside mio, polling and the bare system calls: one run in which the subjects take turns.
//!
//! `cargo bench --bench ratios`, or `cargo bench --bench ratios -- wake` for some of the cases; `benches/measure` keeps what
//! it says. A drift of the machine hits all subjects of a round alike, so what is told is the median of the rounds' ratios.

#[path = "cases/mod.rs"]
mod cases;
#[path = "report/mod.rs"]
mod report;
mod setup;

use std::time::Duration;

use cases::{Case, Turns};
use report::{Line, Told};

/// How long each subject has in a round, and how many rounds there are.
const ROUND: Duration = Duration::from_millis(3);
const ROUNDS: usize = 101;

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
    fn calibrate(&mut self) {
        while (self.turns)(self.count) < ROUND / 2 {
            self.count *= 2;
        }
    }
}

fn measure(case: &Case) -> Line {
    let start = |(name, make): &cases::Entrant| Runner { name, turns: make(), count: 1, spent: Vec::new() };
    let mut runners: Vec<Runner> = case.entrants.iter().map(start).collect();
    runners.iter_mut().for_each(Runner::calibrate);
    for round in 0..ROUNDS {
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
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if has("--report") {
        return report::write();
    }
    if has("--count") {
        return count(&arguments[1..]);
    }
    let wanted = arguments.iter().find(|argument| !argument.starts_with('-')).map_or("", String::as_str);
    let cases = cases::all().into_iter().filter(|case| case.name.contains(wanted));
    if !has("--bench") {
        // cargo test --benches: does each of them work?
        return cases.for_each(|case| {
            case.entrants.iter().for_each(|(_, make)| {
                let _ = make()(1);
            })
        });
    }
    println!("nanoseconds, and kevio's time over theirs [quartiles], on {}", kevio::BACKEND);
    let lines: Vec<Line> = cases.map(|case| measure(&case)).inspect(|line| println!("{line}")).collect();
    if has("--keep") {
        report::keep(&lines);
    }
}
