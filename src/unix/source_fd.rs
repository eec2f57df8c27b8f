use std::os::fd::RawFd;

/// A raw descriptor as a [`Source`](crate::event::Source).
///
/// A `SourceFd` does not own the descriptor and keeps no state of the registration. Deregister the descriptor before you close
/// it. Closing ends the registration too, except on epoll if another descriptor or process shares the open file. The
/// descriptor should be non-blocking. If the descriptor has a type, prefer an [`IoSource`](crate::unix::IoSource).
///
/// # Platform notes
///
/// The poll(2) backend cannot observe operations on a raw descriptor. Instead, readiness that was reported is probed at each
/// poll, and at least every 64 ms. A probe cannot detect that readiness has ended and begun again between two probes. Therefore
/// readiness that lasts is reported again 128 ms after its last event, and for writing up to 1 s after its last event. While
/// such a descriptor is registered, a process that is blocked in `poll` wakes at most 16 times a second.
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

crate::delegate::impl_source_of_raw!(SourceFd);
