//! A subject with many members, and the time of one operation on them.

use std::time::Duration;

use super::cases::subject::Subject;
use super::cases::{time, NOW};
use super::memory;

/// An operation, and its value at one size: nanoseconds for each, or bytes for each member.
pub type Sample = (&'static str, f64);

/// The extent of a measurement.
#[derive(Copy, Clone)]
pub struct Scale {
    /// The number of registrations, timers or wakers.
    pub size: usize,
    /// The time of each measurement, about.
    pub budget: Duration,
    /// The number of descriptors that the members may have.
    pub descriptors: usize,
}

/// A subject in one group of operations.
pub struct Contestant {
    pub subject: &'static str,
    /// Returns the number of descriptors that so many members need.
    pub descriptors: fn(usize) -> usize,
    pub measure: fn(Scale) -> Vec<Sample>,
}

/// A subject with registrations, timers or wakers. The tokens are the indices.
pub struct Fixture<S: Subject, M> {
    pub subject: S,
    pub registry: S::Registry,
    pub members: Vec<M>,
    /// The bytes of the process for each member.
    pub bytes: f64,
    random: Random,
}

impl<S: Subject, M> Fixture<S, M> {
    /// Returns a fixture with `n` members, and the time to create the members.
    fn new<F>(n: usize, prepare: impl Fn(&S::Registry) -> F) -> (Self, Duration)
    where
        F: FnMut(&S::Registry, usize) -> M,
    {
        let subject = S::new(1024);
        let registry = subject.registry();
        let mut create = prepare(&registry);
        let before = memory::in_use();
        let mut members = Vec::with_capacity(n);
        let elapsed = time(|| members.extend((0..n).map(|token| create(&registry, token))));
        let bytes = (memory::in_use() - before) as f64 / n as f64;
        (Fixture { subject, registry, members, bytes, random: Random::new() }, elapsed)
    }

    /// Creates fixtures for the budget. Returns the last one, and the nanoseconds to create a member.
    ///
    /// `prepare` is not timed. It returns the function that creates the member of a token.
    pub fn build<F>(n: usize, budget: Duration, prepare: impl Fn(&S::Registry) -> F) -> (Self, f64)
    where
        F: FnMut(&S::Registry, usize) -> M,
    {
        let mut last = None;
        let create = time_all(n, budget, || {
            last = None; // The descriptors suffice for one fixture.
            let (fixture, elapsed) = Self::new(n, &prepare);
            last = Some(fixture);
            elapsed
        });
        (last.expect("one fixture was built"), create)
    }

    /// Returns the nanoseconds to drop a member.
    pub fn time_drop(n: usize, budget: Duration, create: fn(&S::Registry, usize) -> M) -> f64 {
        time_all(n, budget, || {
            let (mut fixture, _) = Self::new(n, |_| create);
            time(|| fixture.members.clear())
        })
    }

    /// Returns the nanoseconds of an operation on one member after the other.
    pub fn time_in_order(
        &mut self,
        budget: Duration,
        operation: impl FnMut(&mut S, &S::Registry, usize, &mut M),
    ) -> f64 {
        let n = self.members.len();
        self.time_members(budget, move |index, _| (index + 1) % n, operation)
    }

    /// Returns the nanoseconds of an operation on members in a random order.
    pub fn time_at_random(
        &mut self,
        budget: Duration,
        operation: impl FnMut(&mut S, &S::Registry, usize, &mut M),
    ) -> f64 {
        let n = self.members.len();
        self.time_members(budget, move |_, random| random.below(n), operation)
    }

    fn time_members(
        &mut self,
        budget: Duration,
        mut next: impl FnMut(usize, &mut Random) -> usize,
        mut operation: impl FnMut(&mut S, &S::Registry, usize, &mut M),
    ) -> f64 {
        let mut index = 0;
        time_each(budget, || {
            index = next(index, &mut self.random);
            operation(&mut self.subject, &self.registry, index, &mut self.members[index]);
        })
    }

    /// Returns the nanoseconds of a poll with a timeout of zero that reports nothing.
    pub fn time_idle_poll(&mut self, budget: Duration) -> f64 {
        time_each(budget, || self.subject.poll_once(NOW, |_| unreachable!("nothing is ready")))
    }
}

/// Polls without a timeout, and checks that the only event has the token.
#[inline(always)]
pub fn poll_one<S: Subject>(subject: &mut S, expected: usize) {
    let mut reported = None;
    subject.poll_once(None, |token| assert_eq!(reported.replace(token), None));
    assert_eq!(reported, Some(expected));
}

/// Returns the nanoseconds of one operation. The operation is repeated until half of the budget is spent, and once before.
pub fn time_each(budget: Duration, mut operation: impl FnMut()) -> f64 {
    operation();
    let mut count = 1_u64;
    loop {
        let elapsed = time(|| (0..count).for_each(|_| operation()));
        if elapsed >= budget / 2 {
            return elapsed.as_secs_f64() * 1e9 / count as f64;
        }
        count *= 2;
    }
}

/// Returns the nanoseconds for each of `n` members, from the times of `all` of them. `all` is repeated for half of the budget.
fn time_all(n: usize, budget: Duration, mut all: impl FnMut() -> Duration) -> f64 {
    let (mut total, mut count) = (Duration::ZERO, 0);
    while count == 0 || total < budget / 2 {
        total += all();
        count += 1;
    }
    total.as_secs_f64() * 1e9 / (count * n) as f64
}

/// Marsaglia's xorshift generator.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    pub fn new() -> Random {
        Random(0x9e37_79b9_7f4a_7c15)
    }

    /// Returns a number below `end`.
    #[inline]
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}
