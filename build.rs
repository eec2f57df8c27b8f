//! Chooses the backend, and sets a cfg for each thing that the target system has.
//!
//! These are the only lists of systems: the library, its tests, its benches and its examples read the cfgs. A new system is one
//! line of [`SYSTEMS`].

use std::env;
use std::process::Command;

/// Each system with its backend, and its difference from [`COMMON`]: the additional cfgs, and the excluded cfgs with a `!`. All
/// systems of Apple are one line. A Unix that is not in the list uses poll(2), and has the cfgs of `COMMON`.
#[rustfmt::skip]
const SYSTEMS: &[(&str, &str, &str)] = &[
    ("apple",      "kqueue", "errno_location=__error except_stays_urgent has_evfilt_except has_negative_backlog has_note_exitstatus
                              has_o_evtonly has_so_nosigpipe ignores_sigio"),
    ("freebsd",    "kqueue", "errno_location=__error has_accept4 has_evfilt_lio has_inherit_zero has_negative_backlog
                              has_o_path has_pollrdhup has_ppoll has_procdesc ignores_sigio touch_replaces_udata
                              !has_pollrdhup_of_files"),
    ("dragonfly",  "kqueue", "has_accept4 has_evfilt_except has_ppoll ignores_sigio waits_end_early"),
    ("netbsd",     "kqueue", "errno_location=__errno full_pipe_ends_silently has_accept4 has_inherit_zero has_ppoll
                              ignores_sigio inherit_zero_is_four ppoll_is_pollts touch_replaces_udata
                              waits_end_early"),
    ("openbsd",    "kqueue", "errno_location=__errno full_pipe_ends_silently has_accept4 has_evfilt_except has_inherit_zero
                              has_negative_backlog has_ppoll ignores_sigio libc_lacks_ppoll libc_misplaces_si_status
                              waits_end_early"),
    ("linux",      "epoll",  "epoll_mod_requeues has_abstract_unix_addr has_accept4 has_busy_poll has_epoll_pwait2
                              has_epollexclusive has_eventfd has_inotify has_madv_wipeonfork has_mq_descriptors
                              has_negative_backlog has_o_path has_pidfd has_pipe_syscall has_pollable_files has_pollrdhup has_ppoll has_tgkill has_timerfd
                              terminates_unix_names"),
    ("android",    "epoll",  "errno_location=__errno epoll_mod_requeues has_abstract_unix_addr has_accept4 has_epollexclusive
                              has_eventfd has_inotify has_madv_wipeonfork has_o_path has_pollable_files has_pollrdhup
                              has_ppoll has_tgkill has_timerfd terminates_unix_names"),
    ("illumos",    "epoll",  "errno_location=___errno edge_needs_empty_buffer has_accept4 has_eventfd has_pollrdhup
                              has_timerfd"),
    ("redox",      "epoll",  "!has_pthread_atfork !has_waitid"),
    ("cygwin",     "poll",   "errno_location=__errno has_accept4 has_ppoll !has_waitid"),
    ("emscripten", "poll",   "!has_pthread_atfork !has_waitid"),
    ("fuchsia",    "poll",   "!has_waitid"),
    ("haiku",      "poll",   "errno_location=_errnop has_ppoll has_short_backlog status_starts_with_code"),
    ("hurd",       "poll",   "has_ppoll !has_sa_nocldwait"),
    ("nto",        "poll",   "errno_location=__get_errno_ptr !has_sa_restart"),
    ("solaris",    "poll",   "errno_location=___errno"),
    ("vita",       "poll",   "errno_location=__errno !has_fionread !has_pthread_atfork !has_sigaction !has_waitid"),
    // No Unix: `COMMON` does not hold.
    ("windows",    "iocp",   ""),
];

/// The cfgs of every Unix that does not exclude them.
const COMMON: &str =
    "has_fionread has_pollrdhup_of_files has_pthread_atfork has_sa_nocldwait has_sa_restart has_sigaction has_waitid";

/// Every cfg with its meaning, in alphabetical order.
#[rustfmt::skip]
const CFGS: &[(&str, &str)] = &[
    ("edge_needs_empty_buffer", "a write to a pipe or eventfd that is not empty is no edge (illumos.org/issues/13436 and 16700)"),
    ("epoll_mod_requeues", "EPOLL_CTL_MOD reports readiness again, and costs less than a write to an eventfd"),
    ("except_stays_urgent", "a level-triggered knote of EVFILT_EXCEPT still reports urgent data that was read"),
    ("full_pipe_ends_silently", "the knote of EVFILT_WRITE of a full pipe does not fire when the reader leaves"),
    ("has_abstract_unix_addr", "names of Unix sockets that are not in the file system"),
    ("has_accept4", "accept4(2), and socket(2) and pipe2(2) with flags"),
    ("has_busy_poll", "EPIOCSPARAMS of ioctl_eventpoll(2)"),
    ("has_epoll", "epoll(7)"),
    ("has_epoll_pwait2", "epoll_pwait2(2). Before Android 15, a seccomp filter kills each process that calls the function"),
    ("has_epollexclusive", "EPOLLEXCLUSIVE"),
    ("has_eventfd", "eventfd(2)"),
    ("has_evfilt_except", "EVFILT_EXCEPT: urgent data"),
    ("has_evfilt_lio", "EVFILT_LIO"),
    ("has_fionread", "FIONREAD"),
    ("has_inherit_zero", "minherit(2) with INHERIT_ZERO: a page that the kernel clears in a forked child"),
    ("has_inotify", "inotify(7)"),
    ("has_kqueue", "kevent(2), of the system or of libkqueue"),
    ("has_madv_wipeonfork", "madvise(2) with MADV_WIPEONFORK: a page that the kernel clears in a forked child"),
    ("has_mq_descriptors", "POSIX message queues are files, and mq_getattr(2) accepts their descriptors"),
    ("has_negative_backlog", "listen(2) takes -1 for the longest queue"),
    ("has_note_exitstatus", "NOTE_EXITSTATUS: EVFILT_PROC reports the status only if a change has requested it"),
    ("has_o_evtonly", "O_EVTONLY: a file that is opened with this flag does not keep its file system mounted"),
    ("has_o_path", "O_PATH: a descriptor that names a file and does not open it"),
    ("has_pidfd", "pidfd_open(2). Before Android 12, a seccomp filter kills each process that calls the function"),
    ("has_pipe_syscall", "pipe(2) is a system call of its own, and not a call of pipe2(2)"),
    ("has_pollable_files", "regular files that can be waited for: POSIX message queues, and some of /proc"),
    ("has_pollrdhup", "POLLRDHUP: poll(2) reports a half-close"),
    ("has_pollrdhup_of_files", "POLLRDHUP is accepted for a descriptor that is no socket"),
    ("has_ppoll", "ppoll(2), which NetBSD calls pollts(2): poll(2) with nanoseconds and a signal mask"),
    ("has_procdesc", "pdfork(2), pdgetpid(2) and EVFILT_PROCDESC: a descriptor of a process"),
    ("has_pthread_atfork", "pthread_atfork(3)"),
    ("has_sa_nocldwait", "SA_NOCLDWAIT"),
    ("has_sa_restart", "SA_RESTART and SA_ONSTACK"),
    ("has_short_backlog", "listen(2) refuses a queue of more than 32"),
    ("has_sigaction", "sigaction(2)"),
    ("has_so_nosigpipe", "SO_NOSIGPIPE"),
    ("has_tgkill", "tgkill(2): a signal to a thread of a certain process"),
    ("has_timerfd", "timerfd_create(2)"),
    ("has_waitid", "waitid(2) with WNOWAIT"),
    ("ignores_sigio", "the default action of SIGIO is to ignore it; elsewhere it ends the process"),
    ("inherit_zero_is_four", "INHERIT_ZERO of minherit(2) is 4; elsewhere 3"),
    ("libc_lacks_ppoll", "older versions of the crate libc have no ppoll(2) for the system"),
    ("libc_misplaces_si_status", "siginfo_t::si_status of the crate libc reads another place than that of the header"),
    ("links_libkqueue", "kevent(2) is the function of libkqueue"),
    ("ppoll_is_pollts", "ppoll(2) is named pollts(2)"),
    ("selector_has_fd", "the queue of the backend has a descriptor (kqueue and epoll)"),
    ("uses_inotify", "the backend has no filter of file changes, and the system has inotify(7)"),
    ("status_starts_with_code", "the low byte of a wait status is the exit code, and the next byte is the signal"),
    ("terminates_unix_names", "the kernel counts a zero after each name of a Unix socket, as std assumes"),
    ("touch_replaces_udata", "a change without EV_ADD replaces udata, and the kernel evaluates the filter again"),
    ("waits_end_early", "kevent(2) may return a tick early, without an event"),
];

/// The cfgs that a user sets, in `RUSTFLAGS`.
const USER_CFGS: &[&str] = &[
    "kevio_backend, values(\"kqueue\", \"epoll\", \"poll\", \"iocp\")",
    "kevio_compares_libc",
    "kevio_unsupported_force_fallbacks",
    "mio_unsupported_force_poll_poll",
    "mio_unsupported_force_waker_pipe",
];

fn main() {
    println!("cargo:rerun-if-env-changed=KQUEUE_LIB_DIR");
    for cfg in CFGS.iter().map(|(cfg, _)| cfg).chain(USER_CFGS) {
        println!("cargo:rustc-check-cfg=cfg({cfg})");
    }
    println!("cargo:rustc-check-cfg=cfg(errno_location, values(any()))");
    println!("cargo:rustc-check-cfg=cfg(kevio_selector, values(\"kqueue\", \"epoll\", \"poll\", \"iocp\"))");

    let system = match target("vendor").as_str() {
        "apple" => "apple".to_owned(),
        _ => target("os"),
    };
    let (_, default_selector, differences) =
        SYSTEMS.iter().find(|(name, ..)| *name == system).copied().unwrap_or(("", "poll", ""));
    let selector = selector(default_selector);
    println!("cargo:rustc-cfg=kevio_selector=\"{selector}\"");

    let excluded: Vec<&str> =
        differences.split_whitespace().filter_map(|cfg| cfg.strip_prefix('!')).chain(unused()).collect();
    let common = if is_set("unix") { COMMON } else { "" };
    let mut available: Vec<&str> = common.split_whitespace().chain(differences.split_whitespace()).collect();
    available.extend([default_selector, &selector].iter().filter_map(|selector| match *selector {
        "kqueue" => Some("has_kqueue"),
        "epoll" => Some("has_epoll"),
        _ => None,
    }));
    available.extend(["kqueue", "epoll"].contains(&selector.as_str()).then_some("selector_has_fd"));
    let has_inotify = available.contains(&"has_inotify") && !excluded.contains(&"has_inotify");
    available.extend((has_inotify && selector != "kqueue").then_some("uses_inotify"));
    let links_libkqueue = selector == "kqueue" && system == "linux";
    available.extend(links_libkqueue.then_some("links_libkqueue"));
    let errno = differences
        .split_whitespace()
        .find_map(|cfg| cfg.strip_prefix("errno_location="))
        .unwrap_or("__errno_location");
    println!("cargo:rustc-cfg=errno_location=\"{errno}\"");
    for (cfg, _) in CFGS {
        if available.contains(cfg) && !excluded.contains(cfg) {
            println!("cargo:rustc-cfg={cfg}");
        }
    }
    if links_libkqueue {
        link_libkqueue();
    }
}

/// Returns a property of the target, in the spelling of rustc: `os`, `vendor`, `arch`.
fn target(property: &str) -> String {
    env::var(format!("CARGO_CFG_TARGET_{}", property.to_uppercase())).unwrap_or_default()
}

/// Returns `true` if the user or a tool, such as Miri, has set a cfg.
fn is_set(cfg: &str) -> bool {
    env::var_os(format!("CARGO_CFG_{}", cfg.to_uppercase())).is_some()
}

/// Returns the backend that the user forces, or else the backend of the system.
fn selector(default_selector: &str) -> String {
    if let Ok(forced) = env::var("CARGO_CFG_KEVIO_BACKEND") {
        match default_selector {
            "iocp" => assert!(forced == "iocp", "kevio_backend is \"iocp\" on Windows, not {forced:?}"),
            _ => assert!(
                ["kqueue", "epoll", "poll"].contains(&forced.as_str()),
                "kevio_backend is \"kqueue\", \"epoll\" or \"poll\", not {forced:?}"
            ),
        }
        return forced;
    }
    match is_set("mio_unsupported_force_poll_poll") && default_selector != "iocp" {
        true => "poll".to_owned(),
        false => default_selector.to_owned(),
    }
}

/// Returns the cfgs that are not set, although the system has what they name.
fn unused() -> Vec<&'static str> {
    let rules: [(bool, &[&str]); 4] = [
        // With these, a test of a fallback can run on a system that does not need the fallback.
        (is_set("kevio_unsupported_force_fallbacks"), &["has_inotify", "has_pidfd", "has_timerfd"]),
        (is_set("mio_unsupported_force_waker_pipe"), &["has_eventfd"]),
        // Miri stops at a system call that it does not support.
        (
            is_set("miri"),
            &["has_epoll_pwait2", "has_madv_wipeonfork", "has_pidfd", "has_pipe_syscall", "has_pthread_atfork"],
        ),
        // Other architectures have pipe2(2) only, or return the descriptors in registers.
        (!["x86", "x86_64"].contains(&target("arch").as_str()), &["has_pipe_syscall"]),
    ];
    rules.iter().filter(|(holds, _)| *holds).flat_map(|(_, cfgs)| *cfgs).copied().collect()
}

/// Adds a directory to the search path of the linker: the directory that the user has set, or else the directory that pkg-config
/// names.
fn link_libkqueue() {
    if let Some(directory) = env::var("KQUEUE_LIB_DIR").ok().or_else(pkg_config) {
        println!("cargo:rustc-link-search=native={directory}");
    }
}

/// Returns the directory of libkqueue. `None` if pkg-config or the library is not installed.
fn pkg_config() -> Option<String> {
    let output = Command::new("pkg-config").args(["--variable=libdir", "libkqueue"]).output().ok()?;
    let directory = String::from_utf8(output.stdout).ok()?;
    Some(directory.trim().to_owned()).filter(|directory| output.status.success() && !directory.is_empty())
}
