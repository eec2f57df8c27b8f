//! Processes, signals, file changes and handles as sources on Windows. In a binary of its own, because the handler of the events
//! of the console belongs to the process.

#![cfg(windows)]

use std::cell::RefCell;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::os::windows::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::time::Duration;

use kevio::event::Source;
use kevio::windows::{NamedPipe, SourceHandle, SIGBREAK, SIGHUP, SIGINT, SIGTERM};
use kevio::{FileChanges, Interest, Poll, Process, Signals, Token, Watch};
use windows_sys::Win32::System::Console::{
    GenerateConsoleCtrlEvent, SetConsoleCtrlHandler, CTRL_BREAK_EVENT, CTRL_C_EVENT,
};
use windows_sys::Win32::System::Threading::{
    CreateEventW, CreateMutexW, CreateSemaphoreW, CreateWaitableTimerW, ReleaseSemaphore, ResetEvent, SetEvent,
    SetWaitableTimer, CREATE_NEW_CONSOLE,
};

mod support;

use crate::support::poll::{TestPoll, READ, WRITE};
use crate::support::process::{expect_passed, test_name};
use crate::support::readiness::R;
use crate::support::system::is_wine;

/// Returns a child that exits with this status when its standard input ends.
fn child(status: i32) -> Child {
    let script = format!("set /p line= & exit {status}");
    let mut command = Command::new("cmd");
    command.args(["/d", "/c", &script]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
}

fn end(child: &mut Child) {
    drop(child.stdin.take());
}

/// Returns the only event of the last poll.
fn only_event(poll: &TestPoll) -> kevio::event::Event {
    assert_eq!(poll.events.iter().count(), 1, "{:?}", poll.events);
    poll.events.iter().next().unwrap().clone()
}

mod processes {
    use super::*;

    #[test]
    fn exit_of_a_child_is_reported_with_its_status() {
        let mut poll = TestPoll::new();
        for (token, status) in [(1, 0), (2, 7), (3, 259), (4, i32::MIN)] {
            let mut child = child(status);
            let mut process = Process::new(&child).unwrap();
            assert_eq!(process.pid(), child.id());
            poll.register(&mut process, token, READ);
            assert!(process.is_registered());
            poll.expect_no_events();
            end(&mut child);
            poll.expect(token, R);
            let event = only_event(&poll);
            assert!(process.has_exited(&event).unwrap());
            assert_eq!(process.status(&event).unwrap().unwrap().code(), Some(status));
            assert_eq!(child.try_wait().unwrap().unwrap().code(), Some(status));
            poll.expect_no_events();
            poll.reregister(&mut process, 10 + token, READ);
            poll.expect(10 + token, R);
            poll.expect_no_events();
            poll.deregister(&mut process);
            // A child that was waited for: its handle is open.
            let mut process = Process::new(&child).unwrap();
            poll.register(&mut process, token, READ.level());
            poll.expect(token, R);
            assert_eq!(process.status(&only_event(&poll)).unwrap().unwrap().code(), Some(status));
            poll.expect_no_events();
        }
    }

    #[test]
    fn modes_are_those_of_every_process() {
        let mut poll = TestPoll::new();
        let mut child = child(0);
        let mut process = Process::new(&child).unwrap();
        assert_eq!(poll.registry().register(&mut process, Token(1), WRITE).unwrap_err().kind(), ErrorKind::Unsupported);
        assert!(!process.is_registered());
        poll.register(&mut process, 1, Interest::NONE);
        end(&mut child);
        child.wait().unwrap();
        poll.expect_no_events();
        poll.reregister(&mut process, 2, READ.oneshot());
        poll.expect(2, R);
        poll.reregister(&mut process, 3, READ);
        poll.expect(3, R);
        let error = poll.registry().register(&mut process, Token(4), READ).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
        drop(process);
        poll.expect_no_events();
    }

    #[test]
    fn process_is_found_by_its_identifier_and_its_handle() {
        let mut poll = TestPoll::new();
        let mut child = child(3);
        let mut by_pid = Process::from_pid(child.id()).unwrap();
        let mut by_handle = Process::from_handle(child.as_handle().try_clone_to_owned().unwrap()).unwrap();
        assert_eq!((by_pid.pid(), by_handle.pid()), (child.id(), child.id()));
        assert!(by_pid.as_handle().is_some() && by_handle.as_handle().is_some());
        poll.register(&mut by_pid, 1, READ);
        poll.register(&mut by_handle, 2, READ);
        end(&mut child);
        poll.expect_all(&[(1, R), (2, R)]);
        for event in &poll.events {
            let process = if event.token() == Token(1) { &by_pid } else { &by_handle };
            assert_eq!(process.status(event).unwrap().unwrap().code(), Some(3));
        }
        assert_eq!(child.wait().unwrap().code(), Some(3));
        assert_eq!(Process::from_pid(0).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(Process::from_pid(u32::MAX).unwrap_err().kind(), ErrorKind::NotFound);
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        assert_eq!(Process::from_handle(file.into()).unwrap_err().kind(), ErrorKind::InvalidInput);
        let own = Process::from_pid(std::process::id()).unwrap();
        assert!(format!("{own:?}").contains("is_registered: false"));
    }

    #[test]
    fn many_children_are_reported_once_each() {
        let mut poll = TestPoll::new();
        let mut children: Vec<Child> = (0..24).map(child).collect();
        let mut processes: Vec<Process> = children.iter().map(|child| Process::new(child).unwrap()).collect();
        for (token, process) in processes.iter_mut().enumerate() {
            poll.register(process, token, READ);
        }
        children.iter_mut().for_each(end);
        let mut reported = vec![0; children.len()];
        while reported.contains(&0) {
            poll.until(|reported| !reported.is_empty(), || "an exit".to_owned());
            for event in &poll.events {
                let token = event.token().0;
                assert_eq!(processes[token].status(event).unwrap().unwrap().code(), Some(token as i32));
                reported[token] += 1;
            }
        }
        poll.expect_no_events();
        assert!(reported.iter().all(|&count| count == 1));
        children.iter_mut().for_each(|child| drop(child.wait()));
    }

    #[test]
    fn poll_and_process_are_dropped_in_either_order_beside_the_exit() {
        for round in 0..20 {
            let poll = Poll::new().unwrap();
            let mut child = child(0);
            let mut process = Process::new(&child).unwrap();
            poll.registry().register(&mut process, Token(1), READ).unwrap();
            end(&mut child);
            if round % 2 == 0 {
                drop(poll);
                assert!(!process.is_registered());
                let mut other = TestPoll::new();
                other.register(&mut process, 2, READ);
                other.expect(2, R);
            } else {
                drop(process);
                drop(poll);
            }
            child.wait().unwrap();
        }
    }
}

mod signals {
    use super::*;

    /// The variable that makes a test a child of itself.
    const CHILD: &str = "KEVIO_TEST_CHILD";

    #[test]
    fn sets_are_checked() {
        for signal in [0, -1, 4, 8, 9, 11, 65] {
            assert_eq!(Signals::new([signal]).unwrap_err().kind(), ErrorKind::InvalidInput, "{signal}");
        }
        for signal in [3, 10, 13, 22, 28] {
            assert_eq!(Signals::new([SIGINT, signal]).unwrap_err().kind(), ErrorKind::Unsupported, "{signal}");
        }
        assert_eq!(Signals::new([]).unwrap_err().kind(), ErrorKind::InvalidInput);
        let mut signals = Signals::new([SIGINT, SIGBREAK, SIGHUP, SIGTERM]).unwrap();
        assert!(format!("{signals:?}").contains("[SIGHUP, SIGINT, SIGTERM, SIGBREAK]"));
        let mut poll = TestPoll::new();
        let error = poll.registry().register(&mut signals, Token(1), READ.oneshot()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        poll.register(&mut signals, 1, READ);
        poll.expect_no_events();
        poll.deregister(&mut signals);
    }

    /// Runs a test again as a program with a console of its own, so that no other process receives its events.
    fn run_with_a_console<T>(test: T) -> std::process::Output {
        let mut program = Command::new(std::env::current_exe().unwrap());
        program.args([test_name(test), "--exact", "--nocapture", "--test-threads=1"]).env(CHILD, "1");
        program.creation_flags(CREATE_NEW_CONSOLE).stdin(Stdio::null()).output().unwrap()
    }

    /// Sends an event to every process of the console. Returns `false` if wine has no console for the process.
    fn send(event: u32) -> bool {
        // SAFETY: no pointers.
        let is_sent = unsafe { GenerateConsoleCtrlEvent(event, 0) } != 0;
        let error = io::Error::last_os_error();
        assert!(is_sent || is_wine(), "{error}");
        if !is_sent {
            println!("no console: {error}");
        }
        is_sent
    }

    /// The program may have inherited that Ctrl-C is ignored.
    fn enable_ctrl_c() {
        // SAFETY: there is no handler to remove.
        assert_ne!(unsafe { SetConsoleCtrlHandler(None, 0) }, 0);
    }

    #[test]
    fn events_of_the_console_are_counted_for_each_source() {
        if std::env::var_os(CHILD).is_none() {
            let output = run_with_a_console(events_of_the_console_are_counted_for_each_source);
            println!("{}", String::from_utf8_lossy(&output.stdout));
            return expect_passed(&output);
        }
        let mut poll = TestPoll::new();
        let mut first = Signals::new([SIGINT]).unwrap();
        let mut second = Signals::new([SIGINT, SIGBREAK]).unwrap();
        poll.register(&mut first, 1, READ);
        poll.register(&mut second, 2, READ);
        enable_ctrl_c();
        // wine ends a thread of the program in place of a Ctrl-Break.
        if !is_wine() {
            send(CTRL_BREAK_EVENT);
            poll.expect(2, R);
            assert_eq!(second.received(&only_event(&poll)).unwrap(), [(SIGBREAK, 1)]);
            poll.expect_no_events();
        }
        if !send(CTRL_C_EVENT) {
            return;
        }
        poll.expect_all(&[(1, R), (2, R)]);
        for event in &poll.events {
            let source = if event.token() == Token(1) { &first } else { &second };
            assert_eq!(source.received(event).unwrap(), [(SIGINT, 1)]);
        }
        poll.expect_no_events();
    }

    #[test]
    fn event_without_a_source_ends_the_process() {
        const STATUS_CONTROL_C_EXIT: i32 = 0xc000_013a_u32 as i32;

        if std::env::var_os(CHILD).is_none() {
            let output = run_with_a_console(event_without_a_source_ends_the_process);
            let text = String::from_utf8_lossy(&output.stdout);
            if !text.contains("no console") {
                // wine 8 ends the process with the code 0.
                let code = output.status.code().unwrap();
                assert!(code == STATUS_CONTROL_C_EXIT || (is_wine() && code == 0), "{output:?}");
                assert!(!text.contains("test result"), "the process was not ended: {output:?}");
            }
            return;
        }
        let mut poll = TestPoll::new();
        let mut signals = Signals::new([SIGINT]).unwrap();
        poll.register(&mut signals, 1, READ);
        enable_ctrl_c();
        if !send(CTRL_C_EVENT) {
            return;
        }
        poll.expect(1, R);
        poll.deregister(&mut signals);
        send(CTRL_C_EVENT);
        // The system ends the process.
        loop {
            std::thread::park();
        }
    }
}

mod watches {
    use super::*;

    fn append(path: &Path) {
        OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap();
    }

    /// Polls until all of `least` is reported for `token`. Returns all changes that were reported.
    #[track_caller]
    fn expect<T: AsHandle>(poll: &mut TestPoll, token: usize, watch: &Watch<T>, least: FileChanges) -> FileChanges {
        let mut changes = FileChanges::empty();
        while !changes.contains(least) {
            poll.expect(token, R);
            changes |= watch.changes(&only_event(poll)).unwrap();
        }
        changes
    }

    #[test]
    fn changes_of_a_file_are_reported() {
        let directory = tempfile::tempdir().unwrap();
        let (path, renamed) = (directory.path().join("file"), directory.path().join("renamed"));
        fs::write(&path, b"data").unwrap();
        let mut poll = TestPoll::new();
        let mut watch = Watch::new(File::open(&path).unwrap()).unwrap();
        poll.register(&mut watch, 1, READ);
        poll.expect_no_events();
        append(&path);
        expect(&mut poll, 1, &watch, FileChanges::WRITTEN | FileChanges::EXTENDED);
        assert_eq!(io::read_to_string(&*watch).unwrap(), "datamore");
        fs::rename(&path, &renamed).unwrap();
        let changes = expect(&mut poll, 1, &watch, FileChanges::RENAMED);
        assert!(!changes.intersects(FileChanges::DELETED), "{changes:?}");
        fs::write(&path, b"another file").unwrap();
        let mut permissions = fs::metadata(&renamed).unwrap().permissions();
        permissions.set_readonly(true);
        fs::set_permissions(&renamed, permissions.clone()).unwrap();
        expect(&mut poll, 1, &watch, FileChanges::ATTRIBUTES);
        #[allow(clippy::permissions_set_readonly_false)] // On Windows an attribute.
        permissions.set_readonly(false);
        fs::set_permissions(&renamed, permissions).unwrap();
        expect(&mut poll, 1, &watch, FileChanges::ATTRIBUTES);
        fs::remove_file(&renamed).unwrap();
        // In wine and before Windows 10 1903, the name stays until the watch is dropped.
        if !renamed.exists() {
            expect(&mut poll, 1, &watch, FileChanges::DELETED);
        }
        drop(watch.into_inner());
        assert!(!renamed.exists());
    }

    #[test]
    fn path_may_be_longer_than_260_characters() {
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(200)).join("y".repeat(200));
        fs::create_dir_all(&long).unwrap();
        let path = long.join("file");
        fs::write(&path, b"data").unwrap();
        let mut poll = TestPoll::new();
        let mut watch = Watch::open(&path).unwrap();
        if is_wine() {
            // wine does not return the path of the open file.
            let error = poll.registry().register(&mut watch, Token(1), READ).unwrap_err();
            return assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        }
        poll.register(&mut watch, 1, READ);
        append(&path);
        expect(&mut poll, 1, &watch, FileChanges::WRITTEN);
        fs::rename(&path, long.join("renamed")).unwrap();
        expect(&mut poll, 1, &watch, FileChanges::RENAMED);
    }

    #[test]
    fn entries_of_a_directory_are_reported() {
        let directory = tempfile::tempdir().unwrap();
        let mut poll = TestPoll::new();
        let mut watch = Watch::open(directory.path()).unwrap();
        poll.register(&mut watch, 1, READ.level());
        let path = directory.path().join("entry");
        File::create(&path).unwrap();
        assert_eq!(expect(&mut poll, 1, &watch, FileChanges::WRITTEN), FileChanges::WRITTEN);
        fs::rename(&path, directory.path().join("renamed")).unwrap();
        assert_eq!(expect(&mut poll, 1, &watch, FileChanges::WRITTEN), FileChanges::WRITTEN);
        fs::create_dir(directory.path().join("inner")).unwrap();
        assert_eq!(expect(&mut poll, 1, &watch, FileChanges::WRITTEN), FileChanges::WRITTEN);
    }

    #[test]
    fn changes_while_disabled_are_reported_after_reregistering() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"data").unwrap();
        let mut poll = TestPoll::new();
        // Another watch shows when the change has arrived.
        let mut fence = Watch::with_changes(File::open(&path).unwrap(), FileChanges::EXTENDED).unwrap();
        let mut watch = Watch::with_changes(File::open(&path).unwrap(), FileChanges::WRITTEN).unwrap();
        poll.register(&mut watch, 1, Interest::NONE);
        poll.register(&mut fence, 2, READ);
        append(&path);
        expect(&mut poll, 2, &fence, FileChanges::EXTENDED);
        poll.reregister(&mut watch, 1, READ.oneshot());
        assert_eq!(expect(&mut poll, 1, &watch, FileChanges::WRITTEN), FileChanges::WRITTEN);
        append(&path);
        expect(&mut poll, 2, &fence, FileChanges::EXTENDED);
        poll.reregister(&mut watch, 3, READ);
        expect(&mut poll, 3, &watch, FileChanges::WRITTEN);
        poll.deregister(&mut watch);
        append(&path);
        expect(&mut poll, 2, &fence, FileChanges::EXTENDED);
        poll.register(&mut watch, 4, READ);
        poll.expect_no_events();
    }

    #[test]
    fn wrong_files_and_sets_are_rejected() {
        let error = Watch::open("no such file").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert_eq!(Watch::open("with\0zero").unwrap_err().kind(), ErrorKind::InvalidInput);
        let file = File::open(std::env::current_exe().unwrap()).unwrap();
        for changes in [FileChanges::empty(), FileChanges::RESCAN] {
            assert_eq!(Watch::with_changes(&file, changes).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(Watch::new(child(0).stdin.take().unwrap()).unwrap_err().kind(), ErrorKind::InvalidInput);
    }

    #[test]
    fn poll_and_watch_are_dropped_in_either_order_beside_changes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, b"data").unwrap();
        for round in 0..support::repetitions(1000, 20) {
            let poll = Poll::new().unwrap();
            let mut watch = Watch::open(&path).unwrap();
            poll.registry().register(&mut watch, Token(1), READ).unwrap();
            append(&path);
            if round % 2 == 0 {
                drop(poll);
                assert!(!watch.is_registered());
            } else {
                drop((watch, poll));
            }
        }
    }
}

mod handles {
    use super::*;

    /// Takes the ownership of a new handle.
    fn owned(handle: *mut std::ffi::c_void) -> OwnedHandle {
        assert!(!handle.is_null());
        // SAFETY: the caller has just created the handle, which has no other owner.
        unsafe { OwnedHandle::from_raw_handle(handle) }
    }

    pub fn event(is_manual: bool) -> OwnedHandle {
        // SAFETY: null pointers stand for the default security, and for no name.
        owned(unsafe { CreateEventW(std::ptr::null(), i32::from(is_manual), 0, std::ptr::null()) })
    }

    pub fn set(event: &OwnedHandle) {
        // SAFETY: the handle is that of an event.
        assert_ne!(unsafe { SetEvent(event.as_raw_handle()) }, 0);
    }

    fn reset(event: &OwnedHandle) {
        // SAFETY: the handle is that of an event.
        assert_ne!(unsafe { ResetEvent(event.as_raw_handle()) }, 0);
    }

    #[test]
    fn automatic_reset_event_has_an_event_for_each_signal() {
        let mut poll = TestPoll::new();
        for (token, interest) in [(1, READ), (2, READ.level())] {
            let mut source = SourceHandle::new(event(false)).unwrap();
            poll.register(&mut source, token, interest);
            poll.expect_no_events();
            for _ in 0..5 {
                set(&source);
                poll.expect(token, R);
                poll.expect_no_events();
            }
        }
    }

    /// The end of a thread drops the values of `thread_local!` under the loader lock, which a new thread of the pool needs.
    /// wine's pool has a thread already, so that only Windows can show a fault.
    #[test]
    #[allow(clippy::missing_const_for_thread_local)] // The value is const. The lint does not see that on Windows.
    fn thread_ends_although_a_thread_local_drops_signalled_sources() {
        type Sources = (Vec<SourceHandle<OwnedHandle>>, Process, TestPoll);
        /// Signals the objects immediately before the sources are dropped.
        struct Dropped(Sources, Child);

        impl Drop for Dropped {
            fn drop(&mut self) {
                self.0 .0.iter().for_each(|source| set(source));
                end(&mut self.1);
            }
        }

        thread_local! {
            static LOCAL: RefCell<Option<Dropped>> = const { RefCell::new(None) };
        }

        for _ in 0..5 {
            let thread = std::thread::spawn(|| {
                let mut poll = TestPoll::new();
                let mut sources: Vec<_> = (0..40).map(|n| SourceHandle::new(event(n % 2 == 0)).unwrap()).collect();
                for (token, source) in sources.iter_mut().enumerate() {
                    poll.register(source, token, READ);
                }
                let child = child(0);
                let mut process = Process::new(&child).unwrap();
                poll.register(&mut process, 99, READ);
                poll.expect_no_events();
                LOCAL.with(|local| *local.borrow_mut() = Some(Dropped((sources, process, poll), child)));
            });
            let (sender, receiver) = channel();
            std::thread::spawn(move || sender.send(thread.join().is_ok()));
            assert!(receiver.recv_timeout(Duration::from_secs(10)).expect("the thread hangs"));
        }
    }

    #[test]
    fn manual_reset_event_is_level_and_edge() {
        let mut poll = TestPoll::new();
        let mut source = SourceHandle::new(event(true)).unwrap();
        set(&source);
        poll.register(&mut source, 1, READ);
        poll.expect(1, R);
        poll.expect_no_events();
        poll.reregister(&mut source, 2, READ.level());
        for _ in 0..3 {
            assert!(poll.poll_once(Some(Duration::ZERO)).contains_key(&2));
        }
        reset(&source);
        poll.expect_no_events();
        set(&source);
        poll.expect(2, R);
        reset(&source);
        poll.reregister(&mut source, 3, READ.oneshot());
        set(&source);
        poll.expect(3, R);
        poll.expect_no_events();
        poll.reregister(&mut source, 4, Interest::NONE);
        poll.expect_no_events();
    }

    #[test]
    fn oneshot_takes_one_count_of_a_semaphore() {
        let mut poll = TestPoll::new();
        // SAFETY: null pointers stand for the default security, and for no name.
        let semaphore = owned(unsafe { CreateSemaphoreW(std::ptr::null(), 3, 3, std::ptr::null()) });
        let mut source = SourceHandle::new(semaphore).unwrap();
        poll.register(&mut source, 1, READ.oneshot());
        poll.expect(1, R);
        poll.expect_no_events();
        let mut before = 9;
        // SAFETY: the handle is that of a semaphore, and the function writes one number.
        assert_ne!(unsafe { ReleaseSemaphore(source.as_raw_handle(), 1, &mut before) }, 0);
        assert_eq!(before, 2);
    }

    #[test]
    fn timers_threads_and_processes_are_waited_for() {
        let mut poll = TestPoll::new();
        // SAFETY: null pointers stand for the default security, and for no name.
        let timer = owned(unsafe { CreateWaitableTimerW(std::ptr::null(), 0, std::ptr::null()) });
        let mut timer = SourceHandle::new(timer).unwrap();
        poll.register(&mut timer, 1, READ);
        for _ in 0..3 {
            // SAFETY: the handle is that of a timer, the time is one number, and there is no routine.
            assert_ne!(unsafe { SetWaitableTimer(timer.as_raw_handle(), &-1, 0, None, std::ptr::null(), 0) }, 0);
            poll.expect(1, R);
        }
        let (go, goes) = channel::<()>();
        let mut thread = SourceHandle::new(std::thread::spawn(move || goes.recv().is_err())).unwrap();
        poll.register(&mut thread, 2, READ);
        poll.expect_no_events();
        drop(go);
        poll.expect(2, R);
        poll.deregister(&mut thread);
        thread.into_inner().join().unwrap();
        let mut child = SourceHandle::new(child(0)).unwrap();
        poll.register(&mut child, 3, READ.level());
        let mut child_ = child.into_inner();
        end(&mut child_);
        child_.wait().unwrap();
        poll.expect_no_events();
        let mut child = SourceHandle::new(child_).unwrap();
        poll.register(&mut child, 4, READ.level());
        poll.expect(4, R);
        poll.expect(4, R);
    }

    #[test]
    fn objects_that_cannot_be_waited_for_are_rejected() {
        // SAFETY: null pointers stand for the default security, and for no name.
        let mutex = owned(unsafe { CreateMutexW(std::ptr::null(), 0, std::ptr::null()) });
        assert_eq!(SourceHandle::new(mutex).unwrap_err().kind(), ErrorKind::InvalidInput);
        let mut poll = TestPoll::new();
        let mut source = SourceHandle::new(event(false)).unwrap();
        for interest in [WRITE, READ.add(Interest::PRIORITY)] {
            let error = poll.registry().register(&mut source, Token(1), interest).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unsupported);
        }
        poll.register(&mut source, 1, READ);
        assert!(format!("{source:?}").contains("is_registered: true"));
        assert_eq!(poll.registry().register(&mut source, Token(1), READ).unwrap_err().kind(), ErrorKind::AlreadyExists);
        poll.deregister(&mut source);
        for result in [poll.registry().deregister(&mut source), poll.registry().reregister(&mut source, Token(1), READ)]
        {
            assert_eq!(result.unwrap_err().kind(), ErrorKind::NotFound);
        }
        set(&source);
        poll.expect_no_events();
    }
}

/// Registers a source, and drops the poll and the source after `change`.
fn register_and_drop<S: Source>(round: u64, mut source: S, change: impl FnOnce(&mut S)) {
    let poll = Poll::new().unwrap();
    poll.registry().register(&mut source, Token(1), READ).unwrap();
    change(&mut source);
    match round % 2 {
        0 => drop((poll, source)),
        _ => drop((source, poll)),
    }
}

/// Handles that stay open would have the low numbers that new handles get. wine does not count handles.
#[test]
fn handles_are_closed_with_the_source_and_the_poll_in_either_order() {
    /// The number of handles that other tests of this binary open and close meanwhile, at most.
    const OTHERS: usize = 200;

    let highest = || {
        let events: Vec<_> = (0..100).map(|_| handles::event(true)).collect();
        events.iter().map(|event| event.as_raw_handle() as usize / 4).max().unwrap()
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, b"data").unwrap();
    let mut child = child(0);
    let rounds: [&dyn Fn(u64); 4] = [
        &|n| register_and_drop(n, SourceHandle::new(handles::event(n % 4 < 2)).unwrap(), |event| handles::set(event)),
        &|n| register_and_drop(n, Process::new(&child).unwrap(), |_| ()),
        &|n| register_and_drop(n, Watch::open(&path).unwrap(), |_| fs::write(&path, b"written").unwrap()),
        &|n| {
            let name = format!(r"\\.\pipe\kevio-handles-{}-{n}", std::process::id());
            let server = NamedPipe::new(&name).unwrap();
            let _peer = OpenOptions::new().read(true).write(true).open(&name).unwrap();
            register_and_drop(n, server, |server| server.write_all(&[0; 200_000]).unwrap());
        },
    ];
    let count = support::repetitions(25_000, 100);
    for round in rounds {
        (0..20).for_each(round);
        let before = highest();
        (0..count).for_each(round);
        let after = highest();
        assert!(after < before + OTHERS, "{before} before {count} rounds, and {after} after");
    }
    end(&mut child);
}
