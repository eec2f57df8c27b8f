//! The public kqueue(2) and kevent(2) bindings.

use std::fs::File;
use std::io::{ErrorKind, Seek, SeekFrom, Write};
use std::mem::{align_of, size_of};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use kevio::unix::kqueue::{
    EventExt, Filter, Flags, Kevent, Kqueue, ProcNotes, RawFlags, TimerUnit, UserNotes, VnodeNotes,
};

use kevio::{Backend, Timer, BACKEND};

use crate::support::handler;
use crate::support::known_failures::{is_known_failure, is_libkqueue, Check};
use crate::support::limits::closed_descriptor;
use crate::support::net::tcp_pair;
use crate::support::poll::{TestPoll, READ, TIMEOUT};
use crate::support::readiness::R;

const NOW: Option<Duration> = Some(Duration::ZERO);

fn queue() -> (Kqueue, Vec<Kevent>) {
    (Kqueue::new().unwrap(), Vec::with_capacity(16))
}

/// Applies changes that must succeed.
#[track_caller]
fn register(kq: &Kqueue, changes: &[Kevent]) {
    let mut changes = changes.to_vec();
    let receipts = kq.apply(&mut changes).unwrap();
    receipts.iter().try_for_each(Kevent::result).unwrap();
    assert_eq!(receipts.len(), changes.len());
}

/// Returns the error of a change that must fail.
#[track_caller]
fn change_error(kq: &Kqueue, change: Kevent) -> std::io::Error {
    kq.apply(&mut [change]).unwrap()[0].result().expect_err("it was applied")
}

/// Waits for one event and returns it.
#[track_caller]
fn wait_for_one(kq: &Kqueue, events: &mut Vec<Kevent>) -> Kevent {
    assert_eq!(kq.wait(events, Some(TIMEOUT)).unwrap(), 1, "{events:?}");
    events[0]
}

#[test]
fn queue_descriptor_is_close_on_exec() {
    let (kq, mut events) = queue();
    // SAFETY: no pointers.
    let flags = unsafe { libc::fcntl(kq.as_raw_fd(), libc::F_GETFD) };
    assert_eq!(flags & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    assert_eq!(kq.as_fd().as_raw_fd(), kq.as_raw_fd());
    let number = kq.as_raw_fd();
    let kq = Kqueue::from(OwnedFd::from(kq));
    assert_eq!(kq.as_raw_fd(), number);
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0);

    let no_queue = Kqueue::from(OwnedFd::from(UnixStream::pair().unwrap().0));
    let error = no_queue.wait(&mut events, NOW).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOENT)), "{error}");
}

#[test]
fn single_change_has_a_receipt_like_several_changes() {
    let (kq, _) = queue();
    let (a, _b) = UnixStream::pair().unwrap();
    let add = Kevent::read(a.as_raw_fd(), Flags::ADD).with_data(7).with_udata(5);
    let delete = Kevent::write(a.as_raw_fd(), Flags::DELETE);
    for changes in [&[add][..], &[add, add]] {
        let mut changes = changes.to_vec();
        for receipt in kq.apply(&mut changes).unwrap() {
            assert!(receipt.flags().contains(Flags::ERROR) && receipt.data() == 0, "{receipt:?}");
            assert_eq!((receipt.ident(), receipt.filter()), (a.as_raw_fd() as usize, Filter::READ));
        }
    }
    let mut changes = [delete];
    let receipt = kq.apply(&mut changes).unwrap()[0];
    assert!(receipt.flags().contains(Flags::ERROR), "{receipt:?}");
    assert_eq!(receipt.data(), libc::ENOENT.into());

    // The call itself fails on a descriptor that is not a queue.
    let no_queue = Kqueue::from(OwnedFd::from(UnixStream::pair().unwrap().0));
    let error = no_queue.apply(&mut [add]).unwrap_err();
    assert!(matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOENT)), "{error}");
}

#[test]
fn read_and_write_filters_report_by_their_flags() {
    let (kq, mut events) = queue();
    let (a, mut b) = UnixStream::pair().unwrap();
    let fd = a.as_raw_fd();
    register(&kq, &[Kevent::read(fd, Flags::ADD | Flags::CLEAR).with_udata(usize::MAX)]);
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0);
    b.write_all(b"12345").unwrap();
    let event = wait_for_one(&kq, &mut events);
    assert_eq!(
        (event.ident(), event.filter(), event.data(), event.udata()),
        (fd as usize, Filter::READ, 5, usize::MAX)
    );
    assert!(event.result().is_ok() && !event.flags().intersects(Flags::EOF | Flags::ERROR));
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0, "an edge is reported once");

    register(&kq, &[Kevent::read(fd, Flags::DELETE), Kevent::write(fd, Flags::ADD | Flags::ONESHOT).with_udata(2)]);
    let event = wait_for_one(&kq, &mut events);
    assert_eq!((event.filter(), event.udata()), (Filter::WRITE, 2));
    assert!(event.data() > 0 || is_libkqueue());
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0);
    assert_eq!(
        change_error(&kq, Kevent::write(fd, Flags::DELETE)).kind(),
        ErrorKind::NotFound,
        "the one-shot filter is deleted"
    );

    register(&kq, &[Kevent::read(fd, Flags::ADD).with_udata(3)]);
    drop(b);
    let event = wait_for_one(&kq, &mut events);
    assert_eq!((event.udata(), event.data()), (3, 5));
    assert!(event.flags().contains(Flags::EOF));
    assert_eq!(wait_for_one(&kq, &mut events).udata(), 3, "a level is reported again");
}

#[test]
fn dispatched_filter_reports_after_enabling() {
    let (kq, mut events) = queue();
    let (a, mut b) = UnixStream::pair().unwrap();
    let read = |flags| Kevent::read(a.as_raw_fd(), flags).with_udata(1);
    register(&kq, &[read(Flags::ADD | Flags::DISPATCH)]);
    b.write_all(b"x").unwrap();
    wait_for_one(&kq, &mut events);
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0, "the filter was dispatched");
    register(&kq, &[read(Flags::ENABLE)]);
    wait_for_one(&kq, &mut events);
    register(&kq, &[read(Flags::ENABLE), read(Flags::DISABLE)]);
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0);
}

#[test]
fn one_call_applies_changes_and_waits() {
    let (kq, mut events) = queue();
    let pairs: Vec<_> = (0..5).map(|_| UnixStream::pair().unwrap()).collect();
    let read = |(n, (a, _)): (usize, &(UnixStream, UnixStream))| Kevent::read(a.as_raw_fd(), Flags::ADD).with_udata(n);
    let changes: Vec<_> = pairs.iter().enumerate().map(read).collect();
    (&pairs[2].1).write_all(b"x").unwrap();
    assert_eq!(kq.kevent(&changes, &mut events, Some(TIMEOUT)).unwrap(), 1);
    assert_eq!(events.iter().map(Kevent::udata).collect::<Vec<_>>(), [2]);
    // All filters were added, and a small buffer reports them in turn.
    pairs.iter().for_each(|(_, b)| (&*b).write_all(b"x").unwrap());
    let mut short = Vec::with_capacity(1);
    let mut seen = [false; 5];
    let start = Instant::now();
    while seen != [true; 5] {
        assert!(start.elapsed() < TIMEOUT, "{seen:?}");
        assert_eq!(kq.wait(&mut short, Some(TIMEOUT)).unwrap(), 1);
        assert_eq!((short.len(), short.capacity()), (1, 1));
        seen[short[0].udata()] = true;
        pairs[short[0].udata()].0.set_nonblocking(true).unwrap();
        while std::io::Read::read(&mut &pairs[short[0].udata()].0, &mut [0; 8]).is_ok() {}
    }
    assert_eq!(kq.wait(&mut short, NOW).unwrap(), 0);
}

/// The receipts are in the order of the changes, and a failed change does not stop the others.
#[test]
fn apply_returns_a_receipt_for_each_change() {
    let (kq, mut events) = queue();
    let (a, _b) = UnixStream::pair().unwrap();
    let fd = a.as_raw_fd();
    let mut changes = [
        Kevent::read(fd, Flags::DELETE).with_udata(1),
        Kevent::write(closed_descriptor(), Flags::ADD).with_udata(2),
        Kevent::write(fd, Flags::ADD).with_udata(3),
        Kevent::new(fd as usize, Filter::from_raw(99), Flags::ADD, 0, 0, 4),
    ];
    let receipts = kq.apply(&mut changes).unwrap();
    assert!(receipts.iter().all(|receipt| receipt.flags().contains(Flags::ERROR)), "{receipts:?}");
    let errors: Vec<_> = receipts.iter().map(|receipt| (receipt.udata(), receipt.data() as i32)).collect();
    assert_eq!(errors, [(1, libc::ENOENT), (2, libc::EBADF), (3, 0), (4, libc::EINVAL)]);
    let results: Vec<_> =
        receipts.iter().map(|receipt| receipt.result().map_err(|error| error.raw_os_error())).collect();
    assert_eq!(results, [Err(Some(libc::ENOENT)), Err(Some(libc::EBADF)), Ok(()), Err(Some(libc::EINVAL))]);
    assert_eq!(wait_for_one(&kq, &mut events).udata(), 3);
    assert_eq!(kq.apply(&mut []).unwrap().len(), 0);
}

#[test]
fn eight_hundred_changes_are_applied() {
    let kq = Kqueue::new().unwrap();
    let user = |ident| Kevent::user(ident, Flags::ADD | Flags::CLEAR, UserNotes::empty()).with_udata(ident);
    // OpenBSD allows a process 1 024 user events.
    register(&kq, &(0..800).map(user).collect::<Vec<_>>());
    register(&kq, &(0..800).map(|ident| user(ident).with_flags(Flags::DELETE)).collect::<Vec<_>>());
}

#[test]
fn failed_change_returns_without_waiting() {
    if is_known_failure(Check::ReceiptOfFailedChange) {
        return;
    }
    let (kq, mut events) = queue();
    let (a, _b) = UnixStream::pair().unwrap();
    let fd = a.as_raw_fd();
    let changes = [Kevent::read(fd, Flags::DELETE).with_udata(1), Kevent::read(fd, Flags::ADD).with_udata(2)];
    assert_eq!(kq.kevent(&changes, &mut events, None).unwrap(), 1);
    assert_eq!((events[0].udata(), events[0].result().unwrap_err().kind()), (1, ErrorKind::NotFound));
    register(&kq, &[Kevent::read(fd, Flags::DELETE)]);
}

#[test]
fn failed_change_is_returned_with_the_events() {
    let (kq, mut events) = queue();
    let (a, _b) = UnixStream::pair().unwrap();
    let fd = a.as_raw_fd();
    let changes = [Kevent::read(fd, Flags::DELETE).with_udata(1), Kevent::write(fd, Flags::ADD).with_udata(2)];
    let n = kq.kevent(&changes, &mut events, Some(TIMEOUT)).unwrap();
    assert_eq!((events[0].udata(), events[0].result().unwrap_err().kind()), (1, ErrorKind::NotFound));
    if n == 1 {
        kq.wait(&mut events, Some(TIMEOUT)).unwrap();
    }
    assert_eq!(events.last().unwrap().udata(), 2);
}

#[test]
fn too_small_buffer_is_rejected_and_changes_nothing() {
    let (kq, mut events) = queue();
    let (a, _b) = UnixStream::pair().unwrap();
    let changes = [Kevent::write(a.as_raw_fd(), Flags::ADD), Kevent::read(a.as_raw_fd(), Flags::ADD)];
    for capacity in [0, 1] {
        let error = kq.kevent(&changes, &mut Vec::with_capacity(capacity), None).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(kq.wait(&mut Vec::new(), None).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0);
    assert_eq!(change_error(&kq, changes[0].with_flags(Flags::DELETE)).kind(), ErrorKind::NotFound);
}

#[test]
fn invalid_changes_are_rejected() {
    let (kq, mut events) = queue();
    let (a, _b) = UnixStream::pair().unwrap();
    for fd in [-1, RawFd::MIN, closed_descriptor()] {
        for change in [Kevent::read(fd, Flags::ADD), Kevent::write(fd, Flags::ADD)] {
            assert_eq!(change_error(&kq, change).raw_os_error(), Some(libc::EBADF), "{change:?}");
        }
    }
    for filter in [50, 99, 1000] {
        let change = Kevent::new(a.as_raw_fd() as usize, Filter::from_raw(filter), Flags::ADD, 0, 0, 0);
        assert_eq!(change_error(&kq, change).kind(), ErrorKind::InvalidInput);
    }
    // No process has so high a number.
    let process = Kevent::process(libc::pid_t::MAX, Flags::ADD, ProcNotes::EXIT);
    assert_eq!(change_error(&kq, process).raw_os_error(), Some(libc::ESRCH));
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0);
}

/// libkqueue would take a field of the change for the address of a function.
#[cfg(target_os = "linux")]
#[test]
fn libkqueue_filter_is_rejected_except_in_raw_call() {
    let (kq, mut events) = queue();
    let change = Kevent::new(0, Filter::from_raw(-12), Flags::ADD, 1, 0, 0);
    assert_eq!(kq.apply(&mut [change]).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(kq.kevent(&[change], &mut events, NOW).unwrap_err().kind(), ErrorKind::InvalidInput);
    // SAFETY: one record is read and one is written; NOTE_VERSION (1) returns a number.
    let n = unsafe { kq.kevent_raw(&change, 1, events.as_mut_ptr(), 1, NOW) }.unwrap();
    assert_eq!(n, 1);
}

#[test]
fn raw_call_reads_and_writes_records() {
    let (kq, mut events) = queue();
    let (a, _b) = UnixStream::pair().unwrap();
    let delete = Kevent::read(a.as_raw_fd(), Flags::DELETE);
    // Without room for a receipt the call fails; the error of DragonFly is EFAULT.
    // SAFETY: one record is read and none is written.
    let error = unsafe { kq.kevent_raw(&delete, 1, std::ptr::null_mut(), 0, NOW) }.unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound || cfg!(target_os = "dragonfly"), "{error}");
    let mut same = [Kevent::write(a.as_raw_fd(), Flags::ADD | Flags::RECEIPT).with_udata(4)];
    let records = same.as_mut_ptr();
    // SAFETY: one record is read and one is written.
    assert_eq!(unsafe { kq.kevent_raw(records, 1, records, 1, NOW) }.unwrap(), 1);
    assert!(same[0].flags().contains(Flags::ERROR) && same[0].result().is_ok());
    assert_eq!(wait_for_one(&kq, &mut events).udata(), 4);
}

#[test]
fn timer_filter_fires_in_each_unit() {
    let (kq, mut events) = queue();
    let units = [
        (TimerUnit::Nanoseconds, 20_000_000),
        (TimerUnit::Microseconds, 20_000),
        (TimerUnit::Milliseconds, 20),
        (TimerUnit::Seconds, 1),
    ];
    for (ident, (unit, period)) in units.into_iter().enumerate() {
        let start = Instant::now();
        register(&kq, &[Kevent::timer(ident, Flags::ADD | Flags::ONESHOT, period, unit).unwrap().with_udata(9)]);
        let event = wait_for_one(&kq, &mut events);
        assert_eq!((event.filter(), event.ident(), event.data(), event.udata()), (Filter::TIMER, ident, 1, 9));
        let (least, passed) = (if ident == 3 { 1000 } else { 20 }, start.elapsed());
        assert!(passed >= Duration::from_millis(least) && passed < TIMEOUT, "{unit:?}: {passed:?}");
        assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0);
    }
    // A periodic timer reports the number of its expirations.
    register(&kq, &[Kevent::timer(7, Flags::ADD, 5, TimerUnit::Milliseconds).unwrap()]);
    let start = Instant::now();
    let mut times = 0;
    while times < 4 {
        times += wait_for_one(&kq, &mut events).data();
    }
    assert!(start.elapsed() >= Duration::from_millis(15));
    register(&kq, &[Kevent::timer(7, Flags::DELETE, 0, TimerUnit::Milliseconds).unwrap()]);
}

#[test]
fn timer_with_invalid_period_is_rejected() {
    let timer = |period, unit| Kevent::timer(1, Flags::ADD, period, unit).map(drop).map_err(|error| error.kind());
    let bad = Err(ErrorKind::InvalidInput);
    for unit in [TimerUnit::Seconds, TimerUnit::Milliseconds, TimerUnit::Microseconds, TimerUnit::Nanoseconds] {
        assert_eq!((timer(-1, unit), timer(i64::MIN, unit)), (bad, bad), "{unit:?}");
        assert_eq!((timer(0, unit), timer(1, unit)), (Ok(()), Ok(())));
    }
    assert_eq!(timer(i64::MAX, TimerUnit::Seconds), bad);
    assert_eq!(timer(i64::MAX / 1_000_000_000 + 1, TimerUnit::Seconds), bad);
    assert_eq!(timer(i64::MAX / 1_000_000 + 1, TimerUnit::Milliseconds), bad);
    assert_eq!(timer(i64::MAX / 1_000 + 1, TimerUnit::Microseconds), bad);
    if size_of::<usize>() == 8 {
        assert_eq!(timer(i64::MAX / 1_000_000_000, TimerUnit::Seconds), Ok(()));
        assert_eq!(timer(i64::MAX, TimerUnit::Nanoseconds), Ok(()));
    }
}

#[test]
fn user_event_is_triggered_by_another_thread() {
    let (kq, mut events) = queue();
    let user = |flags, notes| Kevent::user(3, flags, notes).with_udata(8);
    register(&kq, &[user(Flags::ADD | Flags::CLEAR, UserNotes::FFNOP)]);
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0);
    thread::scope(|scope| {
        scope
            .spawn(|| register(&kq, &[user(Flags::empty(), UserNotes::TRIGGER | UserNotes::FFCOPY | user_bits(0x12))]));
        let event = wait_for_one(&kq, &mut Vec::with_capacity(1));
        assert_eq!((event.ident(), event.filter(), event.udata()), (3, Filter::USER, 8));
        assert_eq!(event.fflags() & UserNotes::FFLAGSMASK.bits(), 0x12);
    });
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0);
}

fn user_bits(bits: u32) -> UserNotes {
    UserNotes::from_bits(bits)
}

#[test]
fn vnode_filter_reports_write_and_rename() {
    let (kq, mut events) = queue();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    let mut file = File::create(&path).unwrap();
    let notes = VnodeNotes::WRITE | VnodeNotes::EXTEND | VnodeNotes::DELETE | VnodeNotes::RENAME;
    register(&kq, &[Kevent::vnode(file.as_raw_fd(), Flags::ADD | Flags::CLEAR, notes).with_udata(1)]);
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0);
    file.write_all(b"more").unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    let notes_of = |event: Kevent| VnodeNotes::from_bits(event.fflags());
    let event = wait_for_one(&kq, &mut events);
    assert_eq!((event.filter(), event.udata()), (Filter::VNODE, 1));
    assert!(notes_of(event).intersects(VnodeNotes::WRITE | VnodeNotes::EXTEND), "{event:?}");
    std::fs::rename(&path, directory.path().join("other")).unwrap();
    let start = Instant::now();
    while !notes_of(wait_for_one(&kq, &mut events)).contains(VnodeNotes::RENAME) {
        assert!(start.elapsed() < TIMEOUT);
    }
}

#[test]
fn proc_filter_reports_exit() {
    let (kq, mut events) = queue();
    let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    register(&kq, &[Kevent::process(pid as libc::pid_t, Flags::ADD, ProcNotes::EXIT).with_udata(5)]);
    assert_eq!(kq.wait(&mut events, NOW).unwrap(), 0);
    drop(child.stdin.take());
    let event = wait_for_one(&kq, &mut events);
    assert_eq!((event.ident(), event.filter(), event.udata()), (pid as usize, Filter::PROC, 5));
    assert!(ProcNotes::from_bits(event.fflags()).contains(ProcNotes::EXIT), "{event:?}");
    assert!(child.wait().unwrap().success());
}

#[test]
fn wait_accepts_any_timeout() {
    let (kq, mut events) = queue();
    for nanos in [0, 1, 300_000, 20_000_000] {
        let (wait, start) = (Duration::from_nanos(nanos), Instant::now());
        assert_eq!(kq.wait(&mut events, Some(wait)).unwrap(), 0);
        assert!(start.elapsed() >= wait && start.elapsed() < TIMEOUT, "{wait:?}");
    }
    let (a, _b) = UnixStream::pair().unwrap();
    register(&kq, &[Kevent::write(a.as_raw_fd(), Flags::ADD)]);
    for wait in [Some(Duration::MAX), Some(Duration::from_secs(1 << 40)), None] {
        assert_eq!(kq.wait(&mut events, wait).unwrap(), 1);
    }
}

/// The changes are applied once, before a signal interrupts the wait.
#[test]
fn interrupted_wait_keeps_its_changes() {
    handler::install(libc::SIGURG, handler::do_nothing, libc::SA_RESTART);
    let (kq, mut events) = queue();
    let (a, mut b) = UnixStream::pair().unwrap();
    let change = Kevent::read(a.as_raw_fd(), Flags::ADD | Flags::CLEAR).with_udata(6);
    let (send, receive) = mpsc::channel();
    let blocked_thread = thread::spawn(move || {
        // SAFETY: no arguments.
        send.send(unsafe { libc::pthread_self() } as usize).unwrap();
        let error = kq.kevent(&[change], &mut events, Some(TIMEOUT)).unwrap_err();
        (kq, events, error)
    });
    let waiting = receive.recv().unwrap();
    while !blocked_thread.is_finished() {
        // SAFETY: the thread has not been joined, so it exists.
        unsafe { libc::pthread_kill(waiting as libc::pthread_t, libc::SIGURG) };
        thread::sleep(Duration::from_millis(1));
    }
    let (kq, mut events, error) = blocked_thread.join().unwrap();
    assert_eq!((error.kind(), events.len()), (ErrorKind::Interrupted, 0));
    b.write_all(b"x").unwrap();
    assert_eq!(wait_for_one(&kq, &mut events).udata(), 6);
}

#[test]
fn event_of_a_poll_returns_its_record() {
    let mut poll = TestPoll::new();
    let (mut ours, mut theirs) = tcp_pair();
    let mut timer = Timer::every(Duration::from_millis(1)).unwrap();
    poll.register(&mut ours, 1, READ);
    theirs.write_all(b"seven").unwrap();
    poll.expect(1, R);
    let record = poll.events.iter().next().unwrap().kevent();
    if BACKEND != Backend::Kqueue {
        return assert!(record.is_none());
    }
    let record = record.unwrap();
    assert_eq!((record.ident(), record.filter(), record.udata()), (ours.as_raw_fd() as usize, Filter::READ, 1));
    assert!(record.flags().contains(Flags::CLEAR) && record.data() > 0, "{record:?}");
    drop(ours);
    poll.register(&mut timer, 2, READ);
    poll.expect(2, R);
    let event = poll.events.iter().next().unwrap();
    let record = event.kevent().unwrap();
    assert_eq!((record.filter(), record.udata()), (Filter::TIMER, 2));
    assert_eq!(record.data() as u64, timer.expirations(event).unwrap());
}

#[cfg(not(target_os = "linux"))]
#[test]
fn record_and_constants_equal_those_of_libc() {
    assert_eq!((size_of::<Kevent>(), align_of::<Kevent>()), (size_of::<libc::kevent>(), align_of::<libc::kevent>()));
    assert_eq!(Filter::READ.raw(), libc::EVFILT_READ);
    assert_eq!(Filter::TIMER.raw(), libc::EVFILT_TIMER);
    assert_eq!(Flags::ADD.bits(), libc::EV_ADD as RawFlags);
    assert_eq!(Flags::EOF.bits(), libc::EV_EOF as RawFlags);
    assert_eq!(VnodeNotes::RENAME.bits(), libc::NOTE_RENAME);
    assert_eq!(ProcNotes::EXIT.bits(), libc::NOTE_EXIT);
}

#[cfg(target_os = "linux")]
#[test]
fn record_and_constants_equal_those_of_libkqueue() {
    assert_eq!((size_of::<Kevent>(), align_of::<Kevent>()), (size_of::<[usize; 4]>(), align_of::<usize>()));
    assert_eq!((Filter::TIMER.raw(), Flags::EOF.bits()), (-7, 0x8000 as RawFlags));
    assert_eq!(kevio::unix::kqueue::TimerNotes::USECONDS.bits(), 2);
}
