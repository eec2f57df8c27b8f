//! Timers, signals and processes beside the bare system calls, tokio's timer and signal-hook, each case under `case/subject`.
//!
//! `cargo bench --bench sources`. Compare within one run; machines differ.

#![allow(missing_docs)] // criterion's macros write functions without.

mod setup;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criterion::{criterion_group, criterion_main, Criterion};

/// How many timers are armed and far away. On Linux each is a descriptor.
const ARMED: usize = 10_000;
const FAR: Duration = Duration::from_secs(3600);

/// How many children have exited.
const CHILDREN: usize = 1_000;

/// Each is a subject's own: signal-hook does not give back what it has taken.
#[cfg(target_os = "linux")]
const TO_BARE: i32 = libc::SIGUSR1;
const TO_KEVIO: i32 = libc::SIGUSR2;
const TO_SIGNAL_HOOK: i32 = libc::SIGHUP;

fn raise(signal: i32) {
    // SAFETY: no pointers; there is a handler.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// Children that exit when they are dropped, or have exited if they have no input.
struct Children(Vec<Child>);

impl Children {
    fn new(many: usize, stdin: impl Fn() -> Stdio) -> Children {
        let child = |_| Command::new("cat").stdin(stdin()).stdout(Stdio::null()).spawn().unwrap();
        Children((0..many).map(child).collect())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        self.0.iter_mut().for_each(|child| drop(child.wait()));
    }
}

mod on_kevio {
    use super::*;
    use kevio::{Backend, Batch, Events, Interest, Poll, Process, Signals, Timer, Token, BACKEND};

    pub fn timers(c: &mut Criterion) {
        crate::setup::allow_descriptors();
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(64);
        let mut timer = Timer::after(FAR).unwrap();
        poll.registry().register(&mut timer, Token(0), Interest::READABLE).unwrap();
        c.bench_function("set a timer again/kevio", |bench| bench.iter(|| timer.set_after(FAR).unwrap()));
        let mut others: Vec<_> = (0..ARMED).map(|_| Timer::after(FAR).unwrap()).collect();
        for other in &mut others {
            poll.registry().register(other, Token(1), Interest::READABLE).unwrap();
        }
        c.bench_function("10 000 armed, one more made and dropped/kevio", |bench| {
            bench.iter(|| {
                let mut timer = Timer::after(FAR).unwrap();
                poll.registry().register(&mut timer, Token(1), Interest::READABLE).unwrap();
            });
        });
        c.bench_function("10 000 armed, set, poll, ask/kevio", |bench| {
            bench.iter(|| {
                timer.set_after(Duration::ZERO).unwrap();
                poll.poll(&mut events, None).unwrap();
                assert_eq!(timer.expirations(events.iter().next().unwrap()).unwrap(), 1);
            });
        });
        c.bench_function("10 000 armed, poll nothing/kevio", |bench| {
            bench.iter(|| poll.poll(&mut events, Some(Duration::ZERO)).unwrap());
        });
    }

    pub fn signals(c: &mut Criterion) {
        // Not every kqueue is told of what is raised.
        if BACKEND == Backend::Kqueue {
            return;
        }
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(64);
        let mut signals = Signals::new([TO_KEVIO]).unwrap();
        poll.registry().register(&mut signals, Token(0), Interest::READABLE).unwrap();
        c.bench_function("raise a signal, poll, ask/kevio", |bench| {
            bench.iter(|| {
                raise(TO_KEVIO);
                poll.poll(&mut events, None).unwrap();
                assert_eq!(signals.received(events.iter().next().unwrap()).unwrap(), [(TO_KEVIO, 1)]);
            });
        });
        c.bench_function("watch a signal and forget it/kevio", |bench| {
            bench.iter(|| {
                let mut signals = Signals::new([TO_KEVIO]).unwrap();
                poll.registry().register(&mut signals, Token(1), Interest::READABLE).unwrap();
            });
        });
    }

    pub fn processes(c: &mut Criterion) {
        crate::setup::allow_descriptors();
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(64);
        let running = Children::new(1, Stdio::piped);
        c.bench_function("watch a process and forget it/kevio", |bench| {
            bench.iter(|| {
                let mut process = Process::new(&running.0[0]).unwrap();
                poll.registry().register(&mut process, Token(0), Interest::READABLE).unwrap();
            });
        });
        let gone = Children::new(CHILDREN, Stdio::null);
        c.bench_function("1 000 children that have exited/kevio", |bench| {
            bench.iter(|| {
                let mut processes: Vec<_> = gone.0.iter().map(|child| Process::new(child).unwrap()).collect();
                let mut batch = Batch::with_capacity(CHILDREN);
                for (token, process) in processes.iter_mut().enumerate() {
                    batch.register(process, Token(token), Interest::READABLE);
                }
                poll.registry().submit(batch).into_iter().for_each(Result::unwrap);
                let mut told = 0;
                while told < CHILDREN {
                    poll.poll(&mut events, None).unwrap();
                    let exited = |event| processes[kevio::event::Event::token(event).0].has_exited(event).unwrap();
                    told += events.iter().filter(|event| exited(event)).count();
                }
            });
        });
    }
}

/// A timer is a place in a wheel of the program's own, which counts milliseconds and asks the system for the next of all.
/// One that is up in a moment is up in the next millisecond: here it is up already, and no call is made.
mod on_tokio {
    use super::*;
    use std::future::{poll_fn, Future};
    use std::pin::Pin;
    use std::task::Poll;
    use tokio::runtime::{Builder, Runtime};
    use tokio::time::{sleep, Instant, Sleep};

    /// As a task that awaits it would.
    fn armed(runtime: &Runtime) -> Pin<Box<Sleep>> {
        let _context = runtime.enter();
        let mut timer = Box::pin(sleep(FAR));
        assert!(!runtime.block_on(poll_fn(|cx| Poll::Ready(timer.as_mut().poll(cx).is_ready()))));
        timer
    }

    pub fn timers(c: &mut Criterion) {
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let mut timer = armed(&runtime);
        c.bench_function("set a timer again/tokio", |bench| {
            bench.iter(|| timer.as_mut().reset(Instant::now() + FAR));
        });
        let _others: Vec<_> = (0..ARMED).map(|_| armed(&runtime)).collect();
        c.bench_function("10 000 armed, one more made and dropped/tokio", |bench| bench.iter(|| armed(&runtime)));
        c.bench_function("10 000 armed, set, poll, ask/tokio", |bench| {
            bench.iter(|| {
                timer.as_mut().reset(Instant::now() - Duration::from_millis(1));
                runtime.block_on(timer.as_mut());
            });
        });
        c.bench_function("10 000 armed, poll nothing/tokio", |bench| {
            bench.iter(|| runtime.block_on(tokio::task::yield_now()));
        });
    }
}

/// A handler that writes to a socket, as kevio's; there is no queue, only a wait for that socket.
mod on_signal_hook {
    use super::*;
    use signal_hook::iterator::Signals;

    pub fn signals(c: &mut Criterion) {
        let mut signals = Signals::new([TO_SIGNAL_HOOK]).unwrap();
        c.bench_function("raise a signal, poll, ask/signal-hook", |bench| {
            bench.iter(|| {
                raise(TO_SIGNAL_HOOK);
                assert!(signals.wait().eq([TO_SIGNAL_HOOK]));
            });
        });
        c.bench_function("watch a signal and forget it/signal-hook", |bench| {
            bench.iter(|| Signals::new([TO_SIGNAL_HOOK]).unwrap());
        });
    }
}

/// timerfd_create(2), eventfd(2) in a handler, pidfd_open(2), and epoll(7).
#[cfg(target_os = "linux")]
mod bare {
    use super::*;
    use libc::c_int;
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::sync::atomic::{AtomicI32, Ordering};

    const MOST: usize = 64;

    fn owned(fd: c_int) -> OwnedFd {
        assert!(fd >= 0);
        // SAFETY: the kernel has just made it, and nobody else has it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    struct Queue(OwnedFd, [libc::epoll_event; MOST]);

    impl Queue {
        fn new() -> Queue {
            // SAFETY: no pointers.
            Queue(
                owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }),
                [libc::epoll_event { events: 0, u64: 0 }; MOST],
            )
        }

        fn add(&self, fd: OwnedFd, mode: c_int) -> OwnedFd {
            let mut event = libc::epoll_event { events: (libc::EPOLLIN | mode) as u32, u64: 1 };
            // SAFETY: the kernel reads one event.
            let result =
                unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) };
            assert_eq!(result, 0);
            fd
        }

        fn wait(&mut self, timeout: c_int) -> usize {
            // SAFETY: the kernel writes no more events than there is room for.
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), self.1.as_mut_ptr(), MOST as c_int, timeout) as usize }
        }
    }

    fn set(timer: &OwnedFd, time: Duration) {
        let timespec =
            |time: Duration| libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
        let time = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(time) };
        // SAFETY: the kernel reads one `itimerspec`, and does not write where there is nothing.
        assert_eq!(unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &time, std::ptr::null_mut()) }, 0);
    }

    /// What a timerfd or an eventfd has counted.
    fn ask(fd: &OwnedFd) -> u64 {
        let mut count = 0_u64;
        // SAFETY: the kernel writes eight bytes, and there is room for them.
        assert_eq!(unsafe { libc::read(fd.as_raw_fd(), (&mut count as *mut u64).cast(), 8) }, 8);
        count
    }

    fn armed(queue: &Queue) -> OwnedFd {
        // SAFETY: no pointers.
        let timer = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        let timer = queue.add(owned(timer), libc::EPOLLET);
        set(&timer, FAR);
        timer
    }

    pub fn timers(c: &mut Criterion) {
        crate::setup::allow_descriptors();
        let mut queue = Queue::new();
        let timer = armed(&queue);
        c.bench_function("set a timer again/bare", |bench| bench.iter(|| set(&timer, FAR)));
        let _others: Vec<_> = (0..ARMED).map(|_| armed(&queue)).collect();
        c.bench_function("10 000 armed, one more made and dropped/bare", |bench| bench.iter(|| armed(&queue)));
        c.bench_function("10 000 armed, set, poll, ask/bare", |bench| {
            bench.iter(|| {
                set(&timer, Duration::from_nanos(1));
                assert_eq!((queue.wait(-1), ask(&timer)), (1, 1));
            });
        });
        c.bench_function("10 000 armed, poll nothing/bare", |bench| bench.iter(|| assert_eq!(queue.wait(0), 0)));
    }

    pub fn signals(c: &mut Criterion) {
        static BELL: AtomicI32 = AtomicI32::new(-1);
        extern "C" fn ring(_: c_int) {
            // SAFETY: the kernel reads eight bytes.
            unsafe { libc::write(BELL.load(Ordering::Relaxed), (&1_u64 as *const u64).cast(), 8) };
        }
        let mut queue = Queue::new();
        // SAFETY: no pointers.
        let bell = queue.add(owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) }), libc::EPOLLET);
        BELL.store(bell.as_raw_fd(), Ordering::Relaxed);
        // SAFETY: the handler only writes.
        unsafe { libc::signal(TO_BARE, ring as extern "C" fn(c_int) as usize) };
        c.bench_function("raise a signal, poll, ask/bare", |bench| {
            bench.iter(|| {
                raise(TO_BARE);
                assert_eq!((queue.wait(-1), ask(&bell)), (1, 1));
            });
        });
        // SAFETY: no pointers.
        unsafe { libc::signal(TO_BARE, libc::SIG_DFL) };
    }

    fn watched(queue: &Queue, child: &Child) -> OwnedFd {
        // SAFETY: no pointers.
        let process = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) } as c_int;
        queue.add(owned(process), libc::EPOLLONESHOT)
    }

    pub fn processes(c: &mut Criterion) {
        crate::setup::allow_descriptors();
        let mut queue = Queue::new();
        let running = Children::new(1, Stdio::piped);
        c.bench_function("watch a process and forget it/bare", |bench| bench.iter(|| watched(&queue, &running.0[0])));
        let gone = Children::new(CHILDREN, Stdio::null);
        c.bench_function("1 000 children that have exited/bare", |bench| {
            bench.iter(|| {
                let _processes: Vec<_> = gone.0.iter().map(|child| watched(&queue, child)).collect();
                let mut told = 0;
                while told < CHILDREN {
                    told += queue.wait(-1);
                }
            });
        });
    }
}

#[cfg(not(target_os = "linux"))]
mod bare {
    pub fn timers(_: &mut super::Criterion) {}
    pub fn signals(_: &mut super::Criterion) {}
    pub fn processes(_: &mut super::Criterion) {}
}

criterion_group! {
    name = all;
    config = setup::short();
    targets =
        bare::timers, on_kevio::timers, on_tokio::timers, bare::signals, on_kevio::signals, on_signal_hook::signals,
        bare::processes, on_kevio::processes
}
criterion_main!(all);
