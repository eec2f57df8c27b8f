//! kevio turns kernel readiness into a stream of tokens.

#[cfg(not(unix))]
compile_error!("kevio is for Unix: kqueue(2), epoll(7) and poll(2)");

macro_rules! trace {
    ($($arguments:tt)*) => {
        #[cfg(feature = "log")]
        log::trace!($($arguments)*);
    };
}

pub mod event;
mod interest;
mod io_source;
mod poll;
mod sys;
mod token;
mod waker;

#[cfg(feature = "net")]
pub mod net;
#[cfg(feature = "os-ext")]
pub mod unix;

#[doc(no_inline)]
pub use event::Events;
pub use interest::Interest;
pub use poll::{Poll, Registry};
pub use sys::Backend;
pub use token::Token;
pub use waker::Waker;

/// The backend that this build of kevio uses.
///
/// ```
/// println!("kevio on {}", kevio::BACKEND);
/// ```
pub const BACKEND: Backend = <sys::Selector as sys::Engine>::BACKEND;
