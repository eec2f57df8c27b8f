//! Says which systems have a kqueue, checks `--cfg kevio_backend="…"`, and finds libkqueue where it asks for that on
//! Linux.

use std::env;
use std::process::Command;

/// The systems with kqueue(2), beside Apple's.
const KQUEUE: [&str; 4] = ["freebsd", "dragonfly", "netbsd", "openbsd"];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=KQUEUE_LIB_DIR");
    if let Ok(backend) = env::var("CARGO_CFG_KEVIO_BACKEND") {
        assert!(
            ["kqueue", "epoll", "poll"].contains(&backend.as_str()),
            "kevio_backend is \"kqueue\", \"epoll\" or \"poll\", not {backend:?}"
        );
    }
    let is = |name, value: &str| env::var(name).is_ok_and(|found| found == value);
    if is("CARGO_CFG_TARGET_VENDOR", "apple") || KQUEUE.iter().any(|system| is("CARGO_CFG_TARGET_OS", system)) {
        println!("cargo:rustc-cfg=kevio_has_kqueue");
    }
    if !is("CARGO_CFG_KEVIO_BACKEND", "kqueue") || !is("CARGO_CFG_TARGET_OS", "linux") {
        return;
    }
    if let Some(directory) = env::var("KQUEUE_LIB_DIR").ok().or_else(pkg_config) {
        println!("cargo:rustc-link-search=native={directory}");
    }
}

fn pkg_config() -> Option<String> {
    let output = Command::new("pkg-config").args(["--variable=libdir", "libkqueue"]).output().ok()?;
    let directory = String::from_utf8(output.stdout).ok()?;
    Some(directory.trim().to_owned()).filter(|directory| output.status.success() && !directory.is_empty())
}
