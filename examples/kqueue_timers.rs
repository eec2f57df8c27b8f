//! Two timers in a bare kqueue: one that fires every second, one that fires once after five; and a wait that does not
//! last longer than a moment.
//!
//! ```sh
//! cargo run --example kqueue_timers         # on a system with kqueue
//! cargo run --example kqueue_timers 0.1     # ten times as fast
//! ```

#[cfg(has_kqueue)] // It builds everywhere; a program for kqueue needs no cfg.
fn main() -> std::io::Result<()> {
    use kevio::unix::kqueue::{Flags, Kevent, Kqueue, TimerUnit};
    use std::io;
    use std::time::Duration;

    const EVERY: usize = 1;
    const ONCE: usize = 5;

    let scale = std::env::args().nth(1).map_or(Ok(1.0), |scale| scale.parse());
    let scale: f64 = scale.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    let millis = |seconds: f64| (seconds * scale * 1000.0).round() as i64;

    let kq = Kqueue::new()?;
    let mut changes = [
        Kevent::timer(EVERY, Flags::ADD, millis(1.0), TimerUnit::Milliseconds)?,
        Kevent::timer(ONCE, Flags::ADD | Flags::ONESHOT, millis(5.0), TimerUnit::Milliseconds)?,
    ];
    kq.apply(&mut changes)?.iter().try_for_each(Kevent::result)?;

    let moment = Duration::from_millis(millis(0.7).unsigned_abs());
    let mut events = Vec::with_capacity(2);
    loop {
        match kq.wait(&mut events, Some(moment)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(0) => println!("nothing for {moment:?}"),
            result => drop(result?),
        }
        for event in &events {
            println!("timer {} fired: {} time(s)", event.ident(), event.data());
        }
        if events.iter().any(|event| event.ident() == ONCE) {
            println!("FINISHED");
            return Ok(());
        }
    }
}

#[cfg(not(has_kqueue))]
fn main() {
    println!("There is no kqueue here. On Linux, build with --cfg kevio_backend=\"kqueue\" and libkqueue.");
}
