//! poll(2): the system call, the public set of slots, and the backend for systems that have neither kqueue(2) nor epoll(7).

pub(crate) mod call;
#[cfg(any(kevio_selector = "poll", test))]
mod entry;
#[cfg(any(kevio_selector = "poll", test))]
mod event;
#[cfg(feature = "os-ext")]
pub(crate) mod pollset;
#[cfg(any(kevio_selector = "poll", test))]
pub(crate) mod selector;
#[cfg(any(kevio_selector = "poll", test))]
mod table;
