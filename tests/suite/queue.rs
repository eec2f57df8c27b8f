//! The queue as a descriptor of its own.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use kevio::net::UnixStream;
use kevio::unix::SourceFd;
use kevio::{Backend, Token, Waker, BACKEND};

use crate::support::known_failures::{is_known_failure, Check};
use crate::support::net::{drain, listener};
use crate::support::poll::{TestPoll, READ};
use crate::support::readiness::R;

#[test]
fn a_poll_and_its_registry_are_one() {
    let poll = TestPoll::new();
    assert!(poll.inner.as_raw_fd() >= 0);
    assert_eq!(poll.registry().as_raw_fd(), poll.inner.as_raw_fd());
    assert_eq!(poll.registry().as_fd().as_raw_fd(), poll.inner.as_raw_fd());
}

#[test]
fn a_poll_cannot_wait_for_itself() {
    let mut poll = TestPoll::new();
    let own = poll.inner.as_raw_fd();
    let error = poll.registry().register(&mut SourceFd(&own), Token(1), READ).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    poll.expect_no_events();
}

/// The outer one waits for the inner one, which is its source 1.
fn one_inside_another() -> (TestPoll, TestPoll) {
    let (outer, inner) = (TestPoll::new(), TestPoll::new());
    outer.register(&mut SourceFd(&inner.inner.as_raw_fd()), 1, READ);
    (outer, inner)
}

#[test]
fn a_poll_inside_a_poll() {
    if is_known_failure(Check::QueueIsPollable) {
        return;
    }
    let (mut outer, mut inner) = one_inside_another();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    outer.expect(1, R);
    inner.expect(1, R);
    outer.expect_no_events();
}

/// The queue as a descriptor tells of wakes too.
#[test]
fn a_wake_inside_a_poll_inside_a_poll() {
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

/// The inner queue is waited for in another thread at the same time.
#[test]
fn a_poll_inside_a_poll_in_two_threads() {
    if is_known_failure(Check::QueueIsPollable) {
        return;
    }
    let (mut outer, mut inner) = one_inside_another();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 2, READ);
    let blocked_thread = std::thread::spawn(move || {
        inner.expect(2, R);
        inner
    });
    b.write_all(b"x").unwrap();
    let mut inner = blocked_thread.join().unwrap();
    // Whether the outer one had a look before the inner was drained is a matter of time; it ends, and sees the next.
    outer.drain_events();
    assert_eq!(drain(&mut a), (1, false));
    inner.drain_events();
    outer.reregister(&mut SourceFd(&inner.inner.as_raw_fd()), 3, READ);
    outer.drain_events();
    b.write_all(b"y").unwrap();
    outer.expect(3, R);
    inner.expect(2, R);
}

/// The kernel was asked for it, and has it still after each change.
#[cfg(target_os = "linux")]
#[test]
fn exclusive_reaches_the_kernel() {
    if kevio::BACKEND != kevio::Backend::Epoll {
        return;
    }
    let (listener, _) = listener();
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

/// epoll waits for another epoll, and refuses to wait exclusively.
#[test]
fn refused_exclusive_reregistration_leaves_what_was_there() {
    if BACKEND != Backend::Epoll {
        return;
    }
    let (mut outer, inner) = one_inside_another();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 1, READ);
    let fd = inner.inner.as_raw_fd();
    outer.registry().reregister(&mut SourceFd(&fd), Token(2), READ.exclusive()).unwrap_err();
    b.write_all(b"x").unwrap();
    outer.expect(1, R);
}
