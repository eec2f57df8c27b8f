//! The primary backend: kqueue(2).
//!
//! One filter for each direction, both in one call; the token in `udata`; edges by `EV_CLEAR`. The kernel keeps score
//! per filter and never objects to adding one twice, so `AlreadyExists` for a bare descriptor is not to be had here.
//! See <https://man.freebsd.org/kqueue/2>.

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

mod kevent;

use self::kevent::{Filter, Kevent, CLOSE_FORGETS, EXCEPT, READ, USER, WRITE};
use super::self_pipe::SelfPipe;
use super::{not_found, unsupported, Backend, Engine, Origin};
use crate::{Interest, Token};

#[derive(Debug)]
pub(crate) struct Kqueue {
    kq: ManuallyDrop<OwnedFd>,
    /// Who made the queue: a forked child does not inherit it, and in it the number may be somebody else's.
    pid: u32,
    /// The idents of user events are a name space of each queue.
    next_waker: AtomicUsize,
}

/// Every filter that a descriptor can be registered with.
fn filters() -> impl Iterator<Item = Filter> {
    [READ, WRITE].into_iter().chain(EXCEPT.map(|(filter, _)| filter))
}

/// A list of changes on the stack: each filter deleted and added again is the longest.
struct Changes {
    list: [Kevent; 6],
    len: usize,
}

impl Changes {
    fn new() -> Changes {
        // No filler is ever submitted; it has to be some record.
        Changes { list: [Kevent::delete(0, READ); 6], len: 0 }
    }

    fn push(&mut self, change: Kevent) {
        self.list[self.len] = change;
        self.len += 1;
    }

    fn delete_all(&mut self, fd: RawFd) {
        for filter in filters() {
            self.push(Kevent::delete(fd as usize, filter));
        }
    }

    fn add(&mut self, fd: RawFd, token: Token, interest: Interest) {
        // The write filter first: libkqueue forgets what it needs to see a half-close when that comes second.
        if interest.is_writable() {
            self.push(Kevent::add(fd as usize, WRITE, 0, token));
        }
        if interest.is_readable() {
            self.push(Kevent::add(fd as usize, READ, 0, token));
        }
        if let (true, Some((filter, note))) = (interest.is_priority(), EXCEPT) {
            self.push(Kevent::add(fd as usize, filter, note, token));
        }
    }

    fn submit(&mut self, kq: RawFd) -> io::Result<&[Kevent]> {
        kevent::submit(kq, &mut self.list[..self.len])
    }
}

/// Judges the receipts of deleting every filter of a descriptor: was it registered?
///
/// A source that is not bare knows that it was. Its filters may be gone all the same: FreeBSD deletes the write filter
/// of a pipe once it has told that the reader is gone (sys_pipe.c: `pipeclose` clears the list).
fn check_deleted(receipts: &[Kevent], origin: Origin) -> io::Result<()> {
    let mut found = origin != Origin::Bare || receipts.is_empty();
    for receipt in receipts {
        match receipt.errno() {
            0 => found = true,
            libc::ENOENT => {}
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
    found.then_some(()).ok_or_else(not_found)
}

impl Kqueue {
    fn raw(&self) -> RawFd {
        self.kq.as_raw_fd()
    }

    /// Whether this is the process that made the queue. In a forked child the number may be another's by now.
    fn is_ours(&self) -> bool {
        std::process::id() == self.pid
    }

    fn check(&self, fd: RawFd, interest: Interest) -> io::Result<()> {
        // An ident is unsigned: -1 would be a descriptor of its own.
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        if fd == self.raw() {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        if interest.is_aio() || interest.is_lio() || (interest.is_priority() && EXCEPT.is_none()) {
            return Err(unsupported());
        }
        Ok(())
    }

    /// Looks at the receipts of the added filters, and takes all of them back if one failed.
    fn arm(&self, fd: RawFd, token: Token, receipts: &[Kevent]) -> io::Result<()> {
        let Some(errno) = receipts.iter().map(Kevent::errno).find(|&errno| errno != 0) else {
            return Ok(());
        };
        // The write filter of a pipe whose reader has gone cannot be added: EPIPE on FreeBSD, DragonFly and older
        // macOS and OpenBSD, EBADF on NetBSD. The read filter can, and fires at once, for it is at its end too. If the
        // descriptor is really closed this fails as well.
        if matches!(errno, libc::EPIPE | libc::EBADF) {
            let ident = fd as usize;
            let mut changes = [Kevent::delete(ident, READ), Kevent::add_for_broken_pipe(ident, token)];
            if kevent::submit(self.raw(), &mut changes)?.get(1).map_or(0, Kevent::errno) == 0 {
                return Ok(());
            }
        }
        self.forget(fd);
        Err(io::Error::from_raw_os_error(errno))
    }

    fn forget(&self, fd: RawFd) {
        let mut changes = Changes::new();
        changes.delete_all(fd);
        // Each may be absent, and there is nobody to tell of anything else.
        let _ = changes.submit(self.raw());
    }
}

impl Engine for Kqueue {
    const BACKEND: Backend = Backend::Kqueue;

    type Event = Kevent;
    type Tie = ();
    type Waker = Waker;

    fn new() -> io::Result<Kqueue> {
        Ok(Kqueue {
            kq: ManuallyDrop::new(kevent::kqueue()?),
            pid: std::process::id(),
            next_waker: AtomicUsize::new(0),
        })
    }

    fn select(&self, events: &mut Vec<Kevent>, timeout: Option<Duration>) -> io::Result<()> {
        kevent::wait(self.raw(), events, timeout)
    }

    fn register(&self, fd: RawFd, token: Token, interest: Interest, origin: Origin) -> io::Result<()> {
        self.check(fd, interest)?;
        if origin != Origin::Own {
            super::file::refuse(fd)?;
        }
        let mut changes = Changes::new();
        if !CLOSE_FORGETS {
            changes.delete_all(fd);
        }
        let deleted = changes.len;
        changes.add(fd, token, interest);
        let receipts = changes.submit(self.raw())?;
        self.arm(fd, token, receipts.get(deleted..).unwrap_or(&[]))
    }

    /// Deletes and adds: adding a filter that exists would keep its mode, and whether there was one to delete tells
    /// whether the descriptor was registered. A condition that holds is reported again.
    fn reregister(&self, fd: RawFd, token: Token, interest: Interest, origin: Origin) -> io::Result<()> {
        self.check(fd, interest)?;
        let mut changes = Changes::new();
        changes.delete_all(fd);
        let deleted = changes.len;
        changes.add(fd, token, interest);
        let receipts = changes.submit(self.raw())?;
        let (deletes, adds) = receipts.split_at(deleted.min(receipts.len()));
        match check_deleted(deletes, origin) {
            Ok(()) => self.arm(fd, token, adds),
            Err(error) => {
                self.forget(fd);
                Err(error)
            }
        }
    }

    fn deregister(&self, fd: RawFd, origin: Origin) -> io::Result<()> {
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(libc::EBADF));
        }
        let mut changes = Changes::new();
        changes.delete_all(fd);
        check_deleted(changes.submit(self.raw())?, origin)
    }

    fn add_waker(&self, token: Token) -> io::Result<Waker> {
        let ident = self.next_waker.fetch_add(1, Ordering::Relaxed);
        let mut add = [Kevent::add(ident, USER, 0, token)];
        if kevent::submit(self.raw(), &mut add)?.first().map_or(0, Kevent::errno) == 0 {
            return Ok(Waker::User { ident, token });
        }
        // NetBSD before 10 and OpenBSD before 7.8 do not know the filter (EINVAL), and OpenBSD has 1 024 of them for
        // each process (ENOMEM).
        let pipe = SelfPipe::new()?;
        self.register(pipe.as_raw_fd(), token, Interest::READABLE, Origin::Own)?;
        Ok(Waker::Pipe(pipe))
    }

    fn wake(&self, waker: &Waker) -> io::Result<()> {
        match waker {
            Waker::User { ident, token } => kevent::submit_one(self.raw(), &Kevent::trigger(*ident, *token)),
            Waker::Pipe(pipe) => pipe.signal(),
        }
    }

    fn remove_waker(&self, waker: &Waker) {
        // A pipe's closing is enough.
        if let (Waker::User { ident, .. }, true) = (waker, self.is_ours()) {
            let _ = kevent::submit(self.raw(), &mut [Kevent::delete(*ident, USER)]);
        }
    }
}

/// A user event where the kernel has them; it costs no descriptor and cannot overflow. Else a pipe.
#[derive(Debug)]
pub(crate) enum Waker {
    User { ident: usize, token: Token },
    Pipe(SelfPipe),
}

impl AsFd for Kqueue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.kq.as_fd()
    }
}

impl Drop for Kqueue {
    fn drop(&mut self) {
        if self.is_ours() {
            // SAFETY: dropped here, once, and not used after.
            unsafe { ManuallyDrop::drop(&mut self.kq) };
        }
    }
}
