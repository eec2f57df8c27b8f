//! Five connections in a bare kqueue: all five filters are added in one call, each fires once, and `udata` tells which it
//! was.
//!
//! A server answers connection 1 after 0.4 s, 2 after 0.3 s, … 5 at once.
//!
//! ```sh
//! cargo run --example kqueue_streams        # on a system with kqueue
//! ```

#[cfg(has_kqueue)] // It builds everywhere; a program for kqueue needs no cfg.
fn main() -> std::io::Result<()> {
    use kevio::unix::kqueue::{Flags, Kevent, Kqueue};
    use std::io::{self, Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::thread;
    use std::time::Duration;

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let server = listener.local_addr()?;
    for number in 1..=5 {
        let listener = listener.try_clone()?;
        thread::spawn(move || -> io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            // Which connection this is, and so how long to wait.
            let mut number = [number];
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
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => received += result?,
        }
        for event in &events {
            let mut answer = [0; 16];
            let n = streams[event.udata() - 1].read(&mut answer)?;
            println!("RECEIVED: {} ({})", event.udata(), String::from_utf8_lossy(&answer[..n]));
        }
    }
    println!("FINISHED");
    Ok(())
}

#[cfg(not(has_kqueue))]
fn main() {
    println!("There is no kqueue here. On Linux, build with --cfg kevio_backend=\"kqueue\" and libkqueue.");
}
