//! Timers, signals, processes and watches beside the bare system calls, tokio's timer and signal-hook, under criterion. The name of a
//! benchmark is `case/subject`.
//!
//! `cargo bench --bench sources` measures all cases. Times of different runs or machines cannot be compared.

#![allow(missing_docs)] // The functions that criterion's macros write have no docs.

#[path = "../setup/mod.rs"]
mod setup;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use criterion::{criterion_group, Criterion};

/// The number of armed timers that do not expire during the bench. On Linux each is a descriptor.
const ARMED: usize = 10_000;
const FAR: Duration = Duration::from_secs(3600);

/// The number of exited children.
const CHILDREN: usize = 1_000;

// Each subject has a signal of its own, because signal-hook never restores the handler before.
#[cfg(target_os = "linux")]
const TO_BARE: i32 = libc::SIGUSR1;
const TO_KEVIO: i32 = libc::SIGUSR2;
const TO_SIGNAL_HOOK: i32 = libc::SIGHUP;

fn raise(signal: i32) {
    // SAFETY: the call takes no pointers, and the signal has a handler.
    assert_eq!(unsafe { libc::raise(signal) }, 0);
}

/// Children that exit when this value is dropped. Children without input exit at once.
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

fn write_at_start(file: &std::fs::File) {
    std::os::unix::fs::FileExt::write_all_at(file, b"x", 0).unwrap();
}

mod on_kevio {
    use super::*;
    use kevio::{Backend, Batch, Events, FileChanges, Interest, Poll, Process, Signals, Timer, Token, Watch, BACKEND};

    pub fn timers(c: &mut Criterion) {
        super::setup::allow_descriptors();
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(64);
        let mut timer = Timer::after(FAR).unwrap();
        poll.registry().register(&mut timer, Token(0), Interest::READABLE).unwrap();
        c.bench_function("set a timer again/kevio", |bench| bench.iter(|| timer.set_after(FAR).unwrap()));
        let mut others: Vec<_> = (0..ARMED).map(|_| Timer::after(FAR).unwrap()).collect();
        for other in &mut others {
            poll.registry().register(other, Token(1), Interest::READABLE).unwrap();
        }
        c.bench_function("10 000 armed, one more created and dropped/kevio", |bench| {
            bench.iter(|| {
                let mut timer = Timer::after(FAR).unwrap();
                poll.registry().register(&mut timer, Token(1), Interest::READABLE).unwrap();
            });
        });
        c.bench_function("10 000 armed, set, poll, read/kevio", |bench| {
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
        // raise(3) sends a signal to a thread. Some kqueues do not report such signals.
        if BACKEND == Backend::Kqueue {
            return;
        }
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(64);
        let mut signals = Signals::new([TO_KEVIO]).unwrap();
        poll.registry().register(&mut signals, Token(0), Interest::READABLE).unwrap();
        c.bench_function("raise a signal, poll, read/kevio", |bench| {
            bench.iter(|| {
                raise(TO_KEVIO);
                poll.poll(&mut events, None).unwrap();
                assert_eq!(signals.received(events.iter().next().unwrap()).unwrap(), [(TO_KEVIO, 1)]);
            });
        });
        c.bench_function("register a signal and drop it/kevio", |bench| {
            bench.iter(|| {
                let mut signals = Signals::new([TO_KEVIO]).unwrap();
                poll.registry().register(&mut signals, Token(1), Interest::READABLE).unwrap();
            });
        });
    }

    pub fn processes(c: &mut Criterion) {
        super::setup::allow_descriptors();
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(64);
        let running = Children::new(1, Stdio::piped);
        c.bench_function("register a process and drop it/kevio", |bench| {
            bench.iter(|| {
                let mut process = Process::new(&running.0[0]).unwrap();
                poll.registry().register(&mut process, Token(0), Interest::READABLE).unwrap();
            });
        });
        let exited = Children::new(CHILDREN, Stdio::null);
        c.bench_function("1 000 children that have exited/kevio", |bench| {
            bench.iter(|| {
                let mut processes: Vec<_> = exited.0.iter().map(|child| Process::new(child).unwrap()).collect();
                let mut batch = Batch::with_capacity(CHILDREN);
                for (token, process) in processes.iter_mut().enumerate() {
                    batch.register(process, Token(token), Interest::READABLE);
                }
                poll.registry().submit(batch).into_iter().for_each(Result::unwrap);
                let mut reported = 0;
                while reported < CHILDREN {
                    poll.poll(&mut events, None).unwrap();
                    let has_exited =
                        |event: &kevio::event::Event| processes[event.token().0].has_exited(event).unwrap();
                    reported += events.iter().filter(|event| has_exited(event)).count();
                }
            });
        });
    }

    pub fn watches(c: &mut Criterion) {
        let mut poll = Poll::new().unwrap();
        let mut events = Events::with_capacity(64);
        let file = tempfile::tempfile().unwrap();
        // Some systems do not report changes of files.
        let Ok(mut watch) = Watch::with_changes(file.try_clone().unwrap(), FileChanges::WRITTEN) else { return };
        poll.registry().register(&mut watch, Token(0), Interest::READABLE).unwrap();
        c.bench_function("write to a file, poll, read/kevio", |bench| {
            bench.iter(|| {
                write_at_start(&file);
                poll.poll(&mut events, None).unwrap();
                assert_eq!(watch.changes(events.iter().next().unwrap()).unwrap(), FileChanges::WRITTEN);
            });
        });
        let other = tempfile::tempfile().unwrap();
        c.bench_function("register a watch and drop it/kevio", |bench| {
            bench.iter(|| {
                let mut watch = Watch::with_changes(&other, FileChanges::WRITTEN).unwrap();
                poll.registry().register(&mut watch, Token(1), Interest::READABLE).unwrap();
            });
        });
    }
}

/// A timer of tokio is an entry of a timer wheel in the process, with a resolution of a millisecond. Only the next expiration of
/// all timers is a timeout of the system. The timer of the case that expires at once has expired already, so that tokio makes
/// no system call.
mod on_tokio {
    use super::*;
    use std::future::{poll_fn, Future};
    use std::pin::Pin;
    use std::task::Poll;
    use tokio::runtime::{Builder, Runtime};
    use tokio::time::{sleep, Instant, Sleep};

    /// Returns a timer that was polled once, as by a task that awaits it.
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
        c.bench_function("10 000 armed, one more created and dropped/tokio", |bench| bench.iter(|| armed(&runtime)));
        c.bench_function("10 000 armed, set, poll, read/tokio", |bench| {
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

/// The handler writes to a socket, as the handler of kevio does. The wait is for this socket only.
mod on_signal_hook {
    use super::*;
    use signal_hook::iterator::Signals;

    pub fn signals(c: &mut Criterion) {
        let mut signals = Signals::new([TO_SIGNAL_HOOK]).unwrap();
        c.bench_function("raise a signal, poll, read/signal-hook", |bench| {
            bench.iter(|| {
                raise(TO_SIGNAL_HOOK);
                assert!(signals.wait().eq([TO_SIGNAL_HOOK]));
            });
        });
        c.bench_function("register a signal and drop it/signal-hook", |bench| {
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

    const MAX_EVENTS: usize = 64;

    fn owned(fd: c_int) -> OwnedFd {
        assert!(fd >= 0);
        // SAFETY: the kernel has just created this descriptor, and no other code owns it.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }

    struct Queue(OwnedFd, [libc::epoll_event; MAX_EVENTS]);

    impl Queue {
        fn new() -> Queue {
            // SAFETY: the call takes no pointers.
            Queue(
                owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) }),
                [libc::epoll_event { events: 0, u64: 0 }; MAX_EVENTS],
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
            // SAFETY: the kernel writes at most as many events as the buffer holds.
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), self.1.as_mut_ptr(), MAX_EVENTS as c_int, timeout) as usize }
        }
    }

    fn set(timer: &OwnedFd, time: Duration) {
        let timespec =
            |time: Duration| libc::timespec { tv_sec: time.as_secs() as _, tv_nsec: time.subsec_nanos() as _ };
        let time = libc::itimerspec { it_interval: timespec(Duration::ZERO), it_value: timespec(time) };
        // SAFETY: the kernel reads one `itimerspec`, and writes nothing to a null pointer.
        assert_eq!(unsafe { libc::timerfd_settime(timer.as_raw_fd(), 0, &time, std::ptr::null_mut()) }, 0);
    }

    /// Reads the counter of a timerfd or an eventfd.
    fn read_counter(fd: &OwnedFd) -> u64 {
        let mut count = 0_u64;
        // SAFETY: the kernel writes eight bytes, and the buffer holds them.
        assert_eq!(unsafe { libc::read(fd.as_raw_fd(), (&mut count as *mut u64).cast(), 8) }, 8);
        count
    }

    fn armed(queue: &Queue) -> OwnedFd {
        // SAFETY: the call takes no pointers.
        let timer = unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK) };
        let timer = queue.add(owned(timer), libc::EPOLLET);
        set(&timer, FAR);
        timer
    }

    pub fn timers(c: &mut Criterion) {
        super::setup::allow_descriptors();
        let mut queue = Queue::new();
        let timer = armed(&queue);
        c.bench_function("set a timer again/bare", |bench| bench.iter(|| set(&timer, FAR)));
        let _others: Vec<_> = (0..ARMED).map(|_| armed(&queue)).collect();
        c.bench_function("10 000 armed, one more created and dropped/bare", |bench| bench.iter(|| armed(&queue)));
        c.bench_function("10 000 armed, set, poll, read/bare", |bench| {
            bench.iter(|| {
                set(&timer, Duration::from_nanos(1));
                assert_eq!((queue.wait(-1), read_counter(&timer)), (1, 1));
            });
        });
        c.bench_function("10 000 armed, poll nothing/bare", |bench| bench.iter(|| assert_eq!(queue.wait(0), 0)));
    }

    pub fn signals(c: &mut Criterion) {
        static EVENTFD: AtomicI32 = AtomicI32::new(-1);
        extern "C" fn notify(_: c_int) {
            // SAFETY: the kernel reads eight bytes.
            unsafe { libc::write(EVENTFD.load(Ordering::Relaxed), (&1_u64 as *const u64).cast(), 8) };
        }
        let mut queue = Queue::new();
        // SAFETY: the call takes no pointers.
        let eventfd = queue.add(owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) }), libc::EPOLLET);
        EVENTFD.store(eventfd.as_raw_fd(), Ordering::Relaxed);
        // SAFETY: the handler only writes.
        unsafe { libc::signal(TO_BARE, notify as extern "C" fn(c_int) as usize) };
        c.bench_function("raise a signal, poll, read/bare", |bench| {
            bench.iter(|| {
                raise(TO_BARE);
                assert_eq!((queue.wait(-1), read_counter(&eventfd)), (1, 1));
            });
        });
        // SAFETY: the call takes no pointers.
        unsafe { libc::signal(TO_BARE, libc::SIG_DFL) };
    }

    fn watched(queue: &Queue, child: &Child) -> OwnedFd {
        // SAFETY: the call takes no pointers.
        let process = unsafe { libc::syscall(libc::SYS_pidfd_open, child.id(), 0) } as c_int;
        queue.add(owned(process), libc::EPOLLONESHOT)
    }

    pub fn processes(c: &mut Criterion) {
        super::setup::allow_descriptors();
        let mut queue = Queue::new();
        let running = Children::new(1, Stdio::piped);
        c.bench_function("register a process and drop it/bare", |bench| bench.iter(|| watched(&queue, &running.0[0])));
        let exited = Children::new(CHILDREN, Stdio::null);
        c.bench_function("1 000 children that have exited/bare", |bench| {
            bench.iter(|| {
                let _processes: Vec<_> = exited.0.iter().map(|child| watched(&queue, child)).collect();
                let mut reported = 0;
                while reported < CHILDREN {
                    reported += queue.wait(-1);
                }
            });
        });
    }

    fn add_watch(inotify: &OwnedFd, file: &std::fs::File) -> c_int {
        let path = std::ffi::CString::new(format!("/proc/thread-self/fd/{}", file.as_raw_fd())).unwrap();
        // SAFETY: the path ends with a zero.
        unsafe { libc::inotify_add_watch(inotify.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY) }
    }

    pub fn watches(c: &mut Criterion) {
        let mut queue = Queue::new();
        // SAFETY: the call takes no pointers.
        let inotify = queue.add(owned(unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) }), 0);
        let file = tempfile::tempfile().unwrap();
        add_watch(&inotify, &file);
        let mut buffer = [0; 4096];
        c.bench_function("write to a file, poll, read/bare", |bench| {
            bench.iter(|| {
                write_at_start(&file);
                assert_eq!(queue.wait(-1), 1);
                // SAFETY: the kernel writes at most as many bytes as the buffer holds.
                let len = unsafe { libc::read(inotify.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
                assert_eq!(len, 16);
            });
        });
        let other = tempfile::tempfile().unwrap();
        c.bench_function("register a watch and drop it/bare", |bench| {
            bench.iter(|| {
                let watch = add_watch(&inotify, &other);
                // SAFETY: the call takes no pointers.
                assert_eq!(unsafe { libc::inotify_rm_watch(inotify.as_raw_fd(), watch as _) }, 0);
            });
        });
    }
}

#[cfg(not(target_os = "linux"))]
mod bare {
    pub fn timers(_: &mut super::Criterion) {}
    pub fn signals(_: &mut super::Criterion) {}
    pub fn processes(_: &mut super::Criterion) {}
    pub fn watches(_: &mut super::Criterion) {}
}

criterion_group! {
    name = all;
    config = setup::short();
    targets =
        bare::timers, on_kevio::timers, on_tokio::timers, bare::signals, on_kevio::signals, on_signal_hook::signals,
        bare::processes, on_kevio::processes, bare::watches, on_kevio::watches
}

pub fn main() {
    all();
    Criterion::default().configure_from_args().final_summary();
}
