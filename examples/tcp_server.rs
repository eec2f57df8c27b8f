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
use kevio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);

/// The number of unsent bytes from which the server reads no more from a client.
const MAX_UNSENT: usize = 64 * 1024;

struct Client {
    stream: TcpStream,
    unsent: Vec<u8>,
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
                if !matches!(client.echo(), Ok(true)) {
                    println!("{}: disconnected", event.token().0);
                    clients.remove(&event.token());
                }
            }
        }
        if retry.is_none() && !events.iter().any(|event| event.token() == LISTENER) {
            continue;
        }
        retry = loop {
            match listener.accept() {
                Ok((mut stream, address)) => {
                    last += 1;
                    println!("{last}: connected from {address}");
                    poll.registry().register(&mut stream, Token(last), Interest::READABLE | Interest::WRITABLE)?;
                    clients.insert(Token(last), Client { stream, unsent: Vec::new(), has_finished: false });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break None,
                // The client has closed the connection already. The queue may hold others.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
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
    /// Sends what was received, until an operation would block. Returns `false` if the connection is finished.
    fn echo(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            while !self.unsent.is_empty() {
                match self.stream.write(&self.unsent) {
                    Ok(n) => drop(self.unsent.drain(..n)),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
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
                Err(error) => return Err(error),
            }
        }
    }
}
