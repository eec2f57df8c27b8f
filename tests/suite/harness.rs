//! Waits with a deadline that end as soon as everything expected has come; absence shown by a fence.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use kevio::event::{Event, Source};
use kevio::net::{TcpListener, TcpStream};
use kevio::{Events, Interest, Poll, Token, Waker};

pub use super::said::{Said, E, NOTHING, P, R, RC, W, WC};

/// Far more than any wait here needs; a test that gets there has failed.
pub const DEADLINE: Duration = Duration::from_secs(10);

pub const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);
pub const READ: Interest = Interest::READABLE;
pub const WRITE: Interest = Interest::WRITABLE;

const FENCE: Token = Token(usize::MAX / 3);

/// What one event says.
pub fn said(event: &Event) -> Said {
    Said::of([
        event.is_readable(),
        event.is_writable(),
        event.is_read_closed(),
        event.is_write_closed(),
        event.is_error(),
        event.is_priority(),
    ])
}

/// A poll with its buffer, and a waker for fences.
pub struct Loop {
    pub poll: Poll,
    pub events: Events,
    fence: Waker,
}

impl Loop {
    pub fn new() -> Loop {
        Loop::with_capacity(256)
    }

    pub fn with_capacity(capacity: usize) -> Loop {
        let poll = Poll::new().unwrap();
        let fence = Waker::new(poll.registry(), FENCE).unwrap();
        Loop { poll, events: Events::with_capacity(capacity), fence }
    }

    #[track_caller]
    pub fn register(&self, source: &mut impl Source, token: usize, interest: Interest) {
        self.poll.registry().register(source, Token(token), interest).unwrap();
    }

    #[track_caller]
    pub fn reregister(&self, source: &mut impl Source, token: usize, interest: Interest) {
        self.poll.registry().reregister(source, Token(token), interest).unwrap();
    }

    #[track_caller]
    pub fn deregister(&self, source: &mut impl Source) {
        self.poll.registry().deregister(source).unwrap();
    }

    /// One poll; what came, by token.
    pub fn turn(&mut self, timeout: Option<Duration>) -> BTreeMap<usize, Said> {
        let mut all = BTreeMap::new();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return all,
            result => result.unwrap(),
        }
        for event in &self.events {
            *all.entry(event.token().0).or_insert(NOTHING) |= said(event);
        }
        all
    }

    /// Polls until `token` has said all of `want`, and returns all it said. Other tokens fail.
    #[track_caller]
    pub fn expect(&mut self, token: usize, want: Said) -> Said {
        self.expect_all(&[(token, want)])[&token]
    }

    /// Polls until each token has said all that is wanted of it. Other tokens fail.
    #[track_caller]
    pub fn expect_all(&mut self, wanted: &[(usize, Said)]) -> BTreeMap<usize, Said> {
        self.until(
            |said| wanted.iter().all(|(token, want)| said.get(token).is_some_and(|said| said.has(*want))),
            || format!("{wanted:?}"),
        )
        .into_iter()
        .inspect(|(token, said)| {
            assert!(wanted.iter().any(|(wanted, _)| wanted == token), "unexpected {token}: {said:?}");
        })
        .collect()
    }

    /// Polls until `token` has said any of `want`.
    #[track_caller]
    pub fn expect_any(&mut self, token: usize, want: Said) -> Said {
        self.until(|said| said.get(&token).is_some_and(|said| said.has_any(want)), || format!("any of {want:?}"))
            [&token]
    }

    #[track_caller]
    pub fn until(
        &mut self,
        done: impl Fn(&BTreeMap<usize, Said>) -> bool,
        wanted: impl Fn() -> String,
    ) -> BTreeMap<usize, Said> {
        let deadline = Instant::now() + DEADLINE;
        let mut said = BTreeMap::new();
        while !done(&said) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "wanted {}, had {said:?}", wanted());
            for (token, one) in self.turn(Some(left)) {
                *said.entry(token).or_insert(NOTHING) |= one;
            }
        }
        said
    }

    /// What is ready now, and what was ready before: wakes, and polls until the wake has come and nothing came after.
    pub fn now(&mut self) -> BTreeMap<usize, Said> {
        self.fence.wake().unwrap();
        let mut said = self.until(|said| said.contains_key(&FENCE.0), || "the fence".to_owned());
        loop {
            let more = self.turn(Some(Duration::ZERO));
            if more.is_empty() {
                break;
            }
            for (token, one) in more {
                *said.entry(token).or_insert(NOTHING) |= one;
            }
        }
        said.remove(&FENCE.0);
        said
    }

    /// Nothing is ready.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        let said = self.now();
        assert!(said.is_empty(), "unexpected {said:?}");
    }

    /// `token` has not said any of `unwanted`.
    #[track_caller]
    pub fn expect_not(&mut self, token: usize, unwanted: Said) {
        let said = self.now();
        let said = said.get(&token).copied().unwrap_or_default();
        assert!(!said.has_any(unwanted), "unexpected {said:?} of {token}");
    }
}

pub fn loopback() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

/// A connected stream and its peer, which blocks.
pub fn tcp_pair() -> (TcpStream, std::net::TcpStream) {
    let listener = std::net::TcpListener::bind(loopback()).unwrap();
    let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    ours.set_nonblocking(true).unwrap();
    (TcpStream::from_std(ours), theirs)
}

/// A connected stream and its peer, both non-blocking and ours.
pub fn tcp_twins() -> (TcpStream, TcpStream) {
    let (ours, theirs) = tcp_pair();
    theirs.set_nonblocking(true).unwrap();
    (ours, TcpStream::from_std(theirs))
}

pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind(loopback()).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Closing sends a reset instead of the end of file.
pub fn reset_on_close(stream: &impl std::os::fd::AsFd) {
    socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)).unwrap();
}

/// Reads until there is nothing left; how many bytes, and whether the end of file came.
pub fn drain(reader: &mut impl Read) -> (usize, bool) {
    let mut buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return (total, true),
            Ok(n) => total += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return (total, false),
            Err(error) => panic!("after {total} bytes: {error}"),
        }
    }
}

/// Writes until there is no room; how many bytes.
pub fn fill(writer: &mut impl Write) -> usize {
    let buffer = vec![0; 64 * 1024];
    let mut total = 0;
    loop {
        match writer.write(&buffer) {
            Ok(n) => total += n,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return total,
            Err(error) => panic!("after {total} bytes: {error}"),
        }
    }
}

/// Installs a handler for a signal that no other test of the process uses at the same time.
pub fn handle(signal: libc::c_int, handler: extern "C" fn(libc::c_int), flags: libc::c_int) {
    // SAFETY: the structure is as sigaction(2) wants it; the handlers of these tests do nothing, or store to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// A handler that does nothing: its signal interrupts, and no more.
pub extern "C" fn interrupt(_: libc::c_int) {}

/// Lets this process open as many descriptors as it may, up to 8 192; how many that is.
pub fn raise_descriptor_limit() -> usize {
    allow_descriptors(8192)
}

/// The same, up to so many.
pub fn allow_descriptors(most: usize) -> usize {
    let most = most as libc::rlim_t;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes and reads one `rlimit`.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        if limit.rlim_cur < most {
            limit.rlim_cur = limit.rlim_max.min(most);
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
        }
    }
    limit.rlim_cur.min(most) as usize
}

/// A number that was a descriptor's, and that no other test will be given: descriptors are numbered from below.
pub fn closed_descriptor() -> std::os::fd::RawFd {
    let lowest = raise_descriptor_limit() as libc::c_int - 100;
    let fd: std::os::fd::OwnedFd = std::net::UdpSocket::bind(loopback()).unwrap().into();
    // SAFETY: no pointers; the copy is nobody else's and is closed once.
    unsafe {
        let copy = libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&fd), libc::F_DUPFD, lowest);
        assert!(copy >= lowest);
        libc::close(copy);
        copy
    }
}
