//! What can be done with which descriptor? The two ends of a pipe, in slots 0 and 7 of a set for poll(2).
//!
//! ```sh
//! cargo run --example pollset
//! ```

use std::io::{self, Write};
use std::os::fd::AsRawFd;

use kevio::unix::pipe;
use kevio::unix::pollset::{PollFlags, PollSet};

fn print(set: &PollSet) {
    for slot in set.ready() {
        let can = match slot.revents() {
            flags if flags.contains(PollFlags::IN) => "can be read",
            flags if flags.contains(PollFlags::OUT) => "can be written",
            _ => "says something else",
        };
        println!("slot {}: descriptor {} {can} ({:?})", slot.index(), slot.fd(), slot.revents());
    }
}

fn main() -> io::Result<()> {
    let (mut sender, receiver) = pipe::new()?;
    let mut set = PollSet::new();
    set.grow(8)?;
    set.set(0, receiver.as_raw_fd(), PollFlags::IN)?;
    set.set(7, sender.as_raw_fd(), PollFlags::OUT)?;

    println!("an empty pipe: {} ready", set.poll(8, None)?);
    print(&set);

    sender.write_all(b"hello")?;
    println!("with something in it: {} ready", set.poll(8, None)?);
    print(&set);

    set.unset(7)?;
    println!("its writing end unset: {} ready", set.poll(8, None)?);
    print(&set);
    Ok(())
}
