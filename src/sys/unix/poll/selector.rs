//! The backend of last resort: poll(2).
//!
//! The kernel remembers nothing between calls and knows no edges, so both are kept here, in a table that every thread
//! may change at any time. The waiter copies it, waits without a lock, and believes of what came back only what was
//! not changed meanwhile; a change while it waits interrupts the wait. See <https://man7.org/linux/man-pages/man2/poll.2.html>.
//!
//! How an edge is made of a level is told in `poll/entry.rs`. `POLLNVAL` is a descriptor that was closed, and ends its
//! registration.

use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, io};

use libc::{c_short, pollfd, POLLIN, POLLOUT, POLLPRI};

use crate::backend::Backend;
use crate::interest::Interest;
use crate::interest::Mode;
use crate::sys::error::{already_exists, unsupported};
use crate::sys::selector::{Direction, Engine, Origin};
use crate::sys::unix::poll::entry::{Entry, NOBODY};
use crate::sys::unix::poll::event::{poll, PollEvent};
use crate::sys::unix::poll::table::{Table, Waker, NOTIFY};
use crate::sys::unix::syscall::lock;
use crate::sys::unix::wake_fd::Notify;
use crate::sys::unix::{fork, fstat};
use crate::token::Token;

/// How long a wait may last while something has to be looked at: at first, and at most.
const TICKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

/// What the kernel says of a negative number.
fn check_number(fd: RawFd) -> io::Result<()> {
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    Ok(())
}

fn mask(interest: Interest) -> io::Result<c_short> {
    if interest.is_aio() || interest.is_lio() || interest.is_exclusive() {
        return Err(unsupported());
    }
    let mut mask = 0;
    if interest.is_readable() {
        mask |= POLLIN;
    }
    if interest.is_writable() {
        mask |= POLLOUT;
    }
    if interest.is_priority() {
        mask |= POLLPRI;
    }
    Ok(mask)
}

pub(crate) struct PollSet {
    shared: Arc<Shared>,
    /// What the kernel was shown last. Locked by the one waiter, throughout its wait, and by nobody else.
    shown: Mutex<Vec<pollfd>>,
}

struct Shared {
    table: Mutex<Table>,
    notify: Notify,
    /// The generation of the process that made it. In a forked child another thread of the parent may hold the lock, and
    /// the notification is the parent's.
    generation: u32,
}

impl Shared {
    /// Changes the table; if `change` says so, the waiter is told.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> io::Result<(T, bool)>) -> io::Result<T> {
        let mut table = lock(&self.table);
        let (value, tell) = change(&mut table)?;
        if tell && table.waiting && !std::mem::replace(&mut table.notified, true) {
            // The waiter wants the lock at once. If it has come back by itself, it is told once too often.
            drop(table);
            if self.notify.signal().is_err() {
                // Somebody else has closed the descriptor.
                lock(&self.table).notified = false;
            }
        }
        Ok(value)
    }
}

impl PollSet {
    /// One wait. `clock` is that of the table which `shown` is a copy of.
    #[inline(always)] // As `poll`.
    fn wait(
        &self,
        shown: &mut Vec<pollfd>,
        events: &mut Vec<PollEvent>,
        left: Option<Duration>,
        tick: Duration,
    ) -> io::Result<()> {
        let mut table = lock(&self.shared.table);
        table.look(events)?;
        shown.clone_from(&table.fds);
        let clock = table.clock;
        let limit = match (table.wakes.is_empty() && events.is_empty(), table.looks) {
            (false, _) => Some(Duration::ZERO),
            (true, 0) => left,
            (true, _) => Some(left.map_or(tick, |left| left.min(tick))),
        };
        table.waiting = true;
        drop(table);

        let ready = poll(shown, limit);

        let mut table = lock(&self.shared.table);
        table.waiting = false;
        // A forked child can signal it too: it has a copy of the table, in which somebody waits.
        if std::mem::take(&mut table.notified) || shown[NOTIFY].revents != 0 {
            self.shared.notify.drain();
        }
        let ready = match ready {
            Ok(ready) => ready - usize::from(shown[NOTIFY].revents != 0),
            // A signal; but what the look has reported already must not be lost.
            Err(_) if !events.is_empty() => 0,
            Err(error) => return Err(error),
        };
        table.collect(shown, ready, clock, events);
        Ok(())
    }
}

impl Engine for PollSet {
    const BACKEND: Backend = Backend::Poll;

    type Event = PollEvent;
    type Tie = Tie;
    type Waker = Waker;

    fn new() -> io::Result<PollSet> {
        let notify = Notify::new()?;
        let mut table = Table::default();
        let now = table.tick();
        let index = table.insert(Entry::new(notify.as_raw_fd(), Token(0), (POLLIN, Mode::Level), None, now));
        debug_assert_eq!(index, NOTIFY);
        let shared = Shared { table: Mutex::new(table), notify, generation: fork::generation() };
        Ok(PollSet { shared: Arc::new(shared), shown: Mutex::new(Vec::new()) })
    }

    fn select(&self, events: &mut Vec<PollEvent>, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        let deadline = timeout.filter(|timeout| !timeout.is_zero()).map(|timeout| Instant::now() + timeout);
        let mut shown = lock(&self.shown);
        let mut left = timeout;
        let mut tick = TICKS.0;
        loop {
            self.wait(&mut shown, events, left, tick)?;
            // Nothing to report: the wait was interrupted for a change, or a tick has passed, or the time is up.
            left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if !events.is_empty() || (timeout.is_some() && left.unwrap_or(Duration::ZERO).is_zero()) {
                return Ok(());
            }
            tick = TICKS.1.min(tick * 2);
        }
    }

    fn register(&self, fd: RawFd, token: Token, interest: Interest, origin: Origin) -> io::Result<Tie> {
        let wanted = (mask(interest)?, interest.mode());
        check_number(fd)?;
        let identity = if origin == Origin::Own { None } else { fstat::identify(fd)? };
        self.shared.change(|table| {
            if let Some(&index) = table.by_fd.get(&fd) {
                if table.entries[index].is_certain() {
                    return Err(already_exists());
                }
                table.remove(index);
            }
            let born = table.tick();
            let mut entry = Entry::new(fd, token, wanted, identity, born);
            if origin == Origin::Bare {
                entry.be_raw();
            }
            let index = table.insert(entry);
            Ok((Tie(Box::new(Tied { shared: Arc::clone(&self.shared), index, born })), true))
        })
    }

    fn reregister(&self, fd: RawFd, token: Token, interest: Interest, _: Origin) -> io::Result<()> {
        let wanted = (mask(interest)?, interest.mode());
        check_number(fd)?;
        self.shared.change(|table| {
            let index = table.index(fd)?;
            let now = table.tick();
            table.change(index, |entry| entry.reset(token, wanted, now));
            Ok(((), true))
        })
    }

    fn deregister(&self, fd: RawFd, _: Origin) -> io::Result<()> {
        check_number(fd)?;
        self.shared.change(|table| {
            let index = table.index(fd)?;
            table.remove(index);
            Ok(((), true))
        })
    }

    fn add_waker(&self, token: Token) -> io::Result<Waker> {
        Ok(lock(&self.shared.table).add_waker(token))
    }

    fn wake(&self, waker: &Waker) -> io::Result<()> {
        self.shared.change(|table| {
            table.wake(*waker);
            Ok(((), true))
        })
    }

    fn remove_waker(&self, waker: &Waker) {
        lock(&self.shared.table).wakes.retain(|pending| pending.id != waker.id);
    }
}

/// Eight bytes, so that sockets stay small.
pub(crate) struct Tie(Box<Tied>);

struct Tied {
    shared: Arc<Shared>,
    index: usize,
    born: u64,
}

impl Tied {
    /// Changes the table, if the entry is still the one that was registered. Does nothing in a forked child.
    fn change(&self, change: impl FnOnce(&mut Table) -> bool) {
        if !fork::is_current(self.shared.generation) {
            return;
        }
        let _ = self.shared.change(|table| {
            let is_mine = table.entries.get(self.index).is_some_and(|entry| entry.born == self.born);
            Ok(((), self.born != NOBODY && is_mine && change(table)))
        });
    }
}

impl crate::sys::selector::Tie for Tie {
    fn rearm(&self, direction: Direction) {
        self.0.change(|table| table.change(self.0.index, |entry| entry.rearm(direction)));
    }

    fn rearm_blocked(&self, direction: Direction) {
        self.0.change(|table| table.change(self.0.index, |entry| entry.rearm_blocked(direction)));
    }

    fn rearm_ended(&self) {
        self.0.change(|table| table.change(self.0.index, Entry::rearm_ended));
    }

    fn doubt(&self) {
        self.0.change(|table| table.change(self.0.index, Entry::stop_seeing));
    }

    fn is_current(&self) -> bool {
        if !fork::is_current(self.0.shared.generation) {
            // A forked child: its calls are refused elsewhere, and the lock may never be released.
            return true;
        }
        let table = lock(&self.0.shared.table);
        table.entries.get(self.0.index).is_some_and(|entry| entry.born == self.0.born)
    }

    fn release(mut self) -> Option<(RawFd, Interest)> {
        self.0.change(|table| table.change(self.0.index, Entry::detach));
        self.0.born = NOBODY;
        None
    }

    /// It deregisters by itself.
    fn lent(&self) -> Option<RawFd> {
        None
    }
}

impl Drop for Tied {
    fn drop(&mut self) {
        self.change(|table| {
            table.remove(self.index);
            true
        });
    }
}

impl fmt::Debug for PollSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollSet").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sys::selector::Tie as _;
    use crate::sys::unix::poll::event::POLLRDHUP;

    /// Looks interrupt a wait up to 16 times a second, and nothing can follow the end of both directions.
    #[test]
    fn pipe_without_its_other_end_is_not_probed() {
        for ours in [0, 1] {
            for origin in [Origin::Own, Origin::Bare] {
                let set = PollSet::new().unwrap();
                let mut events = Vec::with_capacity(8);
                let mut ends = crate::sys::unix::pipe::pipe().unwrap().map(Some);
                let end = ends[ours].take().unwrap();
                let interest = [Interest::READABLE, Interest::WRITABLE][ours];
                let _tie = set.register(end.as_raw_fd(), Token(1), interest, origin).unwrap();
                drop(ends);
                let mut select = || {
                    set.select(&mut events, Some(Duration::ZERO)).unwrap();
                    events.len()
                };
                assert_eq!((select(), select()), (1, 0));
                assert_eq!(lock(&set.shared.table).looks, 0, "end {ours}, {origin:?}");
            }
        }
    }

    #[test]
    fn hung_up_socket_is_not_probed() {
        if POLLRDHUP == 0 {
            // Nothing distinguishes it from a socket that is not connected yet.
            return;
        }
        let both = Interest::READABLE | Interest::WRITABLE;
        for interest in [Interest::READABLE, Interest::WRITABLE, both] {
            for origin in [Origin::Own, Origin::Bare] {
                let set = PollSet::new().unwrap();
                let mut events = Vec::with_capacity(8);
                let mut select = || {
                    set.select(&mut events, Some(Duration::ZERO)).unwrap();
                    events.len()
                };
                let looks = || lock(&set.shared.table).looks;
                let (a, b) = UnixStream::pair().unwrap();
                let tie = set.register(a.as_raw_fd(), Token(1), interest, origin).unwrap();
                drop(b);
                assert_eq!(select(), 1);
                assert_eq!((select(), looks()), (0, 0), "{interest:?}, {origin:?}");
                // An operation could have made another connection: one look.
                tie.rearm(Direction::Either);
                assert_eq!((looks(), select(), looks()), (1, 0, 0), "{interest:?}, {origin:?}");
                set.reregister(a.as_raw_fd(), Token(2), interest, origin).unwrap();
                assert_eq!(select(), 1);
            }
        }
    }
}
