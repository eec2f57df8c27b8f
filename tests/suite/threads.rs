//! The registry in many threads while one polls. With more of them: `load.rs`.

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kevio::net::UnixStream;
use kevio::Token;

use super::asleep::Waiter;
use super::harness::*;

/// A thread that drops what it registered, while the descriptor's number goes to the next.
#[test]
fn sources_come_and_go_in_four_threads() {
    let mut l = Loop::new();
    let done = Arc::new(());
    let threads: Vec<_> = (0..4)
        .map(|token| {
            let registry = l.poll.registry().try_clone().unwrap();
            let done = Arc::clone(&done);
            thread::spawn(move || {
                for round in 0..300 {
                    let (mut a, mut b) = UnixStream::pair().unwrap();
                    registry.register(&mut a, Token(token), BOTH).unwrap();
                    b.write_all(b"x").unwrap();
                    if round % 2 == 0 {
                        registry.deregister(&mut a).unwrap();
                    }
                }
                drop(done);
            })
        })
        .collect();
    while Arc::strong_count(&done) > 1 {
        for (token, _) in l.turn(Some(Duration::from_millis(5))) {
            assert!(token < 4);
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    l.expect_silence();
}

/// Readers in other threads: each byte must be reported, whatever the poller was doing when it came.
#[test]
fn reading_elsewhere_loses_no_event() {
    const BYTES: usize = 500;
    let mut l = Loop::new();
    let (mut a, b) = UnixStream::pair().unwrap();
    l.register(&mut a, 1, BOTH);
    let a = Arc::new(a);
    let (events, ready) = std::sync::mpsc::channel();
    let reader = {
        let a = Arc::clone(&a);
        thread::spawn(move || {
            let mut taken = 0;
            while taken < BYTES {
                if ready.recv_timeout(DEADLINE).is_err() {
                    panic!("{taken} bytes read and no event for the next");
                }
                taken += drain(&mut &*a).0;
            }
        })
    };
    // It waits when there is no room.
    let mut b = std::os::unix::net::UnixStream::from(b);
    b.set_nonblocking(false).unwrap();
    let writer = thread::spawn(move || {
        for _ in 0..BYTES {
            b.write_all(b"x").unwrap();
            thread::yield_now();
        }
        b
    });
    while !reader.is_finished() {
        if l.turn(Some(Duration::from_millis(20))).get(&1).is_some_and(|said| said.has(R)) {
            let _ = events.send(());
        }
    }
    reader.join().unwrap();
    drop(writer.join().unwrap());
}

/// What is closed in one thread is closed for the peer at once, though another thread waits for it.
#[test]
fn closing_under_a_wait_reaches_the_peer() {
    let mut l = Loop::new();
    let (mut a, mut b) = tcp_pair();
    l.register(&mut a, 1, READ);
    let done = kevio::Waker::new(l.poll.registry(), Token(2)).unwrap();
    let (say, said) = std::sync::mpsc::channel();
    let waiter = thread::spawn(move || {
        say.send(Waiter::here()).unwrap();
        l.expect(2, R);
    });
    // The waiter leaves only when it is woken, and it is woken only after the peer has read the end.
    b.set_read_timeout(Some(DEADLINE / 2)).unwrap();
    said.recv().unwrap().falls_asleep();
    drop(a);
    assert_eq!(std::io::Read::read(&mut b, &mut [0; 4]).unwrap(), 0);
    done.wake().unwrap();
    waiter.join().unwrap();
}
