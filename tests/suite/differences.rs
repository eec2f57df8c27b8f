//! Each row of the table of differences in the crate docs, as it is on the backend at hand.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use kevio::event::Event;
use kevio::net::{UdpSocket, UnixStream};
use kevio::unix::{IoSource, SourceFd};
use kevio::{Backend, Interest, Timer, Token, Waker, Watch, BACKEND};
use socket2::{Domain, Socket, Type};

use crate::support::blocked_thread::BlockedThread;
use crate::support::known_failures::{is_kernel_kqueue, is_libkqueue};
use crate::support::limits::closed_descriptor;
use crate::support::net::{listener, loopback, tcp_pair};
use crate::support::poll::{TestPoll, BOTH, READ, TIMEOUT, WRITE};
use crate::support::readiness::{E, NONE, R, RC, W, WC};
use crate::support::system;

#[test]
fn a_bare_descriptor_registered_twice() {
    let mut poll = TestPoll::new();
    let (a, mut b) = UnixStream::pair().unwrap();
    let fd = a.as_raw_fd();
    poll.register(&mut SourceFd(&fd), 1, READ);
    let again = poll.registry().register(&mut SourceFd(&fd), Token(2), READ);
    b.write_all(b"x").unwrap();
    if BACKEND == Backend::Kqueue {
        again.unwrap();
        poll.expect(2, R);
    } else {
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        poll.expect(1, R);
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
    let mut poll = TestPoll::new();
    poll.register(&mut SourceFd(&event.as_raw_fd()), 1, READ);
    let again = poll.registry().register(&mut SourceFd(&event.as_raw_fd()), Token(2), READ);
    if BACKEND == Backend::Epoll {
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        poll.expect(1, R);
    } else {
        again.unwrap();
        poll.expect(2, R);
    }
}

#[test]
fn more_data_while_what_was_reported_is_unread() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
    b.write_all(b"x").unwrap();
    if BACKEND == Backend::Poll {
        poll.expect_no_events();
        // Until there is an operation, whatever it is.
        assert_eq!(a.try_io(|| Ok(5)).unwrap(), 5);
    }
    poll.expect(1, R);
}

#[test]
fn a_bare_descriptor_left_ready() {
    let mut poll = TestPoll::new();
    let (a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut SourceFd(&a.as_raw_fd()), 1, READ);
    b.write_all(b"x").unwrap();
    let start = Instant::now();
    poll.expect(1, R);
    if BACKEND == Backend::Poll {
        poll.expect(1, R);
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    } else {
        assert!(poll.poll_once(Some(Duration::from_millis(200))).is_empty());
    }
}

#[test]
fn a_descriptor_both_readable_and_writable() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    b.write_all(b"x").unwrap();
    poll.register(&mut a, 1, BOTH);
    poll.poll_once(Some(TIMEOUT));
    assert_eq!(poll.events.len(), if BACKEND == Backend::Kqueue { 2 } else { 1 }, "{:?}", poll.events);
}

#[test]
fn the_exclusive_option() {
    let poll = TestPoll::new();
    let (mut a, _b) = UnixStream::pair().unwrap();
    let result = poll.registry().register(&mut a, Token(1), READ.exclusive());
    if BACKEND == Backend::Epoll && cfg!(any(target_os = "linux", target_os = "android")) {
        result.unwrap();
    } else {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn a_stream_socket_that_was_never_connected() {
    let mut poll = TestPoll::new();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut socket = IoSource::new(socket);
    poll.register(&mut socket, 1, BOTH);
    if cfg!(target_os = "linux") {
        poll.expect(1, R | W | RC | WC);
    } else if BACKEND == Backend::Kqueue {
        poll.expect_no_events();
    }
}

#[test]
fn a_read_that_leaves_something() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, READ);
    b.write_all(b"two bytes").unwrap();
    poll.expect(1, R);
    assert_eq!(a.read(&mut [0; 2]).unwrap(), 2);
    if BACKEND == Backend::Poll {
        poll.expect(1, R);
    } else {
        poll.expect_no_events();
    }
}

#[test]
fn a_device_that_is_always_ready() {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut poll = TestPoll::new();
    let result = poll.registry().register(&mut SourceFd(&null.as_raw_fd()), Token(1), BOTH);
    let refused = match BACKEND {
        Backend::Poll => None,
        Backend::Epoll => Some(libc::EPERM),
        _ if is_libkqueue() => Some(libc::EPERM),
        _ if cfg!(target_vendor = "apple") => Some(libc::EINVAL),
        _ if system::freebsd_release().is_some_and(|release| release <= 13) => Some(libc::ENODEV),
        _ => None,
    };
    assert_eq!(result.as_ref().err().and_then(std::io::Error::raw_os_error), refused);
    if result.is_ok() && cfg!(any(target_os = "netbsd", target_os = "openbsd", target_os = "linux")) {
        poll.expect(1, R | W);
    } else if result.is_ok() {
        poll.expect(1, W);
    }
}

#[test]
fn deregistering_a_number_that_was_closed() {
    let poll = TestPoll::new();
    let fd = closed_descriptor();
    let error = poll.registry().deregister(&mut SourceFd(&fd)).unwrap_err();
    if BACKEND == Backend::Poll || is_libkqueue() || cfg!(target_vendor = "apple") {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    } else {
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    }
}

#[test]
fn an_error_on_udp() {
    let mut poll = TestPoll::new();
    let mut socket = UdpSocket::bind(loopback()).unwrap();
    let gone = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    socket.connect(gone).unwrap();
    poll.register(&mut socket, 1, READ);
    socket.send(b"anybody?").unwrap();
    let reported = poll.expect(1, R);
    if is_kernel_kqueue() {
        assert_eq!(reported & (E | RC | WC), NONE);
    } else if cfg!(target_os = "linux") {
        assert!(reported.has(E), "{reported:?}");
    }
    poll.reregister(&mut socket, 2, BOTH);
    let reported = poll.expect(2, W);
    if is_linux() {
        assert_eq!(reported, W | WC | E);
    } else if is_kernel_kqueue() {
        poll.reregister(&mut socket, 3, BOTH);
        poll.expect(3, R | W);
    }
}

/// The file of a FIFO is not its own: another open file may have the same number, and poll(2) would not know.
#[test]
fn a_bare_fifo_registered_twice() {
    use std::os::unix::fs::OpenOptionsExt;

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
    // SAFETY: a string that ends with a zero byte.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let open = || std::fs::File::options().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let fifo = open();
    let mut poll = TestPoll::new();
    poll.register(&mut SourceFd(&fifo.as_raw_fd()), 1, READ);
    let again = poll.registry().register(&mut SourceFd(&fifo.as_raw_fd()), Token(2), READ);
    let mut writer = std::fs::File::options().write(true).open(&path).unwrap();
    writer.write_all(b"x").unwrap();
    if BACKEND == Backend::Epoll {
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        poll.expect(1, R);
    } else {
        again.unwrap();
        poll.expect(2, R);
    }
    // Closed and opened again at the same number, and not registered again. libkqueue sees no descriptor close.
    let mut poll = TestPoll::new();
    poll.register(&mut SourceFd(&fifo.as_raw_fd()), 1, READ);
    // SAFETY: no pointers; the number is this test's own and stays open.
    assert_eq!(unsafe { libc::dup2(open().as_raw_fd(), fifo.as_raw_fd()) }, fifo.as_raw_fd());
    writer.write_all(b"x").unwrap();
    match BACKEND {
        Backend::Poll => drop(poll.expect(1, R)),
        _ if is_libkqueue() => {}
        _ => poll.expect_no_events(),
    }
}

/// A reset after both directions were shut down here.
#[test]
fn an_error_of_a_socket_that_has_hung_up() {
    let mut poll = TestPoll::new();
    let (mut a, b) = tcp_pair();
    poll.register(&mut a, 1, READ);
    a.shutdown(Shutdown::Both).unwrap();
    poll.expect_any(1, R);
    socket2::SockRef::from(&b).set_linger(Some(Duration::ZERO)).unwrap();
    if is_linux() {
        poll.expect_no_events();
        drop(b);
        match BACKEND {
            Backend::Poll => poll.expect_no_events(),
            _ => drop(poll.expect(1, E)),
        }
        assert!(a.take_error().unwrap().is_some());
    }
}

/// poll(2) of NetBSD and OpenBSD gives no hints of sockets, and that of FreeBSD none of errors.
#[test]
fn the_hints_of_a_socket() {
    let mut poll = TestPoll::new();
    let (mut a, b) = tcp_pair();
    poll.register(&mut a, 1, READ);
    socket2::SockRef::from(&b).set_linger(Some(Duration::ZERO)).unwrap();
    drop(b);
    let reported = poll.expect(1, R);
    if BACKEND == Backend::Poll && cfg!(any(target_os = "netbsd", target_os = "openbsd")) {
        assert_eq!(reported, R);
    } else if BACKEND == Backend::Poll && cfg!(target_os = "freebsd") {
        assert_eq!(reported, R | W | RC | WC);
    } else if is_linux() {
        assert_eq!(reported, R | W | RC | WC | E);
    }
}

/// epoll or poll(2), and not libkqueue.
fn is_linux() -> bool {
    BACKEND != Backend::Kqueue && cfg!(target_os = "linux")
}

#[test]
fn a_hang_up_and_one_direction() {
    for (interest, filter) in [(READ, R | RC), (WRITE, W | WC)] {
        let mut poll = TestPoll::new();
        let (mut a, b) = UnixStream::pair().unwrap();
        drop(b);
        poll.register(&mut a, 1, interest);
        let reported = poll.expect_any(1, R | W);
        if is_kernel_kqueue() {
            assert_eq!(reported, filter);
        } else if is_linux() {
            assert_eq!(reported, R | W | RC | WC);
        }
    }
}

#[test]
fn a_pipe_without_a_reader() {
    let mut poll = TestPoll::new();
    let (mut writer, reader) = kevio::unix::pipe::new().unwrap();
    poll.register(&mut writer, 1, WRITE);
    drop(reader);
    let reported =
        poll.until(|reported| reported.get(&1).is_some_and(|reported| reported.has(WC)), || "its end".to_owned())[&1];
    if BACKEND == Backend::Kqueue || is_linux() {
        assert_eq!(reported.has(E), is_linux() || is_libkqueue(), "{reported:?}");
    }
}

#[test]
fn a_peer_that_shut_down_reading() {
    let mut poll = TestPoll::new();
    let (mut a, b) = UnixStream::pair().unwrap();
    poll.register(&mut a, 1, WRITE);
    poll.expect(1, W);
    b.shutdown(Shutdown::Read).unwrap();
    if is_kernel_kqueue() && system::reports_read_shutdown_of_peer() {
        poll.expect(1, W | WC);
    } else if is_kernel_kqueue() {
        poll.expect_without(1, WC);
    } else if cfg!(target_os = "linux") {
        poll.expect_without(1, WC);
        assert_eq!(a.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

/// FreeBSD and NetBSD store an error and wake nothing, so a filter that is added later finds it. The next operation returns
/// it, once.
#[test]
fn a_datagram_socket_whose_peer_has_closed() {
    let keeps_an_error = is_kernel_kqueue() && cfg!(any(target_os = "freebsd", target_os = "netbsd"));
    let mut poll = TestPoll::new();
    let (mut a, b) = kevio::net::UnixDatagram::pair().unwrap();
    poll.register(&mut a, 1, BOTH);
    poll.expect(1, W);
    drop(b);
    if cfg!(target_os = "linux") {
        poll.expect_without(1, R | RC | WC | E);
    }
    if keeps_an_error {
        poll.expect_no_events();
        poll.reregister(&mut a, 2, BOTH);
        assert_eq!(poll.expect(2, R | W), R | W);
        assert_eq!(a.send(b"x").unwrap_err().kind(), ErrorKind::ConnectionReset);
        poll.reregister(&mut a, 3, BOTH);
        assert_eq!(poll.expect(3, W), W);
    }
    assert!(a.send(b"x").is_err());
}

#[test]
fn a_datagram_socket_whose_peers_queue_is_full() {
    let mut poll = TestPoll::new();
    let (mut a, b) = kevio::net::UnixDatagram::pair().unwrap();
    poll.register(&mut a, 1, WRITE);
    poll.expect(1, W);
    let error = loop {
        if let Err(error) = a.send(&[0; 512]) {
            break error;
        }
    };
    if cfg!(target_os = "linux") {
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
        poll.reregister(&mut a, 2, WRITE);
        poll.expect_no_events();
    } else {
        assert!(matches!(error.raw_os_error(), Some(libc::ENOBUFS | libc::EAGAIN)), "{error}");
    }
    if is_kernel_kqueue() && cfg!(any(target_os = "freebsd", target_os = "netbsd")) {
        // The write filter is about the sender's own buffer, which holds nothing.
        assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
        poll.reregister(&mut a, 2, WRITE);
        assert_eq!(poll.expect(2, W), W);
        b.recv(&mut [0; 512]).unwrap();
        poll.expect_no_events();
        assert_eq!(a.send(&[0; 512]).unwrap(), 512);
    }
}

#[test]
fn a_listener_that_was_shut_down() {
    let mut poll = TestPoll::new();
    let (mut listener, _) = listener();
    // Some systems say ENOTCONN, and do nothing.
    let _ = socket2::SockRef::from(&listener).shutdown(Shutdown::Both);
    poll.register(&mut listener, 1, READ);
    if is_linux() {
        poll.expect(1, R | W | RC | WC);
    } else if is_kernel_kqueue() && cfg!(target_os = "freebsd") {
        assert_eq!(poll.expect(1, R), R | RC | E);
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::ConnectionAborted);
    } else if is_kernel_kqueue() && cfg!(target_os = "netbsd") {
        poll.expect_no_events();
        assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_file_that_can_be_waited_for() {
    let poll = TestPoll::new();
    let mounts = std::fs::File::open("/proc/self/mounts").unwrap();
    let result = poll.registry().register(&mut SourceFd(&mounts.as_raw_fd()), Token(1), READ);
    // poll(2) shows that a mount table is never writable; of the files of sysfs it shows nothing.
    let sysfs = std::fs::File::open("/sys/kernel/fscaps").ok();
    let of_sysfs = sysfs.map(|file| poll.registry().register(&mut SourceFd(&file.as_raw_fd()), Token(2), READ));
    match BACKEND {
        Backend::Kqueue => assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM)),
        Backend::Epoll | Backend::Poll => result.unwrap(),
        other => panic!("{other}"),
    }
    if let (Some(result), true) = (of_sysfs, BACKEND == Backend::Poll) {
        assert_eq!(result.unwrap_err().raw_os_error(), Some(libc::EPERM));
    }
}

#[test]
fn shutting_down_writing_here() {
    let mut poll = TestPoll::new();
    let (mut a, _b) = tcp_pair();
    poll.register(&mut a, 1, WRITE);
    poll.expect(1, W);
    a.shutdown(Shutdown::Write).unwrap();
    if is_kernel_kqueue() {
        poll.expect(1, W | WC);
    } else {
        poll.expect_without(1, WC);
    }
}

#[test]
fn the_priority_interest() {
    let poll = TestPoll::new();
    let (mut a, _b) = tcp_pair();
    let without = is_libkqueue() || cfg!(any(target_os = "freebsd", target_os = "netbsd"));
    match poll.registry().register(&mut a, Token(1), Interest::PRIORITY) {
        Err(error) => assert!(error.kind() == ErrorKind::Unsupported && without && BACKEND == Backend::Kqueue),
        Ok(()) => assert!(!without || BACKEND != Backend::Kqueue),
    }
}

#[test]
fn a_registered_descriptor_closed_while_a_copy_is_open() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    let copy = a.as_fd().try_clone_to_owned().unwrap();
    poll.register(&mut a, 1, READ);
    drop(a);
    b.write_all(b"x").unwrap();
    // libkqueue is epoll underneath.
    if BACKEND == Backend::Epoll || is_libkqueue() {
        poll.expect(1, R);
    } else {
        poll.expect_no_events();
    }
    drop(copy);
}

pub fn waits_in_nanoseconds() -> bool {
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
    let mut poll = TestPoll::new();
    let shortest = (0..200)
        .map(|_| {
            let start = Instant::now();
            assert!(poll.poll_once(Some(Duration::from_micros(200))).is_empty());
            start.elapsed()
        })
        .min()
        .unwrap();
    assert!(shortest >= Duration::from_micros(200) && shortest < Duration::from_millis(1), "{shortest:?}");
}

/// Whether each timer is a descriptor of the kernel's that keeps the time.
fn is_timerfd() -> bool {
    let has = cfg!(any(target_os = "linux", target_os = "android", target_os = "illumos"));
    BACKEND != Backend::Kqueue && has && !cfg!(kevio_unsupported_force_fallbacks)
}

#[test]
fn a_periodic_timer_that_is_never_asked() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::every(Duration::from_millis(2)).unwrap();
    poll.register(&mut timer, 1, READ);
    poll.expect(1, R);
    if BACKEND == Backend::Kqueue {
        for _ in 0..3 {
            poll.expect(1, R);
        }
        return;
    }
    assert!(poll.poll_once(Some(Duration::from_millis(20))).is_empty());
    // All are counted.
    poll.reregister(&mut timer, 2, Interest::NONE);
    timer.set_every(Duration::from_millis(2)).unwrap();
    poll.reregister(&mut timer, 3, READ);
    poll.expect(3, R);
    let event = poll.events.iter().next().unwrap().clone();
    // Ten more periods, in which nobody asks.
    std::thread::sleep(Duration::from_millis(20));
    assert!(timer.expirations(&event).unwrap() >= 9);
}

#[test]
fn a_source_asked_again_with_the_same_event() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::after(Duration::ZERO).unwrap();
    poll.register(&mut timer, 1, READ);
    poll.expect(1, R);
    let event = poll.events.iter().next().unwrap();
    assert_eq!(timer.expirations(event).unwrap(), 1);
    let again = if BACKEND == Backend::Kqueue { 1 } else { 0 };
    assert_eq!(timer.expirations(event).unwrap(), again);
}

#[test]
fn a_timer_set_by_another_thread_during_a_wait() {
    let mut poll = TestPoll::new();
    let mut timer = Timer::new().unwrap();
    poll.register(&mut timer, 1, READ);
    let far = Duration::from_secs(3600);
    let waker = Waker::new(poll.registry(), Token(2)).unwrap();
    let blocked_thread = BlockedThread::current();
    std::thread::scope(|scope| {
        let timer = scope.spawn(|| {
            blocked_thread.wait_until_blocked();
            timer.set_after(far).unwrap();
            waker.wake().unwrap();
            &mut timer
        });
        let mut events = Vec::new();
        while !events.iter().any(|event: &Event| event.token() == Token(2)) {
            assert!(!poll.poll_once(Some(TIMEOUT)).is_empty(), "the waker was not heard");
            events.extend(poll.events.iter().cloned());
        }
        events.retain(|event| event.token() == Token(1));
        assert_eq!(events.is_empty(), BACKEND == Backend::Kqueue || is_timerfd(), "{events:?}");
        let timer = timer.join().unwrap();
        for event in events {
            assert_eq!(timer.expirations(&event).unwrap(), 0);
        }
    });
}

#[test]
fn the_shortest_time_of_a_timer() {
    // Where it is not known how late a virtual machine's timers are, only that it is not early.
    let is_fine = cfg!(target_os = "linux") && waits_in_nanoseconds();
    let mut poll = TestPoll::new();
    let mut timer = Timer::new().unwrap();
    poll.register(&mut timer, 1, READ);
    let shortest = (0..200)
        .map(|_| {
            let start = Instant::now();
            timer.set_after(Duration::from_micros(200)).unwrap();
            poll.expect(1, R);
            start.elapsed()
        })
        .min()
        .unwrap();
    assert!(shortest >= Duration::from_micros(200), "{shortest:?}");
    assert!(!is_fine || shortest < Duration::from_millis(1), "{shortest:?}");
}

#[test]
fn what_tells_of_files() {
    let has_inotify = cfg!(any(target_os = "linux", target_os = "android")) && !cfg!(kevio_unsupported_force_fallbacks);
    match Watch::open(".") {
        Ok(_) => assert!(BACKEND == Backend::Kqueue || has_inotify),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(BACKEND != Backend::Kqueue && !has_inotify);
        }
    }
}
