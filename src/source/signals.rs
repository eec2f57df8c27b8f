use crate::sys::error;
use std::io;
use std::sync::Arc;

use crate::event::Event;
use crate::interest::Interest;
use crate::io_source::IoSource;
use crate::registry::Registry;
use crate::registry::Source;
use crate::source::notification::{FilterSet, KqueueFilter, Mechanism, NotificationSource};
use crate::sys;
use crate::sys::selector::{FilterSpec, Selector};
use crate::sys::signal::{CoalescingNotifier, SignalCounts};
use crate::token::Token;

/// A set of signals as a source: which have come, and how often.
///
/// Register it for [`READABLE`](Interest::READABLE), and ask it with each event. While it is registered, also while
/// [parked](Interest::NONE), the default action of its signals is not taken: `SIGTERM` does not end the program. A handler
/// that was installed before is called as before. What was before comes back when the source is deregistered or dropped,
/// unless somebody has installed a handler in the meantime. Such a handler has the signal first, and where there is no kqueue
/// nothing is told that it does not hand on.
///
/// Signals that come several times may be counted once: the kernel does not queue those that are pending already. What is
/// not asked for is forgotten when the source is deregistered; what comes while it is parked is not told. Reregistering
/// forgets nothing.
///
/// Several of these may have signals in common, on one [`Poll`](crate::Poll) or on many: each of them is told. A forked
/// child receives no signals of its parent's, nor the parent those of the child; there the default action is taken again. The
/// child cannot use this source, and can make its own ([forks](crate#forks)).
///
/// A signal that was sent while it was watched never takes its default action, even if its handler runs after the source is
/// dropped: one that is pending then is discarded. For this the signal is ignored for a moment (unless its default is to be
/// ignored), and a program that another thread starts in that moment ignores it. While the crate's handler runs, and what it
/// calls, every other signal waits, apart from those that report a fault.
///
/// A signal interrupts the wait of the thread that it comes to (`ErrorKind::Interrupted`): poll again, and the event is
/// there. The events come at an edge, also for [`Interest::level`]; one-shot is `Unsupported`, for what came after the one
/// event would be lost.
///
/// # Platform notes
///
/// On kqueue each signal is a filter, there is no descriptor, and a signal can be watched once with each `Poll`: the second
/// is `AlreadyExists`. There each signal makes an event of its own, also one that every thread blocks. Apple and DragonFly
/// do not tell of what was sent to one thread (pthread_kill(3), `raise`); libkqueue blocks them in the thread that
/// registers, whose later threads inherit it, and does not see what another thread takes: block them there. Elsewhere a handler writes to one descriptor. Vita has no signals: `Unsupported`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
///
/// use kevio::{Events, Interest, Poll, Signals, Token};
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// let mut signals = Signals::new([libc::SIGINT, libc::SIGTERM])?;
/// poll.registry().register(&mut signals, Token(1), Interest::READABLE)?;
/// # // A shell would do it.
/// # unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
///
/// // `kill -TERM` of this process, or Ctrl-C:
/// let mut is_over = false;
/// while !is_over {
///     match poll.poll(&mut events, Some(Duration::from_secs(10))) {
///         Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
///         result => result?,
///     }
///     for event in &events {
///         for (signal, count) in signals.received(event)? {
///             println!("signal {signal} came {count} times");
///             is_over = true;
///         }
///     }
///     # assert!(!events.is_empty(), "nothing came");
/// }
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct Signals {
    watched: NotificationSource<Arc<CoalescingNotifier>, FilterSet>,
    counts: Arc<SignalCounts>,
    is_none: bool,
}

impl Signals {
    /// These signals, by their numbers: those of `libc`, as `libc::SIGTERM`.
    ///
    /// Nothing is done to them before it is registered.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: no signal; a number that is none; one that cannot be caught (`SIGKILL`, `SIGSTOP`), or that tells of
    ///   a fault of the program itself (`SIGSEGV`, `SIGILL`, `SIGFPE`, `SIGBUS`).
    /// * `Unsupported`: the system has no signals.
    /// * Those of making a descriptor, where it needs one: eventfd(2) or pipe(2).
    pub fn new(signals: impl IntoIterator<Item = i32>) -> io::Result<Signals> {
        let mut signals: Vec<i32> = signals.into_iter().collect();
        signals.sort_unstable();
        signals.dedup();
        if signals.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a set without signals"));
        }
        let (way, counts) = if <sys::ActiveSelector as Selector>::HAS_FILTERS {
            let counts = SignalCounts::new(&signals, None)?;
            let filters = signals.iter().map(|&signal| KqueueFilter::new(signal, FilterSpec::Signal));
            (Mechanism::Filter(FilterSet::new(filters)), counts)
        } else {
            let bell = CoalescingNotifier::new()?;
            let counts = SignalCounts::new(&signals, Some(Arc::clone(&bell)))?;
            (Mechanism::Descriptor(IoSource::new(bell)), counts)
        };
        Ok(Signals { watched: NotificationSource::new(way), counts, is_none: false })
    }

    /// Which signals have come, of which `event` tells, and how often each. Ask once for each event.
    ///
    /// It may be none: asked twice (a kqueue's event says the same again), or what came was told with an earlier event.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the event is another source's, as far as that can be told.
    pub fn received(&self, event: &Event) -> io::Result<Vec<(i32, u64)>> {
        self.watched.check(event)?;
        match &self.watched.way {
            Mechanism::Filter(filters) => Ok(filters
                .filter_payload(event)
                .map(|(signal, _, count)| (signal, count.max(0) as u64))
                .into_iter()
                .collect()),
            Mechanism::Descriptor(bell) => {
                bell.read_io(|_| Ok(self.counts.take().map(|(signal, count)| (signal, count as u64)).collect()))
            }
        }
    }
}

impl Signals {
    /// Gives the signals back if the registration has ended, be it by an error.
    fn release(&self) {
        if !self.watched.is_registered() {
            self.counts.unsubscribe_all();
        }
    }
}

impl Source for Signals {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        reject_oneshot(interests)?;
        self.watched.register(registry, token, interests)?;
        self.is_none = !interests.is_readable();
        self.counts.take().for_each(drop);
        // Not before: what comes in between does what it does by default, and is not lost.
        if let Err(error) = self.counts.subscribe_all() {
            let _ = self.watched.deregister(registry);
            return Err(error);
        }
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        reject_oneshot(interests)?;
        if self.is_none {
            self.watched.check_process()?;
            self.counts.take().for_each(drop);
        }
        let result = self.watched.reregister(registry, token, interests);
        self.release();
        if result.is_ok() {
            self.is_none = !interests.is_readable();
        }
        result
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let result = self.watched.deregister(registry);
        self.release();
        result
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.counts.unsubscribe_all();
    }
}

fn reject_oneshot(interests: Interest) -> io::Result<()> {
    if interests.is_oneshot() {
        return Err(error::unsupported());
    }
    Ok(())
}
