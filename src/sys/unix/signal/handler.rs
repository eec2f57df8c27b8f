//! The signal handler of the crate, and the table that it reads.
//!
//! One handler serves all signals. The table has a slot for each signal, with its [`Subscribers`]: the previous actions, and the
//! counts of the subscribed sources. A published `Subscribers` never changes. A thread that adds or removes a source publishes a
//! new one in the slot (subscribers.rs), so the handler reads the slot without a lock.
//!
//! # Levels
//!
//! A program can install a handler after the crate has installed its own. The next subscription installs the handler of the crate
//! again, on top of that handler. Therefore a signal has several *levels*, the oldest first. Each level is a previous action, and
//! has an entry point of its own ([`address`]), which is installed on top of that action. An entry point calls the action of its
//! level:
//!
//! | level | previous action | entry point |
//! |---|---|---|
//! | 0 | the action before the first subscription | `handle::<0>` |
//! | 1 | a handler H that the program has installed over `handle::<0>` | `handle::<1>` |
//!
//! H may have saved `handle::<0>` as its own previous action, and does one of two things with it:
//!
//! * H calls `handle::<0>` for each signal. This call is nested in the call of H by `handle::<1>` (calls.rs). A nested call does
//!   not count the signal again, and calls only a lower level than the outer call. Therefore calls end, whatever a handler has
//!   saved.
//! * The program removes H, and restores `handle::<0>`. Level 1 is not reached any more. The next subscription, or the end of the
//!   last one, drops that level.
//!
//! # Steps
//!
//! When a signal arrives, the handler takes these steps:
//!
//! 1. `errno` is saved.
//! 2. [`RUNNING_HANDLERS`] is incremented. From now on no thread frees a `Subscribers`.
//! 3. The `Subscribers` of the signal is loaded from its slot.
//! 4. Unless the call is nested, the signal is counted for each subscribed source, and the descriptor of the source becomes
//!    readable.
//! 5. The next action is chosen: the handler of a level, the default action, or none.
//! 6. [`RUNNING_HANDLERS`] is decremented, and `errno` is restored.
//! 7. The next action is taken. The function of the steps 1 to 6 has returned, so its stack is free for the previous handler.
//!
//! The handler calls only functions that POSIX lists as async-signal-safe (signal-safety(7)).
//!
//! While the handler runs, every signal is blocked except those that report a fault. Handlers of several signals could overflow
//! an alternate stack: with AVX-512 the frame of the kernel alone has 3.6 KB.
//!
//! A kernel posts a signal before the handler runs. In between, a kqueue can report the event and the program can drop the source
//! (seen on NetBSD 10, where the default action then ended the process). Therefore a signal that was posted while a source was
//! subscribed must not take its default action. Two rules ensure this: pending signals are discarded before the default action is
//! restored (subscribers.rs), and a handler that runs later does nothing.
#![allow(clippy::unnecessary_cast)] // The type of the field differs from system to system.

use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::Arc;
use std::{io, mem, process, ptr, thread};

use libc::{c_int, c_void, siginfo_t};

use crate::sys::unix::errno;
use crate::sys::unix::fork;
use crate::sys::unix::signal::action::{is_ignored_by_default, sigaction, without_handler};
use crate::sys::unix::signal::calls::{self, Call};
use crate::sys::unix::signal::counts::SignalCounts;

/// The size of the table, larger than the highest signal of any system.
const MAX_SIGNAL: usize = 256;

/// The slot of a signal. Null until its first subscription.
pub(crate) type Slot = AtomicPtr<Subscribers>;

#[allow(clippy::declare_interior_mutable_const)] // The initial value of each slot. No slot shares it.
const EMPTY: Slot = Slot::new(ptr::null_mut());
static SUBSCRIBERS: [Slot; MAX_SIGNAL] = [EMPTY; MAX_SIGNAL];

/// The number of running handlers that may read a `Subscribers`. The upper half holds bits of the generation of the process.
///
/// A forked child inherits the number of its parent, but not the threads that would decrement it. The generation marks the
/// number as the parent's.
static RUNNING_HANDLERS: AtomicUsize = AtomicUsize::new(0);
const COUNT_MASK: usize = usize::MAX >> (usize::BITS / 2);

/// Returns the slot of a signal. Fails with `EINVAL` for a number outside the table.
pub(crate) fn slot(signal: c_int) -> io::Result<&'static Slot> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    usize::try_from(signal).ok().and_then(|signal| SUBSCRIBERS.get(signal)).ok_or_else(invalid)
}

/// A process. A child of vfork(2) shares the memory of its parent, and so the generation; only the process identifier differs.
#[derive(Copy, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    generation: u32,
    pid: u32,
}

impl Owner {
    /// Returns this process. Safe in the handler, because the process called [`fork::generation`] before its first subscription.
    pub(crate) fn here() -> Owner {
        Owner { generation: fork::generation(), pid: process::id() }
    }
}

/// The number of entry points. If a signal has more levels, level 1 is dropped.
pub(crate) const MAX_LEVELS: usize = 8;

/// A previous action.
pub(crate) struct Level {
    action: libc::sigaction,
    /// `true` if the action has `SA_RESETHAND`, and its handler was called. The default action has replaced the handler.
    is_reset: AtomicBool,
}

impl Level {
    pub(crate) fn new(action: &libc::sigaction) -> Level {
        Level { action: *action, is_reset: AtomicBool::new(false) }
    }

    /// Returns the action that is current at this level.
    pub(crate) fn action(&self) -> libc::sigaction {
        self.action_if(self.is_reset.load(Ordering::SeqCst))
    }

    /// As `action`. If the handler is to be called once, the caller is the one to call or to restore the handler.
    pub(crate) fn take_action(&self) -> libc::sigaction {
        self.action_if(self.take_once())
    }

    /// As `take_action`, but returns only the handler, and `true` if the action has `SA_SIGINFO`. The stack of the handler of the
    /// crate may be small.
    fn take_handler(&self) -> (usize, bool) {
        let disposition = if self.take_once() { libc::SIG_DFL } else { self.action.sa_sigaction as usize };
        (disposition, self.action.sa_flags & libc::SA_SIGINFO != 0)
    }

    /// Returns `true` if the handler is to be called once, and was taken before.
    fn take_once(&self) -> bool {
        self.action.sa_flags & libc::SA_RESETHAND != 0 && self.is_reset.swap(true, Ordering::SeqCst)
    }

    /// Undoes `take_action`.
    pub(crate) fn put_back(&self) {
        self.is_reset.store(false, Ordering::SeqCst);
    }

    /// Returns `true` if `other` has the handler of this level, or the disposition that has replaced the handler.
    pub(crate) fn is_action(&self, other: &libc::sigaction) -> bool {
        [self.action.sa_sigaction, self.action().sa_sigaction].contains(&other.sa_sigaction)
    }

    fn action_if(&self, is_reset: bool) -> libc::sigaction {
        let mut action = self.action;
        if is_reset {
            action.sa_sigaction = libc::SIG_DFL as _;
            action.sa_flags &= !(libc::SA_RESETHAND | libc::SA_SIGINFO);
        }
        action
    }
}

/// The previous actions of a signal, and the counts of its subscribed sources.
pub(crate) struct Subscribers {
    /// The previous actions, the oldest first. There is at least one.
    pub(crate) levels: Vec<Arc<Level>>,
    /// `true` from the installation of the last level until the crate restores the action of that level. The program may have
    /// replaced the handler since.
    pub(crate) is_installed: bool,
    /// The process that published this value. A forked child has a copy, whose notifiers share their descriptors with the
    /// parent's.
    pub(crate) owner: Owner,
    /// Each pointer owns one reference of an `Arc`. The next `Subscribers` takes the reference over, because there may be
    /// thousands.
    pub(crate) counts: Vec<*const SignalCounts>,
}

impl Subscribers {
    /// Returns the counts to which a signal of the process `here` is delivered: none, if another process published them.
    fn counts_of(&self, here: Owner) -> impl Iterator<Item = &SignalCounts> {
        let own = self.counts.iter().filter(move |_| self.owner == here);
        // SAFETY: each pointer of a `Subscribers` owns a reference, which is dropped only when no handler reads that value.
        own.map(|&counts| unsafe { &*counts })
    }

    /// Returns the action that the entry point of `level` takes after the signal was counted. `outer` is the level of the outer
    /// call, if the call is nested.
    fn next_action(&self, signal: c_int, here: Owner, level: usize, outer: Option<usize>) -> NextAction {
        let last = self.levels.len() - 1;
        let level = match outer {
            None => level.min(last),
            Some(0) => return NextAction::Nothing,
            Some(outer) => level.min(outer - 1).min(last),
        };
        // When the last source left, the handler of the program was in place, and afterwards the program put ours back.
        let is_put_back = self.counts.is_empty() && (self.is_installed || level < last);
        let (disposition, has_info) = self.levels[level].take_handler();
        match disposition {
            libc::SIG_IGN => NextAction::Nothing,
            libc::SIG_DFL if is_ignored_by_default(signal) => NextAction::Nothing,
            // A handler of the program has replaced the default action.
            libc::SIG_DFL if outer.is_some() => NextAction::Nothing,
            // This process is a forked child without a subscription.
            libc::SIG_DFL if self.owner != here => NextAction::Default,
            libc::SIG_DFL if is_put_back => NextAction::Default,
            // The signal was posted while a source was subscribed.
            libc::SIG_DFL => NextAction::Nothing,
            handler => NextAction::Handler(handler, has_info, calls::enter(signal, level)),
        }
    }
}

/// The action that the handler takes after it has counted the signal.
enum NextAction {
    Nothing,
    /// A handler of the program, and `true` if the handler has `SA_SIGINFO`. The call is entered.
    Handler(usize, bool, Call),
    Default,
}

type Handler = extern "C" fn(c_int, *mut siginfo_t, *mut c_void);

/// The entry points of the handler, one for each level.
static ENTRY_POINTS: [Handler; MAX_LEVELS] =
    [handle::<0>, handle::<1>, handle::<2>, handle::<3>, handle::<4>, handle::<5>, handle::<6>, handle::<7>];

/// Returns the address of the entry point of a level, as sigaction(2) expects it.
pub(crate) fn address(level: usize) -> usize {
    ENTRY_POINTS[level] as usize
}

/// Returns the level whose entry point is the handler of the action. `None` if the handler is not that of the crate.
pub(crate) fn level_of(action: &libc::sigaction) -> Option<usize> {
    (0..MAX_LEVELS).find(|&level| action.sa_sigaction as usize == address(level))
}

/// Returns `true` if the handler of the crate is the current action of a signal.
fn is_current_action(signal: c_int) -> bool {
    sigaction(signal, None).is_ok_and(|current| level_of(&current).is_some())
}

extern "C" fn handle<const LEVEL: usize>(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    match deliver(signal, LEVEL) {
        NextAction::Nothing => {}
        NextAction::Handler(address, has_info, call) => {
            if has_info {
                // SAFETY: that is the type of a handler with `SA_SIGINFO`.
                let previous: Handler = unsafe { mem::transmute(address) };
                previous(signal, info, context);
            } else {
                // SAFETY: that is the type of a handler without the flag.
                let previous: extern "C" fn(c_int) = unsafe { mem::transmute(address) };
                previous(signal);
            }
            calls::leave(&call, signal);
        }
        NextAction::Default => take_default(signal),
    }
}

/// Takes the steps 1 to 6, and returns the next action.
#[inline(never)]
fn deliver(signal: c_int, level: usize) -> NextAction {
    // SAFETY: the pointer belongs to this thread, and is valid as long as the thread lives.
    let errno = unsafe { errno::location() };
    // SAFETY: as above.
    let saved_errno = unsafe { *errno };
    let here = Owner::here();
    let outer = calls::outer_level(signal);
    update_running(handler_entered, generation_bits(here.generation));
    // SAFETY: no thread frees the value while `RUNNING_HANDLERS` counts this handler.
    let subscribers = slot(signal).ok().and_then(|slot| unsafe { slot.load(Ordering::SeqCst).as_ref() });
    if outer.is_none() {
        for counts in subscribers.iter().flat_map(|subscribers| subscribers.counts_of(here)) {
            counts.deliver(signal);
        }
    }
    let next =
        subscribers.map_or(NextAction::Nothing, |subscribers| subscribers.next_action(signal, here, level, outer));
    update_running(handler_left, generation_bits(here.generation));
    // SAFETY: as above.
    unsafe { *errno = saved_errno };
    next
}

/// Takes the default action of a signal to which this process has no subscription.
#[cold]
#[inline(never)]
fn take_default(signal: c_int) {
    // If a handler of the program ran first and called this one, the default action is not taken.
    if is_current_action(signal) && sigaction(signal, Some(&without_handler(libc::SIG_DFL))).is_ok() {
        // SAFETY: the call has no pointers. The signal is blocked here, and arrives when this handler returns.
        unsafe { libc::raise(signal) };
    }
}

/// Blocks until no handler of this process can read a `Subscribers` that was replaced before this call.
///
/// A handler that starts later reads the new value. A handler has few instructions, so the thread yields and does not sleep.
pub(crate) fn wait_for_handlers() {
    let here = generation_bits(fork::generation());
    while has_running_handler(RUNNING_HANDLERS.load(Ordering::SeqCst), here) {
        thread::yield_now();
    }
}

fn update_running(change: fn(usize, usize) -> usize, here: usize) {
    let _ = RUNNING_HANDLERS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |running| Some(change(running, here)));
}

/// Returns the bits of a generation that fit beside the count.
fn generation_bits(generation: u32) -> usize {
    (generation as usize) << (usize::BITS / 2)
}

fn handler_entered(running: usize, here: usize) -> usize {
    1 + if running & !COUNT_MASK == here { running } else { here }
}

fn handler_left(running: usize, here: usize) -> usize {
    // If the process was forked while the handler ran, the handler also returns in the child. The child has not counted this
    // handler.
    running - usize::from(running & !COUNT_MASK == here)
}

fn has_running_handler(running: usize, here: usize) -> bool {
    running & !COUNT_MASK == here && running & COUNT_MASK != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_handlers_of_the_parent_do_not_count_in_a_child() {
        let (parent, child) = (generation_bits(4711), generation_bits(4712));
        let two = handler_entered(handler_entered(0, parent), parent);
        assert!(has_running_handler(two, parent) && !has_running_handler(two, child));
        assert!(has_running_handler(handler_left(two, parent), parent));
        assert!(!has_running_handler(handler_left(handler_left(two, parent), parent), parent));
        // The child inherits the two running handlers of the parent.
        let one = handler_entered(two, child);
        assert!(has_running_handler(one, child) && !has_running_handler(handler_left(one, child), child));
        assert_eq!(handler_left(one, parent), one);
    }
}
