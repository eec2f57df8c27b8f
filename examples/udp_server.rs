//! A UDP echo server.
//!
//! ```sh
//! cargo run --example udp_server                  # on 127.0.0.1:9000, until Ctrl-C
//! cargo run --example udp_server 127.0.0.1:9001   # another numeric address; with port 0 the system chooses the port
//! nc -u 127.0.0.1 9000                            # a client
//! ```

use std::error::Error;
use std::io::ErrorKind;

use kevio::net::UdpSocket;
use kevio::{Events, Interest, Poll, Token};

const SOCKET: Token = Token(0);

fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).as_deref().unwrap_or("127.0.0.1:9000").parse()?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let mut socket = UdpSocket::bind(address)?;
    poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
    println!("listening on {} with {}", socket.local_addr()?, kevio::BACKEND);

    let mut buffer = vec![0; 65_536];
    loop {
        // The socket is the only source, so that every event belongs to it.
        poll.poll_until(&mut events, None)?;
        // One event may stand for several datagrams.
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((n, from)) => {
                    println!("{n} bytes from {from}");
                    // UDP may lose a datagram, so that an answer that cannot be sent is dropped.
                    if let Err(error) = socket.send_to(&buffer[..n], from) {
                        eprintln!("send: {error}");
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => break,
                    // An earlier answer was rejected, which the call has cleared, or a signal handler has run.
                    ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset | ErrorKind::Interrupted => {}
                    // Another error may last, and a server that tried again at once would spin.
                    _ => return Err(error.into()),
                },
            }
        }
    }
}
