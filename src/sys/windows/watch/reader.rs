//! The changes of one directory: ReadDirectoryChangesW, with a wait of the thread pool for each result.
//!
//! A request is issued when the reader starts, and again after each result. Between two requests the system collects changes in a
//! buffer of its own, so that no change is lost. The system cancels the request of a thread that exits. The reader then issues
//! the request again.
//!
//! <https://learn.microsoft.com/en-us/windows/win32/api/winbase/nf-winbase-readdirectorychangesw>

use std::cell::UnsafeCell;
use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle, OwnedHandle};
use std::sync::{Arc, Mutex};
use std::{fmt, mem, ptr};

use windows_sys::Win32::Foundation::{ERROR_NOTIFY_ENUM_DIR, ERROR_OPERATION_ABORTED};
use windows_sys::Win32::Storage::FileSystem::ReadDirectoryChangesW;
use windows_sys::Win32::System::IO::{CancelIoEx, GetOverlappedResult, OVERLAPPED};

use crate::sys::lock::lock_ignoring_poison;
use crate::sys::windows::wait::{create_event, Wait};

/// The size of the buffer in numbers of 32 bits. The system has a second buffer of this size for each directory.
const BUFFER_LEN: usize = 4 * 1024;
/// The size of a record without its name: the offset of the next record, the action, and the size of the name in bytes.
const HEADER: usize = 12;

/// A change of an entry of a directory.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// `FILE_ACTION_…`
    pub(super) action: u32,
    pub(super) name: Vec<u16>,
}

/// What a request has returned.
#[derive(Debug)]
pub(super) enum Changes {
    Records(Vec<Record>),
    /// More changes came than fit into the buffer.
    Overflow,
    /// The directory was deleted, or its file system is not reachable. Nothing follows.
    End,
}

/// Reads the changes of a directory until this value is dropped.
pub(super) struct Reader {
    // Dropped first, so that no callback issues a request while the drop of the request cancels one.
    _wait: Wait,
    _request: Arc<Request>,
}

/// The memory that the kernel uses while a request is pending.
struct Block {
    overlapped: UnsafeCell<OVERLAPPED>,
    buffer: UnsafeCell<[u32; BUFFER_LEN]>,
}

struct Request {
    directory: OwnedHandle,
    filter: u32,
    /// Signalled when a request is complete.
    event: OwnedHandle,
    /// Held by the thread that uses the block.
    state: Mutex<State>,
}

struct State {
    block: Box<Block>,
    /// The kernel may write to the block.
    is_pending: bool,
}

// SAFETY: the pointer in `OVERLAPPED` is null, and a handle is a number. The block is used by the thread that holds the lock, and
// by the kernel while a request is pending.
unsafe impl Send for State {}

impl Reader {
    /// Starts to read the changes of a directory that was opened for overlapped operations. `on_changes` is called on a thread
    /// of the pool, for one result after the other.
    pub(super) fn start(
        directory: OwnedHandle,
        filter: u32,
        on_changes: impl Fn(Changes) + Send + Sync + 'static,
    ) -> io::Result<Reader> {
        // SAFETY: zeroes are a value of the structure.
        let overlapped = UnsafeCell::new(unsafe { mem::zeroed() });
        let block = Box::new(Block { overlapped, buffer: UnsafeCell::new([0; BUFFER_LEN]) });
        // The event stays signalled until the next request, so that the result can be read at any time.
        let event = create_event(false)?;
        let state = Mutex::new(State { block, is_pending: false });
        let request = Arc::new(Request { directory, filter, event, state });
        let shared = Arc::clone(&request);
        let wait = Wait::new(request.event.as_handle(), move |rearm| {
            let changes = shared.take_result();
            let is_over = matches!(changes, Some(Changes::End)) || shared.issue().is_err();
            if let Some(changes) = changes.filter(|changes| !matches!(changes, Changes::End)) {
                on_changes(changes);
            }
            // The end comes once, also if the next request cannot be issued.
            match is_over {
                true => on_changes(Changes::End),
                false => rearm.arm(),
            }
        })?;
        request.issue()?;
        wait.arm();
        Ok(Reader { _wait: wait, _request: request })
    }
}

impl Request {
    /// Issues a request. No request is pending.
    fn issue(&self) -> io::Result<()> {
        let mut state = lock_ignoring_poison(&self.state);
        debug_assert!(!state.is_pending);
        let (overlapped, buffer) = (state.block.overlapped.get(), state.block.buffer.get());
        // SAFETY: no request is pending, so that the kernel does not use the block. The block stays in its place until the
        // request is complete: see the drop. The event is open for as long.
        let is_issued = unsafe {
            *overlapped = mem::zeroed();
            (*overlapped).hEvent = self.event.as_raw_handle();
            ReadDirectoryChangesW(
                self.directory.as_raw_handle(),
                buffer.cast(),
                mem::size_of_val(&*buffer) as u32,
                0,
                self.filter,
                ptr::null_mut(),
                overlapped,
                None,
            )
        };
        if is_issued == 0 {
            return Err(io::Error::last_os_error());
        }
        state.is_pending = true;
        Ok(())
    }

    /// Returns the result of the request. `None` if the system has cancelled the request.
    fn take_result(&self) -> Option<Changes> {
        let mut state = lock_ignoring_poison(&self.state);
        if !state.is_pending {
            return None;
        }
        let len = self.wait_for_result(&mut state);
        match len {
            // Also if the buffer of the system has overflowed.
            Ok(0) => Some(Changes::Overflow),
            Ok(len) => {
                // SAFETY: no request is pending, so that the kernel does not use the block. This thread holds the lock.
                let buffer: &[u32; BUFFER_LEN] = unsafe { &*state.block.buffer.get() };
                Some(Changes::Records(records(buffer, len)))
            }
            Err(error) => match error.raw_os_error().map(i32::unsigned_abs) {
                Some(ERROR_OPERATION_ABORTED) => None,
                Some(ERROR_NOTIFY_ENUM_DIR) => Some(Changes::Overflow),
                _ => Some(Changes::End),
            },
        }
    }

    /// Waits until the pending request is complete, and returns the number of bytes in the buffer.
    fn wait_for_result(&self, state: &mut State) -> io::Result<usize> {
        let mut len = 0;
        // SAFETY: the structure is that of the pending request.
        let is_successful =
            unsafe { GetOverlappedResult(self.directory.as_raw_handle(), state.block.overlapped.get(), &mut len, 1) };
        let result = match is_successful {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(len as usize),
        };
        state.is_pending = false;
        result
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let mut state = lock_ignoring_poison(&self.state);
        if state.is_pending {
            // SAFETY: the structure is that of the pending request. The call fails if the request is complete.
            unsafe { CancelIoEx(self.directory.as_raw_handle(), state.block.overlapped.get()) };
            // The kernel completes a cancelled request at once.
            let _ = self.wait_for_result(&mut state);
        }
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

/// Decodes the first `len` bytes of a buffer: `FILE_NOTIFY_INFORMATION` records.
fn records(buffer: &[u32], len: usize) -> Vec<Record> {
    let bytes: Vec<u8> = buffer.iter().flat_map(|number| number.to_ne_bytes()).take(len).collect();
    let number_at =
        |at: usize| bytes.get(at..at + 4).map(|bytes| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let (mut records, mut at) = (Vec::new(), 0);
    while let (Some(next), Some(action), Some(size)) = (number_at(at), number_at(at + 4), number_at(at + 8)) {
        let Some(name) = bytes.get(at + HEADER..at + HEADER + size as usize) else { break };
        let name = name.chunks_exact(2).map(|unit| u16::from_ne_bytes([unit[0], unit[1]])).collect();
        records.push(Record { action, name });
        if next == 0 {
            break;
        }
        at += next as usize;
    }
    records
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{channel, Receiver};
    use std::time::Duration;

    use windows_sys::Win32::Storage::FileSystem::{
        FILE_ACTION_ADDED, FILE_ACTION_RENAMED_NEW_NAME, FILE_ACTION_RENAMED_OLD_NAME, FILE_FLAG_OVERLAPPED,
        FILE_LIST_DIRECTORY, FILE_NOTIFY_CHANGE_FILE_NAME,
    };

    use super::*;
    use crate::sys::windows::watch::state::open_path;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn start(path: &std::path::Path) -> (Reader, Receiver<Changes>) {
        let directory = open_path(path, FILE_LIST_DIRECTORY, FILE_FLAG_OVERLAPPED).unwrap();
        let (sender, receiver) = channel();
        let sender = Mutex::new(sender);
        let on_changes = move |changes| drop(sender.lock().unwrap().send(changes));
        (Reader::start(directory, FILE_NOTIFY_CHANGE_FILE_NAME, on_changes).unwrap(), receiver)
    }

    fn expect(receiver: &Receiver<Changes>, mut expected: Vec<(u32, &str)>) {
        while !expected.is_empty() {
            let changes = receiver.recv_timeout(DEADLINE).unwrap();
            let Changes::Records(records) = changes else { panic!("{changes:?}") };
            for Record { action, name } in records {
                assert_eq!((action, &*String::from_utf16(&name).unwrap()), expected.remove(0));
            }
        }
    }

    #[test]
    fn records_are_decoded_up_to_the_last_whole_one() {
        let name = u32::from_ne_bytes([b'a', 0, b'b', 0]);
        let buffer = [16, FILE_ACTION_ADDED, 4, name, 0, FILE_ACTION_ADDED, 2, name];
        let record = |name: &str| Record { action: FILE_ACTION_ADDED, name: name.encode_utf16().collect() };
        assert_eq!(records(&buffer, 32), [record("ab"), record("a")]);
        assert_eq!(records(&buffer, 30), [record("ab"), record("a")]);
        assert_eq!(records(&buffer, 29), [record("ab")]);
        assert_eq!(records(&buffer, 12), []);
        assert_eq!(records(&[], 0), []);
    }

    #[test]
    fn changes_are_read_one_after_the_other_until_the_drop() {
        let directory = tempfile::tempdir().unwrap();
        let (reader, receiver) = start(directory.path());
        for name in ["first", "second"] {
            std::fs::write(directory.path().join(name), b"").unwrap();
            expect(&receiver, vec![(FILE_ACTION_ADDED, name)]);
        }
        std::fs::rename(directory.path().join("first"), directory.path().join("third")).unwrap();
        expect(&receiver, vec![(FILE_ACTION_RENAMED_OLD_NAME, "first"), (FILE_ACTION_RENAMED_NEW_NAME, "third")]);
        drop(reader);
        // The callback was freed with its sender.
        assert!(receiver.recv_timeout(DEADLINE).is_err());
    }

    /// The system cancels the requests of a thread that exits.
    #[test]
    fn reader_outlives_the_thread_that_has_started_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let (_reader, receiver) = std::thread::spawn(move || start(&path)).join().unwrap();
        std::fs::write(directory.path().join("new"), b"").unwrap();
        expect(&receiver, vec![(FILE_ACTION_ADDED, "new")]);
    }

    #[test]
    fn more_changes_than_the_buffer_holds_are_an_overflow() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let opened = open_path(path, FILE_LIST_DIRECTORY, FILE_FLAG_OVERLAPPED).unwrap();
        let (sender, receiver) = channel();
        let (go, goes) = channel::<()>();
        let (sender, goes) = (Mutex::new(sender), Mutex::new(goes));
        let _reader = Reader::start(opened, FILE_NOTIFY_CHANGE_FILE_NAME, move |changes| {
            let _ = sender.lock().unwrap().send(changes);
            let _ = goes.lock().unwrap().recv_timeout(DEADLINE);
        });
        std::fs::write(path.join("first"), b"").unwrap();
        let first = receiver.recv_timeout(DEADLINE).unwrap();
        assert!(matches!(&first, Changes::Records(records) if records.len() == 1), "{first:?}");
        // The callback blocks. The second request has room for about 500 records.
        for n in 0..1500 {
            std::fs::write(path.join(format!("{n:06}")), b"").unwrap();
        }
        drop(go);
        loop {
            if matches!(receiver.recv_timeout(DEADLINE).unwrap(), Changes::Overflow) {
                break;
            }
        }
    }

    #[test]
    fn dropping_with_requests_in_flight_ends_each() {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..200 {
            let (reader, _receiver) = start(directory.path());
            std::fs::write(directory.path().join(n.to_string()), b"").unwrap();
            drop(reader);
        }
    }
}
