//! Two timers in a kqueue, without a `Poll`: one fires every second, and one fires once after five seconds. Each wait has a
//! timeout of 0.7 s.
//!
//! The program fails on a system without kqueue.
//!
//! ```sh
//! cargo run --example kqueue_timers
//! cargo run --example kqueue_timers 0.1     # ten times as fast
//! ```

use std::io;

fn main() -> io::Result<()> {
    // The examples are built on every system; a program for systems with kqueue needs no cfg.
    #[cfg(not(has_kqueue))]
    return Err(io::Error::new(
        io::ErrorKind::Unsupported,
        "no kqueue; on Linux, kevio_backend=\"kqueue\" uses libkqueue",
    ));
    #[cfg(has_kqueue)]
    wait_for_timers()
}

#[cfg(has_kqueue)]
fn wait_for_timers() -> io::Result<()> {
    use std::time::Duration;

    use kevio::unix::kqueue::{Flags, Kevent, Kqueue, TimerUnit};

    const PERIODIC: usize = 1;
    const ONCE: usize = 5;

    let scale = std::env::args().nth(1).map_or(Ok(1.0), |scale| scale.parse());
    let scale: f64 = scale.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let millis = |seconds: f64| (seconds * scale * 1000.0).round() as i64;

    let kq = Kqueue::new()?;
    let mut changes = [
        Kevent::timer(PERIODIC, Flags::ADD, millis(1.0), TimerUnit::Milliseconds)?,
        Kevent::timer(ONCE, Flags::ADD | Flags::ONESHOT, millis(5.0), TimerUnit::Milliseconds)?,
    ];
    kq.apply(&mut changes)?.iter().try_for_each(Kevent::result)?;

    let timeout = Duration::from_millis(millis(0.7).unsigned_abs());
    let mut events = Vec::with_capacity(2);
    let (mut timeouts, mut periods) = (0, 0);
    loop {
        match kq.wait(&mut events, Some(timeout)) {
            // A signal handler has run. `Kqueue::wait` is the system call, and returns this error.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) => {
                println!("nothing for {timeout:?}");
                timeouts += 1;
            }
            result => drop(result?),
        }
        for event in &events {
            println!("timer {} fired: {} time(s)", event.ident(), event.data());
            if event.ident() == PERIODIC {
                periods += event.data();
            }
        }
        if let Some(event) = events.iter().find(|event| event.ident() == ONCE) {
            assert_eq!(event.data(), 1);
            assert!(timeouts > 0 && periods > 0);
            println!("FINISHED");
            return Ok(());
        }
    }
}
