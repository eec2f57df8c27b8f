//! Another thread computes results, and wakes the loop for each.
//!
//! ```sh
//! cargo run --example wake_from_thread
//! ```

use std::io;
use std::sync::{mpsc, Arc};
use std::thread;
use std::time::{Duration, Instant};

use kevio::{Events, Poll, Token, Waker};

const RESULT: Token = Token(10);

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let waker = Arc::new(Waker::new(poll.registry(), RESULT)?);

    let (sender, receiver) = mpsc::channel();
    let worker = {
        // The loop keeps a reference too, because dropping the last one ends the waker's registration.
        let waker = Arc::clone(&waker);
        thread::spawn(move || -> io::Result<()> {
            for number in 1..=3_u64 {
                thread::sleep(Duration::from_millis(100));
                let _ = sender.send(number * number);
                // The result is sent before the wake, so that the loop finds it after the event.
                waker.wake()?;
            }
            Ok(())
        })
    };

    let mut results = Vec::new();
    while results.len() < 3 {
        poll.poll_until(&mut events, Some(Instant::now() + Duration::from_secs(5)))?;
        if events.is_empty() {
            println!("no result for five seconds");
        }
        for event in &events {
            assert_eq!(event.token(), RESULT);
            // Several wakes may be coalesced into one event, so the loop takes every result that is there.
            while let Ok(result) = receiver.try_recv() {
                println!("result: {result}");
                results.push(result);
            }
        }
    }
    worker.join().expect("the worker panicked")?;
    assert_eq!(results, [1, 4, 9]);
    println!("ok");
    Ok(())
}
