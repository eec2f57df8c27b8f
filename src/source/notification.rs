//! What timers, signals, processes and watches have in common: on a kqueue each is a filter, elsewhere a descriptor.

use crate::sys::error;
use std::io;
use std::os::fd::{AsFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::event::Event;
use crate::interest::Interest;
use crate::io_source::IoSource;
use crate::poll_id::PollId;
use crate::poll_shared;
use crate::registry::Registry;
use crate::registry::Source;
use crate::sys::fork;
use crate::sys::selector::{FilterSpec, Selector, SourceKind};
use crate::token::Token;

/// A filter as a source. There is no descriptor whose closing would end it, so dropping this does.
#[derive(Debug)]
pub(crate) struct KqueueFilter {
    ident: RawFd,
    /// What the filter waits for; `None` if it waits for nothing.
    spec: Option<FilterSpec>,
    /// What the kernel was told last, or would be told: it names the filter.
    filter: FilterSpec,
    token: Token,
    interest: Interest,
    /// A one-shot filter has fired, and is disabled until it is reregistered.
    has_fired: AtomicBool,
    poll_id: PollId,
}

impl KqueueFilter {
    pub(crate) fn new(ident: RawFd, filter: FilterSpec) -> KqueueFilter {
        let (token, interest) = (Token(0), Interest::NONE);
        KqueueFilter {
            ident,
            spec: Some(filter),
            filter,
            token,
            interest,
            has_fired: AtomicBool::new(false),
            poll_id: PollId::NONE,
        }
    }

    /// Sets what the filter waits for, from the next change of the kernel's filter on.
    pub(crate) fn set_spec(&mut self, spec: Option<FilterSpec>) {
        self.filter = spec.unwrap_or(self.filter);
        self.spec = spec;
    }

    fn source_kind(&self) -> SourceKind {
        SourceKind::Filter(self.filter)
    }

    /// The interest of the kernel's filter: none while there is nothing to wait for.
    fn effective_interest(&self, interest: Interest) -> Interest {
        if self.spec.is_some() {
            interest
        } else {
            Interest::NONE
        }
    }

    /// The interest of the registration as it is.
    fn current_interest(&self) -> Interest {
        match self.has_fired.load(Ordering::Relaxed) {
            true => Interest::NONE,
            false => self.effective_interest(self.interest),
        }
    }

    /// Updates the kernel's filter, if it is registered.
    pub(crate) fn update_kernel(&self) -> io::Result<()> {
        let interest = self.current_interest();
        poll_shared::with_poll(self.poll_id, |shared| {
            shared.selector().reregister(self.ident, self.token, interest, self.source_kind())
        })
        .unwrap_or(Ok(()))
    }

    /// After a change that failed: the filter may be deleted, and is added as it was. If that fails too, it is deregistered.
    fn roll_back(&mut self, registry: &Registry) {
        let interest = self.current_interest();
        if registry.selector().reregister(self.ident, self.token, interest, self.source_kind()).is_err() {
            let _ = self.deregister(registry);
        }
    }

    /// Records that the filter has fired. A one-shot filter is disabled then, until it is reregistered.
    pub(crate) fn mark_fired(&self) {
        if self.interest.is_oneshot() {
            self.has_fired.store(true, Ordering::Relaxed);
        }
    }

    /// What an event says of this filter: (`fflags`, `data`); nothing if it is another's.
    pub(crate) fn filter_payload(&self, event: &Event) -> Option<(u32, i64)> {
        event.filter_payload(self.ident, self.filter)
    }
}

impl Source for KqueueFilter {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        // Before a lock that another thread of the parent may hold.
        registry.check_process()?;
        registry.check_not_registered(self.poll_id)?;
        registry.shared().filters().claim(self.ident, self.filter)?;
        if let Err(error) =
            registry.register_fd(self.ident, token, self.effective_interest(interests), self.source_kind())
        {
            registry.shared().filters().release(self.ident, self.filter);
            return Err(error);
        }
        (self.poll_id, self.token, self.interest) = (registry.id(), token, interests);
        self.has_fired = AtomicBool::new(false);
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        if !registry.is_registered_here(self.poll_id)? {
            return Err(error::not_found());
        }
        registry.check_process()?;
        if let Err(error) =
            registry.reregister_fd(self.ident, token, self.effective_interest(interests), self.source_kind())
        {
            self.roll_back(registry);
            return Err(error);
        }
        (self.token, self.interest) = (token, interests);
        self.has_fired = AtomicBool::new(false);
        Ok(())
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.check_process()?;
        if self.poll_id != registry.id() {
            return Err(error::not_found());
        }
        self.poll_id = PollId::NONE;
        let result = registry.deregister_fd(self.ident, self.source_kind());
        // Not before: who takes it next would have it removed.
        registry.shared().filters().release(self.ident, self.filter);
        result
    }
}

/// Something whose events can be told from those of others, or from most.
pub(crate) trait OwnsEvents: Source {
    /// Whether an event is of it.
    fn owns(&self, event: &Event) -> bool;

    /// Returns `true` if it is registered, or was with a poll that is no more.
    fn is_registered(&self) -> bool;
}

impl OwnsEvents for KqueueFilter {
    fn owns(&self, event: &Event) -> bool {
        self.filter_payload(event).is_some()
    }

    fn is_registered(&self) -> bool {
        !self.poll_id.is_none()
    }
}

impl Drop for KqueueFilter {
    fn drop(&mut self) {
        if !self.poll_id.is_none() {
            poll_shared::deregister_dropped(self.poll_id, self.ident, self.source_kind());
            poll_shared::with_poll(self.poll_id, |shared| shared.filters().release(self.ident, self.filter));
        }
    }
}

/// Several filters as one source: all of them are registered, or none is.
#[derive(Debug)]
pub(crate) struct FilterSet(Vec<KqueueFilter>);

impl FilterSet {
    pub(crate) fn new(filters: impl IntoIterator<Item = KqueueFilter>) -> FilterSet {
        FilterSet(filters.into_iter().collect())
    }

    /// The filter that an event is of, and what it says: (ident, `fflags`, `data`).
    pub(crate) fn filter_payload(&self, event: &Event) -> Option<(RawFd, u32, i64)> {
        self.0.iter().find_map(|filter| filter.filter_payload(event).map(|(fflags, data)| (filter.ident, fflags, data)))
    }

    /// Deregisters each of them; then the first error.
    fn deregister_all(&mut self, registry: &Registry) -> io::Result<()> {
        self.0.iter_mut().map(|filter| filter.deregister(registry)).fold(Ok(()), io::Result::and)
    }
}

impl OwnsEvents for FilterSet {
    fn owns(&self, event: &Event) -> bool {
        self.filter_payload(event).is_some()
    }

    fn is_registered(&self) -> bool {
        self.0.iter().all(KqueueFilter::is_registered)
    }
}

impl Source for FilterSet {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        for next in 0..self.0.len() {
            if let Err(error) = self.0[next].register(registry, token, interests) {
                for filter in &mut self.0[..next] {
                    let _ = filter.deregister(registry);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        for next in 0..self.0.len() {
            let (token_before, interests_before) = (self.0[next].token, self.0[next].interest);
            let Err(error) = self.0[next].reregister(registry, token, interests) else { continue };
            // All of them are as they were, or none is registered.
            let mut changed = self.0[..next].iter_mut();
            let is_restored = changed.all(|filter| filter.reregister(registry, token_before, interests_before).is_ok());
            if !is_restored || !self.is_registered() {
                let _ = self.deregister_all(registry);
            }
            return Err(error);
        }
        Ok(())
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.deregister_all(registry)
    }
}

/// One or the other, what its events bear, and whose it is.
#[derive(Debug)]
pub(crate) struct NotificationSource<T, F = KqueueFilter> {
    pub(crate) way: Mechanism<T, F>,
    /// Token and interests while it is registered.
    registered: Option<(Token, Interest)>,
    /// The generation of the process that made it (`sys::fork`): a forked child shares the descriptor, what is read there
    /// the parent would miss.
    generation: u32,
}

#[derive(Debug)]
pub(crate) enum Mechanism<T, F = KqueueFilter> {
    Filter(F),
    Descriptor(IoSource<T>),
}

impl<T, F: OwnsEvents> NotificationSource<T, F> {
    pub(crate) fn new(way: Mechanism<T, F>) -> NotificationSource<T, F> {
        NotificationSource { way, registered: None, generation: fork::generation() }
    }

    /// Fails in a forked child of the process that made it.
    pub(crate) fn check_process(&self) -> io::Result<()> {
        if !fork::is_current(self.generation) {
            return Err(error::inherited());
        }
        Ok(())
    }

    /// Returns `true` if it is registered, or was with a poll that is no more.
    pub(crate) fn is_registered(&self) -> bool {
        match &self.way {
            Mechanism::Filter(source) => source.is_registered(),
            Mechanism::Descriptor(source) => source.is_registered(),
        }
    }

    /// Refuses an event that is not of this source, as far as it can be told.
    pub(crate) fn check(&self, event: &Event) -> io::Result<()> {
        self.check_process()?;
        let is_its = match &self.way {
            Mechanism::Filter(source) => source.owns(event),
            Mechanism::Descriptor(_) => true,
        };
        let token = self.registered.map(|(token, _)| token);
        if is_its && token == Some(event.token()) && event.is_readable() {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::InvalidInput, "an event of another source"))
    }
}

/// What a registration of these sources can be: for reading, at an edge or once; or parked.
///
/// A level would be the edge again: kqueue forces EV_CLEAR on them, and "told for ever" is of no use where asking may take
/// nothing away.
fn plain(interests: Interest) -> io::Result<Interest> {
    let is_foreign = interests.is_priority() || interests.is_aio() || interests.is_lio() || interests.is_exclusive();
    match (interests.is_readable(), interests.is_oneshot()) {
        _ if is_foreign => Err(error::unsupported()),
        (true, true) => Ok(Interest::READABLE.oneshot()),
        (true, false) => Ok(Interest::READABLE),
        (false, _) if interests.is_none() => Ok(Interest::NONE),
        // They are never writable.
        (false, _) => Err(error::unsupported()),
    }
}

impl<T: AsFd, F: OwnsEvents> NotificationSource<T, F> {
    /// Reregisters, and then does the rest of it. If that fails, the registration is what it was.
    pub(crate) fn reregister_and(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
        rest: impl FnOnce(&mut Mechanism<T, F>) -> io::Result<()>,
    ) -> io::Result<()> {
        let before = self.registered;
        self.reregister(registry, token, interests)?;
        let result = rest(&mut self.way);
        if let (Err(_), Some((token, interests))) = (&result, before) {
            if self.reregister(registry, token, interests).is_err() {
                let _ = self.deregister(registry);
            }
        }
        result
    }
}

impl<T: AsFd, F: OwnsEvents> Source for NotificationSource<T, F> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.check_process()?;
        let interests = plain(interests)?;
        match &mut self.way {
            Mechanism::Filter(source) => source.register(registry, token, interests)?,
            Mechanism::Descriptor(source) => source.register_as(SourceKind::Builtin, registry, token, interests)?,
        }
        self.registered = Some((token, interests));
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.check_process()?;
        let interests = plain(interests)?;
        let result = match &mut self.way {
            Mechanism::Filter(source) => source.reregister(registry, token, interests),
            Mechanism::Descriptor(source) => source.reregister(registry, token, interests),
        };
        match result {
            Ok(()) => self.registered = Some((token, interests)),
            Err(_) if self.is_registered() => {}
            Err(_) => self.registered = None,
        }
        result
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.check_process()?;
        let result = match &mut self.way {
            Mechanism::Filter(source) => source.deregister(registry),
            Mechanism::Descriptor(source) => source.deregister(registry),
        };
        if !self.is_registered() {
            self.registered = None;
        }
        result
    }
}
