//! An echo server that Ctrl-C or SIGTERM ends gracefully.
//!
//! After the first signal the server accepts no more clients. The server ends when all its clients have left, or ten seconds
//! later. A second signal ends the server at once.
//!
//! ```sh
//! cargo run --example graceful_shutdown 127.0.0.1:9000
//! ```
//!
//! The last line is `ok` if every client was served until it left.

use std::collections::HashMap;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::time::{Duration, Instant};

use kevio::net::{TcpListener, TcpStream};
#[cfg(windows)]
use kevio::windows::{SIGINT, SIGTERM};
use kevio::{Events, Interest, Poll, Registry, Signals, Timer, Token};
#[cfg(unix)]
use libc::{SIGINT, SIGTERM};

const LISTENER: Token = Token(0);
const SIGNALS: Token = Token(1);
const GRACE_PERIOD_END: Token = Token(2);
const FIRST_CLIENT: usize = 3;

const GRACE_PERIOD: Duration = Duration::from_secs(10);

/// The number of unsent bytes from which the server reads no more from a client.
const MAX_UNSENT: usize = 64 * 1024;

/// The number of reads from one client, after which the server serves the other clients.
const MAX_READS: usize = 16;

/// An edge-triggered registration can keep both directions, because a stream that stays writable is not reported again and again.
const INTEREST: Interest = Interest::READABLE.add(Interest::WRITABLE);
/// Errors of a client that has left, and of a signal handler that has run. The queue may hold other clients.
const ACCEPT_AGAIN: [ErrorKind; 3] = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::Interrupted];

#[derive(Default)]
struct Clients {
    by_token: HashMap<Token, Client>,
    /// The number of clients that were accepted so far.
    accepted: usize,
    /// The time of the next attempt to accept, after an attempt has failed.
    retry: Option<Instant>,
}

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
    let mut events = Events::with_capacity(256);
    // The signals are registered before a client can connect, so that from then on no signal ends the process abruptly.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
    let mut grace_period = Timer::new()?;
    poll.registry().register(&mut grace_period, GRACE_PERIOD_END, Interest::READABLE)?;
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {} with {}", listener.local_addr()?, kevio::BACKEND);

    // The first signal drops the listener, which closes it.
    let mut listener = Some(listener);
    let mut clients = Clients::default();
    while listener.is_some() || !clients.by_token.is_empty() {
        poll.poll_until(&mut events, clients.retry.filter(|_| listener.is_some()))?;
        // Other events do not shorten the pause.
        let mut accepts = clients.retry.is_some_and(|time| Instant::now() >= time);
        for event in &events {
            match event.token() {
                LISTENER => accepts = true,
                SIGNALS => {
                    for (signal, _) in signals.received(event)? {
                        if listener.take().is_none() {
                            println!("signal {signal}: ending at once");
                            return Ok(());
                        }
                        println!("signal {signal}: closing, {} clients left", clients.by_token.len());
                        grace_period.set_after(GRACE_PERIOD)?;
                    }
                }
                GRACE_PERIOD_END => {
                    if grace_period.expirations(event)? > 0 {
                        println!("the grace period is over, {} clients left", clients.by_token.len());
                        return Ok(());
                    }
                }
                token => {
                    if let Some(client) = clients.by_token.get_mut(&token) {
                        if !matches!(client.echo(poll.registry()), Ok(true)) {
                            clients.by_token.remove(&token);
                        }
                    }
                }
            }
        }
        if let (true, Some(listener)) = (accepts, &listener) {
            clients.accept(listener, poll.registry());
        }
    }
    println!("ok");
    Ok(())
}

impl Clients {
    /// Accepts all clients that wait.
    fn accept(&mut self, listener: &TcpListener, registry: &Registry) {
        self.retry = loop {
            match listener.accept() {
                Ok((mut stream, _)) => {
                    let token = Token(FIRST_CLIENT + self.accepted);
                    self.accepted += 1;
                    if let Err(error) = registry.register(&mut stream, token, INTEREST) {
                        eprintln!("a client is disconnected: {error}");
                        continue;
                    }
                    self.by_token.insert(token, Client { stream, token, unsent: Vec::new(), has_finished: false });
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
    /// client has left.
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
