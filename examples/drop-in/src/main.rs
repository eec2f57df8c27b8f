//! A program on tokio, which runs on kevio because the manifest replaces mio: TCP, UDP, a timer, a signal and two children.
//!
//! kevio writes a log record for each registration. The program counts these records, to show that the sources of tokio are
//! registered with kevio. The last line is `ok`.

use std::future::Future;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::Command;
use tokio::signal::unix::{signal, SignalKind};
use tokio::time::{sleep, timeout};

/// Counts the registrations that kevio logs.
struct Registrations(AtomicUsize);

static REGISTRATIONS: Registrations = Registrations(AtomicUsize::new(0));

impl log::Log for Registrations {
    fn enabled(&self, metadata: &log::Metadata) -> bool {
        metadata.target().starts_with("kevio")
    }

    fn log(&self, record: &log::Record) {
        if self.enabled(record.metadata()) && record.args().to_string().starts_with("register:") {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

fn main() -> io::Result<()> {
    log::set_logger(&REGISTRATIONS).expect("no other logger");
    log::set_max_level(log::LevelFilter::Trace);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        step("TCP", tcp_echo()).await?;
        step("UDP", udp_echo()).await?;
        step("timer", timer()).await?;
        step("signal", signal_of_a_child()).await?;
        step("child", output_of_a_child()).await
    })?;
    // `BACKEND` is a constant of kevio that mio does not have.
    println!("backend: {}", mio::BACKEND);
    println!("ok");
    Ok(())
}

/// Runs a step with a deadline, and prints the number of registrations that it made.
async fn step(name: &str, step: impl Future<Output = io::Result<usize>>) -> io::Result<()> {
    let before = REGISTRATIONS.0.load(Ordering::Relaxed);
    let expected = timeout(Duration::from_secs(10), step).await??;
    let registrations = REGISTRATIONS.0.load(Ordering::Relaxed) - before;
    println!("{name}: {registrations} registrations");
    assert!(registrations >= expected, "{name}: {expected} sources, but fewer registrations with kevio");
    Ok(())
}

/// Sends a megabyte through an echo server. Returns the number of sources: a listener, and the two ends of a connection.
async fn tcp_echo() -> io::Result<usize> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await?;
        let (mut reader, mut writer) = stream.split();
        tokio::io::copy(&mut reader, &mut writer).await
    });

    let sent: Vec<u8> = (0..1 << 20).map(|n| (n % 251) as u8).collect();
    let mut received = Vec::new();
    let (mut reader, mut writer) = TcpStream::connect(address).await?.into_split();
    let copy = sent.clone();
    let client = tokio::spawn(async move {
        writer.write_all(&copy).await?;
        writer.shutdown().await
    });
    reader.read_to_end(&mut received).await?;
    client.await??;
    assert_eq!(server.await??, sent.len() as u64);
    assert!(received == sent);
    Ok(3)
}

/// Sends a datagram, and its echo. Returns the number of sockets.
async fn udp_echo() -> io::Result<usize> {
    let server = UdpSocket::bind("127.0.0.1:0").await?;
    let client = UdpSocket::bind("127.0.0.1:0").await?;
    let mut buffer = [0; 16];
    client.send_to(b"hello", server.local_addr()?).await?;
    let (n, from) = server.recv_from(&mut buffer).await?;
    server.send_to(&buffer[..n], from).await?;
    let (n, _) = client.recv_from(&mut buffer).await?;
    assert_eq!(&buffer[..n], b"hello");
    Ok(2)
}

/// Waits for a timer of tokio, which is a timeout of `Poll::poll` and no source.
async fn timer() -> io::Result<usize> {
    let start = Instant::now();
    sleep(Duration::from_millis(20)).await;
    assert!(start.elapsed() >= Duration::from_millis(20));
    Ok(0)
}

/// Receives a signal that kill(1) sends. Returns 0, because the pipe of tokio's signal handlers is registered with the runtime.
/// On Linux tokio also registers a pidfd, which reports the end of kill(1).
async fn signal_of_a_child() -> io::Result<usize> {
    let mut signals = signal(SignalKind::user_defined1())?;
    // The shell has kill(1) built in, and small systems lack the program.
    let status = Command::new("sh").args(["-c", &format!("kill -USR1 {}", std::process::id())]).status().await?;
    assert!(status.success());
    assert!(signals.recv().await.is_some());
    Ok(0)
}

/// Reads what a child writes. Returns the number of its pipes.
async fn output_of_a_child() -> io::Result<usize> {
    let output = Command::new("echo").arg("hello").output().await?;
    assert!(output.status.success());
    assert_eq!(output.stdout, b"hello\n");
    Ok(2)
}
