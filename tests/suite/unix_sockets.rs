//! Unix sockets: streams, listeners, datagrams, by path and by abstract name.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::SocketAddr;
use std::path::{Path, PathBuf};

use kevio::net::{UnixDatagram, UnixListener, UnixStream};

use crate::support::net::{drain, fill, loopback};
use crate::support::poll::{TestPoll, BOTH, READ, WRITE};
use crate::support::readiness::{E, R, RC, W};

#[test]
fn listener_reports_its_clients() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let mut poll = TestPoll::new();
    let mut listener = UnixListener::bind(&path).unwrap();
    poll.register(&mut listener, 1, READ);
    poll.expect_no_events();
    assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);

    let mut client = UnixStream::connect(&path).unwrap();
    poll.register(&mut client, 2, WRITE);
    poll.expect_all(&[(1, R), (2, W)]);
    poll.deregister(&mut client);
    let (mut server, address) = listener.accept().unwrap();
    assert!(address.is_unnamed());
    assert_eq!(client.peer_addr().unwrap().as_pathname(), Some(path.as_path()));
    assert_eq!(listener.local_addr().unwrap().as_pathname(), Some(path.as_path()));
    assert!(listener.take_error().unwrap().is_none());

    poll.register(&mut server, 3, READ);
    client.write_all(b"hello").unwrap();
    poll.expect(3, R);
    assert_eq!(drain(&mut server), (5, false));
    // A second client after the first was accepted.
    let _second = UnixStream::connect(&path).unwrap();
    poll.expect(1, R);
    assert!(UnixListener::bind(&path).is_err());
}

#[test]
fn connecting_without_a_listener_fails() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::NotFound);
    drop(UnixListener::bind(&path).unwrap());
    assert_eq!(UnixStream::connect(&path).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn closed_peer_reports_read_closed() {
    let mut poll = TestPoll::new();
    let (mut a, b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, BOTH);
    poll.expect(1, W);
    drop(b);
    poll.expect(1, R | RC);
    assert_eq!(drain(&mut a), (0, true));
    assert_eq!(a.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
}

#[test]
fn write_shutdown_of_peer_reports_read_closed() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, READ);
    b.write_all(b"last").unwrap();
    b.shutdown(Shutdown::Write).unwrap();
    poll.expect(1, R | RC);
    assert_eq!(drain(&mut a), (4, true));
    a.write_all(b"still here").unwrap();
    assert_eq!(drain(&mut b).0, 10);
    poll.expect_without(1, E);
}

#[test]
fn full_stream_reports_writable_after_peer_reads() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, WRITE);
    poll.expect(1, W);
    let size = fill(&mut a);
    poll.expect_no_events();
    assert_eq!(drain(&mut b), (size, false));
    poll.expect(1, W);
}

#[test]
fn datagram_socket_reports_each_datagram() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let mut poll = TestPoll::new();
    let mut server = UnixDatagram::bind(&path).unwrap();
    let client = UnixDatagram::unbound().unwrap();
    poll.register(&mut server, 1, READ);
    client.send_to(b"first", &path).unwrap();
    poll.expect(1, R);
    let mut buffer = [0; 16];
    let (n, address) = server.recv_from(&mut buffer).unwrap();
    assert!((&buffer[..n], address.is_unnamed()) == (b"first", true));

    client.connect(&path).unwrap();
    client.send(b"second").unwrap();
    poll.expect(1, R);
    assert_eq!(server.recv(&mut buffer).unwrap(), 6);
    assert_eq!(server.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    assert_eq!(server.local_addr().unwrap().as_pathname(), Some(path.as_path()));
    assert!(server.take_error().unwrap().is_none());
}

#[test]
fn full_datagram_queue_reports_writable_after_peer_reads() {
    let mut poll = TestPoll::new();
    let (mut a, b) = UnixDatagram::pair().unwrap();
    poll.register(&mut a, 1, WRITE);
    poll.expect(1, W);
    let mut sent = 0;
    let error = loop {
        match a.send(&[0; 512]) {
            Ok(_) => sent += 1,
            Err(error) => break error,
        }
    };
    // The BSDs fail with ENOBUFS, and the socket stays writable.
    assert!(error.kind() == ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS), "{error}");
    if error.kind() == ErrorKind::WouldBlock {
        poll.expect_no_events();
    }
    for _ in 0..sent {
        b.recv(&mut [0; 512]).unwrap();
    }
    if error.kind() == ErrorKind::WouldBlock {
        poll.expect(1, W);
    }
    assert_eq!(a.send(&[0; 512]).unwrap(), 512);
}

#[test]
fn local_read_shutdown_reports_read_closed() {
    let mut poll = TestPoll::new();
    let (mut a, _b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, READ);
    a.shutdown(Shutdown::Read).unwrap();
    poll.expect(1, R | RC);
    assert_eq!(a.read(&mut [0; 4]).unwrap(), 0);
}

#[cfg(target_os = "linux")]
#[test]
fn abstract_names_bind_and_connect() {
    use std::os::linux::net::SocketAddrExt;

    let name = format!("kevio-suite-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    assert_eq!(listener.local_addr().unwrap().as_abstract_name(), Some(name.as_bytes()));
    let client_name = SocketAddr::from_abstract_name(format!("{name}-client")).unwrap();
    let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
    client.bind(&socket2::SockAddr::unix(format!("\0{name}-client")).unwrap()).unwrap();
    client.connect(&socket2::SockAddr::unix(format!("\0{name}")).unwrap()).unwrap();
    let (_server, from) = listener.accept().unwrap();
    assert_eq!(from.as_abstract_name(), client_name.as_abstract_name());
    assert!(UnixStream::connect_addr(&address).unwrap().peer_addr().unwrap().as_abstract_name().is_some());
    let datagram = SocketAddr::from_abstract_name(format!("{name}-datagram")).unwrap();
    assert!(UnixDatagram::bind_addr(&datagram).unwrap().local_addr().unwrap().as_abstract_name().is_some());
}

/// Returns the maximum length of a name, in bytes.
fn max_name_len() -> usize {
    // SAFETY: integers. Zeroes are a value of each.
    let address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_path.len()
}

/// The bytes after the name in the address that is bound.
#[derive(Copy, Clone, Debug, PartialEq)]
enum End {
    Nothing,
    Zero,
    Zeroes,
}

/// Binds with bind(2), as a C program does. Returns `None` if the system rejects the name.
fn bind_raw(socket: &impl AsRawFd, path: &Path, end: End) -> Option<()> {
    let bytes = path.as_os_str().as_bytes();
    // SAFETY: integers. Zeroes are a value of each.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let offset = address.sun_path.as_ptr() as usize - std::ptr::addr_of!(address) as usize;
    for (to, &from) in address.sun_path.iter_mut().zip(bytes) {
        *to = from as libc::c_char;
    }
    let room = max_name_len() - bytes.len();
    let len = offset + bytes.len() + [0, room.min(1), room][end as usize];
    let address = std::ptr::addr_of!(address).cast();
    // SAFETY: the kernel reads `len` bytes, which are at most the size of the address.
    match unsafe { libc::bind(socket.as_raw_fd(), address, len as libc::socklen_t) } {
        0 => Some(()),
        _ => None,
    }
}

/// Calls `check` with each name, and with a function that binds the name in one of three ways.
fn each_name(mut check: impl FnMut(&Path, &dyn Fn(&dyn AsRawFd) -> Option<()>)) {
    for end in [End::Nothing, End::Zero, End::Zeroes] {
        for len in [0, max_name_len() - 1, max_name_len()] {
            let directory = tempfile::tempdir_in("/tmp").unwrap();
            let mut name = directory.path().join("n").into_os_string();
            let longer = len.max(name.len() + 3) - name.len();
            name.push("m".repeat(longer));
            let path = PathBuf::from(name);
            check(&path, &|socket| bind_raw(&socket.as_raw_fd(), &path, end));
        }
    }
}

/// Returns `true` if an address has this name. std supports names of the full length on Linux only.
fn has_name(address: &SocketAddr, path: &Path) -> bool {
    let is_longest = path.as_os_str().len() == max_name_len();
    address.as_pathname() == Some(path)
        || (is_longest && !cfg!(any(target_os = "linux", target_os = "android")) && address.is_unnamed())
}

#[test]
fn peer_of_any_name_is_accepted() {
    let mut names = 0;
    each_name(|path, bind| {
        let directory = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(directory.path().join("poll")).unwrap();
        let client = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        if bind(&client).is_none() {
            return;
        }
        names += 1;
        client.connect(&socket2::SockAddr::unix(directory.path().join("poll")).unwrap()).unwrap();
        let (mut stream, address) = listener.accept().unwrap();
        assert!(has_name(&address, path), "{address:?} of {path:?}");
        let peer = stream.peer_addr().unwrap();
        assert!(has_name(&peer, path), "{peer:?} of {path:?}");
        let client = UnixStream::from(OwnedFd::from(client));
        let local = client.local_addr().unwrap();
        assert!(has_name(&local, path), "{local:?} of {path:?}");
        (&client).write_all(b"x").unwrap();
        assert_eq!(drain(&mut stream).0, 1);
    });
    assert!(names >= 6, "{names}");
}

#[test]
fn address_of_any_name_is_returned() {
    let mut names = 0;
    each_name(|path, bind| {
        let directory = tempfile::tempdir().unwrap();
        let server = directory.path().join("s");
        let mut receiver = UnixDatagram::bind(&server).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        let listener = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).unwrap();
        if bind(&sender).is_none() {
            return;
        }
        names += 1;
        sender.send_to(b"x", &server).unwrap();
        let (n, address) = receiver.recv_from(&mut [0; 4]).unwrap();
        assert!(n == 1 && has_name(&address, path), "{address:?} of {path:?}");
        let local = sender.local_addr().unwrap();
        assert!(has_name(&local, path), "{local:?} of {path:?}");
        std::fs::remove_file(path).unwrap();
        bind(&listener).unwrap();
        let listener = UnixListener::from(OwnedFd::from(listener));
        let local = listener.local_addr().unwrap();
        assert!(has_name(&local, path), "{local:?} of {path:?}");
        // A datagram of no bytes has a sender too, and is not the end of file.
        sender.send_to(b"", &server).unwrap();
        let (n, address) = receiver.recv_from(&mut [0; 4]).unwrap();
        assert!(n == 0 && has_name(&address, path), "{address:?} of {path:?}");
        assert_eq!(receiver.recv_from(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
        let mut poll = TestPoll::new();
        poll.register(&mut receiver, 1, READ);
        poll.expect_no_events();
    });
    assert!(names >= 6, "{names}");
}

#[test]
fn address_of_a_tcp_socket_is_an_error() {
    let stream = UnixStream::from(OwnedFd::from(std::net::TcpListener::bind(loopback()).unwrap()));
    assert_eq!(stream.local_addr().unwrap_err().kind(), ErrorKind::InvalidInput);
}
