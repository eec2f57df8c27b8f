//! Checks an example that is a server: starts it on a free port, exchanges data with it, and ends it.
//!
//! `client chat|graceful|tcp|udp PATH`: the protocol, and the program of the server. The client needs only the loopback
//! interface, so that it also runs in an emulated machine.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
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
    fn start(program: &str, options: &[&str]) -> Server {
        let mut command = Command::new(program);
        command.arg("127.0.0.1:0").args(options).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
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

    /// Sends a signal with kill(1), because std has no function for it.
    #[cfg(not(windows))]
    fn signal(&self, name: &str) {
        let kill = Command::new("/bin/sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status();
        assert!(kill.expect("there is a shell").success());
    }

    /// Sends Ctrl-C, whatever the name of the signal, to all processes of the console: the server and this program.
    #[cfg(windows)]
    fn signal(&self, _name: &str) {
        console::send_ctrl_c();
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

/// A client sends bytes and the end of file, before it reads. All bytes have to come back.
///
/// A server loses bytes only if some are unsent when the end of file arrives, and that needs a certain number. So the number
/// grows from client to client, until all buffers between the client and the server are full. The step is a part of the 64 KiB
/// that a server may hold. A slow machine can make the check find less, and cannot make the check fail.
fn half_close(server: &Server) {
    const STEP: usize = 24 * 1024;
    // By default, the buffers of Linux are full after about 4 MiB, and those of other systems earlier.
    const LIMIT: usize = 5 * 1024 * 1024;
    let bytes: Vec<u8> = (0..LIMIT as u32 / 4).flat_map(u32::to_be_bytes).collect();
    let mut are_buffers_full = false;
    let mut length = 0;
    while !are_buffers_full && length < LIMIT {
        let mut client = server.connect();
        // Not a timeout of the writes: on Windows, a write that times out may have sent bytes without counting them.
        client.set_nonblocking(true).unwrap();
        let (mut sent, mut last_progress) = (0, Instant::now());
        while !are_buffers_full && sent < length {
            match client.write(&bytes[sent..length]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    are_buffers_full = last_progress.elapsed() > Duration::from_millis(200);
                    thread::sleep(Duration::from_millis(1));
                }
                result => {
                    sent += result.expect("the server reads");
                    last_progress = Instant::now();
                }
            }
        }
        client.set_nonblocking(false).unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        // Meanwhile the server reads the end of file.
        thread::sleep(Duration::from_millis(10));
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).expect("the server answers");
        assert_eq!(answer.len(), sent, "the server lost bytes at the end of file");
        assert!(answer == bytes[..sent], "the server sent other bytes");
        length += STEP;
    }
    println!("clients that sent up to {length} bytes received all of them after their end of file");
}

/// Two clients always have unread data at the server. Meanwhile a third client receives its answers.
///
/// The limit is a number of bytes and not a time. One thread is all three clients, so that no more bytes arrive while the thread
/// does not run. Between a message and its answer, a fair server receives little more than the buffers of the kernel hold.
fn flood(server: &Server) {
    const MESSAGES: usize = 50;
    const LIMIT: usize = 256 * 1024 * 1024;
    let start = Instant::now();
    let mut buffer = vec![0; 256 * 1024];
    let mut floods = [server.connect(), server.connect()];
    let mut quiet = server.connect();
    floods.iter().chain([&quiet]).for_each(|client| client.set_nonblocking(true).unwrap());
    let count = |result: std::io::Result<usize>| match result {
        Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
        result => result.expect("the server is there"),
    };
    let mut messages = 0;
    let mut is_answered = false;
    let mut sent = 0;
    while messages <= MESSAGES {
        let before = sent;
        for client in &mut floods {
            sent += count(client.write(&buffer));
            count(client.read(&mut buffer));
        }
        is_answered |= count(quiet.read(&mut [0])) > 0;
        let are_buffers_full = sent == before;
        // The first message follows when the server has much other data.
        if is_answered || (messages == 0 && (are_buffers_full || sent > LIMIT / 4)) {
            quiet.write_all(b"x").unwrap();
            (messages, is_answered, sent) = (messages + 1, false, 0);
        }
        assert!(sent < LIMIT, "the server serves only the clients that send most");
        assert!(start.elapsed() < DEADLINE, "the server does not answer");
        if are_buffers_full {
            thread::yield_now();
        }
    }
    println!("{MESSAGES} messages were answered while other clients sent without a pause");
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
    server.signal("TERM");
    server.wait_until_closed();
    client.write_all(b"after").unwrap();
    receive(&mut client, "after");
    drop(client);
    server.wait_for_ok();
    println!("the last client was served, and the server ended");
}

/// A client of the chat, and its greeting.
fn join(server: &Server) -> BufReader<TcpStream> {
    let mut client = BufReader::new(server.connect());
    let greeting = receive_line(&mut client);
    assert!(greeting.starts_with("* you are "), "{greeting:?}");
    client
}

/// Receives a line, or an empty string at the end of file.
fn receive_line(client: &mut BufReader<TcpStream>) -> String {
    let mut line = String::new();
    client.read_line(&mut line).expect("the server answers");
    line
}

/// Each client receives each line of the others exactly once, and the lines of one sender in their order. SIGINT ends the server.
fn chat(server: &mut Server) {
    const CLIENTS: usize = 50;
    const LINES: usize = 20;
    // A greeted client receives all lines from then on.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| join(server)).collect();
    for number in 0..LINES {
        for (sender, client) in clients.iter().enumerate() {
            // The line comes in two parts.
            let (mut stream, line) = (client.get_ref(), format!("{sender} {number}\n"));
            let (first, second) = line.as_bytes().split_at(1);
            stream.write_all(first).and_then(|()| stream.write_all(second)).unwrap();
        }
    }
    for (receiver, client) in clients.iter_mut().enumerate() {
        let mut next = [0; CLIENTS];
        next[receiver] = LINES; // No client receives its own lines.
        while next.iter().any(|number| *number < LINES) {
            let line = receive_line(client);
            let numbers: Vec<usize> = line.split([':', ' ', '\n']).flat_map(str::parse).collect();
            let [_, sender, number] = numbers[..] else { panic!("{line:?}") };
            assert_eq!(number, next[sender], "client {receiver}, sender {sender}");
            next[sender] += 1;
        }
    }
    server.signal("INT");
    for client in &mut clients {
        assert_eq!(receive_line(client), "* the server closes\n");
        assert_eq!(receive_line(client), "");
    }
    drop(clients);
    server.wait_for_ok();
    println!("{CLIENTS} clients received {LINES} lines from each other");
}

/// The server disconnects clients that break a rule, and no other client. The idle timeout of this server is two seconds.
fn chat_limits(server: &Server) {
    const IDLE_TIMEOUT: Duration = Duration::from_secs(2);
    let mut active = join(server);
    let keep_alive = |active: &BufReader<TcpStream>| active.get_ref().write_all(b"\n").expect("the server is there");

    let mut long = join(server);
    long.get_ref().write_all(&[b'x'; 1025]).unwrap();
    assert_eq!(receive_line(&mut long), "");
    keep_alive(&active);

    let start = Instant::now();
    let mut idle = join(server);
    idle.get_ref().set_read_timeout(Some(IDLE_TIMEOUT / 20)).unwrap();
    let disconnected = loop {
        keep_alive(&active);
        match idle.read(&mut [0; 1]) {
            Err(error) if [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()) => {}
            result => break result,
        }
        assert!(start.elapsed() < DEADLINE, "the idle client is still connected");
    };
    assert_eq!(disconnected.unwrap(), 0);
    assert!(start.elapsed() >= IDLE_TIMEOUT, "the server has disconnected an idle client too early");

    // A client that reads nothing, until the buffers of the kernel and of the server are full.
    let slow = join(server);
    let block = format!("{}\n", "x".repeat(1000)).repeat(64);
    while !server.lines.try_iter().any(|line| line.ends_with("the client reads too slowly")) {
        active.get_ref().write_all(block.as_bytes()).unwrap();
        assert!(start.elapsed() < 2 * DEADLINE, "the slow client is still connected");
    }
    drop(slow);

    let other = join(server);
    other.get_ref().write_all(b"is it you?\n").unwrap();
    let line = receive_line(&mut active);
    assert!(line.ends_with(": is it you?\n"), "{line:?}");
    println!("the server has disconnected the clients with a long line, without any line, and with a full buffer");
}

/// A console for this program and its server only, because no process outside it may receive the Ctrl-C.
#[cfg(windows)]
mod console {
    use std::os::windows::io::{AsRawHandle, RawHandle};

    const STD_OUTPUT_HANDLE: u32 = -11_i32 as u32;
    const STD_ERROR_HANDLE: u32 = -12_i32 as u32;
    const CTRL_C_EVENT: u32 = 0;

    extern "system" {
        fn AllocConsole() -> i32;
        fn FreeConsole() -> i32;
        fn GenerateConsoleCtrlEvent(event: u32, group: u32) -> i32;
        fn SetConsoleCtrlHandler(handler: extern "system" fn(u32) -> i32, add: i32) -> i32;
        fn SetStdHandle(number: u32, handle: RawHandle) -> i32;
    }

    /// Reports each event as handled, so that this program continues.
    extern "system" fn ignore(_event: u32) -> i32 {
        1
    }

    /// Replaces the console. The output of this program stays where it was.
    pub fn replace() {
        let handles = [
            (STD_OUTPUT_HANDLE, std::io::stdout().as_raw_handle()),
            (STD_ERROR_HANDLE, std::io::stderr().as_raw_handle()),
        ];
        // SAFETY: The functions have no preconditions, and the handles stay open. A program without a console has none to free.
        unsafe {
            FreeConsole();
            assert_ne!(AllocConsole(), 0, "{}", std::io::Error::last_os_error());
            assert_ne!(SetConsoleCtrlHandler(ignore, 1), 0, "{}", std::io::Error::last_os_error());
            for (number, handle) in handles {
                SetStdHandle(number, handle);
            }
        }
    }

    pub fn send_ctrl_c() {
        // SAFETY: The function has no preconditions. Group 0 is all processes of the console.
        let is_sent = unsafe { GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0) };
        assert_ne!(is_sent, 0, "{}", std::io::Error::last_os_error());
    }
}

fn main() {
    #[cfg(windows)]
    console::replace();
    let arguments: Vec<String> = std::env::args().collect();
    let [_, protocol, program] = &arguments[..] else { panic!("client chat|graceful|tcp|udp PATH") };
    let mut server = Server::start(program, &[]);
    match protocol.as_str() {
        "chat" => {
            chat(&mut server);
            chat_limits(&Server::start(program, &["2"]));
        }
        "tcp" => {
            tcp(&server);
            half_close(&server);
            flood(&server);
        }
        "udp" => udp(&server),
        "graceful" => {
            half_close(&server);
            flood(&server);
            graceful(&mut server);
        }
        _ => panic!("no protocol {protocol}"),
    }
}
