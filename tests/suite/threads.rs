//! The registry in many threads while one thread polls. See `load.rs` for more threads.

use std::io::Write;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use kevio::Token;

use crate::support::blocked_thread::BlockedThread;
use crate::support::net::{drain, tcp_pair};
use crate::support::poll::{TestPoll, BOTH, READ, TIMEOUT};
use crate::support::readiness::R;
use crate::support::streams::{kevio_pair, StdStream};

/// Each thread drops its registered source, and the number of the descriptor goes to another thread.
#[test]
fn sources_of_four_threads_report_only_their_tokens() {
    let mut poll = TestPoll::new();
    let done = Arc::new(());
    let threads: Vec<_> = (0..4)
        .map(|token| {
            let registry = poll.registry().try_clone().unwrap();
            let done = Arc::clone(&done);
            thread::spawn(move || {
                for round in 0..300 {
                    let (mut a, mut b) = kevio_pair();
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
        for (token, _) in poll.poll_once(Some(Duration::from_millis(5))) {
            assert!(token < 4);
        }
    }
    for thread in threads {
        thread.join().unwrap();
    }
    poll.expect_no_events();
}

/// Another thread reads: each byte must be reported, whether or not this thread was blocked when the byte arrived.
#[test]
fn reading_in_another_thread_loses_no_event() {
    const BYTES: usize = 500;
    let mut poll = TestPoll::new();
    let (mut a, b) = kevio_pair();
    poll.register(&mut a, 1, BOTH);
    let a = Arc::new(a);
    let (events, ready) = std::sync::mpsc::channel();
    let reader = {
        let a = Arc::clone(&a);
        thread::spawn(move || {
            let mut taken = 0;
            while taken < BYTES {
                if ready.recv_timeout(TIMEOUT).is_err() {
                    panic!("{taken} bytes read and no event for the next");
                }
                taken += drain(&mut &*a).0;
            }
        })
    };
    // The writer blocks when the socket is full.
    let mut b = StdStream::from(b);
    b.set_nonblocking(false).unwrap();
    let writer = thread::spawn(move || {
        for _ in 0..BYTES {
            b.write_all(b"x").unwrap();
            thread::yield_now();
        }
        b
    });
    while !reader.is_finished() {
        if poll.poll_once(Some(Duration::from_millis(20))).get(&1).is_some_and(|reported| reported.has(R)) {
            let _ = events.send(());
        }
    }
    reader.join().unwrap();
    drop(writer.join().unwrap());
}

/// Closing a stream in one thread closes the connection at once, although another thread waits for the stream.
#[test]
fn closing_during_a_wait_reaches_the_peer() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = tcp_pair();
    poll.register(&mut a, 1, READ);
    let done = kevio::Waker::new(poll.registry(), Token(2)).unwrap();
    let (sender, receiver) = std::sync::mpsc::channel();
    let waiting = thread::spawn(move || {
        sender.send(BlockedThread::current()).unwrap();
        poll.expect(2, R);
    });
    // The waiting thread returns only after the wake, which follows the read of the end of file.
    b.set_read_timeout(Some(TIMEOUT / 2)).unwrap();
    receiver.recv().unwrap().wait_until_blocked();
    drop(a);
    assert_eq!(std::io::Read::read(&mut b, &mut [0; 4]).unwrap(), 0);
    done.wake().unwrap();
    waiting.join().unwrap();
}
