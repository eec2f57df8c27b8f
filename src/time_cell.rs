//! A time that several threads read and write.
//!
//! Some 32-bit targets have no atomics of 64 bits. There the time is behind a lock.

#[cfg(target_has_atomic = "64")]
mod cell {
    use crate::sync::{AtomicU64, Ordering};

    #[derive(Debug)]
    pub(crate) struct TimeCell(AtomicU64);

    impl TimeCell {
        pub(crate) fn new(time: u64) -> TimeCell {
            TimeCell(AtomicU64::new(time))
        }

        /// Loads the time, sequentially consistent.
        #[inline]
        pub(crate) fn load(&self) -> u64 {
            self.0.load(Ordering::SeqCst)
        }

        /// Stores the time, sequentially consistent.
        #[inline]
        pub(crate) fn store(&self, time: u64) {
            self.0.store(time, Ordering::SeqCst);
        }

        /// Loads the time without an order to other operations.
        #[inline]
        pub(crate) fn load_relaxed(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }

        /// Stores the time after all earlier operations, without an order to later ones.
        #[inline]
        pub(crate) fn store_relaxed(&self, time: u64) {
            self.0.store(time, Ordering::Release);
        }
    }
}

#[cfg(not(target_has_atomic = "64"))]
mod cell {
    use std::sync::PoisonError;

    use crate::sync::Mutex;

    #[derive(Debug)]
    pub(crate) struct TimeCell(Mutex<u64>);

    impl TimeCell {
        pub(crate) fn new(time: u64) -> TimeCell {
            TimeCell(Mutex::new(time))
        }

        pub(crate) fn load(&self) -> u64 {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner)
        }

        pub(crate) fn store(&self, time: u64) {
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = time;
        }

        pub(crate) fn load_relaxed(&self) -> u64 {
            self.load()
        }

        pub(crate) fn store_relaxed(&self, time: u64) {
            self.store(time);
        }
    }
}

pub(crate) use self::cell::TimeCell;
