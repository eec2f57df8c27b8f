//! Watches a file, and tells when it is written, renamed, and in the end deleted.
//!
//! ```sh
//! cargo run --example watch_file
//! cargo run --example watch_file notes.txt
//! ```
//!
//! Without an argument it makes a file, and does to it what there is to be seen.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kevio::{Events, FileChanges, Interest, Poll, Token, Watch};

/// One thing after the other, each when the one before has been told.
fn happen(step: usize, path: &Path) -> io::Result<()> {
    let renamed = path.with_extension("renamed");
    match step {
        0 => fs::write(path, "something else\n"),
        1 => fs::rename(path, renamed),
        _ => fs::remove_file(renamed),
    }
}

fn main() -> io::Result<()> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let own = std::env::temp_dir().join(format!("kevio-{}", std::process::id()));
    let path = given.as_ref().unwrap_or(&own);
    if given.is_none() {
        fs::write(path, "something\n")?;
    }

    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let wanted = FileChanges::WRITTEN | FileChanges::RENAMED | FileChanges::DELETED;
    let mut watch = Watch::with_changes(File::open(path)?, wanted)?;
    poll.registry().register(&mut watch, Token(1), Interest::READABLE)?;

    for step in 0.. {
        if given.is_none() {
            happen(step, path)?;
        }
        poll.poll_until(&mut events, None)?;
        for event in &events {
            let changes = watch.changes(event)?;
            if !changes.is_empty() {
                println!("{changes:?}");
            }
            if changes.contains(FileChanges::DELETED) {
                return Ok(());
            }
        }
    }
    Ok(())
}
