//! Pipes and FIFOs: two ends that come and go.

use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;

use kevio::unix::{pipe, IoSource, SourceFd};

use crate::support::net::{drain, fill};
use crate::support::poll::{TestPoll, BOTH, READ, WRITE};
use crate::support::readiness::{R, RC, W};

#[test]
fn data_and_then_the_end_of_file() {
    let mut poll = TestPoll::new();
    let (mut sender, mut receiver) = pipe::new().unwrap();
    poll.register(&mut receiver, 1, READ);
    poll.expect_no_events();
    sender.write_all(b"last words").unwrap();
    poll.expect(1, R);
    drop(sender);
    poll.expect(1, R | RC);
    assert_eq!(drain(&mut receiver), (10, true));
}

#[test]
fn the_end_of_file_of_an_empty_pipe_is_readable() {
    let mut poll = TestPoll::new();
    let (sender, mut receiver) = pipe::new().unwrap();
    poll.register(&mut receiver, 1, READ);
    drop(sender);
    poll.expect(1, R | RC);
    assert_eq!(drain(&mut receiver), (0, true));
    if kevio::BACKEND == kevio::Backend::Kqueue && cfg!(any(target_os = "netbsd", target_os = "openbsd")) {
        // A row of the table of differences: the first read at the end runs the filter again.
        poll.expect(1, R | RC);
    }
    // It is reported once, whatever is done about it.
    poll.expect_no_events();
    assert_eq!(drain(&mut receiver), (0, true));
    poll.expect_no_events();
}

/// A writer that has been told that its reader has gone.
fn widowed() -> (TestPoll, pipe::Sender) {
    let mut poll = TestPoll::new();
    let (mut sender, receiver) = pipe::new().unwrap();
    poll.register(&mut sender, 1, WRITE);
    poll.expect(1, W);
    drop(receiver);
    poll.expect(1, W);
    (poll, sender)
}

#[test]
fn a_reader_that_goes_is_writable() {
    let (mut poll, mut sender) = widowed();
    assert_eq!(sender.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    poll.expect_no_events();
    assert_eq!(sender.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    poll.expect_no_events();
}

#[test]
fn a_writer_is_still_registered_after_its_reader_has_gone() {
    let (mut poll, mut sender) = widowed();
    poll.reregister(&mut sender, 2, WRITE);
    poll.expect(2, W);
    poll.deregister(&mut sender);
    poll.expect_no_events();
}

#[test]
fn a_reader_that_has_gone_before_registration_is_writable() {
    let mut poll = TestPoll::new();
    for interest in [WRITE, BOTH] {
        let (mut sender, receiver) = pipe::new().unwrap();
        drop(receiver);
        poll.register(&mut sender, 1, interest);
        poll.expect(1, W);
        poll.reregister(&mut sender, 2, interest);
        poll.expect(2, W);
        poll.deregister(&mut sender);
        poll.expect_no_events();
    }
}

#[test]
fn a_full_pipe_is_writable_when_it_has_been_read() {
    let mut poll = TestPoll::new();
    let (mut sender, mut receiver) = pipe::new().unwrap();
    poll.register(&mut sender, 1, WRITE);
    poll.expect(1, W);
    let size = fill(&mut sender);
    poll.expect_no_events();
    assert_eq!(drain(&mut receiver), (size, false));
    poll.expect(1, W);
}

#[test]
fn a_full_pipe_whose_reader_goes_is_writable() {
    let mut poll = TestPoll::new();
    let (mut sender, receiver) = pipe::new().unwrap();
    poll.register(&mut sender, 1, WRITE);
    poll.expect(1, W);
    fill(&mut sender);
    poll.expect_no_events();
    drop(receiver);
    poll.expect(1, W);
    assert_eq!(sender.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_closed_pipe_does_not_spin() {
    let mut poll = TestPoll::new();
    let (sender, mut receiver) = pipe::new().unwrap();
    let (mut other, gone) = pipe::new().unwrap();
    poll.register(&mut receiver, 1, READ);
    poll.register(&mut other, 2, WRITE);
    drop((sender, gone));
    poll.expect_all(&[(1, R), (2, W)]);
    let start = std::time::Instant::now();
    let mut turns = 0;
    while start.elapsed() < std::time::Duration::from_millis(50) {
        turns += poll.poll_once(Some(std::time::Duration::from_millis(50))).len();
    }
    assert!(turns <= 1, "{turns} events of closed pipes in 50 ms");
}

/// A FIFO's reader outlives its writers: after the last has gone comes the end of file, and then another writer.
#[test]
fn a_fifo_has_one_writer_after_another() {
    if cfg!(target_vendor = "apple") {
        // Apple's kernels never report the end of file of a FIFO: a row in the table of differences.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    let name = CString::new(path.as_os_str().as_bytes()).unwrap();
    // SAFETY: a string that ends with a zero byte.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let open_reader = || OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path).unwrap();
    let writer = || OpenOptions::new().write(true).open(&path).unwrap();

    let mut poll = TestPoll::new();
    let mut reader = pipe::Receiver::from(OwnedFd::from(open_reader()));
    poll.register(&mut reader, 1, READ);
    for _ in 0..3 {
        let mut writer = writer();
        writer.write_all(b"line\n").unwrap();
        poll.expect(1, R);
        assert_eq!(drain(&mut reader), (5, false));
        drop(writer);
        poll.expect(1, R);
        assert_eq!(drain(&mut reader), (0, true));
    }

    // The same through a bare descriptor.
    poll.deregister(&mut reader);
    let mut reader = File::from(OwnedFd::from(reader));
    poll.register(&mut SourceFd(&reader.as_raw_fd()), 2, READ);
    for _ in 0..3 {
        let mut writer = writer();
        writer.write_all(b"line\n").unwrap();
        poll.expect(2, R);
        assert_eq!(drain(&mut reader), (5, false));
        drop(writer);
        poll.expect(2, R);
        assert_eq!(drain(&mut reader), (0, true));
    }
}

#[test]
fn both_ends_of_one_pipe_in_one_poll() {
    let mut poll = TestPoll::new();
    let (mut sender, mut receiver) = pipe::new().unwrap();
    poll.register(&mut sender, 1, WRITE);
    poll.register(&mut receiver, 2, READ);
    poll.expect(1, W);
    for _ in 0..3 {
        let size = fill(&mut sender);
        poll.expect(2, R);
        assert_eq!(drain(&mut receiver), (size, false));
        poll.expect(1, W);
    }
}

#[test]
fn vectored_and_by_reference() {
    let (sender, receiver) = pipe::new().unwrap();
    let n = (&sender).write_vectored(&[io::IoSlice::new(b"ab"), io::IoSlice::new(b"cd")]).unwrap();
    (&sender).flush().unwrap();
    let (mut first, mut second) = ([0; 3], [0; 3]);
    let bufs = &mut [io::IoSliceMut::new(&mut first), io::IoSliceMut::new(&mut second)];
    assert_eq!(((&receiver).read_vectored(bufs).unwrap(), n), (4, 4));
    assert_eq!((&first, &second), (b"abc", b"d\0\0"));
    assert_eq!((&receiver).read(&mut first).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// Ctrl-D is a line of no bytes, and a read of it is not the end of file.
#[test]
fn terminal_goes_on_after_a_line_of_no_bytes() {
    let (mut master, slave) = terminal();
    let mut poll = TestPoll::new();
    let mut line = pipe::Receiver::from(OwnedFd::from(slave));
    line.set_nonblocking(true).unwrap();
    poll.register(&mut line, 1, READ);
    for _ in 0..2 {
        master.write_all(&[4]).unwrap();
        poll.expect(1, R);
        assert_eq!(drain(&mut line), (0, true));
        master.write_all(b"line\n").unwrap();
        poll.expect(1, R);
        assert_eq!(drain(&mut line), (5, false));
    }
}

fn terminal() -> (File, File) {
    // SAFETY: each call's result is checked; the name is copied before the next call.
    unsafe {
        let master = libc::posix_openpt(libc::O_RDWR | libc::O_NOCTTY);
        assert!(master >= 0);
        let master = <OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(master);
        assert_eq!((libc::grantpt(master.as_raw_fd()), libc::unlockpt(master.as_raw_fd())), (0, 0));
        let name = std::ffi::CStr::from_ptr(libc::ptsname(master.as_raw_fd())).to_owned();
        (File::from(master), File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap())
    }
}

#[test]
fn a_terminal() {
    let (master, slave) = terminal();
    let mut poll = TestPoll::new();
    let mut master = IoSource::new(master);
    let mut slave = IoSource::new(slave);
    poll.register(&mut master, 1, READ);
    poll.register(&mut slave, 2, READ);
    master.do_io(|mut master| master.write_all(b"line\n")).unwrap();
    poll.until(|reported| reported.get(&2).is_some_and(|reported| reported.has(R)), || "the line".to_owned());
    let mut buffer = [0; 16];
    assert_eq!(slave.do_io(|mut slave| slave.read(&mut buffer)).unwrap(), 5);
    drop(slave);
    poll.until(
        |reported| reported.get(&1).is_some_and(|reported| reported.has_any(R | RC)),
        || "the hang-up".to_owned(),
    );
}
