//! Signals. Not supported yet.

use std::sync::Arc;
use std::{fmt, io};

use crate::sys::error;
use crate::sys::notify::Notify;

#[cold]
fn no_signals() -> io::Error {
    error::unsupported("a `Signals` source cannot be created, because this system has no signals: use a `Waker`")
}

pub(crate) fn check(_: i32) -> io::Result<()> {
    Err(no_signals())
}

#[derive(Debug)]
pub(crate) enum PendingSignals {}

impl PendingSignals {
    pub(crate) fn new(_: &[i32]) -> PendingSignals {
        unreachable!("`check` has failed")
    }

    pub(crate) fn is_any(&self) -> bool {
        match *self {}
    }

    pub(crate) fn take(&self) -> impl Iterator<Item = (i32, usize)> + '_ {
        std::iter::empty()
    }
}

#[derive(Debug)]
pub(crate) enum SignalSubscription {}

impl SignalSubscription {
    pub(crate) fn new(
        _: &[i32],
        _: Option<Arc<PendingSignals>>,
        _: Option<Arc<dyn Notify>>,
    ) -> io::Result<SignalSubscription> {
        Err(no_signals())
    }
}

/// Writes a list of signals: the number of each.
pub(crate) struct Names<'a>(pub(crate) &'a [i32]);

impl fmt::Debug for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0).finish()
    }
}
