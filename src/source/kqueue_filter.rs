//! kqueue filters as sources.

use std::io;

use crate::event::Event;
use crate::interest::Interest;
use crate::poll_id::PollId;
use crate::poll_shared;
use crate::registry::{not_found_error, Registry, Source};
use crate::sys::error;
use crate::sys::raw_source::RawSource;
use crate::sys::selector::{FilterSpec, Selector, SourceKind};
use crate::token::Token;

/// A kqueue filter as a source.
///
/// Dropping this value deregisters the filter, because most of these filters have no descriptor whose close would remove them.
#[derive(Debug)]
struct KqueueFilter {
    ident: i32,
    /// The condition of the filter. Its type is part of the key of the filter.
    spec: FilterSpec,
    token: Token,
    interest: Interest,
    poll_id: PollId,
}

impl KqueueFilter {
    fn new(ident: i32, spec: FilterSpec) -> KqueueFilter {
        KqueueFilter { ident, spec, token: Token(0), interest: Interest::NONE, poll_id: PollId::NONE }
    }

    /// Returns the ident in the place of a descriptor.
    fn source(&self) -> RawSource {
        self.ident as RawSource
    }

    fn source_kind(&self) -> SourceKind {
        SourceKind::Filter(self.spec)
    }

    /// Restores the registration after a failed change, which may have deleted the filter. If the kernel rejects the restored
    /// filter too, the filter is deregistered.
    fn roll_back(&mut self, registry: &Registry) {
        if registry.selector().reregister(self.source(), self.token, self.interest, self.source_kind()).is_err() {
            let _ = self.deregister(registry);
        }
    }

    /// Returns the payload of an event. `None` if the event came from another filter.
    fn payload(&self, event: &Event) -> Option<FilterPayload> {
        let (fflags, data) = event.filter_payload(self.source(), self.spec)?;
        Some(FilterPayload { ident: self.ident, fflags, data })
    }

    /// Returns `true` if the filter is registered, or was registered with a poll that was dropped.
    fn is_registered(&self) -> bool {
        !self.poll_id.is_none()
    }
}

impl Source for KqueueFilter {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        // This check comes before `claim`, because in a forked child the lock of `claim` may never be released.
        registry.check_process()?;
        registry.check_not_registered(self.poll_id)?;
        registry.shared().filters().claim(self.source(), self.spec)?;
        if let Err(error) = registry.register_fd(self.source(), token, interests, self.source_kind()) {
            registry.shared().filters().release(self.source(), self.spec);
            return Err(error);
        }
        (self.poll_id, self.token, self.interest) = (registry.id(), token, interests);
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        if !registry.is_registered_here(self.poll_id)? {
            return Err(error::not_found());
        }
        registry.check_process()?;
        if let Err(error) = registry.reregister_fd(self.source(), token, interests, self.source_kind()) {
            self.roll_back(registry);
            return Err(error);
        }
        (self.token, self.interest) = (token, interests);
        Ok(())
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        registry.check_process()?;
        if self.poll_id != registry.id() {
            return Err(not_found_error(self.poll_id));
        }
        self.poll_id = PollId::NONE;
        let result = registry.deregister_fd(self.source(), self.source_kind());
        // The claim is released after the delete. If another source claimed and added the same filter in between, this delete
        // would remove it.
        registry.shared().filters().release(self.source(), self.spec);
        result
    }
}

impl Drop for KqueueFilter {
    fn drop(&mut self) {
        if self.is_registered() {
            poll_shared::deregister_dropped(self.poll_id, self.source(), self.source_kind());
            poll_shared::with_poll(self.poll_id, |shared| shared.filters().release(self.source(), self.spec));
        }
    }
}

/// The fields of an event that came from a filter.
#[derive(Copy, Clone, Debug)]
pub(crate) struct FilterPayload {
    pub(crate) ident: i32,
    pub(crate) fflags: u32,
    pub(crate) data: i64,
}

/// One or several kqueue filters as one source. Either all of them are registered, or none is.
#[derive(Debug)]
pub(crate) struct FilterSet(Vec<KqueueFilter>);

impl FilterSet {
    pub(crate) fn new(idents: impl IntoIterator<Item = i32>, spec: FilterSpec) -> FilterSet {
        FilterSet(idents.into_iter().map(|ident| KqueueFilter::new(ident, spec)).collect())
    }

    /// Returns the payload of an event, and `None` if the event came from no filter of this set.
    pub(crate) fn payload(&self, event: &Event) -> Option<FilterPayload> {
        self.0.iter().find_map(|filter| filter.payload(event))
    }

    /// Returns `true` if the filters are registered, or were registered with a poll that was dropped.
    pub(crate) fn is_registered(&self) -> bool {
        self.0.iter().all(KqueueFilter::is_registered)
    }

    /// Returns the id of the poll of the filters, or of their poll before it was dropped.
    pub(crate) fn poll_id(&self) -> PollId {
        self.0.first().map_or(PollId::NONE, |filter| filter.poll_id)
    }

    /// Deregisters every filter. Returns the first error.
    fn deregister_all(&mut self, registry: &Registry) -> io::Result<()> {
        self.0.iter_mut().map(|filter| filter.deregister(registry)).fold(Ok(()), io::Result::and)
    }
}

impl Source for FilterSet {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        for index in 0..self.0.len() {
            if let Err(error) = self.0[index].register(registry, token, interests) {
                for filter in &mut self.0[..index] {
                    let _ = filter.deregister(registry);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        for index in 0..self.0.len() {
            let (token_before, interests_before) = (self.0[index].token, self.0[index].interest);
            let Err(error) = self.0[index].reregister(registry, token, interests) else { continue };
            // The filters before this one get their old registration back. If one of them fails, all are deregistered.
            let mut changed = self.0[..index].iter_mut();
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
