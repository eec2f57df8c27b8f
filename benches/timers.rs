//! The costs of timers and wakers by their number, and the lateness of timers beside one timer of the kernel for each.
//!
//! `cargo bench --bench timers` prints two tables. The costs are medians of 21 rounds. For the lateness the two subjects take
//! turns.

#[allow(dead_code)] // The cases of the bench `ratios`.
mod cases;
mod setup;

use std::hint::black_box;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use cases::subject::{Kevio, Subject};
use kevio::{Events, Interest, Poll, Timer, Token, Waker, BACKEND};

const FAR: Duration = Duration::from_secs(3600);
const ROUNDS: usize = 21;
const WAKERS: usize = 10_000;

/// Returns the median time of one of `times` operations, in nanoseconds.
fn median(times: u32, mut operations: impl FnMut(u32)) -> f64 {
    let mut rounds: Vec<_> = (0..ROUNDS)
        .map(|_| {
            let start = Instant::now();
            operations(times);
            start.elapsed()
        })
        .collect();
    rounds.sort();
    rounds[ROUNDS / 2].as_nanos() as f64 / f64::from(times)
}

fn print_cost(operation: &str, nanoseconds: f64) {
    println!("| {operation} | {nanoseconds:.0} ns |");
}

/// A registered timer that is set to an hour and some microseconds, so that the timers have different times.
fn armed(poll: &Poll, index: usize) -> Timer {
    let mut timer = Timer::after(FAR + Duration::from_micros((index * 7919 % 1_000_003) as u64)).unwrap();
    poll.registry().register(&mut timer, Token(index), Interest::READABLE).unwrap();
    timer
}

/// Measures with `many` armed timers. The measured timer is the one `stride` timers after the last.
fn timers(many: usize, stride: usize) {
    let order = if stride == 1 { "in order" } else { "in a random order" };
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(64);
    let mut timers: Vec<_> = (0..many).map(|index| armed(&poll, index)).collect();
    let mut next = 0;
    let mut index = move || {
        next = (next + stride) % many;
        next
    };
    let times = 10_000;
    let (start, mut step) = (Instant::now() + FAR, 0);
    let set_at = median(times, |times| {
        for _ in 0..times {
            step = (step + 104_729) % 1_000_000_007;
            timers[index()].set_at(start + Duration::from_nanos(step)).unwrap();
        }
    });
    print_cost(&format!("`set_at`, {many} armed, {order}"), set_at);
    let set_after = median(times, |times| (0..times).for_each(|_| timers[index()].set_after(FAR).unwrap()));
    print_cost(&format!("`set_after`, {many} armed, {order}"), set_after);
    let cancel = median(times, |times| {
        for _ in 0..times {
            let timer = &mut timers[index()];
            timer.cancel().unwrap();
            timer.set_at(start).unwrap();
        }
    });
    print_cost(&format!("`cancel` and `set_at`, {many} armed, {order}"), cancel);
    if stride == 1 {
        return;
    }
    let create = median(times, |times| (0..times).for_each(|_| drop(black_box(armed(&poll, many)))));
    print_cost(&format!("create, register and drop, {many} armed"), create);
    let poll_nothing = median(times, |times| {
        (0..times).for_each(|_| poll.poll(&mut events, Some(Duration::ZERO)).unwrap());
    });
    print_cost(&format!("a poll with a timeout of zero, {many} armed"), poll_nothing);
}

/// A byte through a stream: write, poll without a timeout, read. Returns the time with 10 000 armed timers over that without.
fn one_ready() {
    let stream = || {
        let (a, b) = cases::pair();
        let mut a = Kevio::socket(a);
        let poll = Poll::new().unwrap();
        poll.registry().register(&mut a, Token(0), Interest::READABLE).unwrap();
        (poll, a, b)
    };
    let mut events = Events::with_capacity(64);
    let (mut with, mut without) = (stream(), stream());
    let _timers: Vec<_> = (0..10_000).map(|index| armed(&with.0, index)).collect();
    let mut time = |(poll, a, b): &mut (Poll, kevio::net::TcpStream, cases::Stream)| {
        b.write_all(b"x").unwrap();
        let start = Instant::now();
        poll.poll(&mut events, None).unwrap();
        let elapsed = start.elapsed();
        while a.read(&mut [0; 8]).is_ok() {}
        elapsed.as_nanos() as f64
    };
    let mut times = [Vec::new(), Vec::new()];
    for _ in 0..50_000 {
        times[0].push(time(&mut with));
        times[1].push(time(&mut without));
    }
    let [with, without] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    println!("| a poll that returns one ready stream, 10 000 armed over none | {:.2} |", with / without);
}

fn wakers() {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(64);
    let _first = Waker::new(poll.registry(), Token(0)).unwrap();
    let mut wakers = Vec::with_capacity(WAKERS);
    let start = Instant::now();
    wakers.extend((0..WAKERS).map(|token| Waker::new(poll.registry(), Token(token)).unwrap()));
    print_cost("create a waker, 10 000 of them", start.elapsed().as_nanos() as f64 / WAKERS as f64);
    let mut next = 0;
    let wake = median(1000, |times| {
        for _ in 0..times {
            next = (next + 7919) % WAKERS;
            wakers[next].wake().unwrap();
            poll.poll(&mut events, None).unwrap();
        }
    });
    print_cost("wake one of 10 000 wakers, and poll", wake);
    let start = Instant::now();
    drop(wakers);
    print_cost("drop a waker, 10 000 of them", start.elapsed().as_nanos() as f64 / WAKERS as f64);
    println!("| size of a `Timer` and of a `Waker` | {} and {} bytes |", size_of::<Timer>(), size_of::<Waker>());
}

fn size_of<T>() -> usize {
    std::mem::size_of::<T>()
}

/// A timer of the kernel for each timer.
#[cfg(any(target_os = "linux", target_os = "android"))]
mod bare {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::time::Duration;

    pub const NAME: &str = "timerfd";

    pub struct Bare {
        epoll: OwnedFd,
        timer: OwnedFd,
    }

    fn owned(fd: libc::c_int) -> OwnedFd {
        assert!(fd >= 0);
        // SAFETY: the kernel has just created this descriptor, and no other code owns it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    impl Bare {
        pub fn new() -> Bare {
            // SAFETY: the calls take no pointers.
            let (epoll, timer) = unsafe {
                (
                    owned(libc::epoll_create1(libc::EPOLL_CLOEXEC)),
                    owned(libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)),
                )
            };
            let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 1 };
            // SAFETY: the kernel reads one event.
            let result =
                unsafe { libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, timer.as_raw_fd(), &mut event) };
            assert_eq!(result, 0);
            Bare { epoll, timer }
        }

        pub fn wait(&mut self, delay: Duration) {
            let timespec =
                |time: Duration| libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
            let time = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(delay) };
            let mut event = libc::epoll_event { events: 0, u64: 0 };
            let mut count = 0_u64;
            // SAFETY: the kernel reads one `itimerspec`, writes one event, and writes eight bytes.
            unsafe {
                assert_eq!(libc::timerfd_settime(self.timer.as_raw_fd(), 0, &time, std::ptr::null_mut()), 0);
                assert_eq!(libc::epoll_wait(self.epoll.as_raw_fd(), &mut event, 1, -1), 1);
                assert_eq!(libc::read(self.timer.as_raw_fd(), (&mut count as *mut u64).cast(), 8), 8);
            }
        }
    }
}

/// A timer of the kernel for each timer.
#[cfg(all(has_kqueue, not(links_libkqueue)))]
mod bare {
    use std::time::Duration;

    use kevio::unix::kqueue::{Flags, Kevent, Kqueue, TimerUnit};

    pub const NAME: &str = "EVFILT_TIMER";

    pub struct Bare(Kqueue, Vec<Kevent>);

    impl Bare {
        pub fn new() -> Bare {
            Bare(Kqueue::new().unwrap(), Vec::with_capacity(1))
        }

        pub fn wait(&mut self, delay: Duration) {
            let flags = Flags::ADD | Flags::ONESHOT;
            let add = Kevent::timer(1, flags, delay.as_nanos() as i64, TimerUnit::Nanoseconds).unwrap();
            assert_eq!(self.0.kevent(&[add], &mut self.1, None).unwrap(), 1);
        }
    }
}

/// No timer that can be waited for beside descriptors.
#[cfg(not(any(target_os = "linux", target_os = "android", has_kqueue)))]
mod bare {
    pub const NAME: &str = if cfg!(windows) { "thread::sleep" } else { "nanosleep" };

    pub struct Bare;

    impl Bare {
        pub fn new() -> Bare {
            Bare
        }

        pub fn wait(&mut self, delay: std::time::Duration) {
            std::thread::sleep(delay);
        }
    }
}

/// Returns the 50th and the 99th percentile in microseconds.
fn percentiles(mut lateness: Vec<Duration>) -> (f64, f64) {
    lateness.sort();
    let at = |percent: usize| lateness[(lateness.len() - 1) * percent / 100].as_nanos() as f64 / 1000.0;
    (at(50), at(99))
}

fn lateness(delay: Duration, times: usize) {
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
    let mut timer = Timer::new().unwrap();
    poll.registry().register(&mut timer, Token(0), Interest::READABLE).unwrap();
    let mut bare = bare::Bare::new();
    let mut late = [Vec::new(), Vec::new()];
    for _ in 0..times {
        let start = Instant::now();
        timer.set_after(delay).unwrap();
        while timer.remaining().is_some() {
            poll.poll(&mut events, None).unwrap();
            for event in &events {
                assert_eq!(timer.expirations(event).unwrap(), 1);
            }
        }
        late[0].push(start.elapsed() - delay);
        let start = Instant::now();
        bare.wait(delay);
        late[1].push(start.elapsed().saturating_sub(delay));
    }
    let [(kevio, kevio_99), (bare, bare_99)] = late.map(percentiles);
    println!("| {delay:?} | {kevio:.1} µs | {kevio_99:.1} µs | {bare:.1} µs | {bare_99:.1} µs |");
}

fn main() {
    // `cargo test --benches` passes no `--bench`, and only checks that the program starts.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    println!("\n| cost on {BACKEND} | |\n|---|---:|");
    for many in [10_000, 1_000_000] {
        timers(many, 1);
        timers(many, 7919);
    }
    one_ready();
    wakers();
    println!("\n| late on {BACKEND} | 50th percentile | 99th percentile | {0}, 50th | {0}, 99th |", bare::NAME);
    println!("|---|---:|---:|---:|---:|");
    for (microseconds, times) in [(10, 3000), (100, 3000), (1_000, 1000), (1_000_000, 10)] {
        lateness(Duration::from_micros(microseconds), times);
    }
}
