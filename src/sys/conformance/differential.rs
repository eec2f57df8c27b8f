//! The differential test: two backends execute the same operations, and must report the same events.
//!
//! Each sequence is random and uses a few sources. Each backend has its own copy of every source, and each operation is
//! applied to both copies. After each wait the events of a backend are compared with the judge, which is poll(2) or WSAPoll() on
//! the backend's own copy:
//!
//! 1. Readiness that has begun and was not reported must be reported.
//! 2. Readiness that is not current must not be reported.
//! 3. The first events of a registration must be equal on both backends.
//!
//! Spurious events are allowed, unless no operation was applied to the source.
//!
//! A system with one backend has no second backend to compare with. There, a model of each stream has its place: the bytes in
//! flight and the ends of both directions, which follow from the results of the operations. The judge must agree with the model
//! after each operation, and the first events of a registration must be those that the model expects.
//!
//! A run prints its seed. `KEVIO_TEST_SEED` sets the seed, and `KEVIO_TEST_STEPS` the number of operations.

mod fixture;
mod model;
mod traffic;

use std::net::Shutdown;
use std::time::{Duration, Instant};

use fastrand::Rng;

use self::fixture::TestSource;
use self::model::{ExpectedState, KnownDifferences};
use self::traffic::Expectation;
use crate::interest::Interest;
use crate::sys::conformance::support::poll::{BOTH, READ, WRITE};
use crate::sys::conformance::support::readiness::{ReadinessSet, NONE};
use crate::sys::conformance::system::judge::{raw, readiness_for, Kind, KINDS};
use crate::sys::selector::{EventRecord, Selector, SourceKind};

const SLOTS: usize = KINDS.len();

#[derive(Clone, Copy, Debug, PartialEq)]
enum End {
    Ours,
    Theirs,
}

#[derive(Clone, Copy, Debug)]
enum Amount {
    Bytes(usize),
    All,
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Slot(usize, Act),
    Notify,
    Poll,
    /// Polls until delayed events were reported.
    PollPatiently,
}

/// An operation on one source. An operation that is not possible in the current state has no effect.
#[derive(Clone, Copy, Debug)]
enum Act {
    Register(Interest, SourceKind),
    Reregister(Interest),
    Deregister,
    /// The descriptor leaves its source: `IoSource::into_inner`.
    Release,
    Read(End, Amount),
    Write(End, Amount),
    /// `IoSource::do_io`, whose direction is unknown; here the operation reads.
    TryIo,
    /// An operation failed with EMFILE.
    Shortage,
    Shutdown(End, Shutdown),
    ClosePeer,
    Close,
    Reopen(Kind),
}

fn select<T: Copy>(random: &mut Rng, values: &[T]) -> T {
    values[random.usize(..values.len())]
}

fn any_interest(random: &mut Rng) -> Interest {
    match random.u8(..10) {
        0..=5 => select(random, &[READ, WRITE, BOTH]),
        6..=8 => select(random, &[READ.oneshot(), WRITE.oneshot(), BOTH.oneshot(), BOTH.oneshot()]),
        _ => Interest::NONE,
    }
}

fn any_end_and_amount(random: &mut Rng) -> (End, Amount) {
    let amounts = [Amount::Bytes(1), Amount::Bytes(100), Amount::Bytes(5000), Amount::All, Amount::All, Amount::All];
    (select(random, &[End::Ours, End::Theirs]), select(random, &amounts))
}

/// Operations that leave a source in a state with few events are rare.
fn any_rare_act(random: &mut Rng) -> Act {
    match random.u8(..12) {
        0..=1 => Act::Deregister,
        2..=3 => Act::Release,
        4 => Act::Shortage,
        5..=6 => Act::ClosePeer,
        7 => Act::Close,
        _ => {
            let how = select(random, &[Shutdown::Write, Shutdown::Read, Shutdown::Both]);
            Act::Shutdown(select(random, &[End::Ours, End::Theirs]), how)
        }
    }
}

fn any_act(random: &mut Rng) -> Act {
    match random.u8(..29) {
        0..=4 => any_rare_act(random),
        5..=6 => Act::Reopen(select(random, &KINDS)),
        7..=10 => {
            let kind = select(random, &[SourceKind::Builtin, SourceKind::Owned, SourceKind::RawFd]);
            Act::Register(any_interest(random), kind)
        }
        11..=12 => Act::Reregister(any_interest(random)),
        13..=19 => {
            let (end, amount) = any_end_and_amount(random);
            Act::Read(end, amount)
        }
        20..=26 => {
            let (end, amount) = any_end_and_amount(random);
            Act::Write(end, amount)
        }
        _ => Act::TryIo,
    }
}

fn any_op(random: &mut Rng) -> Op {
    match random.u16(..605) {
        0..=399 => Op::Slot(random.usize(..SLOTS), any_act(random)),
        400..=499 => Op::Poll,
        500..=529 => Op::Notify,
        _ => Op::PollPatiently,
    }
}

/// Returns the union of the sets whose condition is `true`.
pub(super) fn union<const N: usize>(sets: [(ReadinessSet, bool); N]) -> ReadinessSet {
    sets.into_iter().filter(|(_, is_included)| *is_included).fold(NONE, |all, (set, _)| all | set)
}

/// The first readiness that was reported for a registration, its interest, the result of the judge, and the readiness that the
/// model expects.
#[derive(Clone, Copy)]
struct FirstEvents {
    reported: ReadinessSet,
    interest: Interest,
    raw: i16,
    expected: Expectation,
}

type First = Option<FirstEvents>;

/// One backend and its sources.
struct Side<T: Selector> {
    selector: T,
    events: Vec<T::Event>,
    slots: Vec<Option<TestSource<T>>>,
    /// The notifier was used, and no wait has returned that yet.
    is_notified: bool,
    tokens: usize,
}

impl<T: Selector> Side<T> {
    fn new(capacity: usize) -> Side<T> {
        let slots = KINDS.map(|kind| Some(TestSource::new(kind))).into();
        let events = Vec::with_capacity(KnownDifferences::<T>::capacity(capacity));
        let selector = T::new().unwrap();
        selector.create_notifier().unwrap();
        Side { selector, events, slots, is_notified: false, tokens: 0 }
    }

    /// Returns a new token, so that events of removed registrations are detected.
    fn token(&mut self) -> usize {
        self.tokens += 1;
        self.tokens
    }

    fn apply(&mut self, op: Op) -> Result<(), String> {
        let token = self.token();
        match op {
            Op::Slot(slot, act) => self.act(slot, token, act)?,
            Op::Notify => {
                self.is_notified = true;
                self.selector.notify().map_err(|error| format!("notify: {error}"))?;
            }
            Op::Poll | Op::PollPatiently => {}
        }
        Ok(())
    }

    fn act(&mut self, slot: usize, token: usize, act: Act) -> Result<(), String> {
        if let Act::Close | Act::Reopen(_) = act {
            if let Some(source) = self.slots[slot].take() {
                source.close(&self.selector);
            }
            if let Act::Reopen(kind) = act {
                self.slots[slot] = Some(TestSource::new(kind));
            }
        } else if let Some(source) = &mut self.slots[slot] {
            source.act(&self.selector, token, act)?;
        }
        Ok(())
    }

    /// Waits until no event follows, and verifies the events.
    fn wait(&mut self, patiently: bool) -> Result<Vec<First>, String> {
        for source in self.slots.iter_mut().flatten() {
            let (fd, is_slow) = (source.fd(), source.kind.takes_time());
            source.state.iter_mut().for_each(|state| state.begin_wait(fd, patiently, is_slow));
        }
        self.collect(patiently)?;
        if std::mem::take(&mut self.is_notified) {
            return Err("no wait has returned a notification".to_owned());
        }
        self.slots.iter_mut().enumerate().map(|(slot, source)| Self::verify(slot, source.as_mut())).collect()
    }

    fn verify(slot: usize, source: Option<&mut TestSource<T>>) -> Result<First, String> {
        let Some(source) = source else { return Ok(None) };
        let (fd, is_exact, traffic) = (source.fd(), source.is_exact(), &source.traffic);
        let Some(state) = &mut source.state else { return Ok(None) };
        // Readiness that began during the wait is not compared.
        let first = (state.is_new && raw(fd) == state.raw).then(|| FirstEvents {
            reported: state.reported,
            interest: state.interest,
            raw: state.raw,
            expected: traffic.expectation(state.interest),
        });
        let result = state.end_wait::<T>(fd, is_exact);
        result.map(|()| first).map_err(|fault| format!("slot {slot}, {:?}: {fault}", source.kind))
    }

    fn collect(&mut self, patiently: bool) -> Result<(), String> {
        let start = Instant::now();
        for _ in 0..1000 {
            let is_within = |limit| start.elapsed() < Duration::from_millis(limit);
            let is_delayed = (patiently && self.slots.iter().flatten().any(TestSource::is_delayed) && is_within(2000))
                || (self.slots.iter().flatten().any(TestSource::is_slow)
                    && is_within(KnownDifferences::<T>::LATE_LIMIT));
            let timeout = Duration::from_millis(if is_delayed { 20 } else { 0 });
            let max = self.events.capacity();
            self.selector.select(&mut self.events, max, Some(timeout)).map_err(|error| format!("select: {error}"))?;
            let internal = self.selector.take_internal(&mut self.events);
            if internal.is_notified && !std::mem::take(&mut self.is_notified) {
                return Err("a notification without a call".to_owned());
            }
            if self.events.is_empty() && !internal.any() && !is_delayed {
                return Ok(());
            }
            for record in &self.events {
                let token = record.token().0;
                if let Some(source) = self.slots.iter_mut().flatten().find(|source| source.has(token)) {
                    source.observe(record)?;
                } else {
                    return Err(format!("token {token} is not registered: {record:?}"));
                }
            }
            self.slots
                .iter_mut()
                .flatten()
                .filter_map(|source| source.state.as_mut())
                .for_each(ExpectedState::end_select);
        }
        Err("events without end".to_owned())
    }
}

/// The side that the events of the backend `A` are compared with.
trait Reference<A: Selector>: Sized {
    fn name() -> &'static str;
    fn new(capacity: usize) -> Self;
    fn apply(&mut self, op: Op) -> Result<(), String>;
    /// Waits until a source of the backend is in the state that this side has, because packets take time.
    fn settle(&self, slot: usize, source: &TestSource<A>) -> Result<(), String>;
    fn wait(&mut self, patiently: bool) -> Result<Vec<First>, String>;
    /// Fails if the first events of a registration are not those of this side.
    fn compare(&self, first: &[First], other: &[First]) -> Result<(), String>;
}

/// The other backend.
impl<A: Selector, B: Selector> Reference<A> for Side<B> {
    fn name() -> &'static str {
        B::BACKEND.name()
    }

    fn new(capacity: usize) -> Self {
        Side::new(capacity)
    }

    fn apply(&mut self, op: Op) -> Result<(), String> {
        Side::apply(self, op)
    }

    /// Waits for a short time until both copies are in the same state.
    fn settle(&self, slot: usize, a: &TestSource<A>) -> Result<(), String> {
        let Some(b) = &self.slots[slot] else { return Ok(()) };
        let deadline = Instant::now() + Duration::from_millis(5);
        while a.kind.takes_time() && raw(a.fd()) != raw(b.fd()) && Instant::now() < deadline {
            std::thread::yield_now();
        }
        Ok(())
    }

    fn wait(&mut self, patiently: bool) -> Result<Vec<First>, String> {
        Side::wait(self, patiently)
    }

    /// Fails if the first events of a registration differ although both copies are in the same state.
    fn compare(&self, a: &[First], b: &[First]) -> Result<(), String> {
        for (slot, (a, b)) in a.iter().zip(b).enumerate() {
            let (Some(a), Some(b)) = (*a, *b) else { continue };
            let common = KnownDifferences::<A>::common::<B>(a.interest);
            if a.raw == b.raw && a.interest.is_edge() && (a.reported & common) != (b.reported & common) {
                let (reported, other, raw) = (a.reported, b.reported, a.raw);
                return Err(format!("slot {slot}: {reported:?} and {other:?}; the judge returned {raw:#x}"));
            }
        }
        Ok(())
    }
}

/// The model of the streams, for a system with one backend. Its state is in the sources of the backend.
struct Model;

impl<A: Selector> Reference<A> for Model {
    fn name() -> &'static str {
        "the model"
    }

    fn new(_: usize) -> Model {
        Model
    }

    fn apply(&mut self, _: Op) -> Result<(), String> {
        Ok(())
    }

    /// Fails if the judge does not agree with the model.
    fn settle(&self, _: usize, source: &TestSource<A>) -> Result<(), String> {
        let expected = source.traffic.expectation(BOTH);
        let deadline = Instant::now() + Duration::from_secs(2);
        loop {
            let raw = raw(source.fd());
            let (missing, wrong) = expected.differences(readiness_for(raw, BOTH));
            if missing == NONE && wrong == NONE {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "the judge returned {raw:#x}: {missing:?} is missing, and {wrong:?} is wrong; {:?}",
                    source.traffic
                ));
            }
            std::thread::yield_now();
        }
    }

    fn wait(&mut self, _: bool) -> Result<Vec<First>, String> {
        Ok(Vec::new())
    }

    fn compare(&self, first: &[First], _: &[First]) -> Result<(), String> {
        for (slot, first) in first.iter().enumerate() {
            let Some(first) = first.filter(|first| first.interest.is_edge()) else { continue };
            let (missing, wrong) = first.expected.differences(first.reported);
            if missing != NONE || wrong != NONE {
                return Err(format!("slot {slot}: first {:?}, but {:?}", first.reported, first.expected));
            }
        }
        Ok(())
    }
}

fn play<A: Selector, B: Reference<A>>(capacity: usize, ops: &[Op]) -> Result<(), String> {
    let (mut a, mut b) = (Side::<A>::new(capacity), B::new(capacity));
    for (step, &op) in ops.iter().enumerate() {
        let at = |name: &'static str| move |fault: String| format!("step {step}, {name}: {fault}");
        a.apply(op).map_err(at(A::BACKEND.name()))?;
        b.apply(op).map_err(at(B::name()))?;
        match op {
            Op::Slot(slot, _) => {
                if let Some(source) = &a.slots[slot] {
                    b.settle(slot, source).map_err(at(B::name()))?;
                }
            }
            Op::Poll | Op::PollPatiently => {
                let patiently = matches!(op, Op::PollPatiently);
                let first = a.wait(patiently).map_err(at(A::BACKEND.name()))?;
                let other = b.wait(patiently).map_err(at(B::name()))?;
                b.compare(&first, &other).map_err(at("both"))?;
            }
            _ => {}
        }
    }
    Ok(())
}

fn setting(name: &str) -> Option<u64> {
    Some(std::env::var(name).ok()?.parse().unwrap_or_else(|_| panic!("{name} must be a number")))
}

/// Removes operations from a sequence that fails, as long as the rest fails. Returns the last fault.
fn shrink<A: Selector, B: Reference<A>>(capacity: usize, ops: &mut Vec<Op>, mut fault: String) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut length = ops.len() / 2;
    while length > 0 && Instant::now() < deadline {
        let mut start = 0;
        while start + length <= ops.len() && Instant::now() < deadline {
            let rest = [&ops[..start], &ops[start + length..]].concat();
            match play::<A, B>(capacity, &rest) {
                Ok(()) => start += length,
                Err(new) => (fault, *ops) = (new, rest),
            }
        }
        length /= 2;
    }
    fault
}

/// Runs sequences on a backend and its reference until enough steps were executed.
fn run<A: Selector, B: Reference<A>>(default_steps: u64) {
    let seed = setting("KEVIO_TEST_SEED").unwrap_or_else(|| fastrand::u64(..));
    let step_count = setting("KEVIO_TEST_STEPS").unwrap_or(default_steps) as usize;
    println!("{} and {}: KEVIO_TEST_SEED={seed}", A::BACKEND.name(), B::name());
    let (mut random, mut steps) = (Rng::with_seed(seed), 0);
    while steps < step_count {
        let capacity = select(&mut random, &[64, 1, 2, 3]);
        let mut ops: Vec<_> = (0..random.usize(1..200)).map(|_| any_op(&mut random)).collect();
        steps += ops.len();
        if let Err(fault) = play::<A, B>(capacity, &ops) {
            println!("{fault}, after {steps} steps; removing operations...");
            let fault = shrink::<A, B>(capacity, &mut ops, fault);
            let ops: String = ops.iter().enumerate().map(|(step, op)| format!("{step:>4}  {op:?}\n")).collect();
            panic!("{fault}\ncaught after {steps} steps; capacity for {capacity} events:\n{ops}KEVIO_TEST_SEED={seed}");
        }
    }
}

const DEFAULT_STEPS: u64 = 20_000;

#[cfg(all(has_kqueue, has_epoll))]
#[test]
fn kqueue_and_epoll_report_the_same() {
    run::<crate::sys::unix::kqueue::KqueueSelector, Side<crate::sys::unix::epoll::EpollSelector>>(DEFAULT_STEPS);
}

#[cfg(has_kqueue)]
#[test]
fn kqueue_and_poll_report_the_same() {
    run::<crate::sys::unix::kqueue::KqueueSelector, Side<crate::sys::unix::poll::selector::PollSelector>>(
        DEFAULT_STEPS,
    );
}

#[cfg(has_epoll)]
#[test]
fn epoll_and_poll_report_the_same() {
    run::<crate::sys::unix::epoll::EpollSelector, Side<crate::sys::unix::poll::selector::PollSelector>>(DEFAULT_STEPS);
}

#[cfg(windows)]
#[test]
fn iocp_reports_what_the_model_expects() {
    run::<crate::sys::windows::iocp::IocpSelector, Model>(3_000);
}
