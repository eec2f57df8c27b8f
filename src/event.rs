//! Events, and the trait of sources.

use std::iter::FusedIterator;
use std::{fmt, slice};

pub use crate::registry::Source;
use crate::sys;
use crate::sys::raw_source::RawSource;
use crate::sys::selector::{EventRecord, FilterSpec};
use crate::token::Token;

/// One readiness event: a view of the record that the kernel wrote.
///
/// A loop that uses only [`token`](Event::token), [`is_readable`](Event::is_readable) and [`is_writable`](Event::is_writable)
/// is correct on every backend, because end of file, hang-up and errors are also reported as readable or writable. The other
/// methods return hints. The result of an operation is exact: a read of 0 bytes, `ErrorKind::BrokenPipe`, or the error of
/// `take_error`.
///
/// An event may be spurious: the operation can still fail with `ErrorKind::WouldBlock`. If a descriptor is readable and
/// writable, epoll and poll(2) report one event, kqueue reports two, and Windows one or two.
#[derive(Clone)]
#[repr(transparent)]
pub struct Event {
    record: sys::RawEvent,
}

impl Event {
    fn from_record(record: &sys::RawEvent) -> &Event {
        // SAFETY: `Event` is a transparent wrapper of `sys::RawEvent`, and the reference keeps its lifetime.
        unsafe { &*(record as *const sys::RawEvent).cast::<Event>() }
    }

    /// Returns the record of the kernel.
    #[allow(dead_code)] // Used by `unix::kqueue::EventExt` only.
    pub(crate) fn record(&self) -> &sys::RawEvent {
        &self.record
    }

    /// Returns (`fflags`, `data`) if the event belongs to this filter of a kqueue.
    pub(crate) fn filter_payload(&self, ident: RawSource, filter: FilterSpec) -> Option<(u32, i64)> {
        self.record.filter_payload(ident, filter)
    }

    /// Returns the setting of the timer that the event belongs to. `None` if the source is not a timer.
    pub(crate) fn timer_setting(&self) -> Option<u32> {
        self.record.timer_setting()
    }

    /// Returns the token of the registration.
    #[must_use]
    pub fn token(&self) -> Token {
        self.record.token()
    }

    /// Returns `true` if data can be read or connections accepted, or if reading returns the end of file, a hang-up or an
    /// error.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.record.is_readable()
    }

    /// Returns `true` if data can be written or a connect has ended, or if writing returns an error.
    #[must_use]
    pub fn is_writable(&self) -> bool {
        self.record.is_writable()
    }

    /// Returns `true` as a hint that an error is pending. `take_error` returns the error.
    ///
    /// * epoll: `EPOLLERR`
    /// * poll: `POLLERR`
    /// * kqueue: `EV_ERROR`, or `EV_EOF` with an error number in `fflags`
    /// * Windows: `AFD_POLL_ABORT` or `AFD_POLL_CONNECT_FAIL`
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.record.is_error()
    }

    /// Returns `true` as a hint that the peer will send no more data. Unread data may exist: read until a read returns 0.
    ///
    /// * epoll: `EPOLLHUP` or `EPOLLRDHUP`
    /// * poll: `POLLHUP` or `POLLRDHUP`
    /// * kqueue: `EVFILT_READ` with `EV_EOF`
    /// * Windows: `AFD_POLL_DISCONNECT`, `AFD_POLL_ABORT` or `AFD_POLL_CONNECT_FAIL`
    #[must_use]
    pub fn is_read_closed(&self) -> bool {
        self.record.is_read_closed()
    }

    /// Returns `true` as a hint that writing will fail.
    ///
    /// * epoll: `EPOLLHUP`, or `EPOLLERR` alone or with `EPOLLOUT`
    /// * poll: `POLLHUP`, or `POLLERR` alone or with `POLLOUT`
    /// * kqueue: `EVFILT_WRITE` with `EV_EOF`
    /// * Windows: `AFD_POLL_ABORT` or `AFD_POLL_CONNECT_FAIL`
    #[must_use]
    pub fn is_write_closed(&self) -> bool {
        self.record.is_write_closed()
    }

    /// Returns `true` if urgent data arrived: see [`Interest::PRIORITY`](crate::Interest::PRIORITY).
    #[must_use]
    pub fn is_priority(&self) -> bool {
        self.record.is_priority()
    }

    /// Returns `true` if an asynchronous disk operation ended (`EVFILT_AIO` of kqueue).
    #[must_use]
    pub fn is_aio(&self) -> bool {
        self.record.is_aio()
    }

    /// Returns `true` if a list of asynchronous disk operations ended (`EVFILT_LIO` of FreeBSD).
    #[must_use]
    pub fn is_lio(&self) -> bool {
        self.record.is_lio()
    }
}

/// Writes the token, and the names of the methods that return `true`. The alternate form (`{:#?}`) writes the result of every
/// method, and the record of the kernel.
impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let results = [
            ("readable", self.is_readable()),
            ("writable", self.is_writable()),
            ("error", self.is_error()),
            ("read_closed", self.is_read_closed()),
            ("write_closed", self.is_write_closed()),
            ("priority", self.is_priority()),
            ("aio", self.is_aio()),
            ("lio", self.is_lio()),
        ];
        if !f.alternate() {
            write!(f, "Event({}", self.token().0)?;
            let mut names = results.iter().filter(|(_, is_true)| *is_true);
            names.try_for_each(|(name, _)| write!(f, ", {name}"))?;
            return f.write_str(")");
        }
        let mut event = f.debug_struct("Event");
        event.field("token", &self.token());
        for (name, result) in results {
            event.field(name, &result);
        }
        event.field("details", &self.record).finish()
    }
}

/// The buffer that a poll fills. The buffer is allocated once and reused by every poll.
///
/// The kernel writes records into the buffer, and [`Event`] is a view of one record. If the buffer is full, the next poll
/// reports the remaining events. The capacity never grows.
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
    /// Creates a buffer for at most `capacity` events per poll, or for one event if `capacity` is 0.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Events {
        // For a buffer without space, epoll_wait(2) fails with EINVAL, and kevent(2) returns without a wait.
        Events { records: Vec::with_capacity(capacity.max(1)) }
    }

    /// Returns the maximum number of events of one poll.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.records.capacity()
    }

    /// Returns the number of events of the last poll.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns `true` if the last poll returned no event.
    #[must_use]
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Returns an iterator over the events of the last poll.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter { records: self.records.iter() }
    }

    /// Removes the events. Each poll removes the events of the previous poll.
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

/// An iterator over the [`Events`] of the last poll.
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
    fn event_has_the_layout_of_the_record() {
        assert_eq!(std::mem::size_of::<Event>(), std::mem::size_of::<sys::RawEvent>());
        assert_eq!(std::mem::align_of::<Event>(), std::mem::align_of::<sys::RawEvent>());
    }

    #[test]
    fn capacity_of_zero_becomes_one() {
        assert_eq!(Events::with_capacity(0).capacity(), 1);
        assert_eq!(Events::with_capacity(16).capacity(), 16);
    }
}
