use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Which wakers of a poll have been woken since it last returned.
///
/// A waker that finds its flag set leaves the system call to whoever set it. No wake is lost, because the flags are
/// cleared after the kernel's wait has returned and before the program sees its events. Take a wake that finds its
/// flag set. Whoever set it makes its call to the kernel before or after that wait returned. If after, the event comes
/// in a later poll. If before, and the event is not among those returned, likewise. If it is, the program sees it
/// after the flag was cleared, and so after this wake; and what was written before the wake is seen too, for the
/// clearing swap reads what the waker's swap wrote.
#[derive(Debug, Default)]
pub(crate) struct WakeFlags {
    /// Whether there may be a flag to clear. All that a poll without wakes looks at.
    any_set: AtomicBool,
    flags: Mutex<Vec<Arc<AtomicBool>>>,
}

impl WakeFlags {
    fn with_flags<T>(&self, f: impl FnOnce(&mut Vec<Arc<AtomicBool>>) -> T) -> T {
        f(&mut self.flags.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn add(&self) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        self.with_flags(|flags| flags.push(Arc::clone(&flag)));
        flag
    }

    pub(crate) fn remove(&self, flag: &Arc<AtomicBool>) {
        self.with_flags(|flags| flags.retain(|other| !Arc::ptr_eq(flag, other)));
    }

    /// One of them wakes: its flag is set.
    #[inline]
    pub(crate) fn mark(&self) {
        self.any_set.store(true, Ordering::Release);
    }

    /// The kernel's wait has returned.
    #[inline]
    pub(crate) fn clear(&self) {
        if self.any_set.load(Ordering::Acquire) {
            self.clear_all();
        }
    }

    #[inline(never)] // So that a poll without wakes saves no registers for it.
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
