//! UDP sockets.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use kevio::net::UdpSocket;

use crate::support::known_failures::{is_known_failure, Check};
use crate::support::net::loopback;
use crate::support::poll::{TestPoll, BOTH, READ};
use crate::support::readiness::{E, R, W};
use crate::support::streams::borrow;
use crate::support::system::is_wine;

fn socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(loopback()).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[test]
fn bound_socket_reports_writable_then_readable() {
    let mut poll = TestPoll::new();
    let (mut receiver, address) = socket();
    let (sender, from) = socket();
    poll.register(&mut receiver, 1, BOTH);
    poll.expect(1, W);
    poll.expect_without(1, R);
    assert_eq!(sender.send_to(b"hello", address).unwrap(), 5);
    poll.expect(1, R);
    let mut buffer = [0; 16];
    assert_eq!(receiver.peek_from(&mut buffer).unwrap(), (5, from));
    assert_eq!(receiver.recv_from(&mut buffer).unwrap(), (5, from));
    assert_eq!(receiver.recv_from(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn empty_datagram_reports_readable() {
    let mut poll = TestPoll::new();
    let (mut receiver, address) = socket();
    poll.register(&mut receiver, 1, READ);
    socket().0.send_to(b"", address).unwrap();
    poll.expect(1, R);
    assert_eq!(receiver.recv_from(&mut [0; 4]).unwrap().0, 0);
}

#[test]
fn each_arrival_is_reported_while_others_are_unread() {
    let mut poll = TestPoll::new();
    let (mut receiver, address) = socket();
    let (sender, _) = socket();
    poll.register(&mut receiver, 1, READ);
    for _ in 0..2 {
        sender.send_to(b"x", address).unwrap();
    }
    poll.expect(1, R);
    // One datagram is read, one is left, and a third arrives.
    receiver.recv_from(&mut [0; 4]).unwrap();
    sender.send_to(b"x", address).unwrap();
    poll.expect(1, R);
    receiver.recv_from(&mut [0; 4]).unwrap();
    receiver.recv_from(&mut [0; 4]).unwrap();
}

#[test]
fn datagram_longer_than_the_buffer_is_cut_except_on_windows() {
    const WSAEMSGSIZE: i32 = 10040;

    let mut poll = TestPoll::new();
    let (mut receiver, address) = socket();
    let (sender, _) = socket();
    poll.register(&mut receiver, 1, READ);
    for text in ["too long", "next"] {
        sender.send_to(text.as_bytes(), address).unwrap();
        poll.expect(1, R);
        let mut buffer = [0; 4];
        let result = receiver.recv(&mut buffer);
        if cfg!(windows) && text.len() > buffer.len() {
            assert_eq!(result.unwrap_err().raw_os_error(), Some(WSAEMSGSIZE));
        } else {
            assert_eq!(result.unwrap(), 4);
        }
        // The rest of a datagram is lost.
        assert_eq!(receiver.recv(&mut buffer).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn send_to_closed_port_reports_connection_refused() {
    let mut poll = TestPoll::new();
    let (mut sender, _) = socket();
    let (gone, address) = socket();
    drop(gone);
    sender.connect(address).unwrap();
    poll.register(&mut sender, 1, READ);
    sender.send(b"request").unwrap();
    if is_wine() {
        // See `differences::udp_error_sets_error_except_on_kqueue`.
        return;
    }
    poll.expect_any(1, R | W | E);
    let error = match sender.recv(&mut [0; 4]) {
        Err(error) if error.kind() == ErrorKind::WouldBlock && is_known_failure(Check::PendingSocketError) => return,
        result => result.unwrap_err(),
    };
    let expected = if cfg!(windows) { ErrorKind::ConnectionReset } else { ErrorKind::ConnectionRefused };
    assert_eq!(error.kind(), expected);
    // The error was read, and the socket works again.
    let (peer, address) = socket();
    sender.connect(address).unwrap();
    peer.send_to(b"me", sender.local_addr().unwrap()).unwrap();
    poll.expect(1, R);
    assert_eq!(sender.recv(&mut [0; 4]).unwrap(), 2);
}

/// With `IP_RECVERR` an error stays pending until the program reads the error queue. This test never does.
#[cfg(target_os = "linux")]
#[test]
fn unread_error_queue_does_not_spin() {
    for interest in [READ, BOTH] {
        let mut poll = TestPoll::new();
        let (mut sender, _) = socket();
        let (gone, address) = socket();
        drop(gone);
        sender.connect(address).unwrap();
        let on = 1_i32;
        // SAFETY: the kernel reads one `int`.
        let result = unsafe {
            let (fd, size) = (std::os::fd::AsRawFd::as_raw_fd(&sender), std::mem::size_of_val(&on));
            libc::setsockopt(fd, libc::IPPROTO_IP, libc::IP_RECVERR, (&on as *const i32).cast(), size as _)
        };
        assert_eq!(result, 0);
        poll.register(&mut sender, 1, interest);
        sender.send(b"request").unwrap();
        poll.expect(1, E);
        let start = std::time::Instant::now();
        let mut events = 0;
        while start.elapsed() < std::time::Duration::from_millis(60) {
            let error = sender.recv(&mut [0; 4]).unwrap_err().kind();
            assert!([ErrorKind::ConnectionRefused, ErrorKind::WouldBlock].contains(&error), "{error}");
            events += poll.poll_once(Some(std::time::Duration::from_millis(60))).len();
        }
        assert!(events <= 2, "{events} events for one error");
    }
}

#[test]
fn connected_sockets_report_each_datagram() {
    let ((a, address_a), (b, address_b)) = (socket(), socket());
    a.connect(address_b).unwrap();
    b.connect(address_a).unwrap();
    assert_eq!(a.peer_addr().unwrap(), address_b);
    let mut poll = TestPoll::new();
    let mut b = b;
    poll.register(&mut b, 1, READ);
    for round in 0..5 {
        a.send(&[round]).unwrap();
        poll.expect(1, R);
        let mut byte = [0; 4];
        assert_eq!((b.peek(&mut byte).unwrap(), byte[0]), (1, round));
        assert_eq!((b.recv(&mut byte).unwrap(), byte[0]), (1, round));
        assert_eq!(
            b.try_io(|| std::net::UdpSocket::recv(&b_std(&b), &mut byte)).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
    }
}

fn b_std(socket: &UdpSocket) -> std::net::UdpSocket {
    borrow(socket).try_clone_to_owned().unwrap().into()
}

#[test]
fn socket_options_round_trip() {
    let (socket, _) = socket();
    socket.set_broadcast(true).unwrap();
    assert!(socket.broadcast().unwrap());
    socket.set_ttl(9).unwrap();
    assert_eq!(socket.ttl().unwrap(), 9);
    socket.set_multicast_loop_v4(false).unwrap();
    assert!(!socket.multicast_loop_v4().unwrap());
    socket.set_multicast_ttl_v4(5).unwrap();
    assert_eq!(socket.multicast_ttl_v4().unwrap(), 5);
    assert!(socket.take_error().unwrap().is_none());
    let group = Ipv4Addr::new(224, 0, 0, 251);
    if socket.join_multicast_v4(&group, &Ipv4Addr::LOCALHOST).is_ok() {
        socket.leave_multicast_v4(&group, &Ipv4Addr::LOCALHOST).unwrap();
    }
    let Ok(v6) = UdpSocket::bind("[::1]:0".parse().unwrap()) else {
        return;
    };
    v6.set_multicast_loop_v6(false).unwrap();
    assert!(!v6.multicast_loop_v6().unwrap());
    let _ = v6.only_v6().unwrap();
    let group = Ipv6Addr::new(0xff01, 0, 0, 0, 0, 0, 0, 1);
    if v6.join_multicast_v6(&group, 0).is_ok() {
        v6.leave_multicast_v6(&group, 0).unwrap();
    }
}
