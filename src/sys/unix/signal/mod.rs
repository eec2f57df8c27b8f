//! Signals that are waited for: one handler for all, which counts and makes a descriptor readable.
//!
//! Each signal that is watched has a *post*: the previous action, and the mailboxes to put the signal into. The handler reads
//! the post without a lock; who changes it puts another one in its place, and frees the old one when no handler is running.
//!
//! The handler counts, writes to a descriptor and calls the previous handler. While it runs every signal is blocked but those
//! that report a fault, because nested handlers could overflow an alternate stack: a frame of the kernel alone is 3.6 KB
//! with AVX-512. It calls only functions that POSIX lists as async-signal-safe (signal-safety(7)), and keeps `errno`.
//!
//! A kernel posts a signal before a handler runs: an event of a kqueue can be reported, and its source dropped, in between
//! (seen on NetBSD 10, which killed the process). So a signal that was posted while it was watched never takes its default
//! action: pending ones are discarded before the default comes back, and a handler that runs later does nothing.
#![allow(dead_code)] // A kqueue tells of signals and processes by itself.
#![allow(clippy::unnecessary_cast)] // The field's type differs from system to system.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::Arc;
use std::{io, mem, process, ptr, thread};

use libc::{c_int, c_void, siginfo_t};

use crate::sys::unix::fork;
use crate::sys::unix::fork::ForkLock;
use crate::sys::unix::syscall::cvt;
use crate::sys::unix::wake_fd::WakeFd;

/// More than any system has.
const MAX_SIGNAL: usize = 256;

/// What cannot be caught, and what the program did itself: a handler that returns would have it done again.
const UNCATCHABLE: [c_int; 6] = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGBUS];

/// The signals that report a fault of the running thread. Blocked, they would end the process where a handler of the program
/// can go on (a stack that grows, a call that a seccomp filter hands to the program).
const FAULTS: [c_int; 7] =
    [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP, libc::SIGSYS, libc::SIGABRT];

/// The signals whose default action is to do nothing, or nothing but to continue a stopped process (SIGCONT). None of them
/// needs to be discarded; to ignore SIGCHLD for a moment would even reap children that exit meanwhile (POSIX, sigaction).
fn is_ignored_by_default(signal: c_int) -> bool {
    #[cfg(ignores_sigio)]
    if signal == libc::SIGIO {
        return true;
    }
    [libc::SIGCHLD, libc::SIGCONT, libc::SIGURG, libc::SIGWINCH].contains(&signal)
}

/// A descriptor that is readable once it was pending.
#[derive(Debug)]
pub(crate) struct CoalescingNotifier {
    notify: WakeFd,
    /// Whether `notify` is readable, so that it is written to once and never full.
    pending: AtomicBool,
}

impl CoalescingNotifier {
    pub(crate) fn new() -> io::Result<Arc<CoalescingNotifier>> {
        Ok(Arc::new(CoalescingNotifier { notify: WakeFd::new()?, pending: AtomicBool::new(false) }))
    }

    /// Makes it readable. Safe in a handler.
    pub(crate) fn notify(&self) {
        if !self.pending.swap(true, Ordering::SeqCst) {
            self.notify.notify_from_handler();
        }
    }

    /// Makes it unreadable. Before anything is looked up: what comes later makes it readable again.
    pub(crate) fn clear(&self) {
        self.notify.drain();
        self.pending.store(false, Ordering::SeqCst);
    }
}

impl AsFd for CoalescingNotifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }
}

/// Where signals are put while it is open: counted, and the bell is pending. Their default action is not taken then.
#[derive(Debug)]
pub(crate) struct SignalCounts {
    counts: Vec<(c_int, AtomicUsize)>,
    bell: Option<Arc<CoalescingNotifier>>,
    /// The generation of the process that has it open; 0 if none has.
    open: AtomicU32,
}

impl SignalCounts {
    /// A counts for these signals, each of them once.
    ///
    /// `InvalidInput` if one is none, or cannot be waited for.
    pub(crate) fn new(signals: &[c_int], bell: Option<Arc<CoalescingNotifier>>) -> io::Result<Arc<SignalCounts>> {
        for &signal in signals {
            if UNCATCHABLE.contains(&signal) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a signal that cannot be waited for"));
            }
            slot(signal)?;
            action(signal, None)?;
        }
        let counts = signals.iter().map(|&signal| (signal, AtomicUsize::new(0))).collect();
        Ok(Arc::new(SignalCounts { counts, bell, open: AtomicU32::new(0) }))
    }

    /// From now on the signals are put into it. It may be open: its poll is no more, and it goes to another.
    pub(crate) fn subscribe_all(self: &Arc<Self>) -> io::Result<()> {
        let here = fork::generation();
        if self.open.swap(here, Ordering::Relaxed) == here {
            return Ok(());
        }
        for (signal, _) in &self.counts {
            if let Err(error) = subscribe(*signal, self) {
                self.unsubscribe_all();
                return Err(error);
            }
        }
        Ok(())
    }

    /// No signal is put into it any more, if it was open. In a forked child it is not, and another thread of the parent may
    /// have left the posts locked.
    pub(crate) fn unsubscribe_all(&self) {
        let here = fork::generation();
        if self.open.compare_exchange(here, 0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        self.counts.iter().for_each(|(signal, _)| unsubscribe(*signal, self));
    }

    /// Takes what has come: each signal, and how often.
    pub(crate) fn take(&self) -> impl Iterator<Item = (c_int, usize)> + '_ {
        if let Some(bell) = &self.bell {
            bell.clear();
        }
        self.counts.iter().map(|(signal, count)| (*signal, count.swap(0, Ordering::SeqCst))).filter(|&(_, n)| n > 0)
    }

    /// A signal has come. In a handler.
    fn deliver(&self, signal: c_int) {
        if let Some((_, count)) = self.counts.iter().find(|(other, _)| *other == signal) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(bell) = &self.bell {
            bell.notify();
        }
    }
}

/// A process. The identifier is part of it because a child of vfork(2) has the memory of its parent, and so the generation.
#[derive(Copy, Clone, PartialEq, Eq)]
struct Owner {
    generation: u32,
    pid: u32,
}

impl Owner {
    /// Safe in a handler: a counts was made before.
    fn here() -> Owner {
        Owner { generation: fork::generation(), pid: process::id() }
    }
}

/// What is done with a signal.
struct Subscribers {
    /// The action before our_action; after our_action was removed, the action that came back.
    previous: libc::sigaction,
    /// Our handler was installed, and was not removed by us. The program may have installed another one since.
    is_installed: bool,
    /// The process that made this post. In its forked child the post is a copy, and the mailboxes share their descriptors
    /// with the parent's.
    owner: Owner,
    /// Each stands for one count of an `Arc`, which it keeps from post to post: there may be thousands.
    mailboxes: Vec<*const SignalCounts>,
}

impl Subscribers {
    /// The open mailboxes of a process.
    fn mailboxes(&self, here: Owner) -> impl Iterator<Item = &SignalCounts> {
        let our_action = self.mailboxes.iter().filter(move |_| self.owner == here);
        // SAFETY: what is in a post has a count, which is dropped when no handler reads that post any more.
        our_action.map(|&counts| unsafe { &*counts })
    }
}

#[allow(clippy::declare_interior_mutable_const)] // It is the start of each, not shared.
const EMPTY: AtomicPtr<Subscribers> = AtomicPtr::new(ptr::null_mut());
static SUBSCRIBERS: [AtomicPtr<Subscribers>; MAX_SIGNAL] = [EMPTY; MAX_SIGNAL];
/// How many handlers are running that may be reading a post, and in the upper half of which generation: a forked child has
/// its parent's number, and not the threads that would take it down again.
static RUNNING_HANDLERS: AtomicUsize = AtomicUsize::new(0);
const COUNT_MASK: usize = usize::MAX >> (usize::BITS / 2);
/// Held by who changes a post. A child may be forked in the middle of a change: `subscribe` expects what that leaves.
static SUBSCRIBE_LOCK: ForkLock<()> = ForkLock::new();

fn slot(signal: c_int) -> io::Result<&'static AtomicPtr<Subscribers>> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    usize::try_from(signal).ok().and_then(|signal| SUBSCRIBERS.get(signal)).ok_or_else(invalid)
}

/// A generation, as much of it as there is room for beside a count.
fn upper_half(generation: u32) -> usize {
    (generation as usize) << (usize::BITS / 2)
}

/// What becomes of the number of readers when one more handler of a process is running, or one less.
fn handler_entered(readers: usize, here: usize) -> usize {
    1 + if readers & !COUNT_MASK == here { readers } else { here }
}

fn handler_left(readers: usize, here: usize) -> usize {
    // A handler whose process was forked meanwhile goes on in the child, which does not know of it.
    readers - usize::from(readers & !COUNT_MASK == here)
}

fn has_running_handler(readers: usize, here: usize) -> bool {
    readers & !COUNT_MASK == here && readers & COUNT_MASK != 0
}

fn count(change: fn(usize, usize) -> usize, here: usize) {
    let _ = RUNNING_HANDLERS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |readers| Some(change(readers, here)));
}

/// Puts a post in the place of another one, which is returned.
fn replace(slot: &AtomicPtr<Subscribers>, post: Subscribers) -> Option<Box<Subscribers>> {
    let old = slot.swap(Box::into_raw(Box::new(post)), Ordering::SeqCst);
    if old.is_null() {
        return None;
    }
    // A handler that starts now reads the new one. Each is a few instructions long.
    let here = upper_half(fork::generation());
    while has_running_handler(RUNNING_HANDLERS.load(Ordering::SeqCst), here) {
        thread::yield_now();
    }
    // SAFETY: it came from a box, was taken out of its only place, and no handler reads it any more.
    Some(unsafe { Box::from_raw(old) })
}

/// The current action of a signal, which may be replaced by another.
fn action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: integers, addresses and a set of bits. Zeroes are a value of each.
    let mut old: libc::sigaction = unsafe { mem::zeroed() };
    let new = new.map_or(ptr::null(), |new| new as *const _);
    // SAFETY: the kernel reads one action, or none, and writes one.
    cvt(unsafe { libc::sigaction(signal, new, &mut old) })?;
    Ok(old)
}

fn handler() -> usize {
    handle as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize
}

/// Whether this is an action that hands nothing on: the default, or to ignore the signal.
fn is_plain(action: &libc::sigaction) -> bool {
    [libc::SIG_DFL, libc::SIG_IGN].contains(&(action.sa_sigaction as usize))
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction as usize == handler()
}

/// Whether a signal comes to our handler first.
fn is_installed(signal: c_int) -> bool {
    action(signal, None).is_ok_and(|now| is_ours(&now))
}

/// An action without a handler.
fn plain(disposition: usize) -> libc::sigaction {
    // SAFETY: integers, addresses and a set of bits. Zeroes are a value of each.
    let mut plain: libc::sigaction = unsafe { mem::zeroed() };
    plain.sa_sigaction = disposition as _;
    plain
}

/// What was there before is to see no difference but that other signals wait: whether calls are restarted stays as it was.
fn our_action(signal: c_int, previous: &libc::sigaction) -> libc::sigaction {
    let mut our_action = *previous;
    our_action.sa_sigaction = handler() as _;
    our_action.sa_flags = (previous.sa_flags & !(libc::SA_RESETHAND | libc::SA_NODEFER)) | libc::SA_SIGINFO;
    // SAFETY: a set of bits, which is written.
    unsafe {
        libc::sigfillset(&mut our_action.sa_mask);
        for fault in FAULTS {
            libc::sigdelset(&mut our_action.sa_mask, fault);
        }
    }
    if is_plain(previous) {
        #[cfg(has_sa_restart)]
        {
            our_action.sa_flags |= libc::SA_RESTART | libc::SA_ONSTACK;
        }
    }
    if signal == libc::SIGCHLD && previous.sa_sigaction as usize == libc::SIG_IGN {
        // Children of who ignores it are not waited for (POSIX, sigaction).
        #[cfg(has_sa_nocldwait)]
        {
            our_action.sa_flags |= libc::SA_NOCLDWAIT;
        }
    }
    our_action
}

/// Restores the action before our_action. The default, if it does something, only when nothing is pending: POSIX (sigaction) has
/// pending signals discarded when the action becomes to ignore them, blocked or not. A program that another thread runs in
/// between inherits that; the two calls follow each other at once.
fn restore(signal: c_int, previous: &libc::sigaction) -> io::Result<()> {
    if previous.sa_sigaction as usize == libc::SIG_DFL && !is_ignored_by_default(signal) {
        action(signal, Some(&plain(libc::SIG_IGN)))?;
    }
    action(signal, Some(previous)).map(drop)
}

fn drop_counts(mailboxes: impl IntoIterator<Item = *const SignalCounts>) {
    for counts in mailboxes {
        // SAFETY: its count, and it is in no post that a handler reads.
        drop(unsafe { Arc::from_raw(counts) });
    }
}

fn subscribe(signal: c_int, counts: &Arc<SignalCounts>) -> io::Result<()> {
    let slot = slot(signal)?;
    let _changes = SUBSCRIBE_LOCK.lock();
    let owner = Owner::here();
    let now = action(signal, None)?;
    // SAFETY: only who holds the lock frees one.
    let old = unsafe { slot.load(Ordering::SeqCst).as_ref() };
    let mut mailboxes = old.filter(|old| old.owner == owner).map_or(Vec::new(), |old| old.mailboxes.clone());
    mailboxes.push(Arc::into_raw(Arc::clone(counts)));
    // A handler that the program installed after our_action hands on to it. The previous action does not, when it is there again:
    // the program put it back, a forked child took the default, or its parent was in the middle of a change.
    let is_reached = |old: &&Subscribers| {
        let is_previous = now.sa_sigaction == old.previous.sa_sigaction;
        is_ours(&now) || (old.is_installed && !is_plain(&now) && !is_previous)
    };
    let reached = old.filter(is_reached).map(|old| old.previous);
    let (previous, was_installed) = (reached.unwrap_or(now), old.is_some_and(|old| old.is_installed));
    // The post is there before the handler is.
    let post = Subscribers { previous, is_installed: true, owner, mailboxes };
    let leaving = replace(slot, post).filter(|old| old.owner != owner);
    drop_counts(leaving.into_iter().flat_map(|old| old.mailboxes));
    if reached.is_none() {
        if let Err(error) = action(signal, Some(&our_action(signal, &now))) {
            leave(slot, counts, was_installed);
            return Err(error);
        }
    }
    Ok(())
}

/// Takes a counts out of the post of this process, under the lock.
fn leave(slot: &AtomicPtr<Subscribers>, counts: &SignalCounts, is_installed: bool) {
    // SAFETY: only who holds the lock frees one.
    let Some(post) = (unsafe { slot.load(Ordering::SeqCst).as_ref() }) else { return };
    let (previous, owner, mut mailboxes) = (post.previous, post.owner, post.mailboxes.clone());
    let place = mailboxes.iter().position(|&other| ptr::eq(other, counts));
    let leaving = place.map(|place| mailboxes.swap_remove(place));
    replace(slot, Subscribers { previous, is_installed, owner, mailboxes });
    drop_counts(leaving);
}

fn unsubscribe(signal: c_int, counts: &SignalCounts) {
    let Ok(slot) = slot(signal) else { return };
    let _changes = SUBSCRIBE_LOCK.lock();
    // SAFETY: only who holds the lock frees one.
    let Some(post) = (unsafe { slot.load(Ordering::SeqCst).as_ref() }) else { return };
    if post.owner != Owner::here() || !post.mailboxes.iter().any(|&other| ptr::eq(other, counts)) {
        return;
    }
    // If the program has installed a handler after our_action, that one stays, and may hand on to our_action.
    let is_last = post.mailboxes.len() == 1;
    let is_restored = is_last && is_installed(signal) && restore(signal, &post.previous).is_ok();
    // The post stays for a handler that the kernel has already called.
    leave(slot, counts, post.is_installed && !is_restored);
}

/// What a handler does besides counting.
enum Next {
    Nothing,
    /// A handler of the program, with its flags.
    Handler(usize, c_int),
    Default,
}

impl Subscribers {
    fn next(&self, signal: c_int, here: Owner) -> Next {
        match self.previous.sa_sigaction as usize {
            libc::SIG_IGN => Next::Nothing,
            libc::SIG_DFL if is_ignored_by_default(signal) => Next::Nothing,
            // In a forked child that watches nothing.
            libc::SIG_DFL if self.owner != here => Next::Default,
            // The program put our handler back, after another one that was still there when the last counts left.
            libc::SIG_DFL if self.is_installed && self.mailboxes.is_empty() => Next::Default,
            // It was posted while it was watched.
            libc::SIG_DFL => Next::Nothing,
            handler => Next::Handler(handler, self.previous.sa_flags),
        }
    }
}

extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    match deliver(signal) {
        Next::Nothing => {}
        Next::Handler(address, flags) if flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: that is the type of a handler with this flag.
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = unsafe { mem::transmute(address) };
            handler(signal, info, context);
        }
        Next::Handler(address, _) => {
            // SAFETY: that is the type of a handler without it.
            let handler: extern "C" fn(c_int) = unsafe { mem::transmute(address) };
            handler(signal);
        }
        Next::Default => take_default(signal),
    }
}

/// Puts a signal into its mailboxes. What is left of the stack is for the previous handler: this has returned by then.
#[inline(never)]
fn deliver(signal: c_int) -> Next {
    // SAFETY: the thread's own, which lives as long as the thread.
    let errno = unsafe { crate::sys::unix::errno::location() };
    // SAFETY: as above.
    let before = unsafe { *errno };
    let here = Owner::here();
    count(handler_entered, upper_half(here.generation));
    // SAFETY: it is not freed while there is a reader.
    let post = slot(signal).ok().and_then(|slot| unsafe { slot.load(Ordering::SeqCst).as_ref() });
    for counts in post.iter().flat_map(|post| post.mailboxes(here)) {
        counts.deliver(signal);
    }
    let next = post.map_or(Next::Nothing, |post| post.next(signal, here));
    count(handler_left, upper_half(here.generation));
    // SAFETY: as above.
    unsafe { *errno = before };
    next
}

/// Takes the default action of a signal that this process does not watch.
#[cold]
#[inline(never)]
fn take_default(signal: c_int) {
    // If a handler of the program was called first, and handed on to our_action, then the default is not taken.
    if is_installed(signal) && action(signal, Some(&plain(libc::SIG_DFL))).is_ok() {
        // SAFETY: no pointers. It is blocked here, and comes when this handler returns.
        unsafe { libc::raise(signal) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_of_a_process_and_of_its_child() {
        let (parent, child) = (upper_half(4711), upper_half(4712));
        let two = handler_entered(handler_entered(0, parent), parent);
        assert!(has_running_handler(two, parent) && !has_running_handler(two, child));
        assert!(has_running_handler(handler_left(two, parent), parent));
        assert!(!has_running_handler(handler_left(handler_left(two, parent), parent), parent));
        // Forked with the parent's two: they are nobody's here.
        let one = handler_entered(two, child);
        assert!(has_running_handler(one, child) && !has_running_handler(handler_left(one, child), child));
        assert_eq!(handler_left(one, parent), one);
    }
}
