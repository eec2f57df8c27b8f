//! The notification of a source by the code below it: a signal handler, or a queue of the kernel.

/// The registration of a source, seen from below.
pub(crate) trait Notify: Send + Sync {
    /// Records that the source may have something to report. Async-signal-safe.
    fn notify(&self);
}
