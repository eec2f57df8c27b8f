//! A descriptor that another thread, or a signal handler, makes readable: an eventfd where there is one, else a pipe.

#[cfg(has_eventfd)]
mod eventfd;
pub(crate) mod self_pipe;

#[cfg(has_eventfd)]
#[allow(unused_imports)] // kqueue has user events.
pub(crate) use self::eventfd::EventFd as WakeFd;
#[cfg(not(has_eventfd))]
#[allow(unused_imports)] // As above.
pub(crate) use self::self_pipe::SelfPipe as WakeFd;
