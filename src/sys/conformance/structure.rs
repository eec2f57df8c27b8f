//! Several threads, many descriptors, and a selector that is dropped.

use super::*;

pub(crate) fn registering_in_four_threads_during_waits_succeeds<T: Selector>() {
    const ROUNDS: usize = 2500;
    let mut selector = TestSelector::<T>::new();
    let working = std::sync::atomic::AtomicUsize::new(4);
    std::thread::scope(|scope| {
        let (inner, working) = (&selector.inner, &working);
        for token in 0..4 {
            scope.spawn(move || {
                let (a, _b) = pair();
                for _ in 0..ROUNDS {
                    let registration = inner.register(raw_source(&a), Token(token), BOTH, SourceKind::Builtin).unwrap();
                    inner.deregister(raw_source(&a), SourceKind::Builtin).unwrap();
                    drop(registration);
                }
                working.fetch_sub(1, std::sync::atomic::Ordering::Release);
            });
        }
        while working.load(std::sync::atomic::Ordering::Acquire) > 0 {
            inner.select(&mut selector.events, 64, Some(Duration::from_millis(5))).unwrap();
            assert!(
                selector.events.iter().all(|event| event.token().0 < 4 && event.is_writable()),
                "{:?}",
                selector.events
            );
        }
    });
    selector.expect_no_events();
}

pub(crate) fn thousand_descriptors_are_reported_once_each<T: Selector>() {
    // Copies of one descriptor, because some systems do not allow a process a thousand pairs.
    const MANY: usize = 1000;
    raise_fd_limit(MANY + 500);
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let copies: Vec<_> = (0..MANY).map(|token| selector.register_owned(a.try_clone().unwrap(), token, READ)).collect();
    b.write_all(b"x").unwrap();
    let mut reports = vec![0; MANY];
    while reports.contains(&0) {
        let reported = selector.select(TIMEOUT);
        assert!(!reported.is_empty(), "{} are not reported", reports.iter().filter(|&&times| times == 0).count());
        reported.into_keys().for_each(|token| reports[token] += 1);
    }
    selector.expect_no_events();
    assert_eq!(reports, [1; MANY], "each is reported once");
    drop(copies);
}

pub(crate) fn dropped_selector_leaves_descriptors_open<T: Selector>() {
    let selector = TestSelector::<T>::new();
    let (mut a, mut b) = pair();
    selector.inner.create_notifier().unwrap();
    let registration = selector.register_builtin(&a, 1, BOTH);
    drop(selector);
    registration.rearm(IoDirection::Read);
    drop(registration);
    a.write_all(b"still").unwrap();
    assert_eq!(b.read(&mut [0; 8]).unwrap(), 5);
    let mut selector = TestSelector::<T>::new();
    let _registration = selector.register_builtin(&a, 2, WRITE);
    selector.expect(2, W);
}

conformance_tests! {
    registering_in_four_threads_during_waits_succeeds,
    thousand_descriptors_are_reported_once_each,
    dropped_selector_leaves_descriptors_open,
}
