//! Round trips between two threads, each with a subject and a processor of its own.

use std::io::{ErrorKind, Read, Write};
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::cases::subject::{Kevio, Mio, Subject};
use super::processors::{micros, percentiles, pin_thread, Usage};
#[allow(unused_imports)] // Systems without a bare subject have no `Repeats`.
use super::wait::{Blocks, Repeats, Spins, Wait};
use super::{Effort, MAIN, OTHER};

type Datagram = [u8; 64];

const REQUEST: Datagram = [1; 64];
/// The request that ends the other thread.
const END: Datagram = [0; 64];

/// The measurements of one contestant.
#[derive(Default)]
struct Samples {
    times: Vec<Duration>,
    usage: Usage,
}

/// A function that runs one turn of this duration.
type Turn<'a> = Box<dyn Fn(Duration, &mut Samples) + 'a>;

struct Contestant<'a> {
    name: String,
    run: Turn<'a>,
    samples: Samples,
}

/// Lists the contestants of a case: the function takes the way to wait, the arguments, the time of a turn, and the samples.
macro_rules! contestants {
    ($case:ident, $argument:expr) => {{
        macro_rules! contestant {
            ($wait:ty) => {
                Contestant {
                    name: <$wait>::name(),
                    run: Box::new(move |time, samples| $case::<$wait>($argument, time, samples)),
                    samples: Samples::default(),
                }
            };
        }
        #[allow(unused_mut)] // Systems without a bare subject.
        let mut list = vec![
            contestant!(Blocks<Kevio>),
            contestant!(Spins<50>),
            contestant!(Spins<1000>),
            contestant!(Blocks<Mio>),
        ];
        #[cfg(target_os = "linux")]
        match kevio::BACKEND {
            kevio::Backend::Epoll => {
                use super::cases::bare::Epoll;
                list.extend([contestant!(Blocks<Epoll>), contestant!(Repeats<Epoll>)]);
            }
            kevio::Backend::Poll => {
                use super::cases::bare::Poll;
                list.extend([contestant!(Blocks<Poll>), contestant!(Repeats<Poll>)]);
            }
            _ => {}
        }
        #[cfg(all(has_kqueue, not(links_libkqueue)))]
        if kevio::BACKEND == kevio::Backend::Kqueue {
            use super::cases::bare_kqueue::Kqueue;
            list.extend([contestant!(Blocks<Kqueue>), contestant!(Repeats<Kqueue>)]);
        }
        list
    }};
}

/// Repeats `round_trip` until `time` has passed, while `answer` runs in another thread, which `end` ends.
fn run_turn(
    time: Duration,
    samples: &mut Samples,
    answer: impl FnOnce() + Send,
    mut round_trip: impl FnMut(),
    end: impl FnOnce(),
) {
    let Samples { times, usage } = samples;
    usage.measure(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                pin_thread(OTHER);
                answer();
            });
            // The first round trip contains the start of the thread.
            round_trip();
            let start = Instant::now();
            let mut before = start;
            while before - start < time {
                round_trip();
                let after = Instant::now();
                times.push(after - before);
                before = after;
            }
            end();
        });
    });
}

/// A subject with a socket.
struct Port<W: Wait> {
    subject: W::Subject,
    socket: <W::Subject as Subject>::Socket,
}

impl<W: Wait> Port<W> {
    /// The reads and writes of a subject's stream suit a connected UDP socket too.
    fn new(socket: &UdpSocket) -> Port<W> {
        let subject = W::new();
        let mut socket = <W::Subject as Subject>::socket(socket.try_clone().unwrap().into());
        <W::Subject as Subject>::register(&subject.registry(), &mut socket, 1);
        Port { subject, socket }
    }

    fn send(&mut self, datagram: Datagram) {
        assert_eq!(self.socket.write(&datagram).unwrap(), datagram.len());
    }

    /// Waits for a datagram, and reads until `WouldBlock`.
    fn receive(&mut self) -> Datagram {
        let (mut datagram, mut is_received) = (END, false);
        while !is_received {
            W::wait(&mut self.subject);
            loop {
                match self.socket.read(&mut datagram) {
                    Ok(len) => is_received = len == datagram.len(),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
        }
        datagram
    }
}

/// The two sockets of a case, and the time that the other thread works on each request.
#[derive(Clone, Copy)]
struct Path<'a> {
    sockets: &'a [UdpSocket; 2],
    work: Duration,
}

fn work(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn udp_turn<W: Wait>(path: Path<'_>, time: Duration, samples: &mut Samples) {
    let [mut client, mut server] = [0, 1].map(|end: usize| Port::<W>::new(&path.sockets[end]));
    let answer = move || loop {
        let request = server.receive();
        if request == END {
            return;
        }
        work(path.work);
        server.send(request);
    };
    let last = path.sockets[0].try_clone().unwrap();
    let round_trip = || {
        client.send(REQUEST);
        assert_eq!(client.receive(), REQUEST);
    };
    run_turn(time, samples, answer, round_trip, || assert_eq!(last.send(&END).unwrap(), END.len()));
}

fn wake_turn<W: Wait>((): (), time: Duration, samples: &mut Samples) {
    let (mut client, mut server) = (W::new(), W::new());
    let (to_client, to_server) = (client.waker(), server.waker());
    let is_over = AtomicBool::new(false);
    let answer = || {
        // The waker belongs to this thread.
        let to_client = to_client;
        loop {
            W::wait(&mut server);
            if is_over.load(Ordering::Acquire) {
                return;
            }
            <W::Subject as Subject>::wake(&to_client);
        }
    };
    let round_trip = || {
        <W::Subject as Subject>::wake(&to_server);
        W::wait(&mut client);
    };
    run_turn(time, samples, answer, round_trip, || {
        is_over.store(true, Ordering::Release);
        <W::Subject as Subject>::wake(&to_server);
    });
}

/// Measures the contestants in turns, and prints their table.
fn print_table(title: &str, mut contestants: Vec<Contestant<'_>>, effort: &Effort) {
    pin_thread(MAIN);
    for _ in 0..effort.rounds {
        // The order changes, so that no contestant always runs after the same one.
        for Contestant { run, samples, .. } in &mut contestants {
            run(effort.turn, samples);
        }
        contestants.reverse();
    }
    if effort.rounds % 2 == 1 {
        contestants.reverse();
    }
    println!("\n| {title} | 50th percentile | 99th percentile | CPU time | busy processors |");
    println!("|---|---:|---:|---:|---:|");
    for Contestant { name, samples: Samples { times, usage }, .. } in &mut contestants {
        let [median, high] = percentiles(times).map(micros);
        let cpu = micros(usage.cpu / times.len() as u32);
        println!("| {name} | {median} | {high} | {cpu} | {:.2} |", usage.processors());
    }
}

/// Returns two connected sockets.
pub fn connect(sockets: [UdpSocket; 2]) -> std::io::Result<[UdpSocket; 2]> {
    sockets[0].connect(sockets[1].local_addr()?)?;
    sockets[1].connect(sockets[0].local_addr()?)?;
    // Checks the path, and resolves the addresses.
    sockets[1].set_read_timeout(Some(Duration::from_secs(5)))?;
    sockets[0].send(&END)?;
    sockets[1].recv(&mut [0; 64])?;
    sockets.iter().try_for_each(|socket| socket.set_nonblocking(true))?;
    Ok(sockets)
}

pub fn loopback() -> [UdpSocket; 2] {
    connect([0, 1].map(|_| UdpSocket::bind("127.0.0.1:0").unwrap())).unwrap()
}

pub fn print_udp(title: &str, sockets: &[UdpSocket; 2], work: Duration, effort: &Effort) {
    let path = Path { sockets, work };
    print_table(title, contestants!(udp_turn, path), effort);
}

pub fn print_wakes(effort: &Effort) {
    print_table("wake round trip", contestants!(wake_turn, ()), effort);
}
