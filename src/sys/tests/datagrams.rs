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

/// An ICMP error of a socket that waits for both directions. epoll says that it can be written, and so does mio: quinn
/// takes a readable socket for a datagram, and closes its endpoint when the read fails.
pub(crate) fn datagram_error_is_not_readable_when_writable<T: Engine>() {
    if T::BACKEND == Backend::Kqueue || !cfg!(target_os = "linux") {
        // Both filters of a kqueue fire, and other systems have no bit for it.
        return;
    }
    for interest in [BOTH, BOTH.level(), BOTH.oneshot()] {
        for is_observed in [true, false] {
            let mut rig = Rig::<T>::new();
            let socket = lonely();
            let tie = rig.own(&socket, 1, if interest.is_oneshot() { READ } else { interest });
            rig.now();
            socket.send(b"anybody?").unwrap();
            if is_observed {
                tie.rearm(Direction::Write);
            }
            if interest.is_oneshot() {
                rig.reregister(&socket, 1, interest).unwrap();
            }
            let said = rig.expect(1, E);
            assert_eq!(said, W | WC | E, "{interest:?}, observed: {is_observed}");
            // And each direction by itself.
            rig.reregister(&socket, 2, READ).unwrap();
            rig.expect(2, R | E);
            rig.reregister(&socket, 3, WRITE).unwrap();
            assert_eq!(rig.expect(3, W | E), W | WC | E);
        }
    }
}

/// With `IP_RECVERR` an error stays pending until the error queue is read, and this program never does.
#[cfg(target_os = "linux")]
fn with_error_queue() -> UdpSocket {
    let (socket, on) = (lonely(), 1_i32);
    // SAFETY: the kernel reads one `int`.
    let result = unsafe {
        let size = std::mem::size_of_val(&on) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_RECVERR, (&on as *const i32).cast(), size)
    };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    socket
}

pub(crate) fn unread_error_queue_does_not_spin<T: Engine>() {
    #[cfg(target_os = "linux")]
    for interest in [READ, BOTH] {
        let mut rig = Rig::<T>::new();
        let socket = with_error_queue();
        let tie = rig.own(&socket, 1, interest);
        rig.now();
        socket.send(b"anybody?").unwrap();
        tie.rearm(Direction::Write);
        // The error is reported in a direction of the registration.
        rig.expect(1, if interest == READ { R } else { W });
        let start = Instant::now();
        let mut events = 0;
        while start.elapsed() < Duration::from_millis(60) {
            // A program that reads at each event, and once more at the end.
            match socket.recv(&mut [0; 4]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => tie.rearm_blocked(Direction::Read),
                _ => tie.rearm(Direction::Read),
            }
            events += rig.select(Duration::from_millis(60)).len();
        }
        // The first read fetches the error of the socket, and leaves that of the queue.
        assert!(events <= 2, "{events} events of one error");
        // The socket goes on.
        let peer = UdpSocket::bind(loopback()).unwrap();
        socket.connect(peer.local_addr().unwrap()).unwrap();
        for _ in 0..2 {
            peer.send_to(b"me", socket.local_addr().unwrap()).unwrap();
            rig.expect(1, R);
            while socket.recv(&mut [0; 4]).map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |_| true) {
                tie.rearm(Direction::Read);
            }
            tie.rearm_blocked(Direction::Read);
            rig.now();
        }
    }
}

pub(crate) fn level_triggered_error_repeats<T: Engine>() {
    #[cfg(target_os = "linux")]
    if T::BACKEND != Backend::Kqueue {
        let mut rig = Rig::<T>::new();
        let socket = with_error_queue();
        let _tie = rig.own(&socket, 1, READ.level());
        socket.send(b"anybody?").unwrap();
        for _ in 0..3 {
            assert_eq!(rig.now(), BTreeMap::from([(1, R | W | WC | E)]));
        }
    }
}
