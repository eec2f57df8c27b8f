//! The timer that ends a wait at its timeout.
//!
//! The kernel rounds the timeout of a wait up to its tick: 15.6 ms, unless a program has set a shorter one. A high-resolution timer
//! expires within about half a millisecond. Its expiration appends a packet to the port, and the packet ends the wait. Windows has
//! such timers from 10 1803 on. On an older system the timeout of the wait keeps the time.
//!
//! A timer that was armed for a wait stays armed when the wait ends early. The timer is armed again only for a wait that ends before
//! the time of the timer, or after the timer has expired. Therefore most waits make no system call for their timeout.
//!
//! <https://learn.microsoft.com/en-us/windows/win32/api/synchapi/nf-synchapi-createwaitabletimerexw>

use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, OwnedHandle};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{io, ptr};

use windows_sys::Win32::System::Threading::{
    CreateWaitableTimerExW, SetWaitableTimer, CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, TIMER_ALL_ACCESS,
};

use crate::sys::windows::iocp::port::{key, Port};
use crate::sys::windows::wait::Wait;

/// The timer may expire this much before its time, because the clocks of timers and of `Instant` differ.
const EARLY: Duration = Duration::from_micros(100);

/// The timer of a port. The timer is made for the first wait that has a timeout.
#[derive(Debug, Default)]
pub(super) struct WaitTimer {
    timer: Option<io::Result<PortTimer>>,
    /// The time for which the timer was armed last.
    expires_at: Option<Instant>,
}

impl WaitTimer {
    /// Ends the next wait when `timeout` has passed. Packets of the timer may end a wait before that time too.
    pub(super) fn arm(&mut self, port: &Arc<Port>, timeout: Duration) {
        let now = Instant::now();
        let end = now + timeout;
        let is_armed = self.expires_at.is_some_and(|expires_at| now + EARLY < expires_at && expires_at <= end);
        if is_armed {
            return;
        }
        if let Ok(timer) = self.timer.get_or_insert_with(|| PortTimer::new(port)) {
            // If this fails, the timeout of the wait keeps the time.
            self.expires_at = timer.set(timeout).is_ok().then_some(end);
        }
    }
}

/// A high-resolution timer that appends a packet to a port when it expires.
#[derive(Debug)]
struct PortTimer {
    timer: OwnedHandle,
    /// Dropped with the timer, so that no packet follows.
    _wait: Wait,
}

impl PortTimer {
    fn new(port: &Arc<Port>) -> io::Result<PortTimer> {
        // SAFETY: null pointers stand for the default security, and for no name.
        let timer = unsafe {
            CreateWaitableTimerExW(ptr::null(), ptr::null(), CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, TIMER_ALL_ACCESS)
        };
        if timer.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the system has just made this handle, and it has no other owner.
        let timer = unsafe { OwnedHandle::from_raw_handle(timer) };
        let port = Arc::clone(port);
        let wait = Wait::new(timer.as_handle(), move |rearm| {
            rearm.arm();
            // If this fails, the timeout of the wait keeps the time.
            let _ = port.post(key::TIMEOUT);
        })?;
        wait.arm();
        Ok(PortTimer { timer, _wait: wait })
    }

    /// Arms the timer to expire once. The setting replaces the previous one.
    fn set(&self, delay: Duration) -> io::Result<()> {
        // Negative numbers are relative to the present time. The unit is 100 ns.
        let units = i64::try_from((delay.as_nanos() + 99) / 100).unwrap_or(i64::MAX);
        // SAFETY: the handle is that of a timer, and the call reads the number. There is no period, and no function to call.
        match unsafe { SetWaitableTimer(self.timer.as_raw_handle(), &-units, 0, None, ptr::null(), 0) } {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LATER: Duration = Duration::from_secs(3600);
    const DEADLINE: Duration = Duration::from_secs(10);

    /// Waits for packets, and returns their number. Each must be one of the timer.
    fn dequeue(port: &Port, timeout: Duration) -> usize {
        let mut packets = Vec::new();
        port.dequeue(&mut packets, 8, Some(timeout)).unwrap();
        assert!(packets.iter().all(|packet| packet.lpCompletionKey == key::TIMEOUT));
        packets.len()
    }

    #[test]
    fn timer_ends_a_wait_that_is_longer() {
        let port = Arc::new(Port::new().unwrap());
        let mut timer = WaitTimer::default();
        for _ in 0..3 {
            timer.arm(&port, Duration::from_micros(1500));
            assert_eq!(dequeue(&port, DEADLINE), 1);
        }
        assert_eq!(dequeue(&port, Duration::from_millis(5)), 0, "the timer expires again");
    }

    #[test]
    fn timer_is_armed_again_only_for_an_earlier_end() {
        let port = Arc::new(Port::new().unwrap());
        let mut timer = WaitTimer::default();
        timer.arm(&port, LATER);
        let later = timer.expires_at;
        timer.arm(&port, 2 * LATER);
        assert_eq!(timer.expires_at, later);
        timer.arm(&port, Duration::from_millis(20));
        let earlier = timer.expires_at;
        assert!(earlier < later);
        timer.arm(&port, LATER);
        assert_eq!((timer.expires_at, dequeue(&port, DEADLINE)), (earlier, 1));
    }

    #[test]
    fn port_has_no_reference_after_the_drop_of_its_timer() {
        let port = Arc::new(Port::new().unwrap());
        for round in 0..100 {
            WaitTimer::default().arm(&port, Duration::from_micros(10 * round));
        }
        assert_eq!(Arc::strong_count(&port), 1);
    }
}
