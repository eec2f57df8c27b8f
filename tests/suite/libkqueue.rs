//! What libkqueue, the kqueue for Linux in user space, gets wrong itself. A real kqueue does not. Shared with the tests
//! of the engines in `src/sys/conformance`.

/// (the case, the reason)
const FAULTS: &[(&str, &str)] = &[
    ("a_connect_that_is_refused", FETCHES_ERRORS),
    ("a_peer_that_resets", FETCHES_ERRORS),
    ("nobody_there", FETCHES_ERRORS),
    ("a_poll_inside_a_poll", "the descriptor of its queue is the writing end of a pipe, which never becomes readable"),
    ("both_directions_through_a_buffer_for_one", "of two filters that fire at once it forgets the one without room"),
    (
        "a_child_of_a_process_that_makes_polls",
        "its handlers of fork(2) can wait for locks that nobody is there to release",
    ),
    ("a_handler_that_was_there_is_called", "it takes the signal before any handler"),
    ("a_change_that_fails_is_told_at_once", "it waits on, and forgets the receipt if nothing comes"),
    ("a_file_without_a_name", "it watches what has the name of the file, if anything has"),
    ("what_happens_in_a_directory", "it takes what inotify tells of the files in a directory for the directory's"),
    ("unread_error_queue_does_not_spin", "it sets EV_EOF for every EPOLLERR"),
    ("an_error_on_a_datagram_socket_is_not_its_end", "it sets EV_EOF for every EPOLLERR"),
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
