//! An echo server for many clients at once, in one thread.
//!
//! ```sh
//! cargo run --example tcp_server                  # on 127.0.0.1:9000, until Ctrl-C
//! cargo run --example tcp_server 127.0.0.1:9001   # another numeric address; with port 0 the system chooses the port
//! nc 127.0.0.1 9000                               # a client
//! ```

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use kevio::net::{TcpListener, TcpStream};
use kevio::{Events, Interest, Poll, Registry, Token};

const LISTENER: Token = Token(0);

/// The number of unsent bytes from which the server reads no more from a client.
const MAX_UNSENT: usize = 64 * 1024;

/// The number of reads from one client, after which the server serves the other clients.
const MAX_READS: usize = 16;

/// An edge-triggered registration can keep both directions, because a stream that stays writable is not reported again and again.
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);
/// Errors of a client that has left, and of a signal handler that has run. The queue may hold other clients.
const ACCEPT_AGAIN: [ErrorKind; 3] = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::Interrupted];

struct Client {
    stream: TcpStream,
    token: Token,
    unsent: Vec<u8>,
    /// The client sends no more.
    has_finished: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:9000").parse()?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {} with {}", listener.local_addr()?, kevio::BACKEND);

    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut last = 0;
    // The time of the next attempt to accept, after an attempt has failed.
    let mut retry: Option<Instant> = None;
    loop {
        poll.poll_until(&mut events, retry)?;
        for event in &events {
            if let Some(client) = clients.get_mut(&event.token()) {
                if !matches!(client.echo(poll.registry()), Ok(true)) {
                    println!("{}: disconnected", event.token().0);
                    clients.remove(&event.token());
                }
            }
        }
        // Other events do not shorten the pause.
        let is_due = retry.is_some_and(|time| Instant::now() >= time);
        if !is_due && !events.iter().any(|event| event.token() == LISTENER) {
            continue;
        }
        retry = loop {
            match listener.accept() {
                Ok((mut stream, address)) => {
                    last += 1;
                    let token = Token(last);
                    println!("{last}: connected from {address}");
                    if let Err(error) = poll.registry().register(&mut stream, token, INTEREST) {
                        eprintln!("{last}: disconnected: {error}");
                        continue;
                    }
                    clients.insert(token, Client { stream, token, unsent: Vec::new(), has_finished: false });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break None,
                Err(error) if ACCEPT_AGAIN.contains(&error.kind()) => {}
                // The process has no free descriptor. The connection stays in the queue, and may cause no other event.
                Err(error) => {
                    eprintln!("accept: {error}");
                    break Some(Instant::now() + Duration::from_millis(100));
                }
            }
        };
    }
}

impl Client {
    /// Sends what was received, until an operation would block or the server has read often enough. Returns `false` if the
    /// connection is finished.
    fn echo(&mut self, registry: &Registry) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        for _ in 0..MAX_READS {
            while !self.unsent.is_empty() {
                match self.stream.write(&self.unsent) {
                    Ok(n) => drop(self.unsent.drain(..n)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if self.has_finished {
                return Ok(!self.unsent.is_empty());
            }
            // Writing has blocked. The event that reports the socket as writable also continues reading.
            if self.unsent.len() >= MAX_UNSENT {
                return Ok(true);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.has_finished = true,
                Ok(n) => self.unsent.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // More data may be there, but the other clients have their turn. Reregistering reports existing readiness, so that the
        // next poll reports this client again.
        registry.reregister(&mut self.stream, self.token, INTEREST)?;
        Ok(true)
    }
}
