//! The report: results are kept in `results/`, one file for each backend, and shown as tables and a picture.

mod picture;

use std::fmt::{self, Write};
use std::fs;
use std::path::Path;

use super::setup::machine;

/// The time of one subject in a case.
pub struct Measurement {
    pub subject: String,
    /// The time per operation: the median of the rounds.
    pub nanoseconds: f64,
    /// The time of kevio over the time of this subject: the quartiles of the rounds.
    pub ratio: [f64; 3],
}

/// The measurements of a case.
pub struct CaseResult {
    pub case: String,
    pub measurements: Vec<Measurement>,
}

impl CaseResult {
    fn of(&self, subject: &str) -> Option<&Measurement> {
        self.measurements.iter().find(|measurement| measurement.subject == subject)
    }
}

/// The results of one backend on one machine.
struct Results {
    backend: String,
    machine: String,
    cases: Vec<CaseResult>,
}

pub const SUBJECTS: [&str; 4] = ["kevio", "mio", "polling", "bare"];
/// The colours of the subjects in the pictures.
pub const COLOURS: [&str; 4] = ["#d9480f", "#4c6ef5", "#12b886", "#adb5bd"];

/// Formats a time with three digits or more, in nanoseconds or microseconds.
pub fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        few if few < 9.95 => format!("{few:.1} ns"),
        some if some < 9_995.0 => format!("{some:.0} ns"),
        many if many < 99_950.0 => format!("{:.1} µs", many / 1000.0),
        more => format!("{:.0} µs", more / 1000.0),
    }
}

impl fmt::Display for CaseResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:32}", self.case)?;
        for Measurement { subject, nanoseconds, ratio: [low, middle, high] } in &self.measurements {
            match subject.as_str() {
                "kevio" => write!(f, " {subject} {:>8}", time(*nanoseconds))?,
                _ => write!(f, "   {subject} {:>8} {middle:.2} [{low:.2} {high:.2}]", time(*nanoseconds))?,
            }
        }
        Ok(())
    }
}

pub fn folder() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Formats one record for each case and subject, with tabs between the fields.
fn records(results: &[CaseResult]) -> String {
    let mut text = String::new();
    for result in results {
        for Measurement { subject, nanoseconds, ratio: [low, middle, high] } in &result.measurements {
            writeln!(text, "{}\t{subject}\t{nanoseconds:.2}\t{low:.3}\t{middle:.3}\t{high:.3}", result.case).unwrap();
        }
    }
    text
}

/// Prints the records. The files of an emulated machine are lost when the machine ends.
pub fn print(results: &[CaseResult]) {
    print!("{}", records(results));
}

/// Writes the records to the file of the backend.
pub fn keep(results: &[CaseResult]) {
    let text = format!("# {}\n{}", machine(), records(results));
    fs::create_dir_all(folder().join("results")).unwrap();
    fs::write(folder().join(format!("results/{}.tsv", kevio::BACKEND)), text).unwrap();
}

fn read(backend: &str) -> Option<Results> {
    let text = fs::read_to_string(folder().join(format!("results/{backend}.tsv"))).ok()?;
    let mut cases: Vec<CaseResult> = Vec::new();
    for record in text.lines().filter(|line| !line.starts_with('#')) {
        let fields: Vec<&str> = record.split('\t').collect();
        let number = |index: usize| fields[index].parse().expect("a number");
        let ratio = [number(3), number(4), number(5)];
        let measurement = Measurement { subject: fields[1].to_owned(), nanoseconds: number(2), ratio };
        match cases.last_mut() {
            Some(result) if result.case == fields[0] => result.measurements.push(measurement),
            _ => cases.push(CaseResult { case: fields[0].to_owned(), measurements: vec![measurement] }),
        }
    }
    let machine = text.lines().next()?.trim_start_matches("# ").to_owned();
    Some(Results { backend: backend.to_owned(), machine, cases })
}

impl Results {
    fn table(&self) -> String {
        let mut text = format!("### {}\n\n{}.\n\n| case |", self.backend, self.machine);
        SUBJECTS.iter().for_each(|subject| write!(text, " {subject} |").unwrap());
        text += "\n|---|---:|---:|---:|---:|\n";
        for result in &self.cases {
            write!(text, "| {} |", result.case).unwrap();
            for subject in SUBJECTS {
                match result.of(subject) {
                    None => text += " |",
                    Some(ours) if subject == "kevio" => write!(text, " {} |", time(ours.nanoseconds)).unwrap(),
                    Some(theirs) => {
                        write!(text, " {}, **{:.2}** |", time(theirs.nanoseconds), theirs.ratio[1]).unwrap()
                    }
                }
            }
            text.push('\n');
        }
        text
    }
}

/// Replaces the text of `benches/README.md` between two marks, which are comments on lines of their own. Without the second mark,
/// the text ends with the file.
pub fn replace_in_readme(mark: &str, end: Option<&str>, text: &str) {
    let path = folder().join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, old) = readme.split_once(mark).expect("the README has the mark before the text");
    let after = end.map_or("", |end| &old[old.find(end).expect("the README has the mark after the text")..]);
    fs::write(path, format!("{before}{mark}\n{text}{after}")).unwrap();
}

/// Writes the tables of all results to the end of `benches/README.md`, and draws the picture.
pub fn write() {
    let results: Vec<Results> =
        ["epoll", "poll", "kqueue", "kqueue-freebsd", "iocp"].into_iter().filter_map(read).collect();
    let tables: Vec<String> = results.iter().map(Results::table).collect();
    replace_in_readme("<!-- Written by `benches/measure`. -->\n", None, &tables.join("\n"));
    fs::write(folder().join("ratios.svg"), picture::draw(&results)).unwrap();
}
