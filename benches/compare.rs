//! kevio beside mio, polling and the bare system calls, under criterion. The name of a benchmark is `case/subject`.
//!
//! `cargo bench --bench compare` measures all cases, and `cargo bench --bench compare -- wake` some of them. One subject is
//! measured after the other; in `ratios` the subjects take turns.

mod cases;
mod setup;

use criterion::{criterion_group, Criterion};

fn side_by_side(c: &mut Criterion) {
    for case in cases::all() {
        for (subject, prepare) in &case.contestants {
            let mut iterations = None;
            c.bench_function(&format!("{}/{subject}", case.name), |bench| {
                let iterations = iterations.get_or_insert_with(prepare);
                bench.iter_custom(|count| iterations(count) / case.operations);
            });
        }
    }
}

/// `unix::pollset` and poll(2), with 8 idle slots and one ready slot.
#[cfg(target_os = "linux")]
fn bare_poll(c: &mut Criterion) {
    use std::os::fd::AsRawFd;

    use kevio::unix::pollset::{PollFlags, PollSet};
    let (a, _b) = cases::pair();
    let fd = a.as_raw_fd();
    let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut fds = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }; 9];
    fds[8].events = libc::POLLOUT;
    c.bench_function("ppoll/bare", |bench| {
        bench.iter(|| {
            // SAFETY: the kernel reads and writes nine records; a null pointer leaves the signal mask unchanged.
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
            assert_eq!(set.poll(9, cases::NOW).unwrap(), 1);
            assert_eq!(set.ready().next().map(|slot| slot.index()), Some(8));
        });
    });
}

#[cfg(not(target_os = "linux"))]
fn bare_poll(_: &mut Criterion) {}

/// `unix::kqueue` and kevent(2), with one level-triggered filter that every call reports.
#[cfg(has_kqueue)]
fn bare_kevent(c: &mut Criterion) {
    use std::os::fd::AsRawFd;

    use kevio::unix::kqueue::{Flags, Kevent, Kqueue};
    let (a, _b) = cases::pair();
    let kq = Kqueue::new().unwrap();
    let mut events = Vec::with_capacity(64);
    kq.apply(&mut [Kevent::write(a.as_raw_fd(), Flags::ADD).with_udata(3)]).unwrap()[0].result().unwrap();
    c.bench_function("kevent/bare", |bench| {
        bench.iter(|| {
            // SAFETY: the kernel reads no record, and the buffer has capacity for 64.
            let n = unsafe { kq.kevent_raw(std::ptr::null(), 0, events.as_mut_ptr(), 64, cases::NOW) }.unwrap();
            // SAFETY: the kernel has written so many records.
            unsafe { events.set_len(n) };
            assert_eq!(events[0].udata(), 3);
        });
    });
    c.bench_function("kevent/kevio", |bench| {
        bench.iter(|| {
            assert_eq!(kq.wait(&mut events, cases::NOW).unwrap(), 1);
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

fn main() {
    if std::env::args().any(|argument| argument == "--help") {
        println!(
            "Measures kevio beside mio, polling and bare system calls under criterion, one subject after the other."
        );
        println!("The name of a benchmark is CASE/SUBJECT; an argument selects those whose names contain it.\n");
    }
    all();
    Criterion::default().configure_from_args().final_summary();
}
