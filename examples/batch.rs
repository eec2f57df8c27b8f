//! Many sockets registered, changed and deregistered in batches. On kqueue each batch is one kevent(2) call.
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
    assert_eq!(registered, 50);

    // The first ten are registered again, which fails. The other forty get another interest. Each change has its own result.
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
    let rejected = results.iter().filter(already).count();
    println!("already registered: {rejected}");
    assert_eq!(rejected, 10);

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
    let deregistered = poll.registry().submit(batch).into_iter().filter(Result::is_ok).count();
    println!("deregistered: {deregistered}");
    assert_eq!(deregistered, 50);
    println!("ok");
    Ok(())
}
