//! The layout of the source: imports point downward, without circles, and systems are named in few places.
//!
//! `.github/CONTRIBUTING.md` explains the layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers, from the ground up. A module imports from its own layer or from a lower one. A name that is not a file is a
/// folder.
const LAYERS: &[&[&str]] = &[
    &["backend", "busy_poll", "flag_set", "interest", "token", "source::file_changes"],
    &["sys"],
    &["change_list", "poll_id", "sync", "time_cell", "wake_state", "source::timer_heap", "source::timer_queue"],
    &["poll_shared"],
    &["registry"],
    &["batch", "delegate", "event", "io_source", "user_events", "waker"],
    &["guide", "net", "poll", "source", "unix", "windows"],
];

/// The files that may name operating systems: the binding of kevent(2), and workarounds that cite their reason. The conformance
/// tests name them too, because they assert what single systems do.
const MAY_NAME_SYSTEMS: &[&str] = &["sys::unix::kevent", "sys::unix::socket", "sys::conformance"];

/// The crates of the system calls, and the folders whose files may name them.
const MAY_CALL: &[(&str, &[&str])] = &[
    ("libc", &["sys::unix", "unix", "sys::conformance"]),
    ("windows_sys", &["sys::windows", "windows", "sys::conformance"]),
];

/// A module is its path without `crate`, such as `sys::unix::poll::table`. The root is empty.
type Module = String;

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The modules that are files, each with its text.
fn modules() -> BTreeMap<Module, String> {
    let mut modules = BTreeMap::new();
    let mut folders = vec![source()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                modules.insert(module_of(&path), text);
            }
        }
    }
    modules
}

fn module_of(path: &Path) -> Module {
    let path = path.strip_prefix(source()).unwrap().with_extension("");
    let names = path.iter().map(|name| name.to_str().unwrap());
    names.filter(|name| !["mod", "lib"].contains(name)).collect::<Vec<_>>().join("::")
}

/// The code of a file, without comments and unit tests.
fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let without_comment = |line: &str| line.split("//").next().unwrap().to_owned() + "\n";
    text.lines().map(without_comment).collect()
}

/// The paths of a tree of imports: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some((start, rest)) = tree.split_once('{') else {
        let path = tree.split_whitespace().next().unwrap_or_default();
        return vec![path.trim_end_matches("::self").to_owned()];
    };
    let (inner, _) = rest.rsplit_once('}').unwrap();
    let (mut branches, mut depth) = (vec![String::new()], 0);
    for character in inner.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                branches.push(String::new());
                continue;
            }
            _ => {}
        }
        branches.last_mut().unwrap().push(character);
    }
    let branches = branches.iter().map(|branch| branch.trim()).filter(|branch| !branch.is_empty());
    branches.flat_map(|branch| paths(&format!("{start}{branch}"))).collect()
}

/// The modules from which a module imports.
fn imports(module: &str, text: &str, modules: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let code = code(text);
    let mut found = BTreeSet::new();
    for (position, _) in code.match_indices("use ") {
        let line = code[..position].rsplit('\n').next().unwrap().trim();
        if !["", "pub", "pub(crate)", "pub(super)"].contains(&line) {
            continue;
        }
        let tree = code[position + 4..].split(';').next().unwrap();
        for path in paths(tree) {
            let path = match path.strip_prefix("self::") {
                Some(path) => format!("{module}::{path}"),
                None => match path.strip_prefix("crate::") {
                    Some(path) => path.to_owned(),
                    None => continue,
                },
            };
            found.insert(defining_module(path.trim_start_matches("::"), modules));
        }
    }
    for (position, _) in code.match_indices("crate::") {
        let line = code[..position].rsplit('\n').next().unwrap();
        // A macro names the crate by itself, and the trees of imports are read above.
        let is_read = line.ends_with('$') || line.contains("use ");
        let path: String =
            code[position + 7..].chars().take_while(|&c| c == ':' || c == '_' || c.is_alphanumeric()).collect();
        if !is_read && !path.is_empty() {
            found.insert(defining_module(&path, modules));
        }
    }
    found.remove(module);
    found
}

/// The longest part of a path that is a module.
fn defining_module(path: &str, modules: &BTreeMap<Module, String>) -> Module {
    let names: Vec<&str> = path.split("::").collect();
    let candidates = (0..=names.len()).rev().map(|len| names[..len].join("::"));
    candidates.into_iter().find(|module| modules.contains_key(module)).unwrap_or_default()
}

fn is_in(module: &str, folder: &str) -> bool {
    module == folder || module.strip_prefix(folder).is_some_and(|rest| rest.starts_with("::"))
}

fn layer(module: &str) -> usize {
    let found = LAYERS.iter().position(|names| names.iter().any(|name| is_in(module, name)));
    found.unwrap_or_else(|| panic!("`{module}` is in no layer: add it to LAYERS"))
}

#[test]
fn imports_point_downward() {
    let modules = modules();
    for (module, text) in modules.iter().filter(|(module, _)| !module.is_empty()) {
        for imported in imports(module, text, &modules) {
            assert!(
                !imported.is_empty(),
                "`{module}` imports from lib.rs: import from the module that defines the name"
            );
            assert!(layer(&imported) <= layer(module), "`{module}` imports from the higher layer of `{imported}`");
        }
    }
}

#[test]
fn imports_have_no_circle() {
    let modules = modules();
    let mut remaining: BTreeMap<Module, BTreeSet<Module>> = modules
        .iter()
        .filter(|(module, _)| !module.starts_with("sys::conformance"))
        .map(|(module, text)| (module.clone(), imports(module, text, &modules)))
        .collect();
    // Modules whose imports are all removed are on the ground. A circle is what is never removed.
    loop {
        let left: BTreeSet<Module> = remaining.keys().cloned().collect();
        remaining.retain(|_, imported| imported.iter().any(|module| left.contains(module)));
        if remaining.len() == left.len() {
            break;
        }
    }
    // Modules above a circle remain too.
    loop {
        let imported: BTreeSet<Module> = remaining.values().flatten().cloned().collect();
        let len = remaining.len();
        remaining.retain(|module, _| imported.contains(module));
        if remaining.len() == len {
            break;
        }
    }
    assert!(remaining.is_empty(), "these modules import each other: {remaining:#?}");
}

#[test]
fn systems_are_named_in_few_places() {
    for (module, text) in modules() {
        let may_name = MAY_NAME_SYSTEMS.iter().any(|name| module.starts_with(name));
        let names = ["target_os", "target_vendor"].iter().any(|cfg| text.contains(cfg));
        assert!(may_name || !names, "`{module}` names an operating system: build.rs has the table of systems");
    }
}

#[test]
fn system_calls_are_below_sys() {
    for (module, text) in modules() {
        let code = code(&text);
        for (name, folders) in MAY_CALL {
            let may_call = folders.iter().any(|folder| is_in(&module, folder));
            // The messages of errors have names in backticks.
            let calls = code.replace(&format!("`{name}"), "").contains(&format!("{name}::"));
            assert!(may_call || !calls, "`{module}` uses `{name}`: a module under `sys` has to make the call");
        }
    }
}

/// Between fork(2) and exec(3) a child has copies of all descriptors. The descriptors that other tests of the binary close then
/// stay registered with epoll(7). The binary `children` has the tests of children.
#[test]
fn suite_starts_no_process() {
    let suite = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite");
    for entry in fs::read_dir(suite).unwrap() {
        let path = entry.unwrap().path();
        // The tests of kqueue alone run on no epoll.
        if path.file_name().is_some_and(|name| name != "kqueue.rs") {
            let text = fs::read_to_string(&path).unwrap();
            assert!(!["Command::new", "fork()"].iter().any(|call| text.contains(call)), "{}", path.display());
        }
    }
}
