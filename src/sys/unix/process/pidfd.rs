//! pidfd_open(2): a descriptor that becomes readable when a process exits.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::sys::error::invalid_input;
use crate::sys::unix::process::child_state::ChildState;
use crate::sys::unix::process::errors::{no_process_descriptor, no_such_process, thread_id};
use crate::sys::unix::syscall::{cvt, fcntl, is_refused};

/// The kind of descriptor that `Process::from_fd` takes.
const PIDFD: &str = "a descriptor of pidfd_open(2)";
/// The request of the errors about the process of a pidfd.
const FROM_FD: &str = "`Process::from_fd`";

/// Returns a close-on-exec pidfd. `None` if there is no such call: before Linux 5.3, or in a sandbox that is older than the call.
pub(crate) fn pidfd_open(pid: libc::pid_t) -> io::Result<Option<OwnedFd>> {
    // SAFETY: no pointers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    match cvt(fd as libc::c_int) {
        // SAFETY: the kernel has just made this descriptor, and it has no other owner.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(error) if is_refused(&error) => Ok(None),
        Err(error) => Err(match error.raw_os_error() {
            Some(libc::ESRCH) => no_such_process(&format!("`Process::from_pid({pid})`")),
            // pidfd_open(2): the number is not that of the first thread of a process. Newer kernels return ENOENT.
            Some(libc::EINVAL | libc::ENOENT) => thread_id(pid),
            _ => error,
        }),
    }
}

/// Returns the process of a pidfd.
///
/// # Errors
///
/// * `InvalidInput`: the descriptor is no pidfd, or stands for a thread (`PIDFD_THREAD`).
/// * `NotFound`: the process was reaped, or belongs to a namespace in which it has no number here.
pub(crate) fn pid_of_descriptor(fd: BorrowedFd<'_>) -> io::Result<libc::pid_t> {
    let fd = fd.as_raw_fd();
    // SAFETY: no pointers but a null pointer; no signal is sent.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd, 0, std::ptr::null::<libc::siginfo_t>(), 0) };
    match cvt(sent as libc::c_int).map_err(|error| error.raw_os_error()) {
        Err(Some(libc::EBADF)) => return Err(no_process_descriptor(PIDFD)),
        Err(Some(libc::ESRCH)) => return Err(no_such_process(FROM_FD)),
        // The call was successful, is refused, or the process belongs to another user.
        Ok(_) | Err(_) => {}
    }
    // `PIDFD_THREAD` is `O_EXCL` (include/uapi/linux/pidfd.h), which the kernel keeps as a flag of the open file.
    if fcntl(fd, libc::F_GETFL, 0)? & libc::O_EXCL != 0 {
        return Err(invalid_input(
            "`Process::from_fd` needs the pidfd of a process, and the pidfd stands for a thread: open it without \
             `PIDFD_THREAD`",
        ));
    }
    let pid = match info(fd, 0) {
        Some(info) => info.pid as libc::pid_t,
        None => pid_of_fdinfo(fd)?,
    };
    if pid > 0 {
        Ok(pid)
    } else {
        Err(no_such_process(FROM_FD))
    }
}

/// Reads the process of a pidfd from `/proc`, where Linux before 6.13 has it and nowhere else.
fn pid_of_fdinfo(fd: RawFd) -> io::Result<libc::pid_t> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
    let number = text.lines().find_map(|line| line.strip_prefix("Pid:"));
    number.and_then(|number| number.trim().parse().ok()).ok_or_else(|| no_process_descriptor(PIDFD))
}

/// Returns the wait status of an exited process, and `None` if the kernel does not provide it.
///
/// waitid(2) returns the status of a child, until the child is reaped. From Linux 6.15 on, the pidfd returns the status of every
/// process, after the process was reaped.
pub(crate) fn exit_status(fd: BorrowedFd<'_>, pid: libc::pid_t) -> Option<libc::c_int> {
    let fd = fd.as_raw_fd();
    // `P_PIDFD`, which Linux 5.3 does not have (`EINVAL`).
    const P_PIDFD: libc::idtype_t = 3;
    let state = match ChildState::query(P_PIDFD, fd as _, libc::__WALL) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            ChildState::query(libc::P_PID, pid as _, libc::__WALL)
        }
        state => state,
    };
    match state {
        Ok(ChildState::Exited(status)) => Some(status),
        _ => info(fd, PIDFD_INFO_EXIT).filter(|info| info.mask & PIDFD_INFO_EXIT != 0).map(|info| info.exit_code),
    }
}

/// `struct pidfd_info` of include/uapi/linux/pidfd.h, in its first size (`PIDFD_INFO_SIZE_VER0`). Before Linux 6.15 `exit_code`
/// was spare, and `PIDFD_INFO_EXIT` is not set in the answer.
#[repr(C)]
#[derive(Default)]
struct PidfdInfo {
    mask: u64,
    cgroupid: u64,
    pid: u32,
    tgid: u32,
    ppid: u32,
    /// Real, effective, saved and file system identifiers of the user and of the group.
    credentials: [u32; 8],
    exit_code: i32,
}

const PIDFD_INFO_EXIT: u64 = 1 << 3;

/// `PIDFD_GET_INFO`: `_IOWR(0xff, 11, struct pidfd_info)`. The direction takes the upper bits, whose number depends on the
/// architecture (include/uapi/asm-generic/ioctl.h, and the ioctl.h of MIPS, PowerPC and SPARC). "Read and write" has the same
/// bits on all of them.
const PIDFD_GET_INFO: u32 = 0b11 << 30 | (std::mem::size_of::<PidfdInfo>() as u32) << 16 | 0xff << 8 | 11;

const _: () = assert!(std::mem::size_of::<PidfdInfo>() == 64);

/// Returns what the kernel provides about the process of a pidfd. `None` if Linux is older than 6.13, if the call is refused, or
/// if the process was reaped and the exit was not requested.
fn info(fd: RawFd, mask: u64) -> Option<PidfdInfo> {
    let mut info = PidfdInfo { mask, ..PidfdInfo::default() };
    // SAFETY: the kernel reads and writes one record of the size that the request contains.
    cvt(unsafe { libc::ioctl(fd, PIDFD_GET_INFO as _, &mut info) }).ok()?;
    Some(info)
}
