//! Checks an example that is a server: starts it on a free port, exchanges data with it, and ends it.
//!
//! `client tcp|udp|graceful PATH`: the protocol, and the program of the server. It needs no network but the loopback
//! interface, so that it runs in an emulated machine too.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

/// The limit of each wait, far above what a busy machine needs.
const DEADLINE: Duration = Duration::from_secs(20);

const CLIENTS: usize = 20;

/// A server that runs, and the lines that it prints.
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
        let line = server.line_with("listening on ");
        let address = line.split(' ').nth(2).and_then(|address| address.parse().ok());
        server.address = address.unwrap_or_else(|| panic!("no address in {line:?}"));
        server
    }

    /// Returns the next line that contains this text.
    fn line_with(&self, text: &str) -> String {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(line) if line.contains(text) => return line,
                Ok(_) => {}
                Err(error) => panic!("the server did not print {text:?}: {error}"),
            }
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream
    }

    /// Sends SIGTERM, for which std has no call.
    fn terminate(&self) {
        let kill = Command::new("/bin/sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status();
        assert!(kill.expect("there is a shell").success());
    }

    /// Waits for the end of the output, which is the end of the server.
    fn ends(&mut self) -> ExitStatus {
        loop {
            match self.lines.recv_timeout(DEADLINE) {
                Ok(_) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return self.child.wait().unwrap(),
                Err(error) => panic!("the server did not end: {error}"),
            }
        }
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

/// All clients send before the first receives, so that the server has them all at once.
fn tcp(server: &Server) {
    let mut clients: Vec<TcpStream> = (0..CLIENTS).map(|_| server.connect()).collect();
    clients.iter_mut().enumerate().for_each(|(n, client)| client.write_all(message(n).as_bytes()).unwrap());
    clients.iter_mut().enumerate().for_each(|(n, client)| receive(client, &message(n)));
    println!("{CLIENTS} clients were answered over TCP");
}

fn udp(server: &Server) {
    let client = || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(server.address).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket
    };
    let clients: Vec<UdpSocket> = (0..CLIENTS).map(|_| client()).collect();
    for (n, client) in clients.iter().enumerate() {
        client.send(message(n).as_bytes()).unwrap();
    }
    for (n, client) in clients.iter().enumerate() {
        let mut answer = [0; 100];
        let length = client.recv(&mut answer).expect("the server answers");
        assert_eq!(&answer[..length], message(n).as_bytes());
    }
    println!("{CLIENTS} clients were answered over UDP");
}

/// After SIGTERM the server serves the client that it has, accepts no other, and ends with it.
fn graceful(server: &mut Server) {
    let mut client = server.connect();
    client.write_all(b"before").unwrap();
    receive(&mut client, "before");
    server.terminate();
    server.line_with("no more clients, 1 to serve");
    assert!(TcpStream::connect(server.address).is_err(), "the server accepted one more client");
    client.write_all(b"after").unwrap();
    receive(&mut client, "after");
    drop(client);
    server.line_with("every client was served");
    assert!(server.ends().success());
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
