//! The public poll(2) bindings.

use std::io::{ErrorKind, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kevio::unix::pollset::{PollFlags, PollSet, Slot};

use crate::support::handler;
use crate::support::limits::{closed_descriptor, raise_fd_limit_to_default};
use crate::support::poll::TIMEOUT;

const NOW: Option<Duration> = Some(Duration::ZERO);
const IN: PollFlags = PollFlags::IN;
const OUT: PollFlags = PollFlags::OUT;

fn set_of(len: usize) -> PollSet {
    let mut set = PollSet::new();
    set.grow(len).unwrap();
    set
}

fn ready(set: &PollSet) -> Vec<(usize, RawFd, PollFlags)> {
    set.ready().map(|slot| (slot.index(), slot.fd(), slot.revents())).collect()
}

#[test]
fn poll_returns_only_the_ready_slots() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let (c, _d) = UnixStream::pair().unwrap();
    let mut set = set_of(9);
    set.set(0, c.as_raw_fd(), IN).unwrap();
    set.set(3, a.as_raw_fd(), IN).unwrap();
    set.set(7, a.as_raw_fd(), OUT).unwrap();
    assert_eq!(set.poll(9, None).unwrap(), 1);
    assert_eq!(ready(&set), [(7, a.as_raw_fd(), OUT)]);
    b.write_all(b"x").unwrap();
    assert_eq!(set.poll(9, None).unwrap(), 2);
    assert_eq!(ready(&set), [(3, a.as_raw_fd(), IN), (7, a.as_raw_fd(), OUT)]);
    assert_eq!(set.ready().size_hint(), (0, Some(2)));

    // Only the first slots are polled.
    assert_eq!(set.poll(7, None).unwrap(), 1);
    assert_eq!(ready(&set), [(3, a.as_raw_fd(), IN)]);
    assert_eq!(set.get(7).unwrap().revents(), PollFlags::empty(), "the slot was not polled");
    assert_eq!(set.poll(3, NOW).unwrap(), 0);
    assert_eq!(ready(&set), []);
    assert_eq!(set.poll(0, NOW).unwrap(), 0);

    set.unset(3).unwrap();
    assert_eq!(set.poll(9, None).unwrap(), 1);
    assert_eq!(ready(&set), [(7, a.as_raw_fd(), OUT)]);
}

#[test]
fn slot_returns_what_was_set() {
    let (a, b) = UnixStream::pair().unwrap();
    let mut set = set_of(2);
    assert_eq!((set.get(0), set.get(2), set.get(usize::MAX)), (None, None, None));
    set.set(1, a.as_raw_fd(), OUT).unwrap();
    let fields = |slot: Slot| (slot.index(), slot.fd(), slot.events(), slot.revents());
    assert_eq!(fields(set.get(1).unwrap()), (1, a.as_raw_fd(), OUT, PollFlags::empty()));
    set.poll(2, None).unwrap();
    assert_eq!(fields(set.get(1).unwrap()), (1, a.as_raw_fd(), OUT, OUT));
    // Setting a slot clears its result.
    set.set(1, b.as_raw_fd(), OUT | IN).unwrap();
    assert_eq!(fields(set.get(1).unwrap()), (1, b.as_raw_fd(), OUT | IN, PollFlags::empty()));
    assert_eq!(ready(&set), []);
    set.unset(1).unwrap();
    assert_eq!(set.get(1), None);
}

#[test]
fn growing_a_set_keeps_its_slots() {
    let (a, _b) = UnixStream::pair().unwrap();
    let mut set = PollSet::new();
    assert!(set.is_empty());
    for len in [1, 5, 5, 3, 100] {
        set.grow(len).unwrap();
        set.set(0, a.as_raw_fd(), OUT).unwrap();
        assert!(set.len() >= len);
    }
    assert_eq!(set.len(), 100);
    set.set(99, a.as_raw_fd(), OUT).unwrap();
    assert_eq!(set.poll(100, None).unwrap(), 2);
    assert_eq!(ready(&set), [(0, a.as_raw_fd(), OUT), (99, a.as_raw_fd(), OUT)]);
}

#[test]
fn invalid_calls_fail_and_change_nothing() {
    let (a, _b) = UnixStream::pair().unwrap();
    let mut set = set_of(2);
    set.set(1, a.as_raw_fd(), OUT).unwrap();
    assert_eq!(set.poll(2, None).unwrap(), 1);
    let before = format!("{set:?}");
    let expect_invalid = |result: std::io::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidInput);
    expect_invalid(set.set(2, a.as_raw_fd(), IN));
    expect_invalid(set.set(usize::MAX, a.as_raw_fd(), IN));
    expect_invalid(set.unset(2));
    expect_invalid(set.set(1, -1, IN));
    expect_invalid(set.set(1, RawFd::MIN, IN));
    expect_invalid(set.grow(i32::MAX as usize + 1));
    expect_invalid(set.grow(usize::MAX));
    assert_eq!((format!("{set:?}"), set.len(), ready(&set).len()), (before, 2, 1));

    expect_invalid(set.poll(3, None).map(drop));
    expect_invalid(set.ppoll(usize::MAX, None, None).map(drop));
    assert_eq!(ready(&set), [], "no slot is ready after a failed wait");
    assert_eq!(set.get(1).unwrap().revents(), PollFlags::empty());
    assert_eq!(set.poll(2, None).unwrap(), 1, "the slots are unchanged");
}

/// The maximum number of slots depends on the system: the limit of descriptors (Linux, OpenBSD), the limit of a process on
/// the whole system (FreeBSD), or more (NetBSD).
#[test]
fn more_slots_than_the_limit_are_rejected() {
    let (a, _b) = UnixStream::pair().unwrap();
    let limit = raise_fd_limit_to_default();
    let mut set = set_of(limit);
    set.set(0, a.as_raw_fd(), OUT).unwrap();
    assert_eq!(set.poll(limit, None).unwrap(), 1);
    // SAFETY: the kernel writes one `rlimit`.
    let hard = unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur
    };
    let many = hard as usize + 1;
    if many > 10_000_000 {
        return;
    }
    set.grow(many).unwrap();
    match set.poll(many, NOW) {
        Err(error) => assert_eq!((error.kind(), ready(&set).len()), (ErrorKind::InvalidInput, 0)),
        Ok(n) => assert!(n == 1 && !cfg!(target_os = "linux"), "Linux rejects more slots than the limit"),
    }
    assert_eq!(set.poll(1, None).unwrap(), 1);
}

#[test]
fn hang_up_and_error_are_reported_without_request() {
    let (a, b) = UnixStream::pair().unwrap();
    let (pipe, writer) = kevio::unix::pipe::new().map(|(sender, receiver)| (receiver, sender)).unwrap();
    let mut set = set_of(3);
    set.set(0, a.as_raw_fd(), PollFlags::empty()).unwrap();
    set.set(1, pipe.as_raw_fd(), PollFlags::empty()).unwrap();
    assert_eq!(set.poll(3, NOW).unwrap(), 0);
    drop((b, writer));
    set.set(2, closed_descriptor(), IN | OUT).unwrap();
    // Sockets of NetBSD and OpenBSD report no hang-up.
    let lacks_hang_up = cfg!(any(target_os = "netbsd", target_os = "openbsd"));
    assert_eq!(set.poll(3, None).unwrap(), if lacks_hang_up { 2 } else { 3 });
    assert_eq!(set.get(0).unwrap().revents().contains(PollFlags::HUP), !lacks_hang_up);
    assert!(set.get(1).unwrap().revents().contains(PollFlags::HUP));
    assert_eq!(set.get(2).unwrap().revents(), PollFlags::NVAL);

    let (reader, writer) = kevio::unix::pipe::new().map(|(sender, receiver)| (receiver, sender)).unwrap();
    set.set(0, writer.as_raw_fd(), OUT).unwrap();
    drop(reader);
    assert_eq!(set.poll(1, None).unwrap(), 1);
    // macOS reports POLLHUP here.
    assert!(set.get(0).unwrap().revents().intersects(PollFlags::ERR | PollFlags::HUP));
}

#[cfg(target_os = "linux")]
#[test]
fn rdhup_and_pri_are_reported() {
    let (ours, theirs) = crate::support::net::tcp_pair();
    let mut set = set_of(1);
    set.set(0, ours.as_raw_fd(), PollFlags::PRI | PollFlags::RDHUP).unwrap();
    assert_eq!(set.poll(1, NOW).unwrap(), 0);
    socket2::SockRef::from(&theirs).send_out_of_band(b"!").unwrap();
    assert_eq!(set.poll(1, Some(TIMEOUT)).unwrap(), 1);
    assert_eq!(set.get(0).unwrap().revents(), PollFlags::PRI);
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    set.set(0, ours.as_raw_fd(), PollFlags::RDHUP).unwrap();
    assert_eq!(set.poll(1, Some(TIMEOUT)).unwrap(), 1);
    assert_eq!(set.get(0).unwrap().revents(), PollFlags::RDHUP);
}

#[test]
fn poll_waits_for_its_timeout() {
    let (a, mut b) = UnixStream::pair().unwrap();
    let mut set = set_of(1);
    set.set(0, a.as_raw_fd(), IN).unwrap();
    for nanos in [0, 1, 300_000, 20_000_000] {
        let wait = Duration::from_nanos(nanos);
        let start = Instant::now();
        assert_eq!(set.poll(1, Some(wait)).unwrap(), 0);
        assert!(start.elapsed() >= wait, "{wait:?}");
        assert_eq!(set.ppoll(1, Some(wait), None).unwrap(), 0);
        assert!(start.elapsed() >= wait * 2, "{wait:?}");
        assert!(start.elapsed() < TIMEOUT);
    }
    // Any timeout is accepted.
    b.write_all(b"x").unwrap();
    for wait in [Duration::MAX, Duration::from_secs(u64::from(u32::MAX)), Duration::from_secs(1 << 40)] {
        assert_eq!(set.poll(1, Some(wait)).unwrap(), 1);
    }
    assert_eq!(set.poll(1, None).unwrap(), 1);
}

static HANDLED: AtomicBool = AtomicBool::new(false);

extern "C" fn handler(_: libc::c_int) {
    HANDLED.store(true, Ordering::SeqCst);
}

/// A pending signal that the mask of `ppoll` unblocks interrupts the wait; a signal that the mask blocks does not.
#[test]
fn ppoll_is_interrupted_only_by_unmasked_signals() {
    let (a, _b) = UnixStream::pair().unwrap();
    let mut set = set_of(1);
    set.set(0, a.as_raw_fd(), IN).unwrap();
    std::thread::spawn(move || {
        handler::install(libc::SIGPROF, handler, libc::SA_RESTART);
        // SAFETY: the sets are initialized; the signal goes to this thread, which blocks it.
        let (none, all) = unsafe {
            let (mut none, mut one) = (std::mem::zeroed(), std::mem::zeroed());
            libc::sigemptyset(&mut none);
            libc::sigemptyset(&mut one);
            libc::sigaddset(&mut one, libc::SIGPROF);
            assert_eq!(libc::pthread_sigmask(libc::SIG_BLOCK, &one, std::ptr::null_mut()), 0);
            assert_eq!(libc::pthread_kill(libc::pthread_self(), libc::SIGPROF), 0);
            (none, one)
        };
        assert_eq!(set.poll(1, Some(Duration::from_millis(1))).unwrap(), 0);
        match set.ppoll(1, Some(Duration::from_millis(1)), Some(&all)) {
            Err(error) if error.kind() == ErrorKind::Unsupported => {
                let has_ppoll = cfg!(any(target_os = "linux", target_os = "freebsd", target_os = "netbsd"));
                assert!(!has_ppoll, "{error}");
                return;
            }
            result => assert_eq!(result.unwrap(), 0),
        }
        assert!(!HANDLED.load(Ordering::SeqCst));
        let error = set.ppoll(1, Some(TIMEOUT), Some(&none)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted);
        assert!(HANDLED.load(Ordering::SeqCst));
        assert_eq!((ready(&set), set.poll(1, NOW).unwrap()), (vec![], 0));
    })
    .join()
    .unwrap();
}

#[test]
fn flags_equal_those_of_libc() {
    let table = [
        (PollFlags::IN, libc::POLLIN, "IN"),
        (PollFlags::PRI, libc::POLLPRI, "PRI"),
        (PollFlags::OUT, libc::POLLOUT, "OUT"),
        (PollFlags::ERR, libc::POLLERR, "ERR"),
        (PollFlags::HUP, libc::POLLHUP, "HUP"),
        (PollFlags::NVAL, libc::POLLNVAL, "NVAL"),
        #[cfg(target_os = "linux")]
        (PollFlags::RDHUP, libc::POLLRDHUP, "RDHUP"),
    ];
    for (flag, number, name) in table {
        assert_eq!((flag.bits(), format!("{flag:?}").as_str()), (number, name));
        assert_eq!(PollFlags::from_bits(number), flag);
    }
    let unknown = PollFlags::from_bits(1 << 14 | libc::POLLIN);
    assert_eq!(unknown - IN, PollFlags::from_bits(1 << 14));
    assert!(unknown.contains(IN) && !unknown.contains(IN | OUT) && unknown.intersects(IN | OUT));
    assert_eq!(unknown & OUT, PollFlags::empty());
    if cfg!(target_os = "linux") {
        assert_eq!(format!("{unknown:?}"), "IN|0x4000");
    }
}
