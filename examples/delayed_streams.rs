//! Five connections, answered in reverse order: the "hello world" of kqueue.
//!
//! A server answers connection 1 after 0.4 s, connection 2 after 0.3 s, … and connection 5 at once. The connections are
//! registered with the tokens 1 to 5, and the program prints each token when the answer arrives.
//!
//! ```sh
//! cargo run --example delayed_streams
//! ```

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use kevio::net::TcpStream;
use kevio::{Events, Interest, Poll, Token};

const STREAMS: usize = 5;

fn main() -> io::Result<()> {
    let server = delaying_server()?;
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(STREAMS);

    let mut streams = Vec::new();
    for number in 1..=STREAMS {
        let mut stream = std::net::TcpStream::connect(server)?;
        // The server reads the number of the connection, which sets the delay.
        stream.write_all(&[number as u8])?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        // Level-triggered: a stream that could not be read after an event is reported again.
        poll.registry().register(&mut stream, Token(number), Interest::READABLE.level())?;
        streams.push(Some(stream));
    }

    let mut waiting = STREAMS;
    while waiting > 0 {
        poll.poll_until(&mut events, None)?;
        for event in &events {
            let Token(number) = event.token();
            let Some(stream) = &mut streams[number - 1] else {
                continue;
            };
            match stream.read(&mut [0; 16]) {
                // The event was spurious, or a signal handler has run.
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => continue,
                result => result?,
            };
            println!("RECEIVED: {number}");
            // The first bytes of the answer are enough. Dropping the stream closes it and ends its registration.
            streams[number - 1] = None;
            waiting -= 1;
        }
    }
    println!("FINISHED");
    Ok(())
}

/// Starts a server with a thread for each connection. Connection `n` is answered after `5 - n` tenths of a second.
fn delaying_server() -> io::Result<SocketAddr> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().take(STREAMS) {
            thread::spawn(move || -> io::Result<()> {
                let mut stream = stream?;
                let mut number = [0];
                stream.read_exact(&mut number)?;
                let tenths = STREAMS as u64 - u64::from(number[0]);
                thread::sleep(Duration::from_millis(100 * tenths));
                stream.write_all(b"hello")
            });
        }
    });
    Ok(address)
}
