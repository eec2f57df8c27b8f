//! Two periodic timers, of 1 s and of 5 s. Each event is printed with its time, its token and the number of expirations.
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

    // The slow timer expires for the second time after ten seconds, and has three seconds more to be reported.
    let (mut fast_expirations, mut slow_expirations) = (0, 0);
    while fast_expirations < 13 {
        poll.poll_until(&mut events, None)?;
        for event in &events {
            let expirations = match event.token() {
                FAST => fast.expirations(event)?,
                _ => slow.expirations(event)?,
            };
            match event.token() {
                FAST => fast_expirations += expirations,
                _ => slow_expirations += expirations,
            }
            println!("{:>6} ms  token {}  expirations {expirations}", start.elapsed().as_millis(), event.token().0);
        }
    }
    // However late the program polls, no expiration is lost, and a timer never fires early.
    assert!(slow_expirations >= 2 && 5 * slow_expirations <= fast_expirations + 5);
    println!("ok");
    Ok(())
}
