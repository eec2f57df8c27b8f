//! A turn of the loop allocates nothing, once buffers have grown. In a process of its own, which counts.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::time::Duration;

use kevio::net::UnixStream;
use kevio::unix::SourceFd;
use kevio::{Events, Interest, Poll, Token, Waker};

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

fn allocations(of: impl FnOnce()) -> usize {
    let before = ALLOCATIONS.with(Cell::get);
    of();
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn a_turn_allocates_nothing() {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(64);
    let waker = Waker::new(poll.registry(), Token(0)).unwrap();
    let mut pairs: Vec<_> = (0..10).map(|_| UnixStream::pair().unwrap()).collect();
    for (token, (a, _)) in pairs.iter_mut().enumerate() {
        poll.registry().register(a, Token(token + 1), Interest::READABLE | Interest::WRITABLE).unwrap();
    }
    let (bare, mut bare_peer) = UnixStream::pair().unwrap();
    let number = bare.as_raw_fd();
    poll.registry().register(&mut SourceFd(&number), Token(100), Interest::READABLE).unwrap();

    let mut turns = |n: usize| {
        for _ in 0..n {
            waker.wake().unwrap();
            bare_peer.write_all(b"x").unwrap();
            for (_, b) in &mut pairs {
                b.write_all(b"x").unwrap();
            }
            poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
            assert!(!events.is_empty());
            for event in &events {
                let _ = (event.token(), event.is_readable());
            }
            for (a, _) in &mut pairs {
                while a.read(&mut [0; 16]).is_ok() {}
            }
            let _ = (&bare).read(&mut [0; 16]);
            let (a, _) = &mut pairs[0];
            poll.registry().reregister(a, Token(1), Interest::READABLE | Interest::WRITABLE).unwrap();
        }
    };
    turns(10);
    assert_eq!(allocations(|| turns(100)), 0);
    assert!(allocations(|| drop(vec![1])) > 0, "the count does not count");
}
