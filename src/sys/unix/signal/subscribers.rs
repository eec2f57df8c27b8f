//! Subscriptions of sources to signals.
//!
//! The first subscription to a signal installs the handler of the crate, and the end of the last one restores the previous
//! action. In between, a subscription publishes a new [`Subscribers`]. If the program has replaced the handler of the crate, the
//! subscription installs it again, one level higher. handler.rs explains the algorithm.
#![allow(clippy::unnecessary_cast)] // The type of the field differs from system to system.

use std::io;
use std::ptr;
use std::sync::atomic::Ordering;
use std::sync::Arc;

use libc::c_int;

use crate::sys::error::invalid_input;
use crate::sys::notify::Notify;
use crate::sys::unix::fork;
use crate::sys::unix::fork::ForkLock;
use crate::sys::unix::signal::action::{has_no_handler, is_ignored_by_default, sigaction, without_handler};
use crate::sys::unix::signal::calls::marker;
use crate::sys::unix::signal::counts::{PendingSignals, SignalCounts};
use crate::sys::unix::signal::handler::{self, level_of, slot, Level, Owner, Slot, Subscribers, MAX_LEVELS};

/// The signals that cannot be caught, and those that report a fault of the program: when a handler returns, the instruction
/// faults again.
const UNCATCHABLE: [c_int; 6] = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGBUS];

/// The signals that report a fault of the running thread, and `SIGABRT`. If a fault is blocked, the fault ends the process.
/// Otherwise a handler of the program can repair the fault: a stack that grows, or a call that a seccomp filter passes to the
/// program.
const FAULTS: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// Held while a slot changes. A process may be forked in the middle of a change; `subscribe` handles the state that the child
/// inherits.
static SUBSCRIBE_LOCK: ForkLock<()> = ForkLock::new();

/// Fails with `InvalidInput` if the number is no signal, or a signal that cannot be waited for.
pub(crate) fn check(signal: c_int) -> io::Result<()> {
    if UNCATCHABLE.contains(&signal) {
        return Err(invalid_input(format!(
            "`Signals::new` cannot receive the signal {signal}, because it cannot be caught or reports a fault of the \
             program: leave it out of the set"
        )));
    }
    slot(signal).and_then(|_| sigaction(signal, None)).map(drop).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => invalid_input(format!(
            "`Signals::new` cannot receive the signal {signal}, because this system has no such signal for programs: \
             pass a constant of `libc` such as `libc::SIGTERM`"
        )),
        _ => error,
    })
}

/// The subscription of a source to a set of signals. While the subscription lasts, no default action is taken.
#[derive(Debug)]
pub(crate) struct SignalSubscription {
    counts: Arc<SignalCounts>,
    /// The generation of the process that is subscribed.
    generation: u32,
}

impl SignalSubscription {
    /// Subscribes to `signals`, which are distinct. From now on the handler counts each signal in `pending`, and notifies
    /// `registration`. Both are `None` where a kqueue filter reports the signals. The handler of the crate becomes the current
    /// action of each signal. If an error is returned, the process is not subscribed to any signal of the set.
    pub(crate) fn new(
        signals: &[c_int],
        pending: Option<Arc<PendingSignals>>,
        registration: Option<Arc<dyn Notify>>,
    ) -> io::Result<SignalSubscription> {
        let counts = Arc::new(SignalCounts::new(signals, pending, registration));
        let subscription = SignalSubscription { counts, generation: fork::generation() };
        subscription.counts.signals().try_for_each(|signal| subscribe(signal, &subscription.counts))?;
        Ok(subscription)
    }
}

impl Drop for SignalSubscription {
    fn drop(&mut self) {
        // A forked child is not subscribed, and takes no lock. Another thread of the parent may have held the lock during the
        // fork.
        if fork::is_current(self.generation) {
            self.counts.signals().for_each(|signal| unsubscribe(signal, &self.counts));
        }
    }
}

/// Adds `counts` to the subscribers of a signal, and installs the handler.
fn subscribe(signal: c_int, counts: &Arc<SignalCounts>) -> io::Result<()> {
    let slot = slot(signal)?;
    let _guard = SUBSCRIBE_LOCK.lock();
    let current = sigaction(signal, None)?;
    // SAFETY: only a thread that holds the lock frees a `Subscribers`.
    let old = unsafe { slot.load(Ordering::SeqCst).as_ref() };
    let levels = levels_below(&current, old);
    let level = levels.len() - 1;
    // A forked child drops the counts of its parent.
    let owner = Owner::here();
    let mut all = old.filter(|old| old.owner == owner).map_or(Vec::new(), |old| old.counts.clone());
    all.push(Arc::into_raw(Arc::clone(counts)));
    let before = old.map(|old| (old.levels.clone(), old.is_installed));
    let action = levels[level].action();
    let inherited =
        publish(slot, Subscribers { levels, is_installed: true, owner, counts: all }).filter(|old| old.owner != owner);
    drop_counts(inherited.into_iter().flat_map(|old| old.counts));
    // The handler is installed after the counts are published.
    if let Err(error) = install(signal, level, &current, &action) {
        let before = before.unwrap_or((vec![Arc::new(Level::new(&current))], false));
        remove_counts(slot, counts, before);
        return Err(error);
    }
    Ok(())
}

/// Returns the previous actions that the handler has to call on when it has replaced, or has stayed, the current action.
fn levels_below(current: &libc::sigaction, old: Option<&Subscribers>) -> Vec<Arc<Level>> {
    let (mut levels, is_installed) = old.map_or((Vec::new(), false), |old| (old.levels.clone(), old.is_installed));
    if let Some(level) = level_of(current).filter(|_| !levels.is_empty()) {
        // The program has put back an action that it had saved. What was installed over that action is over.
        levels.truncate(level + 1);
        return levels;
    }
    if let Some(level) = levels.iter().position(|level| level.is_action(current)) {
        // The program has restored an older action, or has installed an older handler again. A forked child may have taken the
        // default action, or its parent was in the middle of a change.
        levels.truncate(level);
    } else if !is_installed {
        // The action of the last level was restored, and the program has replaced that action.
        levels.pop();
    }
    if levels.len() == MAX_LEVELS {
        levels.remove(1);
    }
    levels.push(Arc::new(Level::new(current)));
    levels
}

/// Makes the entry point of a level the current action, unless it is that already. `previous` is the action of the level.
fn install(signal: c_int, level: usize, current: &libc::sigaction, previous: &libc::sigaction) -> io::Result<()> {
    if level_of(current) == Some(level) {
        return Ok(());
    }
    sigaction(signal, Some(&our_action(signal, level, previous)))?;
    if level_of(&sigaction(signal, None)?) != Some(level) {
        let message = format!(
            "the signal {signal} cannot be registered, because another thread has replaced the signal handler \
             meanwhile: register the `Signals` or the `Process` again"
        );
        return Err(io::Error::new(io::ErrorKind::Other, message));
    }
    Ok(())
}

fn unsubscribe(signal: c_int, counts: &SignalCounts) {
    let Ok(slot) = slot(signal) else { return };
    let _guard = SUBSCRIBE_LOCK.lock();
    // SAFETY: only a thread that holds the lock frees a `Subscribers`.
    let Some(old) = (unsafe { slot.load(Ordering::SeqCst).as_ref() }) else { return };
    if old.owner != Owner::here() || !old.counts.iter().any(|&other| ptr::eq(other, counts)) {
        return;
    }
    let mut after = (old.levels.clone(), old.is_installed);
    // If the program has installed a handler later, that handler stays, and may call the handler of the crate.
    let current = sigaction(signal, None).ok().and_then(|current| level_of(&current));
    if let Some(level) = current.filter(|_| old.counts.len() == 1) {
        // The program may have removed handlers, and so put back an entry point of a lower level.
        after.0.truncate(level + 1);
        let last = &after.0[after.0.len() - 1];
        let action = last.take_action();
        match restore(signal, &action) {
            Ok(()) => after.1 = false,
            Err(_) if has_no_handler(&action) => {}
            Err(_) => last.put_back(),
        }
    }
    // The slot keeps a value for a handler that the kernel has already called.
    remove_counts(slot, counts, after);
}

/// Publishes the subscribers of a signal without `counts`, and with these levels. The caller holds the lock.
fn remove_counts(slot: &Slot, counts: &SignalCounts, (levels, is_installed): (Vec<Arc<Level>>, bool)) {
    // SAFETY: only a thread that holds the lock frees a `Subscribers`.
    let Some(old) = (unsafe { slot.load(Ordering::SeqCst).as_ref() }) else { return };
    let (owner, mut remaining) = (old.owner, old.counts.clone());
    let position = remaining.iter().position(|&other| ptr::eq(other, counts));
    let removed = position.map(|position| remaining.swap_remove(position));
    publish(slot, Subscribers { levels, is_installed, owner, counts: remaining });
    drop_counts(removed);
}

/// Puts a value into a slot. Returns the replaced value when no handler reads it any more.
fn publish(slot: &Slot, subscribers: Subscribers) -> Option<Box<Subscribers>> {
    let old = slot.swap(Box::into_raw(Box::new(subscribers)), Ordering::SeqCst);
    if old.is_null() {
        return None;
    }
    handler::wait_for_handlers();
    // SAFETY: the pointer came from a box and was in the slot only, and no handler reads the value any more.
    Some(unsafe { Box::from_raw(old) })
}

fn drop_counts(counts: impl IntoIterator<Item = *const SignalCounts>) {
    for counts in counts {
        // SAFETY: the pointer owns a reference, and is in no `Subscribers` that a handler reads.
        drop(unsafe { Arc::from_raw(counts) });
    }
}

/// Returns the action that calls the entry point of a level.
///
/// If the previous action is a handler of the program, its flags are kept, except those that this function sets or clears. For
/// example, interrupted system calls are restarted as before. While the handler runs, all signals but [`FAULTS`] are blocked. The
/// handler unblocks the marker before it calls a handler of the program.
fn our_action(signal: c_int, level: usize, previous: &libc::sigaction) -> libc::sigaction {
    let mut ours = *previous;
    ours.sa_sigaction = handler::address(level) as _;
    ours.sa_flags = (previous.sa_flags & !(libc::SA_RESETHAND | libc::SA_NODEFER)) | libc::SA_SIGINFO;
    // SAFETY: the functions only write the set of bits.
    unsafe {
        libc::sigfillset(&mut ours.sa_mask);
        for fault in FAULTS.into_iter().filter(|&fault| fault != marker(signal)) {
            libc::sigdelset(&mut ours.sa_mask, fault);
        }
    }
    if has_no_handler(previous) {
        #[cfg(has_sa_restart)]
        {
            ours.sa_flags |= libc::SA_RESTART | libc::SA_ONSTACK;
        }
    }
    if signal == libc::SIGCHLD && previous.sa_sigaction as usize == libc::SIG_IGN {
        // If a process ignores SIGCHLD, its children do not become zombies (POSIX sigaction).
        #[cfg(has_sa_nocldwait)]
        {
            ours.sa_flags |= libc::SA_NOCLDWAIT;
        }
    }
    ours
}

/// Restores the action before the handler of the crate.
///
/// Before a default action that has an effect is restored, the signal is ignored, which discards pending signals, blocked or not
/// (POSIX sigaction). A program that another thread starts between the two calls inherits the ignored signal. If the default
/// action has no effect, nothing has to be discarded. Ignoring SIGCHLD even for a moment would reap children that exit meanwhile
/// (POSIX sigaction).
fn restore(signal: c_int, previous: &libc::sigaction) -> io::Result<()> {
    if previous.sa_sigaction as usize == libc::SIG_DFL && !is_ignored_by_default(signal) {
        sigaction(signal, Some(&without_handler(libc::SIG_IGN)))?;
    }
    sigaction(signal, Some(previous)).map(drop)
}
