//! The state word of a poll, and the list of the wakers that were woken.
//!
//! Wakers are memory: each has a [`Node`], and each poll has one word. A source whose events are made in user space has a node
//! too, with the [`UserSource`] that decides whether a wake becomes an event. The poll has one *notifier*, a descriptor or a user
//! event of the kernel that ends its wait. A wake uses the notifier only if the poll may be blocked.
//!
//! # The word
//!
//! The word contains the address of the first node of a list, and flags in the low bits of that address. A poll is *quiet* if the
//! word is 0 before and after its wait. A quiet poll makes the system call and nothing else.
//!
//! | flag | meaning | set | cleared |
//! |---|---|---|---|
//! | `AWAKE` | the polling thread runs the program or spins, and reads the word before it blocks | by a poll that takes wakes or spins | by a poll without woken nodes, before its wait |
//! | `NOTIFIED` | a notification is on its way | by the wake that notifies | by the poll that has received the notification |
//! | `LEFT` | events did not fit into the buffer of the last poll | by that poll | by a poll whose events fit |
//! | `SOURCES` | the poll has timers, or sources whose events are made here | with the first | by a poll, when there are none any more |
//! | `SHARED` | other code waits for the descriptor of the queue | by `AsFd` and `AsRawFd` | never |
//! | `CLOSED` | the poll was dropped, so that a wake has no effect | by the drop | never |
//!
//! # Wake and poll
//!
//! [`wake`](WakeState::wake) marks the node. If the node was unmarked, the wake pushes the node to the list. In the same
//! compare-exchange the wake sets `NOTIFIED`, unless the word has `AWAKE` or `NOTIFIED`. The wake that has set `NOTIFIED`
//! notifies.
//!
//! [`begin_wait`](WakeState::begin_wait) returns `true` if the list has nodes. Then the wait must not block. Otherwise
//! `begin_wait` clears `AWAKE`.
//! After the wait, [`take`](WakeState::take) removes the whole list in one compare-exchange. The poll unmarks each node, and
//! makes an event of each.
//!
//! # Why no wake is lost
//!
//! * A push that finds `AWAKE` comes before the operation that clears `AWAKE`. That operation reads the list, so that the wait
//!   does not block.
//! * A push that finds `NOTIFIED` comes before the operation that clears `NOTIFIED`. That operation takes the list. The
//!   operation is made only after the wait has returned the notification, so that until then no wait blocks.
//! * A push that finds neither flag notifies.
//! * A wake that finds its node marked relies on the wake that has marked the node. The poll unmarks the node with a swap, so
//!   that the poll sees what both threads have written before.
//!
//! If `NOTIFIED` was cleared earlier, a quiet poll could receive the notification, and return the record of the notifier to the
//! program. `.ci/models` explores the word with loom, and checks that this variant and others fail.

use std::io;
use std::panic::RefUnwindSafe;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use crate::sync::{AtomicPtr, AtomicUsize, Ordering};
use crate::token::Token;

const AWAKE: usize = 1;
const NOTIFIED: usize = 2;
const LEFT: usize = 4;
const SOURCES: usize = 8;
const SHARED: usize = 16;
const CLOSED: usize = 32;
const FLAGS: usize = 63;

/// The states of a node.
const IDLE: usize = 0;
/// The waker was woken, and the node is in a list.
const WOKEN: usize = 1;
/// The waker was dropped while the node was in a list. The poll frees the node.
const DROPPED: usize = 2;

/// A source whose events are made in user space: by the polling thread, from a woken node.
pub(crate) trait UserSource: Send + Sync + RefUnwindSafe {
    /// Returns the token of an event, or `None` if the source has nothing to report. Called by the polling thread, once for each
    /// wake or several.
    fn take_event(&self) -> Option<Token>;
}

/// The origin of the event that a woken node becomes.
enum Origin {
    /// A waker, whose events have this token.
    Waker(Token),
    Source(Arc<dyn UserSource>),
}

/// The state of one waker or source. The alignment keeps the low bits of the address free for the flags of the word.
#[repr(align(64))]
pub(crate) struct Node {
    origin: Origin,
    state: AtomicUsize,
    /// The next node of the list. Only the owner of a node in the state `WOKEN` uses the field: first the wake, then the poll.
    next: AtomicPtr<Node>,
}

/// The node of a waker or a source, from its creation until the waker is dropped or the source deregistered.
#[derive(Debug)]
pub(crate) struct WakerNode(NonNull<Node>);

// SAFETY: a node consists of atomics and of values that any thread may use, and is freed by its last user: see `WakerNode::free`
// and `WokenNodes::pop_origin`.
unsafe impl Send for WakerNode {}
// SAFETY: as above.
unsafe impl Sync for WakerNode {}

impl WakerNode {
    pub(crate) fn new(token: Token) -> WakerNode {
        WakerNode::of(Origin::Waker(token))
    }

    pub(crate) fn of_source(source: Arc<dyn UserSource>) -> WakerNode {
        WakerNode::of(Origin::Source(source))
    }

    fn of(origin: Origin) -> WakerNode {
        let node = Node { origin, state: AtomicUsize::new(IDLE), next: AtomicPtr::new(ptr::null_mut()) };
        WakerNode(NonNull::from(Box::leak(Box::new(node))))
    }

    #[inline]
    fn node(&self) -> &Node {
        // SAFETY: the node is freed after `free` was called, which takes the last reference to this value.
        unsafe { self.0.as_ref() }
    }

    /// Returns the token of a waker. `None` for the node of a source.
    pub(crate) fn token(&self) -> Option<Token> {
        match self.node().origin {
            Origin::Waker(token) => Some(token),
            Origin::Source(_) => None,
        }
    }

    /// Returns `true` if the node was woken, and the poll has not taken it yet.
    pub(crate) fn is_woken(&self) -> bool {
        self.node().state.load(Ordering::Relaxed) == WOKEN
    }

    /// Frees the node, now or when the poll takes it from the list. An event that was not returned is discarded.
    ///
    /// The value must not be used again.
    pub(crate) fn free(&mut self) {
        if self.node().state.swap(DROPPED, Ordering::AcqRel) == IDLE {
            // SAFETY: the node came from a box. An idle node is in no list, so that no other reference exists.
            drop(unsafe { Box::from_raw(self.0.as_ptr()) });
        }
    }
}

/// The word. The page of this module explains the protocol.
#[derive(Debug)]
pub(crate) struct WakeState {
    word: AtomicUsize,
}

impl WakeState {
    pub(crate) fn new() -> WakeState {
        WakeState { word: AtomicUsize::new(0) }
    }

    /// Returns `true` if a poll has nothing to do besides the wait of the kernel.
    #[inline]
    pub(crate) fn is_quiet(&self) -> bool {
        self.word.load(Ordering::Relaxed) == 0
    }

    /// Wakes the poll on behalf of a waker. `notify` uses the notifier.
    ///
    /// Async-signal-safe, if `notify` is.
    #[inline]
    pub(crate) fn wake(&self, waker: &WakerNode, notify: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        // Release: the poll that unmarks the node acquires what this thread has written.
        match waker.node().state.swap(WOKEN, Ordering::AcqRel) {
            IDLE => self.push(waker, notify),
            _ => self.wake_again(notify),
        }
    }

    /// Relies on the wake that has marked the node. If the notification of that wake, or of another waker's wake, has failed,
    /// this wake tries again.
    #[inline]
    fn wake_again(&self, notify: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let word = self.word.load(Ordering::Relaxed);
        if word & (AWAKE | NOTIFIED | CLOSED) != 0 || word & !FLAGS == 0 {
            return Ok(());
        }
        self.notify(notify)
    }

    #[inline(never)] // So that a coalesced wake is inlined, and saves no registers.
    fn push(&self, waker: &WakerNode, notify: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let (node, mut word) = (waker.node(), self.word.load(Ordering::Relaxed));
        loop {
            if word & CLOSED != 0 {
                node.state.store(IDLE, Ordering::Release);
                return Ok(());
            }
            node.next.store((word & !FLAGS) as *mut Node, Ordering::Relaxed);
            let must_notify = word & (AWAKE | NOTIFIED) == 0;
            let new = waker.0.as_ptr() as usize | (word & FLAGS) | if must_notify { NOTIFIED } else { 0 };
            match self.word.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if must_notify => return self.complete_notification(notify),
                Ok(_) => return Ok(()),
                Err(current) => word = current,
            }
        }
    }

    /// Ends the wait of the poll, or the next one, unless a notification is on its way or the poll is awake.
    #[cold]
    pub(crate) fn notify(&self, notify: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut word = self.word.load(Ordering::Relaxed);
        while word & (AWAKE | NOTIFIED | CLOSED) == 0 {
            match self.word.compare_exchange_weak(word, word | NOTIFIED, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return self.complete_notification(notify),
                Err(current) => word = current,
            }
        }
        Ok(())
    }

    /// Uses the notifier, after this thread has set `NOTIFIED`.
    #[inline]
    fn complete_notification(&self, notify: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        notify().map_err(|error| {
            self.word.fetch_and(!NOTIFIED, Ordering::AcqRel);
            error
        })
    }

    /// Begins a wait. Returns `true` if a waker was woken, so that the wait must not block.
    #[inline]
    pub(crate) fn begin_wait(&self) -> bool {
        let mut word = self.word.load(Ordering::Acquire);
        if word & AWAKE != 0 && word & !FLAGS == 0 {
            word = self.word.fetch_and(!AWAKE, Ordering::AcqRel);
        }
        word & !FLAGS != 0
    }

    /// Returns `true` if a notification is on its way: no wake uses the notifier until a wait has returned the notification.
    #[inline]
    pub(crate) fn is_notified(&self) -> bool {
        self.word.load(Ordering::Relaxed) & NOTIFIED != 0
    }

    /// Begins a wait that does not block, and that another wait follows, so that wakes need no notifier. Returns `true` if a
    /// waker was woken.
    pub(crate) fn begin_spin(&self) -> bool {
        self.expect_take();
        self.word.load(Ordering::Acquire) & !FLAGS != 0
    }

    /// Records that the polling thread calls [`take`](WakeState::take) next, so that its own wakes use no notifier.
    pub(crate) fn expect_take(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        // Other code that waits for the queue relies on the notifier.
        while word & (SHARED | AWAKE) == 0 {
            match self.word.compare_exchange_weak(word, word | AWAKE, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(current) => word = current,
            }
        }
    }

    /// Ends the use of the word by the poll, which is dropped. From now on a wake has no effect.
    pub(crate) fn close(&self) {
        let mut word = self.word.load(Ordering::Relaxed);
        while let Err(current) =
            self.word.compare_exchange_weak(word, word & FLAGS | CLOSED, Ordering::AcqRel, Ordering::Relaxed)
        {
            word = current;
        }
        let mut woken = WokenNodes::default();
        // SAFETY: the compare-exchange has removed the list from the word, and every node of the list is `WOKEN` or `DROPPED`.
        unsafe { woken.append_reversed((word & !FLAGS) as *mut Node) };
    }

    /// Returns `true` if the poll was dropped. A waker or a registry may keep the state.
    pub(crate) fn is_closed(&self) -> bool {
        self.word.load(Ordering::Relaxed) & CLOSED != 0
    }

    /// Takes the woken nodes after a wait, and appends them to `woken`.
    ///
    /// `is_notified` is `true` if the wait has returned a notification. If there are woken nodes, the caller returns to the
    /// program, or begins another wait.
    pub(crate) fn take(&self, is_notified: bool, woken: &mut WokenNodes) {
        let mut word = self.word.load(Ordering::Relaxed);
        let mut new;
        loop {
            let keeps = LEFT | SOURCES | SHARED | CLOSED | AWAKE | if is_notified { 0 } else { NOTIFIED };
            let has_nodes = word & !FLAGS != 0 || !woken.is_empty();
            new = word & keeps | if has_nodes && word & SHARED == 0 { AWAKE } else { 0 };
            if new == word {
                return;
            }
            match self.word.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => break,
                Err(current) => word = current,
            }
        }
        // SAFETY: the compare-exchange has removed the list from the word, and every node of the list is `WOKEN` or `DROPPED`.
        unsafe { woken.append_reversed((word & !FLAGS) as *mut Node) };
    }

    /// Records if events did not fit into the buffer.
    #[inline]
    pub(crate) fn set_left(&self, left: bool) {
        self.set_flag(LEFT, left);
    }

    /// Records if the poll has timers, or sources whose events are made in user space.
    #[inline]
    pub(crate) fn set_sources(&self, has_sources: bool) {
        // Never a load alone: a thread that finds the flag set must be ordered before the thread that clears the flag.
        if has_sources {
            self.word.fetch_or(SOURCES, Ordering::AcqRel);
        } else {
            self.word.fetch_and(!SOURCES, Ordering::AcqRel);
        }
    }

    #[inline]
    pub(crate) fn has_sources(&self) -> bool {
        self.word.load(Ordering::Acquire) & SOURCES != 0
    }

    fn set_flag(&self, flag: usize, value: bool) {
        let word = self.word.load(Ordering::Relaxed);
        if value && word & flag == 0 {
            self.word.fetch_or(flag, Ordering::AcqRel);
        } else if !value && word & flag != 0 {
            self.word.fetch_and(!flag, Ordering::AcqRel);
        }
    }

    /// Records that other code waits for the descriptor of the queue: from now on every event makes the descriptor readable.
    ///
    /// Returns `true` for the first call. Then the caller must notify if [`has_events`](WakeState::has_events) is `true`.
    #[cfg_attr(not(selector_has_fd), allow(dead_code))]
    pub(crate) fn share(&self) -> bool {
        if self.is_shared() {
            return false;
        }
        let mut word = self.word.load(Ordering::Relaxed);
        while let Err(current) =
            self.word.compare_exchange_weak(word, (word | SHARED) & !AWAKE, Ordering::AcqRel, Ordering::Relaxed)
        {
            word = current;
        }
        word & SHARED == 0
    }

    #[inline]
    pub(crate) fn is_shared(&self) -> bool {
        self.word.load(Ordering::Acquire) & SHARED != 0
    }

    /// Returns `true` if the next poll returns events of wakers, or events that were left.
    #[cfg_attr(not(selector_has_fd), allow(dead_code))]
    pub(crate) fn has_events(&self) -> bool {
        self.word.load(Ordering::Acquire) & (LEFT | !FLAGS) != 0
    }
}

impl Drop for WakeState {
    fn drop(&mut self) {
        // The wakers were dropped before, because they share ownership of the poll's state.
        let mut woken = WokenNodes::default();
        self.take(true, &mut woken);
    }
}

/// Woken nodes that the poll has taken, in the order of their wakes. Only the poll uses them.
#[derive(Debug)]
pub(crate) struct WokenNodes {
    first: *mut Node,
    last: *mut Node,
}

// SAFETY: the list owns its nodes: no other thread uses `next` of a node that is `WOKEN` and was taken, and no other thread frees
// the node.
unsafe impl Send for WokenNodes {}
// SAFETY: a shared list has no methods but `is_empty`.
unsafe impl Sync for WokenNodes {}

#[allow(clippy::derivable_impls)] // Pointers have no default value before Rust 1.88.
impl Default for WokenNodes {
    fn default() -> WokenNodes {
        WokenNodes { first: ptr::null_mut(), last: ptr::null_mut() }
    }
}

impl WokenNodes {
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_null()
    }

    /// Appends a list in reverse order: a list of the word has the newest node first.
    ///
    /// # Safety
    ///
    /// The caller owns the list that begins with `newest`, which may be null.
    unsafe fn append_reversed(&mut self, newest: *mut Node) {
        let (mut node, mut reversed) = (newest, ptr::null_mut());
        while !node.is_null() {
            // SAFETY: the caller owns the nodes.
            let next = unsafe { &(*node).next };
            let older = next.load(Ordering::Relaxed);
            next.store(reversed, Ordering::Relaxed);
            (reversed, node) = (node, older);
        }
        if reversed.is_null() {
            return;
        }
        if self.last.is_null() {
            self.first = reversed;
        } else {
            // SAFETY: this list owns its last node.
            unsafe { &(*self.last).next }.store(reversed, Ordering::Relaxed);
        }
        self.last = newest;
    }

    /// Removes the first node that becomes an event, and returns the token of the event.
    ///
    /// Skipped are sources that have nothing to report, and dropped wakers.
    pub(crate) fn pop(&mut self) -> Option<Token> {
        loop {
            match self.pop_origin()? {
                Origin::Waker(token) => return Some(token),
                Origin::Source(source) => {
                    if let Some(token) = source.take_event() {
                        return Some(token);
                    }
                }
            }
        }
    }

    /// Removes and unmarks the first node, and returns its origin. Nodes of dropped wakers are freed and skipped.
    fn pop_origin(&mut self) -> Option<Origin> {
        loop {
            // SAFETY: this list owns its nodes.
            let node = unsafe { self.first.as_ref() }?;
            let address = self.first;
            // Copied before the node is unmarked: afterwards the waker may free the node.
            let origin = match &node.origin {
                Origin::Waker(token) => Origin::Waker(*token),
                Origin::Source(source) => Origin::Source(Arc::clone(source)),
            };
            // Read before the node is unmarked: afterwards a wake may push the node again.
            self.first = node.next.load(Ordering::Relaxed);
            if self.first.is_null() {
                self.last = ptr::null_mut();
            }
            // Acquire: what the threads have written before their wakes. Release: a waker that is dropped afterwards frees the
            // node.
            if node.state.swap(IDLE, Ordering::AcqRel) != DROPPED {
                return Some(origin);
            }
            // SAFETY: the node came from a box, its waker was dropped, and it was removed from the list.
            drop(unsafe { Box::from_raw(address) });
        }
    }
}

impl Drop for WokenNodes {
    fn drop(&mut self) {
        while self.pop_origin().is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail() -> io::Result<()> {
        Err(io::ErrorKind::Other.into())
    }

    /// The second wake relies on the notification of the first, which fails. Both wakers try again.
    #[test]
    fn wakes_after_a_failed_notification_try_again() {
        let state = WakeState::new();
        let mut nodes = [1, 2].map(|token| WakerNode::new(Token(token)));
        let result = state.wake(&nodes[0], || {
            state.wake(&nodes[1], || panic!("a notification is on its way")).unwrap();
            fail()
        });
        assert!(result.is_err());
        for node in &nodes {
            assert!(state.wake(node, fail).is_err());
        }
        let mut notifications = 0;
        for node in &nodes {
            let notify = || {
                notifications += 1;
                Ok(())
            };
            state.wake(node, notify).unwrap();
        }
        assert_eq!(notifications, 1);
        let mut woken = WokenNodes::default();
        state.take(true, &mut woken);
        assert_eq!([woken.pop(), woken.pop(), woken.pop()], [Some(Token(1)), Some(Token(2)), None]);
        nodes.iter_mut().for_each(WakerNode::free);
    }

    #[test]
    fn wake_after_the_poll_was_dropped_has_no_effect() {
        let state = WakeState::new();
        let mut nodes = [1, 2].map(|token| WakerNode::new(Token(token)));
        state.wake(&nodes[0], || Ok(())).unwrap();
        state.close();
        for node in nodes.iter().cycle().take(6) {
            state.wake(node, || panic!("the poll was dropped")).unwrap();
        }
        assert!(!state.has_events());
        nodes.iter_mut().for_each(WakerNode::free);
    }
}
