//! An echo server that Ctrl-C or SIGTERM ends gracefully: it takes no more clients, serves those it has until they leave or
//! ten seconds are over, and ends. A second signal ends it at once.
//!
//! ```sh
//! cargo run --example graceful_shutdown 127.0.0.1:9000
//! ```

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::time::Duration;

use kevio::net::{TcpListener, TcpStream};
use kevio::{Events, Interest, Poll, Registry, Signals, Timer, Token};

const LISTENER: Token = Token(0);
const SIGNALS: Token = Token(1);
const TOO_LATE: Token = Token(2);
const FIRST_CLIENT: usize = 3;

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let Ok(address) = address.parse() else {
        eprintln!("usage: graceful_shutdown [ADDRESS:PORT], with the address in numbers");
        std::process::exit(2);
    };

    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(256);
    // Before anybody can connect, so that no signal ends it otherwise.
    let mut signals = Signals::new([libc::SIGINT, libc::SIGTERM])?;
    poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
    let mut patience = Timer::new()?;
    poll.registry().register(&mut patience, TOO_LATE, Interest::READABLE)?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {} with {}", listener.local_addr()?, kevio::BACKEND);

    // It is dropped, and so closed, when the server is to end.
    let mut listener = Some(listener);
    let mut clients = HashMap::new();
    let mut next = FIRST_CLIENT;
    while listener.is_some() || !clients.is_empty() {
        poll.poll_until(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => accept(listener.as_ref(), poll.registry(), &mut clients, &mut next)?,
                SIGNALS => {
                    for (signal, _) in signals.received(event)? {
                        if listener.take().is_none() {
                            println!("signal {signal} again: ending at once");
                            return Ok(());
                        }
                        println!("signal {signal}: no more clients, {} to serve", clients.len());
                        patience.set_after(PATIENCE)?;
                    }
                }
                TOO_LATE => {
                    if patience.expirations(event)? > 0 {
                        println!("{} clients did not leave", clients.len());
                        return Ok(());
                    }
                }
                token => {
                    if clients.get_mut(&token).is_some_and(|client| !echo(client)) {
                        clients.remove(&token);
                    }
                }
            }
        }
    }
    println!("every client was served");
    Ok(())
}

fn accept(
    listener: Option<&TcpListener>,
    registry: &Registry,
    clients: &mut HashMap<Token, TcpStream>,
    next: &mut usize,
) -> io::Result<()> {
    // An event of the listener may come beside the signal that closed it.
    while let Some(listener) = listener {
        match listener.accept() {
            Ok((mut stream, _)) => {
                registry.register(&mut stream, Token(*next), Interest::READABLE)?;
                clients.insert(Token(*next), stream);
                *next += 1;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            // There is no descriptor left. Who waits is accepted with the next who comes.
            Err(error) => {
                eprintln!("accept: {error}");
                break;
            }
        }
    }
    Ok(())
}

/// Sends back what there is; false when the client has left. One that does not read what it is sent is dropped, for short:
/// `tcp_server` keeps what could not be sent.
fn echo(client: &mut TcpStream) -> bool {
    let mut buffer = [0; 4096];
    loop {
        match client.read(&mut buffer) {
            Ok(0) => return false,
            Ok(n) => {
                if client.write_all(&buffer[..n]).is_err() {
                    return false;
                }
            }
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}
