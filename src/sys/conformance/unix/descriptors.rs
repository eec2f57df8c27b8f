//! Closed descriptors, reused numbers, and files that are no sources.

use super::pipes::terminal_name;
use super::*;

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

/// fstat(2) reports POSIX message queues as regular files, and the kernel can wait for them.
pub(crate) fn message_queue_reports_readable<T: Selector>() {
    #[cfg(has_mq_descriptors)]
    {
        use std::os::fd::FromRawFd;

        let name = std::ffi::CString::new(format!("/kevio-{}-{}", std::process::id(), T::BACKEND)).unwrap();
        let flags = libc::O_CREAT | libc::O_EXCL | libc::O_RDWR | libc::O_NONBLOCK;
        // SAFETY: integers. Zeroes are a value of each.
        let mut attributes: libc::mq_attr = unsafe { std::mem::zeroed() };
        (attributes.mq_maxmsg, attributes.mq_msgsize) = (4, 8);
        // SAFETY: a string that ends with a zero byte, and one `mq_attr`; the descriptor is new and owned once.
        let queue = unsafe {
            let queue = libc::mq_open(name.as_ptr(), flags, 0o600 as libc::mode_t, &attributes);
            if queue < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ENOSYS) {
                return;
            }
            assert!(queue >= 0, "{}", io::Error::last_os_error());
            libc::mq_unlink(name.as_ptr());
            OwnedFd::from_raw_fd(queue)
        };
        let fd = queue.as_raw_fd();
        // SAFETY: one byte is read.
        let send = || assert_eq!(unsafe { libc::mq_send(fd, b"x".as_ptr().cast(), 1, 0) }, 0);
        // SAFETY: there is room for a message.
        let receive = || assert_eq!(unsafe { libc::mq_receive(fd, [0_u8; 8].as_mut_ptr().cast(), 8, &mut 0) }, 1);

        let mut selector = TestSelector::<T>::new();
        // Without messages, and with messages and free space, which poll(2) reports for a regular file too.
        for messages in [0, 2] {
            (0..messages).for_each(|_| send());
            if is_libkqueue::<T>() {
                assert_eq!(errno(selector.register_raw(fd, 1, READ)), libc::EPERM);
                continue;
            }
            selector.register_raw(fd, 1, READ).unwrap();
            assert_eq!(selector.select_now().contains_key(&1), messages > 0);
            send();
            selector.expect(1, R);
            (0..messages + 1).for_each(|_| receive());
            selector.select_now();
            send();
            selector.expect(1, R);
            receive();
            selector.deregister(&queue).unwrap();
        }
    }
    #[cfg(not(has_mq_descriptors))]
    {}
}

/// A descriptor that was opened with `O_PATH` only names a file, and has no readiness.
pub(crate) fn o_path_descriptor_is_rejected<T: Selector>() {
    #[cfg(has_o_path)]
    {
        use std::os::fd::FromRawFd;
        use std::os::unix::ffi::OsStrExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        make_fifo(&path);
        let mut selector = TestSelector::<T>::new();
        for path in [path.as_path(), directory.path()] {
            let name = std::ffi::CString::new(path.as_os_str().as_bytes()).unwrap();
            // `File::options` removes O_PATH on musl, where the flag is part of O_ACCMODE.
            // SAFETY: a string that ends with a zero byte. The descriptor is new and owned once.
            let file = unsafe {
                let fd = libc::open(name.as_ptr(), libc::O_PATH | libc::O_CLOEXEC);
                assert!(fd >= 0, "{}", io::Error::last_os_error());
                OwnedFd::from_raw_fd(fd)
            };
            let result = selector.register_raw(file.as_raw_fd(), 1, READ);
            if is_libkqueue::<T>() {
                result.unwrap_err();
                continue;
            }
            assert_eq!(errno(result), libc::EBADF, "{path:?}");
            let owned =
                selector.inner.register(file.as_raw_fd(), Token(1), READ, SourceKind::Owned).map(Registration::detach);
            assert_eq!(errno(owned), libc::EBADF, "{path:?}");
        }
        selector.expect_no_events();
    }
    #[cfg(not(has_o_path))]
    {}
}

conformance_tests! {
    reused_number_reports_the_new_file,
    copy_of_closed_descriptor_keeps_registration_on_epoll_only,
    closing_the_descriptor_ends_its_registration,
    reopened_fifo_registers_at_the_same_number,
    fifo_reopened_for_the_other_direction_reports_nothing,
    message_queue_reports_readable,
    o_path_descriptor_is_rejected,
}
