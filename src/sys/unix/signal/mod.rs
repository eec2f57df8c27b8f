//! Signals: counts for a source, and the handler that counts.
//!
//! A source creates a [`SignalSubscription`] for its signals, and a [`CoalescingNotifier`] where the backend waits for a
//! descriptor. The files, from the ground upward:
//!
//! * `action`: sigaction(2);
//! * `notifier`: the descriptor that becomes readable when a signal arrives;
//! * `counts`: the counts of one source;
//! * `handler`: the handler and the table of subscribers. The algorithm is explained there;
//! * `subscribers`: changes of that table, and of the actions of signals.
//!
//! Systems without sigaction(2) have `unsupported` instead.

#[cfg(has_sigaction)]
mod action;
#[cfg(has_sigaction)]
mod counts;
#[cfg(has_sigaction)]
mod handler;
#[cfg(has_sigaction)]
mod notifier;
#[cfg(has_sigaction)]
mod subscribers;
#[cfg(not(has_sigaction))]
mod unsupported;

#[cfg(not(has_sigaction))]
pub(crate) use self::unsupported::{CoalescingNotifier, SignalSubscription};
#[cfg(has_sigaction)]
pub(crate) use self::{notifier::CoalescingNotifier, subscribers::SignalSubscription};
