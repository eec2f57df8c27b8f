//! The queue as a descriptor of its own.

use std::io::Write;
use std::os::fd::{AsFd, AsRawFd};

use kevio::net::UnixStream;
use kevio::unix::SourceFd;
use kevio::Token;

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

#[test]
fn a_poll_inside_a_poll() {
    if libkqueue::gets_wrong("a_poll_inside_a_poll") {
        return;
    }
    let mut outer = Loop::new();
    let mut inner = Loop::new();
    outer.register(&mut SourceFd(&inner.poll.as_raw_fd()), 1, READ);
    let (mut a, mut b) = UnixStream::pair().unwrap();
    inner.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    outer.expect(1, R);
    inner.expect(1, R);
    outer.expect_silence();
}
