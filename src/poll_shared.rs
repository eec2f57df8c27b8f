use crate::sys::error;
use std::collections::HashSet;
use std::io;
use std::mem::{discriminant, Discriminant};
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, PoisonError};

use crate::poll_id::live;
use crate::sys;
use crate::sys::fork;
use crate::sys::selector::{Engine, Filter};
use crate::sys::timer::Deadlines;
use crate::wake_flags::Wakers;

/// What a `Poll`, its registries and its wakers have in common.
pub(crate) struct Shared {
    id: u32,
    /// The generation of the process that made the poll (`sys::fork`).
    generation: u32,
    selector: sys::ActiveSelector,
    wakers: Wakers,
    deadlines: Deadlines,
    filters: Filters,
}

impl Shared {
    pub(crate) fn new() -> io::Result<Arc<Shared>> {
        let selector = sys::ActiveSelector::new()?;
        let shared = Arc::new(Shared {
            id: live::number(),
            generation: fork::generation(),
            selector,
            wakers: Wakers::default(),
            deadlines: Deadlines::default(),
            filters: Filters::default(),
        });
        live::enter(&shared);
        Ok(shared)
    }

    #[inline]
    pub(crate) fn id(&self) -> u32 {
        self.id
    }

    /// Fails in a forked child of the process that made the poll. There the kernel's queue is the parent's, and a thread
    /// of the parent may hold a lock.
    #[inline]
    pub(crate) fn check_process(&self) -> io::Result<()> {
        if !fork::is_current(self.generation) {
            return Err(error::inherited());
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn selector(&self) -> &sys::ActiveSelector {
        &self.selector
    }

    #[inline]
    pub(crate) fn wakers(&self) -> &Wakers {
        &self.wakers
    }

    #[inline]
    pub(crate) fn deadlines(&self) -> &Deadlines {
        &self.deadlines
    }

    pub(crate) fn filters(&self) -> &Filters {
        &self.filters
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // In a forked child the list begins empty, and a later poll of the child may have this number.
        if self.check_process().is_ok() {
            live::leave(self.id);
        }
    }
}

/// The filters of one poll that two sources would have in common: a process, a signal or a file is one filter of a kqueue.
#[derive(Debug, Default)]
pub(crate) struct Filters(Mutex<HashSet<Name>>);

/// What identifies a filter of a kqueue: whatever else it is told, it is the same.
type Name = (RawFd, Discriminant<Filter>);

impl Filters {
    fn with<T>(&self, f: impl FnOnce(&mut HashSet<Name>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn take(&self, ident: RawFd, filter: Filter) -> io::Result<()> {
        if filter.is_shared() && !self.with(|filters| filters.insert((ident, discriminant(&filter)))) {
            return Err(error::already_exists());
        }
        Ok(())
    }

    pub(crate) fn give_back(&self, ident: RawFd, filter: Filter) {
        if filter.is_shared() {
            self.with(|filters| filters.remove(&(ident, discriminant(&filter))));
        }
    }
}
