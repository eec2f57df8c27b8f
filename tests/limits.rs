//! What happens when descriptors run out. In a process of its own, whose limit it can lower.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::time::Duration;

use kevio::net::{TcpListener, TcpStream, UdpSocket, UnixDatagram, UnixListener, UnixStream};
use kevio::unix::pipe;
use kevio::{Events, Interest, Poll, Token, Waker};

#[path = "suite/libkqueue.rs"]
#[allow(dead_code)]
mod libkqueue;

fn open_descriptors() -> usize {
    // One of them is this directory.
    std::fs::read_dir("/dev/fd").unwrap().count()
}

/// Opens descriptors until there are no more.
fn exhaust() -> Vec<OwnedFd> {
    let mut all = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        all.push(file.into());
    }
    all
}

fn assert_exhausted<T>(what: &str, result: std::io::Result<T>) {
    match result {
        Ok(_) => panic!("{what} had a descriptor"),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{what}: {error}"),
    }
}

#[test]
fn no_descriptors_left() {
    let limit = libc::rlimit { rlim_cur: 200, rlim_max: 200 };
    // SAFETY: the kernel reads one `rlimit`.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) }, 0);
    let loopback = "127.0.0.1:0".parse().unwrap();

    // Whatever is made and dropped leaves nothing open, also while it is registered.
    let before = open_descriptors();
    for _ in 0..3 {
        let poll = Poll::new().unwrap();
        let _waker = Waker::new(poll.registry(), Token(0)).unwrap();
        let _clone = poll.registry().try_clone().unwrap();
        let mut listener = TcpListener::bind(loopback).unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut socket = UdpSocket::bind(loopback).unwrap();
        let (mut a, _b) = UnixStream::pair().unwrap();
        let (mut sender, mut receiver) = pipe::new().unwrap();
        for source in [&mut listener as &mut dyn kevio::event::Source, &mut stream, &mut socket, &mut a] {
            poll.registry().register(source, Token(1), Interest::READABLE).unwrap();
        }
        poll.registry().register(&mut sender, Token(2), Interest::WRITABLE).unwrap();
        poll.registry().register(&mut receiver, Token(3), Interest::READABLE).unwrap();
    }
    if !libkqueue::gets_wrong("no_descriptors_left") {
        assert_eq!(open_descriptors(), before);
    }

    // A connection that cannot be accepted waits until it can.
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let mut listener = TcpListener::bind(loopback).unwrap();
    poll.registry().register(&mut listener, Token(1), Interest::READABLE).unwrap();
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let hoard = exhaust();
    poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
    assert!(events.iter().any(|event| event.token() == Token(1)));
    assert_exhausted("accept", listener.accept());
    assert_exhausted("accept", listener.accept());

    // Nothing else can be made, and every constructor says so.
    assert_exhausted("Poll", Poll::new());
    assert_exhausted("TcpListener", TcpListener::bind(loopback));
    assert_exhausted("TcpStream", TcpStream::connect(listener.local_addr().unwrap()));
    assert_exhausted("UdpSocket", UdpSocket::bind(loopback));
    assert_exhausted("UnixStream", UnixStream::pair());
    assert_exhausted("UnixListener", UnixListener::bind("/nonexistent/socket"));
    assert_exhausted("UnixDatagram", UnixDatagram::unbound());
    assert_exhausted("pipe", pipe::new());
    // Registering needs none, nor does polling.
    poll.registry().reregister(&mut listener, Token(2), Interest::READABLE).unwrap();
    poll.poll(&mut events, Some(Duration::from_secs(10))).unwrap();
    assert!(events.iter().any(|event| event.token() == Token(2)));

    drop(hoard);
    let (stream, address) = listener.accept().unwrap();
    assert_eq!(address, client.local_addr().unwrap());
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(stream);
}
