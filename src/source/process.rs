use std::io;
use std::process::Child;

use crate::event::Event;
use crate::interest::Interest;
use crate::io_source::IoSource;
use crate::registry::Registry;
use crate::registry::Source;
use crate::source::notification::{KqueueFilter, Mechanism, NotificationSource};
use crate::sys;
use crate::sys::process;
use crate::sys::process::ExitNotifier;
use crate::sys::selector::{FilterSpec, Selector};
use crate::token::Token;

/// The end of a process as a source: a child, or any other.
///
/// Register it for [`READABLE`](Interest::READABLE): there is one event when the process has exited, also if it had before.
/// It never reaps: `Child::wait` returns the status, and has to be called. Until then the number stands for this process.
///
/// The event comes once, also for [`Interest::level`]; reregistering brings it again.
///
/// # Platform notes
///
/// On kqueue it is a filter and no descriptor, on Linux from 5.3 a pidfd. Elsewhere it is SIGCHLD, which then has a handler
/// for as long as one of these exists, and a look at the child with waitid(2); there only children of this process can be
/// watched, and the end of one child makes an event of each, so ask. Redox, Cygwin and Vita cannot do that either.
///
/// On kqueue a process can be watched once with each `Poll`; the second is `AlreadyExists`.
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
    watched: NotificationSource<ExitNotifier>,
    pid: libc::pid_t,
}

impl Process {
    /// The end of a child that has not been waited for.
    ///
    /// # Errors
    ///
    /// * `NotFound`: it has been waited for.
    /// * `Unsupported`: the system has no way to tell.
    /// * The system's: too many descriptors.
    pub fn new(child: &Child) -> io::Result<Process> {
        Process::from_pid(child.id() as libc::pid_t)
    }

    /// The end of the process with this number.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: a number that no process has: zero or less.
    /// * `NotFound`: there is no such process.
    /// * `Unsupported`: the system has no way to tell, or not for what is not a child.
    /// * The system's: too many descriptors.
    pub fn from_pid(pid: i32) -> io::Result<Process> {
        process::check_exists(pid)?;
        let way = if <sys::ActiveSelector as Selector>::HAS_FILTERS {
            Mechanism::Filter(KqueueFilter::new(pid, FilterSpec::Process))
        } else {
            Mechanism::Descriptor(IoSource::new(ExitNotifier::of(pid)?))
        };
        Ok(Process { watched: NotificationSource::new(way), pid })
    }

    /// The number of the process.
    #[must_use]
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether the process has exited, of which `event` tells.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the event is another source's, as far as that can be told.
    pub fn has_exited(&self, event: &Event) -> io::Result<bool> {
        self.watched.check(event)?;
        match &self.watched.way {
            Mechanism::Filter(_) => Ok(true),
            Mechanism::Descriptor(exit) if exit.is_certain() => Ok(true),
            Mechanism::Descriptor(exit) => exit.read_io(ExitNotifier::is_over),
        }
    }

    /// A pidfd tells of its end for ever, and of nothing else. SIGCHLD tells of others' ends too, which is no reason to fall
    /// silent; of its own end it tells once in any case.
    fn once(&self, interests: Interest) -> Interest {
        match &self.watched.way {
            Mechanism::Descriptor(exit) if exit.is_certain() => interests.oneshot(),
            Mechanism::Descriptor(_) => interests.level(),
            Mechanism::Filter(_) => interests,
        }
    }

    fn begin(&self) {
        if let Mechanism::Descriptor(exit) = &self.watched.way {
            exit.begin();
        }
    }
}

impl Source for Process {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.watched.register(registry, token, self.once(interests))?;
        self.begin();
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.watched.reregister(registry, token, self.once(interests))?;
        self.begin();
        Ok(())
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.watched.deregister(registry)
    }
}
