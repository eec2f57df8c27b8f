//! Child processes and their pipes. In a process of its own: between fork(2) and exec(3) a child keeps open what the
//! tests of the suite close, and epoll(7) goes on to report that.

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use kevio::unix::pipe;

use self::harness::*;

#[path = "suite/harness.rs"]
#[allow(dead_code, unused_imports)]
mod harness;
#[path = "suite/said.rs"]
#[allow(dead_code)]
mod said;

#[test]
fn a_child_process_and_its_pipes() {
    let mut child =
        Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = pipe::Sender::from(child.stdin.take().unwrap());
    let mut stdout = pipe::Receiver::from(child.stdout.take().unwrap());
    let mut stderr = pipe::Receiver::from(child.stderr.take().unwrap());
    stdin.set_nonblocking(true).unwrap();
    stdout.set_nonblocking(true).unwrap();
    stderr.set_nonblocking(true).unwrap();

    let mut l = Loop::new();
    l.register(&mut stdin, 0, WRITE);
    l.register(&mut stdout, 1, READ);
    l.register(&mut stderr, 2, READ);
    l.expect(0, W);
    stdin.write_all(b"meow").unwrap();
    l.until(|said| said.contains_key(&1), || "the echo".to_owned());
    let mut buffer = [0; 16];
    let n = stdout.try_io(|| (&stdout).read(&mut buffer)).unwrap();
    assert_eq!(&buffer[..n], b"meow");
    drop(stdin);
    l.until(|said| [1, 2].iter().all(|end| said.get(end).is_some_and(|said| said.has(R))), || "the end".to_owned());
    assert_eq!((drain(&mut stdout), drain(&mut stderr)), ((0, true), (0, true)));
    assert!(child.wait().unwrap().success());
}
