//! Timers and processes beside the bare system calls, each case under `case/subject`.
//!
//! `cargo bench --bench sources`. Compare within one run; machines differ.

#![allow(missing_docs)] // criterion's macros write functions without.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criterion::{criterion_group, criterion_main, Criterion};
use kevio::{Events, Interest, Poll, Process, Timer, Token};

/// How many timers are armed and far away. On Linux each is a descriptor.
const ARMED: usize = 10_000;
const FAR: Duration = Duration::from_secs(3600);

fn allow_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes and reads one `rlimit`.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max;
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

fn child() -> Child {
    Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn end(child: &mut Child) {
    drop(child.stdin.take());
    child.wait().unwrap();
}

fn on_kevio(c: &mut Criterion) {
    allow_descriptors();
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(64);
    let mut timer = Timer::after(FAR).unwrap();
    poll.registry().register(&mut timer, Token(0), Interest::READABLE).unwrap();
    c.bench_function("set a timer again/kevio", |bench| bench.iter(|| timer.set_after(FAR).unwrap()));
    let mut others: Vec<_> = (0..ARMED).map(|_| Timer::after(FAR).unwrap()).collect();
    for other in &mut others {
        poll.registry().register(other, Token(1), Interest::READABLE).unwrap();
    }
    c.bench_function("set, poll, ask with 10 000 armed/kevio", |bench| {
        bench.iter(|| {
            timer.set_after(Duration::ZERO).unwrap();
            poll.poll(&mut events, None).unwrap();
            assert_eq!(timer.expirations(events.iter().next().unwrap()).unwrap(), 1);
        });
    });
    drop(others);
    let mut child = child();
    c.bench_function("watch a process and forget it/kevio", |bench| {
        bench.iter(|| {
            let mut process = Process::new(&child).unwrap();
            poll.registry().register(&mut process, Token(2), Interest::READABLE).unwrap();
        });
    });
    end(&mut child);
}

#[cfg(target_os = "linux")]
fn bare_calls(c: &mut Criterion) {
    allow_descriptors();
    let (zero, soon) = (Duration::ZERO, Duration::from_nanos(1));
    // SAFETY: every call below gets descriptors that are open and memory that is large enough, and is checked.
    unsafe {
        let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
        assert!(epoll >= 0);
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 1 };
        let mut events = [event; 64];
        let mut add = |fd| {
            assert!(fd >= 0);
            assert_eq!(libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event), 0);
            fd
        };
        let timespec =
            |time: Duration| libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
        let set = |fd, time| {
            let time = libc::itimerspec { it_interval: timespec(zero), it_value: timespec(time) };
            assert_eq!(libc::timerfd_settime(fd, 0, &time, std::ptr::null_mut()), 0);
        };
        let make = || libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK);
        let timer = add(make());
        c.bench_function("set a timer again/bare", |bench| bench.iter(|| set(timer, FAR)));
        let others: Vec<_> = (0..ARMED).map(|_| add(make())).collect();
        others.iter().for_each(|&other| set(other, FAR));
        c.bench_function("set, poll, ask with 10 000 armed/bare", |bench| {
            bench.iter(|| {
                set(timer, soon);
                assert_eq!(libc::epoll_wait(epoll, events.as_mut_ptr(), 64, -1), 1);
                assert_eq!(libc::read(timer, [0_u64].as_mut_ptr().cast(), 8), 8);
            });
        });
        others.into_iter().chain([timer]).for_each(|fd| assert_eq!(libc::close(fd), 0));
        let mut child = child();
        c.bench_function("watch a process and forget it/bare", |bench| {
            bench.iter(|| {
                let process = add(libc::syscall(libc::SYS_pidfd_open, child.id(), 0) as libc::c_int);
                assert_eq!(libc::close(process), 0);
            });
        });
        end(&mut child);
        libc::close(epoll);
    }
}

#[cfg(not(target_os = "linux"))]
fn bare_calls(_: &mut Criterion) {}

fn short() -> Criterion {
    Criterion::default()
        .sample_size(30)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
}

criterion_group! {
    name = all;
    config = short();
    targets = bare_calls, on_kevio
}
criterion_main!(all);
