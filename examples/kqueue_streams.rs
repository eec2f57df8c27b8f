//! Five connections in a kqueue, without a `Poll`. One call adds all five filters; each reports once, and `udata` is the number
//! of the connection.
//!
//! A server answers connection 1 after 0.4 s, connection 2 after 0.3 s, … and connection 5 at once. The program fails on a
//! system without kqueue.
//!
//! ```sh
//! cargo run --example kqueue_streams
//! ```

use std::io;

fn main() -> io::Result<()> {
    // The examples are built on every system; a program for systems with kqueue needs no cfg.
    #[cfg(not(has_kqueue))]
    return Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "no kqueue; on Linux, kevio_backend=\"kqueue\" uses libkqueue",
    ));
    #[cfg(has_kqueue)]
    receive_answers()
}

#[cfg(has_kqueue)]
fn receive_answers() -> io::Result<()> {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::thread;
    use std::time::Duration;

    use kevio::unix::kqueue::{Flags, Kevent, Kqueue};

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    for _ in 1..=5 {
        let listener = listener.try_clone()?;
        thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            // The client sends the number of the connection, which sets the delay.
            let mut number = [0];
            stream.read_exact(&mut number)?;
            thread::sleep(Duration::from_millis(100) * u32::from(5 - number[0]));
            stream.write_all(b"answer")
        });
    }

    let mut streams = Vec::new();
    let mut changes = Vec::new();
    for number in 1..=5 {
        let mut stream = TcpStream::connect(server)?;
        stream.write_all(&[number])?;
        changes.push(Kevent::read(stream.as_raw_fd(), Flags::ADD | Flags::ONESHOT).with_udata(usize::from(number)));
        streams.push(stream);
    }
    let kq = Kqueue::new()?;
    kq.apply(&mut changes)?.iter().try_for_each(Kevent::result)?;

    let mut events = Vec::with_capacity(5);
    let mut received = 0;
    while received < streams.len() {
        match kq.wait(&mut events, None) {
            // A signal handler has run. `Kqueue::wait` is the system call, and returns this error.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => received += result?,
        }
        for event in &events {
            // These sockets block. If only a part of the answer has arrived, the call waits for the rest.
            let mut answer = [0; 6];
            streams[event.udata() - 1].read_exact(&mut answer)?;
            println!("RECEIVED: {} ({})", event.udata(), String::from_utf8_lossy(&answer));
        }
    }
    println!("FINISHED");
    Ok(())
}
