//! Copies the sources of kevio into modules, one for each variant, and changes the variants that are known to be wrong.

use std::path::Path;
use std::{env, fs};

/// The sources, each with its module.
const SOURCES: &[(&str, &str)] = &[
    ("time_cell.rs", "time_cell"),
    ("wake_state.rs", "wake_state"),
    ("source/timer_heap.rs", "timer_heap"),
    ("source/timer_queue.rs", "timer_queue"),
    ("user_events.rs", "user_events"),
];

/// A variant: its name, and for each change the file, the text, and its replacement. The text occurs once.
type Variant = (&'static str, &'static [(&'static str, &'static str, &'static str)]);

const VARIANTS: &[Variant] = &[
    ("right", &[]),
    // A waker that finds `AWAKE` does not notify, although the poll has read the list already.
    (
        "awake_during_the_wait",
        &[("wake_state.rs", "word = self.word.fetch_and(!AWAKE, Ordering::AcqRel);", "word &= !AWAKE;")],
    ),
    // A spin leaves `AWAKE` set when the wait begins.
    (
        "awake_after_a_spin",
        &[("wake_state.rs", "if word & AWAKE != 0 && word & !FLAGS == 0 {", "if word & AWAKE == usize::MAX {")],
    ),
    // The record of the notifier reaches a quiet poll, and so the program.
    (
        "notified_cleared_before_its_record",
        &[("wake_state.rs", "if is_notified { 0 } else { NOTIFIED }", "if is_notified { 0 } else { 0 }")],
    ),
    // The wait blocks although a waker was woken before.
    ("list_ignored_before_the_wait", &[("wake_state.rs", "word & !FLAGS != 0\n    }\n\n    /// Returns `true` if a notification", "word == usize::MAX\n    }\n\n    /// Returns `true` if a notification")]),
    // The data that the second thread has written before its wake is not visible to the poll.
    (
        "coalesced_wake_only_loads",
        &[(
            "wake_state.rs",
            "match waker.node().state.swap(WOKEN, Ordering::AcqRel) {",
            "if waker.node().state.load(Ordering::SeqCst) == WOKEN {\n            return Ok(());\n        }\n        match waker.node().state.swap(WOKEN, Ordering::AcqRel) {",
        )],
    ),
    // A wake finds `AWAKE` in a shared poll, and nothing makes the queue readable.
    ("awake_while_shared", &[("wake_state.rs", "if has_nodes && word & SHARED == 0 { AWAKE }", "if has_nodes { AWAKE }")]),
    // The setting thread does not see that a wait has begun.
    ("bound_not_stored", &[("source/timer_queue.rs", "            self.bound.store(end);\n        }\n        let earliest", "        }\n        let earliest")]),
    // Neither thread sees the store of the other.
    ("bound_without_order", &[("source/timer_queue.rs", "            self.bound.store(end);\n        }\n        let earliest", "            self.bound.store_relaxed(end);\n        }\n        let earliest")]),
    ("deadline_without_order", &[("source/timer_queue.rs", "self.earliest.store(earliest);\n        if earliest < before", "self.earliest.store_relaxed(earliest);\n        if earliest < before")]),
    // The queue treats an alarm that has fired as armed.
    ("alarm_not_cleared", &[("source/timer_queue.rs", "        if has_alarm {\n            self.alarm.store(NEVER);\n        }\n", "        let _ = has_alarm;\n")]),
    // The first waits of a poll are unknown to the queue.
    ("unknown_wait_taken_for_none", &[("source/timer_queue.rs", "bound: TimeCell::new(NEVER)", "bound: TimeCell::new(0)")]),
];

/// The code of a file, without its page and its unit tests, which only stand at the start of a file.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    text.lines().filter(|line| !line.starts_with("//!")).map(|line| line.to_owned() + "\n").collect()
}

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut output = String::new();
    let surroundings = fs::read_to_string(folder.join("src/surroundings.rs")).unwrap();
    for (variant, changes) in VARIANTS {
        let mut module = code(&surroundings);
        for (file, name) in SOURCES {
            let mut text = fs::read_to_string(folder.join("../../src").join(file)).unwrap();
            for (_, before, after) in changes.iter().filter(|change| change.0 == *file) {
                assert_eq!(text.matches(before).count(), 1, "{variant}: {file} has changed: {before}");
                text = text.replace(before, after);
            }
            module += &format!("pub mod {name} {{\n{}}}\n", code(&text));
        }
        let module = module.replace("crate::", &format!("crate::{variant}::"));
        output += &format!("pub mod {variant} {{\n{module}\n}}\n");
        println!("cargo:rerun-if-changed={}", folder.join("../../src").display());
    }
    println!("cargo:rerun-if-changed={}", folder.join("src").display());
    println!("cargo:rerun-if-changed=build.rs");
    fs::write(Path::new(&env::var("OUT_DIR").unwrap()).join("variants.rs"), output).unwrap();
}
