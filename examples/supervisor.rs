//! Starts children, restarts one that exits, and stops all of them at SIGTERM or SIGINT.
//!
//! ```sh
//! cargo run --example supervisor
//! ```
//!
//! After the last restart the program sends SIGTERM to itself, and ends.
//!
//! The program fails on Windows, because there is no signal for a child.

use std::io;

fn main() -> io::Result<()> {
    // The examples are built on every system; a program for Unix needs no cfg.
    #[cfg(not(unix))]
    return Err(io::Error::new(io::ErrorKind::Unsupported, "not on Windows, because there is no signal for a child"));
    #[cfg(unix)]
    unix::main()
}

#[cfg(unix)]
mod unix {
    use std::io::{self, BufRead, BufReader};
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, ExitStatus, Stdio};
    use std::time::Duration;

    use kevio::event::Event;
    use kevio::{Backend, Events, Interest, Poll, Process, Registry, Signals, Timer, Token, BACKEND};

    /// A name and a script. The last child ignores SIGTERM.
    const SERVICES: [(&str, &str); 3] = [
        ("worker", "echo started; exec sleep 1000"),
        ("flaky", "echo started; exit 3"),
        ("stubborn", "trap '' TERM; echo started; exec sleep 1000"),
    ];
    const RESTARTS: usize = 2;
    const RESTART_DELAY: Duration = Duration::from_millis(50);
    /// The time in which a child has to exit after SIGTERM.
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
            let (name, script) = SERVICES[self.index];
            let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn()?;
            // From this line on, the child handles SIGTERM as its script says.
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
                println!("{}: {status}", SERVICES[self.index].0);
                self.exits.push(status);
            }
            Ok(())
        }

        fn send(&self, signal: libc::c_int) {
            if let Some((_, process)) = &self.running {
                // SAFETY: no pointers. The child was not reaped, so that no other process has its number.
                unsafe { libc::kill(process.pid(), signal) };
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

    pub fn main() -> io::Result<()> {
        let mut poll = Poll::new()?;
        let mut events = Events::with_capacity(64);
        let registry = poll.registry().try_clone()?;
        let mut signals = Signals::new([libc::SIGTERM, libc::SIGINT])?;
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
            for event in &events {
                match event.token() {
                    SIGNALS => {
                        for (signal, _) in signals.received(event)? {
                            println!("signal {signal}: every child gets SIGTERM");
                            services.iter().for_each(|service| service.send(libc::SIGTERM));
                            // Another signal does not give the children more time.
                            if !std::mem::replace(&mut is_stopping, true) {
                                patience.set_after(PATIENCE)?;
                            }
                        }
                    }
                    PATIENCE_IS_OVER => {
                        if patience.expirations(event)? > 0 {
                            services.iter().for_each(|service| service.send(libc::SIGKILL));
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
                                println!("{}: given up", SERVICES[index].0);
                                // In place of a user. SAFETY: no pointers.
                                unsafe { libc::kill(libc::getpid(), libc::SIGTERM) };
                            }
                        }
                    }
                }
            }
        }

        let ends: Vec<_> = services.iter().map(|service| service.exits.last().and_then(ExitStatus::signal)).collect();
        // libkqueue, which serves for tests on Linux, blocks the signals, and the children inherit that.
        let is_libkqueue = BACKEND == Backend::Kqueue && cfg!(target_os = "linux");
        let first = if is_libkqueue { libc::SIGKILL } else { libc::SIGTERM };
        assert_eq!(ends, [Some(first), None, Some(libc::SIGKILL)]);
        assert_eq!(services[1].exits.iter().map(ExitStatus::code).collect::<Vec<_>>(), [Some(3); RESTARTS + 1]);
        println!("ok");
        Ok(())
    }
}
