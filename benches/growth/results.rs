//! The results of the growth: kept in `results/`, one file for each backend, and shown as tables and a picture.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

use super::picture;
use super::report;
use super::setup::{machine, quartiles};

/// The values of an operation and a subject.
pub struct Series {
    pub operation: String,
    pub subject: String,
    /// The values of the rounds, by size: nanoseconds for each operation, or bytes.
    values: BTreeMap<usize, Vec<f64>>,
}

/// The results of one backend on one machine.
pub struct Growth {
    pub backend: String,
    machine: String,
    /// The measurements that the limits of the machine prevent.
    not_measured: Vec<String>,
    /// The series of an operation follow each other.
    pub series: Vec<Series>,
}

const NOT_MEASURED: &str = "# NOT MEASURED: ";

impl Series {
    /// Returns each size with the median of its rounds.
    pub fn points(&self) -> Vec<(usize, f64)> {
        self.values.iter().map(|(&size, values)| (size, quartiles(values.clone())[1])).collect()
    }

    pub fn is_memory(&self) -> bool {
        self.operation.starts_with("memory")
    }

    fn format(&self, value: f64) -> String {
        if self.is_memory() {
            format!("{value:.0} B")
        } else {
            report::time(value)
        }
    }

    /// Returns the value of the largest size over that of the smallest.
    fn growth(&self) -> f64 {
        let points = self.points();
        points[points.len() - 1].1 / points[0].1
    }
}

/// Formats a number with a blank before each three digits.
pub fn grouped(number: usize) -> String {
    match number {
        few if few < 1000 => few.to_string(),
        many => format!("{} {:03}", grouped(many / 1000), many % 1000),
    }
}

impl Growth {
    pub fn new() -> Growth {
        let (backend, machine) = (kevio::BACKEND.to_string(), machine());
        Growth { backend, machine, not_measured: Vec::new(), series: Vec::new() }
    }

    pub fn add(&mut self, operation: &str, subject: &str, size: usize, value: f64) {
        let is_this = |series: &Series| series.operation == operation && series.subject == subject;
        let index = self.series.iter().position(is_this).unwrap_or_else(|| {
            let end = self.series.iter().rposition(|series| series.operation == operation);
            let index = end.map_or(self.series.len(), |last| last + 1);
            let (operation, subject) = (operation.to_owned(), subject.to_owned());
            self.series.insert(index, Series { operation, subject, values: BTreeMap::new() });
            index
        });
        self.series[index].values.entry(size).or_default().push(value);
    }

    /// Records why the members of a subject were not measured. The reason for the smallest size is kept.
    pub fn add_not_measured(&mut self, members: &str, reason: &str) {
        let members = format!("{members}: ");
        if !self.not_measured.iter().any(|known| known.starts_with(&members)) {
            self.not_measured.push(members + reason);
        }
    }

    /// Formats a table with a row for each operation and subject, and a column for each size.
    pub fn table(&self) -> String {
        let sizes: Vec<usize> = self.series.iter().flat_map(|series| series.values.keys().copied()).collect();
        let sizes = BTreeMap::from_iter(sizes.into_iter().map(|size| (size, grouped(size))));
        let mut text = format!("| {:25} | {:15} |", "operation", "subject");
        sizes.values().for_each(|size| write!(text, " {size:>9} |").unwrap());
        text += "   growth |\n|---|---|";
        text += &"---:|".repeat(sizes.len() + 1);
        for series in &self.series {
            write!(text, "\n| {:25} | {:15} |", series.operation, series.subject).unwrap();
            let points = BTreeMap::from_iter(series.points());
            for size in sizes.keys() {
                let value = points.get(size).map_or(String::new(), |&value| series.format(value));
                write!(text, " {value:>9} |").unwrap();
            }
            write!(text, " {:>8.2} |", series.growth()).unwrap();
        }
        text.push('\n');
        self.not_measured.iter().for_each(|reason| write!(text, "\n- NOT MEASURED: {reason}.").unwrap());
        text
    }

    /// Writes one record for each value to the file of the backend, with tabs between the fields.
    pub fn keep(&self) {
        let mut text = format!("# {}\n", self.machine);
        self.not_measured.iter().for_each(|reason| writeln!(text, "{NOT_MEASURED}{reason}").unwrap());
        for series in &self.series {
            for (size, value) in series.points() {
                writeln!(text, "{}\t{}\t{size}\t{value:.2}", series.operation, series.subject).unwrap();
            }
        }
        fs::write(report::folder().join(format!("results/growth-{}.tsv", self.backend)), text).unwrap();
    }

    fn read(backend: &str) -> Option<Growth> {
        let text = fs::read_to_string(report::folder().join(format!("results/growth-{backend}.tsv"))).ok()?;
        let mut lines = text.lines();
        let machine = lines.next()?.trim_start_matches("# ").to_owned();
        let mut growth = Growth { backend: backend.to_owned(), machine, not_measured: Vec::new(), series: Vec::new() };
        for line in lines {
            let fields: Vec<&str> = line.split('\t').collect();
            match (line.strip_prefix(NOT_MEASURED), &fields[..]) {
                (Some(reason), _) => growth.not_measured.push(reason.to_owned()),
                (None, [operation, subject, size, value]) => {
                    growth.add(operation, subject, size.parse().expect("a size"), value.parse().expect("a value"));
                }
                _ => panic!("a record has four fields: {line}"),
            }
        }
        Some(growth)
    }
}

/// Writes the tables of all results into `benches/README.md`, and draws the picture.
pub fn write() {
    let results: Vec<Growth> = ["epoll", "poll", "kqueue"].into_iter().filter_map(Growth::read).collect();
    let section =
        |growth: &Growth| format!("### Growth on {}\n\n{}.\n\n{}\n", growth.backend, growth.machine, growth.table());
    let tables: String = results.iter().map(section).collect();
    report::replace_in_readme(
        "<!-- Written by `benches/measure growth`. -->\n",
        Some("<!-- The end of what `benches/measure growth` writes. -->\n"),
        &tables,
    );
    fs::write(report::folder().join("growth.svg"), picture::draw(&results)).unwrap();
}
