//! The ways in which the subjects wait for an event.

use std::marker::PhantomData;
use std::time::Duration;

use super::cases::subject::{Kevio, Subject};

/// A subject, and the way in which it waits.
pub trait Wait: 'static {
    type Subject: Subject;

    fn name() -> String;

    fn new() -> Self::Subject {
        Self::Subject::new(8)
    }

    /// Waits until there are events.
    fn wait(subject: &mut Self::Subject);
}

/// Blocks at once.
pub struct Blocks<S>(PhantomData<S>);

impl<S: Subject> Wait for Blocks<S> {
    type Subject = S;

    fn name() -> String {
        S::NAME.to_owned()
    }

    #[inline(always)]
    fn wait(subject: &mut S) {
        subject.poll_once(None, |_| {});
    }
}

/// Never blocks: waits of zero until there is an event.
#[allow(dead_code)] // Systems without a bare subject.
pub struct Repeats<S>(PhantomData<S>);

impl<S: Subject> Wait for Repeats<S> {
    type Subject = S;

    fn name() -> String {
        format!("{}, waits of zero", S::NAME)
    }

    #[inline(always)]
    fn wait(subject: &mut S) {
        let mut has_events = false;
        while !has_events {
            subject.poll_once(Some(Duration::ZERO), |_| has_events = true);
        }
    }
}

/// kevio with `set_spin`.
pub struct Spins<const MICROSECONDS: u64>;

impl<const MICROSECONDS: u64> Wait for Spins<MICROSECONDS> {
    type Subject = Kevio;

    fn name() -> String {
        format!("kevio, spin {MICROSECONDS} µs")
    }

    fn new() -> Kevio {
        let mut subject = Kevio::new(8);
        subject.set_spin(Duration::from_micros(MICROSECONDS));
        subject
    }

    #[inline(always)]
    fn wait(subject: &mut Kevio) {
        subject.poll_once(None, |_| {});
    }
}
