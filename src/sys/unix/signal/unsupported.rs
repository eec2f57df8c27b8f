//! A system without signals.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

#[derive(Debug)]
pub(crate) enum CoalescingNotifier {}

impl CoalescingNotifier {
    pub(crate) fn new() -> io::Result<Arc<CoalescingNotifier>> {
        Err(crate::sys::error::unsupported())
    }
}

impl AsFd for CoalescingNotifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum SignalCounts {}

impl SignalCounts {
    pub(crate) fn new(_: &[i32], _: Option<Arc<CoalescingNotifier>>) -> io::Result<Arc<SignalCounts>> {
        Err(crate::sys::error::unsupported())
    }

    pub(crate) fn subscribe_all(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn unsubscribe_all(&self) {
        match *self {}
    }

    pub(crate) fn take(&self) -> impl Iterator<Item = (i32, usize)> + '_ {
        std::iter::empty()
    }
}
