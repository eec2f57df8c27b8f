//! poll(2) without a `Poll`: the two ends of a pipe, in slots 0 and 7 of a set.
//!
//! ```sh
//! cargo run --example pollset
//! ```
//!
//! The program fails on Windows, because there is no poll(2).

use std::io;

fn main() -> io::Result<()> {
    // The examples are built on every system; a program for Unix needs no cfg.
    #[cfg(not(unix))]
    return Err(io::Error::new(io::ErrorKind::Unsupported, "not on Windows, because there is no poll(2)"));
    #[cfg(unix)]
    unix::main()
}

#[cfg(unix)]
mod unix {
    use std::io::{self, Write};
    use std::os::fd::AsRawFd;

    use kevio::unix::pipe;
    use kevio::unix::pollset::{PollFlags, PollSet};

    const READER: usize = 0;
    const WRITER: usize = 7;

    /// Polls the set, prints its ready slots, and checks them.
    fn poll(set: &mut PollSet, situation: &str, expected: &[(usize, PollFlags)]) -> io::Result<()> {
        let ready = set.poll(8, None)?;
        println!("{situation}: {ready} ready");
        for slot in set.ready() {
            println!("slot {}: descriptor {} ({:?})", slot.index(), slot.fd(), slot.revents());
        }
        assert_eq!(ready, expected.len());
        assert!(set.ready().zip(expected).all(|(slot, (index, flags))| {
            // A system may set more flags than those that were requested.
            slot.index() == *index && slot.revents().contains(*flags)
        }));
        Ok(())
    }

    pub fn main() -> io::Result<()> {
        let (mut sender, receiver) = pipe::new()?;
        let mut set = PollSet::new();
        set.grow(8)?;
        set.set(READER, receiver.as_raw_fd(), PollFlags::IN)?;
        set.set(WRITER, sender.as_raw_fd(), PollFlags::OUT)?;
        poll(&mut set, "an empty pipe", &[(WRITER, PollFlags::OUT)])?;

        // A few bytes fit into an empty pipe. In general, `write_all` is wrong for a stream that does not block.
        sender.write_all(b"hello")?;
        poll(&mut set, "a pipe with data", &[(READER, PollFlags::IN), (WRITER, PollFlags::OUT)])?;

        set.unset(WRITER)?;
        poll(&mut set, "the slot of the writer is unset", &[(READER, PollFlags::IN)])?;
        println!("ok");
        Ok(())
    }
}
