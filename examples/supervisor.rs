//! Starts children, restarts one that exits, and stops all of them at Ctrl-C or SIGTERM.
//!
//! ```sh
//! cargo run --example supervisor
//! ```
//!
//! A child is this program with an argument. On Unix SIGTERM stops a child. Windows has no signal for a child: there the end of
//! its standard input stops a child. After the last restart the program ends: on Unix it sends SIGTERM to itself, and on Windows
//! it goes on as after Ctrl-C.

use std::io::{self, BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;
use std::{env, process, thread};

use kevio::event::Event;
#[cfg(windows)]
use kevio::windows::{SIGINT, SIGTERM};
use kevio::{Events, Interest, Poll, Process, Registry, Signals, Timer, Token};
#[cfg(unix)]
use libc::{SIGINT, SIGTERM};

/// The last service does not stop when it has to.
const SERVICES: [&str; 3] = ["worker", "flaky", "stubborn"];
const RESTARTS: usize = 2;
const RESTART_DELAY: Duration = Duration::from_millis(50);
/// The time in which a child has to exit after it was stopped.
const PATIENCE: Duration = Duration::from_millis(300);

const SIGNALS: Token = Token(1000);
const PATIENCE_IS_OVER: Token = Token(1001);
/// The restart timer of service `n` has the token `RESTART + n`, and its process the token `n`.
const RESTART: usize = 100;

/// A service that is started again when it has exited.
struct Service {
    index: usize,
    running: Option<(Child, Process)>,
    restart: Timer,
    /// The statuses of the children that have exited.
    exits: Vec<ExitStatus>,
}

impl Service {
    fn new(registry: &Registry, index: usize) -> io::Result<Service> {
        let mut restart = Timer::new()?;
        registry.register(&mut restart, Token(RESTART + index), Interest::READABLE)?;
        let mut service = Service { index, running: None, restart, exits: Vec::new() };
        service.start(registry)?;
        Ok(service)
    }

    fn start(&mut self, registry: &Registry) -> io::Result<()> {
        let name = SERVICES[self.index];
        let mut command = Command::new(env::current_exe()?);
        command.arg(name).stdin(Stdio::piped()).stdout(Stdio::piped());
        set_group(&mut command);
        let mut child = command.spawn()?;
        // From this line on, the child can be stopped.
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut String::new())?;
        let mut process = Process::new(&child)?;
        registry.register(&mut process, Token(self.index), Interest::READABLE)?;
        println!("{name}: started");
        self.running = Some((child, process));
        Ok(())
    }

    fn has_exited(&self, event: &Event) -> io::Result<bool> {
        self.running.as_ref().map_or(Ok(false), |(_, process)| process.has_exited(event))
    }

    /// Reaps the child after its event.
    fn reap(&mut self) -> io::Result<()> {
        if let Some((mut child, _)) = self.running.take() {
            let status = child.try_wait()?.expect("the exit was reported");
            println!("{}: {status}", SERVICES[self.index]);
            self.exits.push(status);
        }
        Ok(())
    }

    fn stop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            stop(child);
        }
    }

    fn kill(&mut self) {
        if let Some((child, _)) = &mut self.running {
            if let Err(error) = child.kill() {
                eprintln!("{}: {error}", SERVICES[self.index]);
            }
        }
    }
}

/// If the supervisor fails, no child stays behind.
impl Drop for Service {
    fn drop(&mut self) {
        if let Some((child, _)) = &mut self.running {
            let _ = child.kill().and_then(|()| child.wait());
        }
    }
}

/// Gives the child a group of its own. Otherwise Ctrl-C would end the child too, and the supervisor could not stop it in order.
#[cfg(unix)]
fn set_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(windows)]
fn set_group(command: &mut Command) {
    const CREATE_NEW_PROCESS_GROUP: u32 = 0x200;
    std::os::windows::process::CommandExt::creation_flags(command, CREATE_NEW_PROCESS_GROUP);
}

/// Requests the end of a child that was not reaped yet.
#[cfg(unix)]
fn stop(child: &mut Child) {
    // SAFETY: no pointers. The child was not reaped, so that no other process has its number.
    unsafe { libc::kill(child.id() as libc::pid_t, SIGTERM) };
}

#[cfg(windows)]
fn stop(child: &mut Child) {
    drop(child.stdin.take());
}

/// The program of a child.
fn run_child(name: &str) -> io::Result<()> {
    #[cfg(unix)]
    if name == "stubborn" {
        // SAFETY: no pointers. The process has no handler of the signal.
        unsafe { libc::signal(SIGTERM, libc::SIG_IGN) };
    }
    println!("started");
    match name {
        "worker" => io::stdin().read_to_end(&mut Vec::new()).map(drop),
        "flaky" => process::exit(3),
        _ => loop {
            thread::park();
        },
    }
}

fn main() -> io::Result<()> {
    if let Some(name) = env::args().nth(1) {
        return run_child(&name);
    }
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(64);
    let registry = poll.registry().try_clone()?;
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    registry.register(&mut signals, SIGNALS, Interest::READABLE)?;
    let mut patience = Timer::new()?;
    registry.register(&mut patience, PATIENCE_IS_OVER, Interest::READABLE)?;
    let mut services = Vec::new();
    for index in 0..SERVICES.len() {
        services.push(Service::new(&registry, index)?);
    }

    let mut is_stopping = false;
    while !is_stopping || services.iter().any(|service| service.running.is_some()) {
        poll.poll_until(&mut events, None)?;
        let mut must_stop = false;
        for event in &events {
            match event.token() {
                SIGNALS => {
                    for (signal, _) in signals.received(event)? {
                        println!("signal {signal}: every child is stopped");
                        must_stop = true;
                    }
                }
                PATIENCE_IS_OVER => {
                    if patience.expirations(event)? > 0 {
                        services.iter_mut().for_each(Service::kill);
                    }
                }
                Token(index) if index >= RESTART => {
                    let service = &mut services[index - RESTART];
                    if service.restart.expirations(event)? > 0 && !is_stopping {
                        service.start(&registry)?;
                    }
                }
                Token(index) => {
                    let service = &mut services[index];
                    if !service.has_exited(event)? {
                        continue;
                    }
                    service.reap()?;
                    match service.exits.len() {
                        _ if is_stopping => {}
                        exits if exits <= RESTARTS => service.restart.set_after(RESTART_DELAY)?,
                        _ => {
                            println!("{}: given up", SERVICES[index]);
                            // In place of a user. On Windows Ctrl-C would reach every program of the console.
                            #[cfg(unix)]
                            // SAFETY: no pointers.
                            unsafe {
                                libc::kill(process::id() as libc::pid_t, SIGTERM);
                            }
                            #[cfg(windows)]
                            {
                                must_stop = true;
                            }
                        }
                    }
                }
            }
        }
        // Another signal does not give the children more time.
        if must_stop && !std::mem::replace(&mut is_stopping, true) {
            services.iter_mut().for_each(Service::stop);
            patience.set_after(PATIENCE)?;
        }
    }

    let flaky = services[1].exits.iter().map(ExitStatus::code);
    if flaky.clone().count() > RESTARTS {
        assert_eq!(flaky.collect::<Vec<_>>(), [Some(3); RESTARTS + 1]);
        check_ends(&services.iter().filter_map(|service| service.exits.last().copied()).collect::<Vec<_>>());
    }
    println!("ok");
    Ok(())
}

/// Checks that the worker has stopped, and that the stubborn child was killed.
#[cfg(unix)]
fn check_ends(ends: &[ExitStatus]) {
    use std::os::unix::process::ExitStatusExt;

    // libkqueue, which serves for tests on Linux, blocks the signals, and the children inherit that.
    let is_libkqueue = kevio::BACKEND == kevio::Backend::Kqueue && cfg!(target_os = "linux");
    let first = if is_libkqueue { libc::SIGKILL } else { SIGTERM };
    assert_eq!([ends[0].signal(), ends[2].signal()], [Some(first), Some(libc::SIGKILL)]);
}

#[cfg(windows)]
fn check_ends(ends: &[ExitStatus]) {
    // `Child::kill` makes 1 the exit code.
    assert_eq!([ends[0].code(), ends[2].code()], [Some(0), Some(1)]);
}
