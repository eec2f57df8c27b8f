//! Registering, reregistering, deregistering.

use super::*;

pub(crate) fn new_selector_reports_no_events<T: Selector>() {
    TestSelector::<T>::new().expect_no_events();
}

pub(crate) fn double_registration_fails_and_unknown_fd_is_not_found<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    assert_eq!(kind(selector.reregister(&a, 1, BOTH)), ErrorKind::NotFound);
    assert_eq!(kind(selector.deregister(&a)), ErrorKind::NotFound);
    b.write_all(b"x").unwrap();
    selector.expect_no_events();
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    let again = selector.register_raw(a.as_raw_fd(), 2, READ);
    if T::BACKEND == Backend::Kqueue {
        // kevent(2) replaces the registration. A source that is registered is rejected before the backend is called.
        again.unwrap();
        selector.expect(2, R);
    } else {
        assert_eq!(kind(again), ErrorKind::AlreadyExists);
        selector.expect(1, R);
    }
    selector.deregister(&a).unwrap();
    assert_eq!(kind(selector.deregister(&a)), ErrorKind::NotFound);
    assert_eq!(kind(selector.reregister(&a, 1, BOTH)), ErrorKind::NotFound);
    selector.expect_no_events();
}

pub(crate) fn unsupported_interests_and_files_are_rejected<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    for interest in [Interest::AIO, Interest::LIO, READ | Interest::LIO] {
        assert_eq!(kind(selector.register_raw(a.as_raw_fd(), 1, interest)), ErrorKind::Unsupported);
    }
    assert_eq!(errno(selector.register_raw(-1, 1, READ)), libc::EBADF);
    assert_eq!(errno(selector.register_raw(RawFd::MAX, 1, BOTH)), libc::EBADF);
    let file = tempfile::tempfile().unwrap();
    let directory = std::fs::File::open("/").unwrap();
    for fd in [file.as_raw_fd(), directory.as_raw_fd()] {
        assert_eq!(errno(selector.register_raw(fd, 1, READ)), libc::EPERM);
        let owned = selector
            .inner
            .register(fd, Token(1), WRITE, SourceKind::Owned)
            .map(|registration| _ = registration.detach());
        assert_eq!(errno(owned), libc::EPERM);
    }
    b.write_all(b"x").unwrap();
    selector.expect_no_events();
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

pub(crate) fn failed_reregistration_keeps_the_registration<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    assert_eq!(kind(selector.reregister(&a, 2, Interest::AIO)), ErrorKind::Unsupported);
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
}

pub(crate) fn failed_registration_leaves_fd_unregistered<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    assert_eq!(kind(selector.register_raw(a.as_raw_fd(), 1, BOTH | Interest::AIO)), ErrorKind::Unsupported);
    b.write_all(b"x").unwrap();
    selector.expect_no_events();
    // Neither direction was registered, so that registering both succeeds now.
    assert_eq!(kind(selector.deregister(&a)), ErrorKind::NotFound);
    selector.register_raw(a.as_raw_fd(), 2, BOTH).unwrap();
    selector.expect(2, R | W);
}

pub(crate) fn reregistering_for_writing_stops_readable_events<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    selector.reregister(&a, 1, WRITE).unwrap();
    selector.expect(1, W);
    b.write_all(b"x").unwrap();
    selector.expect_without(1, R);
}

pub(crate) fn reregistering_replaces_the_token<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    selector.register_raw(a.as_raw_fd(), 1, READ).unwrap();
    selector.reregister(&a, 2, READ).unwrap();
    selector.expect(2, R);
    assert_eq!(read_all(&a), 1);
    selector.expect_no_events();
    b.write_all(b"x").unwrap();
    selector.expect(2, R);
}

pub(crate) fn deregistering_removes_pending_events<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    b.write_all(b"x").unwrap();
    selector.register_raw(a.as_raw_fd(), 1, BOTH).unwrap();
    selector.deregister(&a).unwrap();
    selector.expect_no_events();
    b.write_all(b"x").unwrap();
    selector.expect_no_events();
}

pub(crate) fn any_token_value_is_reported_unchanged<T: Selector>() {
    for token in [0, 1, usize::MAX] {
        let mut selector = TestSelector::<T>::new();
        let (a, _b) = pair();
        selector.register_raw(a.as_raw_fd(), token, WRITE).unwrap();
        selector.expect(token, W);
    }
}

pub(crate) fn dropped_registration_frees_fd_for_registering<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, _keep) = pair();
    for token in 0..3 {
        let registration = selector.register_builtin(&a, token, WRITE);
        selector.expect(token, W);
        if T::BACKEND != Backend::Poll {
            // On epoll and kqueue the registration value has no effect; closing the descriptor ends the registration.
            selector.deregister(&a).unwrap();
        }
        drop(registration);
        selector.expect_no_events();
    }
}

pub(crate) fn detached_registration_keeps_reporting<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    selector.register_builtin(&a, 1, READ).detach();
    for _ in 0..2 {
        b.write_all(b"data").unwrap();
        selector.expect(1, R);
        assert_eq!(read_all(&a), 4);
    }
}

pub(crate) fn detaching_during_a_blocked_wait_loses_no_event<T: Selector>() {
    let mut selector = TestSelector::<T>::new();
    let (a, mut b) = pair();
    let registration = selector.register_builtin(&a, 1, READ);
    b.write_all(b"x").unwrap();
    selector.expect(1, R);
    let blocked_thread = BlockedThread::current();
    std::thread::scope(|scope| {
        let (a, b) = (&a, &mut b);
        scope.spawn(move || {
            blocked_thread.wait_until_blocked();
            let _ = registration.detach();
            assert_eq!(read_all(a), 1);
            b.write_all(b"y").unwrap();
        });
        selector.inner.select(&mut selector.events, 64, Some(TIMEOUT)).unwrap();
    });
    assert_eq!(selector.events.len(), 1);
}

conformance_tests! {
    new_selector_reports_no_events,
    double_registration_fails_and_unknown_fd_is_not_found,
    unsupported_interests_and_files_are_rejected,
    message_queue_reports_readable,
    o_path_descriptor_is_rejected,
    failed_reregistration_keeps_the_registration,
    failed_registration_leaves_fd_unregistered,
    reregistering_for_writing_stops_readable_events,
    reregistering_replaces_the_token,
    deregistering_removes_pending_events,
    any_token_value_is_reported_unchanged,
    dropped_registration_frees_fd_for_registering,
    detached_registration_keeps_reporting,
    detaching_during_a_blocked_wait_loses_no_event,
}
