//! The latency of events, its price in CPU time, and the CPU time of short waits.

#[cfg(unix)]
#[path = "latency/main.rs"]
mod bench;
#[cfg(not(unix))]
#[path = "setup/unix_only.rs"]
mod bench;

fn main() {
    bench::main();
}
