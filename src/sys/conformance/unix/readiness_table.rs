//! The readiness table: the readiness that is reported when a descriptor is registered, for every situation.
//!
//! The Linux column lists exactly what epoll and poll(2) on Linux report. The kqueue column lists what a kqueue of a kernel
//! must report; the kqueue may also report the Linux column. A backend without a column (poll(2) of another system,
//! libkqueue) must report what both columns have, and nothing that neither column has. Known exceptions of a system are
//! listed below. The table of differences in the crate docs describes the differences between the columns.

use socket2::SockRef;
use std::any::Any;

use super::*;

/// A descriptor, and the values that keep its situation.
type Fixture = (OwnedFd, Vec<Box<dyn Any>>);

struct Row {
    situation: &'static str,
    /// Creates the situation; `None` if this system does not support it.
    make: fn() -> Option<Fixture>,
    /// The readiness on Linux if registered for reading, writing and urgent data; for reading; for writing.
    linux: [ReadinessSet; 3],
    kqueue: Kqueue,
}

/// The kqueue column: the filters that fire.
#[derive(Copy, Clone)]
enum Kqueue {
    /// The read filter and the write filter, each if registered.
    Filters(ReadinessSet, ReadinessSet),
    /// The filter of the direction that the descriptor has; the other is an error on some systems.
    Reader(ReadinessSet),
    Writer(ReadinessSet),
    /// Registering fails with this error.
    Rejected(i32),
    /// The result depends on the system.
    Any,
}
use self::Kqueue::{Any as Depends, Filters, Reader, Rejected, Writer};

/// A terminal whose master has closed: see the table of differences.
fn hung_up_terminal() -> Kqueue {
    match () {
        () if cfg!(target_os = "freebsd") => Rejected(libc::ENXIO),
        () if cfg!(target_os = "netbsd") => Reader(NONE),
        () => Reader(R | RC),
    }
}

/// The readiness of a Unix stream whose peer has shut down reading: see the table of differences.
fn read_shutdown_of_peer() -> ReadinessSet {
    if reports_read_shutdown_of_peer() {
        W | WC
    } else {
        W
    }
}

fn table() -> Vec<Row> {
    let row = |situation, linux, kqueue, make| Row { situation, make, linux, kqueue };
    let hup = [R | W | RC | WC; 3];
    let quiet = [NONE; 3];
    let writable = [W, NONE, W];
    let data = [R | W, R, W];
    let half = [R | W | RC, R | RC, W];
    let end = Filters(R | RC, W | WC);
    // POLLERR alone is readable too: if registered for reading, or if not writable.
    let error_of_writing = [W | WC | E, R | W | WC | E, W | WC | E];
    let broken = [R | W | RC | WC | E; 3];
    let failed = Filters(R | RC | E, W | WC | E);
    let none = Filters(NONE, NONE);
    vec![
        row("TCP, never connected", hup, none, || fixture(tcp_socket(), [])),
        row("TCP, bound", hup, none, || {
            let socket = tcp_socket();
            socket.bind(&loopback().into()).unwrap();
            fixture(socket, [])
        }),
        row("listener, idle", quiet, none, || fixture(TcpListener::bind(loopback()).unwrap(), [])),
        row("listener, a connection", [R, R, NONE], Filters(R, NONE), || {
            let listener = TcpListener::bind(loopback()).unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            fixture(listener, [keep(client)])
        }),
        row("connect in progress", quiet, none, connecting),
        row("TCP, idle", writable, Filters(NONE, W), || tcp(|_, _| {})),
        row("refused", broken, if cfg!(target_os = "freebsd") { end } else { failed }, || fixture(refused(), [])),
        row("refused, error fetched", hup, end, || {
            let socket = refused();
            // On FreeBSD connect(2) has returned the error.
            assert!(socket.take_error().unwrap().is_some() || cfg!(target_os = "freebsd"));
            fixture(socket, [])
        }),
        row("TCP, data", data, Filters(R, W), || tcp(|_, mut b| b.write_all(b"x").unwrap())),
        row("TCP, the peer shut down writing", half, Filters(R | RC, W), || tcp(|_, b| shut(b, Shutdown::Write))),
        row("TCP, the same with data", half, Filters(R | RC, W), || {
            tcp(|_, mut b| {
                b.write_all(b"x").unwrap();
                shut(b, Shutdown::Write);
            })
        }),
        row("TCP, the peer closed", half, Filters(R | RC, W), || {
            let (a, b) = tcp_pair();
            drop(b);
            fixture(a, [])
        }),
        row("TCP, shut down writing here", writable, Filters(NONE, W | WC), || tcp(|a, _| shut(a, Shutdown::Write))),
        row("TCP, shut down reading here", half, Filters(R | RC, W), || tcp(|a, _| shut(a, Shutdown::Read))),
        row("TCP, both here", hup, end, || tcp(|a, _| shut(a, Shutdown::Both))),
        row("TCP, writing on both sides", hup, end, || {
            tcp(|a, b| {
                shut(a, Shutdown::Write);
                shut(b, Shutdown::Write);
            })
        }),
        row("reset", broken, failed, || fixture(reset(), [])),
        row("reset, error fetched", hup, end, || {
            let stream = reset();
            assert!(stream.take_error().unwrap().is_some());
            fixture(stream, [])
        }),
        row("TCP, full", quiet, none, || tcp(|a, _| fill_for_good(a))),
        row("urgent data", [R | W | P, NONE, W], Depends, || {
            tcp(|_, b| assert_eq!(SockRef::from(b).send_out_of_band(b"!").unwrap(), 1))
        }),
        row("listener, shut down", hup, Depends, || {
            let listener = TcpListener::bind(loopback()).unwrap();
            // Some systems fail with ENOTCONN.
            let _ = SockRef::from(&listener).shutdown(Shutdown::Both);
            fixture(listener, [])
        }),
        row("UDP, idle", writable, Filters(NONE, W), || udp(|_, _| {})),
        row("UDP, a datagram", data, Filters(R, W), || udp(|_, b| assert_eq!(b.send(b"x").unwrap(), 1))),
        row("UDP, an empty datagram", data, Filters(R, W), || udp(|_, b| assert_eq!(b.send(b"").unwrap(), 0))),
        row("UDP, closed port", error_of_writing, Filters(R, W), || fixture(udp_to_closed_port(), [])),
        row("UDP, error fetched", writable, Filters(NONE, W), || {
            let socket = udp_to_closed_port();
            assert!(socket.take_error().unwrap().is_some());
            fixture(socket, [])
        }),
        row("UDP, shut down reading", half, Filters(R | RC, W), || udp(|a, _| shut(a, Shutdown::Read))),
        row("UDP, shut down writing", writable, Filters(NONE, W | WC), || udp(|a, _| shut(a, Shutdown::Write))),
        row("UDP, shut down both", hup, end, || udp(|a, _| shut(a, Shutdown::Both))),
        row("Unix, never connected", hup, none, || fixture(Socket::new(Domain::UNIX, Type::STREAM, None).unwrap(), [])),
        row("Unix listener, idle", quiet, none, || unix_listener(false)),
        row("Unix listener, a connection", [R, R, NONE], Filters(R, NONE), || unix_listener(true)),
        row("Unix, not accepted yet", writable, Filters(NONE, W), unaccepted),
        row("Unix, data", data, Filters(R, W), || unix(|_, mut b| b.write_all(b"x").unwrap())),
        row("Unix, the peer closed", hup, end, || {
            let (a, b) = pair();
            drop(b);
            fixture(a, [])
        }),
        row("Unix, the peer closed and had not read all", broken, end, || {
            let (mut a, b) = pair();
            a.write_all(b"x").unwrap();
            drop(b);
            fixture(a, [])
        }),
        row("Unix, the peer shut down writing", half, Filters(R | RC, W), || unix(|_, b| shut(b, Shutdown::Write))),
        row("Unix, the peer shut down reading", writable, Filters(NONE, read_shutdown_of_peer()), || {
            unix(|_, b| shut(b, Shutdown::Read))
        }),
        row("Unix, full", quiet, none, || unix(|a, _| fill(a))),
        row("Unix datagrams, the peer's queue is full", quiet, Depends, || {
            let (a, b) = UnixDatagram::pair().unwrap();
            a.set_nonblocking(true).unwrap();
            while a.send(&[0; 1024]).is_ok() {}
            fixture(a, [keep(b)])
        }),
        row("Unix datagrams, the peer closed", writable, Depends, || fixture(UnixDatagram::pair().unwrap().0, [])),
        row("Unix packets, the peer closed", hup, end, || {
            // macOS does not support this type.
            let (a, b) = Socket::pair(Domain::UNIX, Type::from(libc::SOCK_SEQPACKET), None).ok()?;
            drop(b);
            fixture(a, [])
        }),
        row("pipe to read, idle", quiet, Reader(NONE), || reader(|_| {}, true)),
        row("pipe to read, data", [R, R, NONE], Reader(R), || reader(|w| w.write_all(b"x").unwrap(), true)),
        row("pipe to read, the writer closed", hup, Reader(R | RC), || reader(|_| {}, false)),
        row("pipe to read, the writer closed, data", hup, Reader(R | RC), || {
            reader(|w| w.write_all(b"x").unwrap(), false)
        }),
        row("pipe to write, idle", writable, Writer(W), || writer(|_, _| {}, true)),
        row("pipe to write, the reader closed", error_of_writing, Writer(W | WC), || writer(|_, _| {}, false)),
        row("pipe to write, full", quiet, Writer(NONE), || writer(|w, _| fill(w), true)),
        row("pipe to write, full but for a page", writable, Writer(W), || {
            writer(
                |w, r| {
                    fill(&*w);
                    assert_eq!(r.read(&mut [0; 4096]).unwrap(), 4096);
                },
                true,
            )
        }),
        row("pipe to write, full, the reader closed", [R | W | WC | E; 3], Writer(W | WC), || {
            writer(|w, _| fill(w), false)
        }),
        row("FIFO to read, never a writer", quiet, Reader(NONE), || fifo(|path| (open_to_read(path), None))),
        row("FIFO to read, the writer closed", hup, unless_apple(Reader(R | RC)), || {
            fifo(|path| {
                let reader = open_to_read(path);
                // On some systems the writer must have written before.
                let mut writer = open_to_write(path);
                writer.write_all(b"x").unwrap();
                assert_eq!((&reader).read(&mut [0; 1]).unwrap(), 1);
                (reader, None)
            })
        }),
        row("FIFO to read, another writer", quiet, Reader(NONE), || {
            fifo(|path| {
                let reader = open_to_read(path);
                drop(open_to_write(path));
                (reader, Some(open_to_write(path)))
            })
        }),
        row("FIFO to write, the reader closed", error_of_writing, unless_apple(Writer(W | WC)), || {
            fifo(|path| {
                let _reader = open_to_read(path);
                (open_to_write(path), None)
            })
        }),
        row("FIFO to write, another reader", writable, Writer(W), || {
            fifo(|path| {
                let first = open_to_read(path);
                let writer = open_to_write(path);
                drop(first);
                (writer, Some(open_to_read(path)))
            })
        }),
        row("FIFO to read and write", writable, Filters(NONE, W), || {
            fifo(|path| (File::options().read(true).write(true).open(path).unwrap(), None))
        }),
        row("terminal, master, idle", writable, Filters(NONE, W), || {
            let (master, slave) = terminal();
            fixture(master, [keep(slave)])
        }),
        row("terminal, slave, idle", writable, Filters(NONE, W), || {
            let (master, slave) = terminal();
            fixture(slave, [keep(master)])
        }),
        row("terminal, master, output", data, Filters(R, W), || {
            let (master, mut slave) = terminal();
            slave.write_all(b"x").unwrap();
            fixture(master, [keep(slave)])
        }),
        row("terminal, slave, a line", data, Filters(R, W), || {
            let (mut master, slave) = terminal();
            master.write_all(b"x\n").unwrap();
            fixture(slave, [keep(master)])
        }),
        row("terminal, master, the slave closed", hup, Reader(R | RC), || fixture(terminal().0, [])),
        row("terminal, slave, the master closed", broken, hung_up_terminal(), || fixture(terminal().1, [])),
    ]
}

/// Descriptors that only Linux has, for which kqueue has filters.
#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::FromRawFd;

    use super::*;

    pub(super) fn table() -> Vec<Row> {
        let row = |situation, linux, make| Row { situation, make, linux, kqueue: Depends };
        let quiet = [NONE; 3];
        let event = [R, R, NONE];
        vec![
            row("eventfd, 0", [W, NONE, W], || eventfd(0)),
            row("eventfd, 1", [R | W, R, W], || eventfd(1)),
            row("eventfd, at its maximum", event, || eventfd(u64::MAX - 1)),
            row("epoll, idle", quiet, || epoll(false)),
            row("epoll, ready", event, || epoll(true)),
            row("timerfd, disarmed", quiet, || timerfd(false)),
            row("timerfd, expired", event, || timerfd(true)),
            row("signalfd, nothing", quiet, || signalfd(false)),
            row("signalfd, pending", event, || signalfd(true)),
            row("pidfd, running", quiet, || pidfd(false)),
            row("pidfd, exited", event, || pidfd(true)),
            row("inotify, nothing", quiet, || inotify(false)),
            row("inotify, an event", event, || inotify(true)),
        ]
    }

    /// # Safety
    ///
    /// `fd` is the result of a call that creates a descriptor.
    unsafe fn owned(fd: impl TryInto<RawFd>) -> OwnedFd {
        let fd = fd.try_into().ok().filter(|&fd| fd >= 0);
        // SAFETY: guaranteed by the caller; the descriptor has no other owner.
        unsafe { OwnedFd::from_raw_fd(fd.expect("a descriptor")) }
    }

    fn eventfd(count: u64) -> Option<Fixture> {
        // SAFETY: no pointers.
        let mut file = File::from(unsafe { owned(libc::eventfd(0, 0)) });
        if count > 0 {
            file.write_all(&count.to_ne_bytes()).unwrap();
        }
        fixture(file, [])
    }

    fn epoll(ready: bool) -> Option<Fixture> {
        let (a, mut b) = pair();
        // SAFETY: one record is read.
        let epoll = unsafe {
            let epoll = owned(libc::epoll_create1(0));
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: 0 };
            assert_eq!(libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, a.as_raw_fd(), &mut event), 0);
            epoll
        };
        if ready {
            b.write_all(b"x").unwrap();
        }
        fixture(epoll, [keep((a, b))])
    }

    fn timerfd(armed: bool) -> Option<Fixture> {
        // SAFETY: one value is read.
        let timer = unsafe {
            let timer = owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, 0));
            let mut value: libc::itimerspec = std::mem::zeroed();
            value.it_value.tv_nsec = armed.into();
            assert_eq!(libc::timerfd_settime(timer.as_raw_fd(), 0, &value, std::ptr::null_mut()), 0);
            timer
        };
        fixture(timer, [])
    }

    /// A signalfd reports the signals of the waiting thread, which is this thread.
    fn signalfd(pending: bool) -> Option<Fixture> {
        // SAFETY: one set is written and read; the signal is blocked in this thread and goes to no other thread.
        let fd = unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&mut set, libc::SIGWINCH);
            assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()), 0);
            if pending {
                libc::pthread_kill(libc::pthread_self(), libc::SIGWINCH);
            }
            owned(libc::signalfd(-1, &set, 0))
        };
        fixture(fd, [])
    }

    /// A child that has exited, or this process.
    fn pidfd(exited: bool) -> Option<Fixture> {
        struct Child(libc::pid_t);
        impl Drop for Child {
            fn drop(&mut self) {
                // SAFETY: no pointers; no other code waits for this child.
                unsafe { libc::waitpid(self.0, std::ptr::null_mut(), 0) };
            }
        }
        if cfg!(target_arch = "s390x") {
            // On s390x clone(2) has its arguments in another order.
            return None;
        }
        let open = |pid: libc::pid_t| {
            // SAFETY: no pointers. Linux before 5.3 and valgrind do not support this call.
            let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
            // SAFETY: the descriptor is new.
            (fd >= 0).then(|| unsafe { owned(fd) })
        };
        let own = open(std::process::id() as libc::pid_t)?;
        if !exited {
            return fixture(own, []);
        }
        // A child with a table of its own would keep the descriptors of other tests open for a moment.
        let flags = libc::CLONE_FILES | libc::SIGCHLD;
        // SAFETY: as fork(2), without a stack of its own; the child does nothing but end.
        let pid = unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) } as libc::pid_t;
        if pid == 0 {
            // SAFETY: ends the child.
            unsafe { libc::_exit(0) };
        }
        assert!(pid > 0);
        let child = Child(pid);
        fixture(open(pid)?, [keep(child)])
    }

    fn inotify(event: bool) -> Option<Fixture> {
        let directory = tempfile::tempdir().unwrap();
        let path = std::ffi::CString::new(directory.path().to_str().unwrap()).unwrap();
        // SAFETY: a string that ends with a zero byte.
        let fd = unsafe {
            let fd = owned(libc::inotify_init1(0));
            assert!(libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), libc::IN_CREATE) >= 0);
            fd
        };
        if event {
            File::create(directory.path().join("new")).unwrap();
        }
        fixture(fd, [keep(directory)])
    }
}

#[cfg(not(target_os = "linux"))]
mod linux {
    pub(super) fn table() -> Vec<super::Row> {
        Vec::new()
    }
}

/// Apple's kernels do not report the end of file of a FIFO: see the table of differences.
fn unless_apple(other: Kqueue) -> Kqueue {
    if cfg!(target_vendor = "apple") {
        Depends
    } else {
        other
    }
}

fn keep(value: impl Any) -> Box<dyn Any> {
    Box::new(value)
}

fn fixture<const N: usize>(fd: impl Into<OwnedFd>, kept: [Box<dyn Any>; N]) -> Option<Fixture> {
    Some((fd.into(), kept.into()))
}

fn shut(socket: &impl std::os::fd::AsFd, how: Shutdown) {
    SockRef::from(socket).shutdown(how).unwrap();
}

fn tcp(arrange: fn(&TcpStream, &TcpStream)) -> Option<Fixture> {
    let (a, b) = tcp_pair();
    arrange(&a, &b);
    fixture(a, [keep(b)])
}

/// Polls one descriptor for at most 200 ms. Returns `true` if any of `events` is reported.
fn settle(fd: &impl AsRawFd, events: libc::c_short) -> bool {
    let mut fd = libc::pollfd { fd: fd.as_raw_fd(), events, revents: 0 };
    // SAFETY: one record.
    unsafe { libc::poll(&mut fd, 1, 200) == 1 }
}

/// A connect that stays in progress: the queue of the listener is full, and the kernel drops further packets.
fn connecting() -> Option<Fixture> {
    let listener = tcp_socket();
    listener.bind(&loopback().into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut kept = vec![keep(listener)];
    for _ in 0..20 {
        let socket = tcp_socket();
        let _ = socket.connect(&address);
        if !settle(&socket, libc::POLLOUT) {
            return Some((socket.into(), kept));
        }
        kept.push(keep(socket));
    }
    None
}

/// A refused connect. NetBSD and OpenBSD refuse only if the port is not bound, so that the port is closed before.
fn refused() -> Socket {
    let bound = tcp_socket();
    bound.bind(&loopback().into()).unwrap();
    let address = bound.local_addr().unwrap();
    drop(bound);
    let socket = tcp_socket();
    let _ = socket.connect(&address);
    assert!(settle(&socket, libc::POLLOUT), "a refusal");
    socket
}

fn reset() -> TcpStream {
    let (a, b) = tcp_pair();
    reset_on_close(&b);
    drop(b);
    assert!(settle(&a, libc::POLLIN), "a reset");
    a
}

/// Writes until the kernel accepts no more data for the peer.
fn fill_for_good(stream: &TcpStream) {
    loop {
        fill(stream);
        if !settle(stream, libc::POLLOUT) {
            return;
        }
    }
}

fn udp(arrange: fn(&UdpSocket, &UdpSocket)) -> Option<Fixture> {
    let [a, b] = [(), ()].map(|()| UdpSocket::bind(loopback()).unwrap());
    a.connect(b.local_addr().unwrap()).unwrap();
    b.connect(a.local_addr().unwrap()).unwrap();
    arrange(&a, &b);
    fixture(a, [keep(b)])
}

fn udp_to_closed_port() -> UdpSocket {
    let socket = UdpSocket::bind(loopback()).unwrap();
    let gone = UdpSocket::bind(loopback()).unwrap().local_addr().unwrap();
    socket.connect(gone).unwrap();
    socket.send(b"request").unwrap();
    // poll(2) cannot wait for the error alone. On a system that reports the error late, the later wait reports it.
    settle(&socket, libc::POLLIN);
    socket
}

fn unix(arrange: fn(&UnixStream, &UnixStream)) -> Option<Fixture> {
    let (a, b) = pair();
    arrange(&a, &b);
    fixture(a, [keep(b)])
}

fn unix_listener(with_client: bool) -> Option<Fixture> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let client = with_client.then(|| UnixStream::connect(&path).unwrap());
    fixture(listener, [keep(directory), keep(client)])
}

fn unaccepted() -> Option<Fixture> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    fixture(UnixStream::connect(&path).unwrap(), [keep(directory), keep(listener)])
}

fn reader(arrange: fn(&mut File), writer_stays: bool) -> Option<Fixture> {
    let (reader, mut writer) = pipe_ends();
    arrange(&mut writer);
    fixture(reader, [keep(writer_stays.then_some(writer))])
}

fn writer(arrange: fn(&mut File, &mut File), reader_stays: bool) -> Option<Fixture> {
    let (mut reader, mut writer) = pipe_ends();
    arrange(&mut writer, &mut reader);
    fixture(writer, [keep(reader_stays.then_some(reader))])
}

fn fifo(open: fn(&std::path::Path) -> (File, Option<File>)) -> Option<Fixture> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    make_fifo(&path);
    let (file, other) = open(&path);
    fixture(file, [keep(directory), keep(other)])
}

/// The three registrations of a situation.
#[derive(Copy, Clone)]
enum Registered {
    All = 0,
    Reading = 1,
    Writing = 2,
}

impl Registered {
    fn interest<T: Selector>(self) -> Interest {
        let has_priority = T::BACKEND != Backend::Kqueue || cfg!(has_evfilt_except);
        match self {
            Registered::All if has_priority => BOTH | Interest::PRIORITY,
            Registered::All => BOTH,
            Registered::Reading => READ,
            Registered::Writing => WRITE,
        }
    }
}

impl Kqueue {
    /// Returns the readiness of the registered filters; `None` if the result depends on the system, or is an error on some.
    fn readiness(self, registered: Registered) -> Option<ReadinessSet> {
        match (self, registered) {
            (Filters(read, write), Registered::All) => Some(read | write),
            (Filters(reported, _) | Reader(reported), Registered::Reading) => Some(reported),
            (Filters(_, reported) | Writer(reported), Registered::Writing) => Some(reported),
            (Rejected(_), _) => Some(NONE),
            _ => None,
        }
    }
}

/// Returns the readiness that poll(2) of another system must and may report, from the two columns. See the table of
/// differences: sockets of the BSDs never report `POLLERR`, and those of NetBSD and OpenBSD no `POLLHUP`. A broken pipe
/// reports `POLLHUP` alone.
fn poll_of_other_system(
    linux: ReadinessSet,
    kqueue: ReadinessSet,
    is_broken_pipe: bool,
) -> (ReadinessSet, ReadinessSet) {
    let without = match () {
        () if cfg!(target_os = "freebsd") => E,
        () if cfg!(any(target_os = "netbsd", target_os = "openbsd")) => E | RC | WC,
        () => NONE,
    };
    let hung_up = if is_broken_pipe { R | W | RC | WC } else { NONE };
    ((linux & kqueue) - without, (linux | kqueue | hung_up) - (without & E))
}

/// Returns the readiness that `T` must report, and the readiness that `T` may report.
fn bounds<T: Selector>(row: &Row, registered: Registered) -> Option<(ReadinessSet, ReadinessSet)> {
    let linux = row.linux[registered as usize];
    let is_kqueue = T::BACKEND == Backend::Kqueue;
    match (row.kqueue.readiness(registered), cfg!(target_os = "linux")) {
        (_, true) if !is_kqueue => Some((linux, linux)),
        (Some(kqueue), false) if is_kqueue => Some((kqueue, kqueue | linux)),
        // libkqueue takes errors from the program to fill in `fflags`.
        (Some(kqueue), true) => Some(((linux & kqueue) - E, linux | kqueue)),
        (Some(kqueue), false) => {
            let is_broken_pipe = matches!(row.kqueue, Writer(reported) if reported.has(WC));
            Some(poll_of_other_system(linux, kqueue, is_broken_pipe))
        }
        (None, _) => None,
    }
}

fn check_every_situation<T: Selector>(registered: Registered) {
    let mut wrong = Vec::new();
    for row in table().into_iter().chain(linux::table()) {
        let (Some((least, most)), Some((fd, kept))) = (bounds::<T>(&row, registered), (row.make)()) else {
            continue;
        };
        let mut selector = TestSelector::<T>::new();
        match (selector.register_raw(fd.as_raw_fd(), 1, registered.interest::<T>()), row.kqueue) {
            (result, Rejected(errno)) if T::BACKEND == Backend::Kqueue => {
                assert_eq!(result.unwrap_err().raw_os_error(), Some(errno), "{}", row.situation);
                continue;
            }
            (result, _) => result.unwrap(),
        }
        let deadline = Instant::now() + Duration::from_secs(2);
        let mut reported = selector.select_now().remove(&1).unwrap_or_default();
        while !reported.has(least) && Instant::now() < deadline {
            reported |= selector.select(Duration::from_millis(50)).remove(&1).unwrap_or_default();
        }
        reported |= selector.select_now().remove(&1).unwrap_or_default();
        if row.situation == "UDP, closed port" && is_known_failure::<T>(Check::DatagramErrorIsNoEnd) {
            reported &= R | W;
        }
        if !reported.has(least) || !most.has(reported) {
            wrong.push(format!("{}: reported {reported:?}, expected from {least:?} to {most:?}", row.situation));
        }
        drop(kept);
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

pub(crate) fn every_situation_matches_the_table_for_all_interests<T: Selector>() {
    check_every_situation::<T>(Registered::All);
}

pub(crate) fn every_situation_matches_the_table_for_reading<T: Selector>() {
    check_every_situation::<T>(Registered::Reading);
}

pub(crate) fn every_situation_matches_the_table_for_writing<T: Selector>() {
    check_every_situation::<T>(Registered::Writing);
}

conformance_tests! {
    every_situation_matches_the_table_for_all_interests,
    every_situation_matches_the_table_for_reading,
    every_situation_matches_the_table_for_writing,
}
