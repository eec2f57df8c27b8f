//! What can be waited for besides descriptors.

pub(crate) mod file_changes;
pub(crate) mod notification;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod timer;
pub(crate) mod watch;
