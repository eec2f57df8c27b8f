//! Models of wakers and timers, which loom explores: every order in which the threads of a model can run, up to a number of
//! preemptions.
//!
//! The models run the sources of kevio: `src/wake_state.rs`, `src/user_events.rs`, `src/source/timer_queue.rs` and what these
//! use. `build.rs` copies them. `surroundings.rs` replaces the kernel. Variants that are known to be wrong differ in a
//! line or two, and have to fail, so that the models are shown to find such faults.
#![allow(dead_code, unused_imports, private_interfaces, unexpected_cfgs)]

include!(concat!(env!("OUT_DIR"), "/variants.rs"));
