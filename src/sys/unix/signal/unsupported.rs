//! The types of a system without signals. No value of them exists.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use crate::sys::error;

#[derive(Debug)]
pub(crate) enum CoalescingNotifier {}

impl CoalescingNotifier {
    pub(crate) fn new() -> io::Result<Arc<CoalescingNotifier>> {
        Err(error::unsupported())
    }
}

impl AsFd for CoalescingNotifier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match *self {}
    }
}

#[derive(Debug)]
pub(crate) enum SignalSubscription {}

impl SignalSubscription {
    pub(crate) fn new(_: &[i32], _: Option<Arc<CoalescingNotifier>>) -> io::Result<SignalSubscription> {
        Err(error::unsupported())
    }

    pub(crate) fn subscribe_all(&self) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn unsubscribe_all(&self) {
        match *self {}
    }

    pub(crate) fn take_counts(&self) -> impl Iterator<Item = (i32, usize)> + '_ {
        std::iter::empty()
    }
}
