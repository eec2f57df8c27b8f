//! Many sockets registered, changed and deregistered together: one kevent(2) call each time, where there is kqueue.
//!
//! ```sh
//! cargo run --example batch
//! ```

use std::io::{self, ErrorKind};

use kevio::net::UdpSocket;
use kevio::{Batch, Events, Interest, Poll, Token};

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    let mut sockets = Vec::new();
    for _ in 0..50 {
        sockets.push(UdpSocket::bind("127.0.0.1:0".parse().unwrap())?);
    }

    let mut batch = Batch::with_capacity(sockets.len());
    for (token, socket) in sockets.iter_mut().enumerate() {
        batch.register(socket, Token(token), Interest::READABLE);
    }
    let registered = poll.registry().submit(batch).into_iter().filter(Result::is_ok).count();
    println!("registered: {registered}");

    // The first ten again, which fails, and the last forty with another interest: each has its own result.
    let mut batch = Batch::new();
    for (token, socket) in sockets.iter_mut().enumerate() {
        if token < 10 {
            batch.register(socket, Token(token), Interest::READABLE);
        } else {
            batch.reregister(socket, Token(token), Interest::WRITABLE);
        }
    }
    let results = poll.registry().submit(batch);
    let already = |result: &&io::Result<()>| matches!(result, Err(error) if error.kind() == ErrorKind::AlreadyExists);
    println!("already registered: {}", results.iter().filter(already).count());

    let mut writable = vec![false; sockets.len()];
    while writable.iter().filter(|&&writable| writable).count() < 40 {
        poll.poll_until(&mut events, None)?;
        for event in &events {
            writable[event.token().0] |= event.is_writable();
        }
    }
    println!("writable: 40");

    let mut batch = Batch::with_capacity(sockets.len());
    for socket in &mut sockets {
        batch.deregister(socket);
    }
    println!("deregistered: {}", poll.registry().submit(batch).into_iter().filter(Result::is_ok).count());
    Ok(())
}
