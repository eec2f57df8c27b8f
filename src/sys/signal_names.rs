//! The names of signals, for `Debug`.

use std::fmt;

/// Writes a list of signals: the name of each, or its number. The table has the names.
pub(crate) struct SignalNames<'a>(pub(crate) &'a [i32], pub(crate) &'a [(i32, &'static str)]);

impl fmt::Debug for SignalNames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for signal in self.0 {
            match self.1.iter().find(|(number, _)| number == signal) {
                Some((_, name)) => list.entry(&format_args!("{name}")),
                None => list.entry(signal),
            };
        }
        list.finish()
    }
}
