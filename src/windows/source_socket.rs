use std::os::windows::io::RawSocket;

/// A raw socket as a [`Source`](crate::event::Source).
///
/// A `SourceSocket` does not own the socket and keeps no state of the registration. Deregister the socket before you close it.
/// The socket should be non-blocking. If the socket has a type, prefer an [`IoSource`](crate::windows::IoSource).
///
/// # Trigger modes
///
/// The operations of an [`IoSource`](crate::windows::IoSource) arm its next event. The operations on a raw socket are unobserved.
/// Instead, an edge-triggered registration probes readiness that was reported, at each poll and at least every 64 ms. A probe
/// finds that the readiness has ended, or that the number of unread bytes has changed. If the program reads everything, and as
/// many bytes arrive before the next poll, the probe finds no change. Therefore readiness that lasts is reported again 128 ms
/// after its last event, and for writing up to 1 s after its last event. While such a socket is registered, a process that is
/// blocked in `poll` wakes at most 16 times a second.
///
/// A program that cannot accept this delay registers the socket [level-triggered](crate::Interest::level) or
/// [one-shot](crate::Interest::oneshot), or reregisters the socket after each event.
///
/// # Examples
///
/// ```
/// use std::net::UdpSocket;
/// use std::os::windows::io::AsRawSocket;
///
/// use kevio::windows::SourceSocket;
/// use kevio::{Events, Interest, Poll, Token};
///
/// let (ours, theirs) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// ours.set_nonblocking(true)?;
///
/// let mut poll = Poll::new()?;
/// poll.registry().register(&mut SourceSocket(&ours.as_raw_socket()), Token(3), Interest::READABLE)?;
/// theirs.send_to(b"!", ours.local_addr()?)?;
///
/// let mut events = Events::with_capacity(8);
/// poll.poll_until(&mut events, None)?;
/// assert!(events.iter().any(|event| event.token() == Token(3) && event.is_readable()));
/// poll.registry().deregister(&mut SourceSocket(&ours.as_raw_socket()))?;
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct SourceSocket<'a>(pub &'a RawSocket);

crate::delegate::impl_source_of_raw!(SourceSocket);
