//! Child processes and their pipes. In a binary of its own, because between fork(2) and exec(3) a child keeps open the
//! descriptors that tests of the suite close, and epoll(7) continues to report them.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use kevio::unix::pipe;

mod support;

use crate::support::net::drain;
use crate::support::poll::{TestPoll, READ, WRITE};
use crate::support::readiness::{R, W};

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
