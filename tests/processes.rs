//! What fork(2) and exec(3) do to a poll. In a process of its own, with one thread that matters.

use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

use kevio::net::{TcpListener, UnixStream};
use kevio::unix::pipe;
use kevio::{Events, Interest, Poll, Token, Waker};

/// Runs `child` in a forked child, and waits for its end.
fn in_a_child(child: impl FnOnce()) {
    // SAFETY: the child only drops what it has, and leaves without running anything else of this process.
    unsafe {
        let pid = libc::fork();
        assert!(pid >= 0);
        if pid == 0 {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child));
            libc::_exit(i32::from(result.is_err()));
        }
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        assert_eq!(status, 0, "the child failed");
    }
}

fn expect(poll: &mut Poll, events: &mut Events, token: Token) {
    poll.poll(events, Some(Duration::from_secs(10))).unwrap();
    assert!(events.iter().any(|event| event.token() == token), "wanted {token:?}, had {events:?}");
}

#[test]
fn a_child_leaves_its_parents_poll_alone() {
    let poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(8);
    let waker = Waker::new(poll.registry(), Token(1)).unwrap();
    let (mut a, mut b) = UnixStream::pair().unwrap();
    poll.registry().register(&mut a, Token(2), Interest::READABLE).unwrap();

    // Each is dropped by a child; the copies in the parent go on.
    let (mut poll_, mut waker_, mut a_) = (Some(poll), Some(waker), Some(a));
    in_a_child(|| drop(waker_.take()));
    in_a_child(|| drop(a_.take()));
    in_a_child(|| drop(poll_.take()));
    in_a_child(|| {
        // The number of the queue may be another's in the child.
        let file = std::fs::File::open("/dev/null").unwrap();
        drop((poll_.take(), waker_.take(), a_.take()));
        assert!(file.metadata().is_ok(), "a stranger's descriptor was closed");
    });
    let (mut poll, waker, mut a) = (poll_.unwrap(), waker_.unwrap(), a_.unwrap());

    for _ in 0..3 {
        waker.wake().unwrap();
        expect(&mut poll, &mut events, Token(1));
        b.write_all(b"x").unwrap();
        expect(&mut poll, &mut events, Token(2));
        assert_eq!(a.read(&mut [0; 4]).unwrap(), 1);
        let _ = a.read(&mut [0; 4]);
    }
    poll.registry().reregister(&mut a, Token(3), Interest::WRITABLE).unwrap();
    expect(&mut poll, &mut events, Token(3));

    nothing_is_left_open_in_a_program_that_is_run();
}

fn nothing_is_left_open_in_a_program_that_is_run() {
    let list = || {
        let output = Command::new("ls").arg("/dev/fd").output().unwrap();
        String::from_utf8(output.stdout).unwrap().lines().count()
    };
    let before = list();
    let poll = Poll::new().unwrap();
    let _waker = Waker::new(poll.registry(), Token(1)).unwrap();
    let _listener = TcpListener::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let _pair = UnixStream::pair().unwrap();
    let _pipe = pipe::new().unwrap();
    assert_eq!(list(), before);
}
