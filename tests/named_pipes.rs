//! Named pipes of Windows: the semantics that programs for mio rely on, and every order of dropping.
#![cfg(windows)]

use std::ffi::c_void;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::{AsHandle, AsRawHandle, FromRawHandle, IntoRawHandle, OwnedHandle, RawHandle};
use std::thread;
use std::time::{Duration, Instant};

use kevio::event::Event;
use kevio::windows::NamedPipe;
use kevio::{Events, Interest, Poll, Registry, Token};

const SERVER: Token = Token(0);
const CLIENT: Token = Token(1);
const BOTH: Interest = Interest::READABLE.add(Interest::WRITABLE);

/// The longest time for an expected event.
const LIMIT: Duration = Duration::from_secs(20);
/// A time in which an event that must not come would come.
const QUIET: Duration = Duration::from_millis(50);

const FILE_FLAG_OVERLAPPED: u32 = 0x4000_0000;
const ERROR_NO_DATA: i32 = 232;
const ERROR_OPERATION_ABORTED: i32 = 995;

// The declarations of the system that the tests need.
#[link(name = "kernel32")]
extern "system" {
    fn CreateNamedPipeW(
        name: *const u16,
        open_mode: u32,
        pipe_mode: u32,
        max_instances: u32,
        out_size: u32,
        in_size: u32,
        timeout: u32,
        attributes: *const c_void,
    ) -> RawHandle;
    fn CancelIoEx(file: RawHandle, overlapped: *const c_void) -> i32;
    fn SetNamedPipeHandleState(pipe: RawHandle, mode: *const u32, max_count: *const u32, timeout: *const u32) -> i32;
}

#[link(name = "kernel32")]
extern "system" {
    fn GetModuleHandleA(name: *const u8) -> *mut c_void;
    fn GetProcAddress(module: *mut c_void, name: *const u8) -> *const c_void;
}

fn is_wine() -> bool {
    // SAFETY: the names end with a zero, and the module stays loaded.
    unsafe { !GetProcAddress(GetModuleHandleA(b"ntdll.dll\0".as_ptr()), b"wine_get_version\0".as_ptr()).is_null() }
}

const PIPE_ACCESS_INBOUND: u32 = 1;
const PIPE_ACCESS_OUTBOUND: u32 = 2;
const PIPE_ACCESS_DUPLEX: u32 = 3;
const MESSAGES: u32 = 0x4 | 0x2;
const READ_MESSAGES: u32 = 0x2;

fn name() -> String {
    format!(r"\\.\pipe\kevio-test-{}-{:016x}", std::process::id(), fastrand::u64(..))
}

fn server() -> (NamedPipe, String) {
    let name = name();
    (NamedPipe::new(&name).unwrap(), name)
}

/// Creates another kind of server, whose buffers have 4 KiB.
fn other_server(access: u32, pipe_mode: u32) -> (NamedPipe, String) {
    let name = name();
    let wide: Vec<u16> = std::ffi::OsStr::new(&name).encode_wide().chain([0]).collect();
    // SAFETY: the name ends with a zero, and the handle is new.
    let server = unsafe {
        let handle = CreateNamedPipeW(
            wide.as_ptr(),
            access | FILE_FLAG_OVERLAPPED,
            pipe_mode,
            255,
            4096,
            4096,
            0,
            std::ptr::null(),
        );
        assert_ne!(handle as isize, -1, "{}", io::Error::last_os_error());
        NamedPipe::from_raw_handle(handle)
    };
    (server, name)
}

fn open(name: &str, flags: u32) -> File {
    OpenOptions::new().read(true).write(true).custom_flags(flags).open(name).unwrap()
}

fn client(name: &str) -> NamedPipe {
    NamedPipe::from(OwnedHandle::from(open(name, FILE_FLAG_OVERLAPPED)))
}

fn pipe() -> (NamedPipe, NamedPipe) {
    let (server, name) = server();
    let client = client(&name);
    (server, client)
}

/// A poll, and its events.
struct Loop {
    poll: Poll,
    events: Events,
}

impl Loop {
    fn new() -> Loop {
        Loop { poll: Poll::new().unwrap(), events: Events::with_capacity(64) }
    }

    fn registry(&self) -> &Registry {
        self.poll.registry()
    }

    fn poll(&mut self, timeout: Duration) -> Vec<Event> {
        self.poll.poll(&mut self.events, Some(timeout)).unwrap();
        self.events.iter().cloned().collect()
    }

    /// Polls until `is_done` returns `true`. The function is called before each poll.
    fn poll_until(&mut self, mut is_done: impl FnMut(&[Event]) -> bool) {
        let deadline = Instant::now() + LIMIT;
        let mut events = Vec::new();
        while !is_done(&events) {
            assert!(Instant::now() < deadline, "no event, last events: {events:?}");
            events = self.poll(LIMIT);
        }
    }

    fn expect_readable(&mut self, token: Token) {
        self.poll_until(|events| events.iter().any(|event| event.token() == token && event.is_readable()));
    }

    fn expect_writable(&mut self, token: Token) {
        self.poll_until(|events| events.iter().any(|event| event.token() == token && event.is_writable()));
    }

    /// Reads at least one byte, or the end.
    fn read(&mut self, pipe: &mut NamedPipe, buffer: &mut [u8]) -> io::Result<usize> {
        let mut result = Err(ErrorKind::WouldBlock.into());
        self.poll_until(|_| {
            result = pipe.read(buffer);
            !is_blocked(&result)
        });
        result
    }

    fn read_exact(&mut self, pipe: &mut NamedPipe, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut position = 0;
        while position < len {
            let n = self.read(pipe, &mut bytes[position..]).unwrap();
            assert_ne!(n, 0, "the end after {position} bytes");
            position += n;
        }
        bytes
    }

    fn write(&mut self, pipe: &mut NamedPipe, bytes: &[u8]) -> io::Result<usize> {
        let mut result = Err(ErrorKind::WouldBlock.into());
        self.poll_until(|_| {
            result = pipe.write(bytes);
            !is_blocked(&result)
        });
        result
    }

    /// A server and a client that are registered, and whose first events were taken.
    fn pair(&mut self) -> (NamedPipe, NamedPipe) {
        let (mut server, mut client) = pipe();
        self.registry().register(&mut server, SERVER, BOTH).unwrap();
        self.registry().register(&mut client, CLIENT, BOTH).unwrap();
        let mut seen = [false; 2];
        self.poll_until(|events| {
            for event in events.iter().filter(|event| event.is_writable()) {
                seen[event.token().0] = true;
            }
            seen == [true; 2]
        });
        (server, client)
    }
}

fn is_blocked<T>(result: &io::Result<T>) -> bool {
    matches!(result, Err(error) if error.kind() == ErrorKind::WouldBlock)
}

#[track_caller]
fn assert_blocked<T: std::fmt::Debug>(result: io::Result<T>) {
    assert!(is_blocked(&result), "{result:?}");
}

#[track_caller]
fn assert_error<T: std::fmt::Debug>(result: io::Result<T>, kind: ErrorKind) {
    assert_eq!(result.unwrap_err().kind(), kind);
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|index| (index * 31 + index / 251) as u8).collect()
}

#[test]
fn pipe_has_the_traits_of_mio() {
    fn check<T: Send + Sync + Read + Write + AsRawHandle + AsHandle + FromRawHandle + std::fmt::Debug>() {}
    check::<NamedPipe>();
    let (server, _) = server();
    assert!(format!("{server:?}").starts_with("NamedPipe { handle: 0x"));
    assert_eq!(server.as_handle().as_raw_handle(), server.as_raw_handle());
}

#[test]
fn name_that_exists_or_contains_a_zero_is_rejected() {
    assert_error(NamedPipe::new("\\\\.\\pipe\\kevio\0test"), ErrorKind::InvalidInput);
    let (_server, name) = server();
    match NamedPipe::new(&name) {
        Err(error) => assert_eq!(error.kind(), ErrorKind::PermissionDenied),
        // wine ignores `FILE_FLAG_FIRST_PIPE_INSTANCE`.
        Ok(_) => assert!(is_wine()),
    }
    assert_error(NamedPipe::new_instance("\\\\.\\pipe\\kevio\0test"), ErrorKind::InvalidInput);
    assert!(NamedPipe::new_instance("no pipe").is_err());
}

#[test]
fn further_instances_serve_clients_at_the_same_time() {
    const CLIENTS: usize = 5;
    let mut poll = Loop::new();
    let (mut server, name) = server();
    let mut pairs = Vec::new();
    for number in 0..CLIENTS {
        poll.registry().register(&mut server, Token(2 * number), BOTH).unwrap();
        assert_blocked(server.connect());
        let mut client = client(&name);
        poll.registry().register(&mut client, Token(2 * number + 1), BOTH).unwrap();
        poll.expect_writable(Token(2 * number));
        assert!(server.take_error().unwrap().is_none());
        pairs.push((server, client));
        server = NamedPipe::new_instance(&name).unwrap();
    }
    for (number, (server, client)) in pairs.iter_mut().enumerate() {
        poll.write(server, &[number as u8]).unwrap();
        poll.write(client, &[number as u8, 1]).unwrap();
    }
    for (number, (server, client)) in pairs.iter_mut().enumerate() {
        assert_eq!(poll.read_exact(client, 1), [number as u8]);
        assert_eq!(poll.read_exact(server, 2), [number as u8, 1]);
    }
    // Without an instance, the call creates the first one.
    drop((pairs, server));
    drop(poll);
    let _server = NamedPipe::new_instance(&name).unwrap();
    let _client = client(&name);
}

#[test]
fn registered_pipes_are_writable() {
    Loop::new().pair();
}

#[test]
fn bytes_are_read_in_parts_until_would_block() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    assert_blocked(server.read(&mut [0; 8]));
    assert_eq!(client.write(b"1234").unwrap(), 4);
    poll.expect_readable(SERVER);
    let mut buffer = [0; 3];
    assert_eq!(server.read(&mut buffer).unwrap(), 3);
    assert_eq!(&buffer, b"123");
    assert_eq!(server.read(&mut buffer).unwrap(), 1);
    assert_eq!(buffer[0], b'4');
    assert_blocked(server.read(&mut buffer));
}

#[test]
fn vectored_operations_fill_every_buffer() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    assert_eq!(client.write_vectored(&[IoSlice::new(b"12"), IoSlice::new(b""), IoSlice::new(b"345")]).unwrap(), 5);
    client.flush().unwrap();
    poll.expect_readable(SERVER);
    let (mut a, mut b) = ([0; 1], [0; 8]);
    assert_eq!(server.read_vectored(&mut [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)]).unwrap(), 5);
    assert_eq!((&a, &b[..4]), (b"1", &b"2345"[..]));
}

#[test]
fn empty_operations_return_zero_and_change_nothing() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    assert_eq!(client.write(b"").unwrap(), 0);
    assert_eq!(poll.write(&mut client, b"ab").unwrap(), 2);
    poll.expect_readable(SERVER);
    assert_eq!(server.read(&mut []).unwrap(), 0);
    assert_eq!(poll.read_exact(&mut server, 2), b"ab");
}

/// Some programs flush an empty buffer. Windows ends the read of the peer with no bytes.
#[test]
fn empty_write_of_the_peer_is_not_the_end() {
    let mut poll = Loop::new();
    let (mut server, name) = server();
    poll.registry().register(&mut server, SERVER, BOTH).unwrap();
    let mut client = open(&name, 0);
    server.connect().unwrap();
    for byte in 0..3 {
        // The read of the pipe is in progress.
        poll.poll(QUIET);
        assert_eq!(client.write(b"").unwrap(), 0);
        poll.poll(QUIET);
        assert_blocked(server.read(&mut [0; 8]));
        client.write_all(&[byte]).unwrap();
        assert_eq!(poll.read_exact(&mut server, 1), [byte]);
    }
    drop(client);
    assert_eq!(poll.read(&mut server, &mut [0; 8]).unwrap(), 0);
}

#[test]
fn connect_reports_writable_when_a_client_comes() {
    let mut poll = Loop::new();
    let (mut server, name) = server();
    poll.registry().register(&mut server, SERVER, BOTH).unwrap();
    assert!(poll.poll(QUIET).is_empty());
    assert_blocked(server.read(&mut [0]));
    assert_blocked(server.connect());
    assert_blocked(server.connect());
    assert!(poll.poll(QUIET).is_empty());

    let mut client = client(&name);
    poll.expect_writable(SERVER);
    assert!(server.take_error().unwrap().is_none());
    poll.registry().register(&mut client, CLIENT, BOTH).unwrap();
    poll.write(&mut client, b"x").unwrap();
    assert_eq!(poll.read_exact(&mut server, 1), b"x");
}

#[test]
fn connect_to_a_waiting_client_succeeds_and_reports_writable() {
    let mut poll = Loop::new();
    let (mut server, name) = server();
    poll.registry().register(&mut server, SERVER, BOTH).unwrap();
    assert!(poll.poll(QUIET).is_empty());
    let _client = client(&name);
    server.connect().unwrap();
    poll.expect_writable(SERVER);
}

#[test]
fn failed_connect_is_writable_until_its_error_is_taken() {
    let mut poll = Loop::new();
    let (mut server, name) = server();
    poll.registry().register(&mut server, SERVER, BOTH.level()).unwrap();
    assert_blocked(server.connect());
    // SAFETY: the handle is open. Without a record, the call cancels all operations of the handle.
    assert_ne!(unsafe { CancelIoEx(server.as_raw_handle(), std::ptr::null()) }, 0);
    poll.expect_writable(SERVER);
    poll.expect_writable(SERVER);
    let error = server.take_error().unwrap().unwrap();
    assert_eq!(error.raw_os_error(), Some(ERROR_OPERATION_ABORTED));
    assert!(server.take_error().unwrap().is_none());
    assert!(poll.poll(QUIET).is_empty());
    assert_blocked(server.connect());
    let _client = client(&name);
    poll.expect_writable(SERVER);
}

#[test]
fn client_can_neither_connect_nor_disconnect() {
    let mut poll = Loop::new();
    let (_server, client) = poll.pair();
    let error = client.connect().unwrap_err();
    assert!(error.raw_os_error().is_some(), "{error:?}");
    assert!(client.disconnect().is_err());
}

#[test]
fn server_serves_one_client_after_the_other() {
    let mut poll = Loop::new();
    let (mut server, name) = server();
    poll.registry().register(&mut server, SERVER, BOTH).unwrap();
    for round in 0..3 {
        assert_blocked(server.connect());
        let mut client = client(&name);
        poll.registry().register(&mut client, CLIENT, BOTH).unwrap();
        poll.expect_writable(SERVER);
        let message = [round; 10];
        poll.write(&mut client, &message).unwrap();
        assert_eq!(poll.read_exact(&mut server, 10), message);
        drop(client);
        assert_eq!(poll.read(&mut server, &mut [0]).unwrap(), 0);
        server.disconnect().unwrap();
    }
}

/// Bytes of one client, errors of its connection, and writes to it do not reach the next client.
#[test]
fn disconnect_discards_what_belongs_to_the_client() {
    let mut poll = Loop::new();
    let (mut server, name) = server();
    poll.registry().register(&mut server, SERVER, BOTH).unwrap();
    assert_blocked(server.connect());
    let mut first = client(&name);
    poll.registry().register(&mut first, CLIENT, BOTH).unwrap();
    poll.expect_writable(SERVER);
    first.write_all(b"of the first client").unwrap();
    poll.expect_readable(SERVER);
    server.write_all(&pattern(1 << 20)).unwrap();
    server.disconnect().unwrap();
    assert_blocked(server.read(&mut [0; 8]));
    assert_blocked(server.connect());
    drop(first);

    let mut second = client(&name);
    poll.expect_writable(SERVER);
    assert!(server.take_error().unwrap().is_none());
    poll.registry().register(&mut second, CLIENT, BOTH).unwrap();
    poll.write(&mut second, b"2").unwrap();
    assert_eq!(poll.read_exact(&mut server, 1), b"2");
    poll.write(&mut server, b"answer").unwrap();
    assert_eq!(poll.read_exact(&mut second, 6), b"answer");
}

#[test]
fn disconnect_cancels_a_connect_without_an_error() {
    let mut poll = Loop::new();
    let (mut server, name) = server();
    poll.registry().register(&mut server, SERVER, BOTH).unwrap();
    assert_blocked(server.connect());
    server.disconnect().unwrap();
    poll.poll(QUIET);
    assert!(server.take_error().unwrap().is_none());
    assert_blocked(server.connect());
    let _client = client(&name);
    poll.expect_writable(SERVER);
}

#[test]
fn end_is_reported_once_and_lasts() {
    let mut poll = Loop::new();
    let (mut server, client) = poll.pair();
    drop(client);
    poll.expect_readable(SERVER);
    for _ in 0..3 {
        assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    }
    assert!(poll.poll(QUIET).is_empty(), "an edge for an end that was read");
    poll.registry().reregister(&mut server, SERVER, BOTH).unwrap();
    poll.expect_readable(SERVER);
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
}

#[test]
fn bytes_before_the_end_are_read() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    client.write_all(b"last words").unwrap();
    drop(client);
    assert_eq!(poll.read_exact(&mut server, 10), b"last words");
    assert_eq!(poll.read(&mut server, &mut [0]).unwrap(), 0);
}

#[test]
fn error_of_an_accepted_write_is_returned_by_the_next_write() {
    let mut poll = Loop::new();
    let (mut server, client) = poll.pair();
    drop(client);
    poll.expect_readable(SERVER);
    let mut error = None;
    poll.poll_until(|_| match server.write(b"x") {
        Err(found) if found.kind() != ErrorKind::WouldBlock => {
            error = Some(found);
            true
        }
        _ => false,
    });
    assert_eq!(error.and_then(|error| error.raw_os_error()), Some(ERROR_NO_DATA));
}

#[test]
fn write_without_a_peer_fails_with_broken_pipe() {
    let mut poll = Loop::new();
    let (mut server, client) = poll.pair();
    server.write_all(&pattern(1 << 20)).unwrap();
    assert_blocked(server.write(b"x"));
    drop(client);
    let error = poll.write(&mut server, b"x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BrokenPipe, "{error:?}");
}

#[test]
fn client_that_left_before_connect_is_an_end() {
    let mut poll = Loop::new();
    let (mut server, name) = server();
    drop(client(&name));
    poll.registry().register(&mut server, SERVER, BOTH).unwrap();
    // The client was connected, and has gone.
    let _ = server.connect();
    poll.expect_readable(SERVER);
    assert_eq!(server.read(&mut [0]).unwrap(), 0);
}

#[test]
fn bytes_of_a_dropped_server_are_read_before_the_end() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    server.write_all(b"bye").unwrap();
    drop(server);
    assert_eq!(poll.read_exact(&mut client, 3), b"bye");
    assert_eq!(poll.read(&mut client, &mut [0]).unwrap(), 0);
}

#[test]
fn disconnect_by_the_server_is_readable_for_the_client() {
    let mut poll = Loop::new();
    let (server, mut client) = poll.pair();
    server.disconnect().unwrap();
    poll.expect_readable(CLIENT);
    match client.read(&mut [0]) {
        Ok(0) => {}
        Err(error) if error.raw_os_error().is_some() => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn registration_that_is_missing_or_of_another_poll_is_an_error() {
    let (first, second) = (Poll::new().unwrap(), Poll::new().unwrap());
    let (mut server, _) = server();
    assert_error(first.registry().reregister(&mut server, SERVER, BOTH), ErrorKind::NotFound);
    assert_error(first.registry().deregister(&mut server), ErrorKind::NotFound);
    assert_error(server.connect(), ErrorKind::NotFound);
    assert_error(server.read(&mut [0]), ErrorKind::NotFound);
    assert_error(server.write(&[0]), ErrorKind::NotFound);

    first.registry().register(&mut server, SERVER, BOTH).unwrap();
    assert_error(first.registry().register(&mut server, SERVER, BOTH), ErrorKind::AlreadyExists);
    assert_error(second.registry().register(&mut server, SERVER, BOTH), ErrorKind::AlreadyExists);
    assert_error(second.registry().reregister(&mut server, SERVER, BOTH), ErrorKind::AlreadyExists);
    assert_error(second.registry().deregister(&mut server), ErrorKind::AlreadyExists);

    first.registry().deregister(&mut server).unwrap();
    assert_error(first.registry().deregister(&mut server), ErrorKind::NotFound);
    assert_error(second.registry().register(&mut server, SERVER, BOTH), ErrorKind::AlreadyExists);
    first.registry().register(&mut server, SERVER, BOTH).unwrap();
    drop(first);
    assert_error(second.registry().register(&mut server, SERVER, BOTH), ErrorKind::AlreadyExists);
}

/// A failed registration leaves nothing behind: the pipe can be registered with another poll.
#[test]
fn unsupported_interest_binds_the_pipe_to_no_poll() {
    let (first, second) = (Poll::new().unwrap(), Poll::new().unwrap());
    let (mut server, _client) = pipe();
    let exclusive = Interest::READABLE.exclusive();
    assert_error(first.registry().register(&mut server, SERVER, exclusive), ErrorKind::Unsupported);
    second.registry().register(&mut server, SERVER, BOTH).unwrap();
    assert_error(second.registry().reregister(&mut server, SERVER, exclusive), ErrorKind::Unsupported);
}

#[test]
fn copy_of_a_bound_handle_is_rejected_by_another_poll() {
    let (first, second) = (Poll::new().unwrap(), Poll::new().unwrap());
    let (mut server, _client) = pipe();
    first.registry().register(&mut server, SERVER, BOTH).unwrap();
    let copy = server.as_handle().try_clone_to_owned().unwrap();
    let mut copy = NamedPipe::from(copy);
    assert!(second.registry().register(&mut copy, SERVER, BOTH).is_err());
    assert_error(second.registry().deregister(&mut copy), ErrorKind::NotFound);
}

#[test]
fn pipe_that_is_registered_again_keeps_its_bytes() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    client.write_all(b"before").unwrap();
    poll.expect_readable(SERVER);
    poll.registry().deregister(&mut server).unwrap();
    assert!(poll.poll(QUIET).iter().all(|event| event.token() != SERVER));
    let mut buffer = [0; 4];
    assert_eq!(server.read(&mut buffer).unwrap(), 4);
    assert_error(server.write(b"x"), ErrorKind::NotFound);

    const AGAIN: Token = Token(usize::MAX);
    poll.registry().register(&mut server, AGAIN, BOTH).unwrap();
    poll.expect_readable(AGAIN);
    assert_eq!(poll.read_exact(&mut server, 2), b"re");
    poll.write(&mut client, b"after").unwrap();
    assert_eq!(poll.read_exact(&mut server, 5), b"after");
}

#[test]
fn bytes_for_a_deregistered_pipe_are_reported_when_registered() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    poll.registry().deregister(&mut server).unwrap();
    client.write_all(b"early").unwrap();
    poll.expect_writable(CLIENT);
    poll.poll(QUIET);
    poll.registry().register(&mut server, SERVER, BOTH).unwrap();
    poll.expect_readable(SERVER);
    assert_eq!(poll.read_exact(&mut server, 5), b"early");
}

#[test]
fn edge_is_reported_once_until_the_pipe_is_reregistered() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    client.write_all(b"1").unwrap();
    poll.expect_readable(SERVER);
    poll.poll(QUIET);
    assert!(poll.poll(QUIET).is_empty(), "an edge was reported twice");
    poll.registry().reregister(&mut server, SERVER, BOTH).unwrap();
    poll.expect_readable(SERVER);
    assert_eq!(poll.read_exact(&mut server, 1), b"1");
    // Readiness that was taken before the poll is not reported.
    assert!(poll.poll(QUIET).iter().all(|event| event.token() != SERVER || !event.is_readable()));
}

#[test]
fn level_triggered_pipe_is_reported_until_it_is_read() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    poll.registry().deregister(&mut client).unwrap();
    poll.registry().register(&mut client, CLIENT, Interest::WRITABLE).unwrap();
    poll.registry().reregister(&mut server, SERVER, Interest::READABLE.level()).unwrap();
    client.write_all(b"12").unwrap();
    poll.expect_readable(SERVER);
    for _ in 0..3 {
        assert!(poll.poll(LIMIT).iter().any(|event| event.token() == SERVER && event.is_readable()));
    }
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 2);
    assert!(poll.poll(QUIET).iter().all(|event| event.token() != SERVER));
    drop(client);
    poll.expect_readable(SERVER);
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    poll.expect_readable(SERVER);
}

#[test]
fn one_shot_pipe_is_reported_once_and_a_disabled_one_never() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    poll.registry().reregister(&mut server, SERVER, Interest::READABLE.oneshot()).unwrap();
    client.write_all(b"1").unwrap();
    poll.expect_readable(SERVER);
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
    poll.write(&mut client, b"2").unwrap();
    assert!(poll.poll(QUIET).iter().all(|event| event.token() != SERVER), "a one-shot registration was not disarmed");

    poll.registry().reregister(&mut server, SERVER, Interest::NONE).unwrap();
    poll.poll(QUIET);
    assert!(poll.poll(QUIET).iter().all(|event| event.token() != SERVER), "a disabled registration was reported");
    poll.registry().reregister(&mut server, SERVER, Interest::READABLE.oneshot()).unwrap();
    poll.expect_readable(SERVER);
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);
}

#[test]
fn each_write_is_one_message() {
    let mut poll = Loop::new();
    let (mut server, name) = other_server(PIPE_ACCESS_DUPLEX, MESSAGES);
    let mut client = client(&name);
    // SAFETY: the handle is open, and the mode is a number.
    let result =
        unsafe { SetNamedPipeHandleState(client.as_raw_handle(), &READ_MESSAGES, std::ptr::null(), std::ptr::null()) };
    assert_ne!(result, 0);
    poll.registry().register(&mut server, SERVER, BOTH).unwrap();
    poll.registry().register(&mut client, CLIENT, BOTH).unwrap();

    // A message that is longer than the buffer is data, and no error.
    let long = pattern(10_000);
    assert_eq!(client.write(&long).unwrap(), long.len());
    assert_eq!(poll.read_exact(&mut server, long.len()), long);
    // One write is one message.
    for message in [&b"one"[..], b"", b"three"] {
        assert_eq!(poll.write(&mut client, message).unwrap(), message.len());
    }
    let mut buffer = [0; 64];
    for message in [&b"one"[..], b"", b"three"] {
        let n = poll.read(&mut server, &mut buffer).unwrap();
        assert_eq!(&buffer[..n], message);
    }
    assert_blocked(server.read(&mut buffer));
}

#[test]
fn pipes_of_one_direction_transfer_bytes() {
    let mut poll = Loop::new();
    let (mut sender, name) = other_server(PIPE_ACCESS_OUTBOUND, 0);
    let file = OpenOptions::new().read(true).custom_flags(FILE_FLAG_OVERLAPPED).open(name).unwrap();
    // SAFETY: the handle is open, and has no other owner.
    let mut receiver = unsafe { NamedPipe::from_raw_handle(file.into_raw_handle()) };
    poll.registry().register(&mut sender, SERVER, Interest::WRITABLE).unwrap();
    poll.registry().register(&mut receiver, CLIENT, Interest::READABLE).unwrap();
    poll.expect_writable(SERVER);
    assert_eq!(poll.write(&mut sender, b"down").unwrap(), 4);
    assert_eq!(poll.read_exact(&mut receiver, 4), b"down");
    drop(receiver);

    let (mut receiver, name) = other_server(PIPE_ACCESS_INBOUND, 0);
    let mut file = OpenOptions::new().write(true).open(name).unwrap();
    poll.registry().register(&mut receiver, CLIENT, Interest::READABLE).unwrap();
    file.write_all(b"up").unwrap();
    assert_eq!(poll.read_exact(&mut receiver, 2), b"up");
}

/// Both ends write 1 MiB, and read in small and large parts.
#[test]
fn long_transfers_in_both_directions_are_complete() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    let bytes = pattern(1 << 20);
    let (mut sent, mut received) = ([0; 2], [Vec::new(), Vec::new()]);
    let mut buffer = vec![0; 100_000];
    let mut blocked_writes = 0;
    poll.poll_until(|_| {
        for (end, pipe) in [&mut server, &mut client].into_iter().enumerate() {
            while sent[end] < bytes.len() {
                let rest = &bytes[sent[end]..bytes.len().min(sent[end] + 150_000)];
                match pipe.write(rest) {
                    Ok(n) => sent[end] += n,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        blocked_writes += 1;
                        break;
                    }
                    Err(error) => panic!("{error:?}"),
                }
            }
            let size = if end == 0 { 777 } else { buffer.len() };
            loop {
                match pipe.read(&mut buffer[..size]) {
                    Ok(0) => panic!("the end"),
                    Ok(n) => received[end].extend_from_slice(&buffer[..n]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error:?}"),
                }
            }
        }
        received.iter().all(|received| received.len() == bytes.len())
    });
    assert!(received.iter().all(|received| *received == bytes));
    assert!(blocked_writes > 0);
}

/// A write that is accepted arrives, although its pipe was dropped.
#[test]
fn accepted_write_of_a_dropped_pipe_arrives() {
    let mut poll = Loop::new();
    let (mut server, mut client) = poll.pair();
    let bytes = pattern(1 << 20);
    client.write_all(&bytes).unwrap();
    drop(client);
    assert_eq!(poll.read_exact(&mut server, bytes.len()), bytes);
    assert_eq!(poll.read(&mut server, &mut [0]).unwrap(), 0);
}

/// The operations that are in progress while values are dropped.
#[derive(Copy, Clone, Debug)]
enum InProgress {
    Reads,
    Writes,
    Connect,
    Packets,
}

/// Every order of dropping two pipes, the poll and a registry. The blocks have returned when the peers of both pipes have ended.
#[test]
fn values_are_dropped_in_every_order_with_operations_in_progress() {
    for in_progress in [InProgress::Reads, InProgress::Writes, InProgress::Connect, InProgress::Packets] {
        for order in permutations(4) {
            drop_in_order(in_progress, &order);
        }
    }
}

fn permutations(len: usize) -> Vec<Vec<usize>> {
    if len == 0 {
        return vec![Vec::new()];
    }
    let shorter = permutations(len - 1);
    let insert = |order: &Vec<usize>, at| {
        let mut order = order.clone();
        order.insert(at, len - 1);
        order
    };
    shorter.iter().flat_map(|order| (0..len).map(move |at| insert(order, at))).collect()
}

fn drop_in_order(in_progress: InProgress, order: &[usize]) {
    let started = Instant::now();
    let poll = Loop::new();
    let registry = poll.registry().try_clone().unwrap();
    let (mut first, first_name) = server();
    let (mut second, second_name) = server();
    registry.register(&mut first, SERVER, BOTH).unwrap();
    registry.register(&mut second, CLIENT, BOTH).unwrap();
    let mut peers = Vec::new();
    if let InProgress::Connect = in_progress {
        assert_blocked(first.connect());
        assert_blocked(second.connect());
    } else {
        for (name, server) in [(first_name, &mut first), (second_name, &mut second)] {
            peers.push(open(&name, 0));
            server.connect().unwrap();
        }
    }
    match in_progress {
        InProgress::Reads | InProgress::Connect => {}
        InProgress::Writes => {
            for server in [&mut first, &mut second] {
                server.write_all(&pattern(1 << 20)).unwrap();
                assert_blocked(server.write(b"x"));
            }
        }
        // The reads have ended, and no poll has taken their packets.
        InProgress::Packets => peers.iter_mut().for_each(|peer| peer.write_all(b"x").unwrap()),
    }
    let (mut poll, mut registry, mut first, mut second) = (Some(poll), Some(registry), Some(first), Some(second));
    for &index in order {
        match index {
            0 => drop(first.take()),
            1 => drop(second.take()),
            2 => drop(poll.take()),
            _ => drop(registry.take()),
        }
    }
    // A handle that a block keeps open would keep these reads waiting until the deadline.
    for mut peer in peers {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(1..) = peer.read(&mut buffer) {}
    }
    // A port that waits in vain for a block gives up after 5 s.
    assert!(started.elapsed() < Duration::from_secs(4), "{in_progress:?} {order:?}");
}

/// Pipes that are dropped without a poll in between leave no memory behind: the registrations take their packets.
#[test]
fn pipes_that_are_dropped_without_a_poll_leave_nothing_behind() {
    let poll = Loop::new();
    for _ in 0..1000 {
        let (mut server, mut client) = pipe();
        poll.registry().register(&mut server, SERVER, BOTH).unwrap();
        poll.registry().register(&mut client, CLIENT, BOTH).unwrap();
    }
}

#[test]
fn each_of_many_pipes_receives_its_answer() {
    const COUNT: usize = 200;
    let mut poll = Loop::new();
    let mut pipes: Vec<(NamedPipe, NamedPipe)> = (0..COUNT).map(|_| pipe()).collect();
    for (index, (server, client)) in pipes.iter_mut().enumerate() {
        poll.registry().register(server, Token(2 * index), BOTH).unwrap();
        poll.registry().register(client, Token(2 * index + 1), BOTH).unwrap();
        client.write_all(&(index as u32).to_le_bytes()).unwrap();
    }
    let mut answers = 0;
    let mut buffer = [0; 64];
    poll.poll_until(|events| {
        for event in events.iter().filter(|event| event.is_readable()) {
            let index = event.token().0 / 2;
            let (server, client) = &mut pipes[index];
            let pipe = if event.token().0 % 2 == 0 { &mut *server } else { &mut *client };
            let n = match pipe.read(&mut buffer) {
                Ok(n) => n,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => panic!("{error:?}"),
            };
            assert_eq!(buffer[..n], (index as u32).to_le_bytes());
            if event.token().0 % 2 == 0 {
                server.write_all(&buffer[..n]).unwrap();
            } else {
                answers += 1;
            }
        }
        answers == COUNT
    });
}

/// One thread polls and reads, and others write and read at the same time through references.
#[test]
fn threads_read_and_write_one_pipe_at_the_same_time() {
    let mut poll = Loop::new();
    let (server, client) = poll.pair();
    const TOTAL: usize = 300_000;
    let bytes = pattern(TOTAL);
    let mut received = Vec::new();
    thread::scope(|scope| {
        let bytes = &bytes;
        scope.spawn(|| {
            let mut sent = 0;
            while sent < TOTAL {
                match (&client).write(&bytes[sent..TOTAL.min(sent + 1000)]) {
                    Ok(n) => sent += n,
                    // The other thread polls, and ends the write.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => thread::yield_now(),
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        scope.spawn(|| {
            for _ in 0..1000 {
                assert_blocked((&client).read(&mut [0; 8]));
                thread::yield_now();
            }
        });
        let mut buffer = [0; 5000];
        poll.poll_until(|_| {
            loop {
                match (&server).read(&mut buffer) {
                    Ok(n) => received.extend_from_slice(&buffer[..n]),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error:?}"),
                }
            }
            received.len() == TOTAL
        });
    });
    assert!(received == bytes);
}

/// A thread that is blocked in a poll receives the events of pipes that other threads register, connect and drop.
#[test]
fn changes_of_pipes_during_a_wait_are_reported() {
    let mut poll = Loop::new();
    let registry = poll.registry().try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut server, name) = server();
            registry.register(&mut server, SERVER, BOTH).unwrap();
            assert_blocked(server.connect());
            let mut peer = open(&name, 0);
            peer.write_all(b"go").unwrap();
            let deadline = Instant::now() + LIMIT;
            let mut buffer = [0; 2];
            while is_blocked(&server.read(&mut buffer)) {
                assert!(Instant::now() < deadline);
                thread::yield_now();
            }
            assert_eq!(&buffer, b"go");
            drop(server);
            let (mut last, _client) = pipe();
            registry.register(&mut last, CLIENT, BOTH).unwrap();
            thread::sleep(QUIET);
        });
        poll.expect_writable(CLIENT);
    });
}
