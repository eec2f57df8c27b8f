//! Follows a log file by its name, as `tail -F` does: across rotation (the file is renamed, and a new one has the name) and
//! truncation.
//!
//! ```sh
//! cargo run --example follow
//! cargo run --example follow /var/log/messages
//! ```
//!
//! Without an argument the program writes a log file of its own, and ends after its last line.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
#[cfg(unix)]
use std::os::fd::OwnedFd;
#[cfg(windows)]
use std::os::windows::io::OwnedHandle as OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kevio::{Events, Interest, Poll, Registry, Token, Watch};

const LOG: Token = Token(1);
const DIRECTORY: Token = Token(2);
const LINES: usize = 40;

/// A log file, and the file that has its name.
struct Follower {
    path: PathBuf,
    open: Option<Watch<File>>,
    /// The end of the last line, if the line is not complete.
    rest: Vec<u8>,
}

impl Follower {
    /// Reads the new lines: of the open file, and of the file that has the name now.
    fn read_lines(&mut self, registry: &Registry) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        loop {
            // The name first: if another file has the name, the open file is read to its end. This program does not wait for a
            // writer that still has the old file open.
            let renewed = self.renewed_file()?;
            if let Some(watch) = &self.open {
                let mut file: &File = watch;
                if file.metadata()?.len() < file.stream_position()? {
                    // The file was truncated.
                    file.seek(SeekFrom::Start(0))?;
                    self.rest.clear();
                }
                file.read_to_end(&mut self.rest)?;
                while let Some(end) = self.rest.iter().position(|&byte| byte == b'\n') {
                    lines.push(String::from_utf8_lossy(&self.rest[..end]).into_owned());
                    self.rest.drain(..=end);
                }
            }
            let Some(renewed) = renewed else { return Ok(lines) };
            if !self.rest.is_empty() {
                lines.push(String::from_utf8_lossy(&std::mem::take(&mut self.rest)).into_owned());
            }
            let mut watch = Watch::new(renewed)?;
            // Registered before the file is read: a line that comes later makes an event.
            registry.register(&mut watch, LOG, Interest::READABLE)?;
            self.open = Some(watch);
        }
    }

    /// Returns the file that has the name, unless that file is open.
    fn renewed_file(&self) -> io::Result<Option<File>> {
        let now = match File::open(&self.path) {
            // Between the two steps of a rotation, no file has the name.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            result => result?,
        };
        match &self.open {
            Some(watch) if identity(watch)? == identity(&now)? => Ok(None),
            _ => Ok(Some(now)),
        }
    }
}

/// Returns the device and the number of an open file. No other file has both while this file is open.
#[cfg(unix)]
fn identity(file: &File) -> io::Result<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;

    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Returns the number of an open file. All files of one name are on one volume. The function of std is not stable.
#[cfg(windows)]
fn identity(file: &File) -> io::Result<u64> {
    use std::os::windows::io::AsRawHandle;
    use windows_sys::Win32::Storage::FileSystem::{GetFileInformationByHandle, BY_HANDLE_FILE_INFORMATION};

    // SAFETY: the record is made of numbers, for which zero is valid.
    let mut information: BY_HANDLE_FILE_INFORMATION = unsafe { std::mem::zeroed() };
    // SAFETY: the handle is open, and the system writes one record.
    if unsafe { GetFileInformationByHandle(file.as_raw_handle(), &mut information) } == 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(u64::from(information.nFileIndexHigh) << 32 | u64::from(information.nFileIndexLow))
}

/// What the follower has read: the number of lines, and the position in the open file.
type Progress = (usize, u64);

/// Writes lines, and rotates and truncates the file. `seen` receives the progress of the follower.
fn write_log(path: &Path, seen: &mpsc::Receiver<Progress>) -> io::Result<()> {
    let append = |number: usize| -> io::Result<()> {
        OpenOptions::new().append(true).create(true).open(path)?.write_all(format!("line {number}\n").as_bytes())
    };
    for number in 1..=LINES {
        append(number)?;
        if number % 10 == 0 {
            fs::rename(path, path.with_extension("old"))?;
        } else if number % 4 == 0 {
            // A truncation discards lines that were not read yet.
            while seen.recv().expect("the follower reads").0 < number {}
            File::create(path)?;
            // If the file became as long as before, no program could detect the truncation.
            while seen.recv().expect("the follower reads").1 > 0 {}
        }
    }
    Ok(())
}

fn main() -> io::Result<()> {
    let given = std::env::args_os().nth(1).map(PathBuf::from);
    let own = tempfile::tempdir()?;
    let path = given.clone().unwrap_or_else(|| own.path().join("log"));
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));

    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(8);
    let registry = poll.registry().try_clone()?;
    // A new name in the directory is an event.
    let names: io::Result<Watch<OwnedFd>> = Watch::open(directory).and_then(|mut names| {
        registry.register(&mut names, DIRECTORY, Interest::READABLE)?;
        Ok(names)
    });
    let names = match names {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            println!("this system does not report changes of files\nok");
            return Ok(());
        }
        names => names?,
    };
    let (sender, seen) = mpsc::channel();
    let writer = given.is_none().then(|| {
        let path = path.clone();
        thread::spawn(move || write_log(&path, &seen))
    });

    let mut follower = Follower { path, open: None, rest: Vec::new() };
    let mut count = 0;
    while given.is_some() || count < LINES {
        // Whatever has changed, or was lost (`RESCAN`): the follower reads the file, and opens its name.
        for line in follower.read_lines(&registry)? {
            println!("{line}");
            count += 1;
            if given.is_none() {
                assert_eq!(line, format!("line {count}"), "a line was lost or repeated");
            }
        }
        let position = match &follower.open {
            Some(watch) => (&**watch).stream_position()?,
            None => 0,
        };
        let _ = sender.send((count, position));
        if given.is_some() || count < LINES {
            let deadline = given.is_none().then(|| Instant::now() + Duration::from_secs(60));
            poll.poll_until(&mut events, deadline)?;
            assert!(!events.is_empty(), "a change was not reported");
        }
        for event in &events {
            match (event.token(), &follower.open) {
                (LOG, Some(watch)) => drop(watch.changes(event)?),
                _ => drop(names.changes(event)?),
            }
        }
    }
    if let Some(writer) = writer {
        writer.join().expect("the writer ends")?;
    }
    println!("ok");
    Ok(())
}
