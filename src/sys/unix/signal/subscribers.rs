//! Subscriptions of sources to signals.
//!
//! The first subscription to a signal installs the handler of the crate, and the end of the last one restores the previous
//! action. In between, a subscription only publishes a new [`Subscribers`]. handler.rs explains the algorithm.
#![allow(clippy::unnecessary_cast)] // The type of the field differs from system to system.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use libc::c_int;

use crate::sys::notify::Notify;
use crate::sys::unix::fork;
use crate::sys::unix::fork::ForkLock;
use crate::sys::unix::signal::action::{has_no_handler, is_ignored_by_default, sigaction, without_handler};
use crate::sys::unix::signal::counts::{PendingSignals, SignalCounts};
use crate::sys::unix::signal::handler::{self, is_current_action, is_ours, slot, Owner, Slot, Subscribers};

/// The signals that cannot be caught, and those that report a fault of the program: when a handler returns, the instruction
/// faults again.
const UNCATCHABLE: [c_int; 6] = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGBUS];

/// The signals that report a fault of the running thread. If such a signal is blocked, the fault ends the process. Otherwise a
/// handler of the program can repair the fault: a stack that grows, or a call that a seccomp filter passes to the program.
const FAULTS: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// Held while a slot changes. A process may be forked in the middle of a change; `subscribe` handles the state that the child
/// inherits.
static SUBSCRIBE_LOCK: ForkLock<()> = ForkLock::new();

/// Fails with `InvalidInput` if the number is no signal, or a signal that cannot be waited for.
pub(crate) fn check(signal: c_int) -> io::Result<()> {
    if UNCATCHABLE.contains(&signal) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a signal that cannot be waited for"));
    }
    slot(signal)?;
    sigaction(signal, None).map(drop)
}

/// The subscription of a source to a set of signals. While the subscription lasts, no default action is taken.
#[derive(Debug)]
pub(crate) struct SignalSubscription {
    counts: Arc<SignalCounts>,
    /// The generation of the process that is subscribed; 0 if none is.
    subscribed_by: AtomicU32,
}

impl SignalSubscription {
    /// Subscribes to `signals`, which are distinct. From now on the handler counts each signal in `pending`, and notifies
    /// `registration`. Both are `None` where a kqueue filter reports the signals.
    pub(crate) fn new(
        signals: &[c_int],
        pending: Option<Arc<PendingSignals>>,
        registration: Option<Arc<dyn Notify>>,
    ) -> io::Result<SignalSubscription> {
        let counts = Arc::new(SignalCounts::new(signals, pending, registration));
        let subscription = SignalSubscription { counts, subscribed_by: AtomicU32::new(0) };
        subscription.subscribe_all()?;
        Ok(subscription)
    }

    fn subscribe_all(&self) -> io::Result<()> {
        self.subscribed_by.store(fork::generation(), Ordering::Relaxed);
        for signal in self.counts.signals() {
            if let Err(error) = subscribe(signal, &self.counts) {
                self.unsubscribe_all();
                return Err(error);
            }
        }
        Ok(())
    }

    /// Stops counting, if this process is subscribed.
    ///
    /// A forked child is not subscribed, and takes no lock. Another thread of the parent may have held the lock during the fork.
    fn unsubscribe_all(&self) {
        let here = fork::generation();
        if self.subscribed_by.compare_exchange(here, 0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        self.counts.signals().for_each(|signal| unsubscribe(signal, &self.counts));
    }
}

impl Drop for SignalSubscription {
    fn drop(&mut self) {
        self.unsubscribe_all();
    }
}

fn subscribe(signal: c_int, counts: &Arc<SignalCounts>) -> io::Result<()> {
    let slot = slot(signal)?;
    let _guard = SUBSCRIBE_LOCK.lock();
    let current = sigaction(signal, None)?;
    // SAFETY: only a thread that holds the lock frees a `Subscribers`.
    let old = unsafe { slot.load(Ordering::SeqCst).as_ref() };
    let was_installed = old.is_some_and(|old| old.is_installed);
    match old.filter(|old| reaches_handler(&current, old)).map(|old| old.previous) {
        Some(previous) => {
            subscribe_another(slot, previous, counts);
            Ok(())
        }
        None => subscribe_first(signal, slot, &current, was_installed, counts),
    }
}

/// Returns `true` if the current action of a signal leads to the handler of the crate.
///
/// A handler that the program has installed later is assumed to call the handler of the crate. If the current action is the
/// previous action again, the handler of the crate is not reached. Three causes are possible: the program restored the action, a
/// forked child took the default, or the parent was in the middle of a change.
fn reaches_handler(current: &libc::sigaction, old: &Subscribers) -> bool {
    let is_previous = current.sa_sigaction == old.previous.sa_sigaction;
    is_ours(current) || (old.is_installed && !has_no_handler(current) && !is_previous)
}

/// Subscribes to a signal that does not reach the handler yet: publishes first, and installs the handler afterwards.
fn subscribe_first(
    signal: c_int,
    slot: &Slot,
    current: &libc::sigaction,
    was_installed: bool,
    counts: &Arc<SignalCounts>,
) -> io::Result<()> {
    subscribe_another(slot, *current, counts);
    if let Err(error) = sigaction(signal, Some(&our_action(signal, current))) {
        remove_counts(slot, counts, was_installed);
        return Err(error);
    }
    Ok(())
}

/// Publishes the subscribers of this process together with `counts`. The caller holds the lock.
fn subscribe_another(slot: &Slot, previous: libc::sigaction, counts: &Arc<SignalCounts>) {
    let owner = Owner::here();
    // SAFETY: only a thread that holds the lock frees a `Subscribers`.
    let old = unsafe { slot.load(Ordering::SeqCst).as_ref() };
    let mut all = old.filter(|old| old.owner == owner).map_or(Vec::new(), |old| old.counts.clone());
    all.push(Arc::into_raw(Arc::clone(counts)));
    let replaced = publish(slot, Subscribers { previous, is_installed: true, owner, counts: all });
    // In a forked child: the counts of the parent.
    let inherited = replaced.filter(|old| old.owner != owner);
    drop_counts(inherited.into_iter().flat_map(|old| old.counts));
}

fn unsubscribe(signal: c_int, counts: &SignalCounts) {
    let Ok(slot) = slot(signal) else { return };
    let _guard = SUBSCRIBE_LOCK.lock();
    // SAFETY: only a thread that holds the lock frees a `Subscribers`.
    let Some(old) = (unsafe { slot.load(Ordering::SeqCst).as_ref() }) else { return };
    if old.owner != Owner::here() || !old.counts.iter().any(|&other| ptr::eq(other, counts)) {
        return;
    }
    // If the program has installed a handler later, that handler stays, and may call the handler of the crate.
    let is_last = old.counts.len() == 1;
    let is_restored = is_last && is_current_action(signal) && restore(signal, &old.previous).is_ok();
    // The slot keeps a value for a handler that the kernel has already called.
    remove_counts(slot, counts, old.is_installed && !is_restored);
}

/// Publishes the subscribers of a signal without `counts`. The caller holds the lock.
fn remove_counts(slot: &Slot, counts: &SignalCounts, is_installed: bool) {
    // SAFETY: only a thread that holds the lock frees a `Subscribers`.
    let Some(old) = (unsafe { slot.load(Ordering::SeqCst).as_ref() }) else { return };
    let (previous, owner, mut remaining) = (old.previous, old.owner, old.counts.clone());
    let position = remaining.iter().position(|&other| ptr::eq(other, counts));
    let removed = position.map(|position| remaining.swap_remove(position));
    publish(slot, Subscribers { previous, is_installed, owner, counts: remaining });
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

/// Returns the action that calls the handler of the crate.
///
/// If the previous action is a handler of the program, its flags are kept, except those that this function sets or clears. For
/// example, interrupted system calls are restarted as before. While the handler runs, all signals but [`FAULTS`] are blocked.
fn our_action(signal: c_int, previous: &libc::sigaction) -> libc::sigaction {
    let mut ours = *previous;
    ours.sa_sigaction = handler::address() as _;
    ours.sa_flags = (previous.sa_flags & !(libc::SA_RESETHAND | libc::SA_NODEFER)) | libc::SA_SIGINFO;
    // SAFETY: the functions only write the set of bits.
    unsafe {
        libc::sigfillset(&mut ours.sa_mask);
        for fault in FAULTS {
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
