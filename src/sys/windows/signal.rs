//! Signals: the events of the console, as the numbers that Unix and the C runtime have for them.
//!
//! The system calls the handler on a new thread, for each event. The handler counts the signal for each subscribed source. If
//! no source is subscribed, the handler returns `FALSE`, so that the next handler or the default action of the system follows.
//!
//! The handler is installed with the first subscription, and stays. The system holds a lock while handlers run, and
//! SetConsoleCtrlHandler takes that lock. The handler of `CTRL_CLOSE_EVENT` does not return. Therefore the removal of the handler
//! would never return, if a source was dropped while the process ends.
//!
//! <https://learn.microsoft.com/en-us/windows/console/handlerroutine>

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::{fmt, io};

use windows_sys::Win32::System::Console::{
    SetConsoleCtrlHandler, CTRL_BREAK_EVENT, CTRL_CLOSE_EVENT, CTRL_C_EVENT, CTRL_LOGOFF_EVENT, CTRL_SHUTDOWN_EVENT,
};
use windows_sys::Win32::System::RemoteDesktop::ProcessIdToSessionId;

use crate::sys::error::{invalid_input, unsupported};
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::notify::Notify;
use crate::sys::signal_names::SignalNames;

/// `CTRL_CLOSE_EVENT`: the console window was closed. See [`Signals`](crate::Signals).
pub const SIGHUP: i32 = 1;
/// `CTRL_C_EVENT`: Ctrl-C. See [`Signals`](crate::Signals).
pub const SIGINT: i32 = 2;
/// `CTRL_LOGOFF_EVENT` and `CTRL_SHUTDOWN_EVENT`: the user logs off, or the system shuts down. See [`Signals`](crate::Signals).
pub const SIGTERM: i32 = 15;
/// `CTRL_BREAK_EVENT`: Ctrl-Break. See [`Signals`](crate::Signals).
pub const SIGBREAK: i32 = 21;

/// Each event of the console with its signal. `true` if the system ends the process when the handler returns.
const EVENTS: [(u32, i32, bool); 5] = [
    (CTRL_C_EVENT, SIGINT, false),
    (CTRL_BREAK_EVENT, SIGBREAK, false),
    (CTRL_CLOSE_EVENT, SIGHUP, true),
    (CTRL_LOGOFF_EVENT, SIGTERM, true),
    (CTRL_SHUTDOWN_EVENT, SIGTERM, true),
];

/// The signals with their names, for `Debug`.
pub(crate) const NAMES: [(i32, &str); 4] =
    [(SIGHUP, "SIGHUP"), (SIGINT, "SIGINT"), (SIGTERM, "SIGTERM"), (SIGBREAK, "SIGBREAK")];

/// The session of services. Users log on to the others.
const SESSION_OF_SERVICES: u32 = 0;

/// The highest number of a signal that some system has.
const MAX_SIGNAL: i32 = 64;

/// The signals that Unix cannot catch or that report a fault: `SIGILL`, `SIGFPE`, `SIGKILL` and `SIGSEGV`.
const UNCATCHABLE: [i32; 4] = [4, 8, 9, 11];

/// The handler was installed. If two threads install it at the same time, the second entry has no effect.
static IS_INSTALLED: AtomicBool = AtomicBool::new(false);

static SUBSCRIBERS: Mutex<Vec<Arc<SignalCounts>>> = Mutex::new(Vec::new());

/// Fails with `InvalidInput` if the number is no signal, or a signal that cannot be waited for. Fails with `Unsupported` if no
/// event of the console stands for the signal.
pub(crate) fn check(signal: i32) -> io::Result<()> {
    if !(1..=MAX_SIGNAL).contains(&signal) {
        return Err(invalid_input(format!(
            "`Signals::new` cannot receive the signal {signal}, because no system has such a signal: pass a constant of \
             `kevio::windows` such as `kevio::windows::SIGINT`"
        )));
    }
    if UNCATCHABLE.contains(&signal) {
        return Err(invalid_input(format!(
            "`Signals::new` cannot receive the signal {signal}, because it cannot be caught or reports a fault of the \
             program: leave it out of the set"
        )));
    }
    match NAMES.iter().any(|&(known, _)| known == signal) {
        true => Ok(()),
        false => Err(unsupported(format!(
            "`Signals::new` cannot receive the signal {signal}, because no event of the Windows console stands for it: \
             pass `SIGINT`, `SIGBREAK`, `SIGHUP` or `SIGTERM` of `kevio::windows`"
        ))),
    }
}

/// A count for each signal of a set.
#[derive(Debug)]
pub(crate) struct PendingSignals(Vec<(i32, AtomicUsize)>);

impl PendingSignals {
    /// Returns counts of zero for `signals`, which are distinct.
    pub(crate) fn new(signals: &[i32]) -> PendingSignals {
        PendingSignals(signals.iter().map(|&signal| (signal, AtomicUsize::new(0))).collect())
    }

    /// Returns `true` if a signal has arrived since the last [`take`](PendingSignals::take).
    pub(crate) fn is_any(&self) -> bool {
        self.0.iter().any(|(_, count)| count.load(Ordering::SeqCst) > 0)
    }

    /// Returns each signal that has arrived with its count. Each count that is returned becomes zero.
    pub(crate) fn take(&self) -> impl Iterator<Item = (i32, usize)> + '_ {
        let counts = self.0.iter().map(|(signal, count)| (*signal, count.swap(0, Ordering::SeqCst)));
        counts.filter(|&(_, count)| count > 0)
    }

    fn count(&self, signal: i32) {
        if let Some((_, count)) = self.0.iter().find(|(other, _)| *other == signal) {
            count.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// What the handler changes for the signals of one source.
struct SignalCounts {
    signals: Vec<i32>,
    pending: Option<Arc<PendingSignals>>,
    registration: Option<Arc<dyn Notify>>,
}

impl SignalCounts {
    /// Counts a signal and notifies the registration of the source. Called by the handler.
    fn deliver(&self, signal: i32) {
        if let Some(pending) = &self.pending {
            pending.count(signal);
        }
        if let Some(registration) = &self.registration {
            registration.notify();
        }
    }
}

/// The subscription of a source to a set of signals. While the subscription lasts, no default action is taken.
pub(crate) struct SignalSubscription(Arc<SignalCounts>);

impl SignalSubscription {
    /// Subscribes to `signals`, which are distinct. From now on the handler counts each signal in `pending`, and notifies
    /// `registration`.
    pub(crate) fn new(
        signals: &[i32],
        pending: Option<Arc<PendingSignals>>,
        registration: Option<Arc<dyn Notify>>,
    ) -> io::Result<SignalSubscription> {
        let counts = Arc::new(SignalCounts { signals: signals.to_vec(), pending, registration });
        // Without a lock: a handler of the program may run, and may register or drop a source.
        if !IS_INSTALLED.load(Ordering::SeqCst) {
            // SAFETY: the handler is a function of this program.
            if unsafe { SetConsoleCtrlHandler(Some(handle_event), 1) } == 0 {
                return Err(io::Error::last_os_error());
            }
            IS_INSTALLED.store(true, Ordering::SeqCst);
        }
        lock_ignoring_poison(&SUBSCRIBERS).push(Arc::clone(&counts));
        Ok(SignalSubscription(counts))
    }
}

impl Drop for SignalSubscription {
    fn drop(&mut self) {
        lock_ignoring_poison(&SUBSCRIBERS).retain(|counts| !Arc::ptr_eq(counts, &self.0));
    }
}

impl fmt::Debug for SignalSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SignalSubscription").field(&SignalNames(&self.0.signals, &NAMES)).finish()
    }
}

/// The handler of SetConsoleCtrlHandler. The system calls the handler on a thread of its own.
unsafe extern "system" fn handle_event(event: u32) -> i32 {
    let mut session = 0;
    // SAFETY: the system writes one number.
    let is_known = unsafe { ProcessIdToSessionId(std::process::id(), &mut session) } != 0;
    handle(event, if is_known { session } else { SESSION_OF_SERVICES + 1 })
}

/// Handles an event of a process in this session. Returns what the handler returns.
fn handle(event: u32, session: u32) -> i32 {
    let Some((_, signal, ends_process)) = EVENTS.into_iter().find(|&(other, ..)| other == event) else { return 0 };
    if event == CTRL_LOGOFF_EVENT && session == SESSION_OF_SERVICES {
        // Any user has logged off, and the process goes on. A handler that does not return would hold back CTRL_SHUTDOWN_EVENT.
        return i32::from(is_subscribed(signal));
    }
    if !deliver(signal) {
        return 0;
    }
    if !ends_process {
        return 1;
    }
    loop {
        // The program ends in its own way, or the system ends the process after a few seconds. `park` may return at any time.
        std::thread::park();
    }
}

/// Returns `true` if a source is subscribed to the signal.
fn is_subscribed(signal: i32) -> bool {
    lock_ignoring_poison(&SUBSCRIBERS).iter().any(|counts| counts.signals.contains(&signal))
}

/// Delivers a signal to each source that is subscribed to it. Returns `false` if there is none.
fn deliver(signal: i32) -> bool {
    let subscribers = lock_ignoring_poison(&SUBSCRIBERS);
    let mut is_delivered = false;
    for counts in subscribers.iter().filter(|counts| counts.signals.contains(&signal)) {
        counts.deliver(signal);
        is_delivered = true;
    }
    is_delivered
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, Sender};
    use std::time::Duration;

    use super::*;

    struct Notifications(Mutex<Sender<()>>);

    impl Notify for Notifications {
        fn notify(&self) {
            let _ = self.0.lock().unwrap().send(());
        }
    }

    /// Held by each test, because the handler serves the whole process.
    static ALONE: Mutex<()> = Mutex::new(());

    fn subscribe(signals: &[i32]) -> (Arc<PendingSignals>, SignalSubscription) {
        let pending = Arc::new(PendingSignals::new(signals));
        let subscription = SignalSubscription::new(signals, Some(Arc::clone(&pending)), None).unwrap();
        (pending, subscription)
    }

    fn send(event: u32) -> bool {
        handle(event, SESSION_OF_SERVICES + 1) != 0
    }

    #[test]
    fn event_is_counted_for_each_source_until_its_subscription_ends() {
        let _alone = lock_ignoring_poison(&ALONE);
        assert!(!send(CTRL_C_EVENT) && !send(CTRL_CLOSE_EVENT) && !send(99));
        // SAFETY: the system calls the function in the same way.
        assert_eq!(unsafe { handle_event(CTRL_C_EVENT) }, 0);
        let (both, first) = subscribe(&[SIGINT, SIGBREAK]);
        let (other, second) = subscribe(&[SIGINT]);
        assert!(send(CTRL_C_EVENT) && send(CTRL_C_EVENT) && send(CTRL_BREAK_EVENT) && both.is_any());
        assert!(!send(CTRL_CLOSE_EVENT) && !send(CTRL_LOGOFF_EVENT) && !send(CTRL_SHUTDOWN_EVENT));
        assert_eq!(both.take().collect::<Vec<_>>(), [(SIGINT, 2), (SIGBREAK, 1)]);
        assert_eq!(other.take().collect::<Vec<_>>(), [(SIGINT, 2)]);
        assert!(!both.is_any() && both.take().next().is_none());
        drop(first);
        assert!(send(CTRL_C_EVENT) && !send(CTRL_BREAK_EVENT));
        assert!(!both.is_any() && other.is_any());
        drop(second);
        assert!(!send(CTRL_C_EVENT));
    }

    #[test]
    fn service_ignores_that_a_user_logs_off() {
        let _alone = lock_ignoring_poison(&ALONE);
        assert_eq!(handle(CTRL_LOGOFF_EVENT, SESSION_OF_SERVICES), 0);
        let (pending, subscription) = subscribe(&[SIGTERM, SIGINT]);
        assert_eq!(handle(CTRL_LOGOFF_EVENT, SESSION_OF_SERVICES), 1);
        assert!(!pending.is_any());
        assert_eq!(handle(CTRL_C_EVENT, SESSION_OF_SERVICES), 1);
        assert_eq!(pending.take().collect::<Vec<_>>(), [(SIGINT, 1)]);
        drop(subscription);
    }

    /// The handler does not return, so that its thread lasts until the process ends.
    #[test]
    fn handler_of_an_event_that_ends_the_process_notifies_and_does_not_return() {
        let _alone = lock_ignoring_poison(&ALONE);
        for (event, signal) in
            [(CTRL_CLOSE_EVENT, SIGHUP), (CTRL_LOGOFF_EVENT, SIGTERM), (CTRL_SHUTDOWN_EVENT, SIGTERM)]
        {
            let pending = Arc::new(PendingSignals::new(&[signal]));
            let (sender, receiver) = channel();
            let registration = Arc::new(Notifications(Mutex::new(sender))) as Arc<dyn Notify>;
            let subscription =
                SignalSubscription::new(&[signal], Some(Arc::clone(&pending)), Some(registration)).unwrap();
            let (returned, has_returned) = channel();
            std::thread::spawn(move || returned.send(send(event)));
            receiver.recv_timeout(Duration::from_secs(10)).unwrap();
            assert_eq!(pending.take().collect::<Vec<_>>(), [(signal, 1)]);
            // The end of a subscription does not wait for the handler.
            drop(subscription);
            assert!(has_returned.try_recv().is_err());
        }
    }

    #[test]
    fn signals_without_an_event_are_rejected() {
        let kind = |signal| check(signal).unwrap_err().kind();
        assert_eq!([0, -1, 65, i32::MAX, 4, 8, 9, 11].map(kind), [io::ErrorKind::InvalidInput; 8]);
        assert_eq!([3, 5, 6, 10, 12, 13, 14, 22, 28, 64].map(kind), [io::ErrorKind::Unsupported; 10]);
        [SIGHUP, SIGINT, SIGTERM, SIGBREAK].into_iter().try_for_each(check).unwrap();
        assert_eq!(format!("{:?}", SignalNames(&[SIGINT, SIGBREAK, 3], &NAMES)), "[SIGINT, SIGBREAK, 3]");
    }
}
