//! An echo server that disconnects a client after a quiet while, with one timer for each connection. The program is its own
//! clients, and ends by itself.
//!
//! ```sh
//! cargo run --example idle_timeouts
//! ```

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use kevio::event::Event;
use kevio::net::{TcpListener, TcpStream};
use kevio::{Events, Interest, Poll, Registry, Timer, Token};

const LISTENER: Token = Token(0);
/// A client that sends nothing for this long is disconnected.
const QUIET: Duration = Duration::from_millis(300);
/// The numbers of messages of the clients. Each client sends them at a third of the quiet while, and then nothing.
const MESSAGES: [u32; 4] = [0, 1, 3, 6];
/// Errors of a client that has left, and of a signal handler that has run. The queue may hold other clients.
const ACCEPT_AGAIN: [ErrorKind; 3] = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::Interrupted];

/// A connection, with two tokens: an even one for the stream, and the next one for the timer.
struct Connection {
    stream: TcpStream,
    idle: Timer,
}

impl Connection {
    fn register(stream: TcpStream, token: Token, registry: &Registry) -> io::Result<Connection> {
        let mut connection = Connection { stream, idle: Timer::after(QUIET)? };
        // Level-triggered: one read for each event is enough, so that a client that sends much does not delay the others.
        registry.register(&mut connection.stream, token, Interest::READABLE.level())?;
        registry.register(&mut connection.idle, Token(token.0 + 1), Interest::READABLE)?;
        Ok(connection)
    }

    /// Handles an event of the stream or of the timer. Returns `false` if the connection ends.
    fn handle(&mut self, event: &Event) -> io::Result<bool> {
        if event.token().0 % 2 == 1 {
            // An event from before the timer was set again has no expirations. The client was not quiet then.
            return Ok(self.idle.expirations(event)? == 0);
        }
        let mut buffer = [0; 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => return Ok(false),
            // The messages are few and short, so that the buffer of the socket has space for the answer. A server in general
            // keeps the bytes that cannot be written yet, as the example `tcp_server` does.
            Ok(n) => self.stream.write_all(&buffer[..n])?,
            // The event was spurious, or a signal handler has run. If there is data, the next poll reports the stream again.
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => return Ok(true),
            Err(error) => return Err(error),
        }
        // The client has sent something, so that its quiet while begins again. Setting the timer is no system call.
        self.idle.set_after(QUIET)?;
        Ok(true)
    }
}

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    let mut listener = TcpListener::bind("127.0.0.1:0".parse().expect("an address"))?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let address = listener.local_addr()?;
    let clients = MESSAGES.map(|messages| thread::spawn(move || run_client(address, messages)));

    let mut connections: HashMap<usize, Connection> = HashMap::new();
    let (mut accepted, start) = (0, Instant::now());
    // The time of the next attempt to accept, after an attempt has failed.
    let mut retry: Option<Instant> = None;
    while accepted < MESSAGES.len() || !connections.is_empty() {
        poll.poll_until(&mut events, retry)?;
        for event in events.iter().filter(|event| event.token() != LISTENER) {
            let token = event.token().0 & !1;
            let Some(connection) = connections.get_mut(&token) else { continue };
            // A connection that fails ends. The other connections go on.
            if !connection.handle(event).unwrap_or(false) {
                println!("{:>5} ms  connection {}: quiet, disconnected", start.elapsed().as_millis(), token / 2);
                connections.remove(&token);
            }
        }
        // Now the descriptors of the connections that have ended are free.
        // Other events do not shorten the pause.
        let is_due = retry.is_some_and(|time| Instant::now() >= time);
        if !is_due && !events.iter().any(|event| event.token() == LISTENER) {
            continue;
        }
        retry = loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    accepted += 1;
                    // Each token is used once, because the buffer can have events of a connection that has ended.
                    let token = 2 * accepted;
                    match Connection::register(stream, Token(token), poll.registry()) {
                        Ok(connection) => drop(connections.insert(token, connection)),
                        Err(error) => eprintln!("connection {accepted}: disconnected: {error}"),
                    }
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
    for client in clients {
        client.join().expect("a client failed")?;
    }
    println!("ok");
    Ok(())
}

/// Sends messages and reads their echoes. Then waits until the server disconnects.
fn run_client(address: SocketAddr, messages: u32) -> io::Result<()> {
    let mut stream = std::net::TcpStream::connect(address)?;
    let mut echo = [0; 4];
    let mut last_message = Instant::now();
    for _ in 0..messages {
        thread::sleep(QUIET / 3);
        last_message = Instant::now();
        stream.write_all(b"ping")?;
        stream.read_exact(&mut echo)?;
        assert_eq!(&echo, b"ping");
    }
    assert_eq!(stream.read(&mut echo)?, 0, "the server disconnects");
    assert!(last_message.elapsed() >= QUIET, "disconnected too early");
    Ok(())
}
