//! The subjects that are system calls, as a program that only runs the case would make them.

use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::subject::{RawSubject, Subject, LAST};

pub fn cvt(result: libc::c_int) -> libc::c_int {
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
    result
}

/// Converts a timeout of a case, which is zero or none.
fn milliseconds(timeout: Option<Duration>) -> libc::c_int {
    timeout.map_or(-1, |timeout| timeout.as_millis() as libc::c_int)
}

/// Returns a non-blocking eventfd.
pub fn eventfd() -> OwnedFd {
    // SAFETY: no pointers; the kernel has just created this descriptor, and no other code owns it.
    unsafe { OwnedFd::from_raw_fd(cvt(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))) }
}

pub fn notify(eventfd: &OwnedFd) {
    // SAFETY: the kernel reads eight bytes.
    let n = unsafe { libc::write(eventfd.as_raw_fd(), (&1_u64 as *const u64).cast(), 8) };
    assert_eq!(n, 8);
}

/// epoll(7) and eventfd(2).
pub struct Epoll {
    epoll: Arc<OwnedFd>,
    eventfd: Arc<OwnedFd>,
    events: Vec<libc::epoll_event>,
}

fn epoll_ctl(epoll: &OwnedFd, operation: libc::c_int, fd: RawFd, token: usize) {
    let events = (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET) as u32;
    let mut event = libc::epoll_event { events, u64: token as u64 };
    // SAFETY: the kernel reads one record.
    cvt(unsafe { libc::epoll_ctl(epoll.as_raw_fd(), operation, fd, &mut event) });
}

impl Subject for Epoll {
    const NAME: &'static str = "bare";
    type Registry = Arc<OwnedFd>;
    type Waker = Arc<OwnedFd>;
    type Socket = TcpStream;
    type Listener = TcpListener;

    #[inline(always)]
    fn new(capacity: usize) -> Epoll {
        // SAFETY: no pointers; the kernel has just created this descriptor, and no other code owns it.
        let epoll = unsafe { OwnedFd::from_raw_fd(cvt(libc::epoll_create1(libc::EPOLL_CLOEXEC))) };
        Epoll { epoll: Arc::new(epoll), eventfd: Arc::new(eventfd()), events: Vec::with_capacity(capacity) }
    }

    #[inline(always)]
    fn registry(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.epoll)
    }

    #[inline(always)]
    fn waker(&self) -> Arc<OwnedFd> {
        epoll_ctl(&self.epoll, libc::EPOLL_CTL_ADD, self.eventfd.as_raw_fd(), LAST);
        Arc::clone(&self.eventfd)
    }

    #[inline(always)]
    fn wake(eventfd: &Arc<OwnedFd>) {
        notify(eventfd);
    }

    #[inline(always)]
    fn poll_once(&mut self, timeout: Option<Duration>, mut each: impl FnMut(usize)) {
        let (records, capacity) = (self.events.as_mut_ptr(), self.events.capacity() as libc::c_int);
        // SAFETY: the buffer has capacity for so many records, and the kernel writes as many as it returns.
        unsafe {
            let n = cvt(libc::epoll_wait(self.epoll.as_raw_fd(), records, capacity, milliseconds(timeout)));
            self.events.set_len(n as usize);
        }
        for event in &self.events {
            each(event.u64 as usize);
        }
    }

    #[inline(always)]
    fn socket(fd: OwnedFd) -> TcpStream {
        fd.into()
    }

    #[inline(always)]
    fn register(epoll: &Arc<OwnedFd>, socket: &mut TcpStream, token: usize) {
        epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), token);
    }

    #[inline(always)]
    fn reregister(epoll: &Arc<OwnedFd>, socket: &mut TcpStream, token: usize) {
        epoll_ctl(epoll, libc::EPOLL_CTL_MOD, socket.as_raw_fd(), token);
    }

    #[inline(always)]
    fn deregister(epoll: &Arc<OwnedFd>, socket: &mut TcpStream) {
        epoll_ctl(epoll, libc::EPOLL_CTL_DEL, socket.as_raw_fd(), 0);
    }

    #[inline(always)]
    fn listen(epoll: &Arc<OwnedFd>, listener: TcpListener, token: usize) -> TcpListener {
        epoll_ctl(epoll, libc::EPOLL_CTL_ADD, listener.as_raw_fd(), token);
        listener
    }

    #[inline(always)]
    fn accept(listener: &TcpListener) -> Option<TcpStream> {
        super::accept(listener)
    }
}

impl RawSubject for Epoll {
    #[inline(always)]
    fn add(epoll: &Arc<OwnedFd>, fd: RawFd, token: usize) {
        epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, token);
    }

    #[inline(always)]
    fn change(epoll: &Arc<OwnedFd>, fd: RawFd, token: usize) {
        epoll_ctl(epoll, libc::EPOLL_CTL_MOD, fd, token);
    }

    #[inline(always)]
    fn remove(epoll: &Arc<OwnedFd>, fd: RawFd) {
        epoll_ctl(epoll, libc::EPOLL_CTL_DEL, fd, 0);
    }
}

/// poll(2), with eventfd(2) for wakes. The table is part of the program, and another thread cannot change it during a wait.
pub struct Poll {
    table: Arc<Mutex<Table>>,
    eventfd: Arc<OwnedFd>,
}

#[derive(Default)]
pub struct Table {
    fds: Vec<libc::pollfd>,
    tokens: Vec<usize>,
}

impl Table {
    fn push(&mut self, fd: RawFd, token: usize) {
        self.fds.push(libc::pollfd { fd, events: libc::POLLIN | libc::POLLRDHUP, revents: 0 });
        self.tokens.push(token);
    }

    fn remove(&mut self, fd: RawFd) {
        let index = self.fds.iter().rposition(|slot| slot.fd == fd).unwrap();
        self.fds.swap_remove(index);
        self.tokens.swap_remove(index);
    }
}

impl Subject for Poll {
    const NAME: &'static str = "bare";
    type Registry = Arc<Mutex<Table>>;
    type Waker = Arc<OwnedFd>;
    type Socket = TcpStream;
    type Listener = TcpListener;

    #[inline(always)]
    fn new(_: usize) -> Poll {
        Poll { table: Arc::default(), eventfd: Arc::new(eventfd()) }
    }

    #[inline(always)]
    fn registry(&self) -> Arc<Mutex<Table>> {
        Arc::clone(&self.table)
    }

    #[inline(always)]
    fn waker(&self) -> Arc<OwnedFd> {
        self.table.lock().unwrap().push(self.eventfd.as_raw_fd(), LAST);
        Arc::clone(&self.eventfd)
    }

    #[inline(always)]
    fn wake(eventfd: &Arc<OwnedFd>) {
        notify(eventfd);
    }

    #[inline(always)]
    fn poll_once(&mut self, timeout: Option<Duration>, mut each: impl FnMut(usize)) {
        let mut table = self.table.lock().unwrap();
        let (records, len) = (table.fds.as_mut_ptr(), table.fds.len() as libc::nfds_t);
        // SAFETY: the kernel reads and writes so many records.
        let mut ready = cvt(unsafe { libc::poll(records, len, milliseconds(timeout)) });
        for (slot, token) in table.fds.iter().zip(&table.tokens) {
            if ready == 0 {
                break;
            }
            if slot.revents != 0 {
                ready -= 1;
                if slot.fd == self.eventfd.as_raw_fd() {
                    // SAFETY: the kernel writes eight bytes.
                    unsafe { libc::read(slot.fd, (&mut 0_u64 as *mut u64).cast(), 8) };
                }
                each(*token);
            }
        }
    }

    #[inline(always)]
    fn socket(fd: OwnedFd) -> TcpStream {
        fd.into()
    }

    #[inline(always)]
    fn register(table: &Arc<Mutex<Table>>, socket: &mut TcpStream, token: usize) {
        Self::add(table, socket.as_raw_fd(), token);
    }

    #[inline(always)]
    fn reregister(_: &Arc<Mutex<Table>>, _: &mut TcpStream, _: usize) {}

    #[inline(always)]
    fn deregister(table: &Arc<Mutex<Table>>, socket: &mut TcpStream) {
        Self::remove(table, socket.as_raw_fd());
    }

    #[inline(always)]
    fn close(table: &Arc<Mutex<Table>>, mut socket: TcpStream) {
        Self::deregister(table, &mut socket);
    }

    #[inline(always)]
    fn listen(table: &Arc<Mutex<Table>>, listener: TcpListener, token: usize) -> TcpListener {
        Self::add(table, listener.as_raw_fd(), token);
        listener
    }

    #[inline(always)]
    fn accept(listener: &TcpListener) -> Option<TcpStream> {
        super::accept(listener)
    }
}

impl RawSubject for Poll {
    #[inline(always)]
    fn add(table: &Arc<Mutex<Table>>, fd: RawFd, token: usize) {
        table.lock().unwrap().push(fd, token);
    }

    #[inline(always)]
    fn change(_: &Arc<Mutex<Table>>, _: RawFd, _: usize) {}

    #[inline(always)]
    fn remove(table: &Arc<Mutex<Table>>, fd: RawFd) {
        table.lock().unwrap().remove(fd);
    }
}
