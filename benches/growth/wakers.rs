//! Wakers: those of kevio, those of mio with a poll for each, and an eventfd for each waker.

use super::cases::subject::{Kevio, Mio, Subject, LAST};
use super::fixture::{poll_one, Contestant, Fixture, Sample, Scale};

trait Waker<S: Subject> {
    fn new(registry: &S::Registry, token: usize) -> Self;
    /// Wakes the subject, and polls.
    fn wake_and_poll(&mut self, subject: &mut S, token: usize);
}

impl Waker<Kevio> for kevio::Waker {
    #[inline(always)]
    fn new(registry: &kevio::Registry, token: usize) -> kevio::Waker {
        kevio::Waker::new(registry, kevio::Token(token)).unwrap()
    }

    #[inline(always)]
    fn wake_and_poll(&mut self, subject: &mut Kevio, token: usize) {
        self.wake().unwrap();
        poll_one(subject, token);
    }
}

/// A waker and a poll of its own, because a poll of mio has one waker.
struct WithPoll {
    waker: mio::Waker,
    poll: Mio,
}

impl Waker<Mio> for WithPoll {
    #[inline(always)]
    fn new(_: &mio::Registry, _: usize) -> WithPoll {
        let poll = Mio::new(1);
        WithPoll { waker: poll.waker(), poll }
    }

    #[inline(always)]
    fn wake_and_poll(&mut self, _: &mut Mio, _: usize) {
        Mio::wake(&self.waker);
        poll_one(&mut self.poll, LAST);
    }
}

#[cfg(target_os = "linux")]
mod eventfd {
    use std::os::fd::{AsRawFd, OwnedFd};

    use super::super::cases::bare::{eventfd, notify};
    use super::super::cases::subject::RawSubject;
    use super::*;

    pub struct EventFd(OwnedFd);

    impl<S: RawSubject> Waker<S> for EventFd {
        #[inline(always)]
        fn new(registry: &S::Registry, token: usize) -> EventFd {
            let eventfd = eventfd();
            S::add(registry, eventfd.as_raw_fd(), token);
            EventFd(eventfd)
        }

        #[inline(always)]
        fn wake_and_poll(&mut self, subject: &mut S, token: usize) {
            notify(&self.0);
            poll_one(subject, token);
            // Edges need no read.
            if cfg!(kevio_selector = "poll") {
                // SAFETY: the kernel writes eight bytes.
                unsafe { libc::read(self.0.as_raw_fd(), (&mut 0_u64 as *mut u64).cast(), 8) };
            }
        }
    }
}

pub fn contestants() -> Vec<Contestant> {
    vec![
        Contestant { subject: "kevio", descriptors: |_| 0, measure: all::<Kevio, kevio::Waker> },
        Contestant { subject: "mio", descriptors: |n| 2 * n, measure: all::<Mio, WithPoll> },
        #[cfg(all(target_os = "linux", kevio_selector = "epoll"))]
        Contestant { subject: "bare", descriptors: |n| n, measure: all::<super::cases::bare::Epoll, eventfd::EventFd> },
        #[cfg(all(target_os = "linux", kevio_selector = "poll"))]
        Contestant { subject: "bare", descriptors: |n| n, measure: all::<super::cases::bare::Poll, eventfd::EventFd> },
    ]
}

fn all<S: Subject, W: Waker<S>>(Scale { size, budget, .. }: Scale) -> Vec<Sample> {
    let (mut fixture, create) = Fixture::<S, W>::build(size, budget, |_| W::new);
    let wake = fixture.time_at_random(budget, |subject, _, token, waker| waker.wake_and_poll(subject, token));
    let bytes = fixture.bytes;
    drop(fixture);
    let drop = Fixture::<S, W>::time_drop(size, budget, W::new);
    vec![("create a waker", create), ("wake, poll", wake), ("drop a waker", drop), ("memory of a waker", bytes)]
}
