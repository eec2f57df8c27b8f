//! Faults, limits, and the return of every block.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::windows::io::{AsRawSocket, RawSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use windows_sys::Win32::Foundation::STATUS_INSUFFICIENT_RESOURCES;
use windows_sys::Win32::Networking::WinSock::SOCK_DGRAM;

use crate::interest::Interest;
use crate::sys::conformance::support::process::is_in_own_process;
use crate::sys::conformance::support::system::is_wine;
use crate::sys::selector::{EventRecord, IoDirection, Registration, Selector, SourceKind};
use crate::sys::windows::iocp::afd::BaseSocket;
use crate::sys::windows::iocp::afds::Afds;
use crate::sys::windows::iocp::bits;
use crate::sys::windows::iocp::entry::{Entry, OperationFlags};
use crate::sys::windows::iocp::entry_key::EntryKey;
use crate::sys::windows::iocp::event::IocpEvent;
use crate::sys::windows::iocp::port::{key, Port};
use crate::sys::windows::iocp::probe::held_bits;
use crate::sys::windows::iocp::readiness::Readiness;
use crate::sys::windows::iocp::request::Request;
use crate::sys::windows::iocp::selector::{IocpRegistration, IocpSelector, MAX_FLUSHES};
use crate::sys::windows::iocp::shared::MAX_PACKETS;
use crate::sys::windows::iocp::table::Table;
use crate::token::Token;

const READ: Interest = Interest::READABLE;
const BOTH: Interest = READ.add(Interest::WRITABLE);
const TIMEOUT: Duration = Duration::from_secs(10);

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let theirs = listener.accept().unwrap().0;
    ours.set_nonblocking(true).unwrap();
    theirs.set_nodelay(true).unwrap();
    (ours, theirs)
}

fn udp() -> UdpSocket {
    UdpSocket::bind("127.0.0.1:0").unwrap()
}

fn register(selector: &IocpSelector, socket: &impl AsRawSocket, token: usize, interest: Interest) -> IocpRegistration {
    selector.register(socket.as_raw_socket(), Token(token), interest, SourceKind::Builtin).unwrap()
}

/// Registers a socket whose operations are unobserved, and which is closed without notice.
fn register_raw(selector: &IocpSelector, socket: &impl AsRawSocket, token: usize) {
    let registration = selector.register(socket.as_raw_socket(), Token(token), READ, SourceKind::RawFd).unwrap();
    assert!(registration.detach().is_none());
}

fn reregister(selector: &IocpSelector, socket: &impl AsRawSocket, token: usize, interest: Interest) {
    selector.reregister(socket.as_raw_socket(), Token(token), interest, SourceKind::Builtin).unwrap();
}

/// Selects once. Returns the events.
fn select(selector: &IocpSelector, capacity: usize, timeout: Duration) -> Vec<IocpEvent> {
    let mut events = Vec::with_capacity(capacity);
    selector.select(&mut events, capacity, Some(timeout)).unwrap();
    events
}

/// Selects until there is an event. Fails unless the event has this token.
#[track_caller]
fn expect(selector: &IocpSelector, token: usize) -> IocpEvent {
    let events = select(selector, 8, TIMEOUT);
    assert!(!events.is_empty(), "no event of {token}");
    assert!(events.iter().all(|event| event.token() == Token(token)), "expected {token}, reported {events:?}");
    events[0]
}

#[track_caller]
fn expect_none(selector: &IocpSelector) {
    let events = select(selector, 8, Duration::from_millis(5));
    assert!(events.is_empty(), "{events:?}");
}

/// Resets the connection of the peer.
fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
}

#[test]
fn packets_without_an_event_do_not_use_up_a_select() {
    let selector = IocpSelector::new().unwrap();
    for timeout in [Duration::ZERO, Duration::from_millis(1)] {
        for _ in 0..3 {
            selector.port().post(key::TIMEOUT).unwrap();
        }
        selector.notify().unwrap();
        let mut events = select(&selector, 1, timeout);
        assert!(selector.take_internal(&mut events).is_notified, "{timeout:?}");
    }
}

/// Selects until the kernel holds no block.
#[track_caller]
fn expect_all_returned(selector: &IocpSelector) {
    let deadline = Instant::now() + TIMEOUT;
    while selector.port().in_flight() > 0 {
        assert!(Instant::now() < deadline, "{:?}", selector.port());
        assert!(select(selector, 8, Duration::from_millis(1)).is_empty());
    }
}

#[test]
fn late_packets_are_no_events() {
    let selector = IocpSelector::new().unwrap();
    let (a, mut b) = pair();
    for round in 0..100 {
        // The packet of the first registration is in the port when the registration ends.
        let registration = register(&selector, &a, 2 * round, READ);
        select(&selector, 8, Duration::ZERO);
        b.write_all(b"x").unwrap();
        drop(registration);
        let registration = register(&selector, &a, 2 * round + 1, READ);
        expect(&selector, 2 * round + 1);
        std::io::Read::read(&mut &a, &mut [0; 8]).unwrap();
        drop(registration);
        expect_none(&selector);
    }
    expect_all_returned(&selector);
}

#[test]
fn result_without_space_is_no_event_after_its_registration_has_ended() {
    let selector = IocpSelector::new().unwrap();
    let sockets: Vec<_> = (0..4).map(|_| udp()).collect();
    let mut registrations: Vec<_> =
        sockets.iter().enumerate().map(|(token, socket)| Some(register(&selector, socket, token, BOTH))).collect();
    let first = select(&selector, 1, TIMEOUT)[0].token().0;
    for (token, registration) in registrations.iter_mut().enumerate() {
        if token != first {
            *registration = None;
        }
    }
    expect_none(&selector);
    drop(registrations);
    expect_all_returned(&selector);
}

#[test]
fn blocks_return_over_100_000_registrations() {
    const SOCKETS: usize = 50;
    let selector = IocpSelector::new().unwrap();
    let sockets: Vec<_> = (0..SOCKETS).map(|_| udp()).collect();
    let mut most = 0;
    for round in 0..100_000 / SOCKETS {
        let registrations: Vec<_> = sockets.iter().map(|socket| register(&selector, socket, 1, READ)).collect();
        // The first wait makes the requests, and so do the deregistrations without a wait of every other round.
        assert!(select(&selector, 8, Duration::ZERO).is_empty());
        most = most.max(selector.port().in_flight());
        drop(registrations);
        if round % 8 == 0 {
            assert_eq!(selector.registration_count(), Some(0));
        }
    }
    // The canceled requests of a round return in the next one.
    assert!(most <= 4 * SOCKETS + 512, "the kernel held {most} blocks");
    expect_all_returned(&selector);
}

/// A program that registers and deregisters and never waits collects no packets.
#[test]
fn requests_return_without_a_wait() {
    let selector = Arc::new(IocpSelector::new().unwrap());
    let waiting = Arc::clone(&selector);
    // Requests are made at once while a thread waits.
    let thread = std::thread::spawn(move || {
        let mut events = Vec::with_capacity(8);
        waiting.select(&mut events, 8, Some(TIMEOUT)).unwrap();
    });
    let socket = udp();
    let mut most = 0;
    for _ in 0..3000 {
        drop(register(&selector, &socket, 1, READ));
        most = most.max(selector.port().in_flight());
    }
    selector.notify().unwrap();
    thread.join().unwrap();
    for _ in 0..3000 {
        drop(register(&selector, &socket, 1, READ));
        most = most.max(selector.port().in_flight());
    }
    assert!(most < 2000, "the kernel held {most} blocks");
    expect_all_returned(&selector);
}

#[test]
fn more_sockets_than_a_handle_serves_are_reported() {
    const MANY: usize = 10 * 32 + 1;
    let selector = IocpSelector::new().unwrap();
    let sender = udp();
    let sockets: Vec<_> = (0..MANY).map(|_| udp()).collect();
    let registrations: Vec<_> =
        sockets.iter().enumerate().map(|(token, socket)| register(&selector, socket, token, READ)).collect();
    expect_none(&selector);
    let mut seen = BTreeSet::new();
    for socket in &sockets {
        sender.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    }
    let deadline = Instant::now() + TIMEOUT;
    while seen.len() < MANY {
        assert!(Instant::now() < deadline, "only {} were reported", seen.len());
        for event in select(&selector, 64, Duration::from_millis(100)) {
            assert!(seen.insert(event.token().0), "{event:?} was reported twice");
        }
    }
    drop(registrations);
    expect_all_returned(&selector);
}

#[test]
fn handles_serve_32_sockets_each_and_are_reused() {
    let (port, mut afds) = (Port::new().unwrap(), Afds::default());
    let first: Vec<_> = (0..65).map(|_| afds.assign(&port).unwrap()).collect();
    assert_eq!(first, (0..65).map(|socket| socket / 32).collect::<Vec<_>>());
    first[..33].iter().for_each(|&afd| afds.release(afd));
    let second: Vec<_> = (0..33 + 31).map(|_| afds.assign(&port).unwrap()).collect();
    // The handles with the lowest numbers first.
    assert_eq!(second, [[0; 32].as_slice(), &[1], &[2; 31]].concat());
    assert_eq!(afds.assign(&port).unwrap(), 3);
}

#[test]
fn unused_handles_are_closed() {
    const HANDLES: usize = 100;
    const MAX_UNUSED: usize = 32;
    let (port, mut afds) = (Port::new().unwrap(), Afds::default());
    let numbers: Vec<_> = (0..HANDLES * 32).map(|_| afds.assign(&port).unwrap()).collect();
    assert_eq!(afds.open_count(), HANDLES);
    for (released, &number) in numbers.iter().enumerate() {
        afds.release(number);
        if (released + 1) % 32 == 0 {
            let used = HANDLES - (released + 1) / 32;
            assert!(afds.open_count() <= 2 * used + MAX_UNUSED, "{} handles for {used}", afds.open_count());
            assert!((HANDLES - used..HANDLES).all(|number| afds.get(number).is_some()), "a used handle was closed");
        }
    }
    assert_eq!(afds.open_count(), MAX_UNUSED);
    // The handles with the lowest numbers are left, and the closed ones are opened again.
    let again: Vec<_> = (0..MAX_UNUSED * 32).map(|_| afds.assign(&port).unwrap()).collect();
    assert_eq!(afds.open_count(), MAX_UNUSED);
    assert_eq!(again, numbers[..again.len()]);
    assert_eq!(afds.assign(&port).unwrap(), MAX_UNUSED);
    assert_eq!(afds.open_count(), MAX_UNUSED + 1);
}

#[test]
fn request_keeps_its_handle_open() {
    let (port, mut afds, socket) = (Port::new().unwrap(), Afds::default(), udp());
    let number = afds.assign(&port).unwrap();
    let base = BaseSocket::of(socket.as_raw_socket()).unwrap();
    let (key, bits) = (EntryKey { index: 0, generation: 0 }, bits::RECEIVE | bits::LOCAL_CLOSE);
    let afd = afds.get(number).unwrap();
    let mut pending = afd.request(&port, base, bits, key, socket.as_raw_socket(), Box::default()).unwrap();
    afd.cancel(&mut pending);
    let weak = afd.downgrade();
    drop(afds);
    assert!(weak.upgrade().is_some(), "the handle was closed before the packet was removed");
    drop(port);
    assert!(weak.upgrade().is_none(), "the handle is still open");
}

/// The values of a registration are dropped in every order, while the kernel holds its request. The drop of the port fails if a
/// block does not return.
#[test]
fn values_are_dropped_in_every_order() {
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        for (has_waited, has_data) in [(false, false), (true, false), (true, true)] {
            let selector = IocpSelector::new().unwrap();
            let (a, mut b) = pair();
            let registration = register(&selector, &a, 1, READ);
            if has_waited {
                expect_none(&selector);
                assert_eq!(selector.port().in_flight(), 1);
            }
            if has_data {
                b.write_all(b"x").unwrap();
            }
            let port = Arc::downgrade(selector.port());
            let (mut selector, mut registration, mut a) = (Some(selector), Some(registration), Some(a));
            for value in order {
                match value {
                    0 => drop(selector.take()),
                    1 => drop(registration.take()),
                    _ => drop(a.take()),
                }
            }
            assert!(port.upgrade().is_none(), "{order:?}: the port is not closed");
        }
    }
}

/// Each thread waits for the answer to its notification before the next one.
#[test]
fn wakes_of_8_threads_are_not_lost() {
    const ROUNDS: usize = 500;
    let selector = IocpSelector::new().unwrap();
    let socket = udp();
    let counters: Vec<_> = (0..8).map(|_| (AtomicUsize::new(0), AtomicUsize::new(0))).collect();
    std::thread::scope(|scope| {
        for (request, answer) in &counters {
            let selector = &selector;
            scope.spawn(move || {
                let deadline = Instant::now() + 3 * TIMEOUT;
                for round in 1..=ROUNDS {
                    request.store(round, SeqCst);
                    selector.notify().unwrap();
                    while answer.load(SeqCst) != round {
                        assert!(Instant::now() < deadline, "a notification was lost");
                        std::thread::yield_now();
                    }
                }
            });
        }
        // Another thread registers and deregisters, and thus removes packets too.
        let (selector, counters, socket) = (&selector, &counters, &socket);
        let is_over = move || counters.iter().all(|(_, answer)| answer.load(SeqCst) == ROUNDS);
        scope.spawn(move || {
            while !is_over() {
                drop(register(selector, socket, 1, READ));
            }
        });
        while !is_over() {
            let mut events = Vec::with_capacity(8);
            selector.select(&mut events, 8, Some(TIMEOUT)).unwrap();
            selector.take_internal(&mut events);
            for (request, answer) in counters {
                answer.store(request.load(SeqCst), SeqCst);
            }
        }
    });
    expect_all_returned(&selector);
}

/// The peer resets the connection in each state of the registration.
#[test]
fn reset_is_reported_in_every_state() {
    let is_end = |event: &IocpEvent| event.is_readable() && (event.is_error() || event.is_read_closed());
    // Before the first wait.
    let selector = IocpSelector::new().unwrap();
    let (a, b) = pair();
    let registration = register(&selector, &a, 1, READ);
    reset(b);
    assert!(is_end(&expect(&selector, 1)));
    // The failure lasts, and is reported once.
    registration.rearm(IoDirection::Write);
    expect_none(&selector);
    drop(registration);

    // Idle; and writable, which was reported.
    for (interest, token) in [(READ, 2), (BOTH, 3)] {
        let (a, b) = pair();
        let _registration = register(&selector, &a, token, interest);
        select(&selector, 8, Duration::from_millis(5));
        reset(b);
        assert!(is_end(&expect(&selector, token)), "{interest:?}");
        expect_none(&selector);
    }

    // Disabled, and a one-shot registration that has reported: nothing before the registration is armed again.
    for (interest, token) in [(Interest::NONE, 4), (BOTH.oneshot(), 6)] {
        let (a, b) = pair();
        let _registration = register(&selector, &a, token, interest);
        select(&selector, 8, Duration::from_millis(5));
        reset(b);
        expect_none(&selector);
        reregister(&selector, &a, token + 1, READ);
        assert!(expect(&selector, token + 1).is_readable());
    }

    // Level-triggered: in each wait.
    let (a, b) = pair();
    let registration = register(&selector, &a, 8, READ.level());
    expect_none(&selector);
    reset(b);
    for _ in 0..3 {
        assert!(expect(&selector, 8).is_readable());
    }
    drop(registration);
    expect_all_returned(&selector);
}

#[test]
fn closing_a_socket_ends_its_registration() {
    // A request for a number that has become another thread's handle of the driver would end wine's server.
    if is_wine() && !is_in_own_process(closing_a_socket_ends_its_registration) {
        return;
    }
    let selector = IocpSelector::new().unwrap();
    let mut reused = 0;
    for round in 0..200 {
        let socket = udp();
        let number: RawSocket = socket.as_raw_socket();
        let raw = |token| {
            let result = selector.register(number, Token(token), READ, SourceKind::RawFd);
            result.map(|registration| _ = registration.detach())
        };
        raw(2 * round).unwrap();
        if round % 2 == 0 {
            expect_none(&selector);
        }
        drop(socket);
        let next = udp();
        if next.as_raw_socket() == number {
            raw(2 * round + 1).unwrap();
            udp().send_to(b"x", next.local_addr().unwrap()).unwrap();
            expect(&selector, 2 * round + 1);
            reused += 1;
        }
        drop(next);
        expect_none(&selector);
        assert_eq!(selector.registration_count(), Some(0), "round {round}");
    }
    assert!(reused > 0, "no number was used again");
    expect_all_returned(&selector);
}

#[test]
fn closed_raw_socket_is_not_registered_before_its_packet_is_removed() {
    let selector = IocpSelector::new().unwrap();
    for round in 0..10 {
        let (a, _b) = pair();
        let number = a.as_raw_socket();
        register_raw(&selector, &a, 1);
        select(&selector, 8, Duration::ZERO);
        drop(a);
        let result = match round % 2 {
            0 => selector.deregister(number, SourceKind::RawFd),
            _ => selector.reregister(number, Token(2), READ, SourceKind::RawFd),
        };
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
    }
    expect_all_returned(&selector);
}

/// The socket gets another port with each connect.
#[test]
fn raw_socket_is_the_same_one_after_a_failed_connect() {
    for bind in [None, Some("127.0.0.1:0"), Some("0.0.0.0:0")] {
        let selector = IocpSelector::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().into();
        let refused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        if let Some(bind) = bind {
            socket.bind(&bind.parse::<SocketAddr>().unwrap().into()).unwrap();
        }
        let _ = socket.connect(&refused.into());
        let number = socket.as_raw_socket();
        let registration = selector.register(number, Token(1), BOTH, SourceKind::RawFd).unwrap();
        assert!(registration.detach().is_none());
        assert!(expect(&selector, 1).is_error(), "{bind:?}");
        let _ = socket.take_error();
        let change = |token| selector.reregister(number, Token(token), BOTH, SourceKind::RawFd).unwrap();
        // The first connect after a failed one fails in wine 8.
        let connect = || socket.connect(&address).map_err(|error| error.kind());
        let first = connect();
        let result = if first == Err(io::ErrorKind::ConnectionAborted) { connect() } else { first };
        assert!(matches!(result, Ok(()) | Err(io::ErrorKind::WouldBlock)), "{result:?}");
        change(2);
        assert!(expect(&selector, 2).is_writable(), "{bind:?}");
        let (mut peer, _) = listener.accept().unwrap();
        peer.write_all(b"x").unwrap();
        change(3);
        let deadline = Instant::now() + TIMEOUT;
        while !expect(&selector, 3).is_readable() {
            assert!(Instant::now() < deadline, "{bind:?}: the data was not reported");
        }
        selector.deregister(number, SourceKind::RawFd).unwrap();
    }
}

/// The copy keeps the socket open, so that no request ends.
#[test]
fn number_of_a_closed_socket_is_free_while_a_copy_is_open() {
    if !is_in_own_process(number_of_a_closed_socket_is_free_while_a_copy_is_open) {
        return;
    }
    let selector = IocpSelector::new().unwrap();
    let mut socket = udp();
    let (mut reused, mut copies) = (0, Vec::new());
    for token in 0..20 {
        register_raw(&selector, &socket, token);
        expect_none(&selector);
        let number = socket.as_raw_socket();
        copies.push(socket.try_clone().unwrap());
        drop(socket);
        socket = udp();
        if socket.as_raw_socket() == number {
            reused += 1;
            let result = selector.deregister(number, SourceKind::RawFd);
            assert_eq!(result.unwrap_err().kind(), io::ErrorKind::NotFound);
        }
    }
    assert!(reused > 0, "no number was used again");
}

#[test]
fn change_of_a_raw_socket_does_not_interrupt_a_wait() {
    let selector = IocpSelector::new().unwrap();
    let socket = udp();
    register_raw(&selector, &socket, 1);
    expect_of_blocked_wait(&selector, 2, || {
        let round = selector.round();
        for _ in 0..20 {
            selector.reregister(socket.as_raw_socket(), Token(2), READ, SourceKind::RawFd).unwrap();
        }
        assert_eq!(selector.round(), round);
        socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
    });
}

/// Ends the loop of a polling thread, also if the test fails.
struct EndPolling<'a>(&'a IocpSelector, &'a AtomicBool);

impl Drop for EndPolling<'_> {
    fn drop(&mut self) {
        self.1.store(true, SeqCst);
        let _ = self.0.notify();
    }
}

/// The polling thread may have removed the packet from the port, and not processed it.
#[test]
fn closed_raw_socket_is_not_registered_during_a_wait() {
    if !is_in_own_process(closed_raw_socket_is_not_registered_during_a_wait) {
        return;
    }
    let selector = IocpSelector::new().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                select(&selector, 8, TIMEOUT);
            }
        });
        let _end = EndPolling(&selector, &is_over);
        let mut failures = Vec::new();
        for round in 0..1000 {
            let socket = udp();
            let number = socket.as_raw_socket();
            register_raw(&selector, &socket, round);
            drop(socket);
            let result = match round % 2 {
                0 => selector.deregister(number, SourceKind::RawFd),
                _ => selector.reregister(number, Token(round), READ, SourceKind::RawFd),
            };
            if result.map_err(|error| error.kind()) != Err(io::ErrorKind::NotFound) {
                failures.push(round);
            }
        }
        assert!(failures.is_empty(), "{failures:?}");
    });
    expect_all_returned(&selector);
}

#[test]
fn closed_raw_socket_is_not_reported_although_its_readiness_came_first() {
    let selector = IocpSelector::new().unwrap();
    for token in 0..20 {
        let (a, mut b) = pair();
        register_raw(&selector, &a, token);
        select(&selector, 1, Duration::ZERO);
        b.write_all(b"x").unwrap();
        let deadline = Instant::now() + TIMEOUT;
        while a.peek(&mut [0]).is_err() {
            assert!(Instant::now() < deadline);
        }
        drop(a);
        let events = select(&selector, 1, Duration::ZERO);
        assert!(events.is_empty(), "{events:?}");
    }
    expect_all_returned(&selector);
}

#[test]
fn notification_behind_late_packets_is_returned_without_waiting() {
    let selector = IocpSelector::new().unwrap();
    let (a, _b) = pair();
    let registration = register(&selector, &a, 1, READ);
    select(&selector, 1, Duration::ZERO);
    drop(registration);
    selector.notify().unwrap();
    assert!(select(&selector, 1, Duration::ZERO).is_empty());
    assert!(selector.take_internal(&mut Vec::new()).is_notified);
}

#[test]
fn notifications_around_a_change_are_returned_once() {
    let selector = IocpSelector::new().unwrap();
    let (a, _b) = pair();
    let registration = register(&selector, &a, 1, READ);
    select(&selector, 1, Duration::ZERO);
    selector.notify().unwrap();
    // The change removes the packet of the notification.
    selector.register(a.as_raw_socket(), Token(2), READ, SourceKind::RawFd).map(drop).unwrap_err();
    // The packet of the request is before that of the next notification.
    drop(registration);
    selector.notify().unwrap();
    for is_notified in [true, false] {
        assert!(select(&selector, 1, Duration::ZERO).is_empty());
        assert_eq!(selector.take_internal(&mut Vec::new()).is_notified, is_notified);
    }
}

#[test]
fn full_buffer_is_not_writable_after_the_peer_has_shut_down_writing() {
    let selector = IocpSelector::new().unwrap();
    let (a, b) = pair();
    let fill = || {
        let mut total = 0;
        while let Ok(written) = (&a).write(&[0; 64 * 1024]) {
            total += written;
        }
        total
    };
    let total = fill();
    let registration = register(&selector, &a, 1, BOTH);
    assert!(select(&selector, 8, Duration::ZERO).is_empty());
    io::copy(&mut (&b).take(total as u64), &mut io::sink()).unwrap();
    let deadline = Instant::now() + TIMEOUT;
    while held_bits(a.as_raw_socket(), bits::SEND) == 0 {
        assert!(Instant::now() < deadline);
    }
    b.shutdown(Shutdown::Write).unwrap();
    while (&a).read(&mut [0]).is_err() {
        assert!(Instant::now() < deadline);
    }
    fill();
    registration.rearm(IoDirection::Write);
    let event = expect(&selector, 1);
    assert!(event.is_readable() && !event.is_writable(), "{event:?}");
}

/// Fails if the socket has more than one request. Windows confuses two requests for one socket.
#[track_caller]
fn expect_one_request(selector: &IocpSelector) {
    assert!(selector.port().in_flight() <= 1, "{:?}", selector.port());
}

/// A poll without waiting reports what is ready, although a request must be canceled for a new interest first.
#[test]
fn change_of_an_interest_replaces_the_request_and_is_reported_at_once() {
    let selector = IocpSelector::new().unwrap();
    let (a, mut b) = pair();
    let registration = register(&selector, &a, 1, READ);
    for round in 0..50 {
        assert!(select(&selector, 8, Duration::ZERO).is_empty());
        reregister(&selector, &a, 1, Interest::WRITABLE);
        let events = select(&selector, 8, Duration::ZERO);
        assert!(events.len() == 1 && events[0].is_writable(), "round {round}: {events:?}");
        expect_one_request(&selector);
        reregister(&selector, &a, 1, READ);
        expect_one_request(&selector);
    }
    // The socket is registered again before the packet of its last request has come.
    drop(registration);
    for round in 0..50 {
        let registration = register(&selector, &a, 2, BOTH);
        let events = select(&selector, 8, Duration::ZERO);
        assert!(events.len() == 1 && events[0].is_writable(), "round {round}: {events:?}");
        drop(registration);
        expect_one_request(&selector);
    }
    b.write_all(b"x").unwrap();
    let _registration = register(&selector, &a, 3, READ);
    assert!(expect(&selector, 3).is_readable());
}

/// The steps with which trio has found that Windows confuses requests: a request for space, then one for data, then data.
#[test]
fn socket_with_a_full_buffer_reports_data_and_has_one_request() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let selector = IocpSelector::new().unwrap();
        let (a, mut b) = pair();
        let fill = || while (&a).write(&[0; 64 * 1024]).is_ok() {};
        fill();
        let registration = selector.register(a.as_raw_socket(), Token(1), BOTH, kind).unwrap();
        for round in 0..5 {
            expect_one_request(&selector);
            b.write_all(b"x").unwrap();
            let deadline = Instant::now() + TIMEOUT;
            while !expect(&selector, 1).is_readable() {
                assert!(Instant::now() < deadline, "{kind:?}, round {round}");
                // The buffer of the kernel has grown.
                fill();
                registration.rearm(IoDirection::Write);
            }
            expect_one_request(&selector);
            assert_eq!((&a).read(&mut [0; 8]).unwrap(), 1);
            assert!((&a).read(&mut [0; 8]).is_err());
            fill();
            registration.rearm(IoDirection::Read);
            registration.rearm(IoDirection::Write);
            select(&selector, 8, Duration::from_millis(5));
        }
        // Space in the buffer.
        let mut buffer = vec![0; 1 << 16];
        b.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        while matches!(b.read(&mut buffer), Ok(1..)) {}
        assert!(expect(&selector, 1).is_writable(), "{kind:?}");
        expect_one_request(&selector);
        drop(registration);
        expect_all_returned(&selector);
    }
}

/// A wait that begins while a canceled request is in progress ends with its packet, and the next wait cancels again.
#[test]
fn poll_of_many_probed_sockets_without_a_change_is_over_at_once() {
    let selector = IocpSelector::new().unwrap();
    let sockets: Vec<_> = (0..2 * MAX_FLUSHES * MAX_PACKETS).map(|_| udp()).collect();
    for (token, socket) in sockets.iter().enumerate() {
        let result = selector.register(socket.as_raw_socket(), Token(token), BOTH, SourceKind::RawFd);
        assert!(result.unwrap().detach().is_none());
    }
    let mut seen = BTreeSet::new();
    let deadline = Instant::now() + 3 * TIMEOUT;
    // Sockets that stay writable are reported again after some time.
    let mut has_ended_without_events = false;
    while seen.len() < sockets.len() || !has_ended_without_events {
        assert!(Instant::now() < deadline, "{} were reported, and each poll has returned events", seen.len());
        let events = select(&selector, sockets.len(), Duration::ZERO);
        has_ended_without_events |= seen.len() == sockets.len() && events.is_empty();
        seen.extend(events.iter().map(|event| event.token().0));
    }
    drop(sockets);
    expect_all_returned(&selector);
}

/// The packet of the closed socket is behind those of many others.
#[test]
fn number_of_a_closed_socket_is_free_behind_many_packets() {
    if !is_in_own_process(number_of_a_closed_socket_is_free_behind_many_packets) {
        return;
    }
    let selector = IocpSelector::new().unwrap();
    let others: Vec<_> = (0..3 * MAX_PACKETS).map(|_| udp()).collect();
    for (token, other) in others.iter().enumerate() {
        register_raw(&selector, other, token);
    }
    let sender = udp();
    let mut reused = [0; 3];
    let deadline = Instant::now() + TIMEOUT;
    while reused.contains(&0) {
        assert!(Instant::now() < deadline, "numbers were used again {reused:?} times");
        let socket = udp();
        let number = socket.as_raw_socket();
        register_raw(&selector, &socket, 1000);
        for other in &others {
            sender.send_to(b"x", other.local_addr().unwrap()).unwrap();
        }
        drop(socket);
        let next = udp();
        if next.as_raw_socket() == number {
            let kind = reused.iter().position(|&count| count == 0).unwrap();
            reused[kind] += 1;
            match kind {
                0 => drop(selector.register(number, Token(1001), READ, SourceKind::RawFd).unwrap()),
                1 => drop(selector.deregister(number, SourceKind::RawFd).unwrap_err()),
                _ => drop(selector.reregister(number, Token(1001), READ, SourceKind::RawFd).unwrap_err()),
            }
        }
        // The next packets come in a new round.
        let (mut seen, deadline) = (BTreeSet::new(), Instant::now() + TIMEOUT);
        while seen.len() < others.len() {
            assert!(Instant::now() < deadline, "only {} were reported", seen.len());
            for event in select(&selector, 64, TIMEOUT) {
                seen.insert(event.token().0);
                others[event.token().0].recv(&mut [0; 8]).unwrap();
            }
        }
    }
}

/// Each request for the socket fails.
#[test]
fn failed_request_for_the_close_of_a_socket_is_not_made_again() {
    let (port, mut afds, socket) = (Port::new().unwrap(), Afds::default(), udp());
    let number = afds.assign(&port).unwrap();
    let (afd, key) = (afds.get(number).unwrap(), EntryKey { index: 0, generation: 0 });
    let base = BaseSocket::of(socket.as_raw_socket()).unwrap();
    let mut entry = Entry::of_socket(socket.as_raw_socket(), base, number, Token(1), Interest::NONE, Some(SOCK_DGRAM));
    // Returns `true` if a request was made. The request fails.
    let request = |entry: &mut Entry| {
        entry.request(afd, &port, key, &mut Vec::new()).unwrap();
        let Some(pending) = &mut entry.socket().unwrap().pending else { return false };
        afd.cancel(pending);
        let mut packets = Vec::new();
        port.dequeue(&mut packets, 1, Some(TIMEOUT)).unwrap();
        port.end_operation();
        // SAFETY: the port has only packets of requests, and this one was just removed.
        let mut request = unsafe { Request::from_packet(&packets[0]) };
        request.status.get_mut().Anonymous.Status = STATUS_INSUFFICIENT_RESOURCES;
        entry.end_request(&mut request);
        true
    };
    for interest in [Interest::NONE, READ.oneshot(), READ] {
        entry.arm(Token(1), interest);
        assert!(request(&mut entry), "{interest:?}");
        // An armed registration reports the failure.
        assert_eq!(entry.take_event().is_some(), interest != Interest::NONE);
        assert!(!request(&mut entry), "{interest:?}");
    }
    // A level-triggered failure is reported in each wait.
    entry.arm(Token(1), READ.level());
    for _ in 0..3 {
        assert!(request(&mut entry) && entry.take_event().unwrap().is_error());
    }
}

/// Another thread changes the interest again and again while this one waits.
#[test]
fn changes_during_waits_lose_no_data() {
    const ROUNDS: usize = 300;
    let selector = IocpSelector::new().unwrap();
    let (a, mut b) = pair();
    let _registration = register(&selector, &a, 1, READ);
    std::thread::scope(|scope| {
        let changes = scope.spawn(|| {
            for round in 0..ROUNDS {
                reregister(&selector, &a, 1, if round % 2 == 0 { BOTH } else { READ });
            }
            reregister(&selector, &a, 1, READ);
            b.write_all(b"x").unwrap();
        });
        let deadline = Instant::now() + TIMEOUT;
        while !select(&selector, 8, TIMEOUT).iter().any(|event| event.is_readable()) {
            assert!(Instant::now() < deadline, "the data was not reported");
        }
        changes.join().unwrap();
    });
}

#[test]
fn key_of_a_removed_entry_is_void() {
    let mut table = Table::new(Arc::new(Port::new().unwrap()));
    let first = table.insert(Entry::pushed(Token(1), READ));
    assert!(table.remove(first));
    assert!(!table.remove(first));
    let second = table.insert(Entry::pushed(Token(2), READ));
    assert_ne!(first, second);
    assert!(table.get(first).is_none());
    assert_eq!(table.update(first, |_| ()), None);
    assert_eq!(table.get(second).map(|entry| entry.token), Some(Token(2)));
    assert_eq!(table.len(), 1);
    // A mark of the first entry is not a mark of the second.
    table.mark_ready(first);
    assert_eq!(table.ready_count(), 0);
}

#[test]
fn pushed_states_follow_the_trigger_mode() {
    let push = |entry: &mut Entry, states| entry.push(states, Readiness::EMPTY);
    let mut edge = Entry::pushed(Token(1), READ);
    assert!(edge.take_event().is_none());
    for _ in 0..2 {
        // Each call is an edge, also while the state lasts.
        push(&mut edge, Readiness::READABLE);
        assert!(edge.take_event().unwrap().is_readable());
        assert!(edge.take_event().is_none());
    }
    push(&mut edge, Readiness::WRITABLE);
    assert!(edge.take_event().is_none(), "writable is not part of the interest");
    edge.arm(Token(2), BOTH);
    let event = edge.take_event().unwrap();
    assert!(event.is_readable() && event.is_writable() && event.token() == Token(2));
    // A state that was removed before the event is not reported.
    push(&mut edge, Readiness::READABLE);
    edge.push(Readiness::EMPTY, Readiness::READABLE);
    assert!(edge.take_event().is_none());

    let mut level = Entry::pushed(Token(3), READ.level());
    push(&mut level, Readiness::READABLE);
    for _ in 0..3 {
        assert!(level.take_event().is_some());
    }
    level.push(Readiness::EMPTY, Readiness::READABLE);
    assert!(level.take_event().is_none());

    let mut one_shot = Entry::pushed(Token(4), READ.oneshot());
    push(&mut one_shot, Readiness::READ_CLOSED);
    assert!(one_shot.take_event().unwrap().is_read_closed());
    push(&mut one_shot, Readiness::READABLE);
    assert!(one_shot.take_event().is_none());
    one_shot.arm(Token(5), READ.oneshot());
    assert!(one_shot.take_event().is_some());

    let mut disabled = Entry::pushed(Token(6), Interest::NONE);
    push(&mut disabled, Readiness::READABLE | Readiness::ERROR);
    assert!(disabled.take_event().is_none());
}

#[test]
fn operation_without_a_reported_direction_needs_no_lock() {
    let flags = OperationFlags::default();
    for direction in [IoDirection::Read, IoDirection::Write, IoDirection::Unknown] {
        assert!(!flags.record(direction));
    }
}

/// Runs `change` while another thread waits without limit. The wait must end with an event of the token.
#[track_caller]
fn expect_of_blocked_wait(selector: &IocpSelector, token: usize, change: impl FnOnce()) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| expect(selector, token));
        while !selector.is_waiting() {
            std::thread::yield_now();
        }
        change();
        thread.join().unwrap();
    });
}

/// The request of a change fails while a thread waits. The wait makes the request again.
#[test]
fn change_is_not_lost_if_its_request_fails_during_a_wait() {
    let selector = IocpSelector::new().unwrap();
    let faults = &selector.port().faults;
    let (a, mut b) = pair();
    let registration = register(&selector, &a, 1, Interest::NONE);
    b.write_all(b"x").unwrap();
    expect_of_blocked_wait(&selector, 2, || {
        faults.starts.store(1, SeqCst);
        reregister(&selector, &a, 2, READ);
    });
    // A failed registration leaves nothing behind.
    let other = udp();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| select(&selector, 8, TIMEOUT));
        while !selector.is_waiting() {
            std::thread::yield_now();
        }
        faults.starts.store(1, SeqCst);
        let result = selector.register(other.as_raw_socket(), Token(3), READ, SourceKind::Builtin);
        assert!(result.is_err());
        selector.notify().unwrap();
        assert!(thread.join().unwrap().is_empty());
    });
    assert_eq!(selector.registration_count(), Some(1));
    drop(registration);
    expect_all_returned(&selector);
}

/// A request of a wait fails, and the wait itself. The wait returns the error, and the next wait loses nothing.
#[test]
fn failed_request_and_failed_wait_lose_no_event() {
    let selector = IocpSelector::new().unwrap();
    let faults = &selector.port().faults;
    let sockets: Vec<_> = (0..8).map(|_| udp()).collect();
    let registrations: Vec<_> =
        sockets.iter().enumerate().map(|(token, socket)| register(&selector, socket, token, BOTH)).collect();
    let mut events = Vec::with_capacity(1);
    let mut seen = BTreeSet::new();
    while seen.len() < sockets.len() {
        // Each wait has a request to make after an operation.
        registrations.iter().for_each(|registration| registration.rearm(IoDirection::Read));
        for fault in [&faults.starts, &faults.waits] {
            // Registering again removes all packets, so that their results are ready.
            let again = selector.register(sockets[0].as_raw_socket(), Token(99), READ, SourceKind::Builtin);
            assert_eq!(again.err().unwrap().kind(), std::io::ErrorKind::AlreadyExists);
            fault.store(1, SeqCst);
            let result = selector.select(&mut events, 1, Some(Duration::ZERO));
            assert!(result.is_ok() || events.is_empty(), "events were returned with an error: {events:?}");
            fault.store(0, SeqCst);
            assert!(events.iter().all(|event| seen.insert(event.token().0)), "{events:?} were reported twice");
        }
        selector.select(&mut events, 1, Some(TIMEOUT)).unwrap();
        assert_eq!(events.len(), 1, "only {seen:?} were reported");
        assert!(seen.insert(events[0].token().0), "{events:?} were reported twice");
    }
    drop(registrations);
    expect_all_returned(&selector);
}

/// A thread closes a raw socket, and registers the next socket, which has the number, while the polling thread processes the
/// packet of the first one.
#[test]
fn number_of_a_closed_socket_can_be_registered_during_a_wait() {
    let selector = IocpSelector::new().unwrap();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut events = Vec::with_capacity(8);
            while !is_over.load(SeqCst) {
                selector.select(&mut events, 8, Some(TIMEOUT)).unwrap();
                selector.take_internal(&mut events);
            }
        });
        let _end = EndPolling(&selector, &is_over);
        let mut failures = Vec::new();
        let mut socket = udp();
        let mut reused = 0;
        for round in 0..2000 {
            let number = socket.as_raw_socket();
            match selector.register(number, Token(round), READ, SourceKind::RawFd) {
                Ok(registration) => _ = registration.detach(),
                Err(error) => failures.push((round, error)),
            }
            drop(socket);
            socket = udp();
            reused += usize::from(socket.as_raw_socket() == number);
        }
        assert!(failures.is_empty(), "{} failures, {:?}", failures.len(), failures[0]);
        assert!(reused > 0, "no number was used again");
    });
    expect_all_returned(&selector);
}

/// A program that changes registrations and never waits collects nothing in the lists of the table.
#[test]
fn lists_do_not_grow_without_a_wait() {
    let selector = IocpSelector::new().unwrap();
    let socket = udp();
    for _ in 0..5000 {
        drop(register(&selector, &socket, 1, READ));
        let pushed = selector.register_pushed(Token(2), READ).unwrap();
        pushed.set_ready(Readiness::READABLE);
    }
    let lengths = selector.list_lengths();
    assert!(lengths.iter().all(|&len| len < 100), "{lengths:?}");
}

/// The request for the end has ended when a read arms the next request for data. One event has both.
#[test]
fn end_of_a_stream_with_unread_data_is_one_event() {
    let selector = IocpSelector::new().unwrap();
    let (a, mut b) = pair();
    let registration = register(&selector, &a, 1, READ);
    a.shutdown(Shutdown::Write).unwrap();
    b.write_all(&[0; 5000]).unwrap();
    assert!(!expect(&selector, 1).is_read_closed());
    expect_none(&selector);
    drop(b);
    (&a).read_exact(&mut [0]).unwrap();
    registration.rearm(IoDirection::Read);
    let event = expect(&selector, 1);
    assert!(event.is_readable() && (event.is_read_closed() || is_wine()), "{event:?}");
    expect_none(&selector);
}
