//! The event loop allocates nothing after its buffers have grown. In a binary of its own, whose allocator counts.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kevio::{Events, Interest, Poll, Timer, Token, Waker};

mod support;

use crate::support::allocator::{allocations, live_bytes, Counting};
use crate::support::poll::{BOTH, TIMEOUT};
use crate::support::streams::{kevio_pair, raw, SourceFd, Stream};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Fails if `operation` allocates after its second run. The first run may grow buffers. The second run may also
/// grow buffers, because poll(2) probes the sources that the first run reported.
#[track_caller]
fn assert_allocates_nothing(mut operation: impl FnMut()) {
    operation();
    operation();
    for run in 3..50 {
        assert_eq!(allocations(&mut operation), 0, "in run {run}");
    }
}

struct CountedPoll {
    poll: Poll,
    events: Events,
}

impl CountedPoll {
    fn new() -> CountedPoll {
        CountedPoll { poll: Poll::new().unwrap(), events: Events::with_capacity(64) }
    }

    /// Polls once and reads every event. Returns the number of events.
    fn poll_once(&mut self, timeout: Duration) -> usize {
        self.poll.poll(&mut self.events, Some(timeout)).unwrap();
        let is_ready = |event: &kevio::event::Event| event.is_readable() || event.is_writable();
        self.events.iter().filter(|event| event.token() < Token(1000) && is_ready(event)).count()
    }

    /// Polls until `expected` events were reported.
    fn poll_until_reported(&mut self, expected: usize) {
        let mut reported = 0;
        while reported < expected {
            let more = self.poll_once(TIMEOUT);
            assert!(more > 0, "only {reported} of {expected} events were reported");
            reported += more;
        }
    }
}

fn read_all(mut stream: &Stream) {
    while stream.read(&mut [0; 16]).is_ok_and(|n| n > 0) {}
}

#[test]
fn allocation_counter_sees_allocations() {
    assert!(allocations(|| drop(vec![1])) > 0);
    assert!(allocations(|| drop(vec![0_u8; 10])) > 0, "zeroed memory");
    let mut growing = vec![1];
    assert!(allocations(|| growing.reserve(100)) > 0, "reallocation");
}

#[test]
fn poll_without_events_does_not_allocate() {
    let mut poll = CountedPoll::new();
    for timeout in [0, 1, 1_000_000].map(Duration::from_nanos) {
        assert_allocates_nothing(|| assert_eq!(poll.poll_once(timeout), 0));
    }
    let (mut a, _b) = kevio_pair();
    poll.poll.registry().register(&mut a, Token(1), Interest::READABLE).unwrap();
    assert_allocates_nothing(|| assert_eq!(poll.poll_once(Duration::from_millis(1)), 0));
}

#[test]
fn wakes_do_not_allocate() {
    let mut poll = CountedPoll::new();
    let wakers = [1, 2, 3].map(|token| Waker::new(poll.poll.registry(), Token(token)).unwrap());
    assert_allocates_nothing(|| {
        for waker in wakers.iter().chain(&wakers) {
            waker.wake().unwrap();
        }
        assert_eq!(poll.poll_once(TIMEOUT), 3);
        assert_eq!(poll.poll_once(Duration::ZERO), 0);
    });
}

#[test]
fn many_ready_sources_do_not_allocate() {
    let mut poll = CountedPoll::new();
    let mut pairs: Vec<_> = (0..50).map(|_| kevio_pair()).collect();
    for (token, (a, _)) in pairs.iter_mut().enumerate() {
        poll.poll.registry().register(a, Token(token), Interest::READABLE).unwrap();
    }
    assert_allocates_nothing(|| {
        for (_, b) in &mut pairs {
            b.write_all(b"x").unwrap();
        }
        poll.poll_until_reported(50);
        pairs.iter().for_each(|(a, _)| read_all(a));
    });
}

/// Twice as many sources as the buffer holds.
#[test]
fn more_ready_sources_than_the_buffer_holds_do_not_allocate() {
    let mut poll = CountedPoll::new();
    let mut pairs: Vec<_> = (0..128).map(|_| kevio_pair()).collect();
    for (token, (a, _)) in pairs.iter_mut().enumerate() {
        poll.poll.registry().register(a, Token(token), Interest::READABLE).unwrap();
    }
    assert_allocates_nothing(|| {
        for (_, b) in &mut pairs {
            b.write_all(b"x").unwrap();
        }
        poll.poll_until_reported(128);
        pairs.iter().for_each(|(a, _)| read_all(a));
    });
}

#[test]
fn reregistering_does_not_allocate() {
    let mut poll = CountedPoll::new();
    let (mut a, _b) = kevio_pair();
    poll.poll.registry().register(&mut a, Token(1), BOTH).unwrap();
    assert_allocates_nothing(|| {
        for interest in [Interest::READABLE, Interest::WRITABLE, BOTH] {
            poll.poll.registry().reregister(&mut a, Token(2), interest).unwrap();
        }
        assert!(poll.poll_once(TIMEOUT) > 0);
    });
}

#[test]
fn level_triggered_sources_do_not_allocate() {
    let mut poll = CountedPoll::new();
    let mut pairs: Vec<_> = (0..50).map(|_| kevio_pair()).collect();
    for (token, (a, _)) in pairs.iter_mut().enumerate() {
        poll.poll.registry().register(a, Token(token), Interest::READABLE.level()).unwrap();
    }
    assert_allocates_nothing(|| {
        for (_, b) in &mut pairs {
            b.write_all(b"x").unwrap();
        }
        // Every poll reports the sources whose data has arrived.
        while poll.poll_once(TIMEOUT) < 50 {}
        pairs.iter().for_each(|(a, _)| read_all(a));
        assert_eq!(poll.poll_once(Duration::ZERO), 0);
    });
}

/// The registration itself may allocate. The polls after it do not: requests and buffers of the backend are used again.
#[test]
fn poll_after_a_new_registration_does_not_allocate() {
    let mut poll = CountedPoll::new();
    let mut pairs: Vec<_> = (0..50).map(|_| kevio_pair()).collect();
    for run in 1..50 {
        for (token, (a, b)) in pairs.iter_mut().enumerate() {
            poll.poll.registry().register(a, Token(token), BOTH).unwrap();
            b.write_all(b"x").unwrap();
        }
        let allocated = allocations(|| poll.poll_until_reported(50));
        assert!(run <= 2 || allocated == 0, "{allocated} in run {run}");
        for (a, _) in &mut pairs {
            read_all(a);
            poll.poll.registry().deregister(a).unwrap();
        }
        let allocated = allocations(|| assert_eq!(poll.poll_once(Duration::ZERO), 0));
        assert!(run <= 2 || allocated == 0, "{allocated} in run {run}, after the deregistration");
    }
}

/// poll(2) probes the descriptor in each wait, and reports it again from time to time.
#[test]
fn raw_descriptor_left_ready_does_not_allocate() {
    let mut poll = CountedPoll::new();
    let (unobserved, mut peer) = kevio_pair();
    poll.poll.registry().register(&mut SourceFd(&raw(&unobserved)), Token(1), BOTH).unwrap();
    peer.write_all(b"unread").unwrap();
    assert!(poll.poll_once(TIMEOUT) > 0);
    assert_allocates_nothing(|| {
        poll.poll_once(Duration::from_millis(10));
    });
    // The program reads without kevio.
    assert_allocates_nothing(|| {
        read_all(&unobserved);
        poll.poll_once(Duration::ZERO);
        peer.write_all(b"more").unwrap();
        assert!(poll.poll_once(TIMEOUT) > 0);
    });
}

/// The kernel reports a hang-up for any interest.
#[test]
fn closed_peer_does_not_allocate() {
    let mut poll = CountedPoll::new();
    let (mut a, b) = kevio_pair();
    poll.poll.registry().register(&mut a, Token(1), BOTH).unwrap();
    drop(b);
    assert!(poll.poll_once(TIMEOUT) > 0);
    assert_allocates_nothing(|| {
        read_all(&a);
        poll.poll_once(Duration::from_millis(1));
    });
}

/// Another thread changes the interest during a wait, and the new interest is ready.
#[test]
fn reregistering_during_a_wait_does_not_allocate() {
    let mut poll = CountedPoll::new();
    let registry = poll.poll.registry().try_clone().unwrap();
    let (go, gone) = mpsc::sync_channel(64);
    let changer = thread::spawn(move || {
        let (mut a, mut b) = kevio_pair();
        registry.register(&mut a, Token(1), Interest::READABLE).unwrap();
        let mut read = true;
        b.write_all(b"x").unwrap();
        while gone.recv().is_ok() {
            // The other thread is blocked in some of the rounds.
            thread::sleep(Duration::from_millis(1));
            read = !read;
            let interest = if read { Interest::READABLE } else { Interest::WRITABLE };
            registry.reregister(&mut a, Token(1), interest).unwrap();
        }
    });
    // The event of the registration.
    assert!(poll.poll_once(TIMEOUT) > 0);
    assert_allocates_nothing(|| {
        go.send(()).unwrap();
        assert!(poll.poll_once(TIMEOUT) > 0);
    });
    drop(go);
    changer.join().unwrap();
}

#[cfg(unix)]
#[test]
fn pollset_does_not_allocate() {
    use kevio::unix::pollset::{PollFlags, PollSet};
    use std::os::fd::AsRawFd;

    let (a, b) = kevio_pair();
    let mut set = PollSet::new();
    set.grow(64).unwrap();
    assert_allocates_nothing(|| {
        set.set(3, a.as_raw_fd(), PollFlags::OUT).unwrap();
        set.set(60, b.as_raw_fd(), PollFlags::IN).unwrap();
        assert_eq!(set.poll(64, Some(TIMEOUT)).unwrap(), 1);
        assert_eq!(set.ready().map(|slot| slot.index()).sum::<usize>(), 3);
        assert_eq!(set.get(3).map(|slot| slot.fd()), Some(a.as_raw_fd()));
        set.unset(3).unwrap();
    });
}

/// All operations together.
#[test]
fn all_operations_together_do_not_allocate() {
    let mut poll = CountedPoll::new();
    let waker = Waker::new(poll.poll.registry(), Token(0)).unwrap();
    let mut pairs: Vec<_> = (0..10).map(|_| kevio_pair()).collect();
    for (token, (a, _)) in pairs.iter_mut().enumerate() {
        poll.poll.registry().register(a, Token(token + 1), BOTH).unwrap();
    }
    let (unobserved, mut unobserved_peer) = kevio_pair();
    poll.poll.registry().register(&mut SourceFd(&raw(&unobserved)), Token(100), Interest::READABLE).unwrap();
    assert_allocates_nothing(|| {
        waker.wake().unwrap();
        unobserved_peer.write_all(b"x").unwrap();
        for (_, b) in &mut pairs {
            b.write_all(b"x").unwrap();
        }
        assert!(poll.poll_once(TIMEOUT) > 0);
        pairs.iter().for_each(|(a, _)| read_all(a));
        read_all(&unobserved);
        let (a, _) = &mut pairs[0];
        poll.poll.registry().reregister(a, Token(1), BOTH).unwrap();
    });
}

#[test]
fn timers_do_not_allocate() {
    let mut poll = CountedPoll::new();
    let mut once = Timer::new().unwrap();
    let mut every = Timer::every(Duration::from_micros(100)).unwrap();
    poll.poll.registry().register(&mut once, Token(1), Interest::READABLE).unwrap();
    poll.poll.registry().register(&mut every, Token(2), Interest::READABLE).unwrap();
    assert_allocates_nothing(|| {
        once.set_after(Duration::from_micros(50)).unwrap();
        let (mut first, mut second) = (0, 0);
        while first == 0 || second == 0 {
            assert!(poll.poll_once(TIMEOUT) > 0);
            for event in &poll.events {
                match event.token() {
                    Token(1) => first += once.expirations(event).unwrap(),
                    _ => second += every.expirations(event).unwrap(),
                }
            }
        }
    });
}

#[test]
fn wakers_of_a_dropped_poll_keep_no_memory() {
    let poll = Poll::new().unwrap();
    let registry = poll.registry().try_clone().unwrap();
    drop(poll);
    let wake_and_drop = || Waker::new(&registry, Token(1)).unwrap().wake().unwrap();
    wake_and_drop();
    let before = live_bytes();
    (0..100_000).for_each(|_| wake_and_drop());
    // Other tests of this process allocate meanwhile.
    assert!(live_bytes() - before < 2_000_000, "{} bytes", live_bytes() - before);
}

/// A handler of a forked child may call `wake` in the middle of an allocation.
#[cfg(unix)]
#[test]
fn failing_wake_does_not_allocate() {
    let poll = Poll::new().unwrap();
    let waker = Waker::new(poll.registry(), Token(1)).unwrap();
    support::process::in_a_child(|| {
        assert_eq!(allocations(|| assert!(waker.wake().is_err())), 0);
    });
    waker.wake().unwrap();
}
