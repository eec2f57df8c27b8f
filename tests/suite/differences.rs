//! Each row of the table of differences in the crate docs, as it is on the backend at hand.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use kevio::net::{UdpSocket, UnixStream};
use kevio::unix::{IoSource, SourceFd};
use kevio::{Backend, Interest, Token, BACKEND};
use socket2::{Domain, Socket, Type};

use super::harness::*;
use super::libkqueue;

#[test]
fn a_bare_descriptor_registered_twice() {
    let mut l = Loop::new();
    let (a, mut b) = UnixStream::pair().unwrap();
    let fd = a.as_raw_fd();
    l.register(&mut SourceFd(&fd), 1, READ);
    let again = l.poll.registry().register(&mut SourceFd(&fd), Token(2), READ);
    b.write_all(b"x").unwrap();
    if BACKEND == Backend::Kqueue {
        again.unwrap();
        l.expect(2, R);
    } else {
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        l.expect(1, R);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_bare_descriptor_without_an_inode_registered_twice() {
    // SAFETY: no pointers; the descriptor is nobody else's.
    let event = unsafe {
        let fd = libc::eventfd(1, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        assert!(fd >= 0);
        <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd)
    };
    let mut l = Loop::new();
    l.register(&mut SourceFd(&event.as_raw_fd()), 1, READ);
    let again = l.poll.registry().register(&mut SourceFd(&event.as_raw_fd()), Token(2), READ);
    if BACKEND == Backend::Epoll {
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        l.expect(1, R);
    } else {
        again.unwrap();
        l.expect(2, R);
    }
}

#[test]
fn more_data_while_what_was_reported_is_unread() {
    let mut l = Loop::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    l.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    l.expect(1, R);
    b.write_all(b"x").unwrap();
    if BACKEND == Backend::Poll {
        l.expect_silence();
        // Until there is an operation, whatever it is.
        assert_eq!(a.try_io(|| Ok(5)).unwrap(), 5);
    }
    l.expect(1, R);
}

#[test]
fn a_bare_descriptor_left_ready() {
    let mut l = Loop::new();
    let (a, mut b) = UnixStream::pair().unwrap();
    l.register(&mut SourceFd(&a.as_raw_fd()), 1, READ);
    b.write_all(b"x").unwrap();
    let start = Instant::now();
    l.expect(1, R);
    if BACKEND == Backend::Poll {
        l.expect(1, R);
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    } else {
        assert!(l.turn(Some(Duration::from_millis(200))).is_empty());
    }
}

#[test]
fn a_descriptor_both_readable_and_writable() {
    let mut l = Loop::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    b.write_all(b"x").unwrap();
    l.register(&mut a, 1, BOTH);
    l.turn(Some(DEADLINE));
    assert_eq!(l.events.len(), if BACKEND == Backend::Kqueue { 2 } else { 1 }, "{:?}", l.events);
}

#[test]
fn a_stream_socket_that_was_never_connected() {
    let mut l = Loop::new();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut socket = IoSource::new(socket);
    l.register(&mut socket, 1, BOTH);
    if cfg!(target_os = "linux") {
        l.expect(1, R | W | RC | WC);
    } else if BACKEND == Backend::Kqueue {
        l.expect_silence();
    }
}

#[test]
fn a_read_that_leaves_something() {
    let mut l = Loop::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    l.register(&mut a, 1, READ);
    b.write_all(b"two bytes").unwrap();
    l.expect(1, R);
    assert_eq!(a.read(&mut [0; 2]).unwrap(), 2);
    if BACKEND == Backend::Poll {
        l.expect(1, R);
    } else {
        l.expect_silence();
    }
}

#[test]
fn a_device_that_is_always_ready() {
    let null = std::fs::File::open("/dev/null").unwrap();
    let l = Loop::new();
    let result = l.poll.registry().register(&mut SourceFd(&null.as_raw_fd()), Token(1), READ);
    if BACKEND == Backend::Poll {
        result.unwrap();
    } else if cfg!(target_os = "linux") {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
    } else if cfg!(target_vendor = "apple") {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}

#[test]
fn deregistering_a_number_that_was_closed() {
    let l = Loop::new();
    let fd = closed_descriptor();
    let error = l.poll.registry().deregister(&mut SourceFd(&fd)).unwrap_err();
    if BACKEND == Backend::Poll || libkqueue::is_here() || cfg!(target_vendor = "apple") {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    } else {
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}

#[test]
fn dropping_a_source_that_does_not_own_its_descriptor() {
    let mut l = Loop::new();
    let (a, mut b) = UnixStream::pair().unwrap();
    {
        let mut source = IoSource::new(a.as_raw_fd());
        l.register(&mut source, 1, READ);
    }
    b.write_all(b"x").unwrap();
    if BACKEND == Backend::Poll {
        l.expect_silence();
    } else {
        l.expect(1, R);
    }
}

#[test]
fn an_error_on_udp() {
    let mut l = Loop::new();
    let mut socket = UdpSocket::bind(loopback()).unwrap();
    let gone = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    socket.connect(gone).unwrap();
    l.register(&mut socket, 1, READ);
    socket.send(b"anybody?").unwrap();
    let said = l.expect(1, R);
    assert_eq!(said.has(E), BACKEND != Backend::Kqueue || libkqueue::is_here(), "{said:?}");
}

#[test]
fn shutting_down_writing_here() {
    let mut l = Loop::new();
    let (mut a, _b) = tcp_pair();
    l.register(&mut a, 1, WRITE);
    l.expect(1, W);
    a.shutdown(Shutdown::Write).unwrap();
    if BACKEND == Backend::Kqueue && !libkqueue::is_here() {
        l.expect(1, W | WC);
    } else {
        l.expect_not(1, WC);
    }
}

#[test]
fn the_priority_interest() {
    let l = Loop::new();
    let (mut a, _b) = tcp_pair();
    let without = libkqueue::is_here() || cfg!(any(target_os = "freebsd", target_os = "netbsd"));
    match l.poll.registry().register(&mut a, Token(1), Interest::PRIORITY) {
        Err(error) => assert!(error.kind() == ErrorKind::Unsupported && without && BACKEND == Backend::Kqueue),
        Ok(()) => assert!(!without || BACKEND != Backend::Kqueue),
    }
}

#[test]
fn a_registered_descriptor_closed_while_a_copy_is_open() {
    let mut l = Loop::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    let copy = a.as_fd().try_clone_to_owned().unwrap();
    l.register(&mut a, 1, READ);
    drop(a);
    b.write_all(b"x").unwrap();
    // libkqueue is epoll underneath.
    if BACKEND == Backend::Epoll || libkqueue::is_here() {
        l.expect(1, R);
    } else {
        l.expect_silence();
    }
    drop(copy);
}

fn waits_in_nanoseconds() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: a descriptor that is none, so that nothing is written anywhere.
    let old = unsafe {
        libc::syscall(libc::SYS_epoll_pwait2, -1, std::ptr::null::<u8>(), 0, std::ptr::null::<u8>(), 0, 0);
        let error = std::io::Error::last_os_error().raw_os_error();
        BACKEND == Backend::Epoll && matches!(error, Some(libc::ENOSYS | libc::EPERM))
    };
    #[cfg(not(target_os = "linux"))]
    let old = true;
    !old
}

#[test]
fn a_short_wait() {
    if !waits_in_nanoseconds() {
        return;
    }
    // Of many short waits at least one is not disturbed by other tests.
    let mut l = Loop::new();
    let shortest = (0..200)
        .map(|_| {
            let start = Instant::now();
            assert!(l.turn(Some(Duration::from_micros(200))).is_empty());
            start.elapsed()
        })
        .min()
        .unwrap();
    assert!(shortest >= Duration::from_micros(200) && shortest < Duration::from_millis(1), "{shortest:?}");
}
