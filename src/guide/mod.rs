//! Pages about topics that several types share.

#[doc = include_str!("portability.md")]
pub mod portability {}

#[doc = include_str!("choosing_a_backend.md")]
pub mod choosing_a_backend {}

#[doc = include_str!("many_timeouts.md")]
pub mod many_timeouts {}

#[doc = include_str!("signals.md")]
pub mod signals {}

#[doc = include_str!("processes.md")]
pub mod processes {}

#[doc = include_str!("files.md")]
pub mod files {}
