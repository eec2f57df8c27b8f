//! Several children, reaped as they end, by a loop that never waits for one of them.
//!
//! ```sh
//! cargo run --example reap_children
//! ```

use std::collections::HashMap;
use std::io;
use std::process::Command;

use kevio::{Events, Interest, Poll, Process, Token};

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let mut children = HashMap::new();
    for n in 1..=4 {
        // The last to start is the first to end.
        let script = format!("sleep 0.{}; exit {n}", 5 - n);
        let child = Command::new("sh").args(["-c", &script]).spawn()?;
        let mut process = Process::new(&child)?;
        poll.registry().register(&mut process, Token(n), Interest::READABLE)?;
        children.insert(n, (child, process));
    }
    while !children.is_empty() {
        poll.poll_until(&mut events, None)?;
        for event in &events {
            let token = event.token().0;
            let Some((child, process)) = children.get_mut(&token) else { continue };
            if process.has_exited(event)? {
                println!("child {token} has exited: {}", child.wait()?);
                children.remove(&token);
            }
        }
    }
    Ok(())
}
