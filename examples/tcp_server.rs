//! An echo server for many clients at once, in one thread.
//!
//! ```sh
//! cargo run --example tcp_server                  # listens on 127.0.0.1:9000
//! cargo run --example tcp_server 127.0.0.1:9001   # or where you like; port 0 lets the system choose
//! nc 127.0.0.1 9000                               # talk to it; Ctrl-C ends it
//! ```

use std::collections::HashMap;
use std::io::{self, Read, Write};

use kevio::net::{TcpListener, TcpStream};
use kevio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(0);

/// Beyond this we read no more from a client that does not read what it is sent.
const BACKLOG: usize = 64 * 1024;

struct Client {
    stream: TcpStream,
    unsent: Vec<u8>,
    has_finished: bool,
}

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let address = address.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;

    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(address)?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("listening on {} with {}", listener.local_addr()?, kevio::BACKEND);

    let mut clients = HashMap::new();
    let mut last = 0;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept_all(&listener, |mut stream, address| {
                    last += 1;
                    println!("{last}: connected from {address}");
                    poll.registry().register(&mut stream, Token(last), Interest::READABLE | Interest::WRITABLE)?;
                    clients.insert(Token(last), Client { stream, unsent: Vec::new(), has_finished: false });
                    Ok(())
                })?;
            } else if let Some(client) = clients.get_mut(&event.token()) {
                if !matches!(client.echo(), Ok(true)) {
                    println!("{}: gone", event.token().0);
                    clients.remove(&event.token());
                }
            }
        }
    }
}

fn accept_all(
    listener: &TcpListener,
    mut accepted: impl FnMut(TcpStream, std::net::SocketAddr) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, address)) => accepted(stream, address)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            // A client that left before we came, or no descriptor left for it.
            Err(error) => {
                eprintln!("accept: {error}");
                return Ok(());
            }
        }
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
