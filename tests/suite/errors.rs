//! The errors that the crate makes itself name the request, the source, and what to do instead.

use std::fmt::Debug;
use std::io::{self, ErrorKind};
use std::time::Duration;

use kevio::event::Source;
#[cfg(unix)]
use kevio::{
    net::{UnixDatagram, UnixListener, UnixStream},
    unix::pollset::{PollFlags, PollSet},
    FileChanges,
};
use kevio::{Backend, BusyPoll, Interest, Poll, Process, Signals, Timer, Token, Watch, BACKEND};

use crate::support::net::tcp_pair;
use crate::support::poll::{TestPoll, READ, WRITE};
use crate::support::readiness::W;
use crate::support::streams::{kevio_pair, number_of_file, one_way, raw, IoSource, OwnedSource, SourceFd};

/// Checks the kind of an error, and that the message has each of the words: of the request, the source and the remedy.
#[track_caller]
fn expect<T: Debug>(result: io::Result<T>, kind: ErrorKind, words: &[&str]) {
    let error = result.expect_err("the request must fail");
    let message = error.to_string();
    assert_eq!(error.kind(), kind, "{message}");
    assert_eq!(error.raw_os_error(), None, "{message}");
    for word in words {
        assert!(message.contains(word), "no {word:?} in {message:?}");
    }
    // The style of std: a program writes its own text before and after the message.
    let is_sentence = message.ends_with('.') || message.starts_with("The ") || message.starts_with("A ");
    assert!(!is_sentence, "{message:?}");
}

#[track_caller]
fn expect_unsupported(poll: &TestPoll, source: &mut dyn Source, interest: Interest, words: &[&str]) {
    expect(poll.registry().register(source, Token(1), interest), ErrorKind::Unsupported, words);
}

#[test]
fn interest_of_a_descriptor_is_named() {
    let poll = TestPoll::new();
    let (mut a, b) = tcp_pair();
    let backend = BACKEND.name();
    for (interest, name) in [(Interest::AIO, "`Interest::AIO`"), (READ | Interest::LIO, "`Interest::LIO`")] {
        let words = [backend, "register a descriptor", name, "`SIGEV_KEVENT`"];
        expect_unsupported(&poll, &mut a, interest, &words);
        expect_unsupported(&poll, &mut SourceFd(&raw(&b)), interest, &words);
    }
    let has_exclusive = BACKEND == Backend::Epoll && cfg!(any(target_os = "linux", target_os = "android"));
    let words = [backend, "register a descriptor", "`Interest::exclusive`"];
    let exclusive = READ.exclusive();
    for interest in [exclusive, exclusive.oneshot(), exclusive | Interest::PRIORITY] {
        if interest != exclusive || !has_exclusive {
            expect_unsupported(&poll, &mut a, interest, &words);
            let instead = if BACKEND == Backend::Epoll { "`oneshot` and `PRIORITY`" } else { "without that option" };
            expect_unsupported(&poll, &mut a, interest, &[instead]);
        }
    }
    if BACKEND == Backend::Kqueue && !cfg!(has_evfilt_except) {
        let words = ["kqueue backend of this system", "urgent data (`Interest::PRIORITY`)", "`SO_OOBINLINE`"];
        expect_unsupported(&poll, &mut a, Interest::PRIORITY, &words);
    } else if BACKEND == Backend::Kqueue {
        let (_sender, mut receiver) = one_way();
        let words = ["kqueue backend", "this descriptor", "`Interest::PRIORITY`", "without that interest"];
        expect_unsupported(&poll, &mut receiver, READ | Interest::PRIORITY, &words);
    }
}

#[test]
fn interest_of_another_source_is_named() {
    let poll = TestPoll::new();
    let mut timer = Timer::after(Duration::from_secs(1000)).unwrap();
    expect_readable_only(&poll, "`Timer`", &mut timer);
    interest_of_other_sources_is_named(&poll);
}

#[track_caller]
fn expect_readable_only(poll: &TestPoll, name: &str, source: &mut dyn Source) {
    for (interest, part) in [(WRITE, "WRITABLE"), (Interest::PRIORITY, "PRIORITY"), (READ.exclusive(), "EXCLUSIVE")] {
        let words = [name, "registered for the interest", part, "`Interest::READABLE`"];
        expect_unsupported(poll, source, interest, &words);
    }
}

/// A signal for which a program can wait.
#[cfg(unix)]
const SIGNAL: i32 = libc::SIGURG;
#[cfg(windows)]
const SIGNAL: i32 = kevio::windows::SIGINT;

/// Returns a source for this process, which is no child of its own. `None` if the system can report the exits of children only.
fn own_process() -> Option<Process> {
    Process::from_pid(std::process::id() as _).ok()
}

fn interest_of_other_sources_is_named(poll: &TestPoll) {
    let mut signals = Signals::new([SIGNAL]).unwrap();
    let mut process = own_process();
    let mut watch = Watch::open(".").ok();
    let mut sources: Vec<(&str, &mut dyn Source)> = vec![("`Signals`", &mut signals)];
    sources.extend(process.as_mut().map(|process| ("`Process`", process as _)));
    sources.extend(watch.as_mut().map(|watch| ("`Watch`", watch as _)));
    for (name, source) in sources {
        expect_readable_only(poll, name, source);
    }
    let words = ["`Signals`", "`Interest::oneshot`", "lost", "`Interest::READABLE`"];
    expect_unsupported(poll, &mut signals, READ.oneshot(), &words);
}

/// The texts begin as those of mio.
#[test]
fn registration_errors_name_the_remedy() {
    let (poll, other) = (TestPoll::new(), Poll::new().unwrap());
    let (mut a, mut b) = kevio_pair();
    poll.register(&mut a, 1, READ);
    let registry = poll.registry();
    let words = ["I/O source already registered with a `Registry`", "`reregister`", "`deregister`"];
    expect(registry.register(&mut a, Token(2), READ), ErrorKind::AlreadyExists, &words);
    let words = ["I/O source already registered with a different `Registry`", "`deregister`", "first"];
    expect(other.registry().reregister(&mut a, Token(2), READ), ErrorKind::AlreadyExists, &words);
    let words = ["I/O source not registered with `Registry`", "`register`", "first", "closing"];
    expect(registry.reregister(&mut b, Token(2), READ), ErrorKind::NotFound, &words);
    expect(registry.deregister(&mut b), ErrorKind::NotFound, &words);
    let elsewhere = ["I/O source not registered with `Registry`", "a different one", "`deregister` of that registry"];
    expect(other.registry().deregister(&mut a), ErrorKind::NotFound, &elsewhere);
    let fd = raw(&b);
    expect(registry.deregister(&mut SourceFd(&fd)), ErrorKind::NotFound, &words);

    let mut timer = Timer::new().unwrap();
    expect(registry.deregister(&mut timer), ErrorKind::NotFound, &words);

    #[cfg(unix)]
    second_source_of_a_process_is_named(&poll);
}

#[cfg(unix)]
fn second_source_of_a_process_is_named(poll: &TestPoll) {
    let [Some(mut first), Some(mut second)] = [own_process(), own_process()] else { return };
    poll.register(&mut first, 2, Interest::NONE);
    if BACKEND == Backend::Kqueue {
        let words = ["process or file is already registered", "another source", "kqueue", "a second `Poll`"];
        expect(poll.registry().register(&mut second, Token(3), READ), ErrorKind::AlreadyExists, &words);
    }
}

/// The error number is a part of the contract, so that there is no text: see `Registry::register`.
#[test]
fn error_numbers_of_the_kernel_are_kept() {
    let poll = TestPoll::new();
    let file = tempfile::tempfile().unwrap();
    let (number, expected) = number_of_file(&file);
    let error = poll.registry().register(&mut SourceFd(&number), Token(1), READ).unwrap_err();
    assert_eq!(error.raw_os_error(), expected);
    #[cfg(unix)]
    {
        let error = poll.registry().register(&mut IoSource::new(file), Token(1), READ).unwrap_err();
        assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::PermissionDenied, expected));
    }
}

#[test]
fn busy_poll_error_names_what_is_needed() {
    let poll = Poll::new().unwrap();
    let words = ["`Poll::set_busy_poll`", "epoll", "Linux 6.9", "`Poll::set_spin`"];
    if BACKEND != Backend::Epoll {
        expect(poll.set_busy_poll(BusyPoll::default()), ErrorKind::Unsupported, &words);
        expect(poll.busy_poll(), ErrorKind::Unsupported, &words);
    } else if let Err(error) = poll.busy_poll() {
        // Linux before 6.9.
        expect(Err::<(), _>(error), ErrorKind::Unsupported, &words);
    }
}

#[test]
fn timer_error_names_the_remedy() {
    let words = ["`Timer`", "period of zero", "`every`", "`set_every`", "`after`"];
    expect(Timer::every(Duration::ZERO), ErrorKind::InvalidInput, &words);
    expect(Timer::new().unwrap().set_every(Duration::ZERO), ErrorKind::InvalidInput, &words);
}

#[cfg(windows)]
#[test]
fn signal_errors_name_the_signal() {
    expect(Signals::new([]), ErrorKind::InvalidInput, &["`Signals::new`", "empty", "at least one signal"]);
    for (signals, kind) in
        [([4, 9, 11, 0, 9999], ErrorKind::InvalidInput), ([3, 10, 13, 22, 28], ErrorKind::Unsupported)]
    {
        for signal in signals {
            let name = format!("the signal {signal}");
            expect(Signals::new([SIGNAL, signal]), kind, &["`Signals::new`", &name]);
        }
    }
}

#[cfg(windows)]
#[test]
fn process_errors_name_the_process() {
    expect(Process::from_pid(0), ErrorKind::InvalidInput, &["`Process::from_pid`"]);
    expect(Process::from_pid(u32::MAX), ErrorKind::NotFound, &["`Process::from_pid(4294967295)`", "no process"]);
}

#[cfg(unix)]
#[test]
fn signal_errors_name_the_signal() {
    expect(Signals::new([]), ErrorKind::InvalidInput, &["`Signals::new`", "empty", "at least one signal"]);
    for signal in [libc::SIGKILL, libc::SIGSTOP, libc::SIGSEGV] {
        let name = format!("the signal {signal},");
        let words = ["`Signals::new`", &name, "cannot be caught", "leave it out"];
        expect(Signals::new([libc::SIGURG, signal]), ErrorKind::InvalidInput, &words);
    }
    for signal in [-1, 0, 9999, i32::MAX] {
        let name = format!("the signal {signal},");
        let words = ["`Signals::new`", &name, "no such signal", "`libc`"];
        expect(Signals::new([signal]), ErrorKind::InvalidInput, &words);
    }
}

#[test]
fn event_of_another_source_names_the_method() {
    let mut poll = TestPoll::new();
    let (mut a, _b) = kevio_pair();
    poll.register(&mut a, 5, WRITE);
    poll.expect(5, W);
    let event = poll.events.iter().next().unwrap();
    let check = |result: io::Result<()>, method: &str| {
        expect(result, ErrorKind::InvalidInput, &[method, "belongs to another source", "pass an event whose token"]);
    };
    check(Timer::new().unwrap().expirations(event).map(drop), "`Timer::expirations`");
    check(Signals::new([SIGNAL]).unwrap().received(event).map(drop), "`Signals::received`");
    if let Some(process) = own_process() {
        check(process.has_exited(event).map(drop), "`Process::has_exited`");
        check(process.status(event).map(drop), "`Process::status`");
    }
    if let Ok(watch) = Watch::open(".") {
        check(watch.changes(event).map(drop), "`Watch::changes`");
    }
}

#[cfg(unix)]
#[test]
fn process_errors_name_the_process() {
    for pid in [0, -1] {
        let name = format!("{pid} stands for a group");
        let words = ["`Process::from_pid`", &name, "positive identifier"];
        expect(Process::from_pid(pid), ErrorKind::InvalidInput, &words);
    }
    // Greater than the number of any process.
    let words = ["`Process::from_pid(2147483647)`", "no process", "before the process is waited for"];
    expect(Process::from_pid(i32::MAX), ErrorKind::NotFound, &words);

    let (a, _b) = kevio_pair();
    let has_descriptors =
        cfg!(any(all(target_os = "linux", not(kevio_unsupported_force_fallbacks)), target_os = "freebsd"));
    let (kind, needed) = match has_descriptors {
        true => (ErrorKind::InvalidInput, "of another kind"),
        false => (ErrorKind::Unsupported, "no descriptors of processes"),
    };
    expect(Process::from_fd(OwnedSource::from(a)), kind, &["`Process::from_fd`", needed, "`Process::from_pid`"]);
    #[cfg(target_os = "linux")]
    std::thread::spawn(|| {
        // SAFETY: no arguments.
        let tid = unsafe { libc::syscall(libc::SYS_gettid) } as i32;
        let name = format!("{tid} is the identifier of a thread");
        let words = ["`Process::from_pid`", &name, "pass the identifier of its process"];
        expect(Process::from_pid(tid), ErrorKind::InvalidInput, &words);
    })
    .join()
    .unwrap();
}

#[cfg(unix)]
#[test]
fn watch_errors_name_the_file() {
    let (socket, _peer) = kevio_pair();
    let (sender, _receiver) = one_way();
    let device = std::fs::File::open("/dev/null").unwrap();
    let files = [("a socket", OwnedSource::from(socket)), ("a pipe", sender.into()), ("a device", device.into())];
    for (kind, file) in files {
        let words = ["`Watch`", "a regular file or a directory", kind, "`SourceFd`"];
        expect(Watch::new(file).map(drop), ErrorKind::InvalidInput, &words);
    }
    for changes in [FileChanges::empty(), FileChanges::RESCAN, FileChanges::from_bits(1 << 20)] {
        let name = format!("the changes {changes:?}");
        let words = ["`Watch`", &name, "`FileChanges::ALL`", "at least one"];
        let file = std::fs::File::open("/").unwrap();
        expect(Watch::with_changes(file, changes).map(drop), ErrorKind::InvalidInput, &words);
    }
    let has_inotify = cfg!(any(target_os = "linux", target_os = "android")) && !cfg!(kevio_unsupported_force_fallbacks);
    if BACKEND == Backend::Kqueue {
        return;
    }
    if has_inotify {
        let words = ["`Watch`", "/proc", "read the file at intervals", "`Timer`"];
        expect(Watch::open("/proc/self/status").map(drop), ErrorKind::Unsupported, &words);
    } else {
        let words = ["`Watch`", "inotify(7)", "at intervals", "`Timer`"];
        expect(Watch::open("/").map(drop), ErrorKind::Unsupported, &words);
    }
}

#[cfg(unix)]
#[test]
fn path_of_a_unix_socket_names_its_length() {
    let path = "x".repeat(200);
    let words = ["a Unix socket", "a path of 200 bytes", "has space for 10", "pass a shorter path"];
    expect(UnixStream::connect(&path).map(drop), ErrorKind::InvalidInput, &words);
    expect(UnixListener::bind(&path).map(drop), ErrorKind::InvalidInput, &words);
    expect(UnixDatagram::bind(&path).map(drop), ErrorKind::InvalidInput, &words);
}

#[cfg(unix)]
#[test]
fn pollset_errors_name_the_slot() {
    let mut set = PollSet::new();
    set.grow(4).unwrap();
    let kind = ErrorKind::InvalidInput;
    expect(set.set(0, -7, PollFlags::IN), kind, &["`PollSet::set`", "descriptor -7", "`PollSet::unset`"]);
    let words = ["the slot 4", "4 slots", "`PollSet::grow`"];
    expect(set.set(4, 0, PollFlags::IN), kind, &[&["`PollSet::set`"], &words[..]].concat());
    expect(set.unset(4), kind, &[&["`PollSet::unset`"], &words[..]].concat());
    let words = ["`PollSet::poll`", "5 slots of the 4", "`PollSet::len`", "`PollSet::grow`"];
    expect(set.poll(5, Some(Duration::ZERO)), kind, &words);
    let words = ["`PollSet::grow`", "cannot make", "an `int`", "at most 2147483647"];
    expect(set.grow(1 << 31), kind, &words);
}

#[cfg(has_kqueue)]
#[test]
fn kqueue_errors_name_the_change() {
    use kevio::unix::kqueue::{Filter, Flags, Kevent, Kqueue, TimerUnit};

    let kind = ErrorKind::InvalidInput;
    let kq = Kqueue::new().unwrap();
    let change = Kevent::new(1, Filter::TIMER, Flags::ADD, 0, 1, 0);
    let words = ["`Kqueue::kevent`", "2 changes", "a buffer of 0 events", "`Vec::with_capacity`"];
    expect(kq.kevent(&[change, change], &mut Vec::new(), None), kind, &words);
    let timer = |period, unit| Kevent::timer(1, Flags::ADD, period, unit);
    let words = ["`Kevent::timer`", "period -3", "not negative", "pass 0 or more"];
    expect(timer(-3, TimerUnit::Seconds), kind, &words);
    let words = ["`Kevent::timer`", "(Seconds)", "292 years", "pass at most 9223372036"];
    expect(timer(i64::MAX, TimerUnit::Seconds), kind, &words);
    #[cfg(links_libkqueue)]
    {
        let change = Kevent::new(1, Filter::from_raw(-12), Flags::ADD, 0, 0, 0);
        let words = ["`Kqueue::apply`", "libkqueue's own filter (-12)", "`Kqueue::kevent_raw`"];
        expect(kq.apply(&mut [change]).map(drop), kind, &words);
    }
}
