//! The probe of a socket: WSAPoll() without waiting, and the number of unread bytes.

use std::os::windows::io::RawSocket;
use std::time::{Duration, Instant};

use windows_sys::Win32::Networking::WinSock::{
    ioctlsocket, WSAPoll, FIONREAD, POLLERR, POLLHUP, POLLNVAL, POLLRDBAND, POLLRDNORM, POLLWRNORM, WSAPOLLFD,
};

use crate::sys::windows::iocp::bits;

/// The time after which a reported bit of an unobserved entry is reported again, although no change was found. While the
/// socket is not readable, the interval doubles from the first value to the second.
const REPORT_INTERVAL: (Duration, Duration) = (Duration::from_millis(128), Duration::from_millis(1024));

/// The bits that can be probed.
pub(super) const PROBED: u32 = bits::RECEIVE | bits::ACCEPT | bits::SEND | bits::RECEIVE_EXPEDITED;

/// Returns the bits of `bits` that hold now. Bits that cannot be probed, and last, are returned as they are.
pub(super) fn held_bits(socket: RawSocket, bits: u32) -> u32 {
    const TABLE: [(u32, i16, i16); 3] = [
        (bits::RECEIVE | bits::ACCEPT, POLLRDNORM, POLLRDNORM | POLLHUP | POLLERR),
        // After `POLLHUP` alone, the peer still reads.
        (bits::SEND, POLLWRNORM, POLLWRNORM | POLLERR),
        (bits::RECEIVE_EXPEDITED, POLLRDBAND, POLLRDBAND),
    ];
    let events = TABLE.iter().filter(|(of_row, ..)| bits & of_row != 0).fold(0, |all, (_, events, _)| all | events);
    if events == 0 {
        return bits;
    }
    let mut record = WSAPOLLFD { fd: socket as _, events, revents: 0 };
    // SAFETY: the pointer is to one record.
    if unsafe { WSAPoll(&mut record, 1, 0) } < 0 || record.revents & POLLNVAL != 0 {
        return bits;
    }
    let held = TABLE.iter().filter(|(.., results)| record.revents & results != 0).fold(0, |all, (bits, ..)| all | bits);
    bits & (held | !PROBED)
}

/// Returns `true` if the connection was reset or has failed, or if an error is pending.
pub(super) fn has_failed(socket: RawSocket) -> bool {
    let mut record = WSAPOLLFD { fd: socket as _, events: POLLRDNORM | POLLWRNORM, revents: 0 };
    // SAFETY: the pointer is to one record.
    let count = unsafe { WSAPoll(&mut record, 1, 0) };
    count < 0 || record.revents & (POLLERR | POLLHUP | POLLNVAL) != 0
}

/// Returns the number of bytes that can be read. `None` if the socket has no such number, as a listener.
fn unread_bytes(socket: RawSocket) -> Option<u32> {
    let mut unread = 0;
    // SAFETY: the pointer is to the number that the call writes.
    let result = unsafe { ioctlsocket(socket as _, FIONREAD, &mut unread) };
    (result == 0).then_some(unread)
}

/// The data that decides when a reported bit of an unobserved entry is reported again.
#[derive(Debug)]
pub(super) struct ProbeState {
    unread: Option<u32>,
    next_report_at: Instant,
    report_interval: Duration,
    /// The last round of probes.
    round: u64,
}

impl ProbeState {
    /// Returns the data of an entry that was not unobserved before.
    pub(super) fn new(socket: RawSocket) -> ProbeState {
        let now = Instant::now();
        let (unread, report_interval) = (unread_bytes(socket), REPORT_INTERVAL.0);
        ProbeState { unread, next_report_at: now + report_interval, report_interval, round: 0 }
    }

    /// Begins a round of probes. Returns `false` if the entry was probed in this round.
    pub(super) fn begin_round(&mut self, round: u64) -> bool {
        std::mem::replace(&mut self.round, round) != round
    }

    /// Records that the entry was not probed in this round yet.
    pub(super) fn postpone(&mut self) {
        self.round = 0;
    }

    /// Records that the entry has reported bits just now.
    pub(super) fn restart(&mut self, socket: RawSocket) {
        (self.unread, self.next_report_at) = (unread_bytes(socket), Instant::now() + self.report_interval);
    }

    /// Returns the bits of `reported` that have to be armed: bits that do not hold, and bits that are due to be reported again.
    pub(super) fn bits_to_arm(&mut self, socket: RawSocket, reported: u32) -> u32 {
        if reported & bits::FAILURE != 0 {
            return 0; // Nothing can begin again.
        }
        let probed = reported & PROBED;
        let held = held_bits(socket, probed);
        let gone = probed & !held;
        if gone != 0 {
            self.report_interval = REPORT_INTERVAL.0;
        }
        let (mut readable, unread) = (held & (bits::RECEIVE | bits::ACCEPT), unread_bytes(socket));
        if reported & bits::DISCONNECT != 0 && unread.unwrap_or(0) == 0 {
            readable = 0; // The end, which was reported.
        }
        if readable != 0 && unread != self.unread {
            self.report_interval = REPORT_INTERVAL.0;
            return gone | readable;
        }
        if Instant::now() < self.next_report_at {
            return gone;
        }
        let doubled = REPORT_INTERVAL.1.min(self.report_interval * 2);
        self.report_interval = if readable != 0 { REPORT_INTERVAL.0 } else { doubled };
        self.next_report_at = Instant::now() + self.report_interval;
        gone | readable | held & !(bits::RECEIVE | bits::ACCEPT)
    }
}
