//! The common setup of the benches.
#![allow(dead_code)] // No bench uses all of it.

mod arguments;

use std::process::Command;
use std::time::Duration;

use criterion::Criterion;

#[allow(unused_imports)] // As above.
pub use arguments::Arguments;

/// Raises the limit of descriptors to its maximum. If that is too few, creating descriptors fails.
#[cfg(unix)]
pub fn allow_descriptors() {
    let limit = libc::rlimit { rlim_cur: descriptor_limit().rlim_max, ..descriptor_limit() };
    // SAFETY: the kernel reads one `rlimit`. Apple's systems report a maximum that they reject. The limit stays as it is then.
    unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
}

/// Handles of Windows have no such limit.
#[cfg(windows)]
pub fn allow_descriptors() {}

#[cfg(unix)]
fn descriptor_limit() -> libc::rlimit {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one `rlimit`.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) }, 0);
    limit
}

/// Raises the limit of descriptors to its maximum, and for the superuser the maximum too. Returns the limit.
#[cfg(unix)]
pub fn allow_many_descriptors() -> usize {
    let most = std::fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|most| most.trim().parse().ok());
    if let Some(most) = most {
        let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: the kernel reads one `rlimit`. The kernel rejects it if the process is not privileged.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) };
    }
    allow_descriptors();
    descriptor_limit().rlim_cur.try_into().unwrap_or(usize::MAX)
}

/// Returns a configuration with a short measurement.
pub fn short() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

/// Returns the first line of a program's output.
fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or("?").to_owned()
}

/// Returns the processor, the system and the date.
#[cfg(windows)]
pub fn machine() -> String {
    let cpu = std::env::var("PROCESSOR_IDENTIFIER").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let powershell = |command| first_line("powershell", &["-NoProfile", "-Command", command]);
    let version = powershell("[Environment]::OSVersion.VersionString");
    format!("{cpu}, {cores} cores, {version}, {}", powershell("Get-Date -Format yyyy-MM-dd"))
}

/// Returns the processor, the system and the date.
#[cfg(unix)]
pub fn machine() -> String {
    let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cpu = cpu.map_or_else(|| first_line("sysctl", &["-n", "hw.model"]), |(_, model)| model.to_owned());
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    format!("{cpu}, {cores} cores, {}, {}", first_line("uname", &["-sr"]), first_line("date", &["+%F"]))
}

/// Returns the first quartile, the median and the third quartile.
pub fn quartiles(mut values: Vec<f64>) -> [f64; 3] {
    values.sort_by(f64::total_cmp);
    [1, 2, 3].map(|quarter| values[quarter * (values.len() - 1) / 4])
}
