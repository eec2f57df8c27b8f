//! A loop with work at fixed times. It waits until a deadline, so that events in between do not delay the work.
//!
//! ```sh
//! cargo run --example deadline
//! ```

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use kevio::{Events, Poll, Token, Waker};

const PERIOD: Duration = Duration::from_millis(50);

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let waker = Waker::new(poll.registry(), Token(0))?;
    thread::scope(|scope| {
        // Another thread wakes the loop every 7 ms.
        scope.spawn(|| {
            for _ in 0..30 {
                thread::sleep(Duration::from_millis(7));
                let _ = waker.wake();
            }
        });

        let start = Instant::now();
        let mut wakes = 0;
        for tick in 1..=4 {
            let deadline = start + PERIOD * tick;
            loop {
                poll.poll_until(&mut events, Some(deadline))?;
                if events.is_empty() {
                    break;
                }
                wakes += events.len();
            }
            // A deadline is a time, so that delays do not add up from tick to tick.
            assert!(start.elapsed() >= PERIOD * tick);
            println!("tick {tick} at {} ms", (PERIOD * tick).as_millis());
        }
        println!("events in between: {wakes}");
        assert!(wakes > 0);
        println!("ok");
        Ok(())
    })
}
