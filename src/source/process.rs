use std::io;
use std::process::Child;
use std::sync::Arc;

use crate::event::Event;
use crate::interest::Interest;
use crate::registry::{Registry, Source};
use crate::source::notification::{NotificationSource, Origin};
use crate::source::user_registration::Reports;
use crate::sys::notify::Notify;
use crate::sys::process;
use crate::sys::process::ChildExit;
use crate::sys::selector::FilterSpec;
use crate::sys::signal::SignalSubscription;
use crate::token::Token;

/// The exit of a process as a source: of a child, or of any other process.
///
/// Register the source for [`READABLE`](Interest::READABLE). One event is reported when the process has exited, also if the
/// exit came before the registration. The event is reported once, also for [`Interest::level`]. Reregistering reports the event
/// again.
///
/// The source never reaps the process: call `Child::wait`, which returns the exit status. Until that call, no other process
/// gets the process identifier.
///
/// Any thread may register the source and call its methods. A forked child cannot use an inherited source
/// ([forks](crate#forks)).
///
/// # Platform notes
///
/// * kqueue: the source is a filter without a descriptor. A process can be registered once with each `Poll`. A second
///   registration fails with `AlreadyExists`.
/// * Linux 5.3 and later: the source is a pidfd.
/// * Other systems: a SIGCHLD handler is installed while a `Process` is registered, and waitid(2) checks the child. Only children
///   of this process can be waited for.
/// * Redox, Cygwin and Vita: `Unsupported`.
///
/// # Examples
///
/// ```
/// use kevio::{Events, Interest, Poll, Process, Token};
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// let mut child = std::process::Command::new("true").spawn()?;
/// let mut process = Process::new(&child)?;
/// poll.registry().register(&mut process, Token(1), Interest::READABLE)?;
///
/// let mut has_exited = false;
/// while !has_exited {
///     poll.poll_until(&mut events, None)?;
///     for event in &events {
///         has_exited |= process.has_exited(event)?;
///     }
/// }
/// assert!(child.wait()?.success());
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Process {
    /// The subscription to SIGCHLD, where the kernel has neither a filter nor a descriptor of the process.
    // Dropped before `source`, so that the handler is removed first.
    subscription: Option<SignalSubscription>,
    source: NotificationSource<ChildExit>,
    pid: libc::pid_t,
}

impl Reports for ChildExit {
    fn has_report(&self) -> bool {
        self.take_exit()
    }
}

impl Process {
    /// Creates a source for the exit of a child that was not waited for yet.
    ///
    /// # Errors
    ///
    /// * `NotFound`: the child was waited for.
    /// * `Unsupported`: the system cannot report the exit of a process.
    /// * Errors of the system, for example too many open descriptors.
    pub fn new(child: &Child) -> io::Result<Process> {
        Process::from_pid(child.id() as libc::pid_t)
    }

    /// Creates a source for the exit of the process with this identifier.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: `pid` is zero or negative.
    /// * `NotFound`: no such process exists.
    /// * `Unsupported`: the system cannot report the exit of a process, or can report only the exit of a child.
    /// * Errors of the system, for example too many open descriptors.
    pub fn from_pid(pid: i32) -> io::Result<Process> {
        process::check_exists(pid)?;
        let source = NotificationSource::new(FilterSpec::Process, [pid], || match process::pidfd_open(pid)? {
            Some(pidfd) => Ok(Origin::Descriptor(pidfd)),
            None => ChildExit::of(pid).map(Origin::State),
        })?;
        Ok(Process { subscription: None, source, pid })
    }

    /// Returns the process identifier.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Returns `true` if the process has exited. `event` is an event of this source.
    ///
    /// # Errors
    ///
    /// `InvalidInput`: the event belongs to another source. Not every such event can be detected.
    pub fn has_exited(&self, event: &Event) -> io::Result<bool> {
        self.source.read(event, |_| true, || Ok(true))
    }

    /// Returns `true` if the source is registered with a poll that exists.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.source.has_live_poll()
    }

    /// Returns the interest with the trigger mode that reports the exit once: a pidfd stays readable after the exit.
    fn with_trigger_mode(&self, interests: Interest) -> Interest {
        match self.source.descriptor() {
            Some(_) => interests.oneshot(),
            None => interests,
        }
    }
}

impl Source for Process {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        let (interests, mut subscription) = (self.with_trigger_mode(interests), None);
        self.source.register_and(registry, token, interests, |source| {
            if let Some((child, Some(registration))) = source.user_state() {
                child.rearm();
                let registration = Arc::clone(registration) as Arc<dyn Notify>;
                subscription = Some(child.subscribe(Arc::clone(&registration))?);
                // The child may have exited before the subscription.
                registration.notify();
            }
            Ok(())
        })?;
        self.subscription = subscription;
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        if let Some((child, _)) = self.source.user_state() {
            child.rearm();
        }
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
