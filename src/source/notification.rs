//! The common part of signals, processes and watches.
//!
//! Each of these sources is a set of filters on a backend with filters (kqueue). On every other backend, the events of the source
//! are made in user space, from its state of type `S`; or the source is a descriptor, which the kernel makes readable.

use std::io;
use std::sync::Arc;

use crate::event::Event;
use crate::interest::Interest;
use crate::io_source::IoSource;
use crate::poll_id::PollId;
use crate::poll_shared;
use crate::registry::{not_found_error, Registry, Source};
use crate::source::kqueue_filter::{FilterPayload, FilterSet};
use crate::source::user_registration::{Reports, UserRegistration};
use crate::sys::raw_source::OwnedSource;
use crate::sys::selector::{FilterSpec, Selector, SourceKind};
use crate::sys::{error, fork, ActiveSelector};
use crate::token::Token;

/// `true` if the backend has filters of signals, processes and file changes.
const HAS_FILTERS: bool = <ActiveSelector as Selector>::HAS_FILTERS;

/// A source of notifications, with the token of its registration.
#[derive(Debug)]
pub(crate) struct NotificationSource<S> {
    mechanism: Mechanism<S>,
    /// The token and the interest, while the source is registered.
    registered: Option<(Token, Interest)>,
    /// The generation of the process that created or registered the source (`sys::fork`).
    generation: u32,
}

#[derive(Debug)]
enum Mechanism<S> {
    Filters(FilterSet),
    User { state: Arc<S>, registration: Option<Arc<UserRegistration>> },
    Descriptor(IoSource<OwnedSource>),
}

/// The origin of the events on a backend without filters.
pub(crate) enum Origin<S> {
    /// A state from which events are made in user space.
    State(S),
    /// A descriptor that becomes readable.
    #[cfg_attr(not(has_pidfd), allow(dead_code))]
    Descriptor(OwnedSource),
}

/// The state of a source, with the name of the public type that has the source.
pub(crate) trait SourceState: Reports {
    const NAME: &'static str;
}

impl<S: SourceState> NotificationSource<S> {
    /// Creates filters with these idents if the backend has filters. Otherwise the source is what `open` returns.
    pub(crate) fn new(
        filter: FilterSpec,
        idents: impl IntoIterator<Item = i32>,
        open: impl FnOnce() -> io::Result<Origin<S>>,
    ) -> io::Result<NotificationSource<S>> {
        let mechanism = match HAS_FILTERS {
            true => Mechanism::Filters(FilterSet::new(idents, filter)),
            false => match open()? {
                Origin::State(state) => Mechanism::User { state: Arc::new(state), registration: None },
                Origin::Descriptor(descriptor) => Mechanism::Descriptor(IoSource::new(descriptor)),
            },
        };
        Ok(NotificationSource { mechanism, registered: None, generation: fork::generation() })
    }

    /// Returns the descriptor, if the source is one.
    pub(crate) fn descriptor(&self) -> Option<&OwnedSource> {
        match &self.mechanism {
            Mechanism::Descriptor(descriptor) => Some(descriptor),
            Mechanism::Filters(_) | Mechanism::User { .. } => None,
        }
    }

    /// Returns the state from which events are made in user space, and the registration.
    pub(crate) fn user_state(&self) -> Option<(&Arc<S>, Option<&Arc<UserRegistration>>)> {
        match &self.mechanism {
            Mechanism::User { state, registration } => Some((state, registration.as_ref())),
            Mechanism::Filters(_) | Mechanism::Descriptor(_) => None,
        }
    }

    /// Fails in a forked child of the process that created or registered the source.
    pub(crate) fn check_process(&self) -> io::Result<()> {
        if !fork::is_current(self.generation) {
            return Err(error::inherited(S::NAME));
        }
        Ok(())
    }

    /// Returns `true` if the source is registered, or was registered with a poll that was dropped.
    pub(crate) fn is_registered(&self) -> bool {
        match &self.mechanism {
            Mechanism::Filters(filters) => filters.is_registered(),
            Mechanism::User { registration, .. } => registration.is_some(),
            Mechanism::Descriptor(descriptor) => descriptor.is_registered(),
        }
    }

    /// Returns `true` if the source is registered with a poll that exists.
    pub(crate) fn has_live_poll(&self) -> bool {
        poll_shared::is_live(match &self.mechanism {
            Mechanism::Filters(filters) => filters.poll_id(),
            Mechanism::User { registration, .. } => {
                registration.as_ref().map_or(PollId::NONE, |registration| registration.poll_id())
            }
            Mechanism::Descriptor(descriptor) => descriptor.poll_id(),
        })
    }

    /// Returns `true` if the interest of the registration is `NONE`.
    pub(crate) fn is_disabled(&self) -> bool {
        self.registered.is_some_and(|(_, interest)| interest.is_none())
    }

    /// Fails with `InvalidInput` if the event belongs to another source. Except for a filter, only the token and the readiness of
    /// the event are compared.
    fn check_event(&self, method: &str, event: &Event) -> io::Result<()> {
        self.check_process()?;
        let token = self.registered.map(|(token, _)| token);
        if token == Some(event.token()) && event.is_readable() && event.timer_setting().is_none() {
            return Ok(());
        }
        Err(Self::other_source(method))
    }

    #[cold]
    fn other_source(method: &str) -> io::Error {
        error::other_source(&format!("{}::{method}", S::NAME))
    }

    /// Checks the event that was passed to `method`, and returns its data. For a filter `decode` gets the data from the event,
    /// and otherwise `read` reads the data.
    pub(crate) fn read<R>(
        &self,
        method: &str,
        event: &Event,
        decode: impl FnOnce(FilterPayload) -> R,
        read: impl FnOnce() -> io::Result<R>,
    ) -> io::Result<R> {
        let Mechanism::Filters(filters) = &self.mechanism else {
            self.check_event(method, event)?;
            return read();
        };
        self.check_process()?;
        let payload = filters.payload(event).filter(|_| self.registered.map(|(token, _)| token) == Some(event.token()));
        payload.map(decode).ok_or_else(|| Self::other_source(method))
    }

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

/// Returns the interest to register: `READABLE` (edge-triggered or one-shot), or `NONE`. Other readiness is `Unsupported`. `name`
/// is the type of the source.
///
/// A level-triggered interest becomes edge-triggered. kqueue forces `EV_CLEAR` on these filters. A caller could not end a
/// level-triggered condition, because reading the source may leave the condition unchanged.
pub(crate) fn supported_interest(name: &str, interests: Interest) -> io::Result<Interest> {
    let is_unsupported =
        interests.is_priority() || interests.is_aio() || interests.is_lio() || interests.is_exclusive();
    match (interests.is_readable(), interests.is_oneshot()) {
        _ if is_unsupported => Err(error::unsupported_by_source(name, interests)),
        (true, true) => Ok(Interest::READABLE.oneshot()),
        (true, false) => Ok(Interest::READABLE),
        (false, _) if interests.is_none() => Ok(Interest::NONE),
        // None of these sources is ever writable.
        (false, _) => Err(error::unsupported_by_source(name, interests)),
    }
}

impl<S: Reports> Mechanism<S> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Mechanism::Filters(filters) => filters.register(registry, token, interests),
            Mechanism::User { state, registration } => {
                registry.check_process()?;
                let poll_id = registration.as_ref().map_or(PollId::NONE, |registration| registration.poll_id());
                registry.check_not_registered(poll_id)?;
                let state = Arc::clone(state) as Arc<dyn Reports>;
                *registration = Some(UserRegistration::new(registry, token, interests, state)?);
                Ok(())
            }
            Mechanism::Descriptor(descriptor) => {
                descriptor.register_as(SourceKind::Builtin, registry, token, interests)
            }
        }
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        match self {
            Mechanism::Filters(filters) => filters.reregister(registry, token, interests),
            Mechanism::User { registration, .. } => {
                let registration = registration.as_ref().ok_or_else(error::not_found)?;
                if !registry.is_registered_here(registration.poll_id())? {
                    return Err(error::not_found());
                }
                registry.check_process()?;
                registration.rearm(token, interests)
            }
            Mechanism::Descriptor(descriptor) => descriptor.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Mechanism::Filters(filters) => filters.deregister(registry),
            Mechanism::User { registration, .. } => {
                registry.check_process()?;
                match registration {
                    Some(registered) if registered.poll_id() == registry.id() => {
                        registered.disable();
                        *registration = None;
                        Ok(())
                    }
                    Some(elsewhere) => Err(not_found_error(elsewhere.poll_id())),
                    None => Err(error::not_found()),
                }
            }
            Mechanism::Descriptor(descriptor) => descriptor.deregister(registry),
        }
    }
}

impl<S> Drop for NotificationSource<S> {
    fn drop(&mut self) {
        match &mut self.mechanism {
            Mechanism::Filters(_) => {}
            Mechanism::User { registration, .. } => {
                if let Some(registration) = registration.take().filter(|_| fork::is_current(self.generation)) {
                    registration.disable();
                }
            }
            // A child that is just being started may hold a copy of the descriptor, with which the registration would last.
            Mechanism::Descriptor(descriptor) => descriptor.deregister_before_close(),
        }
    }
}

impl<S: SourceState> Source for NotificationSource<S> {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.check_process()?;
        let interests = supported_interest(S::NAME, interests)?;
        self.mechanism.register(registry, token, interests)?;
        self.registered = Some((token, interests));
        Ok(())
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        self.check_process()?;
        let interests = supported_interest(S::NAME, interests)?;
        let result = self.mechanism.reregister(registry, token, interests);
        match result {
            Ok(()) => self.registered = Some((token, interests)),
            Err(_) if self.is_registered() => {}
            Err(_) => self.registered = None,
        }
        result
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        self.check_process()?;
        let result = self.mechanism.deregister(registry);
        if !self.is_registered() {
            self.registered = None;
        }
        result
    }
}
