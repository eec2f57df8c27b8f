//! The common part of timers, signals, processes and watches.
//!
//! Each of these sources is a set of filters on a backend with filters (kqueue), and a descriptor on every other backend. This
//! file makes that choice.

use std::io;
use std::os::fd::{AsFd, RawFd};

use crate::event::Event;
use crate::interest::Interest;
use crate::io_source::IoSource;
use crate::registry::{Registry, Source};
use crate::source::kqueue_filter::{FilterPayload, FilterSet};
use crate::sys::selector::{FilterSpec, Selector, SourceKind};
use crate::sys::syscall::invalid_input;
use crate::sys::{error, fork, ActiveSelector};
use crate::token::Token;

/// A source of notifications: filters or a descriptor of type `D`, with the token of the registration.
#[derive(Debug)]
pub(crate) struct NotificationSource<D> {
    pub(crate) mechanism: Mechanism<D>,
    /// The token and the interest, while the source is registered.
    registered: Option<(Token, Interest)>,
    /// The generation of the process that made the source (`sys::fork`). A forked child shares the descriptor, and the parent
    /// would miss the data that the child reads.
    generation: u32,
}

#[derive(Debug)]
pub(crate) enum Mechanism<D> {
    Filters(FilterSet),
    Descriptor(IoSource<D>),
}

impl<D> NotificationSource<D> {
    /// Creates the filters with these idents, or the descriptor that `open` returns, whichever the backend waits for.
    pub(crate) fn new(
        filter: FilterSpec,
        idents: impl IntoIterator<Item = RawFd>,
        open: impl FnOnce() -> io::Result<D>,
    ) -> io::Result<NotificationSource<D>> {
        let mechanism = if <ActiveSelector as Selector>::HAS_FILTERS {
            Mechanism::Filters(FilterSet::new(idents, filter))
        } else {
            Mechanism::Descriptor(IoSource::new(open()?))
        };
        Ok(NotificationSource { mechanism, registered: None, generation: fork::generation() })
    }

    /// Returns the descriptor, and `None` if the source is a set of filters.
    pub(crate) fn descriptor(&self) -> Option<&IoSource<D>> {
        match &self.mechanism {
            Mechanism::Filters(_) => None,
            Mechanism::Descriptor(descriptor) => Some(descriptor),
        }
    }

    /// Fails in a forked child of the process that made the source.
    pub(crate) fn check_process(&self) -> io::Result<()> {
        if !fork::is_current(self.generation) {
            return Err(error::inherited());
        }
        Ok(())
    }

    /// Returns `true` if the source is registered, or was registered with a poll that was dropped.
    pub(crate) fn is_registered(&self) -> bool {
        match &self.mechanism {
            Mechanism::Filters(filters) => filters.is_registered(),
            Mechanism::Descriptor(descriptor) => descriptor.is_registered(),
        }
    }

    /// Fails with `InvalidInput` if the event belongs to another source. The event of a descriptor is compared by its token.
    pub(crate) fn check_event(&self, event: &Event) -> io::Result<()> {
        self.check_process()?;
        let is_from_filter = match &self.mechanism {
            Mechanism::Filters(filters) => filters.payload(event).is_some(),
            Mechanism::Descriptor(_) => true,
        };
        let token = self.registered.map(|(token, _)| token);
        if is_from_filter && token == Some(event.token()) && event.is_readable() {
            return Ok(());
        }
        Err(other_source())
    }

    /// Checks the event, and returns its meaning: `decode` reads it from the event of a filter, `read` from the descriptor.
    pub(crate) fn read<R>(
        &self,
        event: &Event,
        decode: impl FnOnce(FilterPayload) -> R,
        read: impl FnOnce(&IoSource<D>) -> io::Result<R>,
    ) -> io::Result<R> {
        self.check_event(event)?;
        match &self.mechanism {
            Mechanism::Filters(filters) => filters.payload(event).map(decode).ok_or_else(other_source),
            Mechanism::Descriptor(descriptor) => read(descriptor),
        }
    }
}

fn other_source() -> io::Error {
    invalid_input("an event of another source")
}

/// Returns the interest that is registered: readable, edge-triggered or one-shot, or none. Others are `Unsupported`.
///
/// Level-triggered requests become edge-triggered. kqueue forces `EV_CLEAR` on these filters. A caller could not end a
/// level-triggered condition, because reading the source may leave the condition unchanged.
fn supported_interest(interests: Interest) -> io::Result<Interest> {
    let is_foreign = interests.is_priority() || interests.is_aio() || interests.is_lio() || interests.is_exclusive();
    match (interests.is_readable(), interests.is_oneshot()) {
        _ if is_foreign => Err(error::unsupported()),
        (true, true) => Ok(Interest::READABLE.oneshot()),
        (true, false) => Ok(Interest::READABLE),
        (false, _) if interests.is_none() => Ok(Interest::NONE),
        // None of these sources is ever writable.
        (false, _) => Err(error::unsupported()),
    }
}

impl<D: AsFd> NotificationSource<D> {
    /// Registers the source and then runs `then`. If `then` fails, the source is deregistered.
    pub(crate) fn register_and(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
        then: impl FnOnce(&Self) -> io::Result<()>,
    ) -> io::Result<()> {
        self.register(registry, token, interests)?;
        let result = then(self);
        if result.is_err() {
            let _ = self.deregister(registry);
        }
        result
    }

    /// Reregisters the source and then runs `then`. If `then` fails, the old registration is restored.
    pub(crate) fn reregister_and(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
        then: impl FnOnce(&mut Mechanism<D>) -> io::Result<()>,
    ) -> io::Result<()> {
        let before = self.registered;
        self.reregister(registry, token, interests)?;
        let result = then(&mut self.mechanism);
        if let (Err(_), Some((token, interests))) = (&result, before) {
            if self.reregister(registry, token, interests).is_err() {
                let _ = self.deregister(registry);
            }
        }
        result
    }
}

impl<D: AsFd> Source for NotificationSource<D> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.check_process()?;
        let interests = supported_interest(interests)?;
        match &mut self.mechanism {
            Mechanism::Filters(filters) => filters.register(registry, token, interests)?,
            Mechanism::Descriptor(descriptor) => {
                descriptor.register_as(SourceKind::Builtin, registry, token, interests)?;
            }
        }
        self.registered = Some((token, interests));
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.check_process()?;
        let interests = supported_interest(interests)?;
        let result = match &mut self.mechanism {
            Mechanism::Filters(filters) => filters.reregister(registry, token, interests),
            Mechanism::Descriptor(descriptor) => descriptor.reregister(registry, token, interests),
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
        let result = match &mut self.mechanism {
            Mechanism::Filters(filters) => filters.deregister(registry),
            Mechanism::Descriptor(descriptor) => descriptor.deregister(registry),
        };
        if !self.is_registered() {
            self.registered = None;
        }
        result
    }
}
