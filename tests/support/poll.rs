//! A poll for tests. A wait has a deadline and ends as soon as every expected event has come.
//!
//! The absence of an event is shown by a fence: after a wake, a poll returns all events that were ready before.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use kevio::event::{Event, Source};
use kevio::{Events, Interest, Poll, Registry, Token, Waker};

use super::readiness::{ReadinessSet, NONE};

/// Longer than any wait of a test that passes.
pub const TIMEOUT: Duration = Duration::from_secs(10);

pub const READ: Interest = Interest::READABLE;
pub const WRITE: Interest = Interest::WRITABLE;
pub const BOTH: Interest = READ.add(WRITE);

const FENCE: Token = Token(usize::MAX / 3);

/// Returns the readiness that one event reports.
pub fn readiness_of(event: &Event) -> ReadinessSet {
    ReadinessSet::of([
        event.is_readable(),
        event.is_writable(),
        event.is_read_closed(),
        event.is_write_closed(),
        event.is_error(),
        event.is_priority(),
    ])
}

/// Polls once, and fails if no event has `token`.
#[track_caller]
pub fn expect_event(poll: &mut Poll, events: &mut Events, token: Token) {
    poll.poll(events, Some(TIMEOUT)).unwrap();
    assert!(events.iter().any(|event| event.token() == token), "expected {token:?}, reported {events:?}");
}

/// Waits with poll(2). Returns `true` as soon as the descriptor is readable, and `false` after `timeout`.
#[cfg(unix)]
pub fn is_readable(fd: std::os::fd::RawFd, timeout: Duration) -> bool {
    let mut fd = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let deadline = Instant::now() + timeout;
    loop {
        let left = deadline.saturating_duration_since(Instant::now()).as_millis() as libc::c_int;
        // SAFETY: the kernel reads and writes one `pollfd`.
        match unsafe { libc::poll(&mut fd, 1, left) } {
            0 => return false,
            1 => return true,
            _ => assert_eq!(io::Error::last_os_error().kind(), io::ErrorKind::Interrupted),
        }
    }
}

/// A poll with its buffer, and a waker for fences.
pub struct TestPoll {
    pub inner: Poll,
    pub events: Events,
    fence: Waker,
}

impl TestPoll {
    pub fn new() -> TestPoll {
        TestPoll::with_capacity(256)
    }

    pub fn with_capacity(capacity: usize) -> TestPoll {
        let inner = Poll::new().unwrap();
        let fence = Waker::new(inner.registry(), FENCE).unwrap();
        TestPoll { inner, events: Events::with_capacity(capacity), fence }
    }

    pub fn registry(&self) -> &Registry {
        self.inner.registry()
    }

    #[track_caller]
    pub fn register(&self, source: &mut impl Source, token: usize, interest: Interest) {
        self.registry().register(source, Token(token), interest).unwrap();
    }

    #[track_caller]
    pub fn reregister(&self, source: &mut impl Source, token: usize, interest: Interest) {
        self.registry().reregister(source, Token(token), interest).unwrap();
    }

    #[track_caller]
    pub fn deregister(&self, source: &mut impl Source) {
        self.registry().deregister(source).unwrap();
    }

    /// Polls once. Returns the readiness that is reported for each token.
    pub fn poll_once(&mut self, timeout: Option<Duration>) -> BTreeMap<usize, ReadinessSet> {
        let mut all = BTreeMap::new();
        match self.inner.poll(&mut self.events, timeout) {
            // No signal interrupts a wait on Windows.
            Err(error) if error.kind() == io::ErrorKind::Interrupted && cfg!(unix) => return all,
            result => result.unwrap(),
        }
        for event in &self.events {
            *all.entry(event.token().0).or_insert(NONE) |= readiness_of(event);
        }
        all
    }

    /// Polls until all of `expected` is reported for `token`. Returns all that was reported; fails for other tokens.
    #[track_caller]
    pub fn expect(&mut self, token: usize, expected: ReadinessSet) -> ReadinessSet {
        self.expect_all(&[(token, expected)])[&token]
    }

    /// Polls until all that is expected of each token is reported. Fails for other tokens.
    #[track_caller]
    pub fn expect_all(&mut self, expected: &[(usize, ReadinessSet)]) -> BTreeMap<usize, ReadinessSet> {
        self.until(
            |reported| {
                expected.iter().all(|(token, set)| reported.get(token).is_some_and(|readiness| readiness.has(*set)))
            },
            || format!("{expected:?}"),
        )
        .into_iter()
        .inspect(|(token, reported)| {
            assert!(expected.iter().any(|(expected, _)| expected == token), "unexpected {token}: {reported:?}");
        })
        .collect()
    }

    /// Polls until any of `expected` is reported for `token`.
    #[track_caller]
    pub fn expect_any(&mut self, token: usize, expected: ReadinessSet) -> ReadinessSet {
        self.until(
            |reported| reported.get(&token).is_some_and(|readiness| readiness.has_any(expected)),
            || format!("any of {expected:?}"),
        )[&token]
    }

    /// Polls until `done` returns `true` for all that was reported.
    #[track_caller]
    pub fn until(
        &mut self,
        done: impl Fn(&BTreeMap<usize, ReadinessSet>) -> bool,
        expected: impl Fn() -> String,
    ) -> BTreeMap<usize, ReadinessSet> {
        let deadline = Instant::now() + TIMEOUT;
        let mut reported = BTreeMap::new();
        while !done(&reported) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "expected {}, reported {reported:?}", expected());
            for (token, readiness) in self.poll_once(Some(left)) {
                *reported.entry(token).or_insert(NONE) |= readiness;
            }
        }
        reported
    }

    /// Wakes the poll, and polls until the wake has come and no event follows. Returns all that was ready before.
    pub fn drain_events(&mut self) -> BTreeMap<usize, ReadinessSet> {
        self.fence.wake().unwrap();
        let mut reported = self.until(|reported| reported.contains_key(&FENCE.0), || "the fence".to_owned());
        loop {
            let more = self.poll_once(Some(Duration::ZERO));
            if more.is_empty() {
                break;
            }
            for (token, readiness) in more {
                *reported.entry(token).or_insert(NONE) |= readiness;
            }
        }
        reported.remove(&FENCE.0);
        reported
    }

    /// Fails if any event is ready.
    #[track_caller]
    pub fn expect_no_events(&mut self) {
        let reported = self.drain_events();
        assert!(reported.is_empty(), "unexpected {reported:?}");
    }

    /// Fails if any of `unexpected` is ready for `token`.
    #[track_caller]
    pub fn expect_without(&mut self, token: usize, unexpected: ReadinessSet) {
        let reported = self.drain_events();
        let reported = reported.get(&token).copied().unwrap_or_default();
        assert!(!reported.has_any(unexpected), "unexpected {reported:?} of {token}");
    }
}
