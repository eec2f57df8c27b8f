use std::ops::Deref;
use std::os::windows::io::{AsHandle, BorrowedHandle};
use std::sync::Arc;
use std::{fmt, io};

use crate::interest::Interest;
use crate::registry::{Registry, Source};
use crate::source::notification::{NotificationSource, Origin, SourceState};
use crate::source::user_registration::Reports;
use crate::sys::notify::Notify;
use crate::sys::selector::FilterSpec;
use crate::sys::windows::handle::HandleState;
use crate::token::Token;

/// Any handle that threads can wait for as a [`Source`]: an event, a semaphore, a waitable timer, a process, a thread.
///
/// The source is readable when the object of the handle is signalled. Register the source for
/// [`READABLE`](Interest::READABLE). A thread of the [thread pool] of the process waits for the object, and wakes the poll. For
/// the exit of a process, [`Process`](crate::Process) returns the exit status too. For sockets and pipes use their own types.
///
/// **A wait consumes the signal** of some objects, as [WaitForSingleObject] does. An automatic-reset event is reset, and the
/// count of a semaphore is decreased by one. The program then has what the wait has consumed: for a semaphore, each event stands
/// for one count. Other threads that wait for the object compete with the source.
/// If a signal was consumed, and the source is deregistered or disabled before the event, the event is reported after the next
/// registration. If the source is dropped then, the signal is lost.
///
/// # Trigger modes
///
/// Some objects are *reset by a wait*: automatic-reset events, semaphores and synchronization timers. Others *stay signalled*:
/// processes, threads, manual-reset events and manual-reset timers.
///
/// * Edge: an object that is reset by a wait has an event for each signal. An object that stays signalled has one event, until
///   the source is reregistered. If such an object was reset before the poll returned the event, the next signal is reported
///   too. For a manual-reset event that the program sets again and again, use level-triggered.
/// * [`level`](Interest::level): an object that is reset by a wait has an event for each signal. An object that stays signalled
///   has an event in every poll, until the object is reset.
/// * [`oneshot`](Interest::oneshot): one event is reported, and one signal is consumed, until the source is reregistered.
/// * [`NONE`](Interest::NONE): no event is reported, and nothing is consumed.
///
/// Registering and reregistering report a signal that exists. Any other signal is reported when the thread of the pool has run,
/// so that a poll with a timeout of zero immediately after the signal may return nothing.
///
/// The source owns `T`, gives access to it by `Deref`, and returns it by [`into_inner`](SourceHandle::into_inner). The source has
/// a duplicate of the handle, so that the object stays open until the source is dropped. Any thread may register the source.
/// A destructor of `thread_local!` may drop the source, but must not deregister the source: a new thread of the pool cannot start
/// then, and the call would wait for that thread.
///
/// # Examples
///
/// A thread as a source, which is readable when the thread has ended:
///
/// ```
/// use kevio::windows::SourceHandle;
/// use kevio::{Events, Interest, Poll, Token};
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(8);
/// let thread = std::thread::spawn(|| 6 * 7);
/// let mut source = SourceHandle::new(thread)?;
/// poll.registry().register(&mut source, Token(1), Interest::READABLE)?;
///
/// poll.poll_until(&mut events, None)?;
/// assert!(events.iter().any(|event| event.token() == Token(1) && event.is_readable()));
/// assert_eq!(source.into_inner().join().unwrap(), 42);
/// # std::io::Result::Ok(())
/// ```
///
/// [thread pool]: https://learn.microsoft.com/en-us/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-setthreadpoolwait
/// [WaitForSingleObject]: https://learn.microsoft.com/en-us/windows/win32/api/synchapi/nf-synchapi-waitforsingleobject
pub struct SourceHandle<T> {
    // Dropped before `inner`.
    waiting: Waiting,
    inner: T,
}

/// The source, whose drop ends the wait. The wait refers to the registration, and the registration to the state of the wait.
#[derive(Debug)]
struct Waiting(NotificationSource<HandleState>);

impl SourceState for HandleState {
    const NAME: &'static str = "SourceHandle";
}

impl Reports for HandleState {
    fn has_report(&self) -> bool {
        self.take_signal()
    }

    fn rearm(&self) -> bool {
        // Notifies the registration itself.
        HandleState::rearm(self);
        false
    }
}

impl Waiting {
    fn stop(&self) {
        if let Some((state, _)) = self.0.user_state() {
            state.stop();
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((state, _)) = self.0.user_state() {
            state.abandon();
        }
    }
}

impl<T: AsHandle> SourceHandle<T> {
    /// Creates a source for the handle of `inner`. The wait begins when the source is registered.
    ///
    /// # Errors
    ///
    /// * `InvalidInput`: the object cannot be waited for, or is a mutex. The owner of a mutex would be a thread of the pool.
    /// * `PermissionDenied`: the handle does not have the access right `SYNCHRONIZE`. Or the object is an event whose handle does
    ///   not have `EVENT_QUERY_STATE`, and the program may not open the event with that right.
    /// * Errors of the system, for example too many open handles.
    pub fn new(inner: T) -> io::Result<SourceHandle<T>> {
        let state = || HandleState::new(inner.as_handle()).map(Origin::State);
        let source = NotificationSource::new(FilterSpec::Process, [], state)?;
        Ok(SourceHandle { waiting: Waiting(source), inner })
    }
}

impl<T> SourceHandle<T> {
    /// Returns `true` if the source is registered with a poll that exists.
    #[must_use]
    pub fn is_registered(&self) -> bool {
        self.waiting.0.has_live_poll()
    }

    /// Ends the wait, and returns the value.
    pub fn into_inner(self) -> T {
        self.inner
    }
}

/// Gives access to the value. Setting or resetting its object does not change the registration.
impl<T> Deref for SourceHandle<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// Borrows the handle of the value.
impl<T: AsHandle> AsHandle for SourceHandle<T> {
    fn as_handle(&self) -> BorrowedHandle<'_> {
        self.inner.as_handle()
    }
}

/// Writes the value, and if the source is registered.
impl<T: fmt::Debug> fmt::Debug for SourceHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut source = f.debug_struct("SourceHandle");
        source.field("inner", &self.inner).field("is_registered", &self.is_registered()).finish()
    }
}

impl<T> Source for SourceHandle<T> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        if !self.is_registered() {
            // The wait for a poll that was dropped ends first.
            self.waiting.stop();
        }
        self.waiting.0.register_and(registry, token, interests, |source| match source.user_state() {
            Some((state, Some(registration))) => state.start(interests, Arc::clone(registration) as Arc<dyn Notify>),
            _ => Ok(()),
        })
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        if let Some((state, _)) = self.waiting.0.user_state() {
            state.set_next(interests);
        }
        self.waiting.0.reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        let result = self.waiting.0.deregister(registry);
        if !self.waiting.0.is_registered() {
            self.waiting.stop();
        }
        result
    }
}
