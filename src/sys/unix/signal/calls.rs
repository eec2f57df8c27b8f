//! The calls of handlers of the program that are in progress.
//!
//! The handler of the crate calls a handler of the program. That handler may call the handler of the crate in turn, because it
//! has saved an action of the crate as its previous action. Such a *nested* call belongs to a signal that is counted already.
//!
//! A nested call has two marks. Both are necessary:
//!
//! * The table has an entry with the thread and the signal. An entry outlives its call if a handler of the program leaves by
//!   longjmp(3) or ends the thread.
//! * In the mask of the thread, the [`marker`] signal is not blocked, and at least one of [`BLOCKED`] is. [`enter`] sets such a
//!   mask, which a jump out of the handler undoes. The kernel blocks the marker whenever it calls the handler of the crate. If
//!   the kernel calls a later handler of the program, which then calls the handler of the crate, usually none of `BLOCKED` is
//!   blocked.
//!
//! A thread-local variable could have replaced the table, but its first use in a thread may allocate memory. All functions are
//! async-signal-safe.
#![allow(clippy::unnecessary_cast)] // The type of `pthread_t` differs from system to system.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::{mem, ptr};

use libc::c_int;

/// The number of threads that can call handlers of the program at the same time. If there are more, a nested call may be taken
/// for a signal.
const MAX_CALLS: usize = 32;

/// An entry of the table. Only the thread of an entry changes the entry, unless the table is full.
struct Entry {
    /// The value of pthread_self(3), or zero if the entry is free.
    thread: AtomicUsize,
    /// The signal and the level of the call, as [`pack`] returns them, or zero.
    call: AtomicUsize,
}

#[allow(clippy::declare_interior_mutable_const)] // The initial value of each entry. No entry shares it.
const FREE: Entry = Entry { thread: AtomicUsize::new(0), call: AtomicUsize::new(0) };
static CALLS: [Entry; MAX_CALLS] = [FREE; MAX_CALLS];

/// The number of entries in use. Most programs have no handlers of their own, and need no search.
static USED: AtomicUsize = AtomicUsize::new(0);

/// A call of a handler of the program.
pub(crate) struct Call {
    entry: &'static Entry,
    /// The value of the entry before the call.
    outer: usize,
    /// `true` if the marker was blocked before the call.
    was_marker_blocked: bool,
    /// A bit for each signal of [`BLOCKED`] that was not blocked before the call. A set of all signals would need more of the
    /// stack.
    unblocked: u8,
}

/// Returns the level of the call from which the handler of the crate was called. `None` if the kernel has called the handler, or
/// a handler of the program that the kernel has called.
pub(crate) fn outer_level(signal: c_int) -> Option<usize> {
    let call = entry_of(this_thread(), signal)?.call.load(Ordering::Relaxed);
    has_mask_of_nested_call(signal).then_some(call & LEVEL_MASK)
}

/// Notes that a handler of the program at this level is about to be called.
#[inline(never)] // The frame must not be part of the caller's, which is on the stack while the handler runs.
pub(crate) fn enter(signal: c_int, level: usize) -> Call {
    let thread = this_thread();
    let entry = entry_of(thread, signal).unwrap_or_else(|| claim(thread));
    let outer = entry.call.swap(pack(signal, level), Ordering::Relaxed);
    let mask = change_mask(libc::SIG_UNBLOCK, Some(&set_of([marker(signal)])));
    let unblocked =
        (0..).zip(BLOCKED).filter(|&(_, other)| !contains(&mask, other)).fold(0, |bits, (bit, _)| bits | 1 << bit);
    // The kernel has called a later handler of the program, without the mask of the crate.
    if unblocked != 0 {
        change_mask(libc::SIG_BLOCK, Some(&set_of(BLOCKED)));
    }
    Call { entry, outer, was_marker_blocked: contains(&mask, marker(signal)), unblocked }
}

/// Notes that the handler of the program has returned.
#[inline(never)] // As above.
pub(crate) fn leave(call: &Call, signal: c_int) {
    if call.was_marker_blocked {
        change_mask(libc::SIG_BLOCK, Some(&set_of([marker(signal)])));
    }
    for (_, other) in (0..).zip(BLOCKED).filter(|&(bit, _)| call.unblocked & 1 << bit != 0) {
        change_mask(libc::SIG_UNBLOCK, Some(&set_of([other])));
    }
    let thread = this_thread();
    if call.entry.thread.load(Ordering::Relaxed) != thread {
        return; // Another thread has replaced the entry.
    }
    call.entry.call.store(call.outer, Ordering::Relaxed);
    let free = |entry: &Entry| entry.thread.compare_exchange(thread, 0, Ordering::Relaxed, Ordering::Relaxed);
    if call.outer == 0 && free(call.entry).is_ok() {
        USED.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns `true` if this thread has the mask that `enter` sets. The kernel blocks `signal` whatever calls the handler of the
/// crate.
#[inline(never)] // Most calls have no entry, and need no set on the stack.
fn has_mask_of_nested_call(signal: c_int) -> bool {
    let mask = change_mask(libc::SIG_BLOCK, None);
    !contains(&mask, marker(signal)) && BLOCKED.into_iter().any(|other| other != signal && contains(&mask, other))
}

/// Returns the signal whose mask bit marks a nested call. No instruction of the handler of the crate raises it, and abort(3)
/// unblocks `SIGABRT`.
pub(crate) fn marker(signal: c_int) -> c_int {
    if signal == libc::SIGABRT {
        return libc::SIGFPE;
    }
    libc::SIGABRT
}

/// Signals that are blocked while a handler of the program runs, and that handlers and threads seldom block on their own.
const BLOCKED: [c_int; 6] = [libc::SIGHUP, libc::SIGTERM, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE, libc::SIGALRM];

const LEVEL_MASK: usize = 0xff;

/// Returns the signal and the level as one number. No signal is zero, so the number is not zero.
fn pack(signal: c_int, level: usize) -> usize {
    (signal as usize) << LEVEL_MASK.count_ones() | level
}

fn this_thread() -> usize {
    // SAFETY: the function has no preconditions.
    unsafe { libc::pthread_self() as usize }
}

/// Returns the entry of a thread and a signal.
fn entry_of(thread: usize, signal: c_int) -> Option<&'static Entry> {
    if USED.load(Ordering::Relaxed) == 0 {
        return None;
    }
    CALLS.iter().find(|entry| {
        entry.thread.load(Ordering::Relaxed) == thread
            && entry.call.load(Ordering::Relaxed) & !LEVEL_MASK == pack(signal, 0)
    })
}

/// Returns a new entry of a thread. If the table is full, the thread replaces the entry of another one.
fn claim(thread: usize) -> &'static Entry {
    // Incremented first, because another signal may interrupt this function.
    USED.fetch_add(1, Ordering::Relaxed);
    let is_claimed =
        |entry: &&Entry| entry.thread.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    CALLS.iter().find(is_claimed).unwrap_or_else(|| {
        USED.fetch_sub(1, Ordering::Relaxed);
        // The lower bits of an address are equal in all threads.
        let entry = &CALLS[(thread >> 12) % MAX_CALLS];
        entry.call.store(0, Ordering::Relaxed);
        entry.thread.store(thread, Ordering::Relaxed);
        entry
    })
}

/// Changes the mask of this thread, if `set` is given. Returns the mask before.
fn change_mask(how: c_int, set: Option<&libc::sigset_t>) -> libc::sigset_t {
    let mut old = set_of([]);
    // SAFETY: libc reads one set, or none, and writes one.
    unsafe { libc::pthread_sigmask(how, set.map_or(ptr::null(), |set| set as *const _), &mut old) };
    old
}

fn set_of<const N: usize>(signals: [c_int; N]) -> libc::sigset_t {
    // SAFETY: the fields are integers. Zeroes are a value of each.
    let mut set: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the functions write the set.
    unsafe {
        libc::sigemptyset(&mut set);
        for signal in signals {
            libc::sigaddset(&mut set, signal);
        }
    }
    set
}

fn contains(set: &libc::sigset_t, signal: c_int) -> bool {
    // SAFETY: the function reads the set.
    unsafe { libc::sigismember(set, signal) == 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_calls_have_levels_and_full_tables_are_reused() {
        std::thread::spawn(|| {
            // The mask that the kernel sets for the handler of the crate.
            let kernel_mask =
                || change_mask(libc::SIG_BLOCK, Some(&set_of([libc::SIGABRT, libc::SIGHUP, libc::SIGUSR1])));
            let normal = kernel_mask();
            assert_eq!(outer_level(libc::SIGUSR1), None);
            for _ in 0..2 * MAX_CALLS {
                let outer = enter(libc::SIGUSR1, 3);
                assert_eq!((outer_level(libc::SIGUSR1), outer_level(libc::SIGUSR2)), (Some(3), None));
                let inner = enter(libc::SIGUSR1, 1);
                assert_eq!(outer_level(libc::SIGUSR1), Some(1));
                leave(&inner, libc::SIGUSR1);
                assert_eq!(outer_level(libc::SIGUSR1), Some(3));
                leave(&outer, libc::SIGUSR1);
                assert_eq!(outer_level(libc::SIGUSR1), None);
            }
            // A handler that does not return leaves its entry. The next signal is not nested, neither in the handler of the crate
            // nor in a later handler, which the kernel calls with another mask.
            enter(libc::SIGUSR1, 0);
            change_mask(libc::SIG_SETMASK, Some(&normal));
            assert_eq!(outer_level(libc::SIGUSR1), None);
            kernel_mask();
            assert_eq!(outer_level(libc::SIGUSR1), None);
            // A call by a later handler.
            change_mask(libc::SIG_SETMASK, Some(&normal));
            let call = enter(libc::SIGUSR1, 2);
            assert_eq!(outer_level(libc::SIGUSR1), Some(2));
            leave(&call, libc::SIGUSR1);
            let after = change_mask(libc::SIG_BLOCK, None);
            assert!((1..32).all(|signal| contains(&after, signal) == contains(&normal, signal)));
            for signal in 1..100 {
                enter(signal, 0);
            }
            assert_eq!(outer_level(99), Some(0));
        })
        .join()
        .unwrap();
    }
}
