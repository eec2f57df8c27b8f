//! Compares the public API of kevio with that of mio. Prints each item and each feature that mio has and kevio lacks, or has with
//! another signature, and fails if there is one.
//!
//! ```sh
//! cargo run --manifest-path .ci/api/Cargo.toml                  # the API on this system
//! cargo run --manifest-path .ci/api/Cargo.toml TARGET           # on another: std is built from its source (.ci/windows)
//! ```
//!
//! rustdoc writes the API of both crates as JSON, and the crate `public-api` makes a line of each item. A few lines that mean
//! the same are written in different ways. [`normalized`] has the rules.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::{env, fs};

use public_api::tokens::Token;
use serde_json::Value;

/// The items of mio that kevio lacks for a reason, as the program prints them, each with the reason.
const EXCEPTIONS: &[(&str, &str)] = &[];

fn main() -> ExitCode {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = folder.ancestors().nth(2).expect("the folder .ci/api of a checkout");
    let metadata = cargo_metadata(folder);
    let output = Path::new(metadata["target_directory"].as_str().expect("a path"));
    let system = env::args().nth(1);
    let mio = package(&metadata, "mio");

    let of_mio = items(&rustdoc(folder, "mio", &[], output, system.as_deref()), "mio");
    let of_kevio = items(&rustdoc(root, "kevio", &["--all-features"], output, system.as_deref()), "kevio");
    // A function may become const.
    let relaxed: BTreeSet<_> = of_kevio.iter().map(|item| item.replace("pub const fn ", "pub fn ")).collect();
    let mut missing: BTreeSet<_> =
        of_mio.difference(&of_kevio).filter(|item| !relaxed.contains(*item)).cloned().collect();
    missing.extend(missing_from_manifests(root, mio));

    let unexpected = missing.iter().filter(|item| EXCEPTIONS.iter().all(|(exception, _)| exception != item));
    let mut faults: Vec<_> = unexpected.map(|item| format!("missing: {item}")).collect();
    let obsolete = EXCEPTIONS.iter().filter(|(item, _)| !missing.contains(*item));
    faults.extend(obsolete.map(|(item, _)| format!("not missing, although it is an exception: {item}")));
    for fault in &faults {
        println!("{fault}");
    }
    println!("{} items of mio {}, {} of kevio, {} faults", of_mio.len(), mio["version"], of_kevio.len(), faults.len());
    ExitCode::from(u8::from(!faults.is_empty()))
}

/// Returns the features of mio that kevio or the crate of the patch lacks, and the files that do not have the version of mio.
fn missing_from_manifests(root: &Path, mio: &Value) -> Vec<String> {
    let mut missing = Vec::new();
    let version = mio["version"].as_str().expect("a version");
    for (name, folder) in [("kevio", "."), ("mio", "examples/drop-in/mio")] {
        let metadata = cargo_metadata(&root.join(folder));
        let package = package(&metadata, name);
        missing.extend(
            features(mio).difference(&features(package)).map(|feature| format!("feature {feature} in {folder}")),
        );
        if name == "mio" && package["version"] != version {
            missing.push(format!("version {version} in {folder}"));
        }
    }
    for page in ["README.md", "examples/drop-in/README.md"] {
        let text = fs::read_to_string(root.join(page)).expect("the page can be read");
        if !text.contains(&format!("cargo update -p mio --precise {version}")) {
            missing.push(format!("version {version} in {page}"));
        }
    }
    missing
}

/// Returns the output of `cargo metadata` in a folder.
fn cargo_metadata(folder: &Path) -> Value {
    let output = Command::new(cargo())
        .args(["metadata", "--format-version", "1"])
        .current_dir(folder)
        .output()
        .expect("cargo starts");
    assert!(output.status.success(), "cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON")
}

/// Returns the package of this name.
fn package<'a>(metadata: &'a Value, name: &str) -> &'a Value {
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages.iter().find(|package| package["name"] == name).expect("a package of this name")
}

/// Returns the names of the features of a package.
fn features(package: &Value) -> BTreeSet<String> {
    package["features"].as_object().expect("a table of features").keys().cloned().collect()
}

/// Writes the API of a package as JSON into the folder `output`, and returns the path of the file.
fn rustdoc(folder: &Path, package: &str, features: &[&str], output: &Path, system: Option<&str>) -> PathBuf {
    let mut command = Command::new(cargo());
    command.args(["rustdoc", "--quiet", "--lib", "--package", package, "--target-dir"]).arg(output).args(features);
    if let Some(system) = system {
        command.args(["-Z", "build-std=std", "--target", system]);
    }
    command.args(["--", "-Z", "unstable-options", "--output-format", "json"]);
    // A nightly compiler's options.
    command.current_dir(folder).env("RUSTC_BOOTSTRAP", "1");
    assert!(command.status().expect("cargo starts").success(), "cargo rustdoc of {package} failed");
    output.join(system.unwrap_or_default()).join("doc").join(format!("{package}.json"))
}

/// Returns the path of the cargo that runs this program.
fn cargo() -> OsString {
    env::var_os("CARGO").expect("cargo runs this program")
}

/// Returns the items of a crate, each as a normalized line.
fn items(json: &Path, name: &str) -> BTreeSet<String> {
    let api = public_api::Builder::from_rustdoc_json(json)
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(false)
        .build()
        .unwrap_or_else(|error| {
            // The form of the JSON is not stable. A newer compiler is no fault of the crate.
            println!("NOT RUN: the API of mio, because public-api cannot read the JSON of this rustdoc: {error}");
            std::process::exit(0);
        });
    let lines: Vec<_> = api.items().map(|item| line(item.tokens(), name)).collect();
    let types: BTreeMap<_, _> = lines
        .iter()
        .filter_map(|line| line.strip_prefix("pub type ")?.split_once(" = "))
        .map(|(name, definition)| (name.to_owned(), definition.to_owned()))
        .collect();
    // An impl that a type lacks is no part of its API, nor is the place of a destructor. Two of the traits are not stable.
    let no_api = ["impl !", "::Freeze for ", "::UnsafeUnpin for ", "::Drop for ", "::drop(&mut self)"];
    let skipped = |line: &String| no_api.iter().any(|text| line.contains(text));
    lines.into_iter().filter(|line| !skipped(line)).map(|line| normalized(line, &types)).collect()
}

/// Returns the text of an item, with the name of kevio for that of its crate, and without the names of lifetimes.
fn line<'a>(tokens: impl Iterator<Item = &'a Token>, name: &str) -> String {
    let text = tokens.map(|token| match token {
        Token::Identifier(text) if text == name => "kevio",
        Token::Lifetime(text) if text != "'static" => "'_",
        token => token.text(),
    });
    text.collect()
}

/// Returns an item in the form that does not depend on how the crate writes it.
fn normalized(line: String, types: &BTreeMap<String, String>) -> String {
    // The lifetimes have no names.
    let mut line = line.replace("impl<'_> ", "impl ");
    // Bounds of the only parameter of an impl: `impl<T> … where T: Bounds`.
    if let Some((head, bounds)) = line.split_once(" where T: ") {
        line = head.replacen("<T>", &format!("<T: {bounds}>"), 1);
    }
    // `Self`, and its associated types.
    let signature = line.strip_prefix("pub fn ").or(line.strip_prefix("pub const fn "));
    let function = signature.and_then(|signature| signature.split('(').next());
    if let Some((owner, _)) = function.and_then(|function| function.rsplit_once("::")) {
        let owner = owner.to_owned();
        line = line.replace("Self", &owner);
        for (name, definition) in types.iter().filter(|(name, _)| name.starts_with(&owner)) {
            line = line.replace(name, definition);
        }
    }
    // The type has two paths, and either can be the one that rustdoc uses. The declarations show both.
    match line.starts_with("pub struct ") {
        true => line,
        false => line.replace("kevio::event::Events", "kevio::Events").replace("&'_ ", "&"),
    }
}
