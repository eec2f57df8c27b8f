//! Waits for standard input beside a timer. Standard input may be a terminal, a pipe, a file, a device, or closed.
//!
//! ```sh
//! cargo run --example stdin                     # a terminal: type lines, and end with Ctrl-D
//! (sleep 3; date) | cargo run --example stdin   # a pipe
//! cargo run --example stdin < Cargo.toml        # a file
//! cargo run --example stdin < /dev/null         # a device
//! cargo run --example stdin <&-                 # closed
//! ```
//!
//! On Windows a thread reads the input, and wakes the loop. Ctrl-Z at the beginning of a line ends a console.

use std::io;

fn main() -> io::Result<()> {
    #[cfg(unix)]
    return unix::main();
    #[cfg(windows)]
    windows::main()
}

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::io::{self, ErrorKind, IsTerminal, Read};
    use std::os::fd::AsFd;
    use std::os::unix::fs::FileTypeExt;
    use std::time::{Duration, Instant};

    use kevio::unix::IoSource;
    use kevio::{Events, Interest, Poll, Timer, Token};

    use super::print_lines;

    const INPUT: Token = Token(0);
    const TICK: Token = Token(1);

    pub fn main() -> io::Result<()> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(8);
        let mut tick = Timer::every(Duration::from_secs(1))?;
        poll.registry().register(&mut tick, TICK, Interest::READABLE)?;

        // A copy of the descriptor, as a file: `io::stdin` has a buffer, and the loop would wait although the buffer has lines.
        let input = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        // The descriptor stays blocking, because other processes share the mode. Therefore the mode is level-triggered, and each
        // event allows one read. The source borrows the file, so that dropping the source deregisters the descriptor.
        let mut source = IoSource::new(&input);
        let waits = arrives_later(&input)?;
        if waits {
            poll.registry().register(&mut source, INPUT, Interest::READABLE.level())?;
        }

        let mut line = Vec::new();
        let mut seconds = 0;
        loop {
            // Without a registration, the poll returns at once, and the loop reads once for each poll.
            let deadline = if waits { None } else { Some(Instant::now()) };
            poll.poll_until(&mut events, deadline)?;
            let mut is_ready = !waits;
            for event in &events {
                match event.token() {
                    INPUT => is_ready = true,
                    _ => seconds += tick.expirations(event)?,
                }
            }
            if !is_ready {
                println!("{seconds} s");
                continue;
            }
            let mut buffer = [0; 4096];
            // `Read` is implemented for `&File`.
            match source.do_io(|&(mut input)| input.read(&mut buffer)) {
                Ok(0) => break,
                Ok(n) => print_lines(&mut line, &buffer[..n]),
                // Another process has set the descriptor non-blocking, and has read the data first.
                Err(error) if [ErrorKind::WouldBlock, ErrorKind::Interrupted].contains(&error.kind()) => {}
                Err(error) => return Err(error),
            }
        }
        if !line.is_empty() {
            print_lines(&mut line, b"\n");
        }
        println!("ok");
        Ok(())
    }

    /// Returns `true` for a terminal, a pipe, a FIFO or a socket, whose data arrives later. A read of a file or of a device such as
    /// /dev/null does not wait, and most systems refuse to register such files.
    fn arrives_later(input: &File) -> io::Result<bool> {
        let kind = input.metadata()?.file_type();
        Ok(kind.is_fifo() || kind.is_socket() || input.is_terminal())
    }
}

/// A console and an ordinary pipe are no sources on Windows. Therefore a thread reads, and wakes the loop.
#[cfg(windows)]
mod windows {
    use std::io::{self, Read};
    use std::sync::mpsc::{self, SyncSender};
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use kevio::{Events, Interest, Poll, Timer, Token, Waker};

    use super::print_lines;

    const INPUT: Token = Token(0);
    const TICK: Token = Token(1);

    pub fn main() -> io::Result<()> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(8);
        let mut tick = Timer::every(Duration::from_secs(1))?;
        poll.registry().register(&mut tick, TICK, Interest::READABLE)?;
        // The loop keeps the waker too, because a wake is lost if its waker is dropped before the next poll.
        let waker = Arc::new(Waker::new(poll.registry(), INPUT)?);
        // The thread reads no more while the loop is busy, so that the memory is bounded.
        let (sender, blocks) = mpsc::sync_channel(1);
        thread::spawn({
            let waker = Arc::clone(&waker);
            move || read_input(&sender, &waker)
        });

        let mut line = Vec::new();
        let mut seconds = 0;
        'input: loop {
            poll.poll_until(&mut events, None)?;
            for event in &events {
                if event.token() == TICK {
                    seconds += tick.expirations(event)?;
                    println!("{seconds} s");
                    continue;
                }
                // One event may stand for several wakes. Therefore the channel is read until it is empty.
                for block in blocks.try_iter() {
                    match block {
                        Ok(block) if Vec::is_empty(&block) => break 'input,
                        Ok(block) => print_lines(&mut line, &block),
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        if !line.is_empty() {
            print_lines(&mut line, b"\n");
        }
        println!("ok");
        Ok(())
    }

    /// Sends each block of the input. An empty block is the end.
    fn read_input(sender: &SyncSender<io::Result<Vec<u8>>>, waker: &Waker) {
        loop {
            let mut block = vec![0; 4096];
            let result = io::stdin().read(&mut block).map(|n| {
                block.truncate(n);
                block
            });
            let is_over = !matches!(&result, Ok(block) if !block.is_empty());
            // Either call fails only if the loop has ended.
            if sender.send(result).is_err() || waker.wake().is_err() || is_over {
                return;
            }
        }
    }
}

/// Prints the complete lines, and keeps the beginning of the next line.
fn print_lines(line: &mut Vec<u8>, data: &[u8]) {
    for &byte in data {
        match byte {
            b'\n' => println!("line: {}", String::from_utf8_lossy(&std::mem::take(line)).trim_end_matches('\r')),
            byte => line.push(byte),
        }
    }
}
