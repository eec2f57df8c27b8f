//! Pipes, FIFOs, terminals and other devices.

use super::*;

pub(crate) fn closed_writer_reports_read_closed<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (reader, writer) = pipe_ends();
    let reader = selector.register_owned(reader, 1, READ);
    selector.expect_no_events();
    drop(writer);
    selector.expect(1, R | RC);
    assert_eq!(reader.drain(), (0, true));
}

pub(crate) fn data_of_closed_writer_is_readable_before_the_end<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (reader, mut writer) = pipe_ends();
    let reader = selector.register_owned(reader, 1, READ);
    writer.write_all(b"last words").unwrap();
    drop(writer);
    selector.expect(1, R);
    assert_eq!(reader.drain(), (10, true));
}

pub(crate) fn closed_reader_reports_writable<T: Selector>() {
    for full in [false, true] {
        let mut selector = TestSelector::<T>::new();
        let (reader, writer) = pipe_ends();
        let writer = selector.register_owned(writer, 1, WRITE);
        selector.expect(1, W);
        if full {
            // A full pipe reports only that its reader has closed.
            writer.fill();
            selector.expect_no_events();
        }
        drop(reader);
        selector.expect(1, W);
        assert_eq!(kind(writer.write(b"x")), ErrorKind::BrokenPipe);
    }
}

pub(crate) fn registering_a_broken_pipe_reports_writable<T: Selector>() {
    for full in [false, true] {
        let mut selector = TestSelector::<T>::new();
        let (reader, writer) = pipe_ends();
        if full {
            fill(&writer);
        }
        drop(reader);
        let writer = selector.register_owned(writer, 1, WRITE);
        selector.expect(1, W);
        assert_eq!(kind(writer.write(b"x")), ErrorKind::BrokenPipe);
        selector.inner.reregister(writer.io.as_raw_fd(), Token(2), WRITE, SourceKind::Builtin).unwrap();
        selector.expect(2, W);
        selector.inner.deregister(writer.io.as_raw_fd(), SourceKind::Builtin).unwrap();
        selector.expect_no_events();
    }
}

pub(crate) fn full_pipe_reports_writable_after_reading<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (mut reader, writer) = pipe_ends();
    let writer = selector.register_owned(writer, 1, WRITE);
    selector.expect(1, W);
    writer.fill();
    selector.expect_no_events();
    assert_eq!(reader.read(&mut [0; 4096]).unwrap(), 4096);
    selector.expect(1, W);
    assert!(writer.write(b"x").is_ok());
}

pub(crate) fn fifo_reports_each_writer_and_its_end<T: Selector>() {
    if cfg!(target_vendor = "apple") {
        // Apple's kernels do not report the end of file of a FIFO: see the table of differences.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    make_fifo(&path);
    let mut selector = TestSelector::<T>::new();
    let reader = selector.register_owned(open_to_read(&path), 1, READ);
    for _ in 0..3 {
        let mut writer = open_to_write(&path);
        writer.write_all(b"line\n").unwrap();
        selector.expect(1, R);
        assert_eq!(reader.drain(), (5, false));
        drop(writer);
        selector.expect(1, R | hint::<T>(RC));
        assert_eq!(reader.drain(), (0, true));
    }
}

/// After a hang-up, another writer opens the FIFO, writes and closes before the next probe.
pub(crate) fn fifo_writer_between_two_probes_is_reported<T: Selector>() {
    if cfg!(target_vendor = "apple") {
        // See `fifo_reports_each_writer_and_its_end`.
        return;
    }
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        make_fifo(&path);
        let mut reader = open_to_read(&path);
        let mut selector = TestSelector::<T>::new();
        let registration = selector.inner.register(reader.as_raw_fd(), Token(1), READ, kind).unwrap();
        for _ in 0..3 {
            open_to_write(&path).write_all(b"line\n").unwrap();
            selector.expect(1, R);
            while reader.read(&mut [0; 64]).unwrap() > 0 {}
            if kind == SourceKind::Builtin {
                registration.rearm(IoDirection::Read);
            }
        }
        if kind == SourceKind::RawFd {
            let _ = registration.detach();
        }
    }
}

pub(crate) fn terminal_reports_lines_and_hang_up<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (mut master, slave) = terminal();
    let line = selector.register_owned(slave, 1, READ);
    selector.expect_no_events();
    master.write_all(b"line\n").unwrap();
    selector.expect(1, R);
    assert_eq!(line.drain(), (5, false));
    // The echo of the line can be read.
    let _master = selector.register_builtin(&master, 2, READ);
    selector.expect(2, R);
    read_all(&master);
    drop(line);
    selector.reregister(&master, 2, READ).unwrap();
    selector.expect(2, R);
    // The read fails with EIO on Linux, and returns the end of file on other systems.
    match master.read(&mut [0; 8]) {
        Ok(n) => assert_eq!(n, 0),
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::EIO)),
    }
}

pub(crate) fn terminal_name(line: &File) -> std::path::PathBuf {
    let mut name = [0; 64];
    // SAFETY: the kernel writes a string into `name`, and no more than there is room for.
    let result = unsafe { libc::ttyname_r(line.as_raw_fd(), name.as_mut_ptr().cast(), name.len()) };
    assert_eq!(result, 0, "{}", io::Error::from_raw_os_error(result));
    std::ffi::CStr::from_bytes_until_nul(&name).unwrap().to_str().unwrap().into()
}

/// Ctrl-D at a terminal ends a line of no bytes. The read returns 0, and the terminal stays open.
pub(crate) fn line_of_no_bytes_is_not_the_end<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (mut master, slave) = terminal();
    let line = selector.register_owned(slave, 1, READ);
    for _ in 0..3 {
        master.write_all(&[4]).unwrap();
        selector.expect(1, R);
        assert_eq!(line.drain(), (0, true));
        selector.select_now();
        master.write_all(b"line\n").unwrap();
        selector.expect(1, R);
        assert_eq!(line.drain(), (5, false));
        selector.select_now();
    }
}

pub(crate) fn device_without_readiness_is_ready_or_rejected<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    for path in ["/dev/null", "/dev/zero"] {
        let device = File::options().read(true).write(true).open(path).unwrap();
        // See the table of differences: an event, or an error. /dev/null of FreeBSD is neither, from release 15.
        let is_of_freebsd = cfg!(target_os = "freebsd") && T::BACKEND == Backend::Kqueue;
        match selector.register_raw(device.as_raw_fd(), 1, READ) {
            Ok(()) if is_of_freebsd && path == "/dev/null" => {
                assert!(freebsd_release() > Some(13), "{path} was rejected up to release 13");
                selector.expect_no_events();
            }
            Ok(()) => drop(selector.expect(1, R)),
            Err(error) => {
                let known = if is_of_freebsd { [libc::ENODEV; 2] } else { [libc::EPERM, libc::EINVAL] };
                assert!(known.map(Some).contains(&error.raw_os_error()), "{path}: {error}");
                assert_ne!(T::BACKEND, Backend::Poll, "{path}");
                selector.expect_no_events();
            }
        }
    }
}

pub(crate) fn broken_pipe_follows_the_trigger_mode<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (reader, writer) = pipe_ends();
    drop(reader);
    // A disabled registration reports nothing.
    selector.register_raw(writer.as_raw_fd(), 1, Interest::NONE).unwrap();
    selector.expect_no_events();
    selector.reregister(&writer, 2, WRITE.level()).unwrap();
    for _ in 0..3 {
        assert!(selector.select_now()[&2].has(W));
    }
    selector.reregister(&writer, 3, WRITE.oneshot()).unwrap();
    selector.expect(3, W);
    selector.expect_no_events();
    selector.reregister(&writer, 4, WRITE).unwrap();
    selector.expect(4, W);
    selector.expect_no_events();
    selector.deregister(&writer).unwrap();
    selector.expect_no_events();
}

conformance_tests! {
    broken_pipe_follows_the_trigger_mode,
    closed_writer_reports_read_closed,
    data_of_closed_writer_is_readable_before_the_end,
    closed_reader_reports_writable,
    registering_a_broken_pipe_reports_writable,
    full_pipe_reports_writable_after_reading,
    fifo_reports_each_writer_and_its_end,
    fifo_writer_between_two_probes_is_reported,
    terminal_reports_lines_and_hang_up,
    line_of_no_bytes_is_not_the_end,
    device_without_readiness_is_ready_or_rejected,
}
