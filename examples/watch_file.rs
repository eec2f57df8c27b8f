//! Watches a file, and prints each change: written, renamed, and in the end deleted.
//!
//! ```sh
//! cargo run --example watch_file
//! cargo run --example watch_file notes.txt
//! ```
//!
//! Without an argument the program creates a file, and changes it. Some systems keep the name of a deleted file until the file is
//! closed: Windows before version 10 1903, file systems other than NTFS, and wine. The program waits for its end there.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use kevio::{Events, FileChanges, Interest, Poll, Token, Watch};

/// The changes that the program makes itself. Each follows when the one before has been reported.
const STEPS: [FileChanges; 3] = [FileChanges::WRITTEN, FileChanges::RENAMED, FileChanges::DELETED];

fn make(change: FileChanges, path: &Path) -> io::Result<()> {
    let renamed = path.with_extension("renamed");
    match change {
        FileChanges::WRITTEN => fs::write(path, "something else\n"),
        FileChanges::RENAMED => fs::rename(path, renamed),
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
    let interest = FileChanges::WRITTEN | FileChanges::RENAMED | FileChanges::DELETED;
    let mut watch = Watch::with_changes(File::open(path)?, interest)?;
    poll.registry().register(&mut watch, Token(1), Interest::READABLE)?;

    let mut steps = STEPS.into_iter();
    let mut reported = FileChanges::empty();
    while !reported.contains(FileChanges::DELETED) {
        if let (None, Some(change)) = (&given, steps.next()) {
            make(change, path)?;
        }
        poll.poll_until(&mut events, None)?;
        for event in &events {
            let changes = watch.changes(event)?;
            if !changes.is_empty() {
                println!("{changes:?}");
            }
            reported |= changes;
        }
    }
    assert!(given.is_some() || STEPS.into_iter().all(|change| reported.contains(change)));
    println!("ok");
    Ok(())
}
