//! Behaviour without free descriptors. In a binary of its own, because the test lowers the limit of the process.
//!
//! Windows has no limit of handles that a program sets. The suite has the faults that every system can make.
#![cfg(unix)]

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::SocketAddr;
use std::time::Duration;

use kevio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use kevio::unix::{pipe, SourceFd};
use kevio::{Backend, Events, Interest, Poll, Timer, Token, Waker};

mod support;

#[cfg(selector_has_fd)]
use crate::support::known_failures::{self, Check};
use crate::support::net::loopback;
use crate::support::open_fds;
use crate::support::poll::expect_event;
#[cfg(selector_has_fd)]
use crate::support::poll::is_readable;

/// Opens descriptors until the limit is reached.
fn exhaust() -> Vec<OwnedFd> {
    let mut all = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        all.push(file.into());
    }
    all
}

fn assert_exhausted<T>(name: &str, result: io::Result<T>) {
    match result {
        Ok(_) => panic!("{name} succeeded"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{name}: {error}"),
    }
}

/// Sets the soft limit of open descriptors, and the hard limit to 200.
fn set_limit(soft: libc::rlim_t) {
    let limit = libc::rlimit { rlim_cur: soft, rlim_max: 200 };
    // SAFETY: the kernel reads one `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
}

/// poll(2) rejects a table that is longer than the limit, even if all entries were registered before. FreeBSD compares with
/// the limit of the system, not of the process.
fn limit_below_the_registrations_fails_on_poll_only() {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let pairs: Vec<_> = (0..20).map(|_| UnixStream::pair().unwrap()).collect();
    let mut registered: Vec<_> = pairs.into_iter().map(|(a, _)| a).collect();
    for source in &mut registered {
        poll.registry().register(source, Token(1), Interest::WRITABLE).unwrap();
    }
    set_limit(16);
    let result = poll.poll(&mut events, Some(Duration::ZERO));
    set_limit(200);
    if kevio::BACKEND != Backend::Poll || cfg!(target_os = "freebsd") {
        result.unwrap();
    } else if cfg!(target_os = "linux") {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(!events.is_empty());
}

/// Registers timers while no descriptor is free. Another thread sets one of them during a wait.
fn timers_work_without_a_free_descriptor(mut poll: Poll) {
    let mut events = Events::with_capacity(8);
    let hoard = exhaust();
    let mut timers = [1, 3600].map(|seconds| Timer::after(Duration::from_secs(seconds)).unwrap());
    for (token, timer) in timers.iter_mut().enumerate() {
        poll.registry().register(timer, Token(token), Interest::READABLE).unwrap();
    }
    timers[0].set_after(Duration::from_millis(5)).unwrap();
    expect_event(&mut poll, &mut events, Token(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // Without a free descriptor the state of the other thread cannot be read.
            std::thread::sleep(Duration::from_millis(20));
            timers[1].set_after(Duration::from_millis(1)).unwrap();
        });
        expect_event(&mut poll, &mut events, Token(1));
    });
    drop(hoard);
}

/// The first registration in another thread fails. Then one descriptor is free, and the timer fires in the blocked poll.
fn timer_registered_after_a_failure_fires(mut poll: Poll) {
    let mut events = Events::with_capacity(8);
    let registry = poll.registry().try_clone().unwrap();
    let mut hoard = exhaust();
    std::thread::scope(|scope| {
        let registered = scope.spawn(move || {
            // The state of the other thread cannot be read without a free descriptor.
            std::thread::sleep(Duration::from_millis(20));
            let mut timer = Timer::after(Duration::from_millis(50)).unwrap();
            while let Err(error) = registry.register(&mut timer, Token(1), Interest::READABLE) {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
                assert!(hoard.pop().is_some());
            }
            timer
        });
        let start = std::time::Instant::now();
        poll.poll_until(&mut events, Some(start + Duration::from_secs(10))).unwrap();
        assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(1)]);
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
        drop(registered.join().unwrap());
    });
}

/// The first timer cannot have a timer of the kernel. After descriptors are free again, the queue is readable for timers.
#[cfg(selector_has_fd)]
fn queue_is_readable_for_timers_after_a_shortage() {
    if known_failures::is_known_failure(Check::QueueIsPollable) || cfg!(kevio_unsupported_force_fallbacks) {
        return;
    }
    for registers_again in [false, true] {
        let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
        let mut timer = Timer::new().unwrap();
        let hoard = exhaust();
        poll.registry().register(&mut timer, Token(1), Interest::READABLE).unwrap();
        drop(hoard);
        if registers_again {
            poll.registry().deregister(&mut timer).unwrap();
            poll.registry().register(&mut timer, Token(1), Interest::READABLE).unwrap();
        }
        let fd = poll.as_raw_fd();
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        timer.set_after(Duration::from_millis(20)).unwrap();
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while events.is_empty() {
            assert!(is_readable(fd, Duration::from_secs(10)) && std::time::Instant::now() < deadline);
            poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        }
    }
}

/// Timers that did not fit into the buffer keep the queue readable, although no notifier can be made.
#[cfg(selector_has_fd)]
fn timers_left_by_a_small_buffer_keep_the_queue_readable() {
    if known_failures::is_known_failure(Check::QueueIsPollable) || cfg!(kevio_unsupported_force_fallbacks) {
        return;
    }
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(1));
    let mut timers = [1, 2, 3].map(|_| Timer::new().unwrap());
    for (token, timer) in timers.iter_mut().enumerate() {
        poll.registry().register(timer, Token(token), Interest::READABLE).unwrap();
    }
    let fd = poll.as_raw_fd();
    let hoard = exhaust();
    timers.iter_mut().for_each(|timer| timer.set_after(Duration::from_millis(5)).unwrap());
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < 3 {
        assert!(is_readable(fd, Duration::from_secs(10)), "only {seen:?}");
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        seen.extend(events.iter().map(|event| event.token().0));
    }
    drop(hoard);
}

/// Other code waits for the queue, and no descriptor is left for the alarm of the first timer.
#[cfg(selector_has_fd)]
fn first_timer_of_a_shared_queue_fires_or_fails() {
    if known_failures::is_known_failure(Check::QueueIsPollable) || cfg!(kevio_unsupported_force_fallbacks) {
        return;
    }
    for has_waker in [false, true] {
        let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
        let _waker = has_waker.then(|| Waker::new(poll.registry(), Token(2)).unwrap());
        let fd = poll.as_raw_fd();
        let hoard = exhaust();
        let mut timer = Timer::after(Duration::from_millis(50)).unwrap();
        let result = poll.registry().register(&mut timer, Token(1), Interest::READABLE);
        drop(hoard);
        if let Err(error) = result {
            assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
            poll.registry().register(&mut timer, Token(1), Interest::READABLE).unwrap();
        }
        assert!(is_readable(fd, Duration::from_secs(10)), "the timer was lost");
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(1)]);
    }
}

/// The timer has no alarm, and no descriptor is left for the alarm when other code gets the descriptor of the queue.
#[cfg(selector_has_fd)]
fn queue_shared_during_a_shortage_is_readable_for_timers_afterwards() {
    if known_failures::is_known_failure(Check::QueueIsPollable) || cfg!(kevio_unsupported_force_fallbacks) {
        return;
    }
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
    let _waker = Waker::new(poll.registry(), Token(2)).unwrap();
    let hoard = exhaust();
    let mut timer = Timer::after(Duration::from_millis(200)).unwrap();
    poll.registry().register(&mut timer, Token(1), Interest::READABLE).unwrap();
    let fd = poll.as_raw_fd();
    drop(hoard);
    while events.is_empty() {
        assert!(is_readable(fd, Duration::from_secs(10)), "the timer was lost");
        poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    }
    assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [Token(1)]);
}

/// A `Poll` has fifty thousand timers under a limit of 200 descriptors.
fn timers_hold_no_descriptors() {
    const TIMERS: usize = 50_000;
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(1024));
    let mut timers: Vec<_> = (0..TIMERS).map(|_| Timer::after(Duration::from_secs(3600)).unwrap()).collect();
    for (token, timer) in timers.iter_mut().enumerate() {
        poll.registry().register(timer, Token(token), Interest::READABLE).unwrap();
    }
    for timer in &mut timers {
        timer.set_after(Duration::ZERO).unwrap();
    }
    let mut counts = vec![0; TIMERS];
    while counts.contains(&0) {
        poll.poll(&mut events, Some(Duration::from_secs(30))).unwrap();
        assert!(!events.is_empty(), "timers were lost");
        for event in &events {
            counts[event.token().0] += timers[event.token().0].expirations(event).unwrap();
        }
    }
    assert!(counts.iter().all(|&count| count == 1));
}

#[test]
fn calls_fail_with_emfile_and_registered_sources_keep_working() {
    set_limit(200);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let address = |name: &str| SocketAddr::from_pathname(path(name)).unwrap();

    // Pending connections stay pending until a descriptor is free.
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let mut listener = TcpListener::bind(loopback()).unwrap();
    let mut unix_listener = UnixListener::bind(path("listener")).unwrap();
    poll.registry().register(&mut listener, Token(1), Interest::READABLE).unwrap();
    poll.registry().register(&mut unix_listener, Token(2), Interest::READABLE).unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    expect_event(&mut poll, &mut events, Token(1));
    let _unix_client = UnixStream::connect(path("listener")).unwrap();
    expect_event(&mut poll, &mut events, Token(2));
    let mut unregistered = UdpSocket::bind(loopback()).unwrap();
    let before = open_fds::open_files();
    let mut another = Poll::new().unwrap();
    let without_descriptors = Poll::new().unwrap();
    let mut hoard = exhaust();
    for _ in 0..2 {
        assert_exhausted("TcpListener::accept", listener.accept());
        assert_exhausted("UnixListener::accept", unix_listener.accept());
    }

    // Every constructor fails.
    assert_exhausted("Poll", Poll::new());
    assert_exhausted("TcpListener", TcpListener::bind(loopback()));
    assert_exhausted("TcpStream", TcpStream::connect(listener.local_addr().unwrap()));
    assert_exhausted("UdpSocket", UdpSocket::bind(loopback()));
    assert_exhausted("UnixStream::pair", UnixStream::pair());
    assert_exhausted("UnixStream::connect", UnixStream::connect(path("listener")));
    assert_exhausted("UnixStream::connect_addr", UnixStream::connect_addr(&address("listener")));
    assert_exhausted("UnixListener::bind", UnixListener::bind(path("new")));
    assert_exhausted("UnixListener::bind_addr", UnixListener::bind_addr(&address("new")));
    assert_exhausted("UnixDatagram::unbound", UnixDatagram::unbound());
    assert_exhausted("UnixDatagram::pair", UnixDatagram::pair());
    assert_exhausted("UnixDatagram::bind", UnixDatagram::bind(path("new")));
    assert_exhausted("UnixDatagram::bind_addr", UnixDatagram::bind_addr(&address("new")));
    assert_exhausted("pipe", pipe::new());
    assert!(!path("new").exists());

    // Only epoll, and a kqueue without user events, need a descriptor for a waker.
    match (kevio::BACKEND, Waker::new(poll.registry(), Token(3))) {
        (Backend::Epoll, result) => assert_exhausted("Waker", result),
        (Backend::Kqueue, result @ Err(_)) => assert_exhausted("Waker", result),
        (_, waker) => {
            let waker = waker.unwrap();
            waker.wake().unwrap();
            expect_event(&mut poll, &mut events, Token(3));
        }
    }

    // Registering, polling and cloning the registry need no descriptor.
    poll.registry().try_clone().unwrap().reregister(&mut listener, Token(4), Interest::READABLE).unwrap();
    expect_event(&mut poll, &mut events, Token(4));
    poll.registry().register(&mut unregistered, Token(5), Interest::WRITABLE).unwrap();
    expect_event(&mut poll, &mut events, Token(5));
    poll.registry().deregister(&mut unregistered).unwrap();
    let number = unregistered.as_raw_fd();
    poll.registry().register(&mut SourceFd(&number), Token(6), Interest::WRITABLE).unwrap();
    expect_event(&mut poll, &mut events, Token(6));
    poll.registry().deregister(&mut SourceFd(&number)).unwrap();

    // A failed change keeps the registration: epoll keeps disabled registrations in a second instance, which needs a descriptor.
    poll.registry().register(&mut unregistered, Token(8), Interest::READABLE).unwrap();
    let disabled = poll.registry().reregister(&mut unregistered, Token(8), Interest::NONE);
    if kevio::BACKEND == Backend::Epoll {
        assert_exhausted("NONE", disabled);
    }
    poll.registry().reregister(&mut unregistered, Token(9), Interest::WRITABLE).unwrap();
    expect_event(&mut poll, &mut events, Token(9));
    poll.registry().deregister(&mut unregistered).unwrap();

    // With one free descriptor, a constructor that needs two leaves it free.
    hoard.pop();
    let one_left = open_fds::open_files();
    for _ in 0..3 {
        assert_exhausted("UnixStream::pair", UnixStream::pair());
        assert_exhausted("UnixDatagram::pair", UnixDatagram::pair());
        assert_exhausted("pipe", pipe::new());
        // The number of descriptors depends on the backend.
        let _ = Poll::new().map(drop);
        open_fds::assert_same(&one_left, "one descriptor was free");
    }

    // Of the wakers of a poll, only the first may need a descriptor.
    if kevio::BACKEND == Backend::Epoll {
        if cfg!(mio_unsupported_force_waker_pipe) {
            hoard.pop(); // A pipe is two descriptors.
        }
        let wakers = [7, 8].map(|token| Waker::new(another.registry(), Token(token)).unwrap());
        wakers[1].wake().unwrap();
        expect_event(&mut another, &mut events, Token(8));
    }
    drop(another);

    // Timers need no descriptor, although the timer of the kernel cannot be made.
    timers_work_without_a_free_descriptor(without_descriptors);

    drop(hoard);
    open_fds::assert_same(&before, "a failed call left a descriptor open");
    limit_below_the_registrations_fails_on_poll_only();
    timers_hold_no_descriptors();
    timer_registered_after_a_failure_fires(Poll::new().unwrap());
    #[cfg(selector_has_fd)]
    {
        queue_is_readable_for_timers_after_a_shortage();
        timers_left_by_a_small_buffer_keep_the_queue_readable();
        first_timer_of_a_shared_queue_fires_or_fails();
        queue_shared_during_a_shortage_is_readable_for_timers_afterwards();
    }
    let (stream, address) = listener.accept().unwrap();
    assert_eq!(address, client.local_addr().unwrap());
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    unix_listener.accept().unwrap();
    assert_eq!(unix_listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(stream);
}
