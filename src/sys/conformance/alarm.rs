//! The alarm.

use super::*;

/// The alarm may fire this much early: a tick of the clock.
const TICK: Duration = Duration::from_millis(20);
/// A time that no test waits for.
const LATER: Duration = Duration::from_secs(3600);

/// Returns a selector with an alarm, or `None` if the backend has no alarm.
fn selector_with_alarm<T: Selector>() -> Option<TestSelector<T>> {
    let selector = TestSelector::<T>::new();
    match selector.inner.create_alarm() {
        Ok(()) => Some(selector),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            None
        }
    }
}

/// Waits for the alarm. Returns the time that the wait took.
fn wait_for_alarm<T: Selector>(selector: &mut TestSelector<T>) -> Duration {
    let start = Instant::now();
    while !selector.wait(Some(TIMEOUT)).unwrap().has_alarm {
        assert!(start.elapsed() < TIMEOUT, "the alarm was lost");
    }
    assert!(selector.events.is_empty(), "the program sees {:?}", selector.events);
    start.elapsed()
}

pub(crate) fn alarm_ends_a_wait_once<T: Selector>() {
    let Some(mut selector) = selector_with_alarm::<T>() else { return };
    selector.inner.create_alarm().unwrap();
    for milliseconds in [0, 1, 60] {
        let delay = Duration::from_millis(milliseconds);
        selector.inner.set_alarm(delay).unwrap();
        let elapsed = wait_for_alarm(&mut selector);
        assert!(elapsed + TICK >= delay, "{elapsed:?} instead of {delay:?}");
        assert!(!selector.wait(Some(Duration::from_millis(5))).unwrap().any(), "the alarm fires again");
    }
}

pub(crate) fn setting_the_alarm_replaces_its_time<T: Selector>() {
    let Some(mut selector) = selector_with_alarm::<T>() else { return };
    selector.inner.set_alarm(LATER).unwrap();
    selector.inner.set_alarm(Duration::from_millis(5)).unwrap();
    wait_for_alarm(&mut selector);
    selector.inner.set_alarm(Duration::from_millis(5)).unwrap();
    selector.inner.set_alarm(LATER).unwrap();
    assert!(!selector.wait(Some(Duration::from_millis(60))).unwrap().any());
}

pub(crate) fn cleared_alarm_is_silent<T: Selector>() {
    let Some(mut selector) = selector_with_alarm::<T>() else { return };
    selector.inner.set_alarm(Duration::from_millis(20)).unwrap();
    selector.inner.clear_alarm();
    assert!(!selector.wait(Some(Duration::from_millis(60))).unwrap().any());
    // Now the alarm has fired, and no wait has returned its record.
    selector.inner.set_alarm(Duration::ZERO).unwrap();
    std::thread::sleep(Duration::from_millis(40));
    selector.inner.clear_alarm();
    assert!(!selector.wait(Some(Duration::ZERO)).unwrap().any());
    selector.inner.set_alarm(Duration::ZERO).unwrap();
    wait_for_alarm(&mut selector);
}

pub(crate) fn alarm_set_during_a_wait_ends_the_wait<T: Selector>() {
    let Some(mut selector) = selector_with_alarm::<T>() else { return };
    for before in [None, Some(LATER)] {
        if let Some(delay) = before {
            selector.inner.set_alarm(delay).unwrap();
        }
        let blocked_thread = BlockedThread::current();
        std::thread::scope(|scope| {
            let inner = &selector.inner;
            scope.spawn(move || {
                blocked_thread.wait_until_blocked();
                inner.set_alarm(Duration::from_millis(1)).unwrap();
            });
            inner.select(&mut selector.events, 64, Some(TIMEOUT)).unwrap();
        });
        assert!(selector.inner.take_internal(&mut selector.events).has_alarm);
    }
}

conformance_tests! {
    alarm_ends_a_wait_once,
    setting_the_alarm_replaces_its_time,
    cleared_alarm_is_silent,
    alarm_set_during_a_wait_ends_the_wait,
}
