//! Five connections, answered in reverse order: the "hello world" of kqueue.
//!
//! A server answers connection 1 after 0.4 s, 2 after 0.3 s, … 5 at once. One poll watches all five, with the tokens 1
//! to 5, and prints each as its answer arrives.
//!
//! ```sh
//! cargo run --example delayed_streams
//! ```

use std::io::{self, Read, Write};
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
        // The server reads which connection this is, and so how long to wait.
        stream.write_all(&[number as u8])?;
        stream.set_nonblocking(true)?;
        let mut stream = TcpStream::from_std(stream);
        poll.registry().register(&mut stream, Token(number), Interest::READABLE)?;
        streams.push(Some(stream));
    }

    let mut waiting = STREAMS;
    while waiting > 0 {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            let Token(number) = event.token();
            let Some(stream) = &mut streams[number - 1] else {
                continue;
            };
            match stream.read(&mut [0; 16]) {
                // The event was spurious.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => result?,
            };
            println!("RECEIVED: {number}");
            // One answer is all we want of it. Dropping it ends the registration.
            streams[number - 1] = None;
            waiting -= 1;
        }
    }
    println!("FINISHED");
    Ok(())
}

/// Answers each connection in a thread of its own, after as many tenths of a second as it is from the last.
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
