//! The queue as a descriptor of its own.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use kevio::net::UnixStream;
use kevio::unix::SourceFd;
use kevio::{Backend, Token, Waker, BACKEND};

use super::harness::*;
use super::libkqueue;

#[test]
fn a_poll_and_its_registry_are_one() {
    let l = Loop::new();
    assert!(l.poll.as_raw_fd() >= 0);
    assert_eq!(l.poll.registry().as_raw_fd(), l.poll.as_raw_fd());
    assert_eq!(l.poll.registry().as_fd().as_raw_fd(), l.poll.as_raw_fd());
}

#[test]
fn a_poll_cannot_wait_for_itself() {
    let mut l = Loop::new();
    let own = l.poll.as_raw_fd();
    let error = l.poll.registry().register(&mut SourceFd(&own), Token(1), READ).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    l.expect_silence();
}

/// The outer one waits for the inner one, which is its source 1.
fn one_inside_another() -> (Loop, Loop) {
    let (outer, inner) = (Loop::new(), Loop::new());
    outer.register(&mut SourceFd(&inner.poll.as_raw_fd()), 1, READ);
    (outer, inner)
}

#[test]
fn a_poll_inside_a_poll() {
    if libkqueue::gets_wrong("a_poll_inside_a_poll") {
        return;
    }
    let (mut outer, mut inner) = one_inside_another();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    outer.expect(1, R);
    inner.expect(1, R);
    outer.expect_silence();
}

/// The queue as a descriptor tells of wakes too.
#[test]
fn a_wake_inside_a_poll_inside_a_poll() {
    if libkqueue::gets_wrong("a_poll_inside_a_poll") {
        return;
    }
    let mut outer = Loop::new();
    let mut inner = Loop::new();
    let waker = Waker::new(inner.poll.registry(), Token(2)).unwrap();
    outer.register(&mut SourceFd(&inner.poll.as_raw_fd()), 1, READ);
    for _ in 0..3 {
        outer.expect_silence();
        waker.wake().unwrap();
        outer.expect(1, R);
        inner.expect(2, R);
    }
    inner.expect_silence();
}

/// The inner queue is waited for in another thread at the same time.
#[test]
fn a_poll_inside_a_poll_in_two_threads() {
    if libkqueue::gets_wrong("a_poll_inside_a_poll") {
        return;
    }
    let (mut outer, mut inner) = one_inside_another();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 2, READ);
    let waiter = std::thread::spawn(move || {
        inner.expect(2, R);
        inner
    });
    b.write_all(b"x").unwrap();
    let mut inner = waiter.join().unwrap();
    // Whether the outer one had a look before the inner was drained is a matter of time; it ends, and sees the next.
    outer.now();
    assert_eq!(drain(&mut a), (1, false));
    inner.now();
    outer.reregister(&mut SourceFd(&inner.poll.as_raw_fd()), 3, READ);
    outer.now();
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
    let l = Loop::new();
    let registry = l.poll.registry();
    let mask = || {
        let path = format!("/proc/self/fdinfo/{}", l.poll.as_raw_fd());
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
    let fd = inner.poll.as_raw_fd();
    outer.poll.registry().reregister(&mut SourceFd(&fd), Token(2), READ.exclusive()).unwrap_err();
    b.write_all(b"x").unwrap();
    outer.expect(1, R);
}
