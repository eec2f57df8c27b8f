//! Child processes and their pipes. In a binary of its own, because between fork(2) and exec(3) a child keeps open the
//! descriptors that tests of the suite close, and epoll(7) continues to report them.
#![cfg(unix)]

use std::io::{ErrorKind, Read, Write};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kevio::event::Source;
use kevio::unix::pipe;
use kevio::{Backend, Process, Signals, Timer, Token, Watch, BACKEND};

mod support;

use crate::support::known_failures::is_libkqueue;
use crate::support::net::drain;
use crate::support::poll::{TestPoll, READ, WRITE};
use crate::support::readiness::{R, W};

#[test]
fn error_for_a_child_that_was_waited_for_names_the_child() {
    let mut child = Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let error = Process::new(&child).unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::NotFound, None));
    let name = format!("the child {}", child.id());
    for word in ["`Process::new`", &name, "no process", "before the process is waited for"] {
        assert!(error.to_string().contains(word), "no {word:?} in {error}");
    }
}

#[test]
fn pipes_of_a_child_process_report_readiness() {
    let mut child =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = pipe::Sender::from(child.stdin.take().unwrap());
    let mut stdout = pipe::Receiver::from(child.stdout.take().unwrap());
    let mut stderr = pipe::Receiver::from(child.stderr.take().unwrap());
    stdin.set_nonblocking(true).unwrap();
    stdout.set_nonblocking(true).unwrap();
    stderr.set_nonblocking(true).unwrap();

    let mut poll = TestPoll::new();
    poll.register(&mut stdin, 0, WRITE);
    poll.register(&mut stdout, 1, READ);
    poll.register(&mut stderr, 2, READ);
    poll.expect(0, W);
    stdin.write_all(b"meow").unwrap();
    poll.until(|reported| reported.contains_key(&1), || "the echo".to_owned());
    let mut buffer = [0; 16];
    let n = stdout.try_io(|| (&stdout).read(&mut buffer)).unwrap();
    assert_eq!(&buffer[..n], b"meow");
    drop(stdin);
    poll.until(
        |reported| [1, 2].iter().all(|end| reported.get(end).is_some_and(|reported| reported.has(R))),
        || "the end".to_owned(),
    );
    assert_eq!((drain(&mut stdout), drain(&mut stderr)), ((0, true), (0, true)));
    assert!(child.wait().unwrap().success());
}

/// Until exec(3), a child that is being started holds copies of the descriptors of the program, and a registration of epoll(7)
/// lasts as long as a copy.
#[test]
fn dropped_sources_are_silent_while_children_are_started() {
    const SOURCES: usize = 300;
    const CHILDREN: usize = 1000;

    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            for _ in 0..CHILDREN {
                assert!(Command::new("true").status().unwrap().success());
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        let mut poll = TestPoll::with_capacity(1024);
        let file = tempfile::NamedTempFile::new().unwrap();
        while !started.is_finished() {
            let mut watched = Command::new("sleep").arg("60").spawn().unwrap();
            let mut sources: Vec<Box<dyn Source>> = Vec::new();
            // libkqueue opens descriptors for each filter, and an inotify instance for each watch.
            let count = if is_libkqueue() { 30 } else { SOURCES };
            for number in 0..count / 3 {
                sources.push(Box::new(Timer::after(Duration::ZERO).unwrap()));
                // A process, a signal and a descriptor can be registered once with each kqueue.
                if BACKEND != Backend::Kqueue || number == 0 {
                    sources.push(Box::new(Process::new(&watched).unwrap()));
                    sources.push(Box::new(Signals::new([libc::SIGWINCH]).unwrap()));
                }
                sources.extend(Watch::open(file.path()).ok().map(|watch| Box::new(watch) as Box<dyn Source>));
            }
            for source in &mut sources {
                poll.registry().register(source, Token(1), READ).unwrap();
            }
            drop(sources);
            file.as_file().set_len(1).unwrap();
            file.as_file().set_len(0).unwrap();
            // SAFETY: no pointers. The default action of the signal is to do nothing.
            assert_eq!(unsafe { libc::kill(libc::getpid(), libc::SIGWINCH) }, 0);
            watched.kill().unwrap();
            watched.wait().unwrap();
            poll.expect_no_events();
        }
        is_over.store(true, Ordering::Relaxed);
        started.join().unwrap();
    });
}
