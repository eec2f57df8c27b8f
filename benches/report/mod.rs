//! What was measured: kept in `results/`, one file for each backend, and shown as a table and a picture.

mod picture;

use std::fmt::{self, Write};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// One subject's part in a case.
pub struct Told {
    pub subject: String,
    pub nanoseconds: f64,
    /// kevio's time over its own: the quartiles of the rounds.
    pub ratio: [f64; 3],
}

/// One case.
pub struct Line {
    pub case: String,
    pub told: Vec<Told>,
}

impl Line {
    fn of(&self, subject: &str) -> Option<&Told> {
        self.told.iter().find(|told| told.subject == subject)
    }
}

/// What was measured with one backend, and where.
struct Results {
    backend: String,
    machine: String,
    lines: Vec<Line>,
}

const SUBJECTS: [&str; 4] = ["kevio", "mio", "polling", "bare"];

/// Three digits, in the unit that suits.
fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        few if few < 9.95 => format!("{few:.1} ns"),
        some if some < 9_995.0 => format!("{some:.0} ns"),
        many if many < 99_950.0 => format!("{:.1} µs", many / 1000.0),
        more => format!("{:.0} µs", more / 1000.0),
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:32}", self.case)?;
        for Told { subject, nanoseconds, ratio: [low, middle, high] } in &self.told {
            match subject.as_str() {
                "kevio" => write!(f, " {subject} {:>8}", time(*nanoseconds))?,
                _ => write!(f, "   {subject} {:>8} {middle:.2} [{low:.2} {high:.2}]", time(*nanoseconds))?,
            }
        }
        Ok(())
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches")
}

/// The first line that a program writes.
fn says(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("?").to_owned()
}

fn machine() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or_else(|| says("sysctl", &["-n", "hw.model"]), |(_, model)| model.to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cpu}, {cores} cores, {}, {}", says("uname", &["-sr"]), says("date", &["+%F"]))
}

/// One record for each case and subject, of fields between tabs.
fn records(lines: &[Line]) -> String {
    let mut text = String::new();
    for line in lines {
        for Told { subject, nanoseconds, ratio: [low, middle, high] } in &line.told {
            writeln!(text, "{}\t{subject}\t{nanoseconds:.2}\t{low:.3}\t{middle:.3}\t{high:.3}", line.case).unwrap();
        }
    }
    text
}

/// Prints the records, for a machine whose files are lost with it.
pub fn print(lines: &[Line]) {
    print!("{}", records(lines));
}

/// Writes down what was measured.
pub fn keep(lines: &[Line]) {
    let text = format!("# {}\n{}", machine(), records(lines));
    fs::create_dir_all(folder().join("results")).unwrap();
    fs::write(folder().join(format!("results/{}.tsv", kevio::BACKEND)), text).unwrap();
}

fn read(backend: &str) -> Option<Results> {
    let text = fs::read_to_string(folder().join(format!("results/{backend}.tsv"))).ok()?;
    let mut lines: Vec<Line> = Vec::new();
    for record in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = record.split('\t').collect();
        let number = |index: usize| fields[index].parse().expect("a number");
        let ratio = [number(3), number(4), number(5)];
        let told = Told { subject: fields[1].to_owned(), nanoseconds: number(2), ratio };
        match lines.last_mut() {
            Some(line) if line.case == fields[0] => line.told.push(told),
            _ => lines.push(Line { case: fields[0].to_owned(), told: vec![told] }),
        }
    }
    let machine = text.lines().next()?.trim_start_matches("# ").to_owned();
    Some(Results { backend: backend.to_owned(), machine, lines })
}

impl Results {
    fn table(&self) -> String {
        let mut text = format!("### {}\n\n{}.\n\n| case |", self.backend, self.machine);
        SUBJECTS.iter().for_each(|subject| write!(text, " {subject} |").unwrap());
        text += "\n|---|---:|---:|---:|---:|\n";
        for line in &self.lines {
            write!(text, "| {} |", line.case).unwrap();
            for subject in SUBJECTS {
                match line.of(subject) {
                    None => text += " |",
                    Some(told) if subject == "kevio" => write!(text, " {} |", time(told.nanoseconds)).unwrap(),
                    Some(told) => write!(text, " {}, **{:.2}** |", time(told.nanoseconds), told.ratio[1]).unwrap(),
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Puts the tables of all that is kept into the README beside this, and draws the picture.
pub fn write() {
    const HERE: &str = "<!-- Written by `benches/measure`. -->\n";
    let results: Vec<Results> = ["epoll", "poll", "kqueue", "kqueue-freebsd"].into_iter().filter_map(read).collect();
    let readme = fs::read_to_string(folder().join("README.md")).unwrap();
    let (before, _) = readme.split_once(HERE).expect("the README has a place for it");
    let tables: Vec<String> = results.iter().map(Results::table).collect();
    fs::write(folder().join("README.md"), format!("{before}{HERE}\n{}", tables.join("\n"))).unwrap();
    fs::write(folder().join("ratios.svg"), picture::draw(&results)).unwrap();
}
