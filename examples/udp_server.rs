//! A UDP echo server.
//!
//! ```sh
//! cargo run --example udp_server                  # on 127.0.0.1:9000, until Ctrl-C
//! cargo run --example udp_server 127.0.0.1:9001   # or where you like; port 0 lets the system choose
//! nc -u 127.0.0.1 9000                            # talk to it
//! ```

use std::io;

use kevio::net::UdpSocket;
use kevio::{Events, Interest, Poll, Token};

const SOCKET: Token = Token(0);

fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:9000".to_owned());
    let Ok(address) = address.parse() else {
        eprintln!("usage: udp_server [ADDRESS:PORT], with the address in numbers");
        std::process::exit(2);
    };

    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let mut socket = UdpSocket::bind(address)?;
    poll.registry().register(&mut socket, SOCKET, Interest::READABLE)?;
    println!("listening on {} with {}", socket.local_addr()?, kevio::BACKEND);

    let mut buffer = vec![0; 65_536];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        // There is one socket, so every event is its. One event may stand for several datagrams.
        loop {
            match socket.recv_from(&mut buffer) {
                Ok((n, from)) => {
                    println!("{n} bytes from {from}");
                    // A datagram may be lost on the way; it may as well be lost here.
                    if let Err(error) = socket.send_to(&buffer[..n], from) {
                        eprintln!("send: {error}");
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => eprintln!("receive: {error}"),
            }
        }
    }
}
