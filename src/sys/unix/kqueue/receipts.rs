//! From the receipts of a change to its result.
//!
//! Each kevent of a changelist has a receipt. The receipts decide three things, in this order:
//!
//! 1. Whether the descriptor was registered: [`check_registered`]. If not, the change is rolled back and fails.
//! 2. Whether every filter was added. If a filter was not added, a fallback adds a substitute. Each fallback is a function:
//!    * a process that has exited: `process_filter_receipts`;
//!    * a descriptor that can only be written, without an interest: `add_disabled_write`;
//!    * the write end of a pipe whose reader has left: `replace_write_filter`;
//!    * the write end of a pipe on systems that do not report that the reader leaves a full pipe: `add_pipe_end_beside`.
//! 3. The entry of the registration. If the change failed, the knotes of the entry before it are restored.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

use crate::interest::TriggerMode;
use crate::sys::error::{already_exists, not_found};
use crate::sys::selector::{Change, FilterSpec, Operation, SourceKind};
use crate::sys::unix::kevent::call::apply_to_own_queue;
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::kqueue::changelist::{is_unsupported, no_urgent_data, ChangeList, Receipts};
use crate::sys::unix::kqueue::filters;
use crate::sys::unix::kqueue::filters::{PIPE_END_BESIDE_WRITE, WRITE};
use crate::sys::unix::kqueue::registrations::{Entry, FdFilters, KnotesBefore, Table};
use crate::sys::unix::kqueue::KqueueSelector;

/// The result of a change: the entry of the registration, or `None` if the descriptor was deregistered.
pub(super) type Outcome = io::Result<Option<Entry>>;

fn os_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// Returns `Ok` if the descriptor was registered: one of the knotes that were changed or deleted existed.
///
/// Knotes may be absent although the registration exists: FreeBSD deletes the write filter of a pipe after its reader has
/// left (sys_pipe.c: `pipeclose` clears the list). Therefore absent knotes are no error if the source stores its registration,
/// or if the entry has no knotes any more.
fn check_registered(before: KnotesBefore, receipts: Receipts<'_>) -> io::Result<()> {
    let mut is_found = before.is_certain || receipts.probes().next().is_none();
    for receipt in receipts.probes() {
        match receipt.errno() {
            0 => is_found = true,
            libc::ENOENT => {}
            errno => return Err(os_error(errno)),
        }
    }
    is_found.then_some(()).ok_or_else(not_found)
}

impl KqueueSelector {
    /// Processes the receipts of a change of a descriptor, and stores the entry.
    pub(super) fn process_receipts(
        &self,
        change: &Change,
        before: KnotesBefore,
        receipts: Receipts<'_>,
        table: &mut Table,
    ) -> io::Result<()> {
        let old = table.get(change.fd).copied();
        let outcome = match (check_registered(before, receipts), change.operation) {
            (Ok(()), Operation::Deregister) => Ok(None),
            (Ok(()), _) => self.process_add_receipts(change, old, receipts),
            (Err(error), operation) => {
                // The descriptor was closed, and its number may stand for another open file now.
                if operation != Operation::Deregister {
                    self.submit_ignoring_errors(&mut ChangeList::for_roll_back(change, None));
                }
                table.remove(change.fd);
                return Err(error);
            }
        };
        match outcome {
            Ok(Some(entry)) => {
                // Only a plain registration has a source and no entry.
                let was_plain = old.is_none() && change.operation == Operation::Reregister && before.is_certain;
                table.set(change.fd, entry, if was_plain { SourceKind::Builtin } else { change.kind });
            }
            Ok(None) => table.remove(change.fd),
            Err(error) => {
                // Restore the knotes before the change. Before a registration there are none.
                self.submit_ignoring_errors(&mut ChangeList::for_roll_back(change, old));
                return Err(error);
            }
        }
        Ok(())
    }

    fn submit_ignoring_errors(&self, list: &mut ChangeList) {
        // Each filter may be absent, and no caller could handle another error.
        let _ = list.submit(self.fd());
    }

    /// Processes the receipts of a change of a timer, process, signal or file.
    ///
    /// macOS, NetBSD and OpenBSD cannot add the filter of a process that has exited (`ESRCH`). A timer that fires at once is the
    /// substitute. macOS provides the status of the exit only to a process that may send signals to the other one (`EACCES`).
    pub(super) fn process_filter_receipts(
        &self,
        change: &Change,
        filter: FilterSpec,
        receipts: Receipts<'_>,
    ) -> io::Result<()> {
        check_registered(KnotesBefore::without_entry(change), receipts)?;
        let Some((_, errno)) = receipts.failed_add() else {
            return Ok(());
        };
        let pid = change.fd as usize;
        let substitute = match (filter, errno) {
            (FilterSpec::Process, libc::ESRCH) => filters::add_exited_process(pid, change.token, Duration::ZERO),
            (FilterSpec::Process, libc::EACCES) if cfg!(has_note_exitstatus) => {
                filters::add_process_without_status(pid, change.token)
            }
            _ => return Err(os_error(errno)),
        };
        match self.add_one(substitute)? {
            0 => Ok(()),
            _ => Err(os_error(errno)),
        }
    }

    /// Adds one knote, and returns the error number of its receipt.
    fn add_one(&self, add: Kevent) -> io::Result<i32> {
        Ok(apply_to_own_queue(self.fd(), &mut [add])?.first().map_or(0, Kevent::errno))
    }

    /// Applies the fallbacks, and returns the entry of the registration.
    fn process_add_receipts(&self, change: &Change, old: Option<Entry>, receipts: Receipts<'_>) -> Outcome {
        let mode = change.interest.mode();
        let mut failed = receipts.failed_add();
        if let Some(filter) = receipts.missing() {
            // Another knote shows that the descriptor is registered. Therefore the absent knote is added.
            let errno = self.add_one(filters::add(change.fd as usize, filter, 0, change.token, mode))?;
            failed = failed.or(Some((filter, errno)).filter(|_| errno != 0));
        }
        let mut entry = Entry::for_change(change, FdFilters::of_interest(change.interest));
        entry.is_borrowed |= old.is_some_and(|old| old.is_borrowed && change.operation == Operation::Reregister);
        match failed {
            None if PIPE_END_BESIDE_WRITE && change.has_write_end() => self.add_pipe_end_beside(change, entry),
            None => Ok(Some(entry)),
            Some((_, libc::EINVAL)) if mode == TriggerMode::Disabled => self.add_disabled_write(change, entry),
            Some((WRITE, errno @ (libc::EPIPE | libc::EBADF))) => self.replace_write_filter(change, entry, errno),
            Some((filter, errno)) if is_unsupported(filter, errno) => Err(no_urgent_data()),
            Some((_, errno)) => Err(os_error(errno)),
        }
    }

    /// Adds a disabled write filter to a descriptor that can only be written, and so has no read filter (`EINVAL`).
    fn add_disabled_write(&self, change: &Change, mut entry: Entry) -> Outcome {
        match self.add_one(filters::add(change.fd as usize, WRITE, 0, change.token, TriggerMode::Disabled))? {
            0 => entry.filters = FdFilters::WRITE,
            errno => return Err(os_error(errno)),
        }
        Ok(Some(entry))
    }

    /// Adds the read filter in place of the write filter of a pipe whose reader has left.
    ///
    /// Adding that write filter fails with `EPIPE` on FreeBSD, DragonFly, and older macOS and OpenBSD, and with `EBADF` on
    /// NetBSD. The read filter can be added, and fires at once, because its direction has ended too. If the descriptor is closed,
    /// this fallback fails as well.
    fn replace_write_filter(&self, change: &Change, mut entry: Entry, errno: i32) -> Outcome {
        let mut kevents = filters::replace_for_broken_pipe(change.fd as usize, change.token);
        if apply_to_own_queue(self.fd(), &mut kevents)?.get(1).map_or(0, Kevent::errno) != 0 {
            return Err(os_error(errno));
        }
        entry.filters = entry.filters.without(FdFilters::WRITE).union(FdFilters::READ);
        entry.has_pipe_end = true;
        Ok(Some(entry))
    }

    /// Adds the read filter beside the write filter of a pipe, to report that the reader leaves.
    ///
    /// NetBSD and OpenBSD evaluate the knotes of the writer before `PIPE_EOF` is set, and drop the list afterwards (sys_pipe.c:
    /// `pipeclose`). Therefore the write filter of a full pipe never fires. The read filter of the write end fires.
    fn add_pipe_end_beside(&self, change: &Change, mut entry: Entry) -> Outcome {
        let mut kevents = filters::replace_for_broken_pipe(change.fd as usize, change.token);
        if apply_to_own_queue(self.fd(), &mut kevents)?.get(1).map_or(0, Kevent::errno) == 0 {
            entry.filters = entry.filters.union(FdFilters::READ);
            entry.has_pipe_end = true;
        }
        Ok(Some(entry))
    }

    /// Adds the filter for urgent data to a plain registration, in a call of its own before the other kevents.
    ///
    /// Some descriptors cannot have that filter. Only the kernel has the token of a plain registration, so that the token
    /// could not be restored if a later kevent failed.
    pub(super) fn add_except_first(&self, change: &Change) -> io::Result<()> {
        for (filter, note) in FdFilters::EXCEPT.iter() {
            let add = filters::add(change.fd as usize, filter, note, change.token, change.interest.mode());
            match self.add_one(add)? {
                0 => {}
                errno if is_unsupported(filter, errno) => return Err(no_urgent_data()),
                errno => return Err(os_error(errno)),
            }
        }
        Ok(())
    }

    /// Rejects the registration of a descriptor that another source has borrowed and registered.
    pub(super) fn check_not_borrowed(&self, change: &Change, table: &mut Table) -> io::Result<()> {
        let Some(entry) = table.get(change.fd).filter(|entry| entry.is_borrowed).copied() else {
            return Ok(());
        };
        if self.exists(change.fd, &entry) {
            return Err(already_exists());
        }
        table.remove(change.fd);
        Ok(())
    }

    /// Returns `true` if the kernel has a knote of the entry. The descriptor may have been closed.
    fn exists(&self, fd: RawFd, entry: &Entry) -> bool {
        let probe = |(filter, note)| filters::probe(fd as usize, filter, note, entry.token);
        let mut probes = entry.filters.iter().map(probe);
        let errno_of = |probe| self.add_one(probe).unwrap_or(libc::ENOENT);
        entry.filters.is_empty() || probes.any(|probe| errno_of(probe) == 0)
    }
}
