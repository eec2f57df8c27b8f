use std::fmt;

/// The system call with which a build of kevio waits: see [`BACKEND`](crate::BACKEND).
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Backend {
    /// kqueue(2): Apple systems, the BSDs, and Linux with libkqueue.
    Kqueue,
    /// epoll(7): Linux, Android, illumos, Redox.
    Epoll,
    /// poll(2): every other Unix.
    Poll,
    /// An I/O completion port: Windows.
    Iocp,
}

impl Backend {
    /// Returns `"kqueue"`, `"epoll"`, `"poll"` or `"iocp"`, as in `--cfg kevio_backend="…"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Backend::Kqueue => "kqueue",
            Backend::Epoll => "epoll",
            Backend::Poll => "poll",
            Backend::Iocp => "iocp",
        }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
