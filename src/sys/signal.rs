//! Signals that are waited for: one handler for all, which counts and makes a descriptor readable.
//!
//! Each signal that is watched has a *post*: what was there before, and the mailboxes to put it into. The handler reads the
//! post without a lock; who changes it puts another one in its place, and frees the old one when no handler is running.
//! The handler does nothing but add, write and call what was there before, so it is safe wherever a signal comes; it leaves
//! `errno` alone because none of its calls fails.
#![allow(dead_code)] // A kqueue tells of signals and processes by itself.
#![allow(clippy::unnecessary_cast)] // The field's type differs from system to system.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::{io, mem, process, ptr, thread};

use libc::{c_int, c_void, siginfo_t};

use super::call::{check, lock};
use super::Notify;

/// More than any system has.
const MOST: usize = 256;

/// What cannot be caught, and what the program did itself: a handler that returns would have it done again.
const NEVER: [c_int; 6] = [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV, libc::SIGILL, libc::SIGFPE, libc::SIGBUS];

/// A descriptor that is readable once it was rung.
#[derive(Debug)]
pub(crate) struct Bell {
    notify: Notify,
    /// Whether `notify` is readable, so that it is written to once and never full.
    rung: AtomicBool,
}

impl Bell {
    pub(crate) fn new() -> io::Result<Arc<Bell>> {
        Ok(Arc::new(Bell { notify: Notify::new()?, rung: AtomicBool::new(false) }))
    }

    /// Makes it readable. Safe in a handler.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst) {
            self.notify.post();
        }
    }

    /// Makes it unreadable. Before anything is looked up: what comes later makes it readable again.
    pub(crate) fn silence(&self) {
        self.notify.drain();
        self.rung.store(false, Ordering::SeqCst);
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }
}

/// Where signals are put while it is open: counted, and the bell is rung. Their default action is not taken then.
#[derive(Debug)]
pub(crate) struct Mailbox {
    counts: Vec<(c_int, AtomicUsize)>,
    bell: Option<Arc<Bell>>,
    /// The process that has it open; 0 if none has.
    open: AtomicU32,
}

impl Mailbox {
    /// A mailbox for these signals, each of them once.
    ///
    /// `InvalidInput` if one is none, or cannot be waited for.
    pub(crate) fn new(signals: &[c_int], bell: Option<Arc<Bell>>) -> io::Result<Arc<Mailbox>> {
        for &signal in signals {
            if NEVER.contains(&signal) {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "a signal that cannot be waited for"));
            }
            slot(signal)?;
            action(signal, None)?;
        }
        let counts = signals.iter().map(|&signal| (signal, AtomicUsize::new(0))).collect();
        Ok(Arc::new(Mailbox { counts, bell, open: AtomicU32::new(0) }))
    }

    /// From now on the signals are put into it. It may be open: its poll is no more, and it goes to another.
    pub(crate) fn open(self: &Arc<Self>) -> io::Result<()> {
        let here = process::id();
        if self.open.swap(here, Ordering::Relaxed) == here {
            return Ok(());
        }
        for (signal, _) in &self.counts {
            if let Err(error) = subscribe(*signal, self) {
                self.close();
                return Err(error);
            }
        }
        Ok(())
    }

    /// No signal is put into it any more, if it was open. In a forked child it is not, and another thread of the parent may
    /// have left the posts locked.
    pub(crate) fn close(&self) {
        let here = process::id();
        if self.open.compare_exchange(here, 0, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return;
        }
        self.counts.iter().for_each(|(signal, _)| unsubscribe(*signal, self));
    }

    /// Takes what has come: each signal, and how often.
    pub(crate) fn take(&self) -> impl Iterator<Item = (c_int, usize)> + '_ {
        if let Some(bell) = &self.bell {
            bell.silence();
        }
        self.counts.iter().map(|(signal, count)| (*signal, count.swap(0, Ordering::SeqCst))).filter(|&(_, n)| n > 0)
    }

    /// A signal has come. In a handler.
    fn deliver(&self, signal: c_int) {
        if let Some((_, count)) = self.counts.iter().find(|(other, _)| *other == signal) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        if let Some(bell) = &self.bell {
            bell.ring();
        }
    }
}

/// What is done with a signal.
struct Post {
    previous: libc::sigaction,
    /// With the process that opened them: in its forked child it is a copy of the memory, and shares the descriptor. Each
    /// stands for one count of an `Arc`, which it keeps from post to post: there may be thousands.
    mailboxes: Vec<(u32, *const Mailbox)>,
}

impl Post {
    /// The open mailboxes of a process.
    fn mailboxes(&self, here: u32) -> impl Iterator<Item = &Mailbox> {
        let ours = self.mailboxes.iter().filter(move |(pid, _)| *pid == here);
        // SAFETY: what is in a post has a count, which is dropped when nobody reads that post any more.
        ours.map(|&(_, mailbox)| unsafe { &*mailbox })
    }
}

#[allow(clippy::declare_interior_mutable_const)] // It is the start of each, not shared.
const EMPTY: AtomicPtr<Post> = AtomicPtr::new(ptr::null_mut());
static POSTS: [AtomicPtr<Post>; MOST] = [EMPTY; MOST];
/// How many handlers are running that may be reading a post, and in the upper half of which process: a forked child has its
/// parent's number, and not the threads that would take it down again.
static READERS: AtomicUsize = AtomicUsize::new(0);
const COUNT: usize = usize::MAX >> (usize::BITS / 2);
/// Held by who changes a post.
static CHANGES: Mutex<()> = Mutex::new(());

fn slot(signal: c_int) -> io::Result<&'static AtomicPtr<Post>> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    usize::try_from(signal).ok().and_then(|signal| POSTS.get(signal)).ok_or_else(invalid)
}

/// A process's number, as much of it as there is room for beside a count.
fn upper_half(pid: u32) -> usize {
    (pid as usize) << (usize::BITS / 2)
}

/// What becomes of the number of readers when one more handler of a process is running, or one less.
fn one_more(readers: usize, here: usize) -> usize {
    1 + if readers & !COUNT == here { readers } else { here }
}

fn one_less(readers: usize, here: usize) -> usize {
    // A handler whose process was forked meanwhile goes on in the child, which does not know of it.
    readers - usize::from(readers & !COUNT == here)
}

fn is_read(readers: usize, here: usize) -> bool {
    readers & !COUNT == here && readers & COUNT != 0
}

fn count(change: fn(usize, usize) -> usize, here: usize) {
    let _ = READERS.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |readers| Some(change(readers, here)));
}

/// Puts a post in the place of another one, which is freed.
fn replace(slot: &AtomicPtr<Post>, post: Option<Post>) {
    let new = post.map_or(ptr::null_mut(), |post| Box::into_raw(Box::new(post)));
    let old = slot.swap(new, Ordering::SeqCst);
    if old.is_null() {
        return;
    }
    // A handler that starts now reads the new one. Each is a few instructions long.
    let here = upper_half(process::id());
    while is_read(READERS.load(Ordering::SeqCst), here) {
        thread::yield_now();
    }
    // SAFETY: it came from a box, was taken out of its only place, and nobody reads it any more.
    drop(unsafe { Box::from_raw(old) });
}

/// The current action of a signal, which may be replaced by another.
fn action(signal: c_int, new: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    // SAFETY: integers, addresses and a set of bits. Zeroes are a value of each.
    let mut old: libc::sigaction = unsafe { mem::zeroed() };
    let new = new.map_or(ptr::null(), |new| new as *const _);
    // SAFETY: the kernel reads one action, or none, and writes one.
    check(unsafe { libc::sigaction(signal, new, &mut old) })?;
    Ok(old)
}

fn handler() -> usize {
    handle as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize
}

/// Whether a signal comes to our handler first.
fn is_installed(signal: c_int) -> bool {
    action(signal, None).is_ok_and(|now| now.sa_sigaction as usize == handler())
}

/// What was there before is to see no difference: its mask, and whether calls are restarted, stay as they were.
fn ours(signal: c_int, previous: &libc::sigaction) -> libc::sigaction {
    let mut ours = *previous;
    ours.sa_sigaction = handler() as _;
    ours.sa_flags = (previous.sa_flags & !libc::SA_RESETHAND) | libc::SA_SIGINFO;
    if [libc::SIG_DFL, libc::SIG_IGN].contains(&(previous.sa_sigaction as usize)) {
        // SAFETY: a set of bits, which is written.
        unsafe { libc::sigemptyset(&mut ours.sa_mask) };
        ours.sa_flags |= with_restart!({ libc::SA_RESTART | libc::SA_ONSTACK } else { 0 });
    }
    if signal == libc::SIGCHLD && previous.sa_sigaction as usize == libc::SIG_IGN {
        // Children of who ignores it are not waited for (POSIX, sigaction).
        ours.sa_flags |= with_nocldwait!({ libc::SA_NOCLDWAIT } else { 0 });
    }
    ours
}

fn subscribe(signal: c_int, mailbox: &Arc<Mailbox>) -> io::Result<()> {
    let slot = slot(signal)?;
    let _changes = lock(&CHANGES);
    let entry = (process::id(), Arc::into_raw(Arc::clone(mailbox)));
    // SAFETY: only who holds the lock frees one.
    if let Some(post) = unsafe { slot.load(Ordering::SeqCst).as_ref() } {
        let previous = post.previous;
        let mut mailboxes = post.mailboxes.clone();
        mailboxes.push(entry);
        replace(slot, Some(Post { previous, mailboxes }));
        // What was there before may be there again: in a forked child the default was taken, or somebody has put it back.
        let now = action(signal, None)?;
        if now.sa_sigaction == previous.sa_sigaction {
            action(signal, Some(&ours(signal, &previous)))?;
        }
        return Ok(());
    }
    // The post is there before the handler is.
    let install = || {
        let previous = action(signal, None)?;
        replace(slot, Some(Post { previous, mailboxes: vec![entry] }));
        action(signal, Some(&ours(signal, &previous)))
    };
    let result = install().map(drop);
    if result.is_err() {
        replace(slot, None);
        // SAFETY: its count, and it is in no post.
        drop(unsafe { Arc::from_raw(entry.1) });
    }
    result
}

fn unsubscribe(signal: c_int, mailbox: &Mailbox) {
    let Ok(slot) = slot(signal) else { return };
    let _changes = lock(&CHANGES);
    // SAFETY: only who holds the lock frees one.
    let Some(post) = (unsafe { slot.load(Ordering::SeqCst).as_ref() }) else { return };
    let here = process::id();
    let mut mailboxes = post.mailboxes.clone();
    let Some(place) = mailboxes.iter().position(|&entry| entry == (here, mailbox)) else { return };
    let mut leaving = vec![mailboxes.swap_remove(place)];
    let previous = post.previous;
    let is_last = mailboxes.iter().all(|(pid, _)| *pid != here);
    if is_last && is_installed(signal) && action(signal, Some(&previous)).is_ok() {
        replace(slot, None);
        // In a forked child its parent's are left.
        leaving.append(&mut mailboxes);
    } else {
        // Others are in it; or somebody has taken the signal after us, and hands it on to us perhaps.
        replace(slot, Some(Post { previous, mailboxes }));
    }
    for (_, mailbox) in leaving {
        // SAFETY: its count, and it is in no post that anybody reads.
        drop(unsafe { Arc::from_raw(mailbox) });
    }
}

extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // getpid(2) may be called in a handler.
    let pid = process::id();
    count(one_more, upper_half(pid));
    // SAFETY: it is not freed while there is a reader.
    let post = slot(signal).ok().and_then(|slot| unsafe { slot.load(Ordering::SeqCst).as_ref() });
    let mut is_watched = false;
    for mailbox in post.iter().flat_map(|post| post.mailboxes(pid)) {
        mailbox.deliver(signal);
        is_watched = true;
    }
    let previous = post.map(|post| post.previous);
    count(one_less, upper_half(pid));
    match previous {
        Some(previous) => hand_on(&previous, is_watched, signal, info, context),
        // What was there before has come back since the signal came, and is to have it. It is blocked until this returns.
        // SAFETY: no pointers.
        None => drop(unsafe { libc::raise(signal) }),
    }
}

/// Does what was done before with a signal. The default, which may be to end the process, only if nobody watches it.
fn hand_on(previous: &libc::sigaction, is_watched: bool, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    match previous.sa_sigaction as usize {
        libc::SIG_IGN => {}
        libc::SIG_DFL if is_watched => {}
        libc::SIG_DFL => {
            // If it is another's handler that was called, and hands on to this one, then the default is not taken.
            if is_installed(signal) && action(signal, Some(previous)).is_ok() {
                // SAFETY: no pointers. It is blocked here, and comes when this handler returns.
                unsafe { libc::raise(signal) };
            }
        }
        address if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            // SAFETY: that is the type of a handler with this flag.
            let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = unsafe { mem::transmute(address) };
            handler(signal, info, context);
        }
        address => {
            // SAFETY: that is the type of a handler without it.
            let handler: extern "C" fn(c_int) = unsafe { mem::transmute(address) };
            handler(signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_of_a_process_and_of_its_child() {
        let (parent, child) = (upper_half(4711), upper_half(4712));
        let two = one_more(one_more(0, parent), parent);
        assert!(is_read(two, parent) && !is_read(two, child));
        assert!(is_read(one_less(two, parent), parent));
        assert!(!is_read(one_less(one_less(two, parent), parent), parent));
        // Forked with the parent's two: they are nobody's here.
        let one = one_more(two, child);
        assert!(is_read(one, child) && !is_read(one_less(one, child), child));
        assert_eq!(one_less(one, parent), one);
    }
}
