//! A wait for a handle by the thread pool of the process: CreateThreadpoolWait.
//!
//! An armed wait calls its callback once, on a thread of the pool, when the handle is signalled. The wait consumes the signal as
//! WaitForSingleObject does: an automatic-reset event is reset, and the count of a semaphore is decreased. Afterwards the wait is
//! not armed, unless the callback arms the wait again.
//!
//! # The end of a wait
//!
//! A wait is dropped in three steps. First the wait is disarmed, so that no callback begins, and none arms the wait again. Then
//! the drop waits for a callback that has begun. At last the context of the callback is freed.
//!
//! The pool consumes a signal before the callback begins. The drop cancels such a callback, so that the signal is lost. A user
//! that must not lose a signal disarms the wait before the drop.
//!
//! wine 8 can begin a callback after the second step, as the test `no_callback_runs_after_the_drop` shows. Therefore a callback
//! finds its context by a number, and returns at once if the wait was dropped.
//!
//! A callback may drop its own wait. Its thread is then excluded from the second step by DisassociateCurrentThreadFromCallback.
//! The running callback has a reference to the context, so that the context is freed when the callback returns.
//!
//! <https://learn.microsoft.com/en-us/windows/win32/api/threadpoolapiset/nf-threadpoolapiset-createthreadpoolwait>
#![allow(clippy::missing_const_for_thread_local)] // The value is const. The lint does not see that on Windows.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::os::windows::io::{AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::{fmt, io, ptr};

use windows_sys::Win32::Foundation::WAIT_OBJECT_0;
use windows_sys::Win32::System::Threading::{
    CloseThreadpoolWait, CreateEventW, CreateThreadpoolWait, DisassociateCurrentThreadFromCallback, SetThreadpoolWait,
    WaitForSingleObject, WaitForThreadpoolWaitCallbacks, PTP_CALLBACK_INSTANCE, PTP_WAIT,
};

use crate::sys::lock::lock_ignoring_poison;

thread_local! {
    /// The callback that runs on this thread: its context, and its instance. Null outside of a callback.
    static RUNNING: Cell<(*const Context, PTP_CALLBACK_INSTANCE)> = const { Cell::new((ptr::null(), 0)) };
}

/// The contexts of the waits that exist, by their numbers.
static CONTEXTS: Mutex<BTreeMap<usize, Weak<Context>>> = Mutex::new(BTreeMap::new());
static NEXT_NUMBER: AtomicUsize = AtomicUsize::new(1);

/// A wait for one handle. No callback runs after this value was dropped.
pub(crate) struct Wait {
    wait: PTP_WAIT,
    /// The number of the context.
    number: usize,
    context: Arc<Context>,
}

struct Context {
    /// A duplicate of the handle, so that the handle stays open while the pool waits for it. The pool raises an exception if a
    /// handle is closed.
    handle: OwnedHandle,
    /// Held while the wait is armed or disarmed.
    state: Mutex<State>,
    callback: Box<dyn Fn(Rearm<'_>) + Send + Sync>,
}

#[derive(Copy, Clone, PartialEq, Eq)]
enum State {
    /// The callback may arm the wait.
    Open,
    /// The wait is to stay disarmed.
    Disarmed,
    /// No callback may begin.
    Dropped,
}

/// Arms a wait again. Passed to its callback.
pub(crate) struct Rearm<'a> {
    wait: PTP_WAIT,
    context: &'a Context,
}

impl Wait {
    /// Creates a wait that is not armed. `callback` must not panic.
    ///
    /// The handle is of an object that threads can wait for, and no mutex. A mutex would belong to a thread of the pool.
    pub(crate) fn new(
        handle: BorrowedHandle<'_>,
        callback: impl Fn(Rearm<'_>) + Send + Sync + 'static,
    ) -> io::Result<Wait> {
        let handle = handle.try_clone_to_owned()?;
        let context = Arc::new(Context { handle, state: Mutex::new(State::Disarmed), callback: Box::new(callback) });
        let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
        #[cfg(test)]
        let environment = one_thread::environment();
        #[cfg(not(test))]
        let environment = ptr::null();
        // SAFETY: the callback uses the pointer as a number. The environment is null or exists.
        let wait = unsafe { CreateThreadpoolWait(Some(run_callback), number as *mut c_void, environment) };
        if wait == 0 {
            return Err(io::Error::last_os_error());
        }
        lock_ignoring_poison(&CONTEXTS).insert(number, Arc::downgrade(&context));
        Ok(Wait { wait, number, context })
    }

    /// Arms the wait. The caller has not armed it, or its callback has begun, or it was disarmed.
    pub(crate) fn arm(&self) {
        *lock_ignoring_poison(&self.context.state) = State::Open;
        Rearm { wait: self.wait, context: &self.context }.arm();
    }

    /// Disarms the wait, and waits for a callback that has begun, or that a consumed signal leads to.
    pub(crate) fn disarm(&self) {
        self.close(State::Disarmed);
    }

    /// Disarms the wait, and waits for callbacks. A dropped wait cancels a callback that has not begun.
    fn close(&self, closed: State) {
        let (running, instance) = RUNNING.with(Cell::get);
        if ptr::eq(running, Arc::as_ptr(&self.context)) {
            // SAFETY: this thread runs the callback with this instance.
            unsafe { DisassociateCurrentThreadFromCallback(instance) };
            // The function may be called once for each callback.
            RUNNING.with(|running| running.set((ptr::null(), 0)));
        }
        let mut state = lock_ignoring_poison(&self.context.state);
        *state = closed;
        // SAFETY: the wait exists. A null handle disarms it.
        unsafe { SetThreadpoolWait(self.wait, ptr::null_mut(), ptr::null()) };
        drop(state);
        // SAFETY: the wait exists.
        unsafe { WaitForThreadpoolWaitCallbacks(self.wait, i32::from(closed == State::Dropped)) };
    }
}

impl Rearm<'_> {
    /// Arms the wait, unless the wait was disarmed since the callback began.
    pub(crate) fn arm(self) {
        let state = lock_ignoring_poison(&self.context.state);
        if *state == State::Open {
            // SAFETY: the wait exists, and the handle stays open until the wait is dropped. A null pointer is no timeout.
            unsafe { SetThreadpoolWait(self.wait, self.context.handle.as_raw_handle(), ptr::null()) };
        }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.close(State::Dropped);
        lock_ignoring_poison(&CONTEXTS).remove(&self.number);
        // SAFETY: the wait exists, and no callback of it is left, except perhaps the one that this thread runs. The pool frees
        // the wait when that callback returns.
        unsafe { CloseThreadpoolWait(self.wait) };
    }
}

impl fmt::Debug for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wait").field("handle", &self.context.handle).finish_non_exhaustive()
    }
}

unsafe extern "system" fn run_callback(instance: PTP_CALLBACK_INSTANCE, number: *mut c_void, wait: PTP_WAIT, _: u32) {
    let context = lock_ignoring_poison(&CONTEXTS).get(&(number as usize)).and_then(Weak::upgrade);
    let Some(context) = context else { return };
    // A callback that begins later than the drop does not pass here. The drop waits for the others.
    if *lock_ignoring_poison(&context.state) == State::Dropped {
        return;
    }
    RUNNING.with(|running| running.set((Arc::as_ptr(&context), instance)));
    (context.callback)(Rearm { wait, context: &context });
    RUNNING.with(|running| running.set((ptr::null(), 0)));
}

/// Returns `true` if the handle is signalled now. The signal is consumed, if the object has that kind of signal.
pub(crate) fn take_signal(handle: BorrowedHandle<'_>) -> bool {
    // SAFETY: the handle is open. The timeout is zero.
    unsafe { WaitForSingleObject(handle.as_raw_handle(), 0) == WAIT_OBJECT_0 }
}

/// Creates an event that is not signalled. An event with `resets` becomes unsignalled when a wait for it ends.
pub(crate) fn create_event(resets: bool) -> io::Result<OwnedHandle> {
    // SAFETY: null pointers stand for the default security, and for no name.
    let event = unsafe { CreateEventW(ptr::null(), i32::from(!resets), 0, ptr::null()) };
    if event.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the system has just made this handle, and it has no other owner.
    Ok(unsafe { OwnedHandle::from_raw_handle(event) })
}

/// A pool with one thread, for the waits that this thread creates.
#[cfg(test)]
pub(crate) mod one_thread {
    use windows_sys::Win32::System::Threading::{
        CreateThreadpool, SetThreadpoolThreadMaximum, TP_CALLBACK_ENVIRON_V3, TP_CALLBACK_PRIORITY_NORMAL,
    };

    use super::*;

    thread_local! {
        static ENVIRONMENT: Cell<*const TP_CALLBACK_ENVIRON_V3> = const { Cell::new(ptr::null()) };
    }

    pub(super) fn environment() -> *const TP_CALLBACK_ENVIRON_V3 {
        ENVIRONMENT.with(Cell::get)
    }

    /// Makes the pool, which exists until the process ends.
    pub(crate) fn use_pool_of_one_thread() {
        // SAFETY: the parameter is reserved.
        let pool = unsafe { CreateThreadpool(ptr::null()) };
        assert_ne!(pool, 0);
        // SAFETY: the pool exists.
        unsafe { SetThreadpoolThreadMaximum(pool, 1) };
        // SAFETY: the record consists of numbers and pointers. Zeroes are a value of each.
        let zeroes: TP_CALLBACK_ENVIRON_V3 = unsafe { std::mem::zeroed() };
        let environment = TP_CALLBACK_ENVIRON_V3 {
            Version: 3,
            Pool: pool,
            CallbackPriority: TP_CALLBACK_PRIORITY_NORMAL,
            Size: std::mem::size_of::<TP_CALLBACK_ENVIRON_V3>() as u32,
            ..zeroes
        };
        ENVIRONMENT.with(|cell| cell.set(Box::leak(Box::new(environment))));
    }
}

#[cfg(test)]
mod tests {
    use std::os::windows::io::AsHandle;
    use std::sync::atomic::AtomicBool;
    use std::sync::mpsc::{channel, Sender};
    use std::time::{Duration, Instant};

    use windows_sys::Win32::System::Threading::SetEvent;

    use super::*;
    use crate::sys::conformance::support::repetitions;
    use crate::sys::conformance::support::system::changed_wait_drops_signals;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn set(event: &OwnedHandle) {
        // SAFETY: the handle is open, and is that of an event.
        assert_ne!(unsafe { SetEvent(event.as_raw_handle()) }, 0);
    }

    fn counted(event: &OwnedHandle, sender: Sender<()>) -> Wait {
        let sender = Mutex::new(sender);
        Wait::new(event.as_handle(), move |_| sender.lock().unwrap().send(()).unwrap()).unwrap()
    }

    #[test]
    fn armed_wait_calls_once_for_each_arming() {
        for resets in [true, false] {
            let event = create_event(resets).unwrap();
            let (sender, receiver) = channel();
            let wait = counted(&event, sender);
            set(&event);
            wait.arm();
            receiver.recv_timeout(DEADLINE).unwrap();
            // A wait that is not armed leaves the signal.
            set(&event);
            wait.disarm();
            assert!(take_signal(event.as_handle()) && receiver.try_recv().is_err());
            set(&event);
            wait.arm();
            receiver.recv_timeout(DEADLINE).unwrap();
            drop(wait);
            assert_eq!(take_signal(event.as_handle()), !resets);
            assert!(receiver.try_recv().is_err());
        }
    }

    #[test]
    fn callback_arms_its_wait_again_until_the_drop() {
        let event = create_event(false).unwrap();
        let (sender, receiver) = channel();
        let sender = Mutex::new(sender);
        let wait = Wait::new(event.as_handle(), move |rearm| {
            let _ = sender.lock().unwrap().send(());
            rearm.arm();
        });
        let wait = wait.unwrap();
        wait.arm();
        set(&event);
        // The event stays signalled.
        for _ in 0..100 {
            receiver.recv_timeout(DEADLINE).unwrap();
        }
        drop(wait);
        while receiver.try_recv().is_ok() {}
        assert!(matches!(receiver.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected)));
    }

    #[test]
    fn disarmed_wait_leaves_the_signal() {
        let event = create_event(true).unwrap();
        let (sender, receiver) = channel();
        let wait = counted(&event, sender);
        wait.arm();
        wait.disarm();
        set(&event);
        assert!(receiver.try_recv().is_err() && take_signal(event.as_handle()));
        // The closing of the other handle does not end the wait.
        wait.arm();
        set(&event);
        drop(event);
        receiver.recv_timeout(DEADLINE).unwrap();
    }

    /// The pool consumes the signal before it calls, so that a call that was cancelled would lose the signal.
    #[test]
    fn disarmed_wait_has_called_or_leaves_the_signal() {
        for round in 0..repetitions(10_000, 33) {
            let event = create_event(true).unwrap();
            let calls = Arc::new(AtomicUsize::new(0));
            let inside = Arc::clone(&calls);
            let wait = Wait::new(event.as_handle(), move |_| {
                inside.fetch_add(1, Ordering::SeqCst);
            });
            let wait = wait.unwrap();
            wait.arm();
            set(&event);
            for _ in 0..round % 13 * 100 {
                std::hint::spin_loop();
            }
            wait.disarm();
            let begin = Instant::now();
            while calls.load(Ordering::SeqCst) == 0 && !take_signal(event.as_handle()) {
                // wine 8 can call after the wait was disarmed.
                if changed_wait_drops_signals() && begin.elapsed() > Duration::from_millis(50) {
                    break;
                }
                assert!(begin.elapsed() < DEADLINE, "round {round}: the signal was lost");
                std::thread::yield_now();
            }
        }
    }

    #[test]
    fn drop_waits_for_a_callback_that_has_begun() {
        let event = create_event(true).unwrap();
        let (begun, has_begun) = channel();
        let (go, goes) = channel::<()>();
        let (begun, goes) = (Mutex::new(begun), Mutex::new(goes));
        let is_over = Arc::new(Mutex::new(false));
        let is_over_inside = Arc::clone(&is_over);
        let wait = Wait::new(event.as_handle(), move |_| {
            begun.lock().unwrap().send(()).unwrap();
            goes.lock().unwrap().recv_timeout(DEADLINE).unwrap();
            *is_over_inside.lock().unwrap() = true;
        });
        let wait = wait.unwrap();
        wait.arm();
        set(&event);
        has_begun.recv_timeout(DEADLINE).unwrap();
        let dropping = std::thread::spawn(move || {
            drop(wait);
            assert!(*is_over.lock().unwrap(), "the drop has not waited");
        });
        go.send(()).unwrap();
        dropping.join().unwrap();
    }

    /// The signal comes shortly before the drop, while the thread that waits may have left its wait.
    #[test]
    fn no_callback_runs_after_the_drop() {
        static LATE: AtomicUsize = AtomicUsize::new(0);

        for round in 0..repetitions(100_000, 33) {
            let event = create_event(round % 2 == 0).unwrap();
            let is_dropped = Arc::new(AtomicBool::new(false));
            let inside = Arc::clone(&is_dropped);
            let wait = Wait::new(event.as_handle(), move |_| {
                for _ in 0..round % 7 * 30 {
                    std::hint::spin_loop();
                }
                LATE.fetch_add(usize::from(inside.load(Ordering::SeqCst)), Ordering::SeqCst);
            });
            let wait = wait.unwrap();
            wait.arm();
            set(&event);
            for _ in 0..round % 11 * 100 {
                std::hint::spin_loop();
            }
            drop(wait);
            is_dropped.store(true, Ordering::SeqCst);
        }
        assert_eq!(LATE.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn callback_can_drop_its_wait() {
        let event = create_event(true).unwrap();
        let slot: Arc<Mutex<Option<Wait>>> = Arc::default();
        let (sender, receiver) = channel();
        let (sender, inside) = (Mutex::new(sender), Arc::downgrade(&slot));
        let wait = Wait::new(event.as_handle(), move |rearm| {
            let slot = inside.upgrade().unwrap();
            let wait = slot.lock().unwrap().take().unwrap();
            // Armed again, so that the drop has something to cancel.
            wait.arm();
            drop(wait);
            rearm.arm();
            sender.lock().unwrap().send(()).unwrap();
        });
        slot.lock().unwrap().insert(wait.unwrap()).arm();
        set(&event);
        receiver.recv_timeout(DEADLINE).unwrap();
        // The context was freed with its sender.
        assert!(receiver.recv_timeout(DEADLINE).is_err());
        assert!(slot.lock().unwrap().is_none());
    }
}
