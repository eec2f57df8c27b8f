//! A descriptor that another thread or a signal handler makes readable: an eventfd, or a pipe on systems without eventfd(2).

#[cfg(has_eventfd)]
mod eventfd;
pub(crate) mod self_pipe;

#[cfg(has_eventfd)]
#[allow(unused_imports)] // Unused with the kqueue backend.
pub(crate) use self::eventfd::EventFd as WakeFd;
#[cfg(not(has_eventfd))]
#[allow(unused_imports)] // Unused with the kqueue backend.
pub(crate) use self::self_pipe::SelfPipe as WakeFd;
