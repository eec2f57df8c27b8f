//! The record of one event.

use std::fmt;

use crate::flag_set::FlagNames;
use crate::sys::selector::EventRecord;
use crate::sys::windows::iocp::readiness::Readiness;
use crate::token::Token;

/// The record of one event. The backend makes the record from a packet.
#[derive(Copy, Clone)]
pub struct IocpEvent {
    token: Token,
    readiness: Readiness,
    /// The setting of a timer, or [`NO_TIMER`].
    setting: u32,
}

/// No setting of a timer: settings have 31 bits.
const NO_TIMER: u32 = u32::MAX;

impl IocpEvent {
    pub(super) fn new(token: Token, readiness: Readiness) -> IocpEvent {
        IocpEvent { token, readiness, setting: NO_TIMER }
    }
}

impl EventRecord for IocpEvent {
    fn of_waker(token: Token) -> IocpEvent {
        IocpEvent::new(token, Readiness::READABLE)
    }

    fn of_timer(token: Token, setting: u32, _: u64) -> IocpEvent {
        IocpEvent { setting, ..IocpEvent::of_waker(token) }
    }

    fn timer_setting(&self) -> Option<u32> {
        Some(self.setting).filter(|&setting| setting != NO_TIMER)
    }

    fn token(&self) -> Token {
        self.token
    }

    fn is_readable(&self) -> bool {
        const STATES: Readiness =
            Readiness::READABLE.or(Readiness::PRIORITY).or(Readiness::READ_CLOSED).or(Readiness::ERROR);
        self.readiness.has(STATES)
    }

    fn is_writable(&self) -> bool {
        const STATES: Readiness = Readiness::WRITABLE.or(Readiness::WRITE_CLOSED).or(Readiness::ERROR);
        self.readiness.has(STATES)
    }

    fn is_error(&self) -> bool {
        self.readiness.has(Readiness::ERROR)
    }

    fn is_read_closed(&self) -> bool {
        self.readiness.has(Readiness::READ_CLOSED)
    }

    fn is_write_closed(&self) -> bool {
        self.readiness.has(Readiness::WRITE_CLOSED)
    }

    fn is_priority(&self) -> bool {
        self.readiness.has(Readiness::PRIORITY)
    }
}

impl fmt::Debug for IocpEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let readiness = FlagNames(self.readiness.bits(), &Readiness::NAMES);
        f.debug_struct("IocpEvent").field("readiness", &readiness).field("token", &self.token.0).finish()
    }
}
