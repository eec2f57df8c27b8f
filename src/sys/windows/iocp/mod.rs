//! The backend of Windows: an I/O completion port and the AFD driver.
//!
//! # The kernel's side
//!
//! Windows has no call that waits for the readiness of many sockets. The kernel completes *operations*. A completion port is a
//! queue of *packets*: each packet says that an operation has ended. `GetQueuedCompletionStatusEx` removes packets, and blocks
//! while the queue is empty.
//!
//! Every socket of the system is a file of the driver AFD. The driver has an operation for readiness, `IOCTL_AFD_POLL`, which
//! select() and WSAPoll() are built on. The operation names a socket and a set of bits, and ends when one of the bits holds. A
//! program can open the driver (`\Device\Afd`), bind that handle to a completion port, and start the operation for any socket.
//! Thus the readiness of each socket becomes a packet. See <https://github.com/piscisaureus/wepoll> for the history.
//!
//! # The layers
//!
//! * `port` is the completion port, and `packet` is the block of memory that the kernel holds during an operation.
//! * `request` is the block of a request, which names `bits` of readiness. `afd` opens the driver, and makes the requests. `afds`
//!   assigns the handles of the driver to sockets.
//! * `entry` has the rules that make edges of the level-triggered requests, and `probe` those of unobserved sockets. `identity`
//!   distinguishes a raw socket from a later one with its number.
//! * `table` has the entries, and the queue of those that need a request. `socket_hasher` finds the entry of a socket.
//! * `shared` is the table with its lock, and `selector` waits. `wait_timer` ends a wait at its timeout. `pushed` has sources whose
//!   readiness the crate itself knows, such as named pipes.
//!
//! # A wait
//!
//! 1. Under the lock: probe the entries that need a probe, and *flush*: make a request for the bits of readiness that are armed.
//!    A socket has one request at a time (see `entry`). A request in progress without one of the bits is canceled.
//! 2. If requests were canceled: remove their packets, and repeat step 1.
//! 3. Without the lock: wait for packets.
//! 4. Under the lock: return the request of each packet to its entry, and deliver events.
//!
//! A thread that changes an entry during step 3 makes the request itself, because the packet of the request ends the wait. At
//! any other time the entry is only queued, so that several changes of an entry cost one request. The request of a raw socket is
//! always made at once.
//!
//! # Memory
//!
//! A request in progress belongs to the kernel. A deregistered entry cancels its requests, and the table forgets the entry. The
//! packets still come, and are recognized by the generation in the request. The port counts the requests and the operations, and
//! waits for all of them when it is closed.

mod afd;
mod afds;
mod bits;
mod entry;
mod entry_key;
mod event;
mod identity;
pub(crate) mod packet;
pub(crate) mod port;
mod probe;
pub(crate) mod pushed;
pub(crate) mod readiness;
mod request;
mod selector;
mod shared;
mod socket_hasher;
mod table;
#[cfg(test)]
mod tests;
mod wait_timer;

pub(crate) use self::selector::IocpSelector;
