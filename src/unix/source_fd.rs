use std::io;
use std::os::fd::RawFd;

use crate::interest::Interest;
use crate::registry::Registry;
use crate::registry::Source;
use crate::sys::selector::{Registration, SourceKind};
use crate::token::Token;

/// A descriptor as a [`Source`]: the number, and nothing else.
///
/// It does not own the descriptor, and remembers nothing of the registration: deregister before closing. Closing does
/// end the registration, but on epoll not if another descriptor or process shares the open file. The descriptor should
/// be non-blocking. Prefer an [`IoSource`](crate::unix::IoSource) where the descriptor has a type.
///
/// # Platform notes
///
/// poll(2) cannot see the operations on a bare descriptor, and looks for their traces instead, at each poll and at least
/// every 64 ms. Readiness that was used up and came back between two looks is reported 128 ms after it was reported
/// before (up to 1 s for writing); so one that is not used up is reported again from time to time. While there is one
/// that was reported and not used up, a waiting process wakes up to look 16 times a second.
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use std::os::fd::AsRawFd;
/// use std::os::unix::net::UnixStream;
///
/// use kevio::unix::SourceFd;
/// use kevio::{Events, Interest, Poll, Token};
///
/// let (ours, mut theirs) = UnixStream::pair()?;
/// ours.set_nonblocking(true)?;
///
/// let mut poll = Poll::new()?;
/// poll.registry().register(&mut SourceFd(&ours.as_raw_fd()), Token(3), Interest::READABLE)?;
/// theirs.write_all(b"!")?;
///
/// let mut events = Events::with_capacity(8);
/// poll.poll(&mut events, None)?;
/// assert!(events.iter().any(|event| event.token() == Token(3) && event.is_readable()));
/// poll.registry().deregister(&mut SourceFd(&ours.as_raw_fd()))?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct SourceFd<'a>(pub &'a RawFd);

impl Source for SourceFd<'_> {
    #[inline(always)]
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        registry.register_fd(*self.0, token, interests, SourceKind::RawFd).map(|registration| _ = registration.detach())
    }

    #[inline(always)]
    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        registry.reregister_fd(*self.0, token, interests, SourceKind::RawFd)
    }

    #[inline(always)]
    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.check_process()?;
        registry.deregister_fd(*self.0, SourceKind::RawFd)
    }
}
