//! Closing ends a registration; peers that close.

use super::*;
use crate::sys::conformance::pipes::{make_fifo, open_to_read, open_to_write, terminal, terminal_name};

/// Puts a copy of `fd` in the place of `number`, which closes what was there, and gives no other thread a chance to
/// be given the number.
fn put(fd: &impl AsRawFd, number: RawFd) {
    // SAFETY: no pointers. The number is the test's own and stays owned by whoever owns it.
    unsafe { assert_eq!(libc::dup2(fd.as_raw_fd(), number), number) };
}

pub(crate) fn a_number_is_used_again<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, _b) = pair();
    let (c, mut d) = pair();
    selector.register_raw(a.as_raw_fd(), 1, BOTH).unwrap();
    selector.deregister(&a).unwrap();
    put(&c, a.as_raw_fd());
    selector.register_raw(a.as_raw_fd(), 2, READ).unwrap();
    d.write_all(b"x").unwrap();
    selector.expect(2, R);
}

/// libkqueue cannot see a descriptor close.
fn closing_is_seen<T: Selector>() -> bool {
    !is_libkqueue::<T>()
}

pub(crate) fn a_closed_number_ends_its_registration<T: Selector>() {
    if !closing_is_seen::<T>() {
        return;
    }
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let (c, mut d) = pair();
    let number = std::os::fd::IntoRawFd::into_raw_fd(a);
    selector.register_raw(number, 1, READ).unwrap();
    put(&c, number);
    d.write_all(b"x").unwrap();
    assert!(b.write_all(b"x").is_err(), "its peer was closed");
    // Not what was registered, and not registered: silent, and the wait is one.
    let start = Instant::now();
    assert_eq!(selector.select(Duration::from_millis(20)), BTreeMap::new());
    assert!(start.elapsed() >= Duration::from_millis(20));
    selector.register_raw(number, 2, READ).unwrap();
    selector.expect(2, R);
    // SAFETY: the number is this test's own, and nobody uses it after.
    unsafe { libc::close(number) };
    let start = Instant::now();
    selector.expect_no_events();
    assert_eq!(selector.select(Duration::from_millis(20)), BTreeMap::new());
    assert!(start.elapsed() >= Duration::from_millis(20));
}

/// A FIFO is closed and opened again at the same number: the file is the same, and the open file is not.
pub(crate) fn reopened_fifo_is_registered_anew<T: Selector>() {
    if !closing_is_seen::<T>() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    make_fifo(&path);
    let mut selector = TestSelector::<T>::new();
    let reader = open_to_read(&path);
    selector.register_raw(reader.as_raw_fd(), 1, READ).unwrap();
    put(&open_to_read(&path), reader.as_raw_fd());
    selector.register_raw(reader.as_raw_fd(), 2, READ).unwrap();
    open_to_write(&path).write_all(b"x").unwrap();
    selector.expect(2, R);
    selector.deregister(&reader).unwrap();
    // The same for a terminal.
    let (mut master, line) = terminal();
    let name = terminal_name(&line);
    let open = || std::fs::File::options().read(true).write(true).open(&name).unwrap();
    let line = open();
    selector.register_raw(line.as_raw_fd(), 3, READ).unwrap();
    put(&open(), line.as_raw_fd());
    selector.register_raw(line.as_raw_fd(), 4, READ).unwrap();
    master.write_all(b"line\n").unwrap();
    selector.expect(4, R);
}

/// As above, and the number is not registered again. What poll(2) knows of it is how it was opened.
pub(crate) fn fifo_reopened_for_the_other_direction_is_silent<T: Selector>() {
    if T::BACKEND == Backend::Kqueue {
        // Some systems refuse to wait for the direction that an end does not have.
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    make_fifo(&path);
    let mut selector = TestSelector::<T>::new();
    let reader = open_to_read(&path);
    let _other = open_to_read(&path);
    selector.register_raw(reader.as_raw_fd(), 1, BOTH).unwrap();
    selector.now();
    put(&open_to_write(&path), reader.as_raw_fd());
    selector.expect_no_events();
    assert_eq!(kind(selector.deregister(&reader)), ErrorKind::NotFound);
}

pub(crate) fn a_copy_keeps_a_closed_registration<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let (c, _d) = pair();
    let _copy = a.try_clone().unwrap();
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    put(&c, a.as_raw_fd());
    b.write_all(b"x").unwrap();
    // A row of the table of differences: epoll(7) of Linux registers the open file, the others the number.
    let linux = cfg!(any(target_os = "linux", target_os = "android"));
    let lives_on = linux && T::BACKEND != Backend::Poll;
    assert_eq!(selector.now().contains_key(&1), lives_on);
}

pub(crate) fn a_descriptor_and_its_copy_are_two<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let copy = a.try_clone().unwrap();
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    selector.register_raw(copy.as_raw_fd(), 2, READ).unwrap();
    b.write_all(b"x").unwrap();
    assert_eq!(selector.now(), BTreeMap::from([(1, R), (2, R)]));
    selector.deregister(&a).unwrap();
    assert_eq!(read_all(&a), 1);
    b.write_all(b"x").unwrap();
    selector.expect(2, R);
}

pub(crate) fn a_closed_peer_is_told_once<T: Selector>() {
    for kind in [SourceKind::Builtin, SourceKind::RawFd] {
        let mut selector = TestSelector::<T>::new();
        let (io, b) = pair();
        let registration = selector.inner.register(io.as_raw_fd(), Token(1), BOTH, kind).unwrap();
        let a = RegisteredIo::<T, _> { registration, io };
        selector.expect(1, W);
        drop(b);
        assert!(selector.expect(1, R).has(hint::<T>(RC)));
        selector.now();
        if hint::<T>(RC) == NONE {
            // Of a source the read of 0 bytes is the end. What is not known is whether writing will fail.
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

pub(crate) fn a_half_closed_peer_is_told_once<T: Selector>() {
    if T::BACKEND == Backend::Poll && !cfg!(has_pollrdhup) {
        // Without POLLRDHUP only the reading source knows; see `IoSource::read_stream`.
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
    a_number_is_used_again,
    a_copy_keeps_a_closed_registration,
    a_descriptor_and_its_copy_are_two,
    a_closed_number_ends_its_registration,
    reopened_fifo_is_registered_anew,
    fifo_reopened_for_the_other_direction_is_silent,
    a_closed_peer_is_told_once,
    a_half_closed_peer_is_told_once,
}
