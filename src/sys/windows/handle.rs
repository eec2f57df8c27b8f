//! Any handle that threads can wait for, as the state of a source.
//!
//! A wait of the thread pool waits for the handle. The next wait begins when the polling thread has made an event of the last
//! one, so that at most one signal is consumed before its event.
//!
//! * Edge-triggered: the next wait begins at once if the wait has consumed the signal. An object that stays signalled would be
//!   reported without end, and is waited for again after a reregistration.
//! * Level-triggered: the polling thread checks the handle at each poll, until the handle is not signalled. Then a wait begins.
//! * One-shot: the next wait begins with the reregistration.

use std::io;
use std::mem::{size_of, MaybeUninit};
use std::os::windows::io::{AsHandle, AsRawHandle, BorrowedHandle, FromRawHandle, OwnedHandle};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use windows_sys::Wdk::Foundation::{NtQueryObject, ObjectTypeInformation};
use windows_sys::Win32::Foundation::{DuplicateHandle, HANDLE, NTSTATUS, UNICODE_STRING, WAIT_FAILED};
use windows_sys::Win32::Storage::FileSystem::SYNCHRONIZE;
use windows_sys::Win32::System::Threading::{GetCurrentProcess, WaitForMultipleObjects};

use crate::interest::{Interest, TriggerMode};
use crate::sys::error::invalid_input;
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::notify::Notify;
use crate::sys::windows::wait::{create_event, take_signal, Wait};

/// The state of a source for one handle.
#[derive(Debug)]
pub(crate) struct HandleState {
    /// A duplicate, so that the handle stays open and stands for the same object.
    handle: OwnedHandle,
    kind: Kind,
    /// The number of signals with which waits have ended, and which no event reports yet. Increased by the callback. wine can call
    /// back after the wait was disarmed, so that the number can be more than one.
    signals: Arc<AtomicUsize>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    mode: TriggerMode,
    /// The mode of the reregistration in progress.
    next_mode: TriggerMode,
    /// `None` while the source is not registered.
    active: Option<Active>,
}

struct Active {
    wait: Wait,
    registration: Arc<dyn Notify>,
    is_armed: bool,
    /// Level-triggered: the last check has found a signal, so that the next poll checks again.
    is_checking: bool,
}

/// What a wait does with the signal of an object.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A wait consumes the signal: automatic-reset events and semaphores.
    Consumed,
    /// Processes, threads, manual-reset events and other objects stay signalled.
    Kept,
    /// A waitable timer, of either kind.
    Timer,
}

impl HandleState {
    /// Fails with `InvalidInput` if the handle cannot be waited for. Fails with `PermissionDenied` without the access right
    /// `SYNCHRONIZE`, and without `EVENT_QUERY_STATE` for an event if the program cannot get that right.
    pub(crate) fn new(handle: BorrowedHandle<'_>) -> io::Result<HandleState> {
        let mut handle = handle.try_clone_to_owned()?;
        check_waitable(handle.as_handle())?;
        let kind = kind(&mut handle)?;
        let inner = Inner { mode: TriggerMode::Disabled, next_mode: TriggerMode::Disabled, active: None };
        Ok(HandleState { handle, kind, signals: Arc::default(), inner: Mutex::new(inner) })
    }

    /// Begins to wait for the handle.
    pub(crate) fn start(&self, interest: Interest, registration: Arc<dyn Notify>) -> io::Result<()> {
        let (signals, notified) = (Arc::clone(&self.signals), Arc::clone(&registration));
        let wait = Wait::new(self.handle.as_handle(), move |_| {
            signals.fetch_add(1, Ordering::SeqCst);
            notified.notify();
        })?;
        let previous = {
            let mut inner = lock_ignoring_poison(&self.inner);
            inner.mode = interest.mode();
            let active = Active { wait, registration, is_armed: false, is_checking: false };
            let previous = inner.active.replace(active);
            self.resume(&mut inner);
            previous
        };
        previous.into_iter().for_each(Active::end);
        Ok(())
    }

    /// Ends the wait. A signal that a wait has consumed, and that no event has reported, is reported after the next registration.
    pub(crate) fn stop(&self) {
        let active = lock_ignoring_poison(&self.inner).active.take();
        active.into_iter().for_each(Active::end);
    }

    /// Ends the wait. A signal that a wait has consumed, and that no event has reported, is lost.
    ///
    /// A destructor of `thread_local!` can drop a source. Its thread has the loader lock, which a new thread of the pool needs.
    /// Therefore this function does not wait for a callback that has not begun.
    pub(crate) fn abandon(&self) {
        let active = lock_ignoring_poison(&self.inner).active.take();
        drop(active);
    }

    /// Records the interest of the reregistration that follows.
    pub(crate) fn set_next(&self, interest: Interest) {
        lock_ignoring_poison(&self.inner).next_mode = interest.mode();
    }

    /// Begins with the interest that was recorded.
    pub(crate) fn rearm(&self) {
        let mut inner = lock_ignoring_poison(&self.inner);
        inner.mode = inner.next_mode;
        self.resume(&mut inner);
    }

    /// Waits as the mode demands, or notifies the registration if there is something to report already.
    fn resume(&self, inner: &mut Inner) {
        let mode = inner.mode;
        let Some(active) = &mut inner.active else { return };
        active.is_checking = false;
        let has_ended = match self.kind {
            // An object that was reset since is not signalled any more. In one step, because the wait may end at any time.
            Kind::Kept => self.take_ended(),
            Kind::Consumed | Kind::Timer => self.has_ended(),
        };
        active.is_armed &= !has_ended;
        if mode == TriggerMode::Disabled {
            // Signals stay with the object. The callback takes no lock, so that it ends.
            active.wait.disarm();
            active.is_armed = false;
        } else if self.has_ended() {
            active.registration.notify();
        } else if !active.is_armed {
            // Without the pool, so that the next poll reports a signal that exists.
            match take_signal(self.handle.as_handle()) {
                true => {
                    self.signals.fetch_add(1, Ordering::SeqCst);
                    active.registration.notify();
                }
                false => active.arm(),
            }
        }
    }

    /// Returns `true` if there is a signal to report. Called by the polling thread.
    pub(crate) fn take_signal(&self) -> bool {
        let mut inner = lock_ignoring_poison(&self.inner);
        let mode = inner.mode;
        let Some(active) = inner.active.as_mut().filter(|_| mode != TriggerMode::Disabled) else { return false };
        let has_ended = self.take_ended();
        active.is_armed &= !has_ended;
        if active.is_armed {
            return false;
        }
        match mode {
            TriggerMode::Level => {
                let is_signalled = has_ended || (active.is_checking && take_signal(self.handle.as_handle()));
                active.is_checking = is_signalled;
                match is_signalled {
                    // The next poll checks again.
                    true => active.registration.notify(),
                    false => active.arm(),
                }
                is_signalled
            }
            TriggerMode::Edge => {
                match has_ended {
                    true if self.has_ended() => active.registration.notify(),
                    true if !self.stays_signalled(active) => active.arm(),
                    _ => {}
                }
                has_ended
            }
            _ => has_ended,
        }
    }

    /// Returns `true` if a wait has ended with a signal that no event reports yet.
    fn has_ended(&self) -> bool {
        self.signals.load(Ordering::SeqCst) > 0
    }

    /// Takes such a signal: one of those that a wait consumes, and all of the others.
    fn take_ended(&self) -> bool {
        match self.kind {
            Kind::Consumed => {
                let decrease = |signals: usize| signals.checked_sub(1);
                self.signals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, decrease).is_ok()
            }
            Kind::Kept | Kind::Timer => self.signals.swap(0, Ordering::SeqCst) > 0,
        }
    }

    /// Returns `true` if no wait is to begin now: it could end with the signal that was just reported.
    fn stays_signalled(&self, active: &Active) -> bool {
        // The number of signals after which a timer is taken for one that stays signalled. No timer expires as often as that
        // during the checks.
        const MANY: usize = 8;

        let handle = self.handle.as_handle();
        match self.kind {
            Kind::Consumed => false,
            // The check consumes nothing.
            Kind::Kept => take_signal(handle),
            Kind::Timer => query::timer_is_signalled(handle).unwrap_or_else(|| {
                // Without the access right to query. The check resets some timers.
                let signals = (0..MANY).take_while(|_| take_signal(handle)).count();
                if (1..MANY).contains(&signals) {
                    // The timer has expired again. The next event reports that, and checks again.
                    self.signals.fetch_add(1, Ordering::SeqCst);
                    active.registration.notify();
                }
                signals > 0
            }),
        }
    }
}

impl Active {
    fn arm(&mut self) {
        self.is_armed = true;
        self.wait.arm();
    }

    /// Ends the wait, after the callback of a signal that was consumed.
    fn end(self) {
        self.wait.disarm();
    }
}

impl std::fmt::Debug for Active {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Active").field("wait", &self.wait).field("is_armed", &self.is_armed).finish_non_exhaustive()
    }
}

/// Fails if the handle cannot be waited for. Consumes no signal.
fn check_waitable(handle: BorrowedHandle<'_>) -> io::Result<()> {
    // A wait for both is satisfied if both are signalled, and consumes nothing before. The event is never signalled.
    let never = create_event(false)?;
    let handles: [HANDLE; 2] = [handle.as_raw_handle(), never.as_raw_handle()];
    // SAFETY: the array has two open handles. The timeout is zero.
    if unsafe { WaitForMultipleObjects(2, handles.as_ptr(), 1, 0) } != WAIT_FAILED {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.kind() {
        io::ErrorKind::PermissionDenied => Err(error),
        _ => Err(invalid_input(format!(
            "a `SourceHandle` needs a handle that can be waited for, and the system refuses the wait ({error}): pass the \
             handle of an event, a semaphore, a waitable timer, a process or a thread"
        ))),
    }
}

/// Returns what a wait for the object does. Fails with `InvalidInput` for a mutex.
///
/// If the handle lacks the access right for the query, a handle of the same object with that right takes its place.
fn kind(handle: &mut OwnedHandle) -> io::Result<Kind> {
    match type_name(handle.as_handle()).as_deref() {
        Some("Mutant") => Err(invalid_input(
            "a `SourceHandle` cannot be created for a mutex, because the thread that waits becomes the owner of the mutex, \
             and a thread of the system waits: pass the handle of an event",
        )),
        Some("Semaphore") => Ok(Kind::Consumed),
        Some("Event") => {
            if query::event_resets(handle.as_handle()).is_none() {
                *handle = query::with_access_right(handle.as_handle()).map_err(|error| {
                    let message = format!(
                        "a `SourceHandle` needs the access right `EVENT_QUERY_STATE` of an event, and the system refuses it \
                         ({error}): open the event with `EVENT_QUERY_STATE | SYNCHRONIZE`"
                    );
                    io::Error::new(error.kind(), message)
                })?;
            }
            let resets = query::event_resets(handle.as_handle()) != Some(false);
            Ok(if resets { Kind::Consumed } else { Kind::Kept })
        }
        Some("Timer" | "IRTimer") => {
            if query::timer_is_signalled(handle.as_handle()).is_none() {
                if let Ok(with_right) = query::with_access_right(handle.as_handle()) {
                    *handle = with_right;
                }
            }
            Ok(Kind::Timer)
        }
        _ => Ok(Kind::Kept),
    }
}

/// Returns the name of the type of an object. `None` if the system does not provide the name.
fn type_name(handle: BorrowedHandle<'_>) -> Option<String> {
    /// `PUBLIC_OBJECT_TYPE_INFORMATION`, which begins with the name and has more fields than are used, and the text of the name.
    #[repr(C)]
    struct Information {
        name: UNICODE_STRING,
        rest: [u64; 64],
    }
    let mut information = MaybeUninit::<Information>::zeroed();
    let size = size_of::<Information>() as u32;
    // SAFETY: the system writes at most the size of the structure. The last pointer may be null.
    let status = unsafe {
        NtQueryObject(
            handle.as_raw_handle(),
            ObjectTypeInformation,
            information.as_mut_ptr().cast(),
            size,
            std::ptr::null_mut(),
        )
    };
    if status < 0 {
        return None;
    }
    // SAFETY: zeroes are a value of the structure, and the system has written the name. The structure is not moved, because the
    // pointer of the name leads into it.
    let name = &unsafe { information.assume_init_ref() }.name;
    if name.Buffer.is_null() {
        return None;
    }
    // SAFETY: the system has written the text in whole units of 16 bits, and the length in bytes.
    let text = unsafe { std::slice::from_raw_parts(name.Buffer, usize::from(name.Length) / 2) };
    String::from_utf16(text).ok()
}

/// Properties of objects, which windows-sys has no functions for.
///
/// ntdll.dll exports the functions. Programs rely on them since Windows NT: see "Undocumented functions of NTDLL".
mod query {
    use super::*;

    /// The class of the basic information.
    const BASIC: i32 = 0;
    /// `SynchronizationEvent`: a wait resets the event.
    const SYNCHRONIZATION: i32 = 1;

    // With `raw-dylib`, MSVC needs no import library: that of the SDK need not have the functions. mingw's has them.
    #[cfg_attr(
        all(target_env = "msvc", target_arch = "x86"),
        link(name = "ntdll.dll", kind = "raw-dylib", modifiers = "+verbatim", import_name_type = "undecorated")
    )]
    #[cfg_attr(
        all(target_env = "msvc", not(target_arch = "x86")),
        link(name = "ntdll.dll", kind = "raw-dylib", modifiers = "+verbatim")
    )]
    #[cfg_attr(not(target_env = "msvc"), link(name = "ntdll"))]
    extern "system" {
        fn NtQueryEvent(event: HANDLE, class: i32, information: *mut [i32; 2], size: u32, len: *mut u32) -> NTSTATUS;
        fn NtQueryTimer(
            timer: HANDLE,
            class: i32,
            information: *mut TimerInformation,
            size: u32,
            len: *mut u32,
        ) -> NTSTATUS;
    }

    #[repr(C)]
    #[derive(Default)]
    struct TimerInformation {
        remaining: i64,
        is_signalled: u8,
    }

    /// Returns a handle of the same object that may be queried. The system checks the right anew.
    pub(super) fn with_access_right(object: BorrowedHandle<'_>) -> io::Result<OwnedHandle> {
        /// `EVENT_QUERY_STATE` and `TIMER_QUERY_STATE`.
        const QUERY_STATE: u32 = 1;

        let mut copy = std::ptr::null_mut();
        // SAFETY: the handles are open, and the system writes one handle.
        let is_copied = unsafe {
            let process = GetCurrentProcess();
            DuplicateHandle(process, object.as_raw_handle(), process, &mut copy, SYNCHRONIZE | QUERY_STATE, 0, 0)
        };
        if is_copied == 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the system has just made this handle, and it has no other owner.
        Ok(unsafe { OwnedHandle::from_raw_handle(copy) })
    }

    /// Returns `true` if a wait for the event resets it.
    pub(super) fn event_resets(event: BorrowedHandle<'_>) -> Option<bool> {
        // The type and the state.
        let mut information = [0; 2];
        let size = size_of::<[i32; 2]>() as u32;
        // SAFETY: the system writes two numbers. The last pointer may be null.
        let status =
            unsafe { NtQueryEvent(event.as_raw_handle(), BASIC, &mut information, size, std::ptr::null_mut()) };
        (status >= 0).then_some(information[0] == SYNCHRONIZATION)
    }

    /// Returns `true` if the timer is signalled.
    pub(super) fn timer_is_signalled(timer: BorrowedHandle<'_>) -> Option<bool> {
        let mut information = TimerInformation::default();
        let size = size_of::<TimerInformation>() as u32;
        // SAFETY: the system writes one structure. The last pointer may be null.
        let status =
            unsafe { NtQueryTimer(timer.as_raw_handle(), BASIC, &mut information, size, std::ptr::null_mut()) };
        (status >= 0).then_some(information.is_signalled != 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, Receiver, Sender};
    use std::time::Duration;

    use windows_sys::Win32::System::Threading::{
        CreateMutexW, CreateSemaphoreW, CreateWaitableTimerW, ReleaseSemaphore, ResetEvent, SetEvent, SetWaitableTimer,
        EVENT_MODIFY_STATE,
    };

    use super::*;
    use crate::sys::conformance::support::repetitions;
    use crate::sys::conformance::support::system::changed_wait_drops_signals;
    use crate::sys::windows::wait::one_thread::use_pool_of_one_thread;

    const DEADLINE: Duration = Duration::from_secs(10);

    struct Notifications(Mutex<Sender<()>>);

    impl Notify for Notifications {
        fn notify(&self) {
            let _ = self.0.lock().unwrap().send(());
        }
    }

    fn owned(handle: HANDLE) -> OwnedHandle {
        assert!(!handle.is_null());
        // SAFETY: the system has just made this handle, and it has no other owner.
        unsafe { OwnedHandle::from_raw_handle(handle) }
    }

    fn start(handle: &OwnedHandle, interest: Interest) -> (HandleState, Receiver<()>) {
        let state = HandleState::new(handle.as_handle()).unwrap();
        let (sender, receiver) = channel();
        state.start(interest, Arc::new(Notifications(Mutex::new(sender)))).unwrap();
        (state, receiver)
    }

    /// A new thread of the pool cannot start while a destructor of `thread_local!` runs. Here the only thread is busy.
    #[test]
    fn abandoned_wait_needs_no_thread_of_the_pool() {
        use_pool_of_one_thread();
        let [begin, event] = [create_event(true).unwrap(), create_event(true).unwrap()];
        let ((begun, has_begun), (go, goes)) = (channel(), channel::<()>());
        let (begun, goes) = (Mutex::new(begun), Mutex::new(goes));
        let busy = Wait::new(begin.as_handle(), move |_| {
            begun.lock().unwrap().send(()).unwrap();
            let _ = goes.lock().unwrap().recv_timeout(3 * DEADLINE);
        });
        let busy = busy.unwrap();
        busy.arm();
        set(&begin);
        has_begun.recv_timeout(DEADLINE).unwrap();
        for round in 0..20 {
            let (state, _receiver) = start(&event, Interest::READABLE);
            set(&event);
            // The pool may have consumed the signal, and wait for its thread.
            for _ in 0..round * 1000 {
                std::hint::spin_loop();
            }
            let (ended, has_ended) = channel();
            std::thread::spawn(move || {
                state.abandon();
                ended.send(()).unwrap();
            });
            has_ended.recv_timeout(DEADLINE).expect("the call waits for a thread of the pool");
            reset(&event);
        }
        go.send(()).unwrap();
    }

    fn set(event: &OwnedHandle) {
        // SAFETY: the handle is open, and is that of an event.
        assert_ne!(unsafe { SetEvent(event.as_raw_handle()) }, 0);
    }

    fn reset(event: &OwnedHandle) {
        // SAFETY: the handle is open, and is that of an event.
        assert_ne!(unsafe { ResetEvent(event.as_raw_handle()) }, 0);
    }

    #[test]
    fn objects_are_recognised_and_others_rejected() {
        let kind_of = |handle: &OwnedHandle| HandleState::new(handle.as_handle()).map(|state| state.kind);
        let null = std::ptr::null();
        // SAFETY: null pointers stand for the default security, and for no name.
        let (semaphore, mutex, timer) = unsafe {
            (
                owned(CreateSemaphoreW(null, 1, 8, null.cast())),
                owned(CreateMutexW(null, 0, null.cast())),
                owned(CreateWaitableTimerW(null, 0, null.cast())),
            )
        };
        assert_eq!(kind_of(&create_event(true).unwrap()).unwrap(), Kind::Consumed);
        assert_eq!(kind_of(&create_event(false).unwrap()).unwrap(), Kind::Kept);
        assert_eq!(kind_of(&semaphore).unwrap(), Kind::Consumed);
        assert!(take_signal(semaphore.as_handle()), "the check has consumed the count");
        assert_eq!(kind_of(&timer).unwrap(), Kind::Timer);
        assert_eq!(query::timer_is_signalled(timer.as_handle()), Some(false));
        assert_eq!(kind_of(&mutex).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let thread = std::thread::spawn(|| ());
        assert_eq!(kind_of(&thread.as_handle().try_clone_to_owned().unwrap()).unwrap(), Kind::Kept);
    }

    /// Returns a handle of the same object that may be waited for and changed, and not queried.
    fn without_queries(handle: &OwnedHandle) -> OwnedHandle {
        let mut copy = std::ptr::null_mut();
        // SAFETY: the handle is open, and the function writes one handle.
        let is_copied = unsafe {
            let process = GetCurrentProcess();
            let access = SYNCHRONIZE | EVENT_MODIFY_STATE;
            DuplicateHandle(process, handle.as_raw_handle(), process, &mut copy, access, 0, 0)
        };
        assert_ne!(is_copied, 0);
        owned(copy)
    }

    #[test]
    fn every_signal_is_reported_for_a_handle_without_the_right_to_query() {
        let event = without_queries(&create_event(true).unwrap());
        assert_eq!(query::event_resets(event.as_handle()), None);
        let (state, notified) = start(&event, Interest::READABLE);
        for _ in 0..3 {
            set(&event);
            notified.recv_timeout(DEADLINE).unwrap();
            // A second signal before the event of the first.
            set(&event);
            assert!(state.take_signal());
            notified.recv_timeout(DEADLINE).unwrap();
            assert!(state.take_signal() && !state.take_signal());
        }
    }

    #[test]
    fn timer_that_cannot_be_queried_is_reported_each_time_if_a_wait_resets_it() {
        for stays in [false, true] {
            let null = std::ptr::null();
            // SAFETY: null pointers stand for the default security, and for no name.
            let timer = owned(unsafe { CreateWaitableTimerW(null, i32::from(stays), null.cast()) });
            let (mut state, notified) = start(&timer, Interest::READABLE);
            state.handle = without_queries(&timer);
            assert_eq!(query::timer_is_signalled(state.handle.as_handle()), None);
            let expire = || {
                // SAFETY: the handle is that of a timer, the time is one number, and there is no routine.
                assert_ne!(unsafe { SetWaitableTimer(timer.as_raw_handle(), &-1, 0, None, null.cast(), 0) }, 0);
            };
            expire();
            notified.recv_timeout(DEADLINE).unwrap();
            assert!(state.take_signal() && !state.take_signal());
            if stays {
                continue;
            }
            for _ in 0..3 {
                expire();
                notified.recv_timeout(DEADLINE).unwrap();
                assert!(state.take_signal() && !state.take_signal());
            }
            // The timer expires again before its event.
            expire();
            notified.recv_timeout(DEADLINE).unwrap();
            expire();
            while query::timer_is_signalled(timer.as_handle()) != Some(true) {
                std::thread::yield_now();
            }
            assert!(state.take_signal());
            notified.recv_timeout(DEADLINE).unwrap();
            assert!(state.take_signal() && !state.take_signal());
        }
    }

    #[test]
    fn edges_of_an_object_that_a_wait_resets_are_reported_one_after_the_other() {
        let event = create_event(true).unwrap();
        let (state, notified) = start(&event, Interest::READABLE);
        assert!(!state.take_signal());
        for _ in 0..3 {
            set(&event);
            notified.recv_timeout(DEADLINE).unwrap();
            assert!(state.take_signal() && !state.take_signal());
        }
        state.stop();
        set(&event);
        assert!(!state.take_signal() && take_signal(event.as_handle()), "the signal stays with the object");
    }

    #[test]
    fn object_that_stays_signalled_has_one_edge_until_it_is_registered_again() {
        let event = create_event(false).unwrap();
        set(&event);
        let (state, notified) = start(&event, Interest::READABLE);
        notified.recv_timeout(DEADLINE).unwrap();
        assert!(state.take_signal() && !state.take_signal());
        state.set_next(Interest::READABLE);
        state.rearm();
        notified.recv_timeout(DEADLINE).unwrap();
        assert!(state.take_signal());
        reset(&event);
        state.rearm();
        assert!(notified.try_recv().is_err() && !state.take_signal());
        set(&event);
        notified.recv_timeout(DEADLINE).unwrap();
        // The program resets the event before the poll.
        reset(&event);
        assert!(state.take_signal());
        set(&event);
        notified.recv_timeout(DEADLINE).unwrap();
        assert!(state.take_signal());
    }

    /// The time for which a signal that may be lost is waited for.
    fn longest_wait() -> Duration {
        match changed_wait_drops_signals() {
            true => Duration::from_millis(50),
            false => DEADLINE,
        }
    }

    #[test]
    fn signal_beside_a_reregistration_is_reported() {
        for round in 0..repetitions(20_000, 200) {
            let event = create_event(false).unwrap();
            let (state, notified) = start(&event, Interest::READABLE);
            state.set_next(Interest::READABLE);
            std::thread::scope(|scope| {
                let setting = scope.spawn(|| set(&event));
                while !setting.is_finished() {
                    for _ in 0..100 {
                        state.rearm();
                    }
                }
            });
            while !state.take_signal() {
                if notified.recv_timeout(longest_wait()).is_err() {
                    assert!(changed_wait_drops_signals(), "round {round}: the signal was lost");
                    break;
                }
            }
        }
    }

    #[test]
    fn level_is_checked_until_the_object_is_reset() {
        let event = create_event(false).unwrap();
        set(&event);
        let (state, notified) = start(&event, Interest::READABLE.level());
        for _ in 0..3 {
            notified.recv_timeout(DEADLINE).unwrap();
            assert!(state.take_signal());
        }
        reset(&event);
        notified.recv_timeout(DEADLINE).unwrap();
        assert!(!state.take_signal());
        assert!(notified.try_recv().is_err());
        set(&event);
        notified.recv_timeout(DEADLINE).unwrap();
        assert!(state.take_signal());
    }

    #[test]
    fn level_of_a_semaphore_reports_each_count_once() {
        let null = std::ptr::null();
        // SAFETY: null pointers stand for the default security, and for no name.
        let semaphore = owned(unsafe { CreateSemaphoreW(null, 0, 8, null.cast()) });
        let (state, notified) = start(&semaphore, Interest::READABLE.level());
        // SAFETY: the handle is open, and is that of a semaphore.
        assert_ne!(unsafe { ReleaseSemaphore(semaphore.as_raw_handle(), 3, std::ptr::null_mut()) }, 0);
        let mut count = 0;
        while count < 3 {
            notified.recv_timeout(DEADLINE).unwrap();
            count += u32::from(state.take_signal());
        }
        while notified.try_recv().is_ok() {
            assert!(!state.take_signal());
        }
        assert!(!take_signal(semaphore.as_handle()));
    }

    /// Also if the pool calls back after a wait was disarmed, as wine's does.
    #[test]
    fn each_count_of_a_semaphore_is_reported_once_beside_reregistrations() {
        const COUNT: usize = 200;

        let interests = [Interest::NONE, Interest::READABLE, Interest::READABLE.level(), Interest::READABLE.oneshot()];
        for round in 0..repetitions(4_000, 40) as usize {
            let null = std::ptr::null();
            // SAFETY: null pointers stand for the default security, and for no name.
            let semaphore = owned(unsafe { CreateSemaphoreW(null, 0, COUNT as i32, null.cast()) });
            let (state, notified) = start(&semaphore, Interest::READABLE);
            let mut reported = 0;
            std::thread::scope(|scope| {
                let releasing = scope.spawn(|| {
                    for n in 0..COUNT {
                        // SAFETY: the handle is open, and is that of a semaphore.
                        assert_ne!(unsafe { ReleaseSemaphore(semaphore.as_raw_handle(), 1, std::ptr::null_mut()) }, 0);
                        for _ in 0..n % 7 * 100 {
                            std::hint::spin_loop();
                        }
                    }
                });
                let mut random = round;
                while !releasing.is_finished() {
                    random = random.wrapping_mul(29).wrapping_add(17);
                    state.set_next(interests[random >> 3 & 3]);
                    state.rearm();
                    reported += usize::from(state.take_signal());
                }
            });
            state.set_next(Interest::READABLE.level());
            state.rearm();
            while reported < COUNT {
                if state.take_signal() {
                    reported += 1;
                } else if notified.recv_timeout(longest_wait()).is_err() {
                    assert!(changed_wait_drops_signals(), "round {round}: {reported} of {COUNT} were reported");
                    break;
                }
            }
            assert!(!state.take_signal() && !take_signal(semaphore.as_handle()));
        }
    }

    #[test]
    fn disabled_source_leaves_the_signal_and_oneshot_takes_one() {
        let event = create_event(true).unwrap();
        let (state, notified) = start(&event, Interest::NONE);
        set(&event);
        assert!(!state.take_signal() && notified.try_recv().is_err());
        state.set_next(Interest::READABLE.oneshot());
        state.rearm();
        notified.recv_timeout(DEADLINE).unwrap();
        assert!(state.take_signal());
        set(&event);
        assert!(!state.take_signal() && take_signal(event.as_handle()));
        // A signal that was consumed before the end of the registration is reported after the next one.
        state.rearm();
        set(&event);
        notified.recv_timeout(DEADLINE).unwrap();
        state.stop();
        let (sender, notified) = channel();
        state.start(Interest::READABLE, Arc::new(Notifications(Mutex::new(sender)))).unwrap();
        notified.recv_timeout(DEADLINE).unwrap();
        assert!(state.take_signal());
    }
}
