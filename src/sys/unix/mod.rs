//! Unix: the backends, the mechanisms of sources, and helpers around system calls.
//!
//! A folder is a backend or a mechanism. The cfgs of build.rs choose the modules that a build compiles.

#[cfg(any(feature = "net", feature = "os-ext"))]
pub(crate) mod conversions;
#[cfg(any(kevio_selector = "epoll", all(test, has_epoll)))]
pub(crate) mod epoll;
pub(crate) mod errno;
pub(crate) mod fork;
pub(crate) mod fstat;
#[cfg(has_kqueue)]
pub(crate) mod kevent;
#[cfg(any(kevio_selector = "kqueue", all(test, has_kqueue)))]
pub(crate) mod kqueue;
pub(crate) mod pipe;
pub(crate) mod poll;
pub(crate) mod poll_bits;
pub(crate) mod process;
pub(crate) mod raw_source;
pub(crate) mod signal;
#[cfg(feature = "net")]
pub(crate) mod socket;
pub(crate) mod syscall;
pub(crate) mod timeout;
#[cfg(has_timerfd)]
#[allow(dead_code)] // Unused with the kqueue backend.
pub(crate) mod timerfd;
pub(crate) mod wake_fd;
pub(crate) mod watch;

#[cfg(kevio_selector = "epoll")]
pub(crate) use self::epoll::EpollSelector as ActiveSelector;
#[cfg(kevio_selector = "kqueue")]
pub(crate) use self::kqueue::KqueueSelector as ActiveSelector;
#[cfg(kevio_selector = "poll")]
pub(crate) use self::poll::selector::PollSelector as ActiveSelector;
