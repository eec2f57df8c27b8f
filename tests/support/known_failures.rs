//! Known failures of libkqueue, the kqueue for Linux in user space. A kqueue of a kernel passes these checks.

/// A check that libkqueue fails.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A pending error of a socket is left for the program, which reads the error with `take_error` or with an operation.
    PendingSocketError,
    /// The descriptor of a queue becomes readable when the queue has an event.
    QueueIsPollable,
    /// A buffer for one event receives the events of both directions in turn.
    BothDirectionsInBufferOfOne,
    /// A forked child can use and drop polls and sources while the parent's other threads use theirs.
    ForkedChild,
    /// The handler that the program installed before runs when a signal arrives.
    PreviousHandler,
    /// kevent(2) returns at once if a change fails.
    ReceiptOfFailedChange,
    /// A watch of a file that has no name any more reports the changes of that file.
    UnlinkedFile,
    /// A watch of a directory reports changes of the directory, not of the files in the directory.
    FilesInDirectory,
    /// An error on a datagram socket is not reported as the end of the stream.
    DatagramErrorIsNoEnd,
    /// A registration that is added as disabled reports nothing.
    AddedAsDisabled,
    /// A second source of a registered descriptor is rejected.
    SecondSource,
    /// One call makes 512 changes.
    LongChangelist,
    /// A changed registration of a file keeps the changes that were not reported yet.
    ChangesBeforeReregistration,
    /// The exit of a process that is no child is reported.
    ExitOfOtherProcess,
    /// A wake in a signal handler returns, whatever the handler has interrupted.
    WakeInHandler,
}

impl Check {
    fn reason(self) -> &'static str {
        match self {
            Check::PendingSocketError => {
                "libkqueue calls getsockopt(SO_ERROR) to fill in `fflags`, and so takes the error from the program"
            }
            Check::QueueIsPollable => {
                "the descriptor of a queue is the writing end of a pipe, which never becomes readable"
            }
            Check::BothDirectionsInBufferOfOne => {
                "if two filters fire at once, libkqueue drops the event for which the buffer has no room"
            }
            Check::ForkedChild => {
                "the fork(2) handlers of libkqueue can wait for locks that no thread of the child can release"
            }
            Check::PreviousHandler => "libkqueue takes the signal before any handler runs",
            Check::ReceiptOfFailedChange => "libkqueue waits on, and drops the receipt if no event comes",
            Check::UnlinkedFile => "libkqueue watches the file that has the name now, if there is one",
            Check::FilesInDirectory => {
                "libkqueue reports inotify's events of the files in a directory as the directory's"
            }
            Check::DatagramErrorIsNoEnd => "libkqueue sets EV_EOF for every EPOLLERR",
            Check::AddedAsDisabled => "libkqueue adds an enabled knote, which is disabled by a second change",
            Check::SecondSource => {
                "libkqueue cannot detect that a descriptor was closed, so that kevio cannot detect a second source"
            }
            Check::ChangesBeforeReregistration => {
                "libkqueue removes the watch and adds it again, and a disabled watch collects no changes"
            }
            Check::ExitOfOtherProcess => "libkqueue reads the status with waitid(2), and drops the event if that fails",
            Check::WakeInHandler => "kevent(2) of libkqueue takes a lock, which the interrupted thread may hold",
            Check::LongChangelist => "libkqueue has space for 512 receipts, which are the receipts of fewer changes",
        }
    }
}

/// Returns `true` if the test runs on libkqueue, which fails `check`.
pub fn is_known_failure(check: Check) -> bool {
    if is_libkqueue() {
        println!("{check:?} is not checked on libkqueue: {}", check.reason());
    }
    is_libkqueue()
}

/// Returns `true` if the active backend is libkqueue.
pub fn is_libkqueue() -> bool {
    kevio::BACKEND == kevio::Backend::Kqueue && cfg!(target_os = "linux")
}

/// Returns `true` if the active backend is the kqueue of a kernel.
pub fn is_kernel_kqueue() -> bool {
    kevio::BACKEND == kevio::Backend::Kqueue && !is_libkqueue()
}
