//! Pipes, FIFOs and terminals.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};

use kevio::unix::{pipe, IoSource, SourceFd};

use crate::support::files::{make_fifo, open_to_read, open_to_write, terminal};
use crate::support::net::{drain, fill};
use crate::support::poll::{TestPoll, BOTH, READ, WRITE};
use crate::support::readiness::{R, RC, W};

#[test]
fn end_of_file_is_reported_after_data() {
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
fn end_of_file_of_empty_pipe_is_reported_once() {
    let mut poll = TestPoll::new();
    let (sender, mut receiver) = pipe::new().unwrap();
    poll.register(&mut receiver, 1, READ);
    drop(sender);
    poll.expect(1, R | RC);
    assert_eq!(drain(&mut receiver), (0, true));
    if kevio::BACKEND == kevio::Backend::Kqueue && cfg!(any(target_os = "netbsd", target_os = "openbsd")) {
        // See the table of differences: the first read at the end of file runs the filter again.
        poll.expect(1, R | RC);
    }
    // The end of file is reported once, and reads do not repeat it.
    poll.expect_no_events();
    assert_eq!(drain(&mut receiver), (0, true));
    poll.expect_no_events();
}

/// Returns a poll and a writer whose closed reader has been reported.
fn reported_broken_pipe() -> (TestPoll, pipe::Sender) {
    let mut poll = TestPoll::new();
    let (mut sender, receiver) = pipe::new().unwrap();
    poll.register(&mut sender, 1, WRITE);
    poll.expect(1, W);
    drop(receiver);
    poll.expect(1, W);
    (poll, sender)
}

#[test]
fn broken_pipe_is_reported_once_as_writable() {
    let (mut poll, mut sender) = reported_broken_pipe();
    assert_eq!(sender.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    poll.expect_no_events();
    assert_eq!(sender.write(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    poll.expect_no_events();
}

#[test]
fn broken_pipe_stays_registered() {
    let (mut poll, mut sender) = reported_broken_pipe();
    poll.reregister(&mut sender, 2, WRITE);
    poll.expect(2, W);
    poll.deregister(&mut sender);
    poll.expect_no_events();
}

#[test]
fn registering_a_broken_pipe_reports_writable() {
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
fn full_pipe_reports_writable_after_reading() {
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
fn full_pipe_reports_writable_when_its_reader_closes() {
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
fn closed_pipe_does_not_spin() {
    let mut poll = TestPoll::new();
    let (sender, mut receiver) = pipe::new().unwrap();
    let (mut other, gone) = pipe::new().unwrap();
    poll.register(&mut receiver, 1, READ);
    poll.register(&mut other, 2, WRITE);
    drop((sender, gone));
    poll.expect_all(&[(1, R), (2, W)]);
    let start = std::time::Instant::now();
    let mut events = 0;
    while start.elapsed() < std::time::Duration::from_millis(50) {
        events += poll.poll_once(Some(std::time::Duration::from_millis(50))).len();
    }
    assert!(events <= 1, "{events} events of closed pipes in 50 ms");
}

/// The reader of a FIFO outlives its writers: after each writer the end of file is reported, and then the next writer.
#[test]
fn fifo_reports_each_writer_and_its_end() {
    if cfg!(target_vendor = "apple") {
        // Apple's kernels never report the end of file of a FIFO: see the table of differences.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    make_fifo(&path);

    let mut poll = TestPoll::new();
    let mut reader = pipe::Receiver::from(OwnedFd::from(open_to_read(&path)));
    poll.register(&mut reader, 1, READ);
    for _ in 0..3 {
        let mut writer = open_to_write(&path);
        writer.write_all(b"line\n").unwrap();
        poll.expect(1, R);
        assert_eq!(drain(&mut reader), (5, false));
        drop(writer);
        poll.expect(1, R);
        assert_eq!(drain(&mut reader), (0, true));
    }

    // The same with a raw descriptor.
    poll.deregister(&mut reader);
    let mut reader = File::from(OwnedFd::from(reader));
    poll.register(&mut SourceFd(&reader.as_raw_fd()), 2, READ);
    for _ in 0..3 {
        let mut writer = open_to_write(&path);
        writer.write_all(b"line\n").unwrap();
        poll.expect(2, R);
        assert_eq!(drain(&mut reader), (5, false));
        drop(writer);
        poll.expect(2, R);
        assert_eq!(drain(&mut reader), (0, true));
    }
}

#[test]
fn both_ends_of_a_pipe_are_reported_in_one_poll() {
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
fn vectored_io_works_by_reference() {
    let (sender, receiver) = pipe::new().unwrap();
    let n = (&sender).write_vectored(&[io::IoSlice::new(b"ab"), io::IoSlice::new(b"cd")]).unwrap();
    (&sender).flush().unwrap();
    let (mut first, mut second) = ([0; 3], [0; 3]);
    let bufs = &mut [io::IoSliceMut::new(&mut first), io::IoSliceMut::new(&mut second)];
    assert_eq!(((&receiver).read_vectored(bufs).unwrap(), n), (4, 4));
    assert_eq!((&first, &second), (b"abc", b"d\0\0"));
    assert_eq!((&receiver).read(&mut first).unwrap_err().kind(), io::ErrorKind::WouldBlock);
}

/// Ctrl-D ends a line of no bytes. The read of 0 bytes is not the end of file.
#[test]
fn terminal_stays_open_after_a_line_of_no_bytes() {
    let (mut master, slave) = terminal();
    let mut poll = TestPoll::new();
    let mut line = pipe::Receiver::from(OwnedFd::from(slave));
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

#[test]
fn terminal_reports_lines_and_hang_up() {
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
