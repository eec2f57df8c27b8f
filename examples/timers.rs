//! The classic kqueue timer program: one timer of 1 s and one of 5 s; each event with its time, token and expirations.
//!
//! ```sh
//! cargo run --example timers
//! cargo run --example timers 100      # a hundred times as fast
//! ```

use std::io;
use std::time::{Duration, Instant};

use kevio::{Events, Interest, Poll, Timer, Token};

const FAST: Token = Token(1);
const SLOW: Token = Token(5);

fn main() -> io::Result<()> {
    let speed = std::env::args().nth(1).and_then(|speed| speed.parse().ok()).unwrap_or(1);
    let second = Duration::from_secs(1) / speed;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let mut fast = Timer::every(second)?;
    let mut slow = Timer::every(second * 5)?;
    let start = Instant::now();
    poll.registry().register(&mut fast, FAST, Interest::READABLE)?;
    poll.registry().register(&mut slow, SLOW, Interest::READABLE)?;

    // One more than twelve, so that the other one has had its second turn too.
    let mut ticks = 0;
    while ticks < 13 {
        poll.poll_until(&mut events, None)?;
        for event in &events {
            let expirations = match event.token() {
                FAST => fast.expirations(event)?,
                _ => slow.expirations(event)?,
            };
            if event.token() == FAST {
                ticks += expirations;
            }
            println!("{:>6} ms  token {}  expirations {expirations}", start.elapsed().as_millis(), event.token().0);
        }
    }
    Ok(())
}
