//! The `Debug` output of each public type: short, with names in place of numbers.

use std::fmt::Debug;
use std::time::Duration;

use kevio::net::{TcpListener, UdpSocket};
#[cfg(unix)]
use kevio::{
    net::{UnixDatagram, UnixListener},
    unix::pollset::{PollFlags, PollSet},
    Process, Signals, Watch,
};
use kevio::{Backend, Batch, BusyPoll, Events, FileChanges, Interest, Poll, Timer, Token, Waker};

use crate::support::net::{loopback, tcp_pair};
use crate::support::poll::{TestPoll, READ, WRITE};
use crate::support::readiness::W;
use crate::support::streams::{borrow, kevio_pair, one_way, raw, IoSource, OwnedSource, SourceFd};

#[track_caller]
fn check(value: &dyn Debug, expected: &str) {
    assert_eq!(format!("{value:?}"), expected);
}

#[test]
fn values_are_written_by_name() {
    let all = "DELETED|WRITTEN|EXTENDED|ATTRIBUTES|LINKED|RENAMED";
    let busy_poll = BusyPoll { microseconds: 64, budget: 8, prefer: true };
    let table: [(&dyn Debug, &str); 13] = [
        (&Token(7), "Token(7)"),
        (&Backend::Epoll, "Epoll"),
        (&READ, "READABLE"),
        (&(READ | WRITE).oneshot(), "READABLE | WRITABLE | ONESHOT"),
        (&(Interest::PRIORITY | Interest::AIO | Interest::LIO), "PRIORITY | AIO | LIO"),
        (&Interest::NONE, "NONE"),
        (&FileChanges::empty(), "FileChanges(empty)"),
        (&(FileChanges::WRITTEN | FileChanges::DELETED), "DELETED|WRITTEN"),
        (&FileChanges::ALL, all),
        (&FileChanges::RESCAN, "RESCAN"),
        (&FileChanges::from_bits(0x101), "DELETED|0x100"),
        (&busy_poll, "BusyPoll { microseconds: 64, budget: 8, prefer: true }"),
        (&Events::with_capacity(8), "[]"),
    ];
    for (value, expected) in table {
        check(value, expected);
    }
    #[cfg(unix)]
    for (value, expected) in [(PollFlags::empty(), "PollFlags(empty)"), (PollFlags::IN | PollFlags::HUP, "IN|HUP")] {
        check(&value, expected);
    }
}

#[test]
fn events_have_the_names_of_their_readiness() {
    let mut poll = TestPoll::new();
    let (mut a, _b) = kevio_pair();
    poll.register(&mut a, 5, WRITE);
    poll.expect(5, W);
    check(&poll.events, "[Event(5, writable)]");
    check(&poll.events.iter(), "[Event(5, writable)]");
    let event = poll.events.iter().next().unwrap();
    check(event, "Event(5, writable)");
    let alternate = format!("{event:#?}");
    assert!(alternate.contains("    writable: true,\n    error: false,\n"), "{alternate}");
    // The record of the kernel.
    let details = match kevio::BACKEND {
        Backend::Kqueue => "EVFILT_WRITE",
        Backend::Iocp => "WRITABLE",
        _ => "events: OUT",
    };
    assert!(alternate.contains("    details: ") && alternate.contains(details), "{alternate}");
}

#[test]
fn sources_show_what_they_report() {
    let poll = TestPoll::new();
    let mut timer = Timer::new().unwrap();
    check(&timer, "Timer { remaining: None, period: None, is_registered: false }");
    timer.set_every(Duration::from_secs(3600)).unwrap();
    check(&timer, "Timer { remaining: Some(3600s), period: Some(3600s), is_registered: false }");
    poll.register(&mut timer, 1, READ);
    let text = format!("{timer:?}");
    assert!(text.ends_with("period: Some(3600s), is_registered: true }"), "{text}");

    #[cfg(unix)]
    sources_of_unix_show_what_they_report(&poll);

    let (a, mut b) = kevio_pair();
    let (mut c, _d) = kevio_pair();
    let number = raw(&a);
    let (name, field) =
        if cfg!(windows) { ("SourceSocket(7)", "OwnedSocket { socket") } else { ("SourceFd(7)", "OwnedFd { fd") };
    check(&SourceFd(&7), name);
    check(&IoSource::new(OwnedSource::from(a)), &format!("{field}: {number} }}"));
    let mut batch = Batch::new();
    check(&batch, "Batch { register: 0, reregister: 0, deregister: 0 }");
    batch.register(&mut c, Token(1), READ).deregister(&mut b);
    check(&batch, "Batch { register: 1, reregister: 0, deregister: 1 }");
}

#[cfg(unix)]
fn sources_of_unix_show_what_they_report(poll: &TestPoll) {
    let file = std::fs::File::open("/").unwrap();
    let mut signals = Signals::new([libc::SIGURG, libc::SIGTERM]).unwrap();
    let names = match libc::SIGURG < libc::SIGTERM {
        true => "SIGURG, SIGTERM",
        false => "SIGTERM, SIGURG",
    };
    check(&signals, &format!("Signals {{ signals: [{names}], is_registered: false }}"));
    poll.register(&mut signals, 2, Interest::NONE);
    check(&signals, &format!("Signals {{ signals: [{names}], is_registered: true }}"));

    let pid = std::process::id();
    if let Ok(process) = Process::from_pid(pid as _) {
        check(&process, &format!("Process {{ pid: {pid}, is_registered: false }}"));
    }

    let fd = raw(&file);
    if let Ok(watch) = Watch::with_changes(borrow(&file), FileChanges::WRITTEN) {
        let file = format!("BorrowedFd {{ fd: {fd} }}");
        check(&watch, &format!("Watch {{ file: {file}, changes: WRITTEN, is_registered: false }}"));
    }
}

#[test]
fn sockets_and_pipes_show_address_and_descriptor() {
    let listener = TcpListener::bind(loopback()).unwrap();
    let fd = if cfg!(windows) { "socket" } else { "fd" };
    let (address, number) = (listener.local_addr().unwrap(), raw(&listener));
    check(&listener, &format!("TcpListener {{ addr: {address}, {fd}: {number} }}"));
    let (stream, _peer) = tcp_pair();
    let (local, peer) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
    check(&stream, &format!("TcpStream {{ addr: {local}, peer: {peer}, {fd}: {} }}", raw(&stream)));
    let socket = UdpSocket::bind(loopback()).unwrap();
    check(&socket, &format!("UdpSocket {{ addr: {}, {fd}: {} }}", socket.local_addr().unwrap(), raw(&socket)));
    #[cfg(unix)]
    unix_sockets_and_pipes_show_their_descriptor();
}

#[cfg(unix)]
fn unix_sockets_and_pipes_show_their_descriptor() {
    let directory = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(directory.path().join("socket")).unwrap();
    let stream = kevio_pair().0;
    let datagram = UnixDatagram::unbound().unwrap();
    let sockets: [(&dyn Debug, &str, i32); 3] = [
        (&listener, "UnixListener", raw(&listener)),
        (&stream, "UnixStream", raw(&stream)),
        (&datagram, "UnixDatagram", raw(&datagram)),
    ];
    for (socket, name, fd) in sockets {
        // The text is that of std, whose form of the descriptor differs between releases.
        let text = format!("{socket:?}");
        assert!(text.starts_with(&format!("{name} {{ fd: ")) && text.contains(&format!("{fd}")), "{text}");
        assert!(text.contains("local: "), "{text}");
    }
    let (sender, receiver) = one_way();
    check(&sender, &format!("Sender {{ fd: {} }}", raw(&sender)));
    check(&receiver, &format!("Receiver {{ fd: {} }}", raw(&receiver)));
}

#[cfg(unix)]
#[test]
fn slots_of_a_pollset_are_listed() {
    let mut set = PollSet::new();
    set.grow(4).unwrap();
    check(&set, "[]");
    let (a, _b) = kevio_pair();
    let fd = raw(&a);
    set.set(2, fd, PollFlags::OUT).unwrap();
    check(&set, &format!("[Slot {{ index: 2, fd: {fd}, events: OUT, revents: PollFlags(empty) }}]"));
    assert_eq!(set.poll(4, None).unwrap(), 1);
    let slot = format!("Slot {{ index: 2, fd: {fd}, events: OUT, revents: OUT }}");
    check(&set.ready(), &format!("[{slot}]"));
    check(&set.get(2).unwrap(), &slot);
}

#[cfg(has_kqueue)]
#[test]
fn kqueue_records_are_written_by_name() {
    use kevio::unix::kqueue::{Filter, Flags, Kevent, Kqueue, TimerUnit, UserNotes, VnodeNotes};

    let kq = Kqueue::new().unwrap();
    check(&kq, &format!("Kqueue {{ fd: {} }}", raw(&kq)));
    check(&Flags::empty(), "Flags(empty)");
    check(&(Flags::ADD | Flags::CLEAR), "EV_ADD|EV_CLEAR");
    check(&VnodeNotes::empty(), "VnodeNotes(empty)");
    check(&Filter::VNODE, "EVFILT_VNODE");
    check(&TimerUnit::Seconds, "Seconds");
    let change = Kevent::user(3, Flags::ADD, UserNotes::TRIGGER).with_udata(0x10);
    let expected =
        "kevent { ident: 3, filter: EVFILT_USER, flags: EV_ADD, fflags: NOTE_TRIGGER, data: 0, udata: 0x10 }";
    check(&change, expected);
}

/// Returns the value of a field with a number. `None` if the text does not have the field.
fn number(text: &str, field: &str) -> Option<usize> {
    let (_, value) = text.split_once(&format!("{field}: "))?;
    let digits = value.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(digits.parse().unwrap())
}

#[test]
fn poll_and_registry_show_the_backend_and_their_sources() {
    let (poll, other) = (Poll::new().unwrap(), Poll::new().unwrap());
    let registry = poll.registry().try_clone().unwrap();
    let text = format!("{poll:?}");
    let id = number(&text, "Poll { id").unwrap();
    assert!(text.starts_with(&format!("Poll {{ id: {id}, backend: {:?}, ", kevio::BACKEND)), "{text}");
    check(&registry, &text.replacen("Poll", "Registry", 1));
    assert_ne!(number(&format!("{other:?}"), "id"), Some(id));
    // The descriptor is that of the queue. Only the traits mark the queue as used by other code.
    #[cfg(selector_has_fd)]
    assert_eq!(number(&text, "fd"), Some(raw(&poll) as usize));

    let waker = Waker::new(&registry, Token(7)).unwrap();
    check(&waker, &format!("Waker {{ token: Token(7), poll: {id}, is_woken: false }}"));
    waker.wake().unwrap();
    check(&waker, &format!("Waker {{ token: Token(7), poll: {id}, is_woken: true }}"));

    let mut timers = [(); 3].map(|()| Timer::after(Duration::from_secs(3600)).unwrap());
    for timer in &mut timers {
        registry.register(timer, Token(1), READ).unwrap();
    }
    let (mut a, _b) = kevio_pair();
    registry.register(&mut a, Token(2), READ).unwrap();
    #[cfg(unix)]
    let mut signals = Signals::new([libc::SIGURG]).unwrap();
    #[cfg(unix)]
    registry.register(&mut signals, Token(3), Interest::NONE).unwrap();
    let text = format!("{poll:?}");
    assert_eq!(number(&text, "timers"), Some(3), "{text}");
    assert_eq!(
        number(&text, "descriptors"),
        [Backend::Poll, Backend::Iocp].contains(&kevio::BACKEND).then_some(1),
        "{text}"
    );
    let signals_of = |text: &str| number(text, "filters").or_else(|| number(text, "user_sources"));
    assert_eq!(signals_of(&text), Some(usize::from(cfg!(unix))), "{text}");
    registry.deregister(&mut timers[0]).unwrap();
    registry.deregister(&mut a).unwrap();
    #[cfg(unix)]
    registry.deregister(&mut signals).unwrap();
    let text = format!("{poll:?}");
    assert_eq!((number(&text, "timers"), signals_of(&text)), (Some(2), Some(0)), "{text}");
    assert!(number(&text, "descriptors").unwrap_or(0) == 0, "{text}");
    assert!(text.len() < 120, "{text}");
}
