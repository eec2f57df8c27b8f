//! The queue of a poll as a descriptor.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use kevio::net::UnixStream;
use kevio::unix::SourceFd;
use kevio::{Backend, Token, Waker, BACKEND};

use crate::support::known_failures::{is_known_failure, Check};
use crate::support::net::drain;
use crate::support::poll::{TestPoll, READ};
use crate::support::readiness::R;

#[test]
fn poll_and_registry_have_one_descriptor() {
    let poll = TestPoll::new();
    assert!(poll.inner.as_raw_fd() >= 0);
    assert_eq!(poll.registry().as_raw_fd(), poll.inner.as_raw_fd());
    assert_eq!(poll.registry().as_fd().as_raw_fd(), poll.inner.as_raw_fd());
}

#[test]
fn poll_registered_in_itself_is_rejected() {
    let mut poll = TestPoll::new();
    let own = poll.inner.as_raw_fd();
    let error = poll.registry().register(&mut SourceFd(&own), Token(1), READ).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    poll.expect_no_events();
}

/// Returns two polls; the inner poll is source 1 of the outer.
fn nested_polls() -> (TestPoll, TestPoll) {
    let (outer, inner) = (TestPoll::new(), TestPoll::new());
    outer.register(&mut SourceFd(&inner.inner.as_raw_fd()), 1, READ);
    (outer, inner)
}

#[test]
fn poll_in_a_poll_reports_readable() {
    if is_known_failure(Check::QueueIsPollable) {
        return;
    }
    let (mut outer, mut inner) = nested_polls();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    outer.expect(1, R);
    inner.expect(1, R);
    outer.expect_no_events();
}

/// A wake of the inner poll makes its descriptor readable.
#[test]
fn wake_of_inner_poll_reports_readable_in_outer() {
    if is_known_failure(Check::QueueIsPollable) {
        return;
    }
    let mut outer = TestPoll::new();
    let mut inner = TestPoll::new();
    let waker = Waker::new(inner.registry(), Token(2)).unwrap();
    outer.register(&mut SourceFd(&inner.inner.as_raw_fd()), 1, READ);
    for _ in 0..3 {
        outer.expect_no_events();
        waker.wake().unwrap();
        outer.expect(1, R);
        inner.expect(2, R);
    }
    inner.expect_no_events();
}

/// Another thread waits for the inner poll at the same time.
#[test]
fn inner_poll_of_another_thread_reports_readable_in_outer() {
    if is_known_failure(Check::QueueIsPollable) {
        return;
    }
    let (mut outer, mut inner) = nested_polls();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 2, READ);
    let waiting = std::thread::spawn(move || {
        inner.expect(2, R);
        inner
    });
    b.write_all(b"x").unwrap();
    let mut inner = waiting.join().unwrap();
    // The outer poll may or may not report the first event before the inner poll is drained; the next event is reported.
    outer.drain_events();
    assert_eq!(drain(&mut a), (1, false));
    inner.drain_events();
    outer.reregister(&mut SourceFd(&inner.inner.as_raw_fd()), 3, READ);
    outer.drain_events();
    b.write_all(b"y").unwrap();
    outer.expect(3, R);
    inner.expect(2, R);
}

/// /proc shows the flags of the kernel after each change.
#[cfg(target_os = "linux")]
#[test]
fn exclusive_sets_epollexclusive_in_the_kernel() {
    if kevio::BACKEND != kevio::Backend::Epoll {
        return;
    }
    let (listener, _) = crate::support::net::listener();
    let poll = TestPoll::new();
    let registry = poll.registry();
    let mask = || {
        let path = format!("/proc/self/fdinfo/{}", poll.inner.as_raw_fd());
        let text = std::fs::read_to_string(path).unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("tfd: {:8}", listener.as_raw_fd())));
        line.map(|line| {
            u32::from_str_radix(line.split("events:").nth(1).unwrap().split_whitespace().next().unwrap(), 16).unwrap()
        })
    };
    let bit = libc::EPOLLEXCLUSIVE as u32;
    let number = listener.as_raw_fd();
    registry.register(&mut SourceFd(&number), Token(1), READ.exclusive()).unwrap();
    assert_eq!(mask().unwrap() & bit, bit);
    registry.reregister(&mut SourceFd(&number), Token(1), READ).unwrap();
    assert_eq!(mask().unwrap() & bit, 0);
    registry.reregister(&mut SourceFd(&number), Token(1), kevio::Interest::NONE).unwrap();
    assert_eq!(mask(), None);
    registry.reregister(&mut SourceFd(&number), Token(1), READ.exclusive().level()).unwrap();
    assert_eq!(mask().unwrap() & bit, bit);
    registry.deregister(&mut SourceFd(&number)).unwrap();
    assert_eq!(mask(), None);
}

/// The kernel rejects EPOLLEXCLUSIVE for an epoll descriptor.
#[test]
fn failed_exclusive_reregistration_keeps_the_registration() {
    if BACKEND != Backend::Epoll {
        return;
    }
    let (mut outer, inner) = nested_polls();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 1, READ);
    let fd = inner.inner.as_raw_fd();
    outer.registry().reregister(&mut SourceFd(&fd), Token(2), READ.exclusive()).unwrap_err();
    b.write_all(b"x").unwrap();
    outer.expect(1, R);
}
