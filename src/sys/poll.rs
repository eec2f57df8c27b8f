//! The backend of last resort: poll(2).
//!
//! The kernel remembers nothing between calls and knows no edges, so both are kept here, in a table that every thread
//! may change at any time. The waiter copies it, waits without a lock, and believes of what came back only what was
//! not changed meanwhile; a change while it waits interrupts the wait. See <https://man7.org/linux/man-pages/man2/poll.2.html>.
//!
//! # How an edge is made of a level
//!
//! What has been reported of an entry is *told*, and told bits are not shown to the kernel again until there is reason
//! to think that something new can be seen:
//!
//! * An operation through a source re-arms its direction, whatever its result: also one that was only partly done
//!   (tokio takes a short read for a drained socket). After the peer has said that it will send no more (`POLLRDHUP`,
//!   or a read of nothing), reading re-arms nothing: there cannot be more, and it would be reported for ever.
//! * The operations of a bare descriptor cannot be seen. Its told bits are *looked at*, with a poll that does not
//!   wait, before each wait; one that is no longer true is armed again. While there is something to look at, waits are
//!   cut into ticks, for another thread may drain it meanwhile. A bit that is still true may have been used up and
//!   become true again since the last look: if the number of unread bytes is another one it has, and is told again at
//!   once; else it is told again after some patience. So no edge is lost, and a descriptor that is simply left readable
//!   makes eight spurious events a second, one that is left writable fewer and fewer, down to one.
//! * `POLLHUP` and `POLLERR` cannot be masked. An entry that has told one of them is shown to nobody, and looked at as
//!   above: new bits are reported, and when both are gone (a FIFO has a writer again, an error was fetched) it is as
//!   any other.
//!
//! `POLLNVAL` is a descriptor that was closed, and ends its registration.

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fmt, io};

use libc::{c_short, pollfd, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, POLLPRI};

use super::call::{self, lock};
use super::file::{self, Identity};
use super::revents::Revents;
use super::{already_exists, not_found, unsupported, Backend, Direction, Engine, Notify, Origin};
use crate::{Interest, Token};

/// The peer will send no more. Where it does not exist a half-close shows as `POLLIN` alone.
const POLLRDHUP: c_short = with_pollrdhup!({ libc::POLLRDHUP } else { 0 });

/// Reported whether asked for or not.
const UNMASKABLE: c_short = POLLERR | POLLHUP;

/// How long a wait may last while something has to be looked at: at first, and at most.
const TICKS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(64));

/// How long what a bare descriptor has told is believed to be unchanged while it looks so; and the most that this grows
/// to while it is only writable, as an idle one always is.
const PATIENCE: (Duration, Duration) = (Duration::from_millis(128), Duration::from_millis(1024));

/// Where in the table the descriptor stands that interrupts a wait.
const NOTIFY: usize = 0;

/// The time of birth of no entry: the clock has struck before the first.
const NOBODY: u64 = 0;

fn mask(interest: Interest) -> io::Result<c_short> {
    if interest.is_aio() || interest.is_lio() {
        return Err(unsupported());
    }
    let mut mask = 0;
    if interest.is_readable() {
        mask |= POLLIN | POLLRDHUP;
    }
    if interest.is_writable() {
        mask |= POLLOUT;
    }
    if interest.is_priority() {
        mask |= POLLPRI;
    }
    Ok(mask)
}

/// poll(2), with nanoseconds where the system has ppoll(2). Returns how many entries are ready.
fn poll(fds: &mut [pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let result = with_ppoll!({
        let timeout = timeout.map(call::timespec);
        let timeout = timeout.as_ref().map_or(std::ptr::null(), |timeout| timeout as *const _);
        // SAFETY: the kernel reads and writes `len` records; `timeout` is null or points to a value that outlives the
        // call; a null signal mask changes none.
        call::check(unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as _, timeout, std::ptr::null()) })
    } else {
        let timeout = timeout.map_or(-1, call::whole_milliseconds);
        // SAFETY: the kernel reads and writes `len` records.
        call::check(unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as _, timeout) })
    });
    match result {
        Ok(n) => Ok(n as usize),
        // Some systems say that a table was full for a moment.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
        Err(error) => Err(error),
    }
}

pub(crate) struct PollSet {
    shared: Arc<Shared>,
    /// What the kernel was shown last. Locked by the one waiter, throughout its wait, and by nobody else.
    shown: Mutex<Vec<pollfd>>,
}

struct Shared {
    table: Mutex<Table>,
    notify: Notify,
}

/// Registrations at stable indices, each twice: as the kernel is to see it, and what else is known of it.
struct Table {
    fds: Vec<pollfd>,
    entries: Vec<Entry>,
    by_fd: HashMap<RawFd, usize>,
    vacant: Vec<usize>,
    /// Counts changes; tells what is newer than what the kernel was shown.
    clock: u64,
    /// How many entries have to be looked at.
    looks: usize,
    looked: Vec<pollfd>,
    wakes: VecDeque<Waker>,
    /// Where the next round of reports begins, so that no entry waits for ever for room among the events.
    cursor: usize,
    /// Somebody is inside poll(2), and whether it has been told to come out.
    waiting: bool,
    notified: bool,
    last_waker: u64,
}

struct Entry {
    /// -1 in a vacant entry.
    fd: RawFd,
    token: Token,
    wanted: c_short,
    told: c_short,
    /// What operations would have re-armed while the entry was shown to nobody.
    touched: c_short,
    /// What is kept of a descriptor whose operations cannot be seen.
    bare: Option<Bare>,
    /// When it was registered, which names it ([`NOBODY`] if vacant), and when it last became something else.
    born: u64,
    changed: u64,
}

struct Bare {
    /// To know when the number has become another's; `None` if that cannot be known.
    identity: Option<Identity>,
    /// How many bytes were unread when it was last reported, and when that is to be repeated.
    unread: Option<i32>,
    again: Instant,
    patience: Duration,
}

impl Bare {
    fn new(identity: Option<Identity>) -> Bare {
        Bare { identity, unread: None, again: Instant::now(), patience: PATIENCE.0 }
    }

    /// It has just been reported.
    fn told(&mut self, fd: RawFd) {
        self.unread = file::unread(fd);
        self.again = Instant::now() + self.patience;
    }

    /// Which of the bits that are told and still true to tell again.
    fn retell(&mut self, fd: RawFd, told: c_short) -> c_short {
        if told & POLLIN != 0 && file::unread(fd) != self.unread {
            self.patience = PATIENCE.0;
            return POLLIN;
        }
        if Instant::now() < self.again {
            return 0;
        }
        self.patience = if told == POLLOUT { PATIENCE.1.min(self.patience * 2) } else { PATIENCE.0 };
        told
    }
}

impl Entry {
    fn is_stuck(&self) -> bool {
        self.told & UNMASKABLE != 0
    }

    fn is_looked_at(&self) -> bool {
        self.fd >= 0 && (self.is_stuck() || (self.bare.is_some() && self.told != 0))
    }

    fn as_shown(&self) -> pollfd {
        // poll(2) passes over negative descriptors.
        let fd = if self.is_stuck() { -1 } else { self.fd };
        pollfd { fd, events: self.wanted & !self.told, revents: 0 }
    }

    /// Whether the number still stands for what was registered. Closing a descriptor ends its registration.
    fn is_current(&self) -> bool {
        match &self.bare {
            Some(Bare { identity: Some(identity), .. }) => file::identify(self.fd).is_ok_and(|now| now == Some(*identity)),
            _ => true,
        }
    }
}

impl Table {
    fn new(notify: RawFd) -> Table {
        let mut table = Table {
            fds: Vec::new(),
            entries: Vec::new(),
            by_fd: HashMap::new(),
            vacant: Vec::new(),
            clock: 0,
            looks: 0,
            looked: Vec::new(),
            wakes: VecDeque::new(),
            cursor: 0,
            waiting: false,
            notified: false,
            last_waker: 0,
        };
        let index = table.insert(notify, Token(0), POLLIN, None);
        debug_assert_eq!(index, NOTIFY);
        table
    }

    fn insert(&mut self, fd: RawFd, token: Token, wanted: c_short, bare: Option<Bare>) -> usize {
        self.clock += 1;
        let entry = Entry {
            fd,
            token,
            wanted,
            told: 0,
            touched: 0,
            bare,
            born: self.clock,
            changed: self.clock,
        };
        let shown = entry.as_shown();
        let index = match self.vacant.pop() {
            Some(index) => {
                self.entries[index] = entry;
                self.fds[index] = shown;
                index
            }
            None => {
                self.entries.push(entry);
                self.fds.push(shown);
                self.entries.len() - 1
            }
        };
        self.by_fd.insert(fd, index);
        index
    }

    fn remove(&mut self, index: usize) {
        self.clock += 1;
        self.change(index, |entry| entry.told = 0);
        let entry = &mut self.entries[index];
        self.by_fd.remove(&entry.fd);
        (entry.fd, entry.changed, entry.born) = (-1, self.clock, NOBODY);
        self.fds[index] = entry.as_shown();
        self.vacant.push(index);
    }

    /// The one way to change what an entry wants or has told: keeps what depends on it.
    fn change(&mut self, index: usize, change: impl FnOnce(&mut Entry)) {
        let entry = &mut self.entries[index];
        self.looks -= usize::from(entry.is_looked_at());
        let was_stuck = entry.is_stuck();
        change(entry);
        if was_stuck && !entry.is_stuck() {
            entry.told &= !entry.touched;
            entry.touched = 0;
        }
        self.looks += usize::from(entry.is_looked_at());
        self.fds[index] = entry.as_shown();
    }

    fn index(&self, fd: RawFd) -> io::Result<usize> {
        self.by_fd.get(&fd).copied().filter(|&index| index != NOTIFY).ok_or_else(not_found)
    }

    /// An operation was done. True if the kernel has to be shown more than before.
    fn rearm(&mut self, index: usize, direction: Direction) -> bool {
        let entry = &self.entries[index];
        let bits = match direction {
            Direction::Read => POLLIN | POLLPRI,
            Direction::Write => POLLOUT,
            Direction::Either => POLLIN | POLLPRI | POLLOUT,
        };
        let ended = if entry.told & POLLRDHUP != 0 { POLLIN } else { 0 };
        let bits = bits & entry.told & !ended;
        if bits == 0 {
            return false;
        }
        if entry.is_stuck() {
            self.entries[index].touched |= bits;
            return false;
        }
        self.change(index, |entry| entry.told &= !bits);
        true
    }

    /// Looks at what cannot be waited for: reports what is new in it, and arms what is no longer true.
    fn look(&mut self, events: &mut Vec<PollEvent>) -> io::Result<()> {
        if self.looks == 0 {
            return Ok(());
        }
        let mut looked = std::mem::take(&mut self.looked);
        looked.clear();
        for entry in self.entries.iter().filter(|entry| entry.is_looked_at()) {
            looked.push(pollfd { fd: entry.fd, events: entry.wanted, revents: 0 });
        }
        let result = poll(&mut looked, Some(Duration::ZERO));
        if result.is_ok() {
            let mut seen = looked.iter();
            for index in 0..self.entries.len() {
                if self.entries[index].is_looked_at() {
                    let seen = seen.next().map_or(0, |seen| seen.revents);
                    self.saw(index, seen, events);
                }
            }
        }
        self.looked = looked;
        result.map(drop)
    }

    /// What a look at an entry has shown.
    fn saw(&mut self, index: usize, now: c_short, events: &mut Vec<PollEvent>) {
        self.change(index, |entry| {
            let Entry { fd, told, bare, .. } = entry;
            if let Some(bare) = bare.as_mut().filter(|_| *told & UNMASKABLE == 0) {
                if *told & !now != 0 {
                    bare.patience = PATIENCE.0;
                }
                *told &= now & !bare.retell(*fd, *told & now);
            }
            *told &= now;
        });
        let entry = &self.entries[index];
        // What is new in an entry that is not stuck the wait itself will tell.
        if now & POLLNVAL != 0 || (entry.is_stuck() && now & !entry.told != 0) {
            self.report(index, now, events);
        }
    }

    /// Reports what the kernel says of an entry, if there is room for it.
    fn report(&mut self, index: usize, revents: c_short, events: &mut Vec<PollEvent>) {
        if revents & POLLNVAL != 0 || !self.entries[index].is_current() {
            self.remove(index);
        } else if events.len() < events.capacity() {
            events.push(PollEvent { token: self.entries[index].token, revents });
            self.change(index, |entry| {
                entry.told |= revents & (entry.wanted | UNMASKABLE);
                if let Some(bare) = &mut entry.bare {
                    bare.told(entry.fd);
                }
            });
        }
    }

    /// Reports what the kernel said of what it was shown as of `clock`: `ready` entries.
    fn collect(&mut self, shown: &[pollfd], mut ready: usize, clock: u64, events: &mut Vec<PollEvent>) {
        let start = self.cursor.max(NOTIFY + 1);
        if self.cursor == NOTIFY {
            self.collect_wakes(events);
        }
        self.cursor = NOTIFY;
        for index in (start..shown.len()).chain(NOTIFY + 1..start.min(shown.len())) {
            if ready == 0 {
                break;
            }
            let revents = shown[index].revents;
            if revents == 0 {
                continue;
            }
            ready -= 1;
            if events.len() == events.capacity() {
                self.cursor = index;
                return;
            }
            if self.entries[index].changed <= clock {
                self.report(index, revents, events);
            }
        }
        self.collect_wakes(events);
    }

    fn collect_wakes(&mut self, events: &mut Vec<PollEvent>) {
        while events.len() < events.capacity() {
            let Some(waker) = self.wakes.pop_front() else {
                return;
            };
            events.push(PollEvent { token: waker.token, revents: POLLIN });
        }
    }
}

impl Shared {
    /// Changes the table; if `change` says so, the waiter is told.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> io::Result<(T, bool)>) -> io::Result<T> {
        let mut table = lock(&self.table);
        let (value, tell) = change(&mut table)?;
        if tell && table.waiting && !table.notified {
            self.notify.signal()?;
            table.notified = true;
        }
        Ok(value)
    }
}

impl PollSet {
    /// One wait. `clock` is that of the table which `shown` is a copy of.
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
        if std::mem::take(&mut table.notified) {
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
        let table = Mutex::new(Table::new(notify.as_raw_fd()));
        Ok(PollSet { shared: Arc::new(Shared { table, notify }), shown: Mutex::new(Vec::new()) })
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
        let wanted = mask(interest)?;
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let identity = if origin == Origin::Own { None } else { file::identify(fd)? };
        let bare = (origin == Origin::Bare).then(|| Bare::new(identity));
        self.shared.change(|table| {
            if let Some(&index) = table.by_fd.get(&fd) {
                let old = &table.entries[index];
                // A bare number may be stale, and if its file has no identity nobody can tell.
                let may_be_stale = matches!(&old.bare, Some(bare) if bare.identity.is_none());
                if !may_be_stale && old.is_current() {
                    return Err(already_exists());
                }
                table.remove(index);
            }
            let index = table.insert(fd, token, wanted, bare);
            let born = table.entries[index].born;
            Ok((Tie(Box::new(Tied { shared: Arc::clone(&self.shared), index, born })), true))
        })
    }

    fn reregister(&self, fd: RawFd, token: Token, interest: Interest) -> io::Result<()> {
        let wanted = mask(interest)?;
        self.shared.change(|table| {
            let index = table.index(fd)?;
            table.clock += 1;
            let clock = table.clock;
            table.change(index, |entry| {
                (entry.token, entry.wanted, entry.told, entry.touched, entry.changed) = (token, wanted, 0, 0, clock);
            });
            Ok(((), true))
        })
    }

    fn deregister(&self, fd: RawFd) -> io::Result<()> {
        self.shared.change(|table| {
            let index = table.index(fd)?;
            table.remove(index);
            Ok(((), true))
        })
    }

    fn add_waker(&self, token: Token) -> io::Result<Waker> {
        let mut table = lock(&self.shared.table);
        table.last_waker += 1;
        Ok(Waker { id: table.last_waker, token })
    }

    fn wake(&self, waker: &Waker) -> io::Result<()> {
        self.shared.change(|table| {
            table.wakes.push_back(*waker);
            Ok(((), true))
        })
    }

    fn remove_waker(&self, waker: &Waker) {
        lock(&self.shared.table).wakes.retain(|pending| pending.id != waker.id);
    }
}

#[derive(Copy, Clone, Debug)]
pub(crate) struct Waker {
    id: u64,
    token: Token,
}

/// Eight bytes, so that sockets stay small.
pub(crate) struct Tie(Box<Tied>);

struct Tied {
    shared: Arc<Shared>,
    index: usize,
    born: u64,
}

impl Tied {
    /// Changes the entry, if it is still the one that was registered.
    fn change(&self, change: impl FnOnce(&mut Table) -> bool) {
        // Telling the waiter fails only if its descriptor has been closed by somebody else.
        let _ = self.shared.change(|table| {
            let is_mine = self.born != NOBODY && table.entries[self.index].born == self.born;
            Ok(((), is_mine && change(table)))
        });
    }
}

impl super::Tie for Tie {
    fn rearm(&self, direction: Direction) {
        self.0.change(|table| table.rearm(self.0.index, direction));
    }

    fn release(mut self) {
        self.0.change(|table| {
            table.change(self.0.index, |entry| {
                let fd = entry.fd;
                entry.bare.get_or_insert_with(|| Bare::new(file::identify(fd).ok().flatten()));
            });
            false
        });
        self.0.born = NOBODY;
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

/// A token and what poll(2) returned for its descriptor.
#[derive(Copy, Clone)]
pub struct PollEvent {
    token: Token,
    revents: c_short,
}

impl Revents for PollEvent {
    const RDHUP: u32 = POLLRDHUP as u32;
    const NAME: &'static str = "pollfd";

    fn token(&self) -> Token {
        self.token
    }

    fn bits(&self) -> u32 {
        u32::from(self.revents as u16)
    }
}

impl fmt::Debug for PollEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.debug(f)
    }
}

impl fmt::Debug for PollSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PollSet").finish_non_exhaustive()
    }
}
