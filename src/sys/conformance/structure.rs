//! Threads, numbers, ends.

use super::*;

pub(crate) fn four_threads_register_while_one_waits<T: Selector>() {
    const ROUNDS: usize = 2500;
    let mut rig = Rig::<T>::new();
    let working = std::sync::atomic::AtomicUsize::new(4);
    std::thread::scope(|scope| {
        let (engine, working) = (&rig.engine, &working);
        for token in 0..4 {
            scope.spawn(move || {
                let (a, _b) = pair();
                for _ in 0..ROUNDS {
                    let registration = engine.register(a.as_raw_fd(), Token(token), BOTH, SourceKind::Builtin).unwrap();
                    engine.deregister(a.as_raw_fd(), SourceKind::Builtin).unwrap();
                    drop(registration);
                }
                working.fetch_sub(1, std::sync::atomic::Ordering::Release);
            });
        }
        while working.load(std::sync::atomic::Ordering::Acquire) > 0 {
            engine.select(&mut rig.events, Some(Duration::from_millis(5))).unwrap();
            assert!(rig.events.iter().all(|event| event.token().0 < 4 && event.is_writable()), "{:?}", rig.events);
        }
    });
    rig.silent();
}

pub(crate) fn a_thousand_descriptors<T: Selector>() {
    // Copies of two descriptors: a thousand pairs would be more than some systems give a process.
    const MANY: usize = 1000;
    raise_descriptor_limit(MANY as u64 + 500);
    let mut rig = Rig::<T>::new();
    let (a, mut b) = pair();
    let copies: Vec<_> = (0..MANY).map(|token| rig.hold(a.try_clone().unwrap(), token, READ)).collect();
    b.write_all(b"x").unwrap();
    let mut seen = vec![0; MANY];
    loop {
        let said = rig.now();
        if said.is_empty() {
            break;
        }
        said.into_keys().for_each(|token| seen[token] += 1);
    }
    assert_eq!(seen.iter().filter(|&&times| times == 1).count(), MANY, "each is told once");
    drop(copies);
}

fn raise_descriptor_limit(to: u64) {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes and reads one `rlimit`.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        if limit.rlim_cur < to as libc::rlim_t {
            limit.rlim_cur = limit.rlim_max.min(to as _);
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
        }
    }
}

pub(crate) fn a_dropped_queue_leaves_its_descriptors_alone<T: Selector>() {
    let rig = Rig::<T>::new();
    let (mut a, mut b) = pair();
    let waker = rig.engine.add_waker(Token(1)).unwrap();
    let registration = rig.own(&a, 1, BOTH);
    rig.engine.remove_waker(&waker);
    drop((rig, waker));
    registration.rearm(IoDirection::Read);
    drop(registration);
    a.write_all(b"still").unwrap();
    assert_eq!(b.read(&mut [0; 8]).unwrap(), 5);
    let mut rig = Rig::<T>::new();
    let _registration = rig.own(&a, 2, WRITE);
    rig.expect(2, W);
}

conformance_tests! {
    four_threads_register_while_one_waits,
    a_thousand_descriptors,
    a_dropped_queue_leaves_its_descriptors_alone,
}
