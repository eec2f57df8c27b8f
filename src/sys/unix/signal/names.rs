//! The names of signals, for `Debug`.

use std::fmt;

/// Signals that every Unix has. Their numbers differ between systems.
#[cfg(has_sigaction)]
const NAMES: [(libc::c_int, &str); 16] = [
    (libc::SIGHUP, "SIGHUP"),
    (libc::SIGINT, "SIGINT"),
    (libc::SIGQUIT, "SIGQUIT"),
    (libc::SIGABRT, "SIGABRT"),
    (libc::SIGUSR1, "SIGUSR1"),
    (libc::SIGUSR2, "SIGUSR2"),
    (libc::SIGPIPE, "SIGPIPE"),
    (libc::SIGALRM, "SIGALRM"),
    (libc::SIGTERM, "SIGTERM"),
    (libc::SIGCHLD, "SIGCHLD"),
    (libc::SIGCONT, "SIGCONT"),
    (libc::SIGTSTP, "SIGTSTP"),
    (libc::SIGTTIN, "SIGTTIN"),
    (libc::SIGTTOU, "SIGTTOU"),
    (libc::SIGURG, "SIGURG"),
    (libc::SIGWINCH, "SIGWINCH"),
];
#[cfg(not(has_sigaction))]
const NAMES: [(libc::c_int, &str); 0] = [];

/// Writes a list of signals: the name of each, or its number.
pub(crate) struct Names<'a>(pub(crate) &'a [libc::c_int]);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for signal in self.0 {
            match NAMES.iter().find(|(number, _)| number == signal) {
                Some((_, name)) => list.entry(&format_args!("{name}")),
                None => list.entry(signal),
            };
        }
        list.finish()
    }
}
