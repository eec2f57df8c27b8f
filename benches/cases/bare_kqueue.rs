//! The subject that is kevent(2), as a program that only runs the case would call it.

use std::mem;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use super::subject::{RawSubject, Subject, LAST};

/// Writes a record with these fields; all other fields are zero.
macro_rules! change {
    ($ident:expr, $filter:ident, $flags:expr, $token:expr) => {
        libc::kevent {
            ident: $ident as _,
            filter: libc::$filter,
            flags: $flags,
            udata: $token as _,
            // SAFETY: the record is integers and one pointer; all zeroes is a value of each.
            ..unsafe { mem::zeroed() }
        }
    };
}

fn cvt(result: libc::c_int) -> libc::c_int {
    assert!(result >= 0, "{}", std::io::Error::last_os_error());
    result
}

/// Applies one change and checks its receipt, which takes the place of the change.
#[inline(always)]
fn apply(kq: &OwnedFd, mut change: libc::kevent) {
    let record: *mut libc::kevent = &mut change;
    // SAFETY: the kernel reads one record and writes one.
    let n = cvt(unsafe { libc::kevent(kq.as_raw_fd(), record, 1, record, 1, ptr::null()) });
    let (error, flags) = (change.data, change.flags);
    assert!(n == 1 && flags & libc::EV_ERROR != 0 && error == 0, "error {error}");
}

#[inline(always)]
fn add(kq: &OwnedFd, fd: RawFd, token: usize) {
    apply(kq, change!(fd, EVFILT_READ, libc::EV_ADD | libc::EV_CLEAR | libc::EV_RECEIPT, token));
}

#[inline(always)]
fn delete(kq: &OwnedFd, fd: RawFd) {
    apply(kq, change!(fd, EVFILT_READ, libc::EV_DELETE | libc::EV_RECEIPT, 0));
}

/// kqueue(2), with `EVFILT_USER` for wakes.
pub struct Kqueue {
    kq: Arc<OwnedFd>,
    events: Vec<libc::kevent>,
}

// SAFETY: the records' only pointer is `udata`, which holds a token and is never followed.
unsafe impl Send for Kqueue {}

impl Subject for Kqueue {
    const NAME: &'static str = "bare";
    type Registry = Arc<OwnedFd>;
    type Waker = Arc<OwnedFd>;
    type Socket = TcpStream;
    type Listener = TcpListener;

    #[inline(always)]
    fn new(capacity: usize) -> Kqueue {
        // SAFETY: no pointers; the kernel has just created this descriptor, and no other code owns it.
        let kq = unsafe { OwnedFd::from_raw_fd(cvt(libc::kqueue())) };
        Kqueue { kq: Arc::new(kq), events: Vec::with_capacity(capacity) }
    }

    #[inline(always)]
    fn registry(&self) -> Arc<OwnedFd> {
        Arc::clone(&self.kq)
    }

    #[inline(always)]
    fn waker(&self) -> Arc<OwnedFd> {
        apply(&self.kq, change!(0, EVFILT_USER, libc::EV_ADD | libc::EV_CLEAR | libc::EV_RECEIPT, LAST));
        Arc::clone(&self.kq)
    }

    #[inline(always)]
    fn wake(kq: &Arc<OwnedFd>) {
        let trigger = libc::kevent { fflags: libc::NOTE_TRIGGER, ..change!(0, EVFILT_USER, 0, LAST) };
        // SAFETY: the kernel reads one record and writes none.
        cvt(unsafe { libc::kevent(kq.as_raw_fd(), &trigger, 1, ptr::null_mut(), 0, ptr::null()) });
    }

    #[inline(always)]
    fn poll_once(&mut self, timeout: Option<Duration>, mut each: impl FnMut(usize)) {
        let timeout = timeout.map(|timeout| libc::timespec {
            tv_sec: timeout.as_secs() as libc::time_t,
            tv_nsec: timeout.subsec_nanos() as _,
        });
        let timeout = timeout.as_ref().map_or(ptr::null(), ptr::from_ref);
        let (records, capacity) = (self.events.as_mut_ptr(), self.events.capacity());
        // SAFETY: the buffer has capacity for so many records, and the kernel writes as many as it returns.
        unsafe {
            let n = cvt(libc::kevent(self.kq.as_raw_fd(), ptr::null(), 0, records, capacity as _, timeout));
            self.events.set_len(n as usize);
        }
        for event in &self.events {
            each(event.udata as usize);
        }
    }

    #[inline(always)]
    fn socket(fd: OwnedFd) -> TcpStream {
        fd.into()
    }

    #[inline(always)]
    fn register(kq: &Arc<OwnedFd>, socket: &mut TcpStream, token: usize) {
        add(kq, socket.as_raw_fd(), token);
    }

    #[inline(always)]
    fn reregister(kq: &Arc<OwnedFd>, socket: &mut TcpStream, token: usize) {
        add(kq, socket.as_raw_fd(), token);
    }

    #[inline(always)]
    fn deregister(kq: &Arc<OwnedFd>, socket: &mut TcpStream) {
        delete(kq, socket.as_raw_fd());
    }

    #[inline(always)]
    fn listen(kq: &Arc<OwnedFd>, listener: TcpListener, token: usize) -> TcpListener {
        add(kq, listener.as_raw_fd(), token);
        listener
    }

    #[inline(always)]
    fn accept(listener: &TcpListener) -> Option<TcpStream> {
        super::accept(listener)
    }
}

impl RawSubject for Kqueue {
    #[inline(always)]
    fn add(kq: &Arc<OwnedFd>, fd: RawFd, token: usize) {
        add(kq, fd, token);
    }

    #[inline(always)]
    fn change(kq: &Arc<OwnedFd>, fd: RawFd, token: usize) {
        add(kq, fd, token);
    }

    #[inline(always)]
    fn remove(kq: &Arc<OwnedFd>, fd: RawFd) {
        delete(kq, fd);
    }
}
