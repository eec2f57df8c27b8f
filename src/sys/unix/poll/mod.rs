//! poll(2): the system call, and the backend for every Unix that has neither kqueue(2) nor epoll(7).

pub(crate) mod call;
#[cfg(any(kevio_selector = "poll", test))]
mod entry;
#[cfg(any(kevio_selector = "poll", test))]
mod event;
#[cfg(any(kevio_selector = "poll", test))]
pub(crate) mod selector;
#[cfg(any(kevio_selector = "poll", test))]
mod table;
