//! Several children, each reaped as soon as it has exited, by a loop that never blocks in `wait`.
//!
//! ```sh
//! cargo run --example reap_children
//! ```

use std::collections::HashMap;
use std::process::Command;
use std::time::Duration;
use std::{env, io, process, thread};

use kevio::{Events, Interest, Poll, Process, Token};

fn main() -> io::Result<()> {
    // A child is this program with its number as the argument, because Windows has no shell.
    if let Some(n) = env::args().nth(1).and_then(|n| n.parse().ok()) {
        // The child that starts last exits first.
        thread::sleep(Duration::from_millis(100) * 5_u32.saturating_sub(n));
        process::exit(n as i32);
    }
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let mut children = HashMap::new();
    for n in 1..=4 {
        let child = Command::new(env::current_exe()?).arg(n.to_string()).spawn()?;
        let mut process = Process::new(&child)?;
        poll.registry().register(&mut process, Token(n), Interest::READABLE)?;
        children.insert(n, (child, process));
    }
    while !children.is_empty() {
        poll.poll_until(&mut events, None)?;
        for event in &events {
            let Token(n) = event.token();
            let Some((child, process)) = children.get_mut(&n) else { continue };
            if process.has_exited(event)? {
                let status = child.wait()?;
                println!("EXITED: {n} ({status})");
                assert_eq!(status.code(), Some(n as i32));
                children.remove(&n);
            }
        }
    }
    println!("ok");
    Ok(())
}
