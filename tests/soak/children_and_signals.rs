//! Every exit and every signal is counted, of thousands. Windows has no fork, and no signal that a program sends to itself.

use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kevio::{Events, Interest, Poll, Process, Signals, Token};

use crate::steps::{poll_events, times, wait_for};
use crate::support::known_failures::is_libkqueue;
use crate::support::process::run_alone;

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
