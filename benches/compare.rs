//! kevio beside mio, polling and the bare system calls, each case under `case/subject`.
//!
//! `cargo bench`, or `cargo bench -- wake` for some of them. Compare within one run; machines differ.

#![allow(missing_docs)] // criterion's macros write functions without.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use criterion::{criterion_group, criterion_main, Criterion};

const NOW: Option<Duration> = Some(Duration::ZERO);

fn pair() -> (UnixStream, UnixStream) {
    let (a, b) = UnixStream::pair().unwrap();
    a.set_nonblocking(true).unwrap();
    (a, b)
}

/// The same for two crates with one API.
macro_rules! subject {
    ($name:ident, $module:ident, $subject:literal) => {
        mod $module {
            use super::*;
            use ::$name::unix::SourceFd;
            use ::$name::{Events, Interest, Poll, Token, Waker};

            pub fn registering(c: &mut Criterion) {
                let (a, _b) = pair();
                let fd = a.as_raw_fd();
                let poll = Poll::new().unwrap();
                c.bench_function(concat!("register+deregister/", $subject), |bench| {
                    bench.iter(|| {
                        poll.registry().register(&mut SourceFd(&fd), Token(1), Interest::READABLE).unwrap();
                        poll.registry().deregister(&mut SourceFd(&fd)).unwrap();
                    });
                });
                poll.registry().register(&mut SourceFd(&fd), Token(1), Interest::READABLE).unwrap();
                c.bench_function(concat!("reregister/", $subject), |bench| {
                    bench.iter(|| {
                        poll.registry().reregister(&mut SourceFd(&fd), Token(1), Interest::READABLE).unwrap();
                    });
                });
            }

            pub fn polling(c: &mut Criterion) {
                let mut poll = Poll::new().unwrap();
                let mut events = Events::with_capacity(64);
                c.bench_function(concat!("poll nothing/", $subject), |bench| {
                    bench.iter(|| poll.poll(&mut events, NOW).unwrap());
                });
                let (a, mut b) = pair();
                let mut a = ::$name::net::UnixStream::from_std(a);
                poll.registry().register(&mut a, Token(1), Interest::READABLE).unwrap();
                c.bench_function(concat!("write, poll, read/", $subject), |bench| {
                    bench.iter(|| {
                        b.write_all(b"x").unwrap();
                        poll.poll(&mut events, NOW).unwrap();
                        assert_eq!(events.iter().count(), 1);
                        while a.read(&mut [0; 8]).is_ok() {}
                    });
                });
            }

            pub fn waking(c: &mut Criterion) {
                let mut poll = Poll::new().unwrap();
                let mut events = Events::with_capacity(64);
                let waker = Waker::new(poll.registry(), Token(1)).unwrap();
                c.bench_function(concat!("wake when awake/", $subject), |bench| {
                    bench.iter(|| waker.wake().unwrap());
                });
                c.bench_function(concat!("wake, poll/", $subject), |bench| {
                    bench.iter(|| {
                        waker.wake().unwrap();
                        poll.poll(&mut events, NOW).unwrap();
                    });
                });
            }
        }
    };
}

subject!(kevio, on_kevio, "kevio");
subject!(mio, on_mio, "mio");

fn polling_crate(c: &mut Criterion) {
    let poller = polling::Poller::new().unwrap();
    let mut events = polling::Events::new();
    let (mut a, mut b) = pair();
    let interest = polling::Event::readable(1);
    c.bench_function("register+deregister/polling", |bench| {
        bench.iter(|| {
            // SAFETY: deleted before it is dropped.
            unsafe { poller.add_with_mode(&a, interest, polling::PollMode::Edge).unwrap() };
            poller.delete(&a).unwrap();
        });
    });
    // SAFETY: deleted before it is dropped.
    unsafe { poller.add_with_mode(&a, interest, polling::PollMode::Edge).unwrap() };
    c.bench_function("reregister/polling", |bench| {
        bench.iter(|| poller.modify_with_mode(&a, interest, polling::PollMode::Edge).unwrap());
    });
    c.bench_function("poll nothing/polling", |bench| {
        bench.iter(|| {
            events.clear();
            poller.wait(&mut events, NOW).unwrap()
        });
    });
    c.bench_function("write, poll, read/polling", |bench| {
        bench.iter(|| {
            b.write_all(b"x").unwrap();
            events.clear();
            poller.wait(&mut events, NOW).unwrap();
            while a.read(&mut [0; 8]).is_ok() {}
            // Its poll(2) backend does not re-arm by itself.
            poller.modify_with_mode(a.as_fd(), interest, polling::PollMode::Edge).unwrap();
        });
    });
    c.bench_function("wake when awake/polling", |bench| bench.iter(|| poller.notify().unwrap()));
    c.bench_function("wake, poll/polling", |bench| {
        bench.iter(|| {
            poller.notify().unwrap();
            events.clear();
            poller.wait(&mut events, NOW).unwrap()
        });
    });
    poller.delete(&a).unwrap();
}

#[cfg(target_os = "linux")]
fn bare_calls(c: &mut Criterion) {
    let (mut a, mut b) = pair();
    // SAFETY: every call below gets descriptors that are open and memory that is large enough, and is checked.
    unsafe {
        let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        assert!(epoll >= 0);
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 1 };
        let mut events = [event; 64];
        let mut control = |operation| assert_eq!(libc::epoll_ctl(epoll, operation, a.as_raw_fd(), &mut event), 0);
        c.bench_function("register+deregister/bare", |bench| {
            bench.iter(|| {
                control(libc::EPOLL_CTL_ADD);
                control(libc::EPOLL_CTL_DEL);
            });
        });
        control(libc::EPOLL_CTL_ADD);
        c.bench_function("reregister/bare", |bench| bench.iter(|| control(libc::EPOLL_CTL_MOD)));
        c.bench_function("poll nothing/bare", |bench| {
            bench.iter(|| assert_eq!(libc::epoll_wait(epoll, events.as_mut_ptr(), 64, 0), 0));
        });
        c.bench_function("write, poll, read/bare", |bench| {
            bench.iter(|| {
                b.write_all(b"x").unwrap();
                assert_eq!(libc::epoll_wait(epoll, events.as_mut_ptr(), 64, 0), 1);
                while a.read(&mut [0; 8]).is_ok() {}
            });
        });
        libc::close(epoll);
    }
}

#[cfg(not(target_os = "linux"))]
fn bare_calls(_: &mut Criterion) {}

/// The public face of poll(2) and the call itself, with 8 idle slots and one that is ready.
#[cfg(target_os = "linux")]
fn bare_poll(c: &mut Criterion) {
    use kevio::unix::pollset::{PollFlags, PollSet};
    let (a, _b) = pair();
    let fd = a.as_raw_fd();
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }; 9];
    fds[8].events = libc::POLLOUT;
    c.bench_function("ppoll/bare", |bench| {
        bench.iter(|| {
            // SAFETY: the kernel reads and writes nine records; a null mask changes none.
            assert_eq!(unsafe { libc::ppoll(fds.as_mut_ptr(), 9, &now, std::ptr::null()) }, 1);
            assert_eq!(fds.iter().position(|fd| fd.revents != 0), Some(8));
        });
    });
    let mut set = PollSet::new();
    set.grow(9).unwrap();
    (0..8).for_each(|index| set.set(index, fd, PollFlags::IN).unwrap());
    set.set(8, fd, PollFlags::OUT).unwrap();
    c.bench_function("ppoll/kevio", |bench| {
        bench.iter(|| {
            assert_eq!(set.poll(9, NOW).unwrap(), 1);
            assert_eq!(set.ready().next().map(|slot| slot.index()), Some(8));
        });
    });
}

#[cfg(not(target_os = "linux"))]
fn bare_poll(_: &mut Criterion) {}

/// The public face of kevent(2) and the call itself: an empty queue, and a level that is told again and again.
#[cfg(any(kevio_has_kqueue, kevio_backend = "kqueue"))]
fn bare_kevent(c: &mut Criterion) {
    use kevio::unix::kqueue::{Flags, Kevent, Kqueue};
    let (a, _b) = pair();
    let kq = Kqueue::new().unwrap();
    let mut events = Vec::with_capacity(64);
    kq.register(&mut [Kevent::write(a.as_raw_fd(), Flags::ADD).with_udata(3)]).unwrap()[0].result().unwrap();
    c.bench_function("kevent/bare", |bench| {
        bench.iter(|| {
            // SAFETY: no record is read, and there is room for 64.
            let n = unsafe { kq.kevent_raw(std::ptr::null(), 0, events.as_mut_ptr(), 64, NOW) }.unwrap();
            // SAFETY: so many were written.
            unsafe { events.set_len(n) };
            assert_eq!(events[0].udata(), 3);
        });
    });
    c.bench_function("kevent/kevio", |bench| {
        bench.iter(|| {
            assert_eq!(kq.wait(&mut events, NOW).unwrap(), 1);
            assert_eq!(events[0].udata(), 3);
        });
    });
}

#[cfg(not(any(kevio_has_kqueue, kevio_backend = "kqueue")))]
fn bare_kevent(_: &mut Criterion) {}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = all;
    config = short();
    targets =
        bare_calls, on_kevio::registering, on_mio::registering, on_kevio::polling, on_mio::polling, on_kevio::waking, on_mio::waking,
        polling_crate, bare_poll, bare_kevent
}
criterion_main!(all);
