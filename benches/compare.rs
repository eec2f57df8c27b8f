//! kevio beside mio, polling and the bare system calls, each case under `case/subject`.
//!
//! `cargo bench --bench compare`, or `cargo bench --bench compare -- wake` for some of them. Here one subject comes after the
//! other; `ratios` lets them take turns.

#![allow(missing_docs)] // criterion's macros write functions without.
// The bare calls are not compared on every system.
#![cfg_attr(not(target_os = "linux"), allow(dead_code, unused_imports))]

#[path = "cases/mod.rs"]
mod cases;
mod setup;

use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use criterion::{criterion_group, criterion_main, Criterion};

const NOW: Option<Duration> = Some(Duration::ZERO);

fn side_by_side(c: &mut Criterion) {
    for case in cases::all() {
        for (subject, make) in &case.entrants {
            let mut turns = None;
            c.bench_function(&format!("{}/{subject}", case.name), |bench| {
                let turns = turns.get_or_insert_with(make);
                bench.iter_custom(|count| turns(count) / case.each);
            });
        }
    }
}

/// The public face of poll(2) and the call itself, with 8 idle slots and one that is ready.
#[cfg(target_os = "linux")]
fn bare_poll(c: &mut Criterion) {
    use kevio::unix::pollset::{PollFlags, PollSet};
    let (a, _b) = UnixStream::pair().unwrap();
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
#[cfg(has_kqueue)]
fn bare_kevent(c: &mut Criterion) {
    use kevio::unix::kqueue::{Flags, Kevent, Kqueue};
    let (a, _b) = UnixStream::pair().unwrap();
    let kq = Kqueue::new().unwrap();
    let mut events = Vec::with_capacity(64);
    kq.apply(&mut [Kevent::write(a.as_raw_fd(), Flags::ADD).with_udata(3)]).unwrap()[0].result().unwrap();
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

#[cfg(not(has_kqueue))]
fn bare_kevent(_: &mut Criterion) {}

criterion_group! {
    name = all;
    config = setup::short();
    targets = side_by_side, bare_poll, bare_kevent
}
criterion_main!(all);
