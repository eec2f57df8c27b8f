//! Names, traits and debug output on which programs that were written for mio depend.

use std::fmt::Debug;
use std::io::{Read, Write};
#[cfg(unix)]
use std::os::unix::net as std_unix;
use std::panic::{RefUnwindSafe, UnwindSafe};

use kevio::event::{Event, Iter, Source};
#[cfg(unix)]
use kevio::net::UnixDatagram;
use kevio::net::{TcpListener, TcpStream, UdpSocket, UnixListener, UnixStream};
use kevio::{Events, Interest, Poll, Registry, Token, Waker};

use crate::support::net::{listener, loopback};
use crate::support::poll::{TestPoll, BOTH, READ, WRITE};
use crate::support::readiness::{R, W};
use crate::support::streams::{
    kevio_pair, raw, AsRawSource, AsSource, FromRawSource, IntoRawSource, IoSource, OwnedSource, RawSource, SourceFd,
    StdStream,
};

#[test]
fn public_types_implement_expected_traits() {
    fn descriptor<T>()
    where
        T: AsSource + AsRawSource + FromRawSource + IntoRawSource + From<OwnedSource> + Source + Debug + Send + Sync,
        OwnedSource: From<T>,
    {
    }
    fn std_type<T>()
    where
        T: From<TcpStream>,
    {
    }
    fn thread_safe<T: Send + Sync + Debug + UnwindSafe + RefUnwindSafe>() {}
    fn source<T: Source + ?Sized>() {}
    fn stream<T: Read + Write>() {}

    descriptor::<TcpListener>();
    descriptor::<TcpStream>();
    descriptor::<UdpSocket>();
    descriptor::<UnixListener>();
    descriptor::<UnixStream>();
    #[cfg(unix)]
    {
        use kevio::unix::pipe;

        descriptor::<UnixDatagram>();
        descriptor::<pipe::Sender>();
        descriptor::<pipe::Receiver>();
        let _: fn(UnixStream) -> std_unix::UnixStream = Into::into;
        let _: fn(UnixListener) -> std_unix::UnixListener = Into::into;
        let _: fn(UnixDatagram) -> std_unix::UnixDatagram = Into::into;
        let _: fn(std::process::ChildStdin) -> pipe::Sender = Into::into;
        let _: fn(std::process::ChildStdout) -> pipe::Receiver = Into::into;
        let _: fn(std::process::ChildStderr) -> pipe::Receiver = Into::into;
    }

    std_type::<std::net::TcpStream>();
    let _: fn(TcpListener) -> std::net::TcpListener = Into::into;
    let _: fn(UdpSocket) -> std::net::UdpSocket = Into::into;
    stream::<TcpStream>();
    stream::<&TcpStream>();
    stream::<UnixStream>();
    stream::<&UnixStream>();

    thread_safe::<Poll>();
    thread_safe::<Registry>();
    thread_safe::<Waker>();
    thread_safe::<Events>();
    thread_safe::<Event>();
    thread_safe::<Interest>();
    thread_safe::<Token>();
    thread_safe::<IoSource<OwnedSource>>();
    thread_safe::<Iter<'_>>();

    source::<dyn Source>();
    source::<Box<dyn Source>>();
    source::<Box<TcpStream>>();
    source::<SourceFd<'_>>();
    source::<IoSource<OwnedSource>>();
}

/// Each number is the size of a field. A program with many connections has a source or two, and often a timer, for each.
#[test]
#[cfg(target_pointer_width = "64")]
fn sizes_are_those_of_the_fields() {
    use std::mem::size_of;
    use std::time::Instant;

    use kevio::Timer;

    const POINTER: usize = 8;
    /// The descriptor, the interest and the owner in one word; on poll(2) a pointer to the entry of the table.
    const REGISTRATION: usize = 8;
    const POLL_ID: usize = 4;
    const FD: usize = size_of::<RawSource>();
    // A socket of Windows has 8 bytes, so that padding follows the identifier.
    const SUM: usize = (REGISTRATION + POLL_ID + FD + FD - 1) / FD * FD;
    assert_eq!(size_of::<IoSource<OwnedSource>>(), SUM);
    assert_eq!(size_of::<TcpStream>(), size_of::<IoSource<OwnedSource>>());
    #[cfg(unix)]
    assert_eq!(size_of::<UnixDatagram>(), size_of::<IoSource<OwnedSource>>());
    assert_eq!(size_of::<Option<Interest>>(), size_of::<Interest>());
    // The shared state of the poll, and the node of the list of woken wakers.
    assert_eq!(size_of::<Waker>(), 2 * POINTER);
    // A buffer of records: its address, capacity and length.
    assert_eq!(size_of::<Events>(), 3 * POINTER);
    // The record of the kernel, without another byte.
    #[cfg(kevio_selector = "kqueue")]
    let record = size_of::<kevio::unix::kqueue::Kevent>();
    #[cfg(kevio_selector = "epoll")]
    let record = size_of::<libc::epoll_event>();
    // The token, the bits of poll(2) or of the crate, and the setting of a timer.
    #[cfg(any(kevio_selector = "poll", kevio_selector = "iocp"))]
    let record = size_of::<Token>() + 8;
    assert_eq!(size_of::<Event>(), record);
    // The time of expiry or the period with a tag, and the start of the first period.
    let schedule = (size_of::<Instant>() + POINTER) + size_of::<Instant>();
    // The poll, its identifier with the slot in the queue, and the token.
    let registration = POINTER + (POLL_ID + 4) + POINTER;
    // The set of past tokens; the generation of the process, and whether the timer has expired, with padding.
    assert_eq!(size_of::<Timer>(), schedule + registration + 8 + 8);
}

#[test]
fn debug_output_matches_mio() {
    assert_eq!(format!("{:?}", Token(1)), "Token(1)");
    assert_eq!(format!("{BOTH:?}"), "READABLE | WRITABLE");
    assert_eq!(format!("{:?}", Interest::PRIORITY | Interest::LIO | Interest::AIO), "PRIORITY | AIO | LIO");
    let mut poll = TestPoll::new();
    let (a, _b) = kevio_pair();
    let mut a = a;
    poll.register(&mut a, 5, WRITE);
    poll.expect(5, W);
    let event = poll.events.iter().next().unwrap();
    let words: String = format!("{event:#?}").split_whitespace().collect();
    let expected =
        "Event{token:Token(5,),readable:false,writable:true,error:false,read_closed:false,write_closed:false,\
                    priority:false,aio:false,lio:false,details:";
    assert!(words.starts_with(expected), "{words}");
    let std = StdStream::from(a);
    assert_eq!(format!("{:?}", IoSource::new(raw(&std))), format!("{:?}", raw(&std)));
}

#[test]
fn backend_name_matches_configuration() {
    let name = if cfg!(windows) {
        "iocp"
    } else if cfg!(any(kevio_backend = "poll", mio_unsupported_force_poll_poll)) {
        "poll"
    } else if cfg!(kevio_backend = "kqueue") {
        "kqueue"
    } else if cfg!(any(kevio_backend = "epoll", target_os = "linux")) {
        "epoll"
    } else {
        kevio::BACKEND.name()
    };
    assert_eq!((kevio::BACKEND.name(), kevio::BACKEND.to_string()), (name, name.to_owned()));
}

#[test]
fn interests_combine_and_remove() {
    let mut interest = READ;
    interest |= WRITE;
    assert_eq!(interest, BOTH);
    assert_eq!(interest.remove(READ), Some(WRITE));
    assert_eq!(interest.remove(BOTH), None);
    assert!(Interest::AIO.is_aio() && Interest::LIO.is_lio() && Interest::PRIORITY.is_priority());
    assert!(!Interest::PRIORITY.is_readable() && !READ.is_writable());
}

#[test]
fn event_iterator_returns_exact_length() {
    let mut poll = TestPoll::new();
    let mut pairs: Vec<_> = (0..3).map(|_| kevio_pair()).collect();
    for (token, (a, _)) in pairs.iter_mut().enumerate() {
        poll.register(a, token, WRITE);
    }
    poll.until(|reported| reported.len() == 3, || "three".to_owned());
    // All sources were ready before the first poll, and the buffer holds all of them.
    assert_eq!((poll.events.len(), poll.events.is_empty()), (3, false));
    let mut iter = poll.events.iter();
    assert_eq!((iter.size_hint(), iter.len()), ((3, Some(3)), 3));
    iter.next();
    assert_eq!((iter.size_hint(), iter.len(), iter.clone().count()), ((2, Some(2)), 2, 2));
    assert_eq!(iter.by_ref().count(), 2);
    assert!(iter.next().is_none() && iter.next().is_none());
    poll.events.clear();
    assert!(poll.events.is_empty());
}

#[test]
fn every_token_is_reported_unchanged() {
    for token in [0, 1, usize::MAX - 1, usize::MAX] {
        let mut poll = TestPoll::new();
        let (mut a, _b) = kevio_pair();
        poll.register(&mut a, token, WRITE);
        poll.expect(token, W);
    }
}

#[test]
fn boxed_source_registers_as_source() {
    let mut poll = TestPoll::new();
    let (a, _b) = kevio_pair();
    let mut boxed: Box<dyn Source> = Box::new(a);
    poll.register(&mut boxed, 1, WRITE);
    poll.expect(1, W);
    poll.reregister(&mut boxed, 2, WRITE);
    poll.expect(2, W);
    poll.deregister(&mut boxed);
    poll.expect_no_events();
}

#[cfg(unix)]
#[test]
fn new_descriptors_are_nonblocking_and_close_on_exec() {
    fn check(name: &str, fd: &impl AsRawSource) {
        // SAFETY: fcntl with commands that take no pointer.
        let (flags, status) = unsafe { (libc_fcntl(fd, libc::F_GETFD), libc_fcntl(fd, libc::F_GETFL)) };
        assert_ne!(flags & libc::FD_CLOEXEC, 0, "{name} stays open in children");
        assert_ne!(status & libc::O_NONBLOCK, 0, "{name} blocks");
    }
    unsafe fn libc_fcntl(fd: &impl AsRawSource, command: libc::c_int) -> libc::c_int {
        // SAFETY: guaranteed by the caller.
        unsafe { libc::fcntl(raw(fd), command) }
    }

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("listener");
    let (tcp_listener, address) = listener();
    let client = TcpStream::connect(address).unwrap();
    let unix_listener = UnixListener::bind(&path).unwrap();
    let unix_client = UnixStream::connect(&path).unwrap();
    let (a, b) = kevio_pair();
    let (c, d) = UnixDatagram::pair().unwrap();
    let (sender, receiver) = kevio::unix::pipe::new().unwrap();

    check("TcpListener", &tcp_listener);
    check("TcpStream", &client);
    check("UdpSocket", &UdpSocket::bind(loopback()).unwrap());
    check("UnixListener", &unix_listener);
    check("UnixStream", &unix_client);
    check("accepted UnixStream", &unix_listener.accept().unwrap().0);
    for fd in [raw(&a), raw(&b), raw(&c), raw(&d)] {
        check("a pair", &fd);
    }
    check("UnixDatagram", &UnixDatagram::unbound().unwrap());
    check("Sender", &sender);
    check("Receiver", &receiver);

    let mut poll = TestPoll::new();
    let mut tcp_listener = tcp_listener;
    poll.register(&mut tcp_listener, 1, READ);
    poll.expect(1, R);
    check("accepted TcpStream", &tcp_listener.accept().unwrap().0);
    sender.set_nonblocking(false).unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { libc_fcntl(&sender, libc::F_GETFL) } & libc::O_NONBLOCK, 0);
}
