//! Holds back the exit of a child that cannot be reaped yet.
//!
//! An exiting process passes two states that its parent cannot distinguish by events: the kernel reports the exit, and later
//! waitpid(2) finds the child. In between, waitpid(2) with `WNOHANG` returns that the child runs, and no other event follows.
//! A program that then waits for the next event loses the exit. The kernels are:
//!
//! * Apple (kern_exit.c: `proc_exit`) and old NetBSD (kern_exit.c: `exit1`, before `reaper`) report the exit before the process
//!   is a zombie.
//! * FreeBSD reports the exit at once if the process was exiting during the registration (kern_event.c: `filt_procattach`,
//!   `P_WEXIT`). Observed on FreeBSD 13.2 with the test `reported_child_can_be_reaped_at_once`.
//! * Apple, NetBSD and OpenBSD reject the registration of such a process (`ESRCH`), for which the substitute fires at once.
//!   Observed on NetBSD 10.99 with the same test.
//!
//! Therefore each such event is checked with waitid(2) before the program receives it. The moment is short, so that the thread
//! yields for up to [`MAX_SPIN`]. If the child still cannot be reaped, the event is dropped, and the substitute reports the exit
//! after [`RETRY_DELAY`], when the child is checked again. Hence a poll never blocks for the child, and the exit is reported when
//! the child can be reaped, even if that takes long: a child with much memory exits slowly, and a traced child belongs to its
//! debugger until the debugger has waited for it.
//!
//! waitid(2) also returns the wait status, which the event then contains.

use std::collections::BTreeMap;
use std::os::fd::RawFd;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::sys::lock::lock_ignoring_poison;
use crate::sys::selector::{Change, EventRecord, Operation};
use crate::sys::unix::kevent::call::apply_to_own_queue;
use crate::sys::unix::kevent::record::Kevent;
use crate::sys::unix::kqueue::filters;
use crate::sys::unix::process::ChildState;
use crate::token::Token;

/// The longest time that one poll yields for all exits that it has received.
const MAX_SPIN: Duration = Duration::from_millis(1);

const RETRY_DELAY: Duration = Duration::from_millis(4);

/// The processes that are registered and not disabled, with their tokens.
#[derive(Debug, Default)]
pub(super) struct WatchedProcesses {
    tokens: Mutex<BTreeMap<libc::pid_t, Token>>,
}

impl WatchedProcesses {
    /// Records a change of the filter of a process, before the kernel applies the change.
    ///
    /// A concurrent poll may have received the exit, and may be about to add the substitute. The substitute of a recorded
    /// deregistration is not added, and an earlier one is deleted by the change.
    pub(super) fn record(&self, change: &Change) {
        let mut tokens = lock_ignoring_poison(&self.tokens);
        match change.operation {
            Operation::Register | Operation::Reregister if !change.interest.is_none() => {
                tokens.insert(change.fd, change.token);
            }
            _ => drop(tokens.remove(&change.fd)),
        }
    }

    /// Adds the wait status to each exit of a child, and drops the exits of children that cannot be reaped yet.
    pub(super) fn hold_unreapable(&self, kq: RawFd, events: &mut Vec<Kevent>) {
        let mut deadline = None;
        events.retain_mut(|event| {
            let Some(pid) = filters::exited_process(event) else {
                return true;
            };
            let deadline = *deadline.get_or_insert_with(|| Instant::now() + MAX_SPIN);
            match state_before(deadline, pid) {
                Some(ChildState::Running) => !self.is_held(kq, pid, event.token()),
                Some(ChildState::Exited(status)) => {
                    *event = filters::with_exit_status(event, pid, status);
                    true
                }
                Some(ChildState::NoChild) | None => true,
            }
        });
    }

    /// Adds the substitute that reports the exit later, unless the registration has changed since. Returns `false` if the kernel
    /// does not add the substitute.
    fn is_held(&self, kq: RawFd, pid: libc::pid_t, token: Token) -> bool {
        let tokens = lock_ignoring_poison(&self.tokens);
        if tokens.get(&pid) != Some(&token) {
            return true;
        }
        let mut retry = [filters::add_exited_process(pid as usize, token, RETRY_DELAY)];
        apply_to_own_queue(kq, &mut retry).is_ok_and(|receipts| receipts.iter().all(|receipt| receipt.errno() == 0))
    }
}

/// Returns the state of a process as soon as it is no running child, or else its state at the deadline. `None` if waitid(2) is
/// refused.
fn state_before(deadline: Instant, pid: libc::pid_t) -> Option<ChildState> {
    loop {
        let state = ChildState::of(pid).ok()?;
        if state != ChildState::Running || Instant::now() >= deadline {
            return Some(state);
        }
        thread::yield_now();
    }
}
