//! One unread pipe in each trigger mode (on Windows, an unread connection): disabled, edge-triggered, level-triggered and one-shot.
//!
//! ```sh
//! cargo run --example trigger_modes
//! ```

use std::io::{self, Read, Write};
use std::time::Instant;

#[cfg(windows)]
use kevio::net::TcpStream;
#[cfg(unix)]
use kevio::unix::pipe;
use kevio::{Events, Interest, Poll, Token};

const PIPE: Token = Token(1);

/// Polls three times without waiting. Prints how many of these polls reported the pipe, and checks the number.
fn report(mode: &str, expected: usize, poll: &mut Poll, events: &mut Events) -> io::Result<()> {
    let mut reported = 0;
    for _ in 0..3 {
        poll.poll_until(events, Some(Instant::now()))?;
        reported += events.iter().filter(|event| event.token() == PIPE && event.is_readable()).count();
    }
    println!("{mode:<22} reported {reported} times in 3 polls");
    assert_eq!(reported, expected, "{mode}");
    Ok(())
}

/// Returns the two ends of a new pipe, for writing and for reading.
#[cfg(unix)]
fn ends() -> io::Result<(pipe::Sender, pipe::Receiver)> {
    pipe::new()
}

/// Returns the two ends of a new connection, because Windows has no pipe of this kind.
#[cfg(windows)]
fn ends() -> io::Result<(TcpStream, TcpStream)> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let sender = std::net::TcpStream::connect(listener.local_addr()?)?;
    let (receiver, _) = listener.accept()?;
    sender.set_nonblocking(true)?;
    receiver.set_nonblocking(true)?;
    Ok((TcpStream::from_std(sender), TcpStream::from_std(receiver)))
}

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let (mut sender, mut receiver) = ends()?;
    poll.registry().register(&mut receiver, PIPE, Interest::NONE)?;
    // A few bytes fit into an empty pipe. In general, `write_all` is wrong for a stream that does not block.
    sender.write_all(b"unread")?;
    report("disabled:", 0, &mut poll, &mut events)?;

    // Reregistering changes the mode, and reports the readiness of that moment.
    poll.registry().reregister(&mut receiver, PIPE, Interest::READABLE)?;
    report("edge:", 1, &mut poll, &mut events)?;

    poll.registry().reregister(&mut receiver, PIPE, Interest::READABLE.level())?;
    report("level:", 3, &mut poll, &mut events)?;

    poll.registry().reregister(&mut receiver, PIPE, Interest::READABLE.oneshot())?;
    report("one-shot:", 1, &mut poll, &mut events)?;
    sender.write_all(b", and more")?;
    report("one-shot, more data:", 0, &mut poll, &mut events)?;
    poll.registry().reregister(&mut receiver, PIPE, Interest::READABLE.oneshot())?;
    report("one-shot, re-armed:", 1, &mut poll, &mut events)?;

    // All bytes are in the pipe, so that `read_exact` does not fail with `WouldBlock`.
    let mut text = [0; 16];
    receiver.read_exact(&mut text)?;
    assert_eq!(&text, b"unread, and more");
    println!("ok");
    Ok(())
}
