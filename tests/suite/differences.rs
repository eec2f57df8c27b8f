//! Each row of the table of differences in the crate docs, on the active backend.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use kevio::net::UdpSocket;
use kevio::{Backend, Interest, Poll, Registry, Timer, Token, Watch, BACKEND};
use socket2::{Domain, Socket, Type};

#[cfg(unix)]
use crate::support::files::{make_fifo, open_to_read, open_to_write};
use crate::support::known_failures::{is_kernel_kqueue, is_libkqueue};
use crate::support::net::{fill, listener, loopback, reset_on_close, tcp_pair};
use crate::support::poll::{TestPoll, BOTH, READ, TIMEOUT, WRITE};
use crate::support::readiness::{E, NONE, R, RC, W, WC};
use crate::support::streams::{borrow, closed_source, kevio_pair, one_way, raw, IoSource, SourceFd, NO_SOURCE};
use crate::support::system::{self, is_wine};

/// Returns `true` if the backend masks readiness that it has reported, until an operation re-arms the registration.
fn masks_readiness() -> bool {
    [Backend::Poll, Backend::Iocp].contains(&BACKEND)
}

#[test]
fn raw_descriptor_registered_twice_is_replaced_on_kqueue_only() {
    let mut poll = TestPoll::new();
    let (a, mut b) = kevio_pair();
    let fd = raw(&a);
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
fn raw_descriptor_without_inode_registered_twice_fails_on_epoll_only() {
    // SAFETY: no pointers; the descriptor has no other owner.
    let event = unsafe {
        let fd = libc::eventfd(1, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
        assert!(fd >= 0);
        <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd)
    };
    let mut poll = TestPoll::new();
    poll.register(&mut SourceFd(&raw(&event)), 1, READ);
    let again = poll.registry().register(&mut SourceFd(&raw(&event)), Token(2), READ);
    if BACKEND == Backend::Epoll {
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        poll.expect(1, R);
    } else {
        again.unwrap();
        poll.expect(2, R);
    }
}

#[test]
fn new_data_while_unread_is_reported_after_an_operation_on_poll() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
    b.write_all(b"x").unwrap();
    if masks_readiness() {
        poll.expect_no_events();
        // Any operation re-arms.
        assert_eq!(a.try_io(|| Ok(5)).unwrap(), 5);
    }
    poll.expect(1, R);
}

#[test]
fn raw_descriptor_left_ready_is_reported_again_on_poll() {
    let mut poll = TestPoll::new();
    let (a, mut b) = kevio_pair();
    poll.register(&mut SourceFd(&raw(&a)), 1, READ);
    b.write_all(b"x").unwrap();
    let start = Instant::now();
    poll.expect(1, R);
    if masks_readiness() {
        poll.expect(1, R);
        assert!(start.elapsed() >= Duration::from_millis(100), "{:?}", start.elapsed());
    } else {
        assert!(poll.poll_once(Some(Duration::from_millis(200))).is_empty());
    }
}

#[test]
fn readable_and_writable_are_two_events_on_kqueue() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    b.write_all(b"x").unwrap();
    poll.register(&mut a, 1, BOTH);
    poll.poll_once(Some(TIMEOUT));
    assert_eq!(poll.events.len(), if BACKEND == Backend::Kqueue { 2 } else { 1 }, "{:?}", poll.events);
}

/// The readiness that was reported before is in the second event of epoll only, which libkqueue uses.
#[test]
fn state_that_begins_later_is_a_second_event() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, BOTH);
    assert_eq!(poll.expect(1, W), W);
    b.write_all(b"x").unwrap();
    let is_epoll = BACKEND == Backend::Epoll || is_libkqueue();
    assert_eq!(poll.expect(1, R), if is_epoll { R | W } else { R });
}

#[test]
fn exclusive_is_supported_by_epoll_on_linux() {
    let poll = TestPoll::new();
    let (mut a, _b) = kevio_pair();
    let result = poll.registry().register(&mut a, Token(1), READ.exclusive());
    if BACKEND == Backend::Epoll && cfg!(any(target_os = "linux", target_os = "android")) {
        result.unwrap();
    } else {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Unsupported);
    }
}

#[test]
fn unconnected_stream_is_hung_up_on_linux_only() {
    let mut poll = TestPoll::new();
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let mut socket = IoSource::new(socket);
    poll.register(&mut socket, 1, BOTH);
    if cfg!(target_os = "linux") {
        poll.expect(1, R | W | RC | WC);
    } else if [Backend::Kqueue, Backend::Iocp].contains(&BACKEND) {
        poll.expect_no_events();
    }
}

/// A probe reports the source later, because an operation that fails again at once would make the loop spin.
#[test]
fn operation_without_a_free_descriptor_is_probed_on_poll() {
    const EMFILE: i32 = if cfg!(windows) { 10024 } else { 24 };

    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    b.write_all(b"x").unwrap();
    poll.expect(1, R);
    for _ in 0..2 {
        let start = Instant::now();
        let result = a.try_io(|| Err::<(), _>(std::io::Error::from_raw_os_error(EMFILE)));
        assert_eq!(result.unwrap_err().raw_os_error(), Some(EMFILE));
        if masks_readiness() {
            poll.expect(1, R);
            assert!(start.elapsed() >= Duration::from_millis(50), "{:?}", start.elapsed());
        } else {
            poll.expect_no_events();
        }
    }
}

#[test]
fn partial_read_is_reported_again_on_poll_only() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    b.write_all(b"two bytes").unwrap();
    poll.expect(1, R);
    assert_eq!(a.read(&mut [0; 2]).unwrap(), 2);
    if masks_readiness() {
        poll.expect(1, R);
    } else {
        poll.expect_no_events();
    }
}

#[cfg(unix)]
#[test]
fn dev_null_is_ready_or_rejected() {
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
    let mut poll = TestPoll::new();
    let result = poll.registry().register(&mut SourceFd(&raw(&null)), Token(1), BOTH);
    let expected = match BACKEND {
        Backend::Poll => None,
        Backend::Epoll => Some(libc::EPERM),
        _ if is_libkqueue() => Some(libc::EPERM),
        _ if cfg!(target_vendor = "apple") => Some(libc::EINVAL),
        _ if system::freebsd_release().is_some_and(|release| release <= 13) => Some(libc::ENODEV),
        _ => None,
    };
    assert_eq!(result.as_ref().err().and_then(std::io::Error::raw_os_error), expected);
    if result.is_ok() && cfg!(any(target_os = "netbsd", target_os = "openbsd", target_os = "linux")) {
        poll.expect(1, R | W);
    } else if result.is_ok() {
        poll.expect(1, W);
    }
}

#[test]
fn deregistering_a_closed_number_fails() {
    let poll = TestPoll::new();
    let fd = closed_source();
    let error = poll.registry().deregister(&mut SourceFd(&fd)).unwrap_err();
    if masks_readiness() || is_libkqueue() || cfg!(target_vendor = "apple") {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    } else {
        assert_eq!(error.raw_os_error(), NO_SOURCE);
    }
}

#[test]
fn udp_error_sets_error_except_on_kqueue() {
    let mut poll = TestPoll::new();
    let mut socket = UdpSocket::bind(loopback()).unwrap();
    let gone = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    socket.connect(gone).unwrap();
    poll.register(&mut socket, 1, READ);
    socket.send(b"request").unwrap();
    if is_wine() {
        // wine takes the error, and polls the socket no more (`aborted` in `sock_poll_event` of server/sock.c).
        poll.expect_no_events();
        assert_eq!(socket.recv(&mut [0; 4]).unwrap_err().kind(), ErrorKind::WouldBlock);
        return;
    }
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

/// Several open files can have the inode of a FIFO, so that poll(2) cannot detect that the descriptor is registered already.
#[cfg(unix)]
#[test]
fn raw_fifo_registered_twice_fails_on_epoll_only() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    make_fifo(&path);
    let fifo = open_to_read(&path);
    let mut poll = TestPoll::new();
    poll.register(&mut SourceFd(&raw(&fifo)), 1, READ);
    let again = poll.registry().register(&mut SourceFd(&raw(&fifo)), Token(2), READ);
    let mut writer = open_to_write(&path);
    writer.write_all(b"x").unwrap();
    if BACKEND == Backend::Epoll {
        assert_eq!(again.unwrap_err().kind(), ErrorKind::AlreadyExists);
        poll.expect(1, R);
    } else {
        again.unwrap();
        poll.expect(2, R);
    }
    // The FIFO is closed and opened again at the same number, and not registered again. libkqueue does not detect that.
    let mut poll = TestPoll::new();
    poll.register(&mut SourceFd(&raw(&fifo)), 1, READ);
    // SAFETY: no pointers; the test owns the number, which stays open.
    assert_eq!(unsafe { libc::dup2(raw(&open_to_read(&path)), raw(&fifo)) }, raw(&fifo));
    writer.write_all(b"x").unwrap();
    match BACKEND {
        Backend::Poll => drop(poll.expect(1, R)),
        _ if is_libkqueue() => {}
        _ => poll.expect_no_events(),
    }
}

/// A reset after a local shutdown of both directions.
#[test]
fn error_after_hang_up_is_reported_on_epoll_only() {
    let mut poll = TestPoll::new();
    let (mut a, b) = tcp_pair();
    poll.register(&mut a, 1, READ);
    a.shutdown(Shutdown::Both).unwrap();
    if is_wine() {
        // wine does not report the local shutdown of reading.
        poll.expect_no_events();
        return;
    }
    poll.expect_any(1, R);
    reset_on_close(&b);
    if is_linux() {
        // The peer's acknowledgement of the end may be an event of its own.
        poll.drain_events();
        drop(b);
        match BACKEND {
            Backend::Poll => poll.expect_no_events(),
            _ => drop(poll.expect(1, E)),
        }
        assert!(a.take_error().unwrap().is_some());
    }
}

/// poll(2) of NetBSD and OpenBSD reports no hints for sockets, and poll(2) of FreeBSD reports no errors.
#[test]
fn socket_hints_depend_on_the_system() {
    let mut poll = TestPoll::new();
    let (mut a, b) = tcp_pair();
    poll.register(&mut a, 1, READ);
    reset_on_close(&b);
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

/// Returns `true` on epoll or poll(2) of Linux; `false` on libkqueue.
fn is_linux() -> bool {
    BACKEND != Backend::Kqueue && cfg!(target_os = "linux")
}

#[test]
fn hang_up_reports_the_registered_direction_on_kqueue_only() {
    for (interest, filter) in [(READ, R | RC), (WRITE, W | WC)] {
        let mut poll = TestPoll::new();
        let (mut a, b) = kevio_pair();
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

#[cfg(unix)]
#[test]
fn broken_pipe_sets_error_on_linux_only() {
    let mut poll = TestPoll::new();
    let (mut writer, reader) = one_way();
    poll.register(&mut writer, 1, WRITE);
    drop(reader);
    let reported =
        poll.until(|reported| reported.get(&1).is_some_and(|reported| reported.has(WC)), || "its end".to_owned())[&1];
    if BACKEND == Backend::Kqueue || is_linux() {
        assert_eq!(reported.has(E), is_linux() || is_libkqueue(), "{reported:?}");
    }
}

#[test]
fn read_shutdown_of_peer_is_write_closed_on_some_kqueues() {
    let mut poll = TestPoll::new();
    let (mut a, b) = kevio_pair();
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

/// A read shutdown of NetBSD discards the unread data, and leaves the writer's count of the data. The next write corrects the
/// count, and activates no filter (uipc_usrreq.c `unp_send`).
#[test]
fn space_of_discarded_data_is_not_reported_by_kqueue_of_netbsd() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    fill(&mut a);
    assert_eq!(b.read(&mut [0; 100]).unwrap(), 100);
    b.shutdown(Shutdown::Read).unwrap();
    poll.register(&mut a, 1, WRITE);
    if cfg!(target_os = "netbsd") {
        // The space is less than the low-water mark.
        poll.expect_no_events();
        assert_eq!(a.write(b"x").unwrap(), 1);
        if BACKEND == Backend::Kqueue {
            poll.expect_no_events();
            // A registration evaluates the filter, and the data is written in any case.
            poll.reregister(&mut a, 1, WRITE);
        }
        poll.expect(1, W);
        assert!(fill(&mut a) > 4096);
    } else if is_kernel_kqueue() && matches!(system::freebsd_release(), Some(..=13)) {
        poll.expect(1, W);
        assert_eq!(a.write(b"x").unwrap(), 1);
    } else if cfg!(target_os = "linux") {
        poll.expect_no_events();
        assert_eq!(a.write(b"x").unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}

/// FreeBSD and NetBSD store an error without activating filters, so that only a filter that is added later fires. The next
/// operation returns the error once.
#[cfg(unix)]
#[test]
fn closed_datagram_peer_fails_the_next_send() {
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

#[cfg(unix)]
#[test]
fn full_queue_of_datagram_peer_blocks_or_fails_with_enobufs() {
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
        // The write filter tests the buffer of the sender, which is empty.
        assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS));
        poll.reregister(&mut a, 2, WRITE);
        assert_eq!(poll.expect(2, W), W);
        b.recv(&mut [0; 512]).unwrap();
        poll.expect_no_events();
        assert_eq!(a.send(&[0; 512]).unwrap(), 512);
    }
}

#[test]
fn shut_down_listener_is_reported_by_the_system() {
    let mut poll = TestPoll::new();
    let (mut listener, _) = listener();
    // Some systems fail with ENOTCONN.
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
fn mount_table_registers_except_on_kqueue() {
    let poll = TestPoll::new();
    let mounts = std::fs::File::open("/proc/self/mounts").unwrap();
    let result = poll.registry().register(&mut SourceFd(&raw(&mounts)), Token(1), READ);
    // poll(2) shows that a mount table is never writable, and shows no difference for the files of sysfs.
    let sysfs = std::fs::File::open("/sys/kernel/fscaps").ok();
    let of_sysfs = sysfs.map(|file| poll.registry().register(&mut SourceFd(&raw(&file)), Token(2), READ));
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
fn local_write_shutdown_is_write_closed_on_kqueue_only() {
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
fn priority_is_unsupported_without_its_filter() {
    let poll = TestPoll::new();
    let (mut a, _b) = tcp_pair();
    let without = is_libkqueue() || cfg!(any(target_os = "freebsd", target_os = "netbsd"));
    match poll.registry().register(&mut a, Token(1), Interest::PRIORITY) {
        Err(error) => assert!(error.kind() == ErrorKind::Unsupported && without && BACKEND == Backend::Kqueue),
        Ok(()) => assert!(!without || BACKEND != Backend::Kqueue),
    }
}

#[test]
fn closed_descriptor_with_open_copy_is_reported_on_epoll_only() {
    let mut poll = TestPoll::new();
    let (mut a, mut b) = kevio_pair();
    let copy = borrow(&a).try_clone_to_owned().unwrap();
    poll.register(&mut a, 1, READ);
    drop(a);
    b.write_all(b"x").unwrap();
    // libkqueue uses epoll.
    if BACKEND == Backend::Epoll || is_libkqueue() {
        poll.expect(1, R);
    } else {
        poll.expect_no_events();
    }
    drop(copy);
}

pub fn waits_in_nanoseconds() -> bool {
    #[cfg(target_os = "linux")]
    // SAFETY: the descriptor is -1, so that the kernel writes nothing.
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
fn short_wait_has_nanosecond_resolution() {
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

#[test]
fn timer_has_nanosecond_resolution() {
    // On other systems the lateness of a virtual machine's timers is unknown; the timer must not be early.
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

/// `IMPLEMENTED` of `Probe<T>` is `true` if `T` has the trait, because an inherent constant has precedence.
macro_rules! implements {
    ($type:ty, $trait:path) => {{
        #[allow(dead_code)] // A type of the trait needs no constant of `Fallback`, and another type needs no other constant.
        struct Probe<T: ?Sized>(std::marker::PhantomData<T>);
        #[allow(dead_code)]
        trait Fallback {
            const IMPLEMENTED: bool = false;
        }
        impl<T: ?Sized> Fallback for Probe<T> {}
        #[allow(dead_code)]
        impl<T: ?Sized + $trait> Probe<T> {
            const IMPLEMENTED: bool = true;
        }
        Probe::<$type>::IMPLEMENTED
    }};
}

#[test]
fn queue_has_a_descriptor_on_kqueue_and_epoll_only() {
    #[cfg(unix)]
    use std::os::fd::{AsFd as AsSource, AsRawFd as AsRawSource};
    #[cfg(windows)]
    use std::os::windows::io::{AsHandle, AsRawHandle, AsRawSocket as AsRawSource, AsSocket as AsSource};

    let has_fd = [Backend::Kqueue, Backend::Epoll].contains(&BACKEND);
    assert_eq!(implements!(Poll, AsRawSource), has_fd);
    assert_eq!(implements!(Registry, AsRawSource), has_fd);
    assert_eq!(implements!(Registry, AsSource), has_fd);
    #[cfg(windows)]
    assert!(!implements!(Poll, AsRawHandle) && !implements!(Registry, AsRawHandle) && !implements!(Registry, AsHandle));
}

#[test]
fn watch_is_supported_with_kqueue_inotify_or_windows() {
    let has_inotify = cfg!(any(target_os = "linux", target_os = "android")) && !cfg!(kevio_unsupported_force_fallbacks);
    let is_supported = has_inotify || [Backend::Kqueue, Backend::Iocp].contains(&BACKEND);
    match Watch::open(".") {
        Ok(_) => assert!(is_supported),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(!is_supported);
        }
    }
}
