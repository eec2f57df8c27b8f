//! The calls of handlers of the program that are in progress.
//!
//! The handler of the crate calls a handler of the program. That handler may call the handler of the crate in turn, because it
//! has saved an action of the crate as its previous action. Such a *nested* call belongs to a signal that is counted already.
//!
//! A nested call has two marks. Both are necessary:
//!
//! * The table has an entry with the thread and the signal. An entry outlives its call if a handler of the program leaves by
//!   longjmp(3) or ends the thread.
//! * The [`marker`] signal is not blocked. The kernel blocks the marker whenever it calls the handler of the crate, and [`enter`]
//!   unblocks it.
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

/// A call of a handler of the program.
pub(crate) struct Call {
    entry: &'static Entry,
    /// The value of the entry before the call.
    outer: usize,
    /// `true` if the marker was blocked before the call.
    was_marker_blocked: bool,
}

/// Returns the level of the call from which the handler of the crate was called. `None` if the kernel has called the handler, or
/// a handler of the program that the kernel has called.
pub(crate) fn outer_level(signal: c_int) -> Option<usize> {
    let call = entry_of(this_thread(), signal)?.call.load(Ordering::Relaxed);
    (!is_blocked(marker(signal))).then_some(call & LEVEL_MASK)
}

/// Notes that a handler of the program at this level is about to be called.
pub(crate) fn enter(signal: c_int, level: usize) -> Call {
    let thread = this_thread();
    let entry = entry_of(thread, signal).unwrap_or_else(|| claim(thread));
    let outer = entry.call.swap(pack(signal, level), Ordering::Relaxed);
    let was_marker_blocked = change_mask(libc::SIG_UNBLOCK, marker(signal));
    Call { entry, outer, was_marker_blocked }
}

/// Notes that the handler of the program has returned.
pub(crate) fn leave(call: &Call, signal: c_int) {
    if call.was_marker_blocked {
        change_mask(libc::SIG_BLOCK, marker(signal));
    }
    call.entry.call.store(call.outer, Ordering::Relaxed);
    if call.outer == 0 {
        call.entry.thread.store(0, Ordering::Relaxed);
    }
}

/// Returns the signal whose mask bit marks a nested call. No instruction of the handler of the crate raises it, and abort(3)
/// unblocks `SIGABRT`.
pub(crate) fn marker(signal: c_int) -> c_int {
    if signal == libc::SIGABRT {
        return libc::SIGFPE;
    }
    libc::SIGABRT
}

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
    CALLS.iter().find(|entry| {
        entry.thread.load(Ordering::Relaxed) == thread
            && entry.call.load(Ordering::Relaxed) & !LEVEL_MASK == pack(signal, 0)
    })
}

/// Returns a new entry of a thread. If the table is full, the thread replaces the entry of another one.
fn claim(thread: usize) -> &'static Entry {
    let is_claimed =
        |entry: &&Entry| entry.thread.compare_exchange(0, thread, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    CALLS.iter().find(is_claimed).unwrap_or_else(|| {
        // The lower bits of an address are equal in all threads.
        let entry = &CALLS[(thread >> 12) % MAX_CALLS];
        entry.call.store(0, Ordering::Relaxed);
        entry.thread.store(thread, Ordering::Relaxed);
        entry
    })
}

/// Blocks or unblocks one signal in this thread. Returns `true` if the signal was blocked before.
fn change_mask(how: c_int, signal: c_int) -> bool {
    // SAFETY: the fields are integers. Zeroes are a value of each.
    let (mut set, mut old): (libc::sigset_t, libc::sigset_t) = unsafe { (mem::zeroed(), mem::zeroed()) };
    // SAFETY: the functions read and write the two sets.
    unsafe {
        libc::sigemptyset(&mut set);
        libc::sigaddset(&mut set, signal);
        libc::pthread_sigmask(how, &set, &mut old) == 0 && libc::sigismember(&old, signal) == 1
    }
}

/// Returns `true` if this thread blocks the signal.
fn is_blocked(signal: c_int) -> bool {
    // SAFETY: the fields are integers. Zeroes are a value of each.
    let mut mask: libc::sigset_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes one set.
    unsafe {
        libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), &mut mask) == 0 && libc::sigismember(&mask, signal) == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The unblocked marker of a test thread stands for the mask in a handler.
    #[test]
    fn nested_calls_have_levels_and_full_tables_are_reused() {
        std::thread::spawn(|| {
            change_mask(libc::SIG_BLOCK, libc::SIGABRT);
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
            // A handler that never returns leaves its entry. The next signal is not nested, because the kernel blocks the marker.
            enter(libc::SIGUSR1, 0);
            change_mask(libc::SIG_BLOCK, libc::SIGABRT);
            assert_eq!(outer_level(libc::SIGUSR1), None);
            for signal in 1..100 {
                enter(signal, 0);
            }
            assert_eq!(outer_level(99), Some(0));
        })
        .join()
        .unwrap();
    }
}
