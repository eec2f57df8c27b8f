//! The common part of signals, processes and watches.
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
    /// The generation of the process that created the source (`sys::fork`). A forked child shares the descriptor, and the
    /// parent would miss the data that the child reads.
    generation: u32,
}

#[derive(Debug)]
pub(crate) enum Mechanism<D> {
    Filters(FilterSet),
    Descriptor(IoSource<D>),
}

impl<D> NotificationSource<D> {
    /// Creates filters with these idents if the backend has filters, and otherwise the descriptor that `open` returns.
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

    /// Fails in a forked child of the process that created the source.
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

    /// Fails with `InvalidInput` if the event belongs to another source. For a descriptor, only the token and the readiness of
    /// the event are compared.
    pub(crate) fn check_event(&self, event: &Event) -> io::Result<()> {
        self.check_process()?;
        let may_be_own = match &self.mechanism {
            Mechanism::Filters(filters) => filters.payload(event).is_some(),
            Mechanism::Descriptor(_) => true,
        };
        let token = self.registered.map(|(token, _)| token);
        if may_be_own && token == Some(event.token()) && event.is_readable() {
            return Ok(());
        }
        Err(other_source_error())
    }

    /// Checks the event, and returns its data. For a filter `decode` gets the data from the event, and for a descriptor `read`
    /// reads the data.
    pub(crate) fn read<R>(
        &self,
        event: &Event,
        decode: impl FnOnce(FilterPayload) -> R,
        read: impl FnOnce(&IoSource<D>) -> io::Result<R>,
    ) -> io::Result<R> {
        self.check_event(event)?;
        match &self.mechanism {
            Mechanism::Filters(filters) => filters.payload(event).map(decode).ok_or_else(other_source_error),
            Mechanism::Descriptor(descriptor) => read(descriptor),
        }
    }
}

fn other_source_error() -> io::Error {
    invalid_input("an event of another source")
}

/// Returns the interest to register: `READABLE` (edge-triggered or one-shot), or `NONE`. Other readiness is `Unsupported`.
///
/// A level-triggered interest becomes edge-triggered. kqueue forces `EV_CLEAR` on these filters. A caller could not end a
/// level-triggered condition, because reading the source may leave the condition unchanged.
pub(crate) fn supported_interest(interests: Interest) -> io::Result<Interest> {
    let is_unsupported =
        interests.is_priority() || interests.is_aio() || interests.is_lio() || interests.is_exclusive();
    match (interests.is_readable(), interests.is_oneshot()) {
        _ if is_unsupported => Err(error::unsupported()),
        (true, true) => Ok(Interest::READABLE.oneshot()),
        (true, false) => Ok(Interest::READABLE),
        (false, _) if interests.is_none() => Ok(Interest::NONE),
        // None of these sources is ever writable.
        (false, _) => Err(error::unsupported()),
    }
}

impl<D: AsFd> NotificationSource<D> {
    /// Registers the source, and then runs `finish`. If `finish` fails, the source is deregistered.
    pub(crate) fn register_and(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
        finish: impl FnOnce(&Self) -> io::Result<()>,
    ) -> io::Result<()> {
        self.register(registry, token, interests)?;
        let result = finish(self);
        if result.is_err() {
            let _ = self.deregister(registry);
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
