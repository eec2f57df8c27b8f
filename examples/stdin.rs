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
//! The program fails on Windows, because a console is no source.

use std::io;

fn main() -> io::Result<()> {
    // The examples are built on every system; a program for Unix needs no cfg.
    #[cfg(not(unix))]
    return Err(io::Error::new(io::ErrorKind::Unsupported, "not on Windows, because a console is no source"));
    #[cfg(unix)]
    unix::main()
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

    /// Prints the complete lines, and keeps the beginning of the next line.
    fn print_lines(line: &mut Vec<u8>, data: &[u8]) {
        for &byte in data {
            match byte {
                b'\n' => println!("line: {}", String::from_utf8_lossy(&std::mem::take(line))),
                byte => line.push(byte),
            }
        }
    }
}
