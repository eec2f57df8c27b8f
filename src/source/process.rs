#[cfg(unix)]
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
#[cfg(windows)]
use std::os::windows::io::{BorrowedHandle, OwnedHandle};
use std::process::{Child, ExitStatus};
use std::sync::Arc;
use std::{fmt, io};

use crate::event::Event;
use crate::interest::Interest;
use crate::registry::{Registry, Source};
use crate::source::notification::{NotificationSource, Origin, SourceState};
use crate::source::user_registration::Reports;
#[cfg(unix)]
use crate::sys::error;
use crate::sys::notify::Notify;
use crate::sys::process::{self, ChildExit, ExitSubscription, Pid, RawStatus};
use crate::sys::selector::FilterSpec;
use crate::token::Token;

/// The exit of a process as a source: of a child, or of any other process.
///
/// The page [processes](crate::guide::processes) explains the loop around this source.
///
/// Register the source for [`READABLE`](Interest::READABLE). One event is reported when the process has exited, also if the
/// exit came before the registration. The event is reported once, also for [`Interest::level`]. Reregistering reports the event
/// again.
///
/// The source never reaps the process: call `Child::wait` or `Child::try_wait`. Until that call, no other process gets the
/// process identifier. As soon as a poll has returned the event of a child, `Child::try_wait` returns its exit status. Some
/// kernels report an exit before the child can be reaped; the source waits out that moment. A child that another process
/// traces can be reaped only after that process has waited for it.
///
/// [`Process::status`] returns the exit status without reaping, if the system provides the status.
///
/// There are three ways to a source: [`Process::new`] of a child, [`Process::from_pid`] of a number, which may be reused after
/// the process was reaped, and `Process::from_fd` of a descriptor, which always stands for the same process. On Windows
/// `Process::from_handle` takes the place of `from_fd`.
///
/// Any thread may register the source and call its methods. A forked child cannot use an inherited source
/// ([forks](crate::guide::forks)).
///
/// # Platform notes
///
/// * kqueue: the source is a filter without a descriptor. A process can be registered once with each `Poll`. A second
///   registration fails with `AlreadyExists`. A child whose exit was reported by the kernel and which cannot be reaped yet is
///   checked again every 4 milliseconds. The poll does not block for such a child. On OpenBSD this needs waitid(2) of 7.3.
/// * FreeBSD: [`from_fd`][Process::from_fd] accepts the process descriptor of pdfork(2). When its last descriptor is closed, the
///   kernel kills the process (without `PD_DAEMON`), or reaps it if it has exited.
/// * Linux 5.3 and later: the source is a pidfd.
/// * Other systems: a SIGCHLD handler is installed while a `Process` is registered, and waitid(2) checks the child. Only children
///   of this process can be waited for. If the program replaces the handler, or blocks SIGCHLD in every thread, nothing is
///   reported. If the program ignores SIGCHLD, the kernel reaps the child, and some systems send no signal.
/// * Windows: the source has a handle of the process. A thread of the [thread pool] waits for the handle, and wakes the poll.
///   The identifier of a process is a `u32`. Windows has no zombies: a process and its exit status exist while any handle of
///   the process is open. Therefore [`new`](Process::new) succeeds also after `Child::wait`, and the exit is reported at once.
/// * Redox, Cygwin, Vita, Emscripten and Fuchsia: `Unsupported`.
///
/// [thread pool]: https://learn.microsoft.com/en-us/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-setthreadpoolwait
///
/// # Examples
///
/// ```
/// use std::process::Command;
///
/// use kevio::{Events, Interest, Poll, Process, Token};
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// let [shell, option] = if cfg!(windows) { ["cmd", "/C"] } else { ["sh", "-c"] };
/// let mut child = Command::new(shell).args([option, "exit 3"]).spawn()?;
/// let mut process = Process::new(&child)?;
/// poll.registry().register(&mut process, Token(1), Interest::READABLE)?;
///
/// let mut has_exited = false;
/// while !has_exited {
///     poll.poll_until(&mut events, None)?;
///     for event in &events {
///         if process.has_exited(event)? {
///             has_exited = true;
///             println!("{process:?} has exited: {:?}", process.status(event)?);
///         }
///     }
/// }
/// // The child can be reaped at once.
/// let status = child.try_wait()?.expect("the child has exited");
/// assert_eq!(status.code(), Some(3));
/// # std::io::Result::Ok(())
/// ```
#[cfg_attr(unix, doc = include_str!("../doc_links/unix.md"))]
#[cfg_attr(windows, doc = include_str!("../doc_links/windows.md"))]
pub struct Process {
    /// The subscription to SIGCHLD, where the kernel has neither a filter nor a descriptor of the process.
    // Dropped before `source`, so that the handler is removed first.
    subscription: Option<ExitSubscription>,
    source: NotificationSource<ChildExit>,
    pid: Pid,
    /// The descriptor of [`Process::from_fd`], if the source is a filter. Dropped after the source.
    #[cfg(unix)]
    fd: Option<OwnedFd>,
}

impl SourceState for ChildExit {
    const NAME: &'static str = "Process";
}

impl Reports for ChildExit {
    fn has_report(&self) -> bool {
        self.take_exit()
    }

    fn rearm(&self) -> bool {
        ChildExit::rearm(self)
    }
}

impl Process {
    /// Creates a source for the exit of a child that was not waited for yet.
    ///
    /// # Errors
    ///
    /// * `NotFound` (not on Windows): the child was waited for, also if another process has its identifier now. If another child
    ///   of this process has it, the reuse cannot be detected. Also in a forked child of the parent of `child`.
    /// * `Unsupported`: the system cannot report the exit of a process.
    /// * Errors of the system, for example too many open descriptors.
    pub fn new(child: &Child) -> io::Result<Process> {
        #[cfg(unix)]
        {
            let pid = child.id() as Pid;
            process::check_is_child(pid)?;
            Process::from_pid(pid)
        }
        #[cfg(windows)]
        {
            Process::of_state(ChildExit::of_child(child)?)
        }
    }

    /// Creates a source for the exit of the process with this identifier.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: `pid` is zero or negative, or (on Linux) the identifier of a thread that is not the first of its
    ///   process.
    /// * `NotFound`: no such process exists.
    /// * `PermissionDenied` (on Windows): the program may not open the process with `SYNCHRONIZE` and
    ///   `PROCESS_QUERY_LIMITED_INFORMATION`. Many processes of the system and of other users are such.
    /// * `Unsupported`: the system cannot report the exit of a process, or can report only the exit of a child.
    /// * Errors of the system, for example too many open descriptors.
    pub fn from_pid(pid: Pid) -> io::Result<Process> {
        #[cfg(unix)]
        {
            process::check_exists(pid)?;
            let source = NotificationSource::new(FilterSpec::Process, [pid], || match process::pidfd_open(pid)? {
                Some(pidfd) => Ok(Origin::Descriptor(pidfd)),
                None => ChildExit::of(pid).map(Origin::State),
            })?;
            Ok(Process { subscription: None, source, pid, fd: None })
        }
        #[cfg(windows)]
        {
            Process::of_state(ChildExit::of(pid)?)
        }
    }

    /// Creates a source for the exit of the process with this descriptor: a pidfd on Linux, a process descriptor of pdfork(2) on
    /// FreeBSD. The source owns the descriptor, which [`as_fd`](Process::as_fd) borrows.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the descriptor is of another kind, or a pidfd of a thread (`PIDFD_THREAD`).
    /// * `NotFound` (on Linux): the process was reaped, or has no identifier in the namespace of this process.
    /// * `Unsupported`: the system has no such descriptors.
    #[cfg(unix)]
    pub fn from_fd(fd: OwnedFd) -> io::Result<Process> {
        let pid = process::pid_of_descriptor(fd.as_fd())?;
        let (filter, ident) = process::filter_of_descriptor(fd.as_raw_fd(), pid);
        let mut fd = Some(fd);
        let source = NotificationSource::new(filter, [ident], || {
            fd.take().map(Origin::Descriptor).ok_or_else(error::not_found)
        })?;
        Ok(Process { subscription: None, source, pid, fd })
    }

    /// Returns the descriptor of the process: a pidfd, or the descriptor of [`from_fd`](Process::from_fd).
    ///
    /// `None` if the source needs no descriptor (kqueue), or has none that stands for the process (a SIGCHLD handler). Therefore
    /// `Process` does not implement `AsFd`. Do not register the descriptor with the same poll again.
    #[cfg(unix)]
    #[must_use]
    pub fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        let kept = self.fd.as_ref().map(OwnedFd::as_fd);
        kept.or_else(|| self.source.descriptor().map(OwnedFd::as_fd))
    }

    /// Creates a source for the exit of the process with this handle. The source owns the handle, which
    /// [`as_handle`](Process::as_handle) borrows. The handle stands for the same process as long as it is open.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the handle is of another kind.
    /// * `PermissionDenied`: the handle lacks the [access right] `SYNCHRONIZE` or `PROCESS_QUERY_LIMITED_INFORMATION`.
    ///
    /// [access right]: https://learn.microsoft.com/en-us/windows/win32/procthread/process-security-and-access-rights
    #[cfg(windows)]
    pub fn from_handle(handle: OwnedHandle) -> io::Result<Process> {
        Process::of_state(ChildExit::of_handle(handle)?)
    }

    /// Returns the handle of the process, which is always `Some`. The option is that of `as_fd` on other systems.
    #[cfg(windows)]
    #[must_use]
    pub fn as_handle(&self) -> Option<BorrowedHandle<'_>> {
        self.source.user_state().map(|(process, _)| process.handle())
    }

    #[cfg(windows)]
    fn of_state(state: ChildExit) -> io::Result<Process> {
        let pid = state.pid();
        let source = NotificationSource::new(FilterSpec::Process, [], || Ok(Origin::State(state)))?;
        Ok(Process { subscription: None, source, pid })
    }

    /// Returns `true` if the source is registered with a poll that exists.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.source.has_live_poll()
    }

    /// Returns the process identifier.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Returns `true` if the process has exited. `event` is an event of this source.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the event belongs to another source. Not every such event can be detected.
    pub fn has_exited(&self, event: &Event) -> io::Result<bool> {
        self.source.read("has_exited", event, |_| true, || Ok(true))
    }

    /// Returns the exit status of the process, without reaping the process. `event` is an event of this source.
    ///
    /// `None` if the process has not exited ([`has_exited`](Process::has_exited)), or if the system does not provide the status:
    ///
    /// * kqueue: the event contains the status, which does not change when the process is reaped. On Apple's systems the status
    ///   of a process that is no child is available only if this process may send signals to it. On Apple's systems, NetBSD and
    ///   OpenBSD it is not available if that process had exited before it was registered.
    /// * Linux: the status of a child is available until the child is reaped, and with Linux 6.15 and later also afterwards. The
    ///   status of another process is available with Linux 6.15 and later, after its parent has reaped it.
    /// * Windows: the status is available for every process, also after `Child::wait` ([GetExitCodeProcess]).
    /// * Other systems: the status is available until the child is reaped.
    ///
    /// The status contains the low byte of the exit code, and on Windows all bits. On NetBSD `Child::wait` returns all bits, so
    /// that two such values may differ although `ExitStatus::code` is the same.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the event belongs to another source. Not every such event can be detected.
    ///
    /// [GetExitCodeProcess]:
    ///     https://learn.microsoft.com/en-us/windows/win32/api/processthreadsapi/nf-processthreadsapi-getexitcodeprocess
    pub fn status(&self, event: &Event) -> io::Result<Option<ExitStatus>> {
        let status = self.source.read(
            "status",
            event,
            |payload| (payload.fflags != 0).then_some(payload.data as RawStatus),
            || Ok(self.raw_status()),
        )?;
        Ok(status.map(process::exit_status))
    }

    /// Returns the exit status of the process, if the system provides the status.
    fn raw_status(&self) -> Option<RawStatus> {
        #[cfg(unix)]
        match self.as_fd() {
            Some(fd) => process::status_of_descriptor(fd, self.pid),
            None => process::status_of_child(self.pid),
        }
        #[cfg(windows)]
        self.source.user_state().and_then(|(process, _)| process.status())
    }

    /// Returns the interest with the trigger mode that reports the exit once: a pidfd stays readable after the exit.
    fn with_trigger_mode(&self, interests: Interest) -> Interest {
        match self.source.descriptor() {
            Some(_) => interests.oneshot(),
            None => interests,
        }
    }
}

/// Writes the process identifier, and if the source is registered.
impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Process").field("pid", &self.pid).field("is_registered", &self.is_registered()).finish()
    }
}

impl Source for Process {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        let (interests, mut subscription) = (self.with_trigger_mode(interests), None);
        let result = self.source.register_and(registry, token, interests, |source| {
            if let Some((child, Some(registration))) = source.user_state() {
                child.rearm();
                let registration = Arc::clone(registration) as Arc<dyn Notify>;
                subscription = Some(child.subscribe(Arc::clone(&registration))?);
                // The child may have exited before the subscription.
                registration.notify();
            }
            Ok(())
        });
        if result.is_ok() || !self.source.is_registered() {
            self.subscription = subscription;
        }
        result
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.source.reregister(registry, token, self.with_trigger_mode(interests))
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let result = self.source.deregister(registry);
        if !self.source.is_registered() {
            self.subscription = None;
        }
        result
    }
}
