//! The backend for I/O completion ports. This file only checks the types of the portable code.
#![allow(unused_variables, clippy::todo)]

use std::io;
use std::time::Duration;

use crate::backend::Backend;
use crate::interest::Interest;
use crate::sys::error;
use crate::sys::raw_source::RawSource;
use crate::sys::selector::{EventRecord, InternalEvents, Registration, Selector, SourceKind};
use crate::token::Token;

#[derive(Debug)]
pub(crate) struct IocpSelector;

#[derive(Clone, Debug)]
pub struct IocpEvent;

#[derive(Debug)]
pub(crate) struct IocpRegistration;

impl EventRecord for IocpEvent {
    fn of_waker(token: Token) -> Self {
        todo!()
    }
    fn of_timer(token: Token, setting: u32, expirations: u64) -> Self {
        todo!()
    }
    fn timer_setting(&self) -> Option<u32> {
        todo!()
    }
    fn token(&self) -> Token {
        todo!()
    }
    fn is_readable(&self) -> bool {
        todo!()
    }
    fn is_writable(&self) -> bool {
        todo!()
    }
    fn is_error(&self) -> bool {
        todo!()
    }
    fn is_read_closed(&self) -> bool {
        todo!()
    }
    fn is_write_closed(&self) -> bool {
        todo!()
    }
    fn is_priority(&self) -> bool {
        todo!()
    }
}

impl Registration for IocpRegistration {
    fn detach(self) -> Option<(RawSource, Interest)> {
        todo!()
    }
    fn fd_to_deregister(&self) -> Option<RawSource> {
        todo!()
    }
}

impl Selector for IocpSelector {
    const BACKEND: Backend = Backend::Iocp;
    type Event = IocpEvent;
    type Registration = IocpRegistration;

    fn new() -> io::Result<Self> {
        todo!()
    }
    fn select(&self, events: &mut Vec<IocpEvent>, max: usize, timeout: Option<Duration>) -> io::Result<()> {
        todo!()
    }
    fn register(
        &self,
        fd: RawSource,
        token: Token,
        interest: Interest,
        kind: SourceKind,
    ) -> io::Result<IocpRegistration> {
        Err(error::unsupported_interest(Backend::Iocp, interest))
    }
    fn reregister(&self, fd: RawSource, token: Token, interest: Interest, kind: SourceKind) -> io::Result<()> {
        todo!()
    }
    fn deregister(&self, fd: RawSource, kind: SourceKind) -> io::Result<()> {
        todo!()
    }
    fn create_notifier(&self) -> io::Result<()> {
        todo!()
    }
    fn notify(&self) -> io::Result<()> {
        todo!()
    }
    fn take_internal(&self, events: &mut Vec<IocpEvent>) -> InternalEvents {
        todo!()
    }
}
