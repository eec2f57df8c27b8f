//! From the receipts of a change to its result.

use std::io;

use crate::interest::TriggerMode;
use crate::sys::error::{already_exists, not_found, unsupported};
use crate::sys::selector::{Change, FilterSpec, Operation, SourceKind};
use crate::sys::unix::kevent::call::apply_with_receipts;
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::kqueue::changelist::{is_unsupported, ChangeList, Receipts};
use crate::sys::unix::kqueue::filters;
use crate::sys::unix::kqueue::filters::WRITE;
use crate::sys::unix::kqueue::registrations::{Before, Entry, Filters, Table};
use crate::sys::unix::kqueue::{KqueueSelector, PIPE_END_BESIDE_WRITE};

/// What a change has come to: the entry of the registration, if there still is one.
pub(super) type Outcome = io::Result<Option<Entry>>;

fn os_error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// Whether the descriptor was registered: one of the knotes that were changed or deleted existed.
///
/// Knotes may be gone although the registration is not: FreeBSD deletes the write filter of a pipe once its reader has left
/// (sys_pipe.c: `pipeclose` clears the list). So a source that knows that it is registered is believed, and so is an entry
/// whose knotes were seen to go.
fn check_registered(before: Before, receipts: Receipts<'_>) -> io::Result<()> {
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
    /// Processes the receipts of a change of a descriptor, makes what is left of it, and keeps the entry.
    pub(super) fn finish(
        &self,
        change: &Change,
        before: Before,
        receipts: Receipts<'_>,
        table: &mut Table,
    ) -> io::Result<()> {
        let old = table.get(change.fd).copied();
        let outcome = match (check_registered(before, receipts), change.operation) {
            (Ok(()), Operation::Deregister) => Ok(None),
            (Ok(()), _) => self.finish_adds(change, old, receipts),
            (Err(error), operation) => {
                // A number that was closed, perhaps while an entry stood for it, and may be another descriptor's now.
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
                // Roll back: what was there before stays, and after a failed registration nothing is registered.
                self.submit_ignoring_errors(&mut ChangeList::for_roll_back(change, old));
                return Err(error);
            }
        }
        Ok(())
    }

    fn submit_ignoring_errors(&self, list: &mut ChangeList) {
        // Each filter may be absent, and there is no caller for other errors.
        let _ = list.submit(self.fd());
    }

    /// Processes the receipts of a change of what is not a descriptor.
    pub(super) fn finish_filter(&self, change: &Change, filter: FilterSpec, receipts: Receipts<'_>) -> io::Result<()> {
        check_registered(Before::without_entry(change), receipts)?;
        let Some((_, errno)) = receipts.failed_add() else {
            return Ok(());
        };
        let is_exited = filter == FilterSpec::Process && errno == libc::ESRCH;
        if is_exited && self.add_one(filters::add_exited_process(change.fd as usize, change.token))? == 0 {
            return Ok(());
        }
        Err(os_error(errno))
    }

    /// Adds one knote, and returns the error number of its receipt.
    fn add_one(&self, add: Kevent) -> io::Result<i32> {
        Ok(apply_with_receipts(self.fd(), &mut [add])?.first().map_or(0, Kevent::errno))
    }

    fn finish_adds(&self, change: &Change, old: Option<Entry>, receipts: Receipts<'_>) -> Outcome {
        let mode = change.interest.mode();
        let mut failed = receipts.failed_add();
        if let Some(filter) = receipts.missing() {
            // Another filter of the descriptor exists, so that the registration does.
            let errno = self.add_one(filters::add(change.fd as usize, filter, 0, change.token, mode))?;
            failed = failed.or(Some((filter, errno)).filter(|_| errno != 0));
        }
        let wanted = Filters::of_interest(change.interest);
        let mut entry = Entry::of(change, wanted);
        entry.is_borrowed |= old.is_some_and(|old| old.is_borrowed && change.operation == Operation::Reregister);
        match failed {
            None if PIPE_END_BESIDE_WRITE && change.has_write_end() => self.add_pipe_end_beside(change, entry),
            None => Ok(Some(entry)),
            Some((_, libc::EINVAL)) if mode == TriggerMode::Disabled => self.add_disabled_write(change, entry),
            Some((WRITE, errno @ (libc::EPIPE | libc::EBADF))) => self.replace_write_filter(change, entry, errno),
            Some((filter, errno)) if is_unsupported(filter, errno) => Err(unsupported()),
            Some((_, errno)) => Err(os_error(errno)),
        }
    }

    /// A descriptor that can only be written keeps its disabled registration by the write filter.
    fn add_disabled_write(&self, change: &Change, mut entry: Entry) -> Outcome {
        match self.add_one(filters::add(change.fd as usize, WRITE, 0, change.token, TriggerMode::Disabled))? {
            0 => entry.filters = Filters::WRITE,
            errno => return Err(os_error(errno)),
        }
        Ok(Some(entry))
    }

    /// Adds the read filter in place of the write filter of a pipe whose reader has left.
    ///
    /// That write filter cannot be added: EPIPE on FreeBSD, DragonFly and older macOS and OpenBSD, EBADF on NetBSD. The read
    /// filter can, and fires at once, because it is at its end too. If the descriptor is really closed, this fails as well.
    fn replace_write_filter(&self, change: &Change, mut entry: Entry, errno: i32) -> Outcome {
        let mut kevents = filters::replace_for_broken_pipe(change.fd as usize, change.token);
        if apply_with_receipts(self.fd(), &mut kevents)?.get(1).map_or(0, Kevent::errno) != 0 {
            return Err(os_error(errno));
        }
        entry.filters = entry.filters.without(Filters::WRITE).union(Filters::READ);
        entry.has_pipe_end = true;
        Ok(Some(entry))
    }

    /// Adds the read filter beside the write filter of a pipe, for the end of its reader.
    ///
    /// NetBSD and OpenBSD run the knotes of the writer before `PIPE_EOF` is set and drop the list afterwards (sys_pipe.c:
    /// `pipeclose`), so that the write filter of a full pipe never fires. The read filter of the write end does.
    fn add_pipe_end_beside(&self, change: &Change, mut entry: Entry) -> Outcome {
        let mut kevents = filters::replace_for_broken_pipe(change.fd as usize, change.token);
        if apply_with_receipts(self.fd(), &mut kevents)?.get(1).map_or(0, Kevent::errno) == 0 {
            entry.filters = entry.filters.union(Filters::READ);
            entry.has_pipe_end = true;
        }
        Ok(Some(entry))
    }

    /// Adds the filter for urgent data to a plain registration, alone and before everything else.
    ///
    /// Not every descriptor has that filter. The token of a plain registration stands in the kernel only, so it could not be
    /// restored after a failure.
    pub(super) fn add_except_first(&self, change: &Change) -> io::Result<()> {
        for (filter, note) in Filters::EXCEPT.iter() {
            let add = filters::add(change.fd as usize, filter, note, change.token, change.interest.mode());
            match self.add_one(add)? {
                0 => {}
                errno if is_unsupported(filter, errno) => return Err(unsupported()),
                errno => return Err(os_error(errno)),
            }
        }
        Ok(())
    }

    /// Refuses a change of a registration that belongs to another source, which borrows the same descriptor.
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

    /// Whether the kernel has a knote of the entry. It may have closed the descriptor.
    fn exists(&self, fd: i32, entry: &Entry) -> bool {
        let probe = |(filter, note)| filters::probe(fd as usize, filter, note, entry.token);
        let mut probes = entry.filters.iter().map(probe);
        let errno_of = |probe| self.add_one(probe).unwrap_or(libc::ENOENT);
        entry.filters.is_empty() || probes.any(|probe| errno_of(probe) == 0)
    }
}
