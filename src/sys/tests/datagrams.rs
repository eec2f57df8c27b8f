//! UDP and Unix datagrams.

use super::*;

fn socket() -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A socket that is connected to a port where nobody is.
fn lonely() -> UdpSocket {
    let socket = socket();
    let gone = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    socket.connect(gone).unwrap();
    socket
}

pub(crate) fn writable_and_then_readable<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, b) = (socket(), socket());
    let _tie = rig.own(&a, 1, BOTH);
    rig.expect(1, W);
    b.send_to(b"x", a.local_addr().unwrap()).unwrap();
    rig.expect(1, R);
}

pub(crate) fn an_empty_datagram<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, b) = (socket(), socket());
    let _tie = rig.own(&a, 1, READ);
    b.send_to(b"", a.local_addr().unwrap()).unwrap();
    rig.expect(1, R);
    assert_eq!(a.recv(&mut [0; 4]).unwrap(), 0);
}

pub(crate) fn datagram_errors_come_and_go<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let socket = lonely();
    let tie = rig.own(&socket, 1, READ);
    for _ in 0..2 {
        socket.send(b"anybody?").unwrap();
        tie.rearm(Direction::Write);
        rig.expect(1, R);
        // libkqueue has taken the error, everybody else reports it here.
        let result = socket.recv(&mut [0; 4]);
        assert!(is_libkqueue::<T>() || kind(result) == ErrorKind::ConnectionRefused);
        tie.rearm(Direction::Read);
        rig.now();
    }
    let peer = UdpSocket::bind(loopback()).unwrap();
    socket.connect(peer.local_addr().unwrap()).unwrap();
    peer.send_to(b"me", socket.local_addr().unwrap()).unwrap();
    rig.expect(1, R);
    assert_eq!(socket.recv(&mut [0; 4]).unwrap(), 2);
}

pub(crate) fn a_second_datagram_error_between_two_looks<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let socket = lonely();
    let tie = rig.own(&socket, 1, READ);
    for _ in 0..3 {
        socket.send(b"anybody?").unwrap();
        tie.rearm(Direction::Write);
        rig.expect(1, R);
        let _ = socket.recv(&mut [0; 4]);
        tie.rearm(Direction::Read);
    }
}

pub(crate) fn an_unread_datagram_hides_no_other<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, b) = UnixDatagram::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    let tie = rig.own(&a, 1, READ);
    b.send(b"1").unwrap();
    b.send(b"2").unwrap();
    rig.expect(1, R);
    a.recv(&mut [0; 4]).unwrap();
    tie.rearm(Direction::Read);
    b.send(b"3").unwrap();
    rig.expect(1, R);
}

pub(crate) fn a_full_queue<T: Engine>() {
    let mut rig = Rig::<T>::new();
    let (a, b) = UnixDatagram::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    b.set_nonblocking(true).unwrap();
    let tie = rig.own(&a, 1, WRITE);
    rig.expect(1, W);
    let error = loop {
        let result = a.send(&[0; 1024]);
        tie.rearm(Direction::Write);
        match result {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    let full = [Some(libc::EAGAIN), Some(libc::ENOBUFS)];
    assert!(full.contains(&error.raw_os_error()), "{error}");
    rig.now();
    while b.recv(&mut [0; 1024]).is_ok() {}
    if error.raw_os_error() == Some(libc::EAGAIN) {
        rig.expect(1, W);
    }
    // Where the queue of the peer is full and the socket is writable all the time (the BSDs), there is no event.
    a.send(b"again").unwrap();
    assert_eq!(b.recv(&mut [0; 1024]).unwrap(), 5);
}
