//! The CPU time of waits that end with their timeout.

use std::time::{Duration, Instant};

use kevio::{Backend, BACKEND};

use super::cases::subject::{Kevio, Mio, Subject};
use super::processors::{micros, pin_thread, Usage};
use super::{Effort, MAIN};

const TIMEOUTS: [u64; 6] = [10, 100, 500, 1_000, 5_000, 10_000];

/// A way to wait for a time.
struct Contestant {
    name: &'static str,
    wait: Box<dyn FnMut(Duration)>,
    /// For each timeout, the number of waits and their use of processors.
    results: [(u32, Usage); TIMEOUTS.len()],
}

impl Contestant {
    fn new(name: &'static str, wait: impl FnMut(Duration) + 'static) -> Contestant {
        Contestant { name, wait: Box::new(wait), results: Default::default() }
    }

    fn poll<S: Subject>(name: &'static str) -> Contestant {
        let mut subject = S::new(8);
        Contestant::new(name, move |timeout| subject.poll_once(Some(timeout), |_| unreachable!("nothing is ready")))
    }

    fn run(&mut self, index: usize, time: Duration) {
        let (count, usage) = &mut self.results[index];
        usage.measure(|| {
            let start = Instant::now();
            loop {
                (self.wait)(Duration::from_micros(TIMEOUTS[index]));
                *count += 1;
                if start.elapsed() >= time {
                    return;
                }
            }
        });
    }

    /// Describes the waits with one timeout: how long one lasts, its CPU time, and the CPU time of a second.
    fn describe(&self, index: usize) -> String {
        let (count, usage) = &self.results[index];
        let [elapsed, cpu] = [usage.elapsed, usage.cpu].map(|time| micros(time / *count));
        format!("{elapsed}, {cpu}, {:.1} ms", usage.processors() * 1000.0)
    }
}

/// Returns a function that waits for a timer of kevio.
fn timer() -> impl FnMut(Duration) {
    use kevio::{Events, Interest, Poll, Timer, Token};

    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
    let mut timer = Timer::new().unwrap();
    poll.registry().register(&mut timer, Token(0), Interest::READABLE).unwrap();
    move |delay| {
        timer.set_after(delay).unwrap();
        poll.poll(&mut events, None).unwrap();
        let event = events.iter().next().expect("the poll returned for the timer");
        assert_eq!(timer.expirations(event).unwrap(), 1);
    }
}

/// The system calls that have a timeout in nanoseconds.
#[cfg(target_os = "linux")]
fn bare() -> Vec<Contestant> {
    use rustix::event::{epoll, poll, Timespec};

    match BACKEND {
        Backend::Epoll => {
            let queue = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
            vec![Contestant::new("epoll_pwait2", move |timeout| epoll_pwait2(&queue, timeout))]
        }
        Backend::Poll => {
            let timespec = |timeout: Duration| Timespec::try_from(timeout).unwrap();
            let wait = move |timeout| assert_eq!(poll(&mut [], Some(&timespec(timeout))), Ok(0));
            vec![Contestant::new("ppoll", wait)]
        }
        _ => Vec::new(),
    }
}

/// Waits for an event of a queue without registrations. rustix would call epoll_pwait(2), which has milliseconds.
#[cfg(target_os = "linux")]
fn epoll_pwait2(queue: &std::os::fd::OwnedFd, timeout: Duration) {
    use std::os::fd::AsRawFd;

    let mut event = libc::epoll_event { events: 0, u64: 0 };
    let timeout = libc::timespec { tv_sec: timeout.as_secs() as _, tv_nsec: timeout.subsec_nanos() as _ };
    let no_mask = std::ptr::null::<libc::sigset_t>();
    // SAFETY: the kernel reads one `timespec`, and writes at most one event. The mask is absent.
    let count =
        unsafe { libc::syscall(libc::SYS_epoll_pwait2, queue.as_raw_fd(), &mut event, 1, &timeout, no_mask, 0_usize) };
    assert_eq!(count, 0);
}

#[cfg(all(has_kqueue, not(target_os = "linux")))]
fn bare() -> Vec<Contestant> {
    match BACKEND {
        Backend::Kqueue => vec![Contestant::poll::<super::cases::bare_kqueue::Kqueue>("kevent")],
        _ => Vec::new(),
    }
}

#[cfg(not(any(target_os = "linux", has_kqueue)))]
fn bare() -> Vec<Contestant> {
    Vec::new()
}

pub fn print(effort: &Effort) {
    pin_thread(MAIN);
    let mio = if BACKEND == Backend::Kqueue { "mio" } else { "mio, whole milliseconds" };
    let mut contestants = vec![
        Contestant::poll::<Kevio>("kevio"),
        Contestant::new("kevio, `Timer`", timer()),
        Contestant::poll::<Mio>(mio),
    ];
    contestants.extend(bare());
    for _ in 0..effort.rounds {
        for index in 0..TIMEOUTS.len() {
            contestants.iter_mut().for_each(|contestant| contestant.run(index, effort.turn / 2));
        }
        contestants.rotate_left(1);
    }
    let count = contestants.len();
    contestants.rotate_right(effort.rounds % count);
    let names: Vec<_> = contestants.iter().map(|contestant| contestant.name).collect();
    println!("\n| timeout | {} |\n|---|{}", names.join(" | "), "---:|".repeat(names.len()));
    for (index, &timeout) in TIMEOUTS.iter().enumerate() {
        let cells: Vec<_> = contestants.iter().map(|contestant| contestant.describe(index)).collect();
        println!("| {:?} | {} |", Duration::from_micros(timeout), cells.join(" | "));
    }
    print_switches(&contestants);
}

/// Prints the range of the number of times that a wait blocks.
fn print_switches(contestants: &[Contestant]) {
    let results = contestants.iter().flat_map(|contestant| &contestant.results);
    let ratios = results.map(|(count, usage)| usage.switches as f64 / f64::from(*count));
    let (low, high) = ratios.fold((f64::MAX, 0.0_f64), |(low, high), ratio| (low.min(ratio), high.max(ratio)));
    println!("\nEach wait blocks {low:.2} to {high:.2} times.");
}
