use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use crate::poll_shared::PollShared;
use crate::registry::Registry;
use crate::sys;
use crate::sys::selector::Selector;
use crate::token::Token;

/// Wakes a [`Poll`](crate::Poll) from any thread.
///
/// [`wake`](Waker::wake) ends the blocked [`Poll::poll`](crate::Poll::poll), or the next one, with a readable event that has
/// the token of the waker. Wakes are coalesced: all wakes before that poll returns are reported as one event, or as a few
/// events. A poll may have any number of wakers, each with its own token.
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
    handle: <sys::ActiveSelector as Selector>::WakeHandle,
    /// The flag of this waker in `WakeFlags`.
    flag: Arc<AtomicBool>,
}

impl Waker {
    /// Creates a waker of the [`Poll`](crate::Poll) that `registry` belongs to.
    ///
    /// # Errors
    ///
    /// * `Unsupported`: the caller is a forked child ([forks](crate#forks)).
    /// * Errors of eventfd(2) or pipe(2), on backends where a waker is a descriptor. `EVFILT_USER` of kqueue needs none.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Waker> {
        registry.shared().check_process()?;
        let shared = Arc::clone(registry.shared());
        let handle = shared.selector().add_waker(token)?;
        let flag = shared.wake_flags().add();
        Ok(Waker { shared, handle, flag })
    }

    /// Ends the blocked poll, or the next one. Any thread may call this function.
    ///
    /// If an earlier wake of this waker has not been reported yet, `wake` makes no system call. If the [`Poll`](crate::Poll)
    /// was dropped, `wake` has no effect.
    ///
    /// # Errors
    ///
    /// * `Unsupported`: the caller is a forked child ([forks](crate#forks)).
    /// * Errors of kevent(2), epoll_ctl(2) or write(2), of which none is known to occur.
    #[inline]
    pub fn wake(&self) -> io::Result<()> {
        self.shared.check_process()?;
        // Release, because the poll that clears the flag acquires the writes of this thread. Acquire, because `mark` must come
        // after the `clear` that cleared the flag. Otherwise that `clear` could undo the mark, and the flag would stay set.
        if self.flag.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.shared.wake_flags().mark();
        let result = self.shared.selector().wake(&self.handle);
        if result.is_err() {
            self.flag.store(false, Ordering::Release);
        }
        result
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        // In a forked child, a thread of the parent may have held the locks during the fork, and the registration in the kernel
        // belongs to the parent.
        if self.shared.check_process().is_err() {
            return;
        }
        self.shared.wake_flags().remove(&self.flag);
        self.shared.selector().remove_waker(&self.handle);
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}
