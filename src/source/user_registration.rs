//! The registration of a source whose events are made in user space.
//!
//! A signal handler or a queue of the crate wakes the node of the registration. The polling thread then makes an event, if the
//! source has something to report. So a source needs no descriptor of its own, and a one-shot registration is never disarmed by
//! a wake without a meaning.

use std::io;
use std::panic::RefUnwindSafe;
use std::sync::{Arc, Mutex};

use crate::interest::{Interest, TriggerMode};
use crate::poll_id::PollId;
use crate::poll_shared::PollShared;
use crate::registry::Registry;
use crate::sys::lock::lock_ignoring_poison;
use crate::sys::notify::Notify;
use crate::sys::selector::Selector;
use crate::token::Token;
use crate::wake_state::{UserSource, WakerNode};

/// The state of a source, which decides whether a wake becomes an event.
pub(crate) trait Reports: Send + Sync + RefUnwindSafe + 'static {
    /// Returns `true` if something has happened that no event reports yet. Called by the polling thread.
    fn has_report(&self) -> bool;

    /// Reports again what the source has not returned yet. Returns `false` if there is nothing to report.
    fn rearm(&self) -> bool;
}

/// A registration with one poll. The registration ends when this value is dropped.
pub(crate) struct UserRegistration {
    shared: Arc<PollShared>,
    node: WakerNode,
    gate: Arc<Gate>,
}

/// The token and the trigger mode of a registration, with the state of its source.
struct Gate {
    armed: Mutex<(Token, TriggerMode)>,
    source: Arc<dyn Reports>,
}

impl UserSource for Gate {
    fn take_event(&self) -> Option<Token> {
        // Under the lock, a reregistration comes before or after the event.
        let mut armed = lock_ignoring_poison(&self.armed);
        let (token, mode) = *armed;
        if mode == TriggerMode::Disabled || !self.source.has_report() {
            return None;
        }
        if mode == TriggerMode::OneShot {
            armed.1 = TriggerMode::Disabled;
        }
        Some(token)
    }
}

impl UserRegistration {
    /// Registers a source. Fails if the poll has no notifier yet, and no descriptor is left for it.
    pub(crate) fn new(
        registry: &Registry,
        token: Token,
        interest: Interest,
        source: Arc<dyn Reports>,
    ) -> io::Result<Arc<UserRegistration>> {
        registry.check_process()?;
        let shared = Arc::clone(registry.shared());
        shared.selector().create_notifier()?;
        registry.count_registration();
        shared.add_user_source();
        let gate = Arc::new(Gate { armed: Mutex::new((token, interest.mode())), source });
        let node = WakerNode::of_source(Arc::clone(&gate) as Arc<dyn UserSource>);
        Ok(Arc::new(UserRegistration { shared, node, gate }))
    }

    pub(crate) fn poll_id(&self) -> PollId {
        self.shared.id()
    }

    /// Replaces the token and the trigger mode, and wakes the poll if the source has something to report again.
    pub(crate) fn rearm(&self, token: Token, interest: Interest) -> io::Result<()> {
        let has_report = {
            let mut armed = lock_ignoring_poison(&self.gate.armed);
            *armed = (token, interest.mode());
            // Under the lock, so that no event with the earlier token takes the report.
            self.gate.source.rearm()
        };
        if has_report {
            return self.shared.wake(&self.node);
        }
        Ok(())
    }

    /// Ends the events of the registration. A poll of another thread that is in progress may return one more.
    pub(crate) fn disable(&self) {
        lock_ignoring_poison(&self.gate.armed).1 = TriggerMode::Disabled;
    }
}

/// Wakes the poll. Async-signal-safe.
impl Notify for UserRegistration {
    fn notify(&self) {
        if self.shared.is_of_this_process() {
            let _ = self.shared.wake(&self.node);
        }
    }
}

impl Drop for UserRegistration {
    fn drop(&mut self) {
        // As for a waker: in a forked child, the list of the woken nodes may be half changed.
        if self.shared.is_of_this_process() {
            self.shared.remove_user_source();
            self.node.free();
        }
    }
}

impl std::fmt::Debug for UserRegistration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserRegistration").finish_non_exhaustive()
    }
}
