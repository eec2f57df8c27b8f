//! kevio under the name of mio.
//!
//! A program whose dependencies use mio names this crate in `[patch.crates-io]`. Its dependencies then use kevio. The crate has
//! the version and the features of the newest mio, and re-exports the whole of kevio. `README.md` in the folder above has the
//! steps.

pub use kevio::*;
