//! An echo server for many clients at once, in one thread.
//!
//! `cargo run --example tcp_server 127.0.0.1:9000`, and `nc 127.0.0.1 9000` to talk to it; Ctrl-C ends it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::time::Duration;

use kevio::net::{TcpListener, TcpStream};
use kevio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);

/// We read no more from a client that does not read so much.
const BACKLOG: usize = 64 * 1024;

struct Client {
    stream: TcpStream,
    unsent: Vec<u8>,
    has_finished: bool,
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let Ok(address) = address.parse() else {
        eprintln!("usage: tcp_server [ADDRESS:PORT], with the address in numbers");
        std::process::exit(2);
    };

    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {} with {}", listener.local_addr()?, kevio::BACKEND);

    let mut clients: HashMap<Token, Client> = HashMap::new();
    let mut last = 0;
    // How long until we try again to accept whom we could not.
    let mut retry = None;
    loop {
        match poll.poll(&mut events, retry) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if let Some(client) = clients.get_mut(&event.token()) {
                if !matches!(client.echo(), Ok(true)) {
                    println!("{}: gone", event.token().0);
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break None,
                // It has left already.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                // There is no descriptor left for it. It waits in the queue and need not make another event.
                Err(error) => {
                    eprintln!("accept: {error}");
                    break Some(Duration::from_millis(100));
                }
            }
        };
    }
}

impl Client {
    /// Reads and sends back until there is no more to do now; false when there never will be.
    fn echo(&mut self) -> io::Result<bool> {
        let mut buffer = [0; 4096];
        loop {
            while !self.unsent.is_empty() {
                match self.stream.write(&self.unsent) {
                    Ok(n) => drop(self.unsent.drain(..n)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error),
                }
            }
            if self.has_finished {
                return Ok(!self.unsent.is_empty());
            }
            if self.unsent.len() >= BACKLOG {
                return Ok(true);
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.has_finished = true,
                Ok(n) => self.unsent.extend_from_slice(&buffer[..n]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(true),
                Err(error) => return Err(error),
            }
        }
    }
}
