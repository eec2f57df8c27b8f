//! The growth of times and of memory with the number of registrations, timers and wakers.

#[cfg(unix)]
#[path = "growth/main.rs"]
mod bench;
#[cfg(not(unix))]
#[path = "setup/unix_only.rs"]
mod bench;

fn main() {
    bench::main();
}
