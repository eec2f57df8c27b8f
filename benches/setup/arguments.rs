//! The command line of a bench.

/// The arguments of the command line: flags, options with a number, and parts of the names of cases.
pub struct Arguments(Vec<String>);

impl Arguments {
    pub fn of_process() -> Arguments {
        Arguments(std::env::args().skip(1).collect())
    }

    pub fn all(&self) -> &[String] {
        &self.0
    }

    pub fn has(&self, flag: &str) -> bool {
        self.0.iter().any(|argument| argument == flag)
    }

    /// Returns the number of the last `--option=number`.
    pub fn number(&self, option: &str) -> Option<u64> {
        let value = self.0.iter().rev().find_map(|argument| argument.strip_prefix(option)?.strip_prefix('='))?;
        Some(value.parse().unwrap_or_else(|_| panic!("{option}={value}: not a number")))
    }

    /// Returns `true` if an argument is a part of the name, or if no argument is the name of a case. An underscore stands for a
    /// blank.
    pub fn selects(&self, case: &str) -> bool {
        let mut parts = self.0.iter().filter(|argument| !argument.starts_with('-')).peekable();
        parts.peek().is_none() || parts.any(|part| case.contains(&part.replace('_', " ")))
    }
}
