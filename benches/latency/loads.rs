//! Many timers at random distances: wakeups, CPU time and lateness by the slack.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use kevio::{Events, Interest, Poll, Timer, Token};

use super::cases::subject::{Mio, Subject};
use super::processors::{micros, percentiles, pin_thread, Usage};
use super::{Effort, MAIN};

/// A number of timers. Each is set again when it expires, to a random delay in this range of microseconds.
struct Load {
    name: &'static str,
    timers: usize,
    delays: (u64, u64),
}

const LOADS: [Load; 3] = [
    Load { name: "1 000 timers a second", timers: 1_000, delays: (500_000, 1_500_000) },
    Load { name: "10 000 timers a second", timers: 10_000, delays: (500_000, 1_500_000) },
    // The load of golang/go#53824.
    Load { name: "50 timers of 20 µs to 1 ms", timers: 50, delays: (20, 1_000) },
];

/// The pseudorandom numbers of xorshift64.
struct Random(u64);

impl Random {
    fn duration(&mut self, (low, high): (u64, u64)) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        Duration::from_nanos(low * 1000 + self.0 % ((high - low) * 1000))
    }
}

/// A set of numbered timers, and the wait for them.
trait Timers {
    fn set(&mut self, index: usize, deadline: Instant);
    /// Waits once, and appends the numbers of the timers that have expired.
    fn wait(&mut self, expired: &mut Vec<usize>);
}

struct KevioTimers {
    poll: Poll,
    events: Events,
    timers: Vec<Timer>,
}

impl KevioTimers {
    fn new(count: usize, slack: Duration) -> KevioTimers {
        let mut poll = Poll::new().unwrap();
        poll.set_timer_slack(slack);
        let mut timers: Vec<_> = (0..count).map(|_| Timer::new().unwrap()).collect();
        for (index, timer) in timers.iter_mut().enumerate() {
            poll.registry().register(timer, Token(index), Interest::READABLE).unwrap();
        }
        KevioTimers { poll, events: Events::with_capacity(1024), timers }
    }
}

impl Timers for KevioTimers {
    fn set(&mut self, index: usize, deadline: Instant) {
        self.timers[index].set_at(deadline).unwrap();
    }

    fn wait(&mut self, expired: &mut Vec<usize>) {
        self.poll.poll(&mut self.events, None).unwrap();
        expired.extend(self.events.iter().map(|event| event.token().0));
    }
}

/// A heap of the program, and the timeout of a subject that has no timers.
struct HeapTimers<S> {
    subject: S,
    heap: BinaryHeap<Reverse<(Instant, usize)>>,
}

impl<S: Subject> Timers for HeapTimers<S> {
    fn set(&mut self, index: usize, deadline: Instant) {
        self.heap.push(Reverse((deadline, index)));
    }

    fn wait(&mut self, expired: &mut Vec<usize>) {
        let earliest = self.heap.peek().map(|Reverse((deadline, _))| *deadline);
        let timeout = earliest.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        self.subject.poll_once(timeout, |_| {});
        let now = Instant::now();
        while let Some(Reverse((deadline, index))) = self.heap.peek().copied() {
            if deadline > now {
                return;
            }
            self.heap.pop();
            expired.push(index);
        }
    }
}

#[derive(Default)]
struct Outcome {
    lateness: Vec<Duration>,
    usage: Usage,
}

fn run(load: &Load, mut timers: impl Timers, time: Duration) -> Outcome {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let now = Instant::now();
    // The first delays are spread over the mean of the later ones, so that the rate is that of later times from the start.
    let spread = (0, (load.delays.0 + load.delays.1) / 2);
    let mut deadlines: Vec<_> = (0..load.timers).map(|_| now + random.duration(spread)).collect();
    deadlines.iter().enumerate().for_each(|(index, &deadline)| timers.set(index, deadline));
    let (mut outcome, mut expired) = (Outcome::default(), Vec::new());
    let Outcome { lateness, usage } = &mut outcome;
    usage.measure(|| {
        let start = Instant::now();
        let mut now = start;
        while now - start < time {
            timers.wait(&mut expired);
            now = Instant::now();
            for index in expired.drain(..) {
                lateness.push(now - deadlines[index]);
                deadlines[index] = now + random.duration(load.delays);
                timers.set(index, deadlines[index]);
            }
        }
    });
    outcome
}

fn print_row(load: &Load, subject: &str, mut outcome: Outcome) {
    let seconds = outcome.usage.elapsed.as_secs_f64();
    let [expirations, wakeups] = [outcome.lateness.len() as f64, outcome.usage.switches as f64].map(|n| n / seconds);
    let [median, high] = percentiles(&mut outcome.lateness).map(micros);
    let cpu = outcome.usage.processors() * 1000.0;
    println!("| {} | {subject} | {expirations:.0} | {wakeups:.0} | {cpu:.1} ms | {median} | {high} |", load.name);
}

pub fn print(effort: &Effort) {
    pin_thread(MAIN);
    println!("\n| timers | subject | expirations | wakeups | CPU time | late: 50th percentile | 99th |");
    println!("|---|---|---:|---:|---:|---:|---:|");
    let time = effort.turn * effort.rounds as u32;
    for load in &LOADS {
        for slack in [0, 1, 4] {
            let outcome = run(load, KevioTimers::new(load.timers, Duration::from_millis(slack)), time);
            print_row(load, &format!("kevio, slack {slack} ms"), outcome);
        }
        let heap = HeapTimers { subject: Mio::new(8), heap: BinaryHeap::new() };
        print_row(load, "mio, and a heap of the program", run(load, heap, time));
    }
}
