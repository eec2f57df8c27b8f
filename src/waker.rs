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
/// [`wake`](Waker::wake) makes the poll under way, or the next one, return with a readable event that carries the
/// waker's token. Any number of wakes before that make at least one event, and after the event none is left. A poll
/// may have any number of wakers, each with its token.
///
/// Keep the waker: when it is dropped, a wake that no poll has returned yet is lost with it. To share it, put it into an
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
    waker: <sys::ActiveSelector as Selector>::WakeHandle,
    awake: Arc<AtomicBool>,
}

impl Waker {
    /// A waker of the [`Poll`](crate::Poll) that `registry` belongs to.
    ///
    /// # Errors
    ///
    /// * `Unsupported`: a forked child calls it ([forks](crate#forks)).
    /// * Those of making a descriptor, where it needs one: eventfd(2) or pipe(2); kqueue's `EVFILT_USER` needs none.
    pub fn new(registry: &Registry, token: Token) -> io::Result<Waker> {
        registry.shared().check_process()?;
        let shared = Arc::clone(registry.shared());
        let waker = shared.selector().add_waker(token)?;
        let awake = shared.wake_flags().add();
        Ok(Waker { shared, waker, awake })
    }

    /// Makes the poll under way, or the next one, return. May be called in any thread.
    ///
    /// If this waker has been woken already and the poll has not returned since, this costs no system call. If the
    /// [`Poll`](crate::Poll) is no more, nothing happens.
    ///
    /// # Errors
    ///
    /// * `Unsupported`: a forked child calls it ([forks](crate#forks)).
    /// * Those of kevent(2), epoll_ctl(2) or write(2); none are known to occur.
    #[inline]
    pub fn wake(&self) -> io::Result<()> {
        self.shared.check_process()?;
        // Release what the caller has written before: the poll that clears the flag acquires it.
        if self.awake.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.shared.wake_flags().mark();
        let result = self.shared.selector().wake(&self.waker);
        if result.is_err() {
            self.awake.store(false, Ordering::Release);
        }
        result
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        // In a forked child another thread of the parent may hold the locks, and only the memory is the child's.
        if self.shared.check_process().is_err() {
            return;
        }
        self.shared.wake_flags().remove(&self.awake);
        self.shared.selector().remove_waker(&self.waker);
    }
}

impl std::fmt::Debug for Waker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}
