//! The trait of a subject, and the subjects that are crates.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use super::raw::{borrow, OwnedSource, RawSource};

/// The largest token. polling reserves `usize::MAX`.
pub const LAST: usize = usize::MAX - 1;

/// A crate or a system call that waits for many sources, with a buffer for the events of one wait.
///
/// All registrations are for reading, edge-triggered if the subject supports edges, and each call has to succeed. The
/// implementations are always inlined, because after a system call each return costs more than many of the measured operations.
pub trait Subject: Sized + Send + 'static {
    const NAME: &'static str;
    /// The part of the subject that other threads use.
    type Registry: Send + 'static;
    type Waker: Send + 'static;
    type Socket: Read + Write + Send + 'static;
    type Listener: Send + 'static;

    fn new(capacity: usize) -> Self;
    fn registry(&self) -> Self::Registry;
    /// Creates the only waker of the subject.
    fn waker(&self) -> Self::Waker;
    fn wake(waker: &Self::Waker);
    /// Waits once, and calls `each` with the token of every event.
    fn poll_once(&mut self, timeout: Option<Duration>, each: impl FnMut(usize));

    fn socket(fd: OwnedSource) -> Self::Socket;
    fn register(registry: &Self::Registry, socket: &mut Self::Socket, token: usize);
    fn reregister(registry: &Self::Registry, socket: &mut Self::Socket, token: usize);
    fn deregister(registry: &Self::Registry, socket: &mut Self::Socket);
    /// Registers all sockets with the token 0, in the fastest way of the subject.
    #[inline(always)]
    fn register_all(registry: &Self::Registry, sockets: &mut [Self::Socket]) {
        for socket in sockets {
            Self::register(registry, socket, 0);
        }
    }
    /// Re-arms the socket, if the subject needs that, after an event and operations until `WouldBlock`.
    fn drained(_: &Self::Registry, _: &Self::Socket, _token: usize) {}
    fn close(_: &Self::Registry, socket: Self::Socket) {
        drop(socket);
    }

    fn listen(registry: &Self::Registry, listener: TcpListener, token: usize) -> Self::Listener;
    /// Accepts a non-blocking connection. Returns `None` if no connection is in the queue.
    fn accept(listener: &Self::Listener) -> Option<Self::Socket>;
    /// Re-arms the listener, if the subject needs that.
    fn accepted(_: &Self::Registry, _: &Self::Listener, _token: usize) {}
}

/// A subject that registers raw descriptors.
pub trait RawSubject: Subject {
    fn add(registry: &Self::Registry, fd: RawSource, token: usize);
    fn change(registry: &Self::Registry, fd: RawSource, token: usize);
    fn remove(registry: &Self::Registry, fd: RawSource);
}

/// Implements [`Subject`] for a crate with the API of mio. The last argument holds further methods.
macro_rules! impl_mio_like {
    ($subject:ident, $crate_name:ident, { $($more:tt)* }) => {
        pub struct $subject {
            poll: $crate_name::Poll,
            events: $crate_name::Events,
        }

        impl Subject for $subject {
            const NAME: &'static str = stringify!($crate_name);
            type Registry = $crate_name::Registry;
            type Waker = $crate_name::Waker;
            // Its reads and writes are those of a std socket.
            type Socket = $crate_name::net::TcpStream;
            type Listener = $crate_name::net::TcpListener;

            #[inline(always)]
            fn new(capacity: usize) -> $subject {
                $subject { poll: $crate_name::Poll::new().unwrap(), events: $crate_name::Events::with_capacity(capacity) }
            }

            #[inline(always)]
            fn registry(&self) -> $crate_name::Registry {
                self.poll.registry().try_clone().unwrap()
            }

            #[inline(always)]
            fn waker(&self) -> $crate_name::Waker {
                $crate_name::Waker::new(self.poll.registry(), $crate_name::Token(LAST)).unwrap()
            }

            #[inline(always)]
            fn wake(waker: &$crate_name::Waker) {
                waker.wake().unwrap();
            }

            #[inline(always)]
            fn poll_once(&mut self, timeout: Option<Duration>, mut each: impl FnMut(usize)) {
                self.poll.poll(&mut self.events, timeout).unwrap();
                for event in &self.events {
                    each(event.token().0);
                }
            }

            #[inline(always)]
            fn socket(fd: OwnedSource) -> $crate_name::net::TcpStream {
                $crate_name::net::TcpStream::from_std(fd.into())
            }

            #[inline(always)]
            fn register(registry: &$crate_name::Registry, socket: &mut $crate_name::net::TcpStream, token: usize) {
                registry.register(socket, $crate_name::Token(token), $crate_name::Interest::READABLE).unwrap();
            }

            #[inline(always)]
            fn reregister(registry: &$crate_name::Registry, socket: &mut $crate_name::net::TcpStream, token: usize) {
                registry.reregister(socket, $crate_name::Token(token), $crate_name::Interest::READABLE).unwrap();
            }

            #[inline(always)]
            fn deregister(registry: &$crate_name::Registry, socket: &mut $crate_name::net::TcpStream) {
                registry.deregister(socket).unwrap();
            }

            #[inline(always)]
            fn listen(
                registry: &$crate_name::Registry,
                listener: TcpListener,
                token: usize,
            ) -> $crate_name::net::TcpListener {
                let mut listener = $crate_name::net::TcpListener::from_std(listener);
                registry
                    .register(&mut listener, $crate_name::Token(token), $crate_name::Interest::READABLE)
                    .unwrap();
                listener
            }

            #[inline(always)]
            fn accept(listener: &$crate_name::net::TcpListener) -> Option<$crate_name::net::TcpStream> {
                listener.accept().ok().map(|(socket, _)| socket)
            }

            $($more)*
        }
    };
}

/// Implements [`RawSubject`] for a crate with the API of mio.
macro_rules! impl_raw_mio_like {
    ($subject:ident, $crate_name:ident, $source:path) => {
        impl RawSubject for $subject {
            #[inline(always)]
            fn add(registry: &$crate_name::Registry, fd: RawSource, token: usize) {
                use $source as Source;
                registry
                    .register(&mut Source(&fd), $crate_name::Token(token), $crate_name::Interest::READABLE)
                    .unwrap();
            }

            #[inline(always)]
            fn change(registry: &$crate_name::Registry, fd: RawSource, token: usize) {
                use $source as Source;
                registry
                    .reregister(&mut Source(&fd), $crate_name::Token(token), $crate_name::Interest::READABLE)
                    .unwrap();
            }

            #[inline(always)]
            fn remove(registry: &$crate_name::Registry, fd: RawSource) {
                use $source as Source;
                registry.deregister(&mut Source(&fd)).unwrap();
            }
        }
    };
}

impl_mio_like!(Kevio, kevio, {
    #[inline(always)]
    fn register_all(registry: &kevio::Registry, sockets: &mut [kevio::net::TcpStream]) {
        let mut batch = kevio::Batch::with_capacity(sockets.len());
        for socket in sockets {
            batch.register(socket, kevio::Token(0), kevio::Interest::READABLE);
        }
        assert!(registry.submit(batch).iter().all(Result::is_ok));
    }
});
impl_mio_like!(Mio, mio, {});
#[cfg(unix)]
impl_raw_mio_like!(Kevio, kevio, kevio::unix::SourceFd);
#[cfg(unix)]
impl_raw_mio_like!(Mio, mio, mio::unix::SourceFd);
#[cfg(windows)]
impl_raw_mio_like!(Kevio, kevio, kevio::windows::SourceSocket);

impl Kevio {
    #[allow(dead_code)] // The bench `latency` spins.
    pub fn set_spin(&mut self, duration: Duration) {
        self.poll.set_spin(duration);
    }
}

pub struct Polling {
    poller: Arc<polling::Poller>,
    events: polling::Events,
}

fn mode(poller: &polling::Poller) -> polling::PollMode {
    if poller.supports_edge() {
        polling::PollMode::Edge
    } else {
        polling::PollMode::Oneshot
    }
}

fn add(poller: &polling::Poller, source: impl polling::AsRawSource, token: usize) {
    // SAFETY: the source is deleted before it is closed, or the poller is dropped before the source.
    unsafe { poller.add_with_mode(source, polling::Event::readable(token), mode(poller)).unwrap() };
}

/// Re-arms a source if polling has no edges on this system. It is one-shot then, as its documentation recommends.
fn rearm(poller: &polling::Poller, source: impl polling::AsSource, token: usize) {
    if !poller.supports_edge() {
        poller.modify(source, polling::Event::readable(token)).unwrap();
    }
}

impl Subject for Polling {
    const NAME: &'static str = "polling";
    type Registry = Arc<polling::Poller>;
    type Waker = Arc<polling::Poller>;
    type Socket = std::net::TcpStream;
    type Listener = TcpListener;

    #[inline(always)]
    fn new(capacity: usize) -> Polling {
        let events = polling::Events::with_capacity(capacity.try_into().unwrap());
        Polling { poller: Arc::new(polling::Poller::new().unwrap()), events }
    }

    #[inline(always)]
    fn registry(&self) -> Arc<polling::Poller> {
        Arc::clone(&self.poller)
    }

    #[inline(always)]
    fn waker(&self) -> Arc<polling::Poller> {
        Arc::clone(&self.poller)
    }

    #[inline(always)]
    fn wake(waker: &Arc<polling::Poller>) {
        waker.notify().unwrap();
    }

    #[inline(always)]
    fn poll_once(&mut self, timeout: Option<Duration>, mut each: impl FnMut(usize)) {
        self.events.clear();
        self.poller.wait(&mut self.events, timeout).unwrap();
        for event in self.events.iter() {
            each(event.key);
        }
    }

    #[inline(always)]
    fn socket(fd: OwnedSource) -> std::net::TcpStream {
        fd.into()
    }

    #[inline(always)]
    fn register(poller: &Arc<polling::Poller>, socket: &mut std::net::TcpStream, token: usize) {
        add(poller, &*socket, token);
    }

    #[inline(always)]
    fn reregister(poller: &Arc<polling::Poller>, socket: &mut std::net::TcpStream, token: usize) {
        poller.modify_with_mode(socket, polling::Event::readable(token), mode(poller)).unwrap();
    }

    #[inline(always)]
    fn deregister(poller: &Arc<polling::Poller>, socket: &mut std::net::TcpStream) {
        poller.delete(socket).unwrap();
    }

    #[inline(always)]
    fn drained(poller: &Arc<polling::Poller>, socket: &std::net::TcpStream, token: usize) {
        rearm(poller, socket, token);
    }

    #[inline(always)]
    fn close(poller: &Arc<polling::Poller>, socket: std::net::TcpStream) {
        poller.delete(&socket).unwrap();
    }

    #[inline(always)]
    fn listen(poller: &Arc<polling::Poller>, listener: TcpListener, token: usize) -> TcpListener {
        add(poller, &listener, token);
        listener
    }

    #[inline(always)]
    fn accept(listener: &TcpListener) -> Option<std::net::TcpStream> {
        super::accept(listener)
    }

    #[inline(always)]
    /// Re-arms the listener, if the subject needs that.
    fn accepted(poller: &Arc<polling::Poller>, listener: &TcpListener, token: usize) {
        rearm(poller, listener, token);
    }
}

impl RawSubject for Polling {
    #[inline(always)]
    fn add(poller: &Arc<polling::Poller>, fd: RawSource, token: usize) {
        add(poller, fd, token);
    }

    #[inline(always)]
    fn change(poller: &Arc<polling::Poller>, fd: RawSource, token: usize) {
        poller.modify_with_mode(borrow(fd), polling::Event::readable(token), mode(poller)).unwrap();
    }

    #[inline(always)]
    fn remove(poller: &Arc<polling::Poller>, fd: RawSource) {
        poller.delete(borrow(fd)).unwrap();
    }
}
