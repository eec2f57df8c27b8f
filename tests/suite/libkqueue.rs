//! What libkqueue, the kqueue for Linux in user space, gets wrong itself. A real kqueue does not.

/// (the case, the reason)
const FAULTS: &[(&str, &str)] = &[
    ("a_connect_that_is_refused", FETCHES_ERRORS),
    ("a_peer_that_resets", FETCHES_ERRORS),
    ("nobody_there", FETCHES_ERRORS),
    ("a_poll_inside_a_poll", "the descriptor of its queue is the writing end of a pipe, which never becomes readable"),
    ("no_descriptors_left", "it closes the descriptors of a closed queue later, in a thread of its own"),
];

const FETCHES_ERRORS: &str =
    "it calls getsockopt(SO_ERROR) to fill in `fflags`, and so takes the error from the program";

/// Whether `case` has to be left out here, because it runs on libkqueue and that is known to get it wrong.
pub fn gets_wrong(case: &str) -> bool {
    let fault = FAULTS.iter().find(|(name, _)| *name == case);
    match (kevio::BACKEND, cfg!(target_os = "linux"), fault) {
        (kevio::Backend::Kqueue, true, Some((_, reason))) => {
            println!("{case}: left out on libkqueue: {reason}");
            true
        }
        _ => false,
    }
}

pub fn is_here() -> bool {
    kevio::BACKEND == kevio::Backend::Kqueue && cfg!(target_os = "linux")
}
