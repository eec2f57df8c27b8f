//! Timers, signals, processes and watches beside the bare system calls.

#[cfg(unix)]
#[path = "sources/main.rs"]
mod bench;
#[cfg(not(unix))]
#[path = "setup/unix_only.rs"]
mod bench;

fn main() {
    bench::main();
}
