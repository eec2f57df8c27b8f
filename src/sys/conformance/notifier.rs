//! The notifier.

use super::*;

fn selector_with_notifier<T: Selector>(capacity: usize) -> TestSelector<T> {
    let selector = TestSelector::<T>::with_capacity(capacity);
    selector.inner.create_notifier().unwrap();
    selector
}

/// Waits without blocking. Returns `true` if a notification was returned.
fn is_notified<T: Selector>(selector: &mut TestSelector<T>) -> bool {
    selector.wait(Some(Duration::ZERO)).unwrap().is_notified
}

pub(crate) fn notifier_is_created_once<T: Selector>() {
    let mut selector = selector_with_notifier::<T>(64);
    selector.inner.create_notifier().unwrap();
    assert!(!is_notified(&mut selector));
    selector.inner.notify().unwrap();
    assert!(is_notified(&mut selector));
    assert!(!is_notified(&mut selector));
}

pub(crate) fn thousand_notifications_are_coalesced<T: Selector>() {
    let mut selector = selector_with_notifier::<T>(64);
    for _ in 0..3 {
        for _ in 0..1000 {
            selector.inner.notify().unwrap();
        }
        assert!(is_notified(&mut selector));
        assert!(selector.events.is_empty(), "the program sees {:?}", selector.events);
        assert!(!is_notified(&mut selector));
    }
}

/// The number of notifications is larger than the capacity of a pipe. The tests of `wake_fd` cover the maximum of an eventfd.
pub(crate) fn more_notifications_than_a_pipe_holds_do_not_block<T: Selector>() {
    let mut selector = selector_with_notifier::<T>(64);
    for _ in 0..70_000 {
        selector.inner.notify().unwrap();
    }
    assert!(is_notified(&mut selector));
    assert!(!is_notified(&mut selector));
    selector.inner.notify().unwrap();
    assert!(is_notified(&mut selector));
}

pub(crate) fn notification_before_the_wait_ends_the_wait<T: Selector>() {
    let mut selector = selector_with_notifier::<T>(64);
    selector.inner.notify().unwrap();
    assert!(selector.wait(None).unwrap().is_notified);
}

pub(crate) fn notification_ends_a_blocked_wait<T: Selector>() {
    let mut selector = selector_with_notifier::<T>(64);
    let blocked_thread = BlockedThread::current();
    std::thread::scope(|scope| {
        let inner = &selector.inner;
        scope.spawn(move || {
            blocked_thread.wait_until_blocked();
            inner.notify().unwrap();
        });
        inner.select(&mut selector.events, 64, Some(TIMEOUT)).unwrap();
    });
    assert!(selector.inner.take_internal(&mut selector.events).is_notified);
    assert!(selector.events.is_empty());
}

/// The buffer holds one event, and more events than one are ready for each wait.
pub(crate) fn notifications_arrive_among_other_events<T: Selector>() {
    let mut selector = selector_with_notifier::<T>(1);
    let pairs: Vec<_> = (0..2).map(|_| pair()).collect();
    for (token, (a, _)) in pairs.iter().enumerate() {
        selector.register_raw(raw_source(&a), token, Interest::WRITABLE.level()).unwrap();
    }
    let mut seen = [false; 2];
    for _ in 0..100 {
        selector.inner.notify().unwrap();
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let is_notified = is_notified(&mut selector);
            selector.events.iter().for_each(|event| seen[event.token().0] = true);
            if is_notified {
                break;
            }
            assert!(Instant::now() < deadline, "a notification was lost");
        }
    }
    assert_eq!(seen, [true; 2]);
}

/// Each thread waits for the answer to its notification before the next one, so that the test fails if a notification is lost.
pub(crate) fn notifications_of_four_threads_are_not_lost<T: Selector>() {
    const ROUNDS: usize = 300;
    let mut selector = selector_with_notifier::<T>(64);
    let requests: Vec<_> = (0..4).map(|_| std::sync::atomic::AtomicUsize::new(0)).collect();
    let answers: Vec<_> = (0..4).map(|_| std::sync::atomic::AtomicUsize::new(0)).collect();
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        let inner = &selector.inner;
        for (request, answer) in requests.iter().zip(&answers) {
            scope.spawn(move || {
                let deadline = Instant::now() + TIMEOUT;
                for round in 1..=ROUNDS {
                    request.store(round, order);
                    inner.notify().unwrap();
                    while answer.load(order) != round {
                        assert!(Instant::now() < deadline, "a notification was lost");
                        std::thread::yield_now();
                    }
                }
            });
        }
        while answers.iter().any(|answer| answer.load(order) < ROUNDS) {
            inner.select(&mut selector.events, 64, Some(TIMEOUT)).unwrap();
            inner.take_internal(&mut selector.events);
            for (request, answer) in requests.iter().zip(&answers) {
                answer.store(request.load(order), order);
            }
        }
    });
}

conformance_tests! {
    notifier_is_created_once,
    thousand_notifications_are_coalesced,
    more_notifications_than_a_pipe_holds_do_not_block,
    notification_before_the_wait_ends_the_wait,
    notification_ends_a_blocked_wait,
    notifications_arrive_among_other_events,
    notifications_of_four_threads_are_not_lost,
}
