//! Signals: counts for a source, and the handler that counts.
//!
//! A registered source has a [`SignalSubscription`] for its signals, and [`PendingSignals`] where the handler counts. The files,
//! from the ground upward:
//!
//! * `action`: sigaction(2);
//! * `counts`: the counts of one source;
//! * `calls`: the calls of handlers of the program that are in progress;
//! * `handler`: the handler and the table of subscribers. The algorithm is explained there;
//! * `subscribers`: changes of that table, and of the actions of signals.
//!
//! Systems without sigaction(2) have `unsupported` instead.

#[cfg(has_sigaction)]
mod action;
#[cfg(has_sigaction)]
mod calls;
#[cfg(has_sigaction)]
mod counts;
#[cfg(has_sigaction)]
mod handler;
mod names;
#[cfg(has_sigaction)]
mod subscribers;
#[cfg(not(has_sigaction))]
mod unsupported;

pub(crate) use self::names::NAMES;
#[cfg(not(has_sigaction))]
pub(crate) use self::unsupported::{check, PendingSignals, SignalSubscription};
#[cfg(has_sigaction)]
pub(crate) use self::{
    counts::PendingSignals,
    subscribers::{check, SignalSubscription},
};
