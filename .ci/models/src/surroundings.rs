//! The surroundings of the copied sources: the types of loom, and a kernel that is a lock and a condition. `build.rs` copies this
//! file into each variant.

pub mod sync {
    pub use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
    pub use loom::sync::{Mutex, MutexGuard};

    /// An atomic number. loom takes sequentially consistent accesses for acquire and release, but knows the order of fences.
    /// Therefore a sequentially consistent store has a fence behind it, which orders the store before the loads that follow.
    #[derive(Debug)]
    pub struct AtomicU64(loom::sync::atomic::AtomicU64);

    impl AtomicU64 {
        pub fn new(value: u64) -> AtomicU64 {
            AtomicU64(loom::sync::atomic::AtomicU64::new(value))
        }

        pub fn load(&self, order: Ordering) -> u64 {
            self.0.load(if order == Ordering::SeqCst { Ordering::Acquire } else { order })
        }

        pub fn store(&self, value: u64, order: Ordering) {
            if order == Ordering::SeqCst {
                self.0.store(value, Ordering::Release);
                loom::sync::atomic::fence(Ordering::SeqCst);
                return;
            }
            self.0.store(value, order);
        }
    }
}

pub mod token {
    #[derive(Copy, Clone, Debug, PartialEq, Eq)]
    pub struct Token(pub usize);
}

pub mod source {
    pub use super::{timer_heap, timer_queue};
}

pub mod sys {
    pub mod selector {
        use std::io;
        use std::time::Duration;

        use crate::sys::RawEvent;
        use crate::token::Token;

        pub const MAX_WAIT: Duration = Duration::from_secs(86_400);
        pub const TIMER_SETTINGS: u32 = 1 << 31;

        #[derive(Copy, Clone, Debug, Default)]
        pub struct InternalEvents {
            pub is_notified: bool,
            pub has_alarm: bool,
            pub has_changes: bool,
        }

        impl InternalEvents {
            pub fn any(self) -> bool {
                self.is_notified || self.has_alarm
            }
        }

        pub trait Selector {
            fn select(&self, events: &mut Vec<RawEvent>, max: usize, timeout: Option<Duration>) -> io::Result<()>;
            fn take_internal(&self, events: &mut Vec<RawEvent>) -> InternalEvents;
            fn check_notifier(&self) -> io::Result<()>;
        }

        pub trait EventRecord {
            fn of_waker(token: Token) -> Self;
            fn of_timer(token: Token, setting: u32, expirations: u64) -> Self;
        }
    }

    #[derive(Copy, Clone, Debug, PartialEq, Eq)]
    pub enum RawEvent {
        Notifier,
        Alarm,
        Waker(usize),
        Timer(usize),
    }

    impl selector::EventRecord for RawEvent {
        fn of_waker(token: crate::token::Token) -> RawEvent {
            RawEvent::Waker(token.0)
        }

        fn of_timer(token: crate::token::Token, _: u32, _: u64) -> RawEvent {
            RawEvent::Timer(token.0)
        }
    }
}

pub mod kernel {
    use std::io;
    use std::time::Duration;

    use loom::sync::{Condvar, Mutex, MutexGuard};

    use crate::sys::selector::{InternalEvents, Selector};
    use crate::sys::RawEvent;

    /// The notifier, the alarm and the clock.
    pub struct Kernel {
        state: Mutex<State>,
        changed: Condvar,
    }

    struct State {
        is_notified: bool,
        alarm: Option<u64>,
        clock: u64,
        /// The threads that may still wake or set a timer. Time passes only if there is none: a wait that is too long is found by
        /// its end, and a wait without an end by loom, as a deadlock.
        running: usize,
        /// The time of a wait that does not block.
        time_of_a_probe: u64,
    }

    impl Kernel {
        pub fn new(running: usize) -> Kernel {
            let state = State { is_notified: false, alarm: None, clock: 1, running, time_of_a_probe: 0 };
            Kernel { state: Mutex::new(state), changed: Condvar::new() }
        }

        fn change(&self, change: impl FnOnce(&mut State)) {
            change(&mut self.state.lock().unwrap());
            self.changed.notify_all();
        }

        pub fn now(&self) -> u64 {
            self.state.lock().unwrap().clock
        }

        pub fn notify(&self) {
            self.change(|state| state.is_notified = true);
        }

        pub fn set_alarm(&self, delay: Option<Duration>) {
            self.change(|state| state.alarm = delay.map(|delay| state.clock + delay.as_nanos() as u64));
        }

        /// Lets time pass while a poll spins.
        pub fn set_time_of_a_probe(&self, time: u64) {
            self.change(|state| state.time_of_a_probe = time);
        }

        pub fn end_thread(&self) {
            self.change(|state| state.running -= 1);
        }

        /// Blocks until the queue is readable, or until `end`.
        pub fn wait_until_readable(&self, end: Option<u64>) -> MutexGuard<'_, impl Sized> {
            self.wait(end)
        }

        fn wait(&self, end: Option<u64>) -> MutexGuard<'_, State> {
            let mut state = self.state.lock().unwrap();
            loop {
                let is_readable = state.is_notified || state.alarm.is_some_and(|alarm| alarm <= state.clock);
                if is_readable || end.is_some_and(|end| end <= state.clock) {
                    return state;
                }
                match state.alarm.into_iter().chain(end).min() {
                    Some(next) if state.running == 0 => state.clock = next,
                    _ => state = self.changed.wait(state).unwrap(),
                }
            }
        }
    }

    impl Selector for Kernel {
        fn select(&self, events: &mut Vec<RawEvent>, _: usize, timeout: Option<Duration>) -> io::Result<()> {
            events.clear();
            let end = timeout.map(|timeout| match timeout.as_nanos() as u64 {
                0 => 0,
                timeout => self.now() + timeout,
            });
            let mut state = self.wait(end);
            state.clock += if end == Some(0) { state.time_of_a_probe } else { 0 };
            if std::mem::take(&mut state.is_notified) {
                events.push(RawEvent::Notifier);
            }
            if state.alarm.is_some_and(|alarm| alarm <= state.clock) {
                state.alarm = None;
                events.push(RawEvent::Alarm);
            }
            Ok(())
        }

        fn check_notifier(&self) -> io::Result<()> {
            Ok(())
        }

        fn take_internal(&self, events: &mut Vec<RawEvent>) -> InternalEvents {
            let taken = InternalEvents {
                is_notified: events.contains(&RawEvent::Notifier),
                has_alarm: events.contains(&RawEvent::Alarm),
                has_changes: false,
            };
            events.retain(|event| ![RawEvent::Notifier, RawEvent::Alarm].contains(event));
            taken
        }
    }
}

pub mod poll_shared {
    use std::io;
    use std::time::Duration;

    use crate::kernel::Kernel;
    use crate::sync::{AtomicUsize, Ordering};
    use crate::sys::selector::Selector;
    use crate::sys::RawEvent;
    use crate::timer_queue::{Deadline, Driver, Mode, Slot, TimerQueue, NEVER};
    use crate::token::Token;
    use crate::user_events::UserEvents;
    use crate::wake_state::{WakeState, WakerNode};

    /// As kevio's `PollShared`, without the parts that the models do not need.
    pub struct PollShared {
        kernel: Kernel,
        wake_state: WakeState,
        timers: TimerQueue,
        has_alarm: bool,
        /// Changed before each poll and before each notification. loom tries both orders of two changes. loom compares an access
        /// with the last one only, so that a load before a compare-exchange hides the access of another thread before it.
        order: AtomicUsize,
    }

    impl PollShared {
        pub fn new(threads: usize, has_alarm: bool) -> PollShared {
            let (wake_state, timers) = (WakeState::new(), TimerQueue::new(1));
            PollShared { kernel: Kernel::new(threads), wake_state, timers, has_alarm, order: AtomicUsize::new(0) }
        }

        pub fn selector(&self) -> &Kernel {
            &self.kernel
        }

        pub fn wake_state(&self) -> &WakeState {
            &self.wake_state
        }

        pub fn timers(&self) -> &TimerQueue {
            &self.timers
        }

        pub fn wake(&self, waker: &WakerNode) {
            self.wake_state.wake(waker, || Ok(self.use_notifier())).unwrap();
        }

        pub fn notify(&self) -> bool {
            self.wake_state.notify(|| Ok(self.use_notifier())).unwrap();
            true
        }

        fn use_notifier(&self) {
            self.order.fetch_add(1, Ordering::AcqRel);
            self.kernel.notify();
        }

        pub fn share(&self) {
            if self.wake_state.share() {
                let is_armed = self.timers.arm_for_other_code(self);
                if !is_armed || self.wake_state.has_events() {
                    self.notify();
                }
            }
        }

        pub fn insert(&self, token: usize, at: u64) -> Slot {
            let prepare = || {
                if !self.has_alarm {
                    self.timers.set_no_alarm(true);
                }
                self.wake_state.set_sources(true);
                Ok(())
            };
            self.timers.insert(Token(token), Mode::Every, Deadline { at, period: 0 }, self, prepare).unwrap()
        }

        pub fn set(&self, slot: Slot, at: u64) {
            self.timers.set(slot, Deadline { at, period: 0 }, self);
        }

        pub fn read_changes(&self) -> io::Result<()> {
            Ok(())
        }

        pub fn has_user_sources(&self) -> bool {
            false
        }

        pub fn set_no_timers(&self) {
            self.wake_state.set_sources(false);
        }

        pub fn timeout_until(&self, end: u64) -> Option<Duration> {
            match end {
                0 => Some(Duration::ZERO),
                NEVER => None,
                end => Some(Duration::from_nanos(end.saturating_sub(self.now()))),
            }
        }
    }

    impl Driver for PollShared {
        fn now(&self) -> u64 {
            self.kernel.now()
        }

        fn set_alarm(&self, delay: Duration) -> io::Result<()> {
            self.kernel.set_alarm(Some(delay));
            Ok(())
        }

        fn create_alarm(&self) -> bool {
            self.has_alarm
        }

        fn clear_alarm(&self) {
            self.kernel.set_alarm(None);
        }

        fn create_notifier(&self) -> bool {
            true
        }

        fn notify(&self) {
            let _ = PollShared::notify(self);
        }

        fn is_shared(&self) -> bool {
            self.wake_state.is_shared()
        }
    }

    /// The polling thread.
    pub struct Poll {
        user_events: UserEvents,
        pub events: Vec<RawEvent>,
    }

    impl Poll {
        pub fn new() -> Poll {
            Poll { user_events: UserEvents::default(), events: Vec::with_capacity(4) }
        }

        /// A poll that probes `times` times before it blocks.
        pub fn spinning(times: u64) -> Poll {
            let mut poll = Poll::new();
            poll.user_events.set_spin(Duration::from_nanos(times));
            poll
        }

        /// As kevio's `Poll::poll`.
        pub fn poll(&mut self, shared: &PollShared, timeout: Option<Duration>) -> io::Result<()> {
            shared.order.fetch_add(1, Ordering::AcqRel);
            if !shared.wake_state().is_quiet() || self.user_events.spins(timeout) {
                self.user_events.poll(shared, &mut self.events, timeout)?;
            } else {
                let result = shared.selector().select(&mut self.events, 4, timeout);
                if !shared.wake_state().is_quiet() {
                    self.user_events.finish_poll(shared, &mut self.events, timeout, result)?;
                }
            }
            let internal = [RawEvent::Notifier, RawEvent::Alarm];
            assert!(!self.events.iter().any(|event| internal.contains(event)), "an internal record: {:?}", self.events);
            Ok(())
        }
    }
}

pub mod models {
    use std::time::Duration;

    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::sync::Arc;
    use loom::thread;

    use crate::poll_shared::{Poll, PollShared};
    use crate::sys::RawEvent;
    use crate::token::Token;
    use crate::wake_state::WakerNode;

    /// A waker of the thread, with a number that the thread writes before its wake.
    struct Waker {
        node: WakerNode,
        written: AtomicUsize,
    }

    fn waker(token: usize) -> Arc<Waker> {
        Arc::new(Waker { node: WakerNode::new(Token(token)), written: AtomicUsize::new(0) })
    }

    fn wake(shared: &PollShared, waker: &Waker) {
        waker.written.fetch_add(1, Ordering::Relaxed);
        shared.wake(&waker.node);
    }

    impl Drop for Waker {
        fn drop(&mut self) {
            self.node.free();
        }
    }

    /// A thread wakes once. Its notification may come after the event.
    pub fn late_notification() {
        wakers([1], 1, Poll::new());
    }

    /// Two threads wake, each with its waker. Every write before a wake is seen after the event.
    pub fn two_wakers() {
        wakers([1, 1], 2, Poll::new());
    }

    /// One thread wakes twice: while the poll waits, and while the poll is awake.
    pub fn waker_of_an_awake_poll() {
        wakers([2], 1, Poll::new());
    }

    /// Two threads share one waker, so that one of the wakes may be coalesced.
    pub fn coalesced_wakes() {
        wakers([1, 1], 1, Poll::new());
    }

    /// One thread wakes twice: while the poll spins, and at the end of the spin.
    pub fn waker_of_a_spinning_poll() {
        wakers([2], 1, Poll::spinning(2));
    }

    fn wakers<const THREADS: usize>(wakes: [usize; THREADS], nodes: usize, mut poll: Poll) {
        let shared = Arc::new(PollShared::new(THREADS, true));
        shared.selector().set_time_of_a_probe(1);
        let wakers: Vec<_> = (0..nodes).map(waker).collect();
        let total = wakes.iter().sum::<usize>();
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let (shared, waker, wakes) = (shared.clone(), wakers[thread % nodes].clone(), wakes[thread]);
                thread::spawn(move || {
                    for _ in 0..wakes {
                        wake(&shared, &waker);
                    }
                    shared.selector().end_thread();
                })
            })
            .collect();
        let mut seen = 0;
        while seen < total {
            poll.poll(&shared, None).unwrap();
            assert!(!poll.events.is_empty(), "a wait without limit has no event");
            for event in &poll.events {
                let RawEvent::Waker(token) = event else { panic!("{event:?}") };
                seen += wakers[*token].written.swap(0, Ordering::Relaxed);
            }
        }
        // The record of a late notification is not for the program.
        for _ in 0..2 {
            poll.poll(&shared, Some(Duration::ZERO)).unwrap();
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    /// A thread sets a timer to an earlier time, before, during or after the wait for the later time.
    pub fn setter() {
        set_earlier(true);
    }

    /// The same without an alarm.
    pub fn setter_without_alarm() {
        set_earlier(false);
    }

    fn set_earlier(has_alarm: bool) {
        let shared = Arc::new(PollShared::new(1, has_alarm));
        let (first, second) = (shared.insert(1, 100), shared.insert(2, 1000));
        let mut poll = Poll::new();
        // From the first poll on, the queue knows whether there is a wait.
        poll.poll(&shared, Some(Duration::ZERO)).unwrap();
        let setter = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.set(second, 10);
                shared.selector().end_thread();
            })
        };
        for (token, time) in [(2, 10), (1, 100)] {
            poll.poll(&shared, None).unwrap();
            assert_eq!((&*poll.events, shared.selector().now()), (&[RawEvent::Timer(token)][..], time));
        }
        setter.join().unwrap();
        let _ = first;
    }

    /// A thread registers the first timer, while another thread may be blocked.
    pub fn first_timer() {
        let shared = Arc::new(PollShared::new(1, true));
        let setter = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.insert(1, 10);
                shared.selector().end_thread();
            })
        };
        let mut poll = Poll::new();
        poll.poll(&shared, None).unwrap();
        assert_eq!((&*poll.events, shared.selector().now()), (&[RawEvent::Timer(1)][..], 10));
        setter.join().unwrap();
    }

    /// A thread sets a timer and another thread wakes.
    pub fn setter_and_waker() {
        let shared = Arc::new(PollShared::new(2, true));
        let slot = shared.insert(1, 100);
        let waker = waker(2);
        let threads = [
            {
                let shared = shared.clone();
                thread::spawn(move || {
                    shared.set(slot, 10);
                    shared.selector().end_thread();
                })
            },
            {
                let (shared, waker) = (shared.clone(), waker.clone());
                thread::spawn(move || {
                    wake(&shared, &waker);
                    shared.selector().end_thread();
                })
            },
        ];
        let (mut poll, mut events) = (Poll::new(), Vec::new());
        while events.len() < 2 {
            poll.poll(&shared, None).unwrap();
            events.extend_from_slice(&poll.events);
        }
        assert_eq!(events, [RawEvent::Waker(2), RawEvent::Timer(1)]);
        assert_eq!(shared.selector().now(), 10);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }

    /// Other code waits for the queue, and polls when the queue is readable. Wakes come before and after the queue is shared.
    pub fn shared_queue_with_wakes() {
        let shared = Arc::new(PollShared::new(1, true));
        let waker = waker(2);
        let thread = {
            let (shared, waker) = (shared.clone(), waker.clone());
            thread::spawn(move || {
                wake(&shared, &waker);
                wake(&shared, &waker);
                shared.selector().end_thread();
            })
        };
        let (mut poll, mut seen) = (Poll::new(), 0);
        poll.poll(&shared, Some(Duration::ZERO)).unwrap();
        if !poll.events.is_empty() {
            seen += waker.written.swap(0, Ordering::Relaxed);
        }
        shared.share();
        while seen < 2 {
            drop(shared.selector().wait_until_readable(None));
            poll.poll(&shared, Some(Duration::ZERO)).unwrap();
            for _ in &poll.events {
                seen += waker.written.swap(0, Ordering::Relaxed);
            }
        }
        thread.join().unwrap();
    }

    /// The same with a timer that is set before or after the queue is shared.
    pub fn shared_queue_with_a_setter() {
        let shared = Arc::new(PollShared::new(1, true));
        let (_first, second) = (shared.insert(1, 100), shared.insert(2, 1000));
        let mut poll = Poll::new();
        poll.poll(&shared, Some(Duration::ZERO)).unwrap();
        let thread = {
            let shared = shared.clone();
            thread::spawn(move || {
                shared.set(second, 10);
                shared.selector().end_thread();
            })
        };
        shared.share();
        for (token, time) in [(2, 10), (1, 100)] {
            drop(shared.selector().wait_until_readable(None));
            poll.poll(&shared, Some(Duration::ZERO)).unwrap();
            assert_eq!((&*poll.events, shared.selector().now()), (&[RawEvent::Timer(token)][..], time));
        }
        thread.join().unwrap();
    }
}
