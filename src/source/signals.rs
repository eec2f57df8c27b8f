use std::sync::Arc;
use std::{fmt, io};

use crate::event::Event;
use crate::interest::Interest;
use crate::registry::{Registry, Source};
use crate::source::kqueue_filter::FilterPayload;
use crate::source::notification::{NotificationSource, Origin, SourceState};
use crate::source::user_registration::Reports;
use crate::sys::error;
use crate::sys::notify::Notify;
use crate::sys::selector::FilterSpec;
use crate::sys::signal::{self, PendingSignals, SignalSubscription};
use crate::sys::signal_names::SignalNames;
use crate::token::Token;

/// A set of signals as a source. The source reports which signals have arrived, and how often.
///
/// The page [signals](crate::guide::signals) explains the loop around this source.
///
/// Register the source for [`READABLE`](Interest::READABLE), and call [`received`](Signals::received) for each event. The
/// events are edge-triggered, also for [`Interest::level`]. One-shot is `Unsupported`, because signals after the one event
/// would be lost.
///
/// **Actions.** While the source is registered, the default action of its signals is not taken. For example, `SIGTERM` does not
/// end the program. [`Interest::NONE`] makes no difference. A handler that was installed before is still called. If that handler
/// has `SA_RESETHAND`, it is called once. Deregistering or dropping the source restores the previous action, unless the program
/// has installed a handler since.
///
/// **Later handlers.** A handler that the program installs after the registration runs first. Except on kqueue, the signal is
/// then reported only if that handler calls the previous one. If the program ignores the signal or restores the default action
/// instead, other backends report nothing. The next registration for the signal, by any source, ends this state: the handler of
/// the crate is installed on top, and calls the handler of the program. When the last source is deregistered, the action that
/// the program has set is restored. A handler that the program has removed meanwhile, by restoring the action before that
/// handler, is neither called nor restored.
///
/// **Ignored signals.** Registering a signal that the program ignores is a request to receive it, so the signal is reported.
/// Deregistering ignores the signal again. nohup(1) ignores `SIGHUP`, and a shell ignores `SIGINT` and `SIGQUIT` for a program in
/// the background. A program that keeps such a signal ignored, as shells do, checks with sigaction(2) before it adds the signal
/// to the set. While the source is registered, a program that is started (exec(3)) begins with the default action of the signal.
///
/// **`SIGCHLD`.** If the program ignores `SIGCHLD`, the kernel reaps its children, also while a source is registered. The signal
/// of such a child is reported on Linux, and may be missing on other systems.
///
/// **Blocked signals.** If every thread blocks a signal, the signal stays pending. kqueue reports it nevertheless. On other
/// backends, a signal is reported when a thread unblocks it. This holds for `SIGCHLD` too, but FreeBSD discards a pending
/// `SIGCHLD` when the child is reaped.
///
/// **Counts.** The kernel does not queue a signal that is pending already, so several signals may be counted as one.
/// Deregistering discards the signals that `received` has not returned yet. Signals that arrive while the interest is
/// [`NONE`](Interest::NONE) are discarded. Reregistering an enabled source keeps its signals. Several sources may have signals
/// in common, on one [`Poll`](crate::Poll) or on several: each source counts the signal.
///
/// **Late signals.** A signal that was sent while the source was registered never takes its default action, even if its handler
/// runs after the source was dropped. Therefore deregistering or dropping the source discards a pending signal. For a moment
/// the action of the signal is to ignore it, unless the default action has no effect anyway. If another thread starts a program
/// in that moment, the program ignores the signal.
///
/// **Threads.** Any thread may register the source and call `received`. A signal interrupts the wait of the thread to which the
/// kernel delivers the signal (`ErrorKind::Interrupted`). The next poll reports the event. While the handler of the crate and
/// the handlers that it calls run, every other signal is blocked, except signals that report a fault, and `SIGABRT` while a
/// handler of the program runs.
///
/// **Forks.** A forked child receives no signals of its parent, and the parent none of the child. In the child the default
/// action is taken again. If the child registers an inherited source with a poll of its own, the source of the child is made
/// anew, and that of the parent does not change ([forks](crate::guide::forks)).
///
/// # Platform notes
///
/// * kqueue: each signal is a filter, and the source has no descriptor. A signal can be registered once with each `Poll`. A
///   second registration fails with `AlreadyExists`. Each signal has an event of its own.
/// * Apple and DragonFly: a signal that every thread blocks is reported when a thread unblocks it. A signal that was sent to one
///   thread (pthread_kill(3), `raise`) is not reported.
/// * libkqueue: the signals are blocked in the thread that registers, and in threads that it starts later. A signal that another
///   thread receives is not reported, so block the signals there.
/// * Windows: the events of the console are signals ([HandlerRoutine]), with constants in `kevio::windows`. Ctrl-C is `SIGINT`,
///   Ctrl-Break is `SIGBREAK`, the closing of the console is `SIGHUP`, and the end of the session or of the system is
///   `SIGTERM`. Other signals are `Unsupported`. See [below](#windows).
/// * Vita has no signals: `Unsupported`.
/// * Other systems: a signal handler counts the signal and wakes the poll. The source has no descriptor. If the poll has no
///   wake-up descriptor yet, registering opens it, and can fail with the errors of eventfd(2) or pipe(2).
///
/// # Windows
///
/// The system calls the handler of the crate on a new thread for each event, so that no wait is interrupted and every event is
/// counted. Handlers are called in the reverse order of their installation, until one returns `TRUE`. The handler of the crate
/// is installed with the first registration, and stays. While a source is registered for the signal, the handler returns `TRUE`.
/// Otherwise the handler returns `FALSE`, so that the next handler or the default action follows. A handler that the program
/// installs later can end the event before the crate counts it.
///
/// When the handler of `SIGHUP` or `SIGTERM` returns, the system ends the process. Therefore the handler of the crate does not
/// return, and the program has the time until the system ends the process: about 5 seconds for `SIGHUP`, and 5 to 20 seconds for
/// `SIGTERM`. The program can end earlier at any time. During that time SetConsoleCtrlHandler blocks in other threads.
///
/// The system sends the events of logging off and of shutting down only to services, and to programs that use neither user32.dll
/// nor gdi32.dll. A service is notified of every user who logs off, and goes on. Therefore logging off is no `SIGTERM` in the
/// session of services (session 0), and while a source is registered for `SIGTERM`, the handler ends the event. A program that
/// was started with `CREATE_NEW_PROCESS_GROUP` ignores Ctrl-C until it calls
/// [SetConsoleCtrlHandler] with `NULL` and `FALSE`. A registration does not change that. A program without a console receives
/// no Ctrl-C and no Ctrl-Break.
///
/// [HandlerRoutine]: https://learn.microsoft.com/en-us/windows/console/handlerroutine
/// [SetConsoleCtrlHandler]: https://learn.microsoft.com/en-us/windows/console/setconsolectrlhandler
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "os-ext")] {
/// use std::time::Duration;
///
/// use kevio::{Events, Interest, Poll, Signals, Token};
/// #[cfg(windows)]
/// use kevio::windows::{SIGINT, SIGTERM};
/// #[cfg(unix)]
/// use libc::{SIGINT, SIGTERM};
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// let mut signals = Signals::new([SIGINT, SIGTERM])?;
/// poll.registry().register(&mut signals, Token(1), Interest::READABLE)?;
/// # // In place of a shell:
/// # #[cfg(unix)]
/// # unsafe { libc::kill(libc::getpid(), SIGTERM) };
/// # if cfg!(windows) { return Ok(()); }
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
/// # }
/// # std::io::Result::Ok(())
/// ```
pub struct Signals {
    // Dropped before `source`, so that the handler is removed first.
    subscription: Option<SignalSubscription>,
    source: NotificationSource<PendingSignals>,
    signals: Vec<i32>,
}

impl SourceState for PendingSignals {
    const NAME: &'static str = "Signals";
}

impl Reports for PendingSignals {
    fn has_report(&self) -> bool {
        self.is_any()
    }

    fn rearm(&self) -> bool {
        self.is_any()
    }
}

impl Signals {
    /// Creates a source for these signals, given by their numbers: constants of `libc` such as `libc::SIGTERM`, and on Windows
    /// of `kevio::windows`.
    ///
    /// The actions of the signals do not change before the source is registered.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the set is empty, a number is no signal, or a signal cannot be waited for. Such signals are those that
    ///   cannot be caught (`SIGKILL`, `SIGSTOP`), and those that report a fault of the program (`SIGSEGV`, `SIGILL`, `SIGFPE`,
    ///   `SIGBUS`).
    /// * `Unsupported`: the system has no signals. On Windows: no event of the console stands for the signal.
    pub fn new(signals: impl IntoIterator<Item = i32>) -> io::Result<Signals> {
        let mut signals: Vec<i32> = signals.into_iter().collect();
        signals.sort_unstable();
        signals.dedup();
        if signals.is_empty() {
            return Err(error::invalid_input(
                "the set of signals of `Signals::new` is empty: pass at least one signal, such as `libc::SIGTERM`",
            ));
        }
        signals.iter().try_for_each(|&signal| signal::check(signal))?;
        let pending = || Ok(Origin::State(PendingSignals::new(&signals)));
        let source = NotificationSource::new(FilterSpec::Signal, signals.iter().copied(), pending)?;
        Ok(Signals { subscription: None, source, signals })
    }

    /// Returns `true` if the source is registered with a poll that exists.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.source.has_live_poll()
    }

    /// Returns the signals that have arrived, each with its count. `event` is an event of this source.
    ///
    /// Call this function once for each event. The result is empty if the signals were returned for an earlier event. On
    /// kqueue, a second call for the same event returns the same signals again.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the event belongs to another source. Not every such event can be detected.
    /// * `Unsupported`: the caller is a forked child that has not registered the source ([forks](crate::guide::forks)).
    pub fn received(&self, event: &Event) -> io::Result<Vec<(i32, u64)>> {
        let decode = |filter: FilterPayload| vec![(filter.ident, filter.data.max(0) as u64)];
        self.source.read("received", event, decode, || Ok(self.take_counts()))
    }

    /// Returns the signals that were counted, and sets their counts to zero.
    fn take_counts(&self) -> Vec<(i32, u64)> {
        let counts = self.source.user_state().map(|(pending, _)| pending.take());
        counts.into_iter().flatten().map(|(signal, count)| (signal, count as u64)).collect()
    }

    /// Ends the subscription if the source is not registered any more. A failed change can end the registration.
    fn unsubscribe_if_not_registered(&mut self) {
        if !self.source.is_registered() {
            self.subscription = None;
        }
    }
}

/// Writes the names of the signals (the numbers of uncommon ones), and if the source is registered.
impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut signals = f.debug_struct("Signals");
        signals
            .field("signals", &SignalNames(&self.signals, &signal::NAMES))
            .field("is_registered", &self.is_registered())
            .finish()
    }
}

impl Source for Signals {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        reject_oneshot(interests)?;
        registry.check_process()?;
        // A forked child makes the source anew, and the parent keeps its registration. If the poll was dropped, the earlier
        // subscription lasts until the new one begins, and must not count for both.
        let is_stale = self.subscription.is_some() && !self.source.has_live_poll();
        if is_stale || self.source.check_process().is_err() {
            self.source = Signals::new(self.signals.iter().copied())?.source;
        }
        let signals = &self.signals;
        let mut subscription = None;
        // The subscription comes last, because a signal before the subscription takes its default action and is not lost.
        let result = self.source.register_and(registry, token, interests, |source| {
            let (pending, registration) = source.user_state().unzip();
            if let Some(pending) = pending {
                pending.take().for_each(drop);
            }
            let registration = registration.flatten().map(|registration| Arc::clone(registration) as Arc<dyn Notify>);
            subscription = Some(SignalSubscription::new(signals, pending.cloned(), registration)?);
            Ok(())
        });
        match result {
            // If the source was registered with a poll that was dropped, the earlier subscription ends here.
            Ok(()) => self.subscription = subscription,
            Err(_) => self.unsubscribe_if_not_registered(),
        }
        result
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        reject_oneshot(interests)?;
        if self.source.is_disabled() {
            self.source.check_process()?;
            drop(self.take_counts());
        }
        let result = self.source.reregister(registry, token, interests);
        self.unsubscribe_if_not_registered();
        result
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let result = self.source.deregister(registry);
        self.unsubscribe_if_not_registered();
        result
    }
}

/// Fails with `Unsupported` if the interest is one-shot.
fn reject_oneshot(interests: Interest) -> io::Result<()> {
    if interests.is_oneshot() {
        return Err(error::unsupported(
            "a `Signals` source cannot be registered with `Interest::oneshot`, because signals after the one event \
             would be lost: register it for `Interest::READABLE`",
        ));
    }
    Ok(())
}
