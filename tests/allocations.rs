//! A turn of the loop allocates nothing, once buffers have grown. In a process of its own, which counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use kevio::net::UnixStream;
use kevio::unix::SourceFd;
use kevio::{Events, Interest, Poll, Timer, Token, Waker};

mod support;

use crate::support::poll::{BOTH, TIMEOUT};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: hands everything on to the system's allocator, and counts in between without allocating.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How often this thread asked for memory in `of`.
fn allocations(of: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    of();
    ALLOCATIONS.with(Cell::get) - before
}

/// The first turn may let buffers grow, and so may the second, which poll(2) begins with a look at what the first has
/// told. The later ones may not.
#[track_caller]
fn allocates_nothing(mut turn: impl FnMut()) {
    turn();
    turn();
    for n in 3..50 {
        assert_eq!(allocations(&mut turn), 0, "in turn {n}");
    }
}

struct Rig {
    poll: Poll,
    events: Events,
}

impl Rig {
    fn new() -> Rig {
        Rig { poll: Poll::new().unwrap(), events: Events::with_capacity(64) }
    }

    /// One poll, of which every event is looked at; how many there were.
    fn turn(&mut self, timeout: Duration) -> usize {
        self.poll.poll(&mut self.events, Some(timeout)).unwrap();
        let has_sense = |event: &kevio::event::Event| event.is_readable() || event.is_writable();
        self.events.iter().filter(|event| event.token() < Token(1000) && has_sense(event)).count()
    }

    /// As many polls as make `wanted` events.
    fn turns(&mut self, wanted: usize) {
        let mut had = 0;
        while had < wanted {
            let n = self.turn(TIMEOUT);
            assert!(n > 0, "only {had} of {wanted}");
            had += n;
        }
    }
}

fn read_all(mut stream: &UnixStream) {
    while stream.read(&mut [0; 16]).is_ok_and(|n| n > 0) {}
}

#[test]
fn the_count_counts() {
    assert!(allocations(|| drop(vec![1])) > 0);
    assert!(allocations(|| drop(vec![0_u8; 10])) > 0, "zeroed memory");
    let mut growing = vec![1];
    assert!(allocations(|| growing.reserve(100)) > 0, "reallocation");
}

#[test]
fn nothing_to_tell() {
    let mut rig = Rig::new();
    for timeout in [0, 1, 1_000_000].map(Duration::from_nanos) {
        allocates_nothing(|| assert_eq!(rig.turn(timeout), 0));
    }
    let (mut a, _b) = UnixStream::pair().unwrap();
    rig.poll.registry().register(&mut a, Token(1), Interest::READABLE).unwrap();
    allocates_nothing(|| assert_eq!(rig.turn(Duration::from_millis(1)), 0));
}

#[test]
fn wakes() {
    let mut rig = Rig::new();
    let wakers = [1, 2, 3].map(|token| Waker::new(rig.poll.registry(), Token(token)).unwrap());
    allocates_nothing(|| {
        for waker in wakers.iter().chain(&wakers) {
            waker.wake().unwrap();
        }
        assert_eq!(rig.turn(TIMEOUT), 3);
        assert_eq!(rig.turn(Duration::ZERO), 0);
    });
}

#[test]
fn many_ready() {
    let mut rig = Rig::new();
    let mut pairs: Vec<_> = (0..50).map(|_| UnixStream::pair().unwrap()).collect();
    for (token, (a, _)) in pairs.iter_mut().enumerate() {
        rig.poll.registry().register(a, Token(token), Interest::READABLE).unwrap();
    }
    allocates_nothing(|| {
        for (_, b) in &mut pairs {
            b.write_all(b"x").unwrap();
        }
        rig.turns(50);
        pairs.iter().for_each(|(a, _)| read_all(a));
    });
}

/// More than there is room for, twice as many as in the buffer.
#[test]
fn more_ready_than_there_is_room() {
    let mut rig = Rig::new();
    let mut pairs: Vec<_> = (0..128).map(|_| UnixStream::pair().unwrap()).collect();
    for (token, (a, _)) in pairs.iter_mut().enumerate() {
        rig.poll.registry().register(a, Token(token), Interest::READABLE).unwrap();
    }
    allocates_nothing(|| {
        for (_, b) in &mut pairs {
            b.write_all(b"x").unwrap();
        }
        rig.turns(128);
        pairs.iter().for_each(|(a, _)| read_all(a));
    });
}

#[test]
fn changes() {
    let mut rig = Rig::new();
    let (mut a, _b) = UnixStream::pair().unwrap();
    rig.poll.registry().register(&mut a, Token(1), BOTH).unwrap();
    allocates_nothing(|| {
        for interest in [Interest::READABLE, Interest::WRITABLE, BOTH] {
            rig.poll.registry().reregister(&mut a, Token(2), interest).unwrap();
        }
        assert!(rig.turn(TIMEOUT) > 0);
    });
}

/// On poll(2) it is looked at in each turn, and told again from time to time.
#[test]
fn a_bare_descriptor_left_ready() {
    let mut rig = Rig::new();
    let (bare, mut peer) = UnixStream::pair().unwrap();
    rig.poll.registry().register(&mut SourceFd(&bare.as_raw_fd()), Token(1), BOTH).unwrap();
    peer.write_all(b"unread").unwrap();
    assert!(rig.turn(TIMEOUT) > 0);
    allocates_nothing(|| {
        rig.turn(Duration::from_millis(10));
    });
    // And one that is used, with nobody seeing it.
    allocates_nothing(|| {
        read_all(&bare);
        rig.turn(Duration::ZERO);
        peer.write_all(b"more").unwrap();
        assert!(rig.turn(TIMEOUT) > 0);
    });
}

/// It hung up, which cannot be masked.
#[test]
fn a_closed_peer() {
    let mut rig = Rig::new();
    let (mut a, b) = UnixStream::pair().unwrap();
    rig.poll.registry().register(&mut a, Token(1), BOTH).unwrap();
    drop(b);
    assert!(rig.turn(TIMEOUT) > 0);
    allocates_nothing(|| {
        read_all(&a);
        rig.turn(Duration::from_millis(1));
    });
}

/// Another thread changes what is waited for, and what it changes it to is ready.
#[test]
fn a_change_under_a_wait() {
    let mut rig = Rig::new();
    let registry = rig.poll.registry().try_clone().unwrap();
    let (go, gone) = mpsc::sync_channel(64);
    let changer = thread::spawn(move || {
        let (mut a, mut b) = UnixStream::pair().unwrap();
        registry.register(&mut a, Token(1), Interest::READABLE).unwrap();
        let mut read = true;
        b.write_all(b"x").unwrap();
        while gone.recv().is_ok() {
            // So that now and then somebody waits already.
            thread::sleep(Duration::from_millis(1));
            read = !read;
            let interest = if read { Interest::READABLE } else { Interest::WRITABLE };
            registry.reregister(&mut a, Token(1), interest).unwrap();
        }
    });
    // The registration itself.
    assert!(rig.turn(TIMEOUT) > 0);
    allocates_nothing(|| {
        go.send(()).unwrap();
        assert!(rig.turn(TIMEOUT) > 0);
    });
    drop(go);
    changer.join().unwrap();
}

#[test]
fn the_bare_poll() {
    use kevio::unix::pollset::{PollFlags, PollSet};
    let (a, b) = UnixStream::pair().unwrap();
    let mut set = PollSet::new();
    set.grow(64).unwrap();
    allocates_nothing(|| {
        set.set(3, a.as_raw_fd(), PollFlags::OUT).unwrap();
        set.set(60, b.as_raw_fd(), PollFlags::IN).unwrap();
        assert_eq!(set.poll(64, Some(TIMEOUT)).unwrap(), 1);
        assert_eq!(set.ready().map(|slot| slot.index()).sum::<usize>(), 3);
        assert_eq!(set.get(3).map(|slot| slot.fd()), Some(a.as_raw_fd()));
        set.unset(3).unwrap();
    });
}

/// All of it at once.
#[test]
fn a_busy_turn() {
    let mut rig = Rig::new();
    let waker = Waker::new(rig.poll.registry(), Token(0)).unwrap();
    let mut pairs: Vec<_> = (0..10).map(|_| UnixStream::pair().unwrap()).collect();
    for (token, (a, _)) in pairs.iter_mut().enumerate() {
        rig.poll.registry().register(a, Token(token + 1), BOTH).unwrap();
    }
    let (bare, mut bare_peer) = UnixStream::pair().unwrap();
    rig.poll.registry().register(&mut SourceFd(&bare.as_raw_fd()), Token(100), Interest::READABLE).unwrap();
    allocates_nothing(|| {
        waker.wake().unwrap();
        bare_peer.write_all(b"x").unwrap();
        for (_, b) in &mut pairs {
            b.write_all(b"x").unwrap();
        }
        assert!(rig.turn(TIMEOUT) > 0);
        pairs.iter().for_each(|(a, _)| read_all(a));
        read_all(&bare);
        let (a, _) = &mut pairs[0];
        rig.poll.registry().reregister(a, Token(1), BOTH).unwrap();
    });
}

#[test]
fn timers() {
    let mut rig = Rig::new();
    let mut once = Timer::new().unwrap();
    let mut every = Timer::every(Duration::from_micros(100)).unwrap();
    rig.poll.registry().register(&mut once, Token(1), Interest::READABLE).unwrap();
    rig.poll.registry().register(&mut every, Token(2), Interest::READABLE).unwrap();
    allocates_nothing(|| {
        once.set_after(Duration::from_micros(50)).unwrap();
        let (mut first, mut second) = (0, 0);
        while first == 0 || second == 0 {
            assert!(rig.turn(TIMEOUT) > 0);
            for event in &rig.events {
                match event.token() {
                    Token(1) => first += once.expirations(event).unwrap(),
                    _ => second += every.expirations(event).unwrap(),
                }
            }
        }
    });
}
