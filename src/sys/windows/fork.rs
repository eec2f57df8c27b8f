//! The generation of the process, and locks of statics. Windows has no fork(2), so that there is one generation.

use std::sync::{Mutex, MutexGuard, OnceLock};

use crate::sys::lock::lock_ignoring_poison;

const GENERATION: u32 = 1;

/// Returns a number that is never zero, and is constant.
#[inline]
pub(crate) fn generation() -> u32 {
    GENERATION
}

/// Returns `true` if `generation` is that of this process.
#[inline]
pub(crate) fn is_current(generation: u32) -> bool {
    generation == GENERATION
}

/// A static lock with its value.
pub(crate) struct ForkLock<T>(OnceLock<Mutex<T>>);

impl<T: Default + Send + 'static> ForkLock<T> {
    pub(crate) const fn new() -> ForkLock<T> {
        ForkLock(OnceLock::new())
    }

    pub(crate) fn lock(&'static self) -> MutexGuard<'static, T> {
        lock_ignoring_poison(self.0.get_or_init(Mutex::default))
    }
}
