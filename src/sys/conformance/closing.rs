//! Closed descriptors, reused numbers, and peers that close.

use super::*;
use crate::sys::conformance::pipes::terminal_name;

/// Replaces the file of `number` by that of `fd`. dup2(2) closes the old file, and no other thread can receive the number.
fn replace_file(fd: &impl AsRawFd, number: RawFd) {
    // SAFETY: no pointers. The test owns the number, and its owner does not change.
    unsafe { assert_eq!(libc::dup2(fd.as_raw_fd(), number), number) };
}

pub(crate) fn reused_number_reports_the_new_file<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, _b) = pair();
    let (c, mut d) = pair();
    selector.register_raw(a.as_raw_fd(), 1, BOTH).unwrap();
    selector.deregister(&a).unwrap();
    replace_file(&c, a.as_raw_fd());
    selector.register_raw(a.as_raw_fd(), 2, READ).unwrap();
    d.write_all(b"x").unwrap();
    selector.expect(2, R);
}

/// Returns `true` if the backend detects that a descriptor is closed. libkqueue does not.
fn detects_closing<T: Selector>() -> bool {
    !is_libkqueue::<T>()
}

pub(crate) fn closing_the_descriptor_ends_its_registration<T: Selector>() {
    if !detects_closing::<T>() {
        return;
    }
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let (c, mut d) = pair();
    let number = std::os::fd::IntoRawFd::into_raw_fd(a);
    selector.register_raw(number, 1, READ).unwrap();
    replace_file(&c, number);
    d.write_all(b"x").unwrap();
    assert!(b.write_all(b"x").is_err(), "the peer is closed");
    // The number has another file, which is not registered: no event, and the wait lasts its timeout.
    let start = Instant::now();
    assert_eq!(selector.select(Duration::from_millis(20)), BTreeMap::new());
    assert!(start.elapsed() >= Duration::from_millis(20));
    selector.register_raw(number, 2, READ).unwrap();
    selector.expect(2, R);
    // SAFETY: this test owns the number, and does not use the number afterwards.
    unsafe { libc::close(number) };
    let start = Instant::now();
    selector.expect_no_events();
    assert_eq!(selector.select(Duration::from_millis(20)), BTreeMap::new());
    assert!(start.elapsed() >= Duration::from_millis(20));
}

/// A FIFO is closed and opened again at the same number: the file is the same, and the open file description is not.
pub(crate) fn reopened_fifo_registers_at_the_same_number<T: Selector>() {
    if !detects_closing::<T>() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    make_fifo(&path);
    let mut selector = TestSelector::<T>::new();
    let reader = open_to_read(&path);
    selector.register_raw(reader.as_raw_fd(), 1, READ).unwrap();
    replace_file(&open_to_read(&path), reader.as_raw_fd());
    selector.register_raw(reader.as_raw_fd(), 2, READ).unwrap();
    open_to_write(&path).write_all(b"x").unwrap();
    selector.expect(2, R);
    selector.deregister(&reader).unwrap();
    // The same with a terminal.
    let (mut master, line) = terminal();
    let name = terminal_name(&line);
    let open = || std::fs::File::options().read(true).write(true).open(&name).unwrap();
    let line = open();
    selector.register_raw(line.as_raw_fd(), 3, READ).unwrap();
    replace_file(&open(), line.as_raw_fd());
    selector.register_raw(line.as_raw_fd(), 4, READ).unwrap();
    master.write_all(b"line\n").unwrap();
    selector.expect(4, R);
}

/// As above, but the number is not registered again. poll(2) detects the change by the access mode.
pub(crate) fn fifo_reopened_for_the_other_direction_reports_nothing<T: Selector>() {
    if T::BACKEND == Backend::Kqueue {
        // Some systems reject the filter of the direction that an end does not have.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    make_fifo(&path);
    let mut selector = TestSelector::<T>::new();
    let reader = open_to_read(&path);
    let _other = open_to_read(&path);
    selector.register_raw(reader.as_raw_fd(), 1, BOTH).unwrap();
    selector.select_now();
    replace_file(&open_to_write(&path), reader.as_raw_fd());
    selector.expect_no_events();
    assert_eq!(kind(selector.deregister(&reader)), ErrorKind::NotFound);
}

pub(crate) fn copy_of_closed_descriptor_keeps_registration_on_epoll_only<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let (c, _d) = pair();
    let _copy = a.try_clone().unwrap();
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    replace_file(&c, a.as_raw_fd());
    b.write_all(b"x").unwrap();
    // See the table of differences: epoll(7) of Linux registers the open file description, the others the number.
    let linux = cfg!(any(target_os = "linux", target_os = "android"));
    let lives_on = linux && T::BACKEND != Backend::Poll;
    assert_eq!(selector.select_now().contains_key(&1), lives_on);
}

pub(crate) fn descriptor_and_its_copy_are_two_registrations<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let copy = a.try_clone().unwrap();
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    selector.register_raw(copy.as_raw_fd(), 2, READ).unwrap();
    b.write_all(b"x").unwrap();
    assert_eq!(selector.select_now(), BTreeMap::from([(1, R), (2, R)]));
    selector.deregister(&a).unwrap();
    assert_eq!(read_all(&a), 1);
    b.write_all(b"x").unwrap();
    selector.expect(2, R);
}

pub(crate) fn closed_peer_is_reported_once<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut selector = TestSelector::<T>::new();
        let (io, b) = pair();
        let registration = selector.inner.register(io.as_raw_fd(), Token(1), BOTH, kind).unwrap();
        let a = RegisteredIo::<T, _> { registration, io };
        selector.expect(1, W);
        drop(b);
        assert!(selector.expect(1, R).has(hint::<T>(RC)));
        selector.select_now();
        if hint::<T>(RC) == NONE {
            // The backend takes a read of 0 bytes as the end of a source. Whether a write fails is unknown.
            if kind == SourceKind::Builtin {
                assert_eq!(a.drain(), (0, true));
                selector.expect_no_events();
            }
            continue;
        }
        for _ in 0..5 {
            assert_eq!(a.drain(), (0, true));
            a.registration.rearm(IoDirection::Read);
            assert!(a.write(b"x").is_err());
            selector.expect_no_events();
        }
    }
}

pub(crate) fn half_closed_peer_is_reported_once<T: Selector>() {
    if T::BACKEND == Backend::Poll && !cfg!(has_pollrdhup) {
        // Without `POLLRDHUP`, only a read of the source detects the end; see `IoSource::read_stream`.
        return;
    }
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let a = selector.register_owned(a, 1, READ);
    b.write_all(b"last").unwrap();
    b.shutdown(Shutdown::Write).unwrap();
    selector.expect(1, R);
    assert_eq!(a.drain(), (4, true));
    for _ in 0..5 {
        assert_eq!(a.drain(), (0, true));
        a.registration.rearm(IoDirection::Read);
        selector.expect_no_events();
    }
}

conformance_tests! {
    reused_number_reports_the_new_file,
    copy_of_closed_descriptor_keeps_registration_on_epoll_only,
    descriptor_and_its_copy_are_two_registrations,
    closing_the_descriptor_ends_its_registration,
    reopened_fifo_registers_at_the_same_number,
    fifo_reopened_for_the_other_direction_reports_nothing,
    closed_peer_is_reported_once,
    half_closed_peer_is_reported_once,
}
