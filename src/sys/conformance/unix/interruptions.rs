//! Signals that interrupt a wait.

use super::*;

pub(crate) fn signal_interrupts_the_wait_and_keeps_registrations<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    for flags in [0, libc::SA_RESTART] {
        handler::install(libc::SIGURG, handler::do_nothing, flags);
        // SAFETY: no arguments.
        let waiting = unsafe { libc::pthread_self() } as usize;
        let (done, is_done) = std::sync::mpsc::channel::<()>();
        let result = std::thread::scope(|scope| {
            scope.spawn(move || {
                // The first signal may arrive before the thread blocks.
                while is_done.recv_timeout(Duration::from_millis(1)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    // SAFETY: the thread outlives this one.
                    unsafe { libc::pthread_kill(waiting as libc::pthread_t, libc::SIGURG) };
                }
            });
            let result = selector.inner.select(&mut selector.events, 64, Some(TIMEOUT));
            drop(done);
            result
        });
        assert_eq!(kind(result), ErrorKind::Interrupted);
        b.write_all(b"x").unwrap();
        selector.expect(1, R);
        assert_eq!(read_all(&a), 1);
        selector.expect_without(1, W | RC);
    }
}

/// A signal interrupts a wait. While its handler runs, another thread changes a registration and uses the notifier.
pub(crate) fn notification_beside_a_signal_ends_the_next_wait<T: Selector>() {
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    static HANDLERS: AtomicUsize = AtomicUsize::new(0);
    static NOTIFIED: AtomicUsize = AtomicUsize::new(0);
    extern "C" fn wait_for_notification(_: libc::c_int) {
        let number = HANDLERS.fetch_add(1, SeqCst) + 1;
        while NOTIFIED.load(SeqCst) < number {
            std::hint::spin_loop();
        }
    }
    // The cases of several backends use the same signal.
    static ALONE: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let _alone = ALONE.lock().unwrap();
    HANDLERS.store(0, SeqCst);
    NOTIFIED.store(0, SeqCst);
    handler::install(libc::SIGWINCH, wait_for_notification, 0);
    let mut selector = TestSelector::<T>::new();
    selector.inner.create_notifier().unwrap();
    let (a, _b) = pair();
    let blocked_thread = BlockedThread::current();
    // SAFETY: no arguments.
    let waiting = unsafe { libc::pthread_self() } as usize;
    let result = std::thread::scope(|scope| {
        let inner = &selector.inner;
        let fd = a.as_raw_fd();
        scope.spawn(move || {
            blocked_thread.wait_until_blocked();
            // SAFETY: the thread outlives this one.
            unsafe { libc::pthread_kill(waiting as libc::pthread_t, libc::SIGWINCH) };
            while HANDLERS.load(SeqCst) == 0 {
                std::thread::yield_now();
            }
            inner
                .register(fd, Token(1), READ, SourceKind::RawFd)
                .map(|registration| _ = registration.detach())
                .unwrap();
            inner.notify().unwrap();
            NOTIFIED.store(1, SeqCst);
        });
        inner.select(&mut selector.events, 64, Some(TIMEOUT))
    });
    let start = Instant::now();
    let is_notified = match result {
        Ok(()) => selector.inner.take_internal(&mut selector.events).is_notified,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Interrupted);
            selector.wait(Some(TIMEOUT)).unwrap().is_notified
        }
    };
    assert!(is_notified && start.elapsed() < TIMEOUT / 2, "the notification was lost");
}

conformance_tests! {
    signal_interrupts_the_wait_and_keeps_registrations,
    notification_beside_a_signal_ends_the_next_wait,
}
