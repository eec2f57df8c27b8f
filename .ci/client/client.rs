//! Checks an example that is a server: starts it on a free port, exchanges data with it, and ends it.
//!
//! `client tcp|udp|graceful PATH`: the protocol, and the program of the server. The client needs only the loopback interface,
//! so that it also runs in an emulated machine.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

/// The limit of each wait, far above what a busy machine needs.
const DEADLINE: Duration = Duration::from_secs(20);

const CLIENTS: usize = 20;

/// A running server, and the lines of its output.
struct Server {
    child: Child,
    lines: Receiver<String>,
    address: SocketAddr,
}

impl Server {
    fn start(program: &str) -> Server {
        let mut child =
            Command::new(program).arg("127.0.0.1:0").stdout(Stdio::piped()).spawn().expect("the server starts");
        let output = BufReader::new(child.stdout.take().expect("the output is a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let mut server = Server { child, lines, address: ([0; 4], 0).into() };
        // The first line of each server is `listening on ADDRESS:PORT …`.
        let line = server.lines.recv_timeout(DEADLINE).expect("the server prints its address");
        let address = line.split(' ').nth(2).and_then(|address| address.parse().ok());
        server.address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        server
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Connects again and again, until the server has closed its listener. A connection before that is closed at once.
    fn wait_until_closed(&self) {
        let deadline = Instant::now() + DEADLINE;
        while TcpStream::connect(self.address).is_ok() {
            assert!(Instant::now() < deadline, "the server still accepts clients");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends SIGTERM with kill(1), because std has no function for it.
    fn terminate(&self) {
        let kill = Command::new("/bin/sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        assert!(kill.expect("there is a shell").success());
    }

    /// Waits until the server has ended, and checks its exit status and its last line.
    fn wait_for_ok(&mut self) {
        let mut last = String::new();
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) => last = line,
                Err(mpsc::RecvTimeoutError::Disconnected) => break,
                Err(error) => panic!("the server did not end: {error}"),
            }
        }
        assert!(self.child.wait().unwrap().success());
        assert_eq!(last, "ok");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn message(client: usize) -> String {
    format!("client {client}")
}

fn receive(stream: &mut TcpStream, message: &str) {
    let mut answer = vec![0; message.len()];
    stream.read_exact(&mut answer).expect("the server answers");
    assert_eq!(answer, message.as_bytes());
}

/// All clients send before the first receives, so that the server has events of several clients at once.
fn tcp(server: &Server) {
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    clients.iter_mut().enumerate().for_each(|(index, client)| client.write_all(message(index).as_bytes()).unwrap());
    clients.iter_mut().enumerate().for_each(|(index, client)| receive(client, &message(index)));
    println!("{CLIENTS} clients received their answers over TCP");
}

fn udp(server: &Server) {
    let client = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    };
    let clients: Vec<UdpSocket> = (0..CLIENTS).map(|_| client()).collect();
    for (index, client) in clients.iter().enumerate() {
        client.send(message(index).as_bytes()).unwrap();
    }
    for (index, client) in clients.iter().enumerate() {
        let mut answer = [0; 100];
        let length = client.recv(&mut answer).expect("the server answers");
        assert_eq!(&answer[..length], message(index).as_bytes());
    }
    println!("{CLIENTS} clients received their answers over UDP");
}

/// After SIGTERM the server closes its listener, and still serves the client that it has. The server ends when this client
/// leaves.
fn graceful(server: &mut Server) {
    let mut client = server.connect();
    client.write_all(b"before").unwrap();
    receive(&mut client, "before");
    server.terminate();
    server.wait_until_closed();
    client.write_all(b"after").unwrap();
    receive(&mut client, "after");
    drop(client);
    server.wait_for_ok();
    println!("the last client was served, and the server ended");
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, protocol, program] = &arguments[..] else { panic!("client tcp|udp|graceful PATH") };
    let mut server = Server::start(program);
    match protocol.as_str() {
        "tcp" => tcp(&server),
        "udp" => udp(&server),
        "graceful" => graceful(&mut server),
        _ => panic!("no protocol {protocol}"),
    }
}
