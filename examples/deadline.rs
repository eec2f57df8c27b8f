//! A loop that has something to do at fixed times, whatever arrives in between: it waits until a deadline, not for a
//! while.
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
        // It disturbs the loop every 7 ms.
        scope.spawn(|| {
            for _ in 0..30 {
                thread::sleep(Duration::from_millis(7));
                let _ = waker.wake();
            }
        });

        let start = Instant::now();
        let mut disturbed = 0;
        for tick in 1..=4 {
            let deadline = start + PERIOD * tick;
            loop {
                poll.poll_until(&mut events, Some(deadline))?;
                if events.is_empty() {
                    break;
                }
                disturbed += events.len();
            }
            // Signals and events do not shift it, and nothing adds up.
            assert!(start.elapsed() >= PERIOD * tick);
            println!("tick {tick} at {} ms", (PERIOD * tick).as_millis());
        }
        assert!(disturbed > 0);
        println!("disturbed in between, and on time");
        Ok(())
    })
}
