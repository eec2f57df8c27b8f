//! A soak of the sources: thousands of children, signals and file changes, each of which is checked.
//!
//! `KEVIO_SOAK=full` runs 10 000 children, 10 000 signals and 100 000 file changes, and without it a twentieth of these.
#![cfg(unix)]

use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kevio::{Events, FileChanges, Interest, Poll, Process, Signals, Token, Watch};

mod support;

use support::known_failures::is_libkqueue;
use support::process::run_alone;

/// Longer than any step takes.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Returns the number of repetitions.
fn times(full: u64) -> u64 {
    support::repetitions(full, 20)
}

/// Polls until there are events.
#[track_caller]
fn poll_events(poll: &mut Poll, events: &mut Events) {
    poll.poll_until(events, Some(Instant::now() + TIMEOUT)).unwrap();
    assert!(!events.is_empty(), "nothing was reported");
}

/// Yields until the number is reached.
#[track_caller]
fn wait_for(counter: &AtomicU64, number: u64) {
    let deadline = Instant::now() + TIMEOUT;
    while counter.load(Ordering::Acquire) < number {
        assert!(Instant::now() < deadline, "{} of {number}", counter.load(Ordering::Acquire));
        thread::yield_now();
    }
}

/// Starts a child that exits at once with this code.
fn start_child(code: i32) -> libc::pid_t {
    // SAFETY: the child makes one system call.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "{}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: as above.
        unsafe { libc::_exit(code) };
    }
    pid
}

/// Reaps a child that has exited. Returns its code.
fn reap(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: the kernel writes one integer.
    assert_eq!(unsafe { libc::waitpid(pid, &mut status, libc::WNOHANG) }, pid, "the child cannot be reaped");
    libc::WEXITSTATUS(status)
}

#[test]
fn exit_of_every_child_is_reported_once() {
    const ALIVE: usize = 200;

    let _alone = run_alone();
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(64));
    let mut children: Vec<Option<(Process, i32)>> = (0..ALIVE).map(|_| None).collect();
    let (mut started, mut exited, all) = (0, 0, times(10_000));
    let (mut vacant, mut statuses): (Vec<usize>, u64) = ((0..ALIVE).collect(), 0);
    while exited < all {
        while let Some(index) = vacant.pop().filter(|_| started < all) {
            let code = (started % 256) as i32;
            let mut process = match Process::from_pid(start_child(code)) {
                Ok(process) => process,
                Err(error) => return assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
            };
            poll.registry().register(&mut process, Token(index), Interest::READABLE).unwrap();
            children[index] = Some((process, code));
            started += 1;
        }
        poll_events(&mut poll, &mut events);
        for event in &events {
            let (process, code) = children[event.token().0].take().expect("an exit was reported twice");
            assert!(process.has_exited(event).unwrap());
            if let Some(status) = process.status(event).unwrap() {
                assert_eq!(status.code(), Some(code));
                statuses += 1;
            }
            assert_eq!(reap(process.pid()), code);
            vacant.push(event.token().0);
            exited += 1;
        }
    }
    println!("{exited} children, {statuses} with a status");
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty(), "{events:?}");
}

/// The kernel does not queue a signal that is pending, so that each thread waits until its signal was counted.
#[test]
fn every_signal_of_four_threads_is_counted() {
    const SIGNALS: [i32; 4] = [libc::SIGUSR1, libc::SIGUSR2, libc::SIGWINCH, libc::SIGURG];

    let _alone = run_alone();
    if is_libkqueue() {
        return println!("not checked: libkqueue reports only signals that every thread blocks");
    }
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(8));
    let mut signals = Signals::new(SIGNALS).unwrap();
    poll.registry().register(&mut signals, Token(1), Interest::READABLE).unwrap();
    let (counts, each) = (SIGNALS.map(|_| AtomicU64::new(0)), times(10_000) / 4);
    let is_over = || counts.iter().all(|count| count.load(Ordering::Acquire) == each);
    thread::scope(|scope| {
        for (signal, count) in SIGNALS.iter().zip(&counts) {
            scope.spawn(move || {
                for number in 1..=each {
                    // SAFETY: no pointers.
                    assert_eq!(unsafe { libc::kill(libc::getpid(), *signal) }, 0);
                    wait_for(count, number);
                }
            });
        }
        while !is_over() {
            poll_events(&mut poll, &mut events);
            for event in &events {
                for (signal, number) in signals.received(event).unwrap() {
                    let index = SIGNALS.iter().position(|&other| other == signal).unwrap();
                    counts[index].fetch_add(number, Ordering::AcqRel);
                }
            }
        }
    });
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty() && is_over(), "{counts:?}");
}

/// A thread changes each of the files once, and waits until every change was reported.
#[test]
fn every_change_of_many_files_is_reported() {
    let _alone = run_alone();
    // libkqueue has an inotify instance for each watch, of which a user has 128.
    let files = if is_libkqueue() { 50 } else { 100 };
    let directory = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..files).map(|n| directory.path().join(n.to_string())).collect();
    for path in &paths {
        std::fs::write(path, 0_u64.to_ne_bytes()).unwrap();
    }
    let mut watches = Vec::new();
    for path in &paths {
        match Watch::new(std::fs::File::open(path).unwrap()) {
            Ok(watch) => watches.push(watch),
            Err(error) => return assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}"),
        }
    }
    let (mut poll, mut events) = (Poll::new().unwrap(), Events::with_capacity(64));
    for (token, watch) in watches.iter_mut().enumerate() {
        poll.registry().register(watch, Token(token), Interest::READABLE).unwrap();
    }
    let (rounds, finished) = (times(100_000) / files as u64, AtomicU64::new(0));
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut opened: Vec<_> =
                paths.iter().map(|path| std::fs::OpenOptions::new().write(true).open(path).unwrap()).collect();
            for round in 1..=rounds {
                for file in &mut opened {
                    file.seek(SeekFrom::Start(0)).unwrap();
                    file.write_all(&round.to_ne_bytes()).unwrap();
                }
                wait_for(&finished, round);
            }
        });
        let mut versions = vec![0; files];
        for round in 1..=rounds {
            // Only an event leads to a look at its file.
            while versions.iter().any(|&version| version < round) {
                poll_events(&mut poll, &mut events);
                for event in &events {
                    let token = event.token().0;
                    let changes = watches[token].changes(event).unwrap();
                    assert!(changes.intersects(FileChanges::WRITTEN | FileChanges::RESCAN), "{changes:?}");
                    let (mut file, mut bytes) = (&*watches[token], [0; 8]);
                    file.seek(SeekFrom::Start(0)).unwrap();
                    file.read_exact(&mut bytes).unwrap();
                    versions[token] = u64::from_ne_bytes(bytes);
                }
            }
            finished.store(round, Ordering::Release);
        }
    });
    poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
    assert!(events.is_empty(), "{events:?}");
}
