//! What a poll returns, and what can be registered.

use crate::sys::selector;
use std::iter::FusedIterator;
use std::{fmt, slice};

pub use crate::registry::Source;
use crate::sys;
use crate::sys::selector::EventRecord;
use crate::token::Token;

/// One readiness event: a view of the kernel's own record.
///
/// A loop that asks only [`token`](Event::token), [`is_readable`](Event::is_readable) and
/// [`is_writable`](Event::is_writable) is correct on every backend: end of file, hang-up and errors also show as
/// readable or writable. The other answers are hints; `read() == 0`, `ErrorKind::BrokenPipe` and `take_error` are the
/// truth.
///
/// Readiness may be spurious: the operation can still say `ErrorKind::WouldBlock`. One descriptor that is both
/// readable and writable makes one event on epoll and poll(2) and two on kqueue.
#[derive(Clone)]
#[repr(transparent)]
pub struct Event {
    record: sys::RawEvent,
}

impl Event {
    fn from_record(record: &sys::RawEvent) -> &Event {
        // SAFETY: `Event` is a transparent wrapper of this very type, and the lifetime stays the same.
        unsafe { &*(record as *const sys::RawEvent).cast::<Event>() }
    }

    #[allow(dead_code)] // Only who knows a record's type asks.
    pub(crate) fn record(&self) -> &sys::RawEvent {
        &self.record
    }

    pub(crate) fn filter_payload(&self, ident: std::os::fd::RawFd, filter: selector::FilterSpec) -> Option<(u32, i64)> {
        self.record.filter_payload(ident, filter)
    }

    /// The token of the registration that became ready.
    #[must_use]
    pub fn token(&self) -> Token {
        self.record.token()
    }

    /// There is something to read or to accept, or reading says why not: end of file, hang-up, an error.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.record.is_readable()
    }

    /// There is room to write, a connect has ended, or writing says why not: a closed peer, an error.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.record.is_writable()
    }

    /// A hint that an error is pending; `take_error` fetches it.
    ///
    /// epoll `EPOLLERR`; poll `POLLERR`; kqueue `EV_ERROR`, or `EV_EOF` with an error number in `fflags`.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.record.is_error()
    }

    /// A hint that the peer will send no more. Unread data may still be there: read until 0.
    ///
    /// epoll `EPOLLHUP` or `EPOLLRDHUP`; poll likewise; kqueue `EVFILT_READ` with `EV_EOF`.
    #[must_use]
    pub fn is_read_closed(&self) -> bool {
        self.record.is_read_closed()
    }

    /// A hint that writing will fail.
    ///
    /// epoll `EPOLLHUP`, or `EPOLLERR` alone or with `EPOLLOUT`; poll likewise; kqueue `EVFILT_WRITE` with `EV_EOF`.
    #[must_use]
    pub fn is_write_closed(&self) -> bool {
        self.record.is_write_closed()
    }

    /// Urgent data arrived: see [`Interest::PRIORITY`].
    #[must_use]
    pub fn is_priority(&self) -> bool {
        self.record.is_priority()
    }

    /// An asynchronous disk operation ended (kqueue's `EVFILT_AIO`; never elsewhere).
    #[must_use]
    pub fn is_aio(&self) -> bool {
        self.record.is_aio()
    }

    /// A list of asynchronous disk operations ended (FreeBSD's `EVFILT_LIO`; never elsewhere).
    #[must_use]
    pub fn is_lio(&self) -> bool {
        self.record.is_lio()
    }
}

/// The token and every answer; the alternate form (`{:#?}`) adds the kernel's record.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let alternate = f.alternate();
        let mut event = f.debug_struct("Event");
        event
            .field("token", &self.token())
            .field("readable", &self.is_readable())
            .field("writable", &self.is_writable())
            .field("error", &self.is_error())
            .field("read_closed", &self.is_read_closed())
            .field("write_closed", &self.is_write_closed())
            .field("priority", &self.is_priority())
            .field("aio", &self.is_aio())
            .field("lio", &self.is_lio());
        if alternate {
            event.field("details", &self.record);
        }
        event.finish()
    }
}

/// The buffer that a poll fills: allocated once, used again and again.
///
/// The kernel writes its records into it and [`Event`] is a view of one of them. What does not fit waits for the next
/// poll; the capacity never grows.
///
/// # Examples
///
/// ```
/// use kevio::{Events, Poll};
/// use std::time::Duration;
///
/// let mut poll = Poll::new()?;
/// let mut events = Events::with_capacity(128);
/// poll.poll(&mut events, Some(Duration::ZERO))?;
/// for event in &events {
///     println!("{:?} is ready", event.token());
/// }
/// # assert_eq!(events.len(), 0);
/// # std::io::Result::Ok(())
/// ```
pub struct Events {
    records: Vec<sys::RawEvent>,
}

impl Events {
    /// A buffer for `capacity` events a poll; for one if `capacity` is 0.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Events {
        // epoll_wait(2) refuses room for none with EINVAL, and kevent(2) would return without a wait.
        Events { records: Vec::with_capacity(capacity.max(1)) }
    }

    /// How many events one poll can return.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.records.capacity()
    }

    /// How many events the last poll returned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether the last poll returned no event.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The events of the last poll.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { records: self.records.iter() }
    }

    /// Forgets the events. A poll does so itself.
    pub fn clear(&mut self) {
        self.records.clear();
    }

    #[inline]
    pub(crate) fn records(&mut self) -> &mut Vec<sys::RawEvent> {
        &mut self.records
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

impl<'a> IntoIterator for &'a Events {
    type Item = &'a Event;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Iterates over the [`Events`] of the last poll.
#[derive(Clone)]
pub struct Iter<'a> {
    records: slice::Iter<'a, sys::RawEvent>,
}

impl<'a> Iterator for Iter<'a> {
    type Item = &'a Event;

    fn next(&mut self) -> Option<&'a Event> {
        self.records.next().map(Event::from_record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }

    fn count(self) -> usize {
        self.records.len()
    }
}

impl ExactSizeIterator for Iter<'_> {}
impl FusedIterator for Iter<'_> {}

impl fmt::Debug for Iter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_the_record_itself() {
        assert_eq!(std::mem::size_of::<Event>(), std::mem::size_of::<sys::RawEvent>());
        assert_eq!(std::mem::align_of::<Event>(), std::mem::align_of::<sys::RawEvent>());
    }

    #[test]
    fn room_for_none_is_room_for_one() {
        assert_eq!(Events::with_capacity(0).capacity(), 1);
        assert_eq!(Events::with_capacity(16).capacity(), 16);
    }
}
