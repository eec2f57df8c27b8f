//! Signals that are waited for: one handler for all, which counts and makes a descriptor readable.
//!
//! Each signal that is watched has a *post*: what was there before, and the mailboxes to put it into. The handler reads the
//! post without a lock; who changes it puts another one in its place, and frees the old one when no handler is running.
//! The handler does nothing but add, write and call what was there before, so it is safe wherever a signal comes; it leaves
//! `errno` alone because none of its calls fails.
#![allow(dead_code)] // A kqueue has filters.
#![allow(clippy::unnecessary_cast)] // The field's type differs from system to system.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::{io, mem, ptr, thread};

use libc::{c_int, c_void, siginfo_t};

use super::call::{check, lock};
use super::Notify;

/// More than any system has.
const MOST: usize = 256;

/// Where signals are put. Readable while there is something in it.
#[derive(Debug)]
pub(crate) struct Mailbox {
    notify: Notify,
    /// Whether `notify` is readable, so that it is written to once and never full.
    posted: AtomicBool,
    counts: Vec<(c_int, AtomicUsize)>,
    /// A forked child has a copy of the memory, and shares the descriptor.
    pid: u32,
}

impl Mailbox {
    /// A mailbox for these signals, which are put into it from now on, until `close`.
    pub(crate) fn open(signals: &[c_int]) -> io::Result<Arc<Mailbox>> {
        let counts = signals.iter().map(|&signal| (signal, AtomicUsize::new(0))).collect();
        let mailbox =
            Mailbox { notify: Notify::new()?, posted: AtomicBool::new(false), counts, pid: std::process::id() };
        let mailbox = Arc::new(mailbox);
        for &signal in signals {
            if let Err(error) = subscribe(signal, &mailbox) {
                mailbox.close();
                return Err(error);
            }
        }
        Ok(mailbox)
    }

    /// No signal is put into it any more. In a forked child the parent's table is left alone.
    pub(crate) fn close(&self) {
        if std::process::id() == self.pid {
            self.counts.iter().for_each(|(signal, _)| unsubscribe(*signal, self));
        }
    }

    /// Makes it readable.
    pub(crate) fn post(&self) {
        if !self.posted.swap(true, Ordering::SeqCst) {
            self.notify.post();
        }
    }

    /// Makes it unreadable. Before anything is looked up: what comes later makes it readable again.
    pub(crate) fn take(&self) {
        self.notify.drain();
        self.posted.store(false, Ordering::SeqCst);
    }

    /// A signal has come. In a handler.
    fn deliver(&self, signal: c_int) {
        if let Some((_, count)) = self.counts.iter().find(|(other, _)| *other == signal) {
            count.fetch_add(1, Ordering::SeqCst);
        }
        self.post();
    }
}

impl AsFd for Mailbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notify.as_fd()
    }
}

/// What is done with a signal.
struct Post {
    previous: libc::sigaction,
    mailboxes: Vec<Arc<Mailbox>>,
}

#[allow(clippy::declare_interior_mutable_const)] // It is the start of each, not shared.
const EMPTY: AtomicPtr<Post> = AtomicPtr::new(ptr::null_mut());
static POSTS: [AtomicPtr<Post>; MOST] = [EMPTY; MOST];
/// How many handlers are running that may be reading a post.
static READERS: AtomicUsize = AtomicUsize::new(0);
/// Held by who changes a post.
static CHANGES: Mutex<()> = Mutex::new(());

fn slot(signal: c_int) -> io::Result<&'static AtomicPtr<Post>> {
    let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
    usize::try_from(signal).ok().and_then(|signal| POSTS.get(signal)).ok_or_else(invalid)
}

/// Puts a post in the place of another one, which is freed.
fn replace(slot: &AtomicPtr<Post>, post: Option<Post>) {
    let new = post.map_or(ptr::null_mut(), |post| Box::into_raw(Box::new(post)));
    let old = slot.swap(new, Ordering::SeqCst);
    if old.is_null() {
        return;
    }
    // A handler that starts now reads the new one. Each is a few instructions long.
    while READERS.load(Ordering::SeqCst) != 0 {
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

fn subscribe(signal: c_int, mailbox: &Arc<Mailbox>) -> io::Result<()> {
    let slot = slot(signal)?;
    let _changes = lock(&CHANGES);
    // SAFETY: only who holds the lock frees one.
    if let Some(post) = unsafe { slot.load(Ordering::SeqCst).as_ref() } {
        let mut mailboxes = post.mailboxes.clone();
        mailboxes.push(Arc::clone(mailbox));
        replace(slot, Some(Post { previous: post.previous, mailboxes }));
        return Ok(());
    }
    // The post is there before the handler is.
    let previous = action(signal, None)?;
    replace(slot, Some(Post { previous, mailboxes: vec![Arc::clone(mailbox)] }));
    let mut ours = previous;
    ours.sa_sigaction = handler() as _;
    ours.sa_flags = libc::SA_SIGINFO | with_restart!({ libc::SA_RESTART | libc::SA_ONSTACK } else { 0 });
    // SAFETY: a set of bits, which is written.
    unsafe { libc::sigemptyset(&mut ours.sa_mask) };
    match action(signal, Some(&ours)) {
        Ok(_) => Ok(()),
        Err(error) => {
            replace(slot, None);
            Err(error)
        }
    }
}

fn unsubscribe(signal: c_int, mailbox: &Mailbox) {
    let Ok(slot) = slot(signal) else { return };
    let _changes = lock(&CHANGES);
    // SAFETY: only who holds the lock frees one.
    let Some(post) = (unsafe { slot.load(Ordering::SeqCst).as_ref() }) else { return };
    let others = post.mailboxes.iter().filter(|other| !ptr::eq(Arc::as_ptr(other), mailbox));
    let (previous, mailboxes) = (post.previous, others.cloned().collect::<Vec<_>>());
    let is_ours = action(signal, None).is_ok_and(|now| now.sa_sigaction as usize == handler());
    if mailboxes.is_empty() && is_ours && action(signal, Some(&previous)).is_ok() {
        return replace(slot, None);
    }
    // Others are in it; or somebody has taken the signal after us, and hands it on to us perhaps.
    replace(slot, Some(Post { previous, mailboxes }));
}

extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    READERS.fetch_add(1, Ordering::SeqCst);
    // SAFETY: it is not freed while there is a reader.
    let post = slot(signal).ok().and_then(|slot| unsafe { slot.load(Ordering::SeqCst).as_ref() });
    // What comes to a forked child is not its parent's.
    let pid = std::process::id();
    let mut is_watched = false;
    for mailbox in post.iter().flat_map(|post| &post.mailboxes).filter(|mailbox| mailbox.pid == pid) {
        mailbox.deliver(signal);
        is_watched = true;
    }
    let previous = post.map(|post| post.previous);
    READERS.fetch_sub(1, Ordering::SeqCst);
    if let Some(previous) = previous {
        hand_on(&previous, is_watched, signal, info, context);
    }
}

/// Does what was done before with a signal. The default, which may be to end the process, only if nobody watches it.
fn hand_on(previous: &libc::sigaction, is_watched: bool, signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    match previous.sa_sigaction as usize {
        libc::SIG_IGN => {}
        libc::SIG_DFL if is_watched => {}
        libc::SIG_DFL => {
            if action(signal, Some(previous)).is_ok() {
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
