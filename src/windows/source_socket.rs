use std::os::windows::io::RawSocket;

/// A raw socket as a [`Source`](crate::event::Source).
///
/// A `SourceSocket` does not own the socket and keeps no state of the registration. Deregister the socket before you close it.
/// The socket should be non-blocking. If the socket has a type, prefer an [`IoSource`](crate::windows::IoSource).
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
