//! Work is done in another thread, which wakes the loop when a result is there.
//!
//! ```sh
//! cargo run --example wake_from_thread
//! ```

use std::io;
use std::sync::{mpsc, Arc};
use std::thread;
use std::time::Duration;

use kevio::{Events, Poll, Token, Waker};

const RESULT: Token = Token(10);

fn main() -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let waker = Arc::new(Waker::new(poll.registry(), RESULT)?);

    let (results, receiver) = mpsc::channel();
    let worker = {
        // The loop keeps the waker too: a waker that is dropped wakes nobody.
        let waker = Arc::clone(&waker);
        thread::spawn(move || -> io::Result<()> {
            for number in 1..=3_u64 {
                thread::sleep(Duration::from_millis(100));
                let _ = results.send(number * number);
                // First the result, then the wake: whoever sees the wake finds the result.
                waker.wake()?;
            }
            Ok(())
        })
    };

    let mut open = true;
    while open {
        match poll.poll(&mut events, Some(Duration::from_secs(5))) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            result => result?,
        }
        if events.is_empty() {
            println!("nothing for five seconds");
        }
        for event in &events {
            assert_eq!(event.token(), RESULT);
            // Several wakes may have become one event: take all that there is.
            while let Ok(result) = receiver.try_recv() {
                println!("woken: {result}");
                open = result != 9;
            }
        }
    }
    worker.join().expect("the worker panicked")?;
    println!("done");
    Ok(())
}
