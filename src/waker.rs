use std::io;
use std::sync::Arc;

use crate::poll_shared::PollShared;
use crate::registry::Registry;
use crate::sys::selector::Selector;
use crate::token::Token;
use crate::wake_state::WakerNode;

/// Wakes a [`Poll`](crate::Poll) from any thread.
///
/// [`wake`](Waker::wake) ends the blocked [`Poll::poll`](crate::Poll::poll), or the next one, with a readable event that has
/// the token of the waker. Wakes are coalesced: all wakes before that poll returns are reported as one event, or as a few
/// events. A poll may have any number of wakers, each with its own token. A waker is memory: all wakers of a poll share one
/// descriptor, and a poll spends time only on those that were woken.
///
/// Keep the waker. If a waker is dropped, a wake that no poll has reported yet is lost. To share a waker, put it into an
/// [`Arc`].
///
/// # Examples
///
/// ```
/// use std::sync::Arc;
/// use std::thread;
///
/// use kevio::{Events, Poll, Token, Waker};
///
/// const WAKE: Token = Token(7);
///
/// let mut poll = Poll::new()?;
/// let waker = Arc::new(Waker::new(poll.registry(), WAKE)?);
/// let handle = {
///     let waker = Arc::clone(&waker);
///     thread::spawn(move || waker.wake())
/// };
///
/// let mut events = Events::with_capacity(8);
/// poll.poll(&mut events, None)?;
/// assert!(events.iter().any(|event| event.token() == WAKE && event.is_readable()));
/// handle.join().unwrap()?;
/// # std::io::Result::Ok(())
/// ```
pub struct Waker {
    shared: Arc<PollShared>,
    node: WakerNode,
}

impl Waker {
    /// Creates a waker of the [`Poll`](crate::Poll) that `registry` belongs to.
    ///
    /// # Errors
    ///
    /// * `Unsupported`: the caller is a forked child ([forks](crate::guide::forks)).
    /// * Errors of eventfd(2) or pipe(2) for the first waker: all wakers of a poll share one descriptor. `EVFILT_USER` of kqueue
    ///   needs none.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Waker> {
        registry.shared().check_process()?;
        let shared = Arc::clone(registry.shared());
        shared.selector().create_notifier()?;
        Ok(Waker { shared, node: WakerNode::new(token) })
    }

    /// Ends the blocked poll, or the next one. Any thread may call this function.
    ///
    /// `wake` takes no lock and allocates nothing, and may be called in a signal handler. A system call is made only if the poll
    /// may be blocked: neither if an earlier wake has not been reported yet, nor while the polling thread handles an event of a
    /// waker. If the [`Poll`](crate::Poll) was dropped, `wake` has no effect.
    ///
    /// # Errors
    ///
    /// * `Unsupported`: the caller is a forked child ([forks](crate::guide::forks)).
    /// * Errors of kevent(2), epoll_ctl(2) or write(2), if other code has closed the descriptor of the poll or its wake-up
    ///   descriptor. The next wake tries again.
    ///
    /// While an earlier wake is not reported yet, `wake` makes no system call and cannot detect a closed descriptor. Then the
    /// result is `Ok`, and the next [`Poll::poll`](crate::Poll::poll) reports the wake or fails. Other code that waits for the
    /// descriptor of the poll is not woken then.
    #[inline]
    pub fn wake(&self) -> io::Result<()> {
        // The error has no text, because a signal handler must not allocate.
        if self.shared.is_of_this_process() {
            return self.shared.wake(&self.node);
        }
        Err(io::ErrorKind::Unsupported.into())
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        // In a forked child, a thread of the parent may have been about to change the list of the woken nodes during the fork.
        if self.shared.is_of_this_process() {
            self.node.free();
        }
    }
}

/// Writes the token, the number of the poll ([`Registry`] has the same), and if a wake was not reported yet.
impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut waker = f.debug_struct("Waker");
        if let Some(token) = self.node.token() {
            waker.field("token", &token);
        }
        waker.field("poll", &self.shared.id().number()).field("is_woken", &self.node.is_woken()).finish()
    }
}
