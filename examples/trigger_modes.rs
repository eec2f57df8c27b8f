//! The same unread pipe, told in four ways: by its edge, by its level, once, and not at all.
//!
//! ```sh
//! cargo run --example trigger_modes
//! ```

use std::io::{self, Read, Write};
use std::time::Duration;

use kevio::unix::pipe;
use kevio::{Events, Interest, Poll, Token};

const PIPE: Token = Token(1);

/// In how many of three polls the pipe is told.
fn told(poll: &mut Poll, events: &mut Events) -> io::Result<usize> {
    let mut times = 0;
    for _ in 0..3 {
        match poll.poll(events, Some(Duration::ZERO)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => result?,
        }
        times += events.iter().filter(|event| event.token() == PIPE && event.is_readable()).count();
    }
    Ok(times)
}

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let (mut sender, mut receiver) = pipe::new()?;
    poll.registry().register(&mut receiver, PIPE, Interest::NONE)?;
    sender.write_all(b"unread")?;
    println!("parked:    told {} times in 3 polls", told(&mut poll, &mut events)?);

    // Reregistering changes the mode, and tells what is true by then.
    poll.registry().reregister(&mut receiver, PIPE, Interest::READABLE)?;
    println!("edge:      told {} times in 3 polls", told(&mut poll, &mut events)?);

    poll.registry().reregister(&mut receiver, PIPE, Interest::READABLE.level())?;
    println!("level:     told {} times in 3 polls", told(&mut poll, &mut events)?);

    poll.registry().reregister(&mut receiver, PIPE, Interest::READABLE.oneshot())?;
    println!("one-shot:  told {} times in 3 polls", told(&mut poll, &mut events)?);
    sender.write_all(b", and more")?;
    println!("more data: told {} times in 3 polls", told(&mut poll, &mut events)?);
    poll.registry().reregister(&mut receiver, PIPE, Interest::READABLE.oneshot())?;
    println!("armed:     told {} times in 3 polls", told(&mut poll, &mut events)?);

    let mut text = [0; 32];
    let n = receiver.read(&mut text)?;
    println!("read:      {}", String::from_utf8_lossy(&text[..n]));
    Ok(())
}
