use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use crate::sys::syscall::lock_ignoring_poison;

/// The flags that coalesce several wakes into one system call and one event.
///
/// Each [`Waker`](crate::Waker) has a flag:
///
/// 1. `Waker::wake` sets the flag. If the flag was set already, `wake` returns without a system call.
/// 2. Otherwise `wake` makes the system call that ends the wait.
/// 3. After each wait of the kernel, and before the program sees the events, `Poll::poll` clears all flags.
///
/// No wake is lost. Suppose that wake W1 has set the flag, and that wake W2 finds the flag set:
///
/// * If W1 makes its system call after the wait has returned, a later poll reports the event.
/// * If W1 makes its system call before, and the wait does not return the event, a later poll reports the event too.
/// * If the wait returns the event, the program sees the event after step 3, and so after W2. Data that was written before W2
///   is visible too, because the swap of step 3 reads the value that the swap of W2 wrote.
#[derive(Debug, Default)]
pub(crate) struct WakeFlags {
    /// `true` if a flag may be set. A poll without wakes reads only this field.
    any_set: AtomicBool,
    flags: Mutex<Vec<Arc<AtomicBool>>>,
}

impl WakeFlags {
    fn with_flags<T>(&self, f: impl FnOnce(&mut Vec<Arc<AtomicBool>>) -> T) -> T {
        f(&mut lock_ignoring_poison(&self.flags))
    }

    /// Adds the flag of a new waker.
    pub(crate) fn add(&self) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        self.with_flags(|flags| flags.push(Arc::clone(&flag)));
        flag
    }

    /// Removes the flag of a dropped waker.
    pub(crate) fn remove(&self, flag: &Arc<AtomicBool>) {
        self.with_flags(|flags| flags.retain(|other| !Arc::ptr_eq(flag, other)));
    }

    /// Records that a flag is set.
    #[inline]
    pub(crate) fn mark(&self) {
        self.any_set.store(true, Ordering::Release);
    }

    /// Clears all flags. `Poll::poll` calls this function after each wait of the kernel.
    #[inline]
    pub(crate) fn clear(&self) {
        if self.any_set.load(Ordering::Acquire) {
            self.clear_all();
        }
    }

    #[inline(never)] // So that a poll without wakes saves no registers for the loop.
    fn clear_all(&self) {
        if self.any_set.swap(false, Ordering::AcqRel) {
            self.with_flags(|flags| {
                for flag in flags {
                    flag.swap(false, Ordering::AcqRel);
                }
            });
        }
    }
}
