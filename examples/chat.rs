//! A chat server: each line of a client is sent to all other clients. One thread serves all of them.
//!
//! ```sh
//! cargo run --example chat                     # on 127.0.0.1:9000, until Ctrl-C
//! cargo run --example chat 127.0.0.1:9001 10   # another numeric address, and an idle timeout of 10 seconds instead of 300
//! nc 127.0.0.1 9000                            # a client
//! ```
//!
//! Every queue is bounded:
//!
//! * The server reads at most 4 KiB from a client before the other clients have their turn. The rest stays in the kernel, where
//!   TCP slows the sender down. For that purpose the streams are registered level-triggered.
//! * A client that reads too slowly is disconnected when 256 KiB are unsent. Without a limit the memory would
//!   grow. If lines were left out, the talk would have holes. If the server waited for one client, all others would be late.
//! * A line has at most 1024 bytes, its end included. A client that sends a longer one is disconnected.
//! * A client that sends nothing for the idle timeout is disconnected. An empty line keeps a silent client connected.
//!
//! On Ctrl-C or SIGTERM the server accepts no more clients, and sends a last line. The server ends when all clients have received
//! the line and left, or five seconds later. A second signal ends the server at once. The last line of the output is `ok` if all
//! clients have left.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use kevio::event::Event;
use kevio::net::{TcpListener, TcpStream};
#[cfg(windows)]
use kevio::windows::{SIGINT, SIGTERM};
use kevio::{Events, Interest, Poll, Registry, Signals, Timer, Token};
#[cfg(unix)]
use libc::{SIGINT, SIGTERM};

const LISTENER: Token = Token(0);
const SIGNALS: Token = Token(1);
const GRACE_PERIOD_END: Token = Token(2);
/// The client in slot `n` has two tokens: `FIRST_CLIENT + 2 * n` for its stream, and the next one for its timer.
const FIRST_CLIENT: usize = 3;

const IDLE_TIMEOUT: Duration = Duration::from_secs(300);
const GRACE_PERIOD: Duration = Duration::from_secs(5);
const MAX_READ: usize = 4096;
const MAX_LINE: usize = 1024;
const MAX_UNSENT: usize = 256 * 1024;
/// Errors of a client that has left, and of a signal handler that has run. The queue may hold other clients.
const ACCEPT_AGAIN: [ErrorKind; 3] = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::Interrupted];

struct Server {
    registry: Registry,
    /// `None` after the first signal, which closes the listener.
    listener: Option<TcpListener>,
    /// The time of the next attempt to accept, after an attempt has failed.
    retry: Option<Instant>,
    clients: Vec<Option<Client>>,
    free_slots: Vec<usize>,
    accepted: usize,
    idle_timeout: Duration,
}

struct Client {
    number: usize,
    token: Token,
    stream: TcpStream,
    idle: Timer,
    idle_timeout: Duration,
    /// The beginning of a line whose end was not received yet.
    partial_line: Vec<u8>,
    unsent: VecDeque<u8>,
    /// The registration waits for space in the buffer of the socket.
    awaits_space: bool,
    /// After the unsent bytes nothing is sent any more.
    is_closing: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let address = arguments.get(1).map_or("127.0.0.1:9000", String::as_str).parse()?;
    let idle_timeout = arguments.get(2).map_or(Ok(IDLE_TIMEOUT), |seconds| seconds.parse().map(Duration::from_secs))?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    poll.registry().register(&mut signals, SIGNALS, Interest::READABLE)?;
    let mut grace_period = Timer::new()?;
    poll.registry().register(&mut grace_period, GRACE_PERIOD_END, Interest::READABLE)?;
    let mut server = Server::bind(address, idle_timeout, poll.registry().try_clone()?)?;

    while server.listener.is_some() || server.count() > 0 {
        poll.poll_until(&mut events, server.retry)?;
        // Other events do not shorten the pause.
        let mut accepts = server.retry.is_some_and(|time| Instant::now() >= time);
        for event in &events {
            match event.token() {
                LISTENER => accepts = true,
                SIGNALS => {
                    for (signal, _) in signals.received(event)? {
                        println!("signal {signal}: {} clients left", server.count());
                        if !server.close() {
                            return Ok(());
                        }
                        grace_period.set_after(GRACE_PERIOD)?;
                    }
                }
                GRACE_PERIOD_END => {
                    if grace_period.expirations(event)? > 0 {
                        println!("the grace period is over, {} clients left", server.count());
                        return Ok(());
                    }
                }
                _ => server.handle(event),
            }
        }
        // Now the buffer has no event of a client that has left, so that another client can have its slot and its tokens.
        if accepts {
            server.accept()?;
        }
    }
    println!("ok");
    Ok(())
}

impl Server {
    fn bind(address: SocketAddr, idle_timeout: Duration, registry: Registry) -> io::Result<Server> {
        let mut listener = TcpListener::bind(address)?;
        registry.register(&mut listener, LISTENER, Interest::READABLE)?;
        println!("listening on {} with {}", listener.local_addr()?, kevio::BACKEND);
        let (listener, clients, free_slots) = (Some(listener), Vec::new(), Vec::new());
        Ok(Server { registry, listener, retry: None, clients, free_slots, accepted: 0, idle_timeout })
    }

    fn count(&self) -> usize {
        self.clients.len() - self.free_slots.len()
    }

    /// Accepts all clients that wait.
    fn accept(&mut self) -> io::Result<()> {
        let Some(listener) = self.listener.take() else { return Ok(()) };
        self.retry = loop {
            match listener.accept() {
                Ok((stream, address)) => self.admit(stream, address)?,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break None,
                Err(error) if ACCEPT_AGAIN.contains(&error.kind()) => {}
                // The process has no free descriptor. The connection stays in the queue, and may cause no other event.
                Err(error) => {
                    eprintln!("accept: {error}");
                    break Some(Instant::now() + Duration::from_millis(100));
                }
            }
        };
        self.listener = Some(listener);
        Ok(())
    }

    /// Gives a client a slot and a number. A client that cannot be registered is disconnected.
    fn admit(&mut self, stream: TcpStream, address: SocketAddr) -> io::Result<()> {
        self.accepted += 1;
        println!("{}: connected from {address}", self.accepted);
        if self.free_slots.is_empty() {
            self.free_slots.push(self.clients.len());
            self.clients.push(None);
        }
        let slot = self.free_slots.pop().expect("a free slot");
        let token = Token(FIRST_CLIENT + 2 * slot);
        let client = self.clients[slot].insert(Client::new(self.accepted, token, stream, self.idle_timeout)?);
        let greeting = format!("* you are {}\n", client.number);
        let result = client.register(&self.registry).and_then(|()| client.send(&self.registry, greeting.as_bytes()));
        self.disconnect_if_failed(slot, result);
        Ok(())
    }

    /// Handles an event of the stream or the timer of a client.
    fn handle(&mut self, event: &Event) {
        let slot = (event.token().0 - FIRST_CLIENT) / 2;
        // An earlier event in the buffer may have ended the connection.
        let Some(client) = &mut self.clients[slot] else { return };
        let mut lines = Vec::new();
        let result = if event.token() == client.token {
            client.exchange(&self.registry, &mut lines)
        } else {
            client.check_idle(event)
        };
        for other in (0..self.clients.len()).filter(|other| *other != slot && !lines.is_empty()) {
            self.send(other, &lines);
        }
        self.disconnect_if_failed(slot, result);
    }

    fn send(&mut self, slot: usize, bytes: &[u8]) {
        if let Some(client) = &mut self.clients[slot] {
            let result = client.send(&self.registry, bytes);
            self.disconnect_if_failed(slot, result);
        }
    }

    fn disconnect_if_failed(&mut self, slot: usize, result: io::Result<()>) {
        if let (Err(error), Some(client)) = (result, &self.clients[slot]) {
            println!("{}: disconnected: {error}", client.number);
            self.clients[slot] = None;
            self.free_slots.push(slot);
        }
    }

    /// Closes the listener, and every connection after a last line. Returns `false` if the server is closing already.
    fn close(&mut self) -> bool {
        if self.listener.take().is_none() {
            return false;
        }
        self.retry = None;
        for slot in 0..self.clients.len() {
            if let Some(client) = &mut self.clients[slot] {
                client.is_closing = true;
                let result = client.send(&self.registry, b"* the server closes\n");
                self.disconnect_if_failed(slot, result);
            }
        }
        true
    }
}

/// An error ends the connection, and is the reason that the server prints.
impl Client {
    fn new(number: usize, token: Token, stream: TcpStream, idle_timeout: Duration) -> io::Result<Client> {
        let (partial_line, unsent) = (Vec::new(), VecDeque::new());
        let (awaits_space, is_closing) = (false, false);
        let idle = Timer::after(idle_timeout)?;
        Ok(Client { number, token, stream, idle, idle_timeout, partial_line, unsent, awaits_space, is_closing })
    }

    fn register(&mut self, registry: &Registry) -> io::Result<()> {
        registry.register(&mut self.stream, self.token, Interest::READABLE.level())?;
        registry.register(&mut self.idle, Token(self.token.0 + 1), Interest::READABLE)
    }

    fn check_idle(&self, event: &Event) -> io::Result<()> {
        // An event from before the timer was set again has no expirations. The client was not idle then.
        match self.idle.expirations(event)? {
            0 => Ok(()),
            _ => Err(io::Error::new(ErrorKind::TimedOut, "idle")),
        }
    }

    /// Sends what is unsent, and reads once. Complete lines are appended to `lines`, with the number of the client.
    fn exchange(&mut self, registry: &Registry, lines: &mut Vec<u8>) -> io::Result<()> {
        self.flush(registry)?;
        let mut buffer = [0; MAX_READ];
        let received = match self.stream.read(&mut buffer) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "end of file")),
            Ok(n) => &buffer[..n],
            // The event was spurious, or was reported for writing.
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => return Ok(()),
            Err(error) => return Err(error),
        };
        // Setting the timer is no system call.
        self.idle.set_after(self.idle_timeout)?;
        if self.is_closing {
            return Ok(());
        }
        for part in received.split_inclusive(|byte| *byte == b'\n') {
            self.partial_line.extend_from_slice(part);
            if self.partial_line.len() > MAX_LINE {
                return Err(io::Error::new(ErrorKind::InvalidData, "a line is too long"));
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.partial_line);
                let text = line.strip_suffix(b"\r\n").unwrap_or(&line[..line.len() - 1]);
                if !text.is_empty() {
                    lines.extend_from_slice(format!("{}: ", self.number).as_bytes());
                    lines.extend_from_slice(text);
                    lines.push(b'\n');
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, registry: &Registry, bytes: &[u8]) -> io::Result<()> {
        self.unsent.extend(bytes);
        // If the socket has no space, writing again would only fail again.
        if !self.awaits_space {
            self.flush(registry)?;
        }
        if self.unsent.len() > MAX_UNSENT {
            return Err(io::Error::new(ErrorKind::Other, "the client reads too slowly"));
        }
        Ok(())
    }

    /// Writes until nothing is unsent or the operation would block. Only in the second case the registration waits for space.
    fn flush(&mut self, registry: &Registry) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(self.unsent.as_slices().0) {
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if self.awaits_space == self.unsent.is_empty() {
            self.awaits_space = !self.awaits_space;
            let interest = if self.awaits_space { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
            registry.reregister(&mut self.stream, self.token, interest.level())?;
        }
        // The client receives the last bytes and an end of file. If the stream were dropped while received bytes are unread,
        // the kernel would reset the connection instead.
        if self.is_closing && self.unsent.is_empty() {
            // If the client has left already, this fails, and the next read returns the reason.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        Ok(())
    }
}
