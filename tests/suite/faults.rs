//! Faults of the network: resets in every state of a socket, addresses that are in use, and thousands of sockets at once.

use std::io::{self, ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr, UdpSocket as StdUdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kevio::net::{TcpStream, UdpSocket};
use kevio::{Interest, Token, Waker};
use socket2::{Domain, SockRef, Socket, Type};

use crate::support::known_failures::{is_known_failure, Check};
use crate::support::limits::raise_fd_limit_to_default;
use crate::support::net::{drain, fill, listener, loopback, reset_on_close, tcp_pair};
use crate::support::poll::{TestPoll, BOTH, READ, TIMEOUT, WRITE};
use crate::support::readiness::{E, R, RC, W, WC};
use crate::support::streams::{IoSource, IN_PROGRESS};
use crate::support::system::is_wine;

/// The states of a connection when the peer resets it.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Idle,
    /// Data was received and is not read.
    Unread,
    /// Data was received, reported and read.
    Read,
    /// The buffer of sent data is full.
    Full,
    /// The program has shut down writing.
    WriteShutDown,
    /// The peer has shut down writing, and the program has read the end.
    PeerShutDown,
}

const STATES: [State; 6] =
    [State::Idle, State::Unread, State::Read, State::Full, State::WriteShutDown, State::PeerShutDown];

/// Brings a registered stream into the state.
fn enter(state: State, poll: &mut TestPoll, ours: &mut TcpStream, theirs: &mut std::net::TcpStream) {
    match state {
        State::Idle => {}
        State::Unread | State::Read => {
            theirs.write_all(b"data").unwrap();
            let deadline = Instant::now() + TIMEOUT;
            while ours.peek(&mut [0; 4]).is_err() {
                assert!(Instant::now() < deadline, "no data arrived");
                poll.poll_once(Some(Duration::from_millis(1)));
            }
            if state == State::Read {
                assert_eq!(drain(ours), (4, false));
            }
        }
        State::Full => drop(fill(ours)),
        State::WriteShutDown => {
            ours.shutdown(Shutdown::Write).unwrap();
            assert_eq!(theirs.read(&mut [0; 4]).unwrap(), 0);
        }
        State::PeerShutDown => {
            theirs.shutdown(Shutdown::Write).unwrap();
            poll.expect_any(1, R | RC);
            assert_eq!(drain(ours), (0, true));
        }
    }
    // What has come until now is no event of the reset.
    poll.drain_events();
}

#[test]
fn reset_is_reported_in_every_state() {
    for (state, interest) in
        STATES.iter().flat_map(|&state| [BOTH, BOTH.level(), BOTH.oneshot()].map(|mode| (state, mode)))
    {
        let mut poll = TestPoll::new();
        let (mut ours, mut theirs) = tcp_pair();
        poll.register(&mut ours, 1, BOTH);
        poll.expect(1, W);
        enter(state, &mut poll, &mut ours, &mut theirs);
        if interest != BOTH {
            poll.reregister(&mut ours, 1, interest);
        }
        reset_on_close(&theirs);
        drop(theirs);
        // The readiness of other modes is reported before the reset.
        let deadline = Instant::now() + TIMEOUT;
        while !poll.expect_any(1, R | W).has_any(E | RC | WC) {
            assert!(Instant::now() < deadline, "{state:?}, {interest:?}: the reset was not reported");
            poll.reregister(&mut ours, 1, interest);
        }
        let error = loop {
            match ours.read(&mut [0; 64]) {
                Ok(0) => break None,
                Ok(_) => {}
                Err(error) => break Some(error.kind()),
            }
        };
        // The end was received before the reset, or the error was taken already.
        let may_end = state == State::PeerShutDown || is_wine() || is_known_failure(Check::PendingSocketError);
        assert!(error == Some(ErrorKind::ConnectionReset) || may_end && error.is_none(), "{state:?}: {error:?}");
        assert!(ours.write(b"x").is_err(), "{state:?}");
        // The registration is there, and another poll takes the socket afterwards.
        poll.reregister(&mut ours, 2, BOTH);
        poll.expect_any(2, R | W);
        poll.deregister(&mut ours);
        poll.expect_no_events();
        poll.register(&mut ours, 3, READ.oneshot());
        poll.expect_any(3, R);
    }
}

#[test]
fn reset_of_an_accepted_connection_before_its_registration_is_reported() {
    let mut poll = TestPoll::new();
    let (listener, address) = listener();
    let mut stream = TcpStream::connect(address).unwrap();
    poll.register(&mut stream, 1, BOTH);
    poll.expect(1, W);
    // The connection is in the queue of the listener, and the kernel resets it.
    drop(listener);
    let reported = poll.expect_any(1, R | RC | E);
    assert!(reported.has_any(R | RC | E), "{reported:?}");
    let result = stream.read(&mut [0; 4]);
    assert!(!matches!(&result, Err(error) if error.kind() == ErrorKind::WouldBlock), "{result:?}");
}

#[test]
fn listener_outlives_clients_that_reset_before_accept() {
    let mut poll = TestPoll::new();
    let (mut listener, address) = listener();
    poll.register(&mut listener, 1, READ);
    for _ in 0..5 {
        let client = std::net::TcpStream::connect(address).unwrap();
        poll.expect(1, R);
        reset_on_close(&client);
        drop(client);
        // Systems return the dead connection, or the error, or remove it from the queue.
        match listener.accept() {
            Ok((mut stream, _)) => {
                poll.register(&mut stream, 2, BOTH);
                poll.expect_any(2, R | W);
            }
            Err(error) => {
                let kinds = [ErrorKind::WouldBlock, ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset];
                // The accept of wine fails when it reads the address of the peer.
                let is_fault_of_wine = is_wine() && error.kind() == ErrorKind::NotConnected;
                assert!(kinds.contains(&error.kind()) || is_fault_of_wine, "{error}");
            }
        }
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        poll.drain_events();
        // The next client is reported and accepted.
        let client = std::net::TcpStream::connect(address).unwrap();
        poll.expect(1, R);
        assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

/// Returns a registered stream socket, which is not connected.
fn unconnected(poll: &TestPoll, token: usize) -> IoSource<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_nonblocking(true).unwrap();
    let mut socket = IoSource::new(socket);
    poll.register(&mut socket, token, BOTH);
    socket
}

/// Starts a connection, and returns its error, which comes at once or later.
fn connect(poll: &mut TestPoll, socket: &IoSource<Socket>, token: usize, address: SocketAddr) -> io::Result<()> {
    poll.drain_events();
    match socket.do_io(|socket| socket.connect(&address.into())) {
        Err(error) if error.raw_os_error() != IN_PROGRESS => return Err(error),
        _ => {}
    }
    poll.expect_any(token, W | E | WC);
    socket.take_error()?.map_or(Ok(()), Err)
}

#[test]
fn address_in_use_is_an_error_and_the_socket_stays_usable() {
    let mut poll = TestPoll::new();
    let (_listener, address) = listener();
    let socket = unconnected(&poll, 1);
    for _ in 0..3 {
        let error = socket.bind(&address.into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse, "{error}");
    }
    socket.bind(&loopback().into()).unwrap();
    connect(&mut poll, &socket, 1, address).unwrap();
    let datagrams = UdpSocket::bind(loopback()).unwrap();
    assert_eq!(UdpSocket::bind(datagrams.local_addr().unwrap()).unwrap_err().kind(), ErrorKind::AddrInUse);
}

/// As when every port of this machine is connected to the one of the server.
#[test]
fn connection_without_a_free_port_fails_and_the_poll_stays_usable() {
    let mut poll = TestPoll::new();
    let (_listener, address) = listener();
    let (_other_listener, other_address) = listener();
    let first = unconnected(&poll, 1);
    first.set_reuse_address(true).unwrap();
    first.bind(&loopback().into()).unwrap();
    connect(&mut poll, &first, 1, address).unwrap();
    let local = first.local_addr().unwrap();
    let mut second = unconnected(&poll, 2);
    second.set_reuse_address(true).unwrap();
    // Some systems refuse the second socket, and others the second connection of the same addresses.
    let error = match second.bind(&local) {
        Ok(()) => connect(&mut poll, &second, 2, address).unwrap_err(),
        Err(error) => error,
    };
    assert!([ErrorKind::AddrInUse, ErrorKind::AddrNotAvailable].contains(&error.kind()), "{error}");
    poll.reregister(&mut second, 3, BOTH);
    poll.deregister(&mut second);
    drop(second);
    // The first connection and new ones work.
    let third = unconnected(&poll, 4);
    connect(&mut poll, &third, 4, other_address).unwrap();
    let mut first = first;
    poll.reregister(&mut first, 5, WRITE);
    poll.expect(5, W);
}

/// Waits until a datagram has arrived, without an operation through kevio. A system may drop datagrams that are on their way
/// when there are too many: FreeBSD keeps 256.
fn wait_for_a_datagram(socket: &UdpSocket) {
    let deadline = Instant::now() + TIMEOUT;
    while let Err(error) = SockRef::from(socket).peek(&mut [MaybeUninit::uninit()]) {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        assert!(Instant::now() < deadline, "no datagram arrived");
        thread::yield_now();
    }
}

#[test]
fn thousands_of_ready_sockets_are_reported_through_a_small_buffer() {
    const CAPACITY: usize = 16;
    let limit = raise_fd_limit_to_default();
    // A datagram costs the server of wine a step for each request of all sockets.
    let n = (limit - limit / 4).min(if is_wine() { 1500 } else { 3000 });
    let mut sockets: Vec<_> = (0..n).map(|_| UdpSocket::bind(loopback()).unwrap()).collect();
    let mut poll = TestPoll::with_capacity(CAPACITY);
    for (token, socket) in sockets.iter_mut().enumerate() {
        poll.register(socket, token, READ);
    }
    poll.expect_no_events();
    let sender = StdUdpSocket::bind(loopback()).unwrap();
    for round in 0..3 {
        for socket in &sockets {
            sender.send_to(&[round], socket.local_addr().unwrap()).unwrap();
            wait_for_a_datagram(socket);
        }
        if round == 2 {
            // All are ready, and half of them are closed before the poll.
            sockets.truncate(n / 2);
        }
        let mut reported = vec![false; sockets.len()];
        let deadline = Instant::now() + 6 * TIMEOUT;
        while reported.contains(&false) {
            assert!(
                Instant::now() < deadline,
                "round {round}: only {:?} of {n}",
                reported.iter().filter(|&&is| is).count()
            );
            for (token, readiness) in poll.poll_once(Some(TIMEOUT)) {
                assert!(readiness.has(R), "{token}: {readiness:?}");
                reported[token] = true;
                let mut byte = [9];
                if sockets[token].recv(&mut byte).is_ok() {
                    assert_eq!(byte, [round]);
                }
            }
            assert!(poll.events.iter().count() <= CAPACITY);
        }
    }
    for socket in &mut sockets {
        poll.deregister(socket);
    }
    poll.expect_no_events();
}

/// Each thread waits for the answer to its wake, while other threads register and deregister.
#[test]
fn wakes_of_eight_threads_are_reported_beside_registrations() {
    const WAKERS: usize = 8;
    const ROUNDS: usize = 500;
    const FIRST_SOCKET: usize = 100;
    let mut poll = TestPoll::new();
    let answers: Vec<_> = (0..WAKERS).map(|_| AtomicUsize::new(0)).collect();
    let is_over = || answers.iter().all(|answer| answer.load(Ordering::SeqCst) == ROUNDS);
    let deadline = Instant::now() + 6 * TIMEOUT;
    thread::scope(|scope| {
        for (token, answer) in answers.iter().enumerate() {
            let waker = Waker::new(poll.registry(), Token(token)).unwrap();
            scope.spawn(move || {
                for round in 1..=ROUNDS {
                    waker.wake().unwrap();
                    while answer.load(Ordering::SeqCst) < round && Instant::now() < deadline {
                        thread::yield_now();
                    }
                }
            });
        }
        for number in 0..4 {
            let (registry, is_over) = (poll.registry().try_clone().unwrap(), &is_over);
            scope.spawn(move || {
                let mut socket = UdpSocket::bind(loopback()).unwrap();
                let token = Token(FIRST_SOCKET + number);
                while !is_over() && Instant::now() < deadline {
                    registry.register(&mut socket, token, Interest::WRITABLE).unwrap();
                    registry.reregister(&mut socket, token, BOTH).unwrap();
                    registry.deregister(&mut socket).unwrap();
                }
            });
        }
        while !is_over() && Instant::now() < deadline {
            for (token, reported) in poll.poll_once(Some(TIMEOUT)) {
                assert!(token < FIRST_SOCKET + 4, "{token}: {reported:?}");
                if token < WAKERS {
                    answers[token].fetch_add(1, Ordering::SeqCst);
                }
            }
        }
    });
    assert!(is_over(), "a wake was lost: {answers:?}");
    poll.expect_no_events();
}
