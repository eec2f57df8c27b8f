//! Signal handlers of the tests.

/// Installs a handler. No other test of the process may use the signal at the same time.
pub fn install(signal: libc::c_int, handler: extern "C" fn(libc::c_int), flags: libc::c_int) {
    // SAFETY: the structure is valid for sigaction(2); the handlers of these tests do nothing, or store to an atomic.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = handler as usize;
        action.sa_flags = flags;
        assert_eq!(libc::sigaction(signal, &action, std::ptr::null_mut()), 0);
    }
}

/// A handler that does nothing, so that the signal only interrupts system calls.
pub extern "C" fn do_nothing(_: libc::c_int) {}
